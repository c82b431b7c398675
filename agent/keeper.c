/* Keeps one gVisor sandbox: its processes in a process namespace that ends with this program, and its agent's channel.
 *
 *     keeper LISTENER CONSOLE MEMORY PROCESSORS COMMAND...
 *
 * The channel is the sandbox's standard input and output, and the server's end of it must outlive the server. So this
 * program has that end, and carries it to whoever has connected last to LISTENER, a Unix socket: as a port of a virtual
 * machine would be. The agent is told when its host has gone (FRAME_LOST), and gets whole frames only, so that what one
 * host has half said does not meet what the next one says.
 *
 * runsc tells the guest of all the memory that /proc/meminfo says, and of the processors that it may run on, once, when the
 * guest begins. So it finds MEMORY kibibytes there; and where PROCESSORS is not 0, it runs on so many.
 *
 * It runs as root: a server that does not makes it that in a user namespace (src/emberbox/host/user_namespace.py).
 *
 * EMBERBOX_GROUPS names descriptors of cgroups that the keeper enters before it makes anything, such as "5,6".
 * EMBERBOX_NOWHERE names one of a socket, the other end of the device of a guest that has no network (nowhere.c).
 *
 * COMMAND is `runsc create`; CONSOLE is the sandbox's standard error. When it has made the sandbox, "ready" is written to
 * the standard output. The sandbox's state is in /run, which is a file system of this keeper's own: by
 * /proc/PID/root the server sees it, and nothing is left of it when the keeper ends. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "nowhere.h"
#include "protocol.h"

#define FRAME_MAX (FRAME_HEADER_BYTES + FRAME_PAYLOAD_MAX)
#define LAST_WORDS_MS 2000

static int listener, channel, host = -1, nowhere = -1;
static bool host_lost; /* the agent is to be told, before anything else */
static uint8_t up[FRAME_MAX], down[FRAME_MAX];
static size_t up_used, up_sent, down_used, down_sent;
static pid_t maker;
static int sandbox_status = -1;
static int words = STDERR_FILENO;

static _Noreturn void fail(const char *what) {
    dprintf(words, "the keeper cannot %s: %s\n", what, strerror(errno));
    exit(1);
}

/* --- the channel */

/* The whole length of the frame that `up` begins with; 0 while its header is not there. */
static size_t up_wanted(void) {
    uint32_t length;
    if (up_used < FRAME_HEADER_BYTES)
        return 0;
    memcpy(&length, up, sizeof length);
    return FRAME_HEADER_BYTES + (size_t)length;
}

static bool up_is_whole(void) { return up_wanted() && up_used == up_wanted(); }

static void lose_host(void) {
    if (host < 0)
        return;
    close(host);
    host = -1;
    host_lost = true;
    down_used = down_sent = 0;
    if (!up_is_whole())
        up_used = 0;
}

static void accept_host(void) {
    int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0)
        return;
    lose_host();
    host = fd;
}

static void read_host(void) {
    size_t wanted = up_wanted() ? up_wanted() : FRAME_HEADER_BYTES;
    if (wanted > FRAME_MAX) {
        lose_host(); /* it keeps no protocol */
        return;
    }
    ssize_t got = read(host, up + up_used, wanted - up_used);
    if (got > 0)
        up_used += (size_t)got;
    else if (got == 0 || (errno != EAGAIN && errno != EINTR))
        lose_host();
}

static void tell_lost(void) {
    memset(up, 0, FRAME_HEADER_BYTES);
    up[4] = FRAME_LOST;
    up_used = FRAME_HEADER_BYTES;
    host_lost = false;
}

static void write_agent(void) {
    ssize_t written = write(channel, up + up_sent, up_used - up_sent);
    if (written > 0)
        up_sent += (size_t)written;
    if (up_sent == up_used)
        up_used = up_sent = 0;
}

/* Returns false when the sandbox has gone. What it says to nobody is thrown away. */
static bool read_agent(void) {
    ssize_t got = read(channel, down, sizeof down);
    if (got > 0 && host >= 0)
        down_used = (size_t)got;
    return got > 0 || (got < 0 && (errno == EAGAIN || errno == EINTR));
}

static void write_host(void) {
    ssize_t written = write(host, down + down_sent, down_used - down_sent);
    if (written > 0)
        down_sent += (size_t)written;
    else if (errno != EAGAIN && errno != EINTR)
        lose_host();
    if (down_sent == down_used)
        down_used = down_sent = 0;
}

/* --- the processes */

static void reap(void) {
    int status;
    for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;) {
        if (pid != maker) {
            sandbox_status = sandbox_status < 0 ? status : sandbox_status;
            continue;
        }
        if (!WIFEXITED(status) || WEXITSTATUS(status))
            exit(1); /* it has said why */
        (void)!write(STDOUT_FILENO, "ready\n", 6);
        close(STDOUT_FILENO);
    }
}

static void take_signals(int signals) {
    struct signalfd_siginfo information;
    (void)!read(signals, &information, sizeof information);
    reap();
}

static _Noreturn void tell_end(int signals) {
    struct pollfd wait = {.fd = signals, .events = POLLIN};
    for (int tries = 0; tries < 10 && sandbox_status < 0; tries++) {
        poll(&wait, 1, LAST_WORDS_MS / 10);
        take_signals(signals);
    }
    if (sandbox_status >= 0 && WIFSIGNALED(sandbox_status))
        dprintf(words, "the sandbox was killed by signal %d\n", WTERMSIG(sandbox_status));
    else
        dprintf(words, "the sandbox has ended\n");
    /* Its memory may take seconds to be freed, and the host is not to hear that the agent is lost before it can see why. */
    kill(-1, SIGKILL);
    while (waitpid(-1, NULL, 0) > 0 || errno == EINTR)
        ;
    exit(1);
}

