#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/openat2.h>
#include <pwd.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "agent.h"
#include "archive.h"

/* Both ends of what a command is spoken to by: its own three, and the agent's. */
struct ends {
    int child[3];
    int agent[3];
};

struct request {
    char *arguments[ARGUMENTS_MAX + 1];
    char *environment[2 * ENVIRONMENT_MAX + 1];
    size_t argument_count, environment_count;
    char *directory, *user;
    uint32_t terminal, files;
};

static bool take_field(struct request *request, const struct field *field) {
    switch (field->kind) {
    case EXEC_ARGUMENT:
        return add_text(request->arguments, &request->argument_count, ARGUMENTS_MAX, field);
    case EXEC_ENVIRONMENT:
        return add_text(request->environment, &request->environment_count, ENVIRONMENT_MAX, field);
    case EXEC_DIRECTORY:
        return (request->directory = field_text(field));
    case EXEC_USER:
        return (request->user = field_text(field));
    case EXEC_TERMINAL:
        return field_u32(field, &request->terminal);
    case EXEC_FILES:
        return field_u32(field, &request->files) && request->files <= FILES_UNPACK;
    default:
        return true; /* a newer host may say more */
    }
}

static bool take_fields(struct request *request, const uint8_t *payload, size_t length) {
    const uint8_t *cursor = payload;
    struct field field;
    while (next_field(&cursor, payload + length, &field))
        if (!take_field(request, &field))
            return false;
    return cursor == payload + length && (!request->files || request->argument_count == 1);
}

static void forget(struct request *request) {
    for (size_t i = 0; i < request->argument_count; i++)
        free(request->arguments[i]);
    for (size_t i = 0; i < request->environment_count; i++)
        free(request->environment[i]);
    free(request->directory);
    free(request->user);
}

/* --- in the child */

static void enter_container(void) {
    for (int i = 0; i < PID_NAMESPACE; i++)
        if (!(in_sandbox && i == CGROUP_NAMESPACE) && setns(app.namespaces[i], 0))
            child_fails("the container's namespaces");
    if (fchdir(app.root) || chroot(".") || chdir("/"))
        child_fails("the container's root");
}

static _Noreturn void refuse(const char *text) {
    dprintf(STDERR_FILENO, "%s\n", text);
    _exit(CANNOT_EXECUTE);
}

static bool is_number(const char *text, uint32_t *number) {
    char *end;
    unsigned long value = strtoul(text, &end, 10);
    *number = (uint32_t)value;
    return *text >= '0' && *text <= '9' && !*end && value < UINT32_MAX;
}

static void take_group(const char *text, struct credentials *credentials) {
    const struct group *found = getgrnam(text);
    if (found)
        credentials->gid = found->gr_gid;
    else if (!is_number(text, &credentials->gid))
        refuse("there is no such group in the container");
    credentials->group_count = 0;
}

/* As `docker exec --user`: a user of the image by name or number, or any number. */
static const char *take_user(char *text, struct credentials *credentials) {
    char *group = strchr(text, ':');
    int count = GROUPS_MAX;
    if (group)
        *group++ = 0;
    const struct passwd *found = getpwnam(text);
    if (!found && is_number(text, &credentials->uid)) {
        credentials->gid = 0;
        found = getpwuid(credentials->uid);
    } else if (!found) {
        refuse("there is no such user in the container");
    }
    credentials->group_count = 0;
    if (found) {
        credentials->uid = found->pw_uid;
        credentials->gid = found->pw_gid;
        if (getgrouplist(found->pw_name, found->pw_gid, credentials->groups, &count) >= 0)
            credentials->group_count = (size_t)count;
    }
    if (group)
        take_group(group, credentials);
    return found ? strdup(found->pw_dir) : "/";
}

static bool has_variable(const struct request *request, const char *assignment) {
    size_t name = strcspn(assignment, "=") + 1;
    for (size_t i = 0; i < request->environment_count; i++)
        if (strncmp(request->environment[i], assignment, name) == 0)
            return true;
    return false;
}

static void add_variable(struct request *request, char *assignment) {
    if (request->environment_count < 2 * ENVIRONMENT_MAX && !has_variable(request, assignment))
        request->environment[request->environment_count++] = assignment;
}

static void complete_environment(struct request *request, const char *home) {
    static char own[4096];
    if (request->terminal)
        add_variable(request, "TERM=xterm");
    if (home) {
        snprintf(own, sizeof own, "HOME=%s", home);
        add_variable(request, own);
    }
    for (char **variable = app.environment; *variable; variable++)
        add_variable(request, *variable);
}

static _Noreturn void execute(struct request *request) {
    if (request->argument_count) {
        child_execute(request->arguments, request->environment);
    } else {
        child_execute((char *[]){"bash", NULL}, request->environment);
        child_execute((char *[]){"sh", NULL}, request->environment);
    }
    dprintf(STDERR_FILENO, "%s: %s\n", request->argument_count ? request->arguments[0] : "sh", strerror(errno));
    _exit(errno == ENOENT ? NO_SUCH_PROGRAM : CANNOT_EXECUTE);
}

static _Noreturn void copy_files(const struct request *request) {
    struct rlimit files = {.rlim_cur = app.credentials.nofile, .rlim_max = app.credentials.nofile};
    setrlimit(RLIMIT_NOFILE, &files); /* a directory is open for each step down a tree */
    if (request->files == FILES_UNPACK)
        unpack(request->arguments[0]);
    else
        pack(request->arguments[0], request->files == FILES_PACK_FOLLOWED);
    _exit(0);
}

