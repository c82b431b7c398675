/* Loaded into QEMU with LD_PRELOAD: gives it a microVM's memory as layers of files that it cannot write, and KVM.
 *
 * QEMU (before 8.2 always, later by default) opens the file behind `memory-backend-file` for writing even when it
 * maps it privately. The file is the snapshot that every microVM of an image version shares, so a broken QEMU must
 * not be able to write it. And a suspended microVM's memory is that snapshot with the changed pages of its own on
 * top, kept in a second file, which QEMU has no option for. So, for the one path in EMBERBOX_MEMORY_PATH:
 *
 *   open   gives a copy of the descriptor EMBERBOX_MEMORY_FD, which the parent opened for reading;
 *   mmap   of it maps, over the private mapping, each run of pages that EMBERBOX_MEMORY_LAYERS_FD describes;
 *   fallocate of it does nothing: see there.
 *
 * That descriptor is a file of text: for each layer a line `file FD`, then for each run of its pages a line
 * `FIRST COUNT` (page numbers of 4096 bytes, the same offset in guest memory and in the file). Later lines lie over
 * earlier ones. Anything unexpected ends the process: a guest with wrong memory must never run.
 *
 * QEMU runs as a user that may not open /dev/kvm, and before 9.0 it has no option to be given it open. So open of that
 * path gives a copy of the descriptor EMBERBOX_KVM_FD (docs/decisions/0017). */
#include <dlfcn.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#define PAGE 4096ul

static int memory_fd = -1;
static int mapped_fd = -1;

static _Noreturn void refuse(const char *what) {
    fprintf(stderr, "emberbox memory shim: %s\n", what);
    _exit(70);
}

/* The number in an environment variable; -1 when it is not set. */
static int descriptor_from(const char *variable) {
    const char *text = getenv(variable);
    char *end;
    if (!text)
        return -1;
    long number = strtol(text, &end, 10);
    if (*end || end == text || number < 0 || number > 1 << 20)
        refuse("a descriptor in the environment is malformed");
    return (int)number;
}

/* A copy of the parent's descriptor for the memory's path, -1 for any other path. */
static int open_memory(const char *path) {
    const char *memory = getenv("EMBERBOX_MEMORY_PATH");
    if (!memory || strcmp(memory, path) != 0)
        return -1;
    memory_fd = fcntl(descriptor_from("EMBERBOX_MEMORY_FD"), F_DUPFD_CLOEXEC, 0);
    if (memory_fd < 0)
        refuse("the memory's descriptor is not open");
    return memory_fd;
}

/* A copy of the parent's descriptor of /dev/kvm, -1 for any other path or where the parent gave none. */
static int open_kvm(const char *path) {
    int parents = strcmp(path, "/dev/kvm") == 0 ? descriptor_from("EMBERBOX_KVM_FD") : -1;
    if (parents < 0)
        return -1;
    int kvm = fcntl(parents, F_DUPFD_CLOEXEC, 0);
    if (kvm < 0)
        refuse("the descriptor of /dev/kvm is not open");
    return kvm;
}

static int open_handed_over(const char *path) {
    int kvm = open_kvm(path);
    return kvm >= 0 ? kvm : open_memory(path);
}

