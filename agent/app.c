#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/random.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "agent.h"

#define ARGUMENTS_MAX 256
#define ENVIRONMENT_MAX 512
#define GROUPS_MAX 64
#define CHILD_STACK_BYTES 65536

struct app app = {.output = {-1, -1}};

/* Files that say who this guest is. They live in a tmpfs of the agent's and are bound into the container: a launch
 * rewrites them without touching the disk. */
static const char *const identity_files[] = {"hostname", "hosts", "resolv.conf", "machine-id"};

/* Kept open from START on. In an emulated guest, code that runs for the first time after a launch is slow, and
 * looking up a path is a lot of code. */
enum kept { HOSTNAME, HOSTS, RESOLV_CONF, MACHINE_ID, IDENTITY_FILES, RANDOM = IDENTITY_FILES, FREEZE, EVENTS, KEPT };
static int kept[KEPT];

struct settings {
    char *arguments[ARGUMENTS_MAX + 1];
    char *environment[ENVIRONMENT_MAX + 1];
    size_t argument_count, environment_count, group_count;
    gid_t groups[GROUPS_MAX];
    char *directory, *hostname, *resolv_conf;
    uint32_t uid, gid, privileged;
    uint64_t capabilities, nofile;
    int go[2], failed[2], out[2], err[2]; /* pipes between parent and child */
};

static struct settings settings;

static bool add_text(char **list, size_t *count, size_t max, const struct field *field) {
    char *text = *count < max ? field_text(field) : NULL;
    if (!text)
        return false;
    list[(*count)++] = text;
    return true;
}

static bool take_field(const struct field *field) {
    switch (field->kind) {
    case START_ARGUMENT:
        return add_text(settings.arguments, &settings.argument_count, ARGUMENTS_MAX, field);
    case START_ENVIRONMENT:
        return add_text(settings.environment, &settings.environment_count, ENVIRONMENT_MAX, field);
    case START_DIRECTORY:
        return (settings.directory = field_text(field));
    case START_HOSTNAME:
        return (settings.hostname = field_text(field));
    case START_RESOLV_CONF:
        return (settings.resolv_conf = field_text(field));
    case START_UID:
        return field_u32(field, &settings.uid);
    case START_GID:
        return field_u32(field, &settings.gid);
    case START_GROUP:
        return settings.group_count < GROUPS_MAX && field_u32(field, &settings.groups[settings.group_count++]);
    case START_CAPABILITIES:
        return field_u64(field, &settings.capabilities);
    case START_PRIVILEGED:
        return field_u32(field, &settings.privileged);
    case START_NOFILE:
        return field_u64(field, &settings.nofile);
    default:
        return true; /* a newer host may say more */
    }
}

/* --- in the child: everything up to exec. Its only words to the parent are errors on the `failed` pipe. */