static void take_standard_files(const struct ends *ends, bool terminal) {
    for (int which = 0; which < 3; which++)
        if (dup2(ends->child[which], which) < 0)
            child_fails("standard files");
    syscall(SYS_close_range, 3, ~0U, 0);
    setsid();
    if (terminal && ioctl(STDIN_FILENO, TIOCSCTTY, 0))
        child_fails("the terminal");
}

static _Noreturn void child_main(struct request *request, const struct ends *ends, int go) {
    struct credentials credentials = app.credentials;
    const char *home = NULL;
    char byte;
    prctl(PR_SET_DUMPABLE, 0); /* the container's root must not look into a copy of the agent */
    if (read(go, &byte, 1) != 1)
        _exit(CANNOT_EXECUTE);
    child_words = ends->child[2];
    enter_container();
    take_standard_files(ends, request->terminal);
    child_words = STDERR_FILENO;
    if (request->files)
        credentials.uid = credentials.gid = credentials.group_count = 0;
    if (request->user)
        home = take_user(request->user, &credentials);
    complete_environment(request, home);
    if (request->terminal)
        (void)!fchown(STDIN_FILENO, credentials.uid, (gid_t)-1);
    const char *directory = request->directory ? request->directory : app.directory;
    child_become(&credentials, directory && !request->files ? directory : "/", false);
    if (request->files)
        copy_files(request);
    execute(request);
}

/* --- in the agent */

/* The kernel of a sandbox has neither openat2(2) nor TIOCGPTPEER; in a container with all rights the application could lead
 * these paths elsewhere, though not out of its sandbox. */
static int open_in_container(const char *path) {
    struct open_how how = {
        .flags = O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC,
        .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS,
    };
    if (in_sandbox)
        return openat(app.root, path, (int)how.flags | O_NOFOLLOW);
    return (int)syscall(SYS_openat2, app.root, path, &how, sizeof how);
}

static int open_peer(int master) {
    unsigned number;
    char path[32];
    if (!in_sandbox)
        return ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (ioctl(master, TIOCGPTN, &number))
        return -1;
    snprintf(path, sizeof path, "dev/pts/%u", number);
    int peer = open_in_container(path);
    if (peer >= 0)
        fcntl(peer, F_SETFL, 0); /* the command's own file blocks */
    return peer;
}

static bool open_terminal(struct ends *ends) {
    int unlocked = 0, slave = -1;
    int master = open_in_container("dev/pts/ptmx");
    if (master >= 0 && ioctl(master, TIOCSPTLCK, &unlocked) == 0)
        slave = open_peer(master);
    ends->agent[0] = ends->agent[1] = master;
    ends->child[0] = ends->child[1] = ends->child[2] = slave;
    return slave >= 0;
}

static bool open_pipe(int *reader, int *writer) {
    int both[2];
    if (pipe2(both, O_CLOEXEC))
        return false;
    *reader = both[0];
    *writer = both[1];
    return true;
}

static bool open_pipes(struct ends *ends) {
    if (!open_pipe(&ends->child[0], &ends->agent[0]) || !open_pipe(&ends->agent[1], &ends->child[1]) ||
        !open_pipe(&ends->agent[2], &ends->child[2]))
        return false;
    for (int which = 0; which < 3; which++)
        fcntl(ends->agent[which], F_SETFL, O_NONBLOCK);
    return true;
}

static void close_ends(int *ends) {
    for (int which = 0; which < 3; which++) {
        bool same = which && ends[which] == ends[which - 1];
        if (ends[which] >= 0 && !same)
            close(ends[which]);
    }
}

/* A child of the agent's, but in the container's process namespace: that is told before the fork. */
static pid_t fork_into_container(void) {
    static int own = -1;
    if (in_sandbox)
        return fork(); /* app.c has arranged that */
    if (own < 0)
        own = open("/proc/self/ns/pid", O_RDONLY | O_CLOEXEC);
    if (own < 0 || setns(app.namespaces[PID_NAMESPACE], CLONE_NEWPID))
        return -1;
    pid_t pid = fork();
    int error = errno;
    if (pid != 0 && setns(own, CLONE_NEWPID))
        note("cannot return to the own process namespace: %s", strerror(errno));
    errno = error;
    return pid;
}

/* The child waits until it is in the application's cgroup: a freeze then covers all that it ever does. */
static pid_t spawn(struct request *request, const struct ends *ends) {
    int go[2];
    if (pipe2(go, O_CLOEXEC))
        return -1;
    pid_t pid = fork_into_container();
    if (pid == 0) {
        close(go[1]);
        child_main(request, ends, go[0]);
    }
    close(go[0]);
    if (pid > 0 && !freezer_add(pid))
        (void)!write(go[1], "", 1);
    close(go[1]);
    return pid;
}

static int run(uint32_t id, struct request *request) {
    struct ends ends = {{-1, -1, -1}, {-1, -1, -1}};
    pid_t pid = -1;
    errno = EIO;
    if (request->terminal ? open_terminal(&ends) : open_pipes(&ends))
        pid = spawn(request, &ends);
    int error = errno;
    close_ends(ends.child);
    if (pid < 0) {
        close_ends(ends.agent);
        return error;
    }
    struct command command = {pid, ends.agent[0], ends.agent[1], ends.agent[2], request->files != 0};
    stream_attach(id, &command);
    return 0;
}

void exec_start(uint32_t id, const uint8_t *payload, size_t length) {
    struct request request = {0};
    int error = 0;
    if (!take_fields(&request, payload, length))
        error = EINVAL;
    else if (!app.pid || app.root < 0)
        error = ESRCH;
    else if (app.frozen)
        error = EAGAIN;
    else if (!stream_reserve(id))
        error = EMFILE;
    else if ((error = run(id, &request)))
        stream_close(id);
    if (error)
        send_u32(FRAME_CLOSE, id, (uint32_t)error);
    forget(&request);
}
