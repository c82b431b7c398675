#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/random.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "agent.h"

#define CHILD_STACK_BYTES 65536

struct app app = {.output = {-1, -1}, .namespaces = {-1, -1, -1, -1}, .root = -1};

/* Files that say who this guest is. They live in a tmpfs of the agent's and are bound into the container: a launch
 * rewrites them without touching the disk. */
static const char *const identity_files[] = {"hostname", "hosts", "resolv.conf", "machine-id"};

/* Kept open from START on. In an emulated guest, code that runs for the first time after a launch is slow, and
 * looking up a path is a lot of code. */
enum kept { HOSTNAME, HOSTS, RESOLV_CONF, MACHINE_ID, IDENTITY_FILES, RANDOM = IDENTITY_FILES, KEPT };
static int kept[KEPT];
static char *contents[IDENTITY_FILES]; /* the files' memory */
#define IDENTITY_BYTES_MAX 4096

/* How often the application was let run after something that may have doubled it: a launch, a fork, a rollback. AWS-LC
 * looks there, as Linux's proposed SysGenID device has it: a process maps the file's first four bytes, and before it
 * uses random numbers that it has kept it compares. */
#define GENERATION_FILE IDENTITY_DIRECTORY "/sysgenid"
static volatile uint32_t *generation;

struct settings {
    char *arguments[ARGUMENTS_MAX + 1];
    size_t argument_count, environment_count;
    char *hostname, *resolv_conf;
    uint32_t privileged, names;
    int go[2], failed[2], out[2], err[2]; /* pipes between parent and child */
};

static struct settings settings;

static bool take_field(const struct field *field) {
    switch (field->kind) {
    case START_ARGUMENT:
        return add_text(settings.arguments, &settings.argument_count, ARGUMENTS_MAX, field);
    case START_ENVIRONMENT:
        return add_text(app.environment, &settings.environment_count, ENVIRONMENT_MAX, field);
    case START_DIRECTORY:
        return (app.directory = field_text(field));
    case START_HOSTNAME:
        return (settings.hostname = field_text(field));
    case START_RESOLV_CONF:
        return (settings.resolv_conf = field_text(field));
    case START_UID:
        return field_u32(field, &app.credentials.uid);
    case START_GID:
        return field_u32(field, &app.credentials.gid);
    case START_GROUP:
        return app.credentials.group_count < GROUPS_MAX &&
               field_u32(field, &app.credentials.groups[app.credentials.group_count++]);
    case START_CAPABILITIES:
        return field_u64(field, &app.credentials.capabilities);
    case START_PRIVILEGED:
        return field_u32(field, &settings.privileged);
    case START_NAMES:
        return field_u32(field, &settings.names);
    case START_NOFILE:
        return field_u64(field, &app.credentials.nofile);
    default:
        return true; /* a newer host may say more */
    }
}

/* --- in the child: everything up to exec */

static void child_mount(const char *what, const char *where, const char *type, unsigned long flags, const char *options) {
    mkdir(where, 0755);
    if (mount(what, where, type, flags, options))
        child_fails(where);
}

static void child_device(const char *path, unsigned major, unsigned minor) {
    if (mknod(path, S_IFCHR | 0666, makedev(major, minor)) || chmod(path, 0666))
        child_fails(path);
}