static _Noreturn void child_fails(const char *what) {
    dprintf(settings.failed[1], "%s: %s", what, strerror(errno));
    _exit(127);
}

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
    child_mount("shm", "/dev/shm", "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=1777,size=65536k");
    child_mount("mqueue", "/dev/mqueue", "mqueue", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
    (void)!symlink("pts/ptmx", "/dev/ptmx");
    (void)!symlink("/proc/self/fd", "/dev/fd");
    (void)!symlink("/proc/self/fd/0", "/dev/stdin");
    (void)!symlink("/proc/self/fd/1", "/dev/stdout");
    (void)!symlink("/proc/self/fd/2", "/dev/stderr");
    if (settings.privileged)
        (void)!mknod("/dev/fuse", S_IFCHR | 0666, makedev(10, 229));
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

static void child_enter_root(void) {
    int identity[IDENTITY_FILES]; /* the agent's own descriptors belong to another mount namespace */
    for (int file = 0; file < IDENTITY_FILES; file++) {
        char path[64];
        snprintf(path, sizeof path, IDENTITY_DIRECTORY "/%s", identity_files[file]);
        identity[file] = open(path, O_PATH | O_CLOEXEC);
    }
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL))
        child_fails("private mounts");
    /* The initramfs cannot be pivoted away from; moving the new root over it and entering it does the same. */
    if (chdir(CONTAINER_ROOT) || mount(CONTAINER_ROOT, "/", NULL, MS_MOVE, NULL) || chroot(".") || chdir("/"))
        child_fails("container root");
    child_mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
    child_mount("sysfs", "/sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC | (settings.privileged ? 0 : MS_RDONLY), NULL);
    child_mount_dev();
    mkdir("/etc", 0755);
    for (int file = 0; file < IDENTITY_FILES; file++)
        child_bind_identity(identity[file], identity_files[file]);
    if (settings.privileged) {
        child_mount("cgroup2", "/sys/fs/cgroup", "cgroup2", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
        return;
    }
    child_hide("/proc/kcore");
    child_hide("/proc/keys");
    child_hide("/proc/sysrq-trigger");
    child_read_only("/proc/sys");
}

static void child_limit(void) {
    struct rlimit files = {.rlim_cur = 1024, .rlim_max = settings.nofile};
    setrlimit(RLIMIT_NOFILE, &files);
    for (int capability = 0; capability <= 63; capability++)
        if (!(settings.capabilities >> capability & 1) && prctl(PR_CAPBSET_READ, capability, 0, 0, 0) == 1)
            if (prctl(PR_CAPBSET_DROP, capability, 0, 0, 0))
                child_fails("capabilities");
}

/* Root keeps what the bounding set leaves; any other user keeps nothing: both follow from exec's own rules. */
static void child_become_user(void) {
    if (setgroups(settings.group_count, settings.groups) || setgid(settings.gid) || setuid(settings.uid))
        child_fails("user");
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2] = {0};
    if (syscall(SYS_capget, &header, data))
        child_fails("capabilities");
    for (int half = 0; half < 2; half++) {
        uint32_t allowed = (uint32_t)(settings.capabilities >> (32 * half));
        data[half].permitted &= allowed;
        data[half].effective &= allowed;
        data[half].inheritable = 0;
    }
    if (syscall(SYS_capset, &header, data))
        child_fails("capabilities");
}

/* As container runtimes do, makes the working directory when the image lacks it: WORKDIR alone does not make it. */
static void child_enter_directory(const char *path) {
    char part[4096];
    for (size_t length = 1; path[length] && length < sizeof part - 1; length++)
        if (path[length] == '/') {
            memcpy(part, path, length);
            part[length] = 0;
            mkdir(part, 0755);
        }
    mkdir(path, 0755);
    if (chdir(path))
        child_fails(path);
}

static int child_main(void *unused) {
    (void)unused;
    char go;
    close(settings.go[1]);
    if (read(settings.go[0], &go, 1) != 1)
        _exit(127);
    if (unshare(CLONE_NEWCGROUP))
        child_fails("cgroup namespace");
    child_enter_root();
    int null = open("/dev/null", O_RDWR);
    if (dup2(null, 0) < 0 || dup2(settings.out[1], 1) < 0 || dup2(settings.err[1], 2) < 0)
        child_fails("output");
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    setsid();
    child_limit();
    child_enter_directory(settings.directory ? settings.directory : "/");
    child_become_user();
    execvpe(settings.arguments[0], settings.arguments, settings.environment);
    child_fails(settings.arguments[0]);
}

/* --- in the agent */

static void rewrite(enum kept file, const char *text) {
    size_t length = strlen(text);
    if (pwrite(kept[file], text, length, 0) != (ssize_t)length || ftruncate(kept[file], (off_t)length))
        note("cannot write the file %d of the identity: %s", file, strerror(errno));
}

static void write_hostname_files(const char *hostname) {
    char text[512];
    snprintf(text, sizeof text, "%s\n", hostname);
    rewrite(HOSTNAME, text);
    snprintf(text, sizeof text, "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n10.0.2.15 %s\n", hostname);
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
    }
    return keep_open(RANDOM, "/dev/urandom", O_WRONLY) && keep_open(FREEZE, "/cgroup/app/cgroup.freeze", O_WRONLY) &&
           keep_open(EVENTS, "/cgroup/app/cgroup.events", O_RDONLY);
}

