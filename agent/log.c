#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/reboot.h>
#include <unistd.h>

#include "agent.h"

bool in_sandbox; /* here, as every part uses this one */

static void say(const char *format, va_list arguments) {
    char line[512];
    int length = snprintf(line, sizeof line, "<3>emberbox-agent: ");
    vsnprintf(line + length, sizeof line - (size_t)length, format, arguments);
    int log = open(in_sandbox ? "/proc/self/fd/2" : "/dev/kmsg", O_WRONLY | O_APPEND | O_CLOEXEC);
    if (log < 0)
        return;
    (void)!write(log, line, strlen(line));
    close(log);
}

void note(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    say(format, arguments);
    va_end(arguments);
}

/* Only while booting: later the agent's death would take a running application with it. */
void give_up(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    say(format, arguments);
    va_end(arguments);
    end_guest();
}

/* The machine has no power switch that works everywhere; the VMM takes a reboot for the end. */
_Noreturn void end_guest(void) {
    if (in_sandbox)
        _exit(0);
    sync();
    reboot(RB_AUTOBOOT);
    for (;;)
        pause();
}

int write_file(const char *path, const void *bytes, size_t length) {
    int file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644);
    if (file < 0)
        return -1;
    ssize_t written = write(file, bytes, length);
    close(file);
    return written == (ssize_t)length ? 0 : -1;
}