static void child_mount_dev(void) {
    child_mount("dev", "/dev", "tmpfs", MS_NOSUID | MS_STRICTATIME, "mode=755,size=65536k");
    child_device("/dev/null", 1, 3);
    child_device("/dev/zero", 1, 5);
    child_device("/dev/full", 1, 7);
    child_device("/dev/random", 1, 8);
    child_device("/dev/urandom", 1, 9);
    child_device("/dev/tty", 5, 0);
    child_mount("devpts", "/dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=620,gid=5");
    if (chmod("/dev/pts", 0755)) /* gVisor takes the terminals' mode for the directory's, too: only root would get in */
        child_fails("/dev/pts");
    child_mount("shm", "/dev/shm", "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=1777,size=65536k");
    child_mount("mqueue", "/dev/mqueue", "mqueue", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
    (void)!symlink("pts/ptmx", "/dev/ptmx");
    (void)!symlink("/proc/self/fd", "/dev/fd");
    (void)!symlink("/proc/self/fd/0", "/dev/stdin");
    (void)!symlink("/proc/self/fd/1", "/dev/stdout");
    (void)!symlink("/proc/self/fd/2", "/dev/stderr");
    if (settings.privileged)
        modprobe_make_devices();
}

static void child_hide(const char *path) {
    if (mount("/dev/null", path, NULL, MS_BIND, NULL) && errno != ENOENT)
        child_fails(path);
}

static void child_read_only(const char *path) {
    if (mount(path, path, NULL, MS_BIND | MS_REC, NULL) ||
        mount(NULL, path, NULL, MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL))
        child_fails(path);
}

/* A link at the target is replaced: the image's own would lead to a file that nobody keeps true. */
static void child_bind_identity(int file, const char *name) {
    char source[64], target[64];
    struct stat status;
    snprintf(source, sizeof source, "/proc/self/fd/%d", file);
    snprintf(target, sizeof target, "/etc/%s", name);
    if (lstat(target, &status) == 0 && !S_ISREG(status.st_mode) && unlink(target))
        child_fails(target);
    int created = open(target, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
    if (created < 0 || mount(source, target, NULL, MS_BIND, NULL))
        child_fails(target);
    close(created);
    close(file);
}

static void child_bind_generation(int file) {
    char source[64];
    snprintf(source, sizeof source, "/proc/self/fd/%d", file);
    int created = open("/dev/sysgenid", O_WRONLY | O_CREAT | O_CLOEXEC, 0444);
    if (created < 0 || mount(source, "/dev/sysgenid", NULL, MS_BIND, NULL) ||
        mount(NULL, "/dev/sysgenid", NULL, MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL))
        child_fails("/dev/sysgenid");
    close(created);
    close(file);
}

/* The initramfs cannot be pivoted away from; moving the new root over it and entering it does the same. Returns the old
 * root of a sandbox, which lies over the new one until it is left: what is mounted from it has to be in the namespace. */
static int child_change_root(void) {
    if (in_sandbox) {
        int old = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (old < 0 || chdir(SANDBOX_ROOT) || syscall(SYS_pivot_root, ".", ".") || chdir("/"))
            child_fails("container root");
        return old;
    }
    if (chdir(CONTAINER_ROOT) || mount(CONTAINER_ROOT, "/", NULL, MS_MOVE, NULL) || chroot(".") || chdir("/"))
        child_fails("container root");
    return -1;
}

/* The agent's own files go with it. */
static void child_leave(int old_root) {
    if (old_root >= 0 && (fchdir(old_root) || umount2(".", MNT_DETACH) || chdir("/") || close(old_root)))
        child_fails("the sandbox's root");
}

static void child_enter_root(void) {
    int sysgenid = open(GENERATION_FILE, O_PATH | O_CLOEXEC);
    int identity[IDENTITY_FILES]; /* the agent's own descriptors belong to another mount namespace */
    for (int file = 0; file < IDENTITY_FILES; file++) {
        char path[64];
        snprintf(path, sizeof path, IDENTITY_DIRECTORY "/%s", identity_files[file]);
        identity[file] = open(path, O_PATH | O_CLOEXEC);
    }
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL))
        child_fails("private mounts");
    int old_root = child_change_root();
    child_mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
    child_mount("sysfs", "/sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC | (settings.privileged ? 0 : MS_RDONLY), NULL);
    child_mount_dev();
    child_bind_generation(sysgenid);
    mkdir("/etc", 0755);
    for (int file = 0; file < IDENTITY_FILES; file++)
        child_bind_identity(identity[file], identity_files[file]);
    child_leave(old_root);
    if (settings.privileged && in_sandbox)
        return; /* its kernel has no such hierarchy */
    if (settings.privileged) {
        child_mount("cgroup2", "/sys/fs/cgroup", "cgroup2", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
        if (!freezer_share("/sys/fs/cgroup"))
            child_fails("a cgroup of the application's");
        return;
    }
    child_hide("/proc/kcore");
    child_hide("/proc/keys");
    child_hide("/proc/sysrq-trigger");
    child_read_only("/proc/sys");
}

static int child_main(void *unused) {
    (void)unused;
    char go;
    child_words = settings.failed[1];
    close(settings.go[1]);
    if (read(settings.go[0], &go, 1) != 1)
        _exit(127);
    if (!in_sandbox && unshare(CLONE_NEWCGROUP))
        child_fails("cgroup namespace");
    child_enter_root();
    int null = open("/dev/null", O_RDWR);
    if (dup2(null, 0) < 0 || dup2(settings.out[1], 1) < 0 || dup2(settings.err[1], 2) < 0)
        child_fails("output");
    setsid();
    child_become(&app.credentials, app.directory ? app.directory : "/", true);
    child_execute(settings.arguments, app.environment);
    child_fails(settings.arguments[0]);
}

/* --- in the agent */

/* A launch waits for this, and whatever the guest's kernel does for the first time is slow where it is emulated. So the
 * files are written as memory, and the kernel has to do with it only when a file's length changes. */
static void rewrite(enum kept file, const char *text) {
    off_t length = (off_t)strnlen(text, IDENTITY_BYTES_MAX);
    if (lseek(kept[file], 0, SEEK_END) != length && ftruncate(kept[file], length))
        note("cannot write the file %d of the identity: %s", file, strerror(errno));
    else
        memcpy(contents[file], text, (size_t)length);
}

/* An id for as long as the image is built; each launch gets its own. */
static void write_machine_id(void) {
    uint8_t bytes[16];
    char text[2 * sizeof bytes + 2];
    if (getrandom(bytes, sizeof bytes, 0) != sizeof bytes)
        note("no random bytes for the machine id: %s", strerror(errno));
    for (size_t i = 0; i < sizeof bytes; i++)
        snprintf(text + 2 * i, 3, "%02x", bytes[i]);
    strcpy(text + 2 * sizeof bytes, "\n");
    rewrite(MACHINE_ID, text);
}

/* Put together without printf, for the same reason. */
static void write_hostname_files(const char *hostname) {
    char text[256];
    if (strlen(hostname) > HOST_NAME_MAX)
        return; /* sethostname has refused it */
    strcpy(stpcpy(text, hostname), "\n");
    rewrite(HOSTNAME, text);
    char *end = stpcpy(text, "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n10.0.2.15 ");
    strcpy(stpcpy(end, hostname), "\n");
    rewrite(HOSTS, text);
}

static bool keep_open(enum kept file, const char *path, int flags) {
    kept[file] = open(path, flags | O_CLOEXEC, 0644);
    return kept[file] >= 0;
}

static bool keep_files_open(void) {
    for (int file = 0; file < IDENTITY_FILES; file++) {
        char path[64];
        snprintf(path, sizeof path, IDENTITY_DIRECTORY "/%s", identity_files[file]);
        if (!keep_open(file, path, O_RDWR | O_CREAT))
            return false;
        contents[file] = mmap(NULL, IDENTITY_BYTES_MAX, PROT_READ | PROT_WRITE, MAP_SHARED, kept[file], 0);
        if (contents[file] == MAP_FAILED)
            return false;
    }
    int file = open(GENERATION_FILE, O_RDWR | O_CREAT | O_CLOEXEC, 0444);
    if (file < 0 || ftruncate(file, IDENTITY_BYTES_MAX))
        return false;
    generation = mmap(NULL, IDENTITY_BYTES_MAX, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (generation == MAP_FAILED)
        return false;
    *generation = 1; /* 0 means that there is none */
    return keep_open(RANDOM, "/dev/urandom", O_WRONLY) && freezer_open();
}

static int open_pipes(void) {
    return pipe2(settings.go, O_CLOEXEC) || pipe2(settings.failed, O_CLOEXEC) || pipe2(settings.out, O_CLOEXEC) ||
           pipe2(settings.err, O_CLOEXEC);
}

/* Waits until the child has executed the program (the pipe closes) or said why it could not. */
static const char *child_verdict(void) {
    static char text[300];
    close(settings.failed[1]);
    ssize_t got = read(settings.failed[0], text, sizeof text - 1);
    close(settings.failed[0]);
    if (got <= 0)
        return NULL;
    text[got] = 0;
    text[strcspn(text, "\n")] = 0;
    return text;
}

/* The ways into the container, kept open: its main process may do what it likes with its own. */
static void open_container(pid_t pid) {
    static const char *const names[] = {"ns/ipc", "ns/cgroup", "ns/mnt", "ns/pid"};
    char path[64];
    for (int i = 0; i < NAMESPACES; i++) {
        snprintf(path, sizeof path, "/proc/%d/%s", pid, names[i]);
        app.namespaces[i] = open(path, O_RDONLY | O_CLOEXEC);
    }
    snprintf(path, sizeof path, "/proc/%d/root", pid);
    app.root = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
}

static const char *spawn(void) {
    static uint8_t stack[CHILD_STACK_BYTES] __attribute__((aligned(16)));
    /* The UTS namespace is shared with the agent, which sets the host name at every launch; the network too. */
    int flags = CLONE_NEWNS | CLONE_NEWIPC | SIGCHLD;
    /* gVisor lets nobody join a process namespace: all further children of the agent, commands too, begin in this one. */
    if (!in_sandbox)
        flags |= CLONE_NEWPID;
    else if (unshare(CLONE_NEWPID))
        return "cannot make a process namespace";
    pid_t pid = clone(child_main, stack + sizeof stack, flags, NULL);
    if (pid < 0)
        return "cannot start a process";
    close(settings.go[0]);
    close(settings.out[1]);
    close(settings.err[1]);
    const char *problem = freezer_add(pid);
    if (!problem)
        (void)!write(settings.go[1], "", 1);
    close(settings.go[1]);
    if (!problem)
        problem = child_verdict();
    if (problem) {
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
        return problem;
    }
    open_container(pid);
    app.pid = pid;
    app.output[0] = settings.out[0];
    app.output[1] = settings.err[0];
    return NULL;
}

const char *app_start(const uint8_t *payload, size_t length) {
    const uint8_t *cursor = payload;
    struct field field;
    if (app.pid)
        return "the application was started before";
    memset(&settings, 0, sizeof settings);
    while (next_field(&cursor, payload + length, &field))
        if (!take_field(&field))
            return "a setting of the application is too long or malformed";
    if (cursor != payload + length || !settings.argument_count)
        return "the settings of the application are malformed";
    if (open_pipes())
        return "cannot make pipes";
    fcntl(settings.out[0], F_SETFL, O_NONBLOCK);
    fcntl(settings.err[0], F_SETFL, O_NONBLOCK);
    if (!keep_files_open())
        return "the files of the identity cannot be made";
    write_hostname_files(settings.hostname ? settings.hostname : "microvm");
    if (settings.hostname && sethostname(settings.hostname, strlen(settings.hostname)))
        return "the host name cannot be set";
    write_machine_id();
    rewrite(RESOLV_CONF, settings.resolv_conf ? settings.resolv_conf : "");
    services_answer_names(settings.names);
    if (settings.privileged && !in_sandbox) {
        freezer_delegate();
        modprobe_offer();
    }
    return spawn();
}

const char *app_freeze(bool for_launches) {
    if (app.frozen || !app.pid)
        return NULL;
    const char *problem = freezer_freeze();
    if (problem)
        return problem;
    app.frozen = true;
    if (for_launches)
        sever_look_ahead();
    return NULL;
}

/* A sandbox has the host's clock. */
static void set_clock(uint64_t nanoseconds) {
    struct timespec now = {.tv_sec = (time_t)(nanoseconds / 1000000000), .tv_nsec = (long)(nanoseconds % 1000000000)};
    if (!in_sandbox && clock_settime(CLOCK_REALTIME, &now))
        note("cannot set the clock: %s", strerror(errno));
}

/* random(4): RNDADDENTROPY credits the bytes, RNDRESEEDCRNG makes the generator use them at once. A sandbox's generator is
 * the host's, so no two have the same. */
static void add_entropy(const struct field *field) {
    static uint32_t pool[2 + 512 / 4]; /* struct rand_pool_info: bits, bytes, the bytes themselves */
    uint32_t length = field->length < 512 ? field->length : 512;
    if (in_sandbox)
        return;
    pool[0] = length * 8;
    pool[1] = length;
    memcpy(pool + 2, field->value, length);
    if (ioctl(kept[RANDOM], RNDADDENTROPY, pool) || ioctl(kept[RANDOM], RNDRESEEDCRNG))
        note("cannot reseed the random number generator: %s", strerror(errno));
    memset(pool, 0, sizeof pool);
}

static void set_hostname(const char *hostname) {
    if (sethostname(hostname, strlen(hostname)))
        note("cannot set the host name: %s", strerror(errno));
    write_hostname_files(hostname);
}

static void take_identity(const struct field *field) {
    uint64_t nanoseconds;
    uint32_t number;
    char text[256];
    switch (field->kind) {
    case THAW_CLOCK:
        if (field_u64(field, &nanoseconds))
            set_clock(nanoseconds);
        break;
    case THAW_ENTROPY:
        add_entropy(field);
        ++*generation;
        break;
    case THAW_SPARED:
        sever_spare(field->value, field->length);
        break;
    case THAW_NEW_NETWORK:
        sever_connections();
        break;
    case THAW_NAMES:
        if (field_u32(field, &number))
            services_answer_names(number);
        break;
    case THAW_HOSTNAME:
        if (copy_text(field, text, sizeof text))
            set_hostname(text);
        break;
    case THAW_MACHINE_ID:
        if (copy_text(field, text, sizeof text))
            rewrite(MACHINE_ID, text);
        break;
    default:
        break;
    }
}

const char *app_thaw(const uint8_t *payload, size_t length) {
    const uint8_t *cursor = payload;
    struct field field;
    uint32_t rehearsal = 0;
    while (next_field(&cursor, payload + length, &field))
        if (field.kind == THAW_REHEARSAL)
            field_u32(&field, &rehearsal);
        else
            take_identity(&field);
    if (cursor != payload + length)
        return "the identity is malformed";
    const char *problem = app.frozen ? freezer_thaw(rehearsal) : NULL;
    if (problem)
        return problem;
    app.frozen = app.frozen && rehearsal;
    if (app.frozen)
        sever_look_ahead();
    return NULL;
}
