#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "archive.h"

#define CHUNK_BYTES 65536

static bool changed; /* a file was cut short while it was read */

static struct entry entry; /* of the path that is looked at; one for all depths */

static void describe(char type, const struct stat *status) {
    entry.type = type;
    entry.mode = status->st_mode;
    entry.uid = status->st_uid;
    entry.gid = status->st_gid;
    entry.mtime = status->st_mtime;
    entry.size = type == ENTRY_FILE ? (uint64_t)status->st_size : 0;
    if (type != ENTRY_SYMLINK)
        entry.target[0] = 0;
}

/* As many bytes as the header says, whatever happens to the file meanwhile. */
static void pack_content(int file, uint64_t size) {
    static char chunk[CHUNK_BYTES];
    uint64_t left = size;
    while (left) {
        size_t wanted = left < sizeof chunk ? (size_t)left : sizeof chunk;
        ssize_t got = read(file, chunk, wanted);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            archive_fails(errno, entry.path);
        if (got == 0) {
            changed = true;
            memset(chunk, 0, wanted);
            got = (ssize_t)wanted;
        }
        write_all(chunk, (size_t)got);
        left -= (uint64_t)got;
    }
    write_padding(size);
}

static int open_one(int directory, const char *name, int flags) {
    int file = openat(directory, name, flags | O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (file < 0)
        archive_fails(errno, entry.path);
    return file;
}

static void pack_one(int directory, const char *name, bool follow);

static void pack_children(int directory) {
    size_t length = strlen(entry.path);
    DIR *children = fdopendir(directory);
    if (!children)
        archive_fails(errno, entry.path);
    for (struct dirent *child; (child = readdir(children));) {
        if (strcmp(child->d_name, ".") == 0 || strcmp(child->d_name, "..") == 0)
            continue;
        if (length + strlen(child->d_name) + 2 > PATH_BYTES)
            archive_fails(ENAMETOOLONG, child->d_name);
        strcpy(entry.path + length, child->d_name);
        pack_one(dirfd(children), child->d_name, false);
        entry.path[length] = 0;
    }
    closedir(children);
}

static void pack_directory(int file, const struct stat *status) {
    size_t length = strlen(entry.path);
    if (length + 2 > PATH_BYTES)
        archive_fails(ENAMETOOLONG, entry.path);
    strcpy(entry.path + length, "/");
    describe(ENTRY_DIRECTORY, status);
    write_entry(&entry);
    pack_children(file);
    entry.path[length] = 0;
}

static void pack_link(int directory, const char *name, const struct stat *status) {
    ssize_t got = readlinkat(directory, name, entry.target, sizeof entry.target - 1);
    if (got < 0)
        archive_fails(errno, entry.path);
    entry.target[got] = 0;
    describe(ENTRY_SYMLINK, status);
    write_entry(&entry);
}

/* What is opened is looked at again: another process may have put something else there meanwhile. */
static void pack_opened(int directory, const char *name, int flags) {
    struct stat status;
    int file = open_one(directory, name, flags);
    if (fstat(file, &status))
        archive_fails(errno, entry.path);
    if (S_ISDIR(status.st_mode)) {
        pack_directory(file, &status); /* which closes it */
        return;
    }
    if (!S_ISREG(status.st_mode))
        archive_fails(EINVAL, entry.path);
    describe(ENTRY_FILE, &status);
    write_entry(&entry);
    pack_content(file, entry.size);
    close(file);
}

/* Sockets and devices are left out: they mean nothing elsewhere. */
static void pack_one(int directory, const char *name, bool follow) {
    struct stat status;
    if (fstatat(directory, name, &status, follow ? 0 : AT_SYMLINK_NOFOLLOW))
        archive_fails(errno, entry.path);
    switch (status.st_mode & S_IFMT) {
    case S_IFREG:
    case S_IFDIR:
        pack_opened(directory, name, follow ? 0 : O_NOFOLLOW);
        break;
    case S_IFLNK:
        pack_link(directory, name, &status);
        break;
    case S_IFIFO:
        describe(ENTRY_FIFO, &status);
        write_entry(&entry);
        break;
    default:
        break;
    }
}

/* The entries are named after the last part of the path; those of "/" and "." are just in the archive. */
void pack(const char *path, bool follow) {
    char full[PATH_BYTES];
    size_t length = strlen(path);
    if (!length || length >= sizeof full)
        archive_fails(length ? ENAMETOOLONG : ENOENT, path);
    strcpy(full, path);
    while (length > 1 && full[length - 1] == '/')
        full[--length] = 0;
    const char *slash = strrchr(full, '/');
    const char *name = slash ? slash + 1 : full;
    bool unnamed = !*name || strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
    struct stat status;
    if (fstatat(AT_FDCWD, path, &status, follow ? 0 : AT_SYMLINK_NOFOLLOW))
        archive_fails(errno, path);
    strcpy(entry.path, unnamed ? "." : name);
    pack_one(AT_FDCWD, path, follow);
    static const char end[2 * BLOCK_BYTES];
    write_all(end, sizeof end);
    if (changed)
        archive_fails(EIO, "a file became shorter while it was read");
}
