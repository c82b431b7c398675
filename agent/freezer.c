#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent.h"

/* How the application is made to stand still: by its cgroup. The kernel of a sandbox has none that freezes; there every
 * process but the agent is the application's, and is stopped by a signal that none can refuse. Those that the
 * application had stopped itself stay stopped when it is let go on. */

#define TRIES 500 /* of 10 ms */
#define STOPPED_MAX 1024

/* Kept open: in an emulated guest, looking up a path after a launch is slow. */
static int freeze_file = -1, events_file = -1;
static pid_t stopped_before[STOPPED_MAX];
static size_t stopped_count;

bool freezer_open(void) {
    if (in_sandbox)
        return true;
    freeze_file = open("/cgroup/app/cgroup.freeze", O_WRONLY | O_CLOEXEC);
    events_file = open("/cgroup/app/cgroup.events", O_RDONLY | O_CLOEXEC);
    return freeze_file >= 0 && events_file >= 0;
}

/* A cgroup whose controllers are given to those below it takes no processes (kernel documentation, "No Internal Process
 * Constraint"): then one beside those does. */
const char *freezer_add(pid_t pid) {
    char text[32];
    size_t length = (size_t)snprintf(text, sizeof text, "%d", pid);
    if (in_sandbox || !write_file("/cgroup/app/cgroup.procs", text, length))
        return NULL;
    mkdir("/cgroup/app/commands", 0755);
    if (write_file("/cgroup/app/commands/cgroup.procs", text, length))
        return "cannot fill the application's cgroup";
    return NULL;
}

/* One at a time: a kernel that lacks one has the others. */
static void pass_controllers(const char *file) {
    static const char *const controllers[] = {"+cpuset", "+cpu", "+io", "+memory", "+hugetlb", "+pids"};
    for (size_t i = 0; i < sizeof controllers / sizeof *controllers; i++)
        if (write_file(file, controllers[i], strlen(controllers[i])))
            note("no controller %s in %s: %s", controllers[i] + 1, file, strerror(errno));
}

void freezer_delegate(void) { pass_controllers("/cgroup/cgroup.subtree_control"); }

bool freezer_share(const char *mounted) {
    char path[128];
    snprintf(path, sizeof path, "%s/app", mounted);
    if (mkdir(path, 0755))
        return false;
    snprintf(path, sizeof path, "%s/app/cgroup.procs", mounted);
    if (write_file(path, "0", 1))
        return false;
    snprintf(path, sizeof path, "%s/cgroup.subtree_control", mounted);
    pass_controllers(path);
    return true;
}

/* --- by the cgroup */

static bool cgroup_says_frozen(void) {
    char text[128] = "";
    if (pread(events_file, text, sizeof text - 1, 0) <= 0)
        return false;
    return strstr(text, "frozen 1");
}

static bool wait_frozen(void) {
    bool frozen = false;
    for (int tries = 0; tries < TRIES && !(frozen = cgroup_says_frozen()); tries++) {
        struct pollfd change = {.fd = events_file, .events = POLLPRI};
        poll(&change, 1, 10);
    }
    return frozen;
}

/* --- by signals */

/* Returns the letter that proc(5) has for a process or thread; 'X' when it has gone. */
static char state_of(const char *path) {
    char text[512] = "";
    int file = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t got = file < 0 ? -1 : read(file, text, sizeof text - 1);
    if (file >= 0)
        close(file);
    const char *name_end = got > 0 ? strrchr(text, ')') : NULL;
    return name_end && name_end[1] ? name_end[2] : 'X';
}

/* One that waits for a child of vfork(2) cannot go on before that one does. */
static bool stands_still(char state) { return strchr("TtDZX", state); }

static bool threads_stand_still(pid_t pid) {
    char path[64];
    bool all = true;
    snprintf(path, sizeof path, "/proc/%d/task", pid);
    DIR *threads = opendir(path);
    for (struct dirent *entry; threads && all && (entry = readdir(threads));) {
        if (!isdigit((unsigned char)entry->d_name[0]))
            continue;
        snprintf(path, sizeof path, "/proc/%d/task/%d/stat", pid, atoi(entry->d_name));
        all = stands_still(state_of(path));
    }
    if (threads)
        closedir(threads);
    return all;
}

static bool has_stopped_before(pid_t pid) {
    for (size_t i = 0; i < stopped_count; i++)
        if (stopped_before[i] == pid)
            return true;
    return false;
}

/* Calls `visit` with each process of the application's. */
static void each_process(void (*visit)(pid_t pid)) {
    DIR *processes = opendir("/proc");
    for (struct dirent *entry; processes && (entry = readdir(processes));)
        if (isdigit((unsigned char)entry->d_name[0]) && atoi(entry->d_name) != getpid())
            visit((pid_t)atoi(entry->d_name));
    if (processes)
        closedir(processes);
}

static void note_stopped(pid_t pid) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    if (state_of(path) == 'T' && stopped_count < STOPPED_MAX)
        stopped_before[stopped_count++] = pid;
}

static bool all_stopped;

static void stop(pid_t pid) {
    if (threads_stand_still(pid))
        return;
    all_stopped = false;
    kill(pid, SIGSTOP);
}

static void go_on(pid_t pid) {
    if (!has_stopped_before(pid))
        kill(pid, SIGCONT);
}

/* By one call where that can be. When a process ends, gVisor sends SIGHUP to its group if that is orphaned and has one who
 * is stopped; an application's group is orphaned always, and SIGHUP may be its end. So there should be no time in which
 * some run and others are stopped. */
static void go_on_all(void) {
    if (stopped_count)
        each_process(go_on);
    else
        kill(-1, SIGCONT);
}

/* In turns, until a whole one finds nobody who runs: one that runs may start another meanwhile. */
static bool stop_all(void) {
    stopped_count = 0;
    each_process(note_stopped);
    kill(-1, SIGSTOP);
    for (int tries = 0; tries < TRIES; tries++) {
        all_stopped = true;
        each_process(stop);
        if (all_stopped)
            return true;
        usleep(tries < 20 ? 500 : 10000);
    }
    return false;
}

/* --- either way */

const char *freezer_freeze(void) {
    if (!in_sandbox && pwrite(freeze_file, "1", 1, 0) != 1)
        return "cannot freeze the application";
    if (in_sandbox ? stop_all() : wait_frozen())
        return NULL;
    freezer_thaw(false);
    return "the application's processes could not be stopped within 5 seconds";
}

/* In a rehearsal the same is written as is there, by the same code of the kernel's. */
const char *freezer_thaw(bool rehearsal) {
    if (in_sandbox && !rehearsal)
        go_on_all();
    else if (!in_sandbox && pwrite(freeze_file, rehearsal ? "1" : "0", 1, 0) != 1)
        return "cannot thaw the application";
    return NULL;
}