/* One that is asked for nothing is left out: its end would be told again and again. */
static struct pollfd wanted(int fd, int events) {
    return (struct pollfd){.fd = events ? fd : -1, .events = (short)events};
}

static _Noreturn void carry(int signals) {
    for (;;) {
        if (host_lost && !up_used)
            tell_lost();
        bool whole = up_is_whole();
        struct pollfd polls[5] = {
            wanted(signals, POLLIN),
            wanted(listener, POLLIN),
            wanted(host, (whole || host_lost ? 0 : POLLIN) | (down_used ? POLLOUT : 0)),
            wanted(channel, (down_used ? 0 : POLLIN) | (whole ? POLLOUT : 0)),
            {.fd = nowhere, .events = POLLIN},
        };
        if (poll(polls, 5, -1) < 0)
            fail("wait");
        if (polls[0].revents)
            take_signals(signals);
        if (polls[3].revents && whole)
            write_agent();
        if (polls[3].revents && !down_used && !read_agent())
            tell_end(signals);
        if (polls[2].revents && down_used)
            write_host();
        if (polls[2].revents && host >= 0 && !whole && !host_lost)
            read_host();
        if (polls[1].revents)
            accept_host();
        if (polls[4].revents)
            nowhere_answer(nowhere);
    }
}

/* --- the beginning */

/* Nobody below has the descriptors, nor is anywhere else than here. */
static void enter_groups(void) {
    char *named = getenv("EMBERBOX_GROUPS"), *rest = NULL;
    for (char *each = named ? strtok_r(named, ",", &rest) : NULL; each; each = strtok_r(NULL, ",", &rest)) {
        int group = atoi(each);
        if (write(group, "0", 1) != 1 || close(group))
            fail("enter its cgroup");
    }
    unsetenv("EMBERBOX_GROUPS");
}

/* What the keeper starts does not have it. */
static void take_nowhere(void) {
    const char *named = getenv("EMBERBOX_NOWHERE");
    if (named && *named) {
        nowhere = atoi(named);
        fcntl(nowhere, F_SETFD, FD_CLOEXEC);
    }
    unsetenv("EMBERBOX_NOWHERE");
}

static void use_processors(int wanted) {
    cpu_set_t allowed, taken;
    CPU_ZERO(&taken);
    if (!wanted || sched_getaffinity(0, sizeof allowed, &allowed))
        return;
    for (int processor = 0; processor < CPU_SETSIZE && CPU_COUNT(&taken) < wanted; processor++)
        if (CPU_ISSET(processor, &allowed))
            CPU_SET(processor, &taken);
    sched_setaffinity(0, sizeof taken, &taken);
}

static void tell_memory(const char *kibibytes) {
    FILE *told = fopen("/run/meminfo", "we");
    if (!told || fprintf(told, "MemTotal: %s kB\n", kibibytes) < 0 || fclose(told) ||
        mount("/run/meminfo", "/proc/meminfo", NULL, MS_BIND, NULL))
        fail("tell how much memory there is");
}

static pid_t make_sandbox(char **command, int processors, int end, int console) {
    pid_t pid = fork();
    if (pid)
        return pid;
    use_processors(processors);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    if (dup2(end, STDIN_FILENO) < 0 || dup2(end, STDOUT_FILENO) < 0 || dup2(console, STDERR_FILENO) < 0)
        _exit(1);
    execv(command[0], command);
    _exit(127);
}

/* The first process of the namespace: when it ends, the kernel ends all others in it. */
static _Noreturn void keep(char **arguments) {
    int ends[2];
    sigset_t children;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    /* A server knows a VMM of its own by where its standard error goes, and one process is enough for each. */
    words = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
    int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
    if (words < 0 || null < 0 || dup2(null, STDERR_FILENO) < 0)
        _exit(1);
    signal(SIGPIPE, SIG_IGN);
    sigemptyset(&children);
    sigaddset(&children, SIGCHLD);
    sigprocmask(SIG_BLOCK, &children, NULL);
    int signals = signalfd(-1, &children, SFD_CLOEXEC | SFD_NONBLOCK);
    if (mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL))
        fail("mount /proc");
    if (signals < 0 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends))
        fail("make the channel");
    tell_memory(arguments[3]);
    maker = make_sandbox(arguments + 5, atoi(arguments[4]), ends[1], atoi(arguments[2]));
    if (maker < 0)
        fail("start a process");
    close(ends[1]);
    channel = ends[0];
    fcntl(channel, F_SETFL, O_NONBLOCK);
    carry(signals);
}

int main(int count, char **arguments) {
    int status;
    if (count < 6)
        return 2;
    enter_groups();
    take_nowhere();
    listener = atoi(arguments[1]);
    fcntl(listener, F_SETFL, O_NONBLOCK);
    if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
        mount("run", "/run", "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=700,size=4m"))
        fail("make a place for the sandbox's state");
    pid_t inner = (pid_t)syscall(SYS_clone, CLONE_NEWPID | SIGCHLD, NULL, NULL, NULL, NULL);
    if (inner < 0)
        fail("make a process namespace");
    if (inner == 0)
        keep(arguments);
    close(listener); /* connections are refused from the end of the inner one on */
    close(STDOUT_FILENO);
    while (waitpid(inner, &status, 0) < 0 && errno == EINTR)
        ;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}