static int open_pipes(void) {
    return pipe2(settings.go, O_CLOEXEC) || pipe2(settings.failed, O_CLOEXEC) || pipe2(settings.out, O_CLOEXEC) ||
           pipe2(settings.err, O_CLOEXEC);
}

static const char *put_into_cgroup(pid_t pid) {
    char text[32];
    int length = snprintf(text, sizeof text, "%d", pid);
    return write_file("/cgroup/app/cgroup.procs", text, (size_t)length) ? "cannot fill the application's cgroup" : NULL;
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
    return text;
}

static const char *spawn(void) {
    static uint8_t stack[CHILD_STACK_BYTES] __attribute__((aligned(16)));
    /* The UTS namespace is shared with the agent, which sets the host name at every launch; the network too. */
    int flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | SIGCHLD;
    pid_t pid = clone(child_main, stack + sizeof stack, flags, NULL);
    if (pid < 0)
        return "cannot start a process";
    close(settings.go[0]);
    close(settings.out[1]);
    close(settings.err[1]);
    const char *problem = put_into_cgroup(pid);
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
    rewrite(RESOLV_CONF, settings.resolv_conf ? settings.resolv_conf : "");
    return spawn();
}

static bool cgroup_says_frozen(void) {
    char text[128] = "";
    if (pread(kept[EVENTS], text, sizeof text - 1, 0) <= 0)
        return false;
    return strstr(text, "frozen 1");
}

const char *app_freeze(void) {
    if (app.frozen || !app.pid)
        return NULL;
    if (pwrite(kept[FREEZE], "1", 1, 0) != 1)
        return "cannot freeze the application";
    bool frozen = false;
    for (int tries = 0; tries < 500 && !(frozen = cgroup_says_frozen()); tries++) {
        struct pollfd change = {.fd = kept[EVENTS], .events = POLLPRI};
        poll(&change, 1, 10);
    }
    if (!frozen) {
        (void)!pwrite(kept[FREEZE], "0", 1, 0);
        return "the application's processes could not be stopped within 5 seconds";
    }
    app.frozen = true;
    return NULL;
}

static void set_clock(uint64_t nanoseconds) {
    struct timespec now = {.tv_sec = (time_t)(nanoseconds / 1000000000), .tv_nsec = (long)(nanoseconds % 1000000000)};
    if (clock_settime(CLOCK_REALTIME, &now))
        note("cannot set the clock: %s", strerror(errno));
}

/* random(4): RNDADDENTROPY credits the bytes, RNDRESEEDCRNG makes the generator use them at once. */
static void add_entropy(const struct field *field) {
    static uint32_t pool[2 + 512 / 4]; /* struct rand_pool_info: bits, bytes, the bytes themselves */
    uint32_t length = field->length < 512 ? field->length : 512;
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
    char *text;
    switch (field->kind) {
    case THAW_CLOCK:
        if (field_u64(field, &nanoseconds))
            set_clock(nanoseconds);
        break;
    case THAW_ENTROPY:
        add_entropy(field);
        break;
    case THAW_HOSTNAME:
        if ((text = field_text(field)))
            set_hostname(text);
        free(text);
        break;
    case THAW_MACHINE_ID:
        if ((text = field_text(field)))
            rewrite(MACHINE_ID, text);
        free(text);
        break;
    default:
        break;
    }
}

const char *app_thaw(const uint8_t *payload, size_t length) {
    const uint8_t *cursor = payload;
    struct field field;
    while (next_field(&cursor, payload + length, &field))
        take_identity(&field);
    if (cursor != payload + length)
        return "the identity is malformed";
    if (app.frozen && pwrite(kept[FREEZE], "0", 1, 0) != 1)
        return "cannot thaw the application";
    app.frozen = false;
    return NULL;
}
