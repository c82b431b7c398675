#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "archive.h"

#define CHUNK_BYTES 65536
#define SCRATCH_NAME ".emberbox-unpacking"

static int base = -1;         /* the directory under which everything stays */
static char *rename_to;       /* takes the place of the archive's one first part */
static char first_part[256];
static volatile sig_atomic_t scratch_directory = -1; /* where a half-written file is */

static void remove_scratch(int signal) {
    if (scratch_directory >= 0)
        unlinkat(scratch_directory, SCRATCH_NAME, 0);
    if (signal)
        _exit(128 + signal);
}

static _Noreturn void fails(int error, const char *what) {
    remove_scratch(0);
    archive_fails(error, what);
}

/* The same where the kernel has no openat2(2), as a sandbox's: a link on the way is refused, wherever it leads. */
static int walk_beneath(const char *path, int flags) {
    int at = fcntl(base, F_DUPFD_CLOEXEC, 0);
    while (at >= 0) {
        char part[256];
        size_t length = strcspn(path, "/");
        if (length >= sizeof part) {
            close(at);
            errno = ENAMETOOLONG;
            return -1;
        }
        memcpy(part, path, length);
        part[length] = 0;
        path += length + strspn(path + length, "/");
        int wanted = *path ? O_PATH | O_DIRECTORY : flags;
        int next = openat(at, part, wanted | O_NOFOLLOW | O_CLOEXEC);
        int error = errno;
        close(at);
        errno = error;
        at = next;
        if (!*path)
            break;
    }
    return at;
}

static int open_beneath(const char *path, int flags) {
    struct open_how how = {.flags = (uint64_t)(flags | O_CLOEXEC), .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS};
    int opened = (int)syscall(SYS_openat2, base, path, &how, sizeof how);
    return opened < 0 && errno == ENOSYS ? walk_beneath(path, flags) : opened;
}

/* Writes the path without "." and doubled slashes, and with its first part renamed; ".." is refused. */
static void clean_path(const char *path, char *clean) {
    size_t used = 0;
    bool first = true;
    while (*path) {
        size_t length = strcspn(path, "/");
        bool nothing = length == 0 || (length == 1 && path[0] == '.');
        if (length == 2 && path[0] == '.' && path[1] == '.')
            fails(EINVAL, path);
        if (!nothing) {
            const char *part = path;
            size_t part_length = length;
            if (first && rename_to) {
                if (!first_part[0] && length < sizeof first_part)
                    memcpy(first_part, path, length);
                if (strlen(first_part) != length || memcmp(first_part, path, length))
                    fails(ENOTDIR, "several files need a directory to go to");
                part = rename_to;
                part_length = strlen(rename_to);
            }
            if (used + part_length + 2 > PATH_BYTES)
                fails(ENAMETOOLONG, path);
            if (used)
                clean[used++] = '/';
            memcpy(clean + used, part, part_length);
            used += part_length;
            first = false;
        }
        path += length + (path[length] == '/');
    }
    clean[used] = 0;
}

/* Opens the directory that an entry goes to, and sets `name` to the entry's own name in it. */
static int open_parent(char *path, const char **name) {
    char *slash = strrchr(path, '/');
    *name = slash ? slash + 1 : path;
    if (slash)
        *slash = 0;
    int parent = open_beneath(slash ? path : ".", O_RDONLY | O_DIRECTORY);
    if (parent < 0)
        fails(errno, path);
    if (slash)
        *slash = '/';
    return parent;
}

/* Owners are root's to set; whoever is not root gets files of his own. */
static void set_owner(int directory, const char *name, const struct entry *entry) {
    if (geteuid() == 0 && fchownat(directory, name, entry->uid, entry->gid, AT_SYMLINK_NOFOLLOW))
        fails(errno, entry->path);
}

static void set_time(int directory, const char *name, const struct entry *entry) {
    struct timespec times[2] = {{.tv_sec = (time_t)entry->mtime}, {.tv_sec = (time_t)entry->mtime}};
    utimensat(directory, name, times, AT_SYMLINK_NOFOLLOW);
}

static void unpack_content(int file, const struct entry *entry) {
    static char chunk[CHUNK_BYTES];
    for (uint64_t left = entry->size; left;) {
        size_t wanted = left < sizeof chunk ? (size_t)left : sizeof chunk;
        ssize_t got = read(STDIN_FILENO, chunk, wanted);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            fails(got ? errno : EBADMSG, entry->path);
        for (ssize_t done = 0, written; done < got; done += written)
            if ((written = write(file, chunk + done, (size_t)(got - done))) < 0)
                fails(errno, entry->path);
        left -= (uint64_t)got;
    }
}

