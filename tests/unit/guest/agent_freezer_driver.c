/* Runs the agent's freezer as it works in a sandbox, on three children of its own: one that runs, one that starts others all
 * the time, and one that was stopped before. It stops every process that it sees, so it must be the first of a process
 * namespace with a /proc of its own, and ends at once where it is not. Prints the children's states after each step. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent.h"

bool in_sandbox = true;

int write_file(const char *path, const void *bytes, size_t length) {
    (void)path, (void)bytes, (void)length;
    abort(); /* a sandbox has no cgroup to write to */
}

void note(const char *format, ...) { (void)format; }

static pid_t children[3];

static pid_t start(void (*work)(void)) {
    pid_t pid = fork();
    if (pid == 0) {
        work();
        _exit(0);
    }
    return pid;
}

static void wait_for_ever(void) {
    for (;;)
        pause();
}

static void fork_all_the_time(void) {
    signal(SIGCHLD, SIG_IGN);
    for (;;)
        if (fork() == 0)
            _exit(0);
}

static void stop_itself(void) {
    raise(SIGSTOP);
    wait_for_ever();
}

static char state_of_child(pid_t pid) {
    char path[64], text[512] = "";
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    FILE *file = fopen(path, "r");
    if (!file || !fgets(text, sizeof text, file))
        return '?';
    fclose(file);
    return strrchr(text, ')')[2];
}

static void tell(const char *step, const char *problem) {
    printf("%s %s", step, problem ? problem : "ok");
    for (int i = 0; i < 3; i++)
        printf(" %s", state_of_child(children[i]) == 'T' ? "stopped" : "runs");
    puts("");
    fflush(stdout);
}

int main(void) {
    char self[16] = "";
    if (getpid() != 1 || readlink("/proc/self", self, sizeof self - 1) != 1 || strcmp(self, "1"))
        return 2;
    children[0] = start(wait_for_ever);
    children[1] = start(fork_all_the_time);
    children[2] = start(stop_itself);
    waitpid(children[2], NULL, WUNTRACED);
    if (!freezer_open() || freezer_add(children[0]))
        return 3;
    tell("before", NULL);
    tell("frozen", freezer_freeze());
    tell("rehearsed", freezer_thaw(true));
    tell("thawed", freezer_thaw(false));
    tell("again", freezer_freeze());
    return 0;
}
