/* Files as tar archives (POSIX ustar, with GNU's long names and large numbers): one process writes or reads one
 * archive on its standard output or input, in the container, as a user of the container. Apart from agent.h because
 * these three files need nothing of the agent's: tests build them alone, with a sanitizer. */
#ifndef EMBERBOX_ARCHIVE_H
#define EMBERBOX_ARCHIVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#define BLOCK_BYTES 512
#define PATH_BYTES 4096 /* PATH_MAX of the kernel, with the zero byte */

enum entry_type {
    ENTRY_FILE = '0',
    ENTRY_HARD_LINK = '1',
    ENTRY_SYMLINK = '2',
    ENTRY_DIRECTORY = '5',
    ENTRY_FIFO = '6',
};

struct entry {
    char path[PATH_BYTES], target[PATH_BYTES]; /* target: of links */
    char type;
    uint32_t mode, uid, gid;
    uint64_t size;
    int64_t mtime;
};

/* archive.c. What fails ends the process: errno is its exit code, and its standard error says what. */
_Noreturn void archive_fails(int error, const char *what);
void write_all(const void *bytes, size_t length);
void read_all(void *bytes, size_t length);
void write_padding(uint64_t size);
void skip_padding(uint64_t size);
void write_entry(const struct entry *entry);
bool read_entry(struct entry *entry);

/* pack.c, unpack.c */
void pack(const char *path, bool follow);
void unpack(const char *path);

#endif