/* Under another name until it is whole: an upload that breaks off leaves what was there before. */
static void unpack_file(int parent, const char *name, const struct entry *entry) {
    scratch_directory = parent;
    unlinkat(parent, SCRATCH_NAME, 0);
    int file = openat(parent, SCRATCH_NAME, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (file < 0)
        fails(errno, entry->path);
    unpack_content(file, entry);
    set_owner(parent, SCRATCH_NAME, entry);
    if (fchmod(file, entry->mode))
        fails(errno, entry->path);
    set_time(parent, SCRATCH_NAME, entry);
    if (close(file) || renameat(parent, SCRATCH_NAME, parent, name))
        fails(errno, entry->path);
    scratch_directory = -1;
    skip_padding(entry->size);
}

static void unpack_directory(int parent, const char *name, const struct entry *entry) {
    struct stat status;
    if (mkdirat(parent, name, 0700) && errno != EEXIST)
        fails(errno, entry->path);
    if (fstatat(parent, name, &status, 0) || !S_ISDIR(status.st_mode))
        fails(ENOTDIR, entry->path);
    int directory = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (directory < 0)
        return; /* a link to a directory stays as it is */
    if (geteuid() == 0 && fchown(directory, entry->uid, entry->gid))
        fails(errno, entry->path);
    if (fchmod(directory, entry->mode))
        fails(errno, entry->path);
    close(directory);
}

/* Links and FIFOs replace what is there, but never a directory. */
static void make_room(int parent, const char *name, const struct entry *entry) {
    if (unlinkat(parent, name, 0) && errno != ENOENT)
        fails(errno, entry->path);
}

static void unpack_symlink(int parent, const char *name, const struct entry *entry) {
    make_room(parent, name, entry);
    if (symlinkat(entry->target, parent, name))
        fails(errno, entry->path);
    set_owner(parent, name, entry);
    set_time(parent, name, entry);
}

static void unpack_hard_link(int parent, const char *name, const struct entry *entry) {
    static char target[PATH_BYTES];
    const char *target_name;
    clean_path(entry->target, target);
    int target_parent = open_parent(target, &target_name);
    make_room(parent, name, entry);
    if (linkat(target_parent, target_name, parent, name, 0))
        fails(errno, entry->path);
    close(target_parent);
}

static void unpack_fifo(int parent, const char *name, const struct entry *entry) {
    make_room(parent, name, entry);
    if (mkfifoat(parent, name, entry->mode) || fchmodat(parent, name, entry->mode, 0))
        fails(errno, entry->path);
    set_owner(parent, name, entry);
}

/* The "./" of an archive: the contents of a directory, for one that is there or for a new one. */
static void unpack_top(const struct entry *entry) {
    if (entry->type != ENTRY_DIRECTORY)
        fails(EINVAL, entry->path);
    if (!rename_to || first_part[0])
        return;
    unpack_directory(base, rename_to, entry);
    base = open_beneath(rename_to, O_RDONLY | O_DIRECTORY);
    if (base < 0)
        fails(errno, rename_to);
    rename_to = NULL;
}

static void unpack_one(const struct entry *entry) {
    static char path[PATH_BYTES];
    const char *name;
    clean_path(entry->path, path);
    if (!path[0]) {
        unpack_top(entry);
        return;
    }
    int parent = open_parent(path, &name);
    switch (entry->type) {
    case ENTRY_FILE:
        unpack_file(parent, name, entry);
        break;
    case ENTRY_DIRECTORY:
        unpack_directory(parent, name, entry);
        break;
    case ENTRY_SYMLINK:
        unpack_symlink(parent, name, entry);
        break;
    case ENTRY_HARD_LINK:
        unpack_hard_link(parent, name, entry);
        break;
    case ENTRY_FIFO:
        unpack_fifo(parent, name, entry);
        break;
    default:
        fails(ENOTSUP, entry->path); /* devices, sparse files and whatever else there may be */
    }
    close(parent);
}

/* As `cp` has it: into a directory that is there, or else to this very name in a directory that is. */
static void choose_base(char *path) {
    base = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (base >= 0)
        return;
    size_t length = strlen(path);
    char *slash = strrchr(path, '/');
    if ((errno != ENOENT && errno != ENOTDIR) || !length || path[length - 1] == '/')
        archive_fails(errno, path);
    if (slash)
        *slash = 0;
    rename_to = slash ? slash + 1 : path;
    const char *parent = !slash ? "." : *path ? path : "/";
    base = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (base < 0)
        archive_fails(errno, parent);
    if (strcmp(rename_to, ".") == 0 || strcmp(rename_to, "..") == 0)
        archive_fails(ENOENT, path);
}

void unpack(const char *path) {
    static struct entry entry;
    struct sigaction end = {.sa_handler = remove_scratch};
    char *where = strdup(path);
    if (!where)
        archive_fails(ENOMEM, path);
    sigaction(SIGTERM, &end, NULL);
    umask(0);
    choose_base(where);
    while (read_entry(&entry))
        unpack_one(&entry);
}