#define DEFINE_OPEN(name)                                                                       \
    int name(const char *path, int flags, ...) {                                                \
        int handed_over = open_handed_over(path);                                               \
        if (handed_over >= 0)                                                                   \
            return handed_over;                                                                 \
        va_list arguments;                                                                      \
        va_start(arguments, flags);                                                             \
        mode_t mode = va_arg(arguments, mode_t);                                                \
        va_end(arguments);                                                                      \
        return ((int (*)(const char *, int, ...))dlsym(RTLD_NEXT, #name))(path, flags, mode);   \
    }

/* What calls become that are compiled with _FORTIFY_SOURCE and give no mode. */
#define DEFINE_FORTIFIED_OPEN(name)                                                             \
    int name(const char *path, int flags);                                                      \
    int name(const char *path, int flags) {                                                     \
        int handed_over = open_handed_over(path);                                               \
        if (handed_over >= 0)                                                                   \
            return handed_over;                                                                 \
        return ((int (*)(const char *, int))dlsym(RTLD_NEXT, #name))(path, flags);              \
    }

DEFINE_OPEN(open)
DEFINE_OPEN(open64)
DEFINE_FORTIFIED_OPEN(__open_2)
DEFINE_FORTIFIED_OPEN(__open64_2)

/* QEMU asks for huge pages for the code it translates, of which a microVM uses a few pages here and there: they would
 * cost each microVM some 20 MiB. Where the kernel does not know this, nothing is lost. */
__attribute__((constructor)) static void refuse_huge_pages(void) {
    prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0);
}

static void map_run(char *memory, size_t length, int prot, int file, const char *line) {
    unsigned long first, count;
    if (file < 0 || sscanf(line, "%lu %lu", &first, &count) != 2)
        refuse("a line of the layers file is malformed");
    if (count == 0 || first > length / PAGE || count > length / PAGE - first)
        refuse("a run of pages lies outside the memory");
    void *where = memory + first * PAGE;
    if (mmap(where, count * PAGE, prot, MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE, file, (off_t)(first * PAGE)) != where)
        refuse("a run of pages cannot be mapped; is vm.max_map_count too small?");
}

static void map_layers(char *memory, size_t length, int prot) {
    int description = descriptor_from("EMBERBOX_MEMORY_LAYERS_FD");
    if (description < 0)
        return;
    FILE *layers = fdopen(description, "r");
    if (!layers)
        refuse("the description of the layers cannot be read");
    char line[64];
    int file = -1;
    while (fgets(line, sizeof line, layers))
        if (strncmp(line, "file ", 5) == 0)
            file = atoi(line + 5);
        else
            map_run(memory, length, prot, file, line);
    fclose(layers);
}

static void *mmap_next(const char *name, void *where, size_t length, int prot, int flags, int fd, off_t offset) {
    void *(*next)(void *, size_t, int, int, int, off_t) =
        (void *(*)(void *, size_t, int, int, int, off_t))dlsym(RTLD_NEXT, name);
    void *memory = next(where, length, prot, flags, fd, offset);
    if (fd < 0 || fd != memory_fd || memory == MAP_FAILED || !(prot & PROT_WRITE))
        return memory;
    if ((flags & MAP_TYPE) != MAP_PRIVATE || offset != 0)
        refuse("the memory must be mapped privately and whole");
    mapped_fd = memory_fd;
    memory_fd = -1; /* map_run's own calls come this way too */
    map_layers(memory, length, prot);
    return memory;
}

void *mmap(void *where, size_t length, int prot, int flags, int fd, off_t offset) {
    return mmap_next("mmap", where, length, prot, flags, fd, offset);
}

void *mmap64(void *where, size_t length, int prot, int flags, int fd, off64_t offset) {
    return mmap_next("mmap64", where, length, prot, flags, fd, offset);
}

/* For pages that the guest reports as free QEMU punches a hole into the file, which is not ours to change, and goes on
 * only when that succeeds: to madvise(MADV_DONTNEED), which gives back the guest's own copies of the pages. They then
 * read as the file's, and Linux expects nothing of the contents of a page that it has reported. */
static int fallocate_next(const char *name, int fd, int mode, off_t offset, off_t length) {
    if (fd >= 0 && fd == mapped_fd)
        return 0;
    return ((int (*)(int, int, off_t, off_t))dlsym(RTLD_NEXT, name))(fd, mode, offset, length);
}

int fallocate(int fd, int mode, off_t offset, off_t length) {
    return fallocate_next("fallocate", fd, mode, offset, length);
}

int fallocate64(int fd, int mode, off64_t offset, off64_t length) {
    return fallocate_next("fallocate64", fd, mode, offset, length);
}
