#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "agent.h"

int child_words = STDERR_FILENO; /* where the child says what failed */

_Noreturn void child_fails(const char *what) {
    dprintf(child_words, "%s: %s\n", what, strerror(errno));
    _exit(CANNOT_EXECUTE);
}

static void limit(const struct credentials *credentials) {
    struct rlimit files = {.rlim_cur = 1024, .rlim_max = credentials->nofile};
    setrlimit(RLIMIT_NOFILE, &files);
    for (int capability = 0; capability <= 63; capability++)
        if (!(credentials->capabilities >> capability & 1) && prctl(PR_CAPBSET_READ, capability, 0, 0, 0) == 1)
            if (prctl(PR_CAPBSET_DROP, capability, 0, 0, 0))
                child_fails("capabilities");
}

/* Root keeps what the bounding set leaves; any other user keeps nothing: both follow from exec's own rules. */
static void become_user(const struct credentials *credentials) {
    if (setgroups(credentials->group_count, credentials->groups) || setgid(credentials->gid) ||
        setuid(credentials->uid))
        child_fails("user");
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2] = {0};
    if (syscall(SYS_capget, &header, data))
        child_fails("capabilities");
    for (int half = 0; half < 2; half++) {
        uint32_t allowed = (uint32_t)(credentials->capabilities >> (32 * half));
        data[half].permitted &= allowed;
        data[half].effective &= allowed;
        data[half].inheritable = 0;
    }
    if (syscall(SYS_capset, &header, data))
        child_fails("capabilities");
}

static void make_directories(const char *path) {
    char part[4096];
    for (size_t length = 1; path[length] && length < sizeof part - 1; length++)
        if (path[length] == '/') {
            memcpy(part, path, length);
            part[length] = 0;
            mkdir(part, 0755);
        }
    mkdir(path, 0755);
}

/* As container runtimes do, makes the application's directory when the image lacks it: WORKDIR alone does not. */
void child_become(const struct credentials *credentials, const char *directory, bool make_directory) {
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_DFL); /* the agent ignores it, and exec would pass that on */
    limit(credentials);
    if (make_directory)
        make_directories(directory);
    if (chdir(directory))
        child_fails(directory);
    become_user(credentials);
}

/* Returns when the program cannot be executed, with errno. It is looked up on the PATH that it will have. */
void child_execute(char *const *arguments, char **environment) {
    environ = environment;
    execvp(arguments[0], arguments);
}
