/* Lets agent/modprobe.c look for modules in a directory of the test's, and prints what it would load. */
#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>
#include <sys/utsname.h>
#include <unistd.h>

static const char *root;

static long fake_load(int file, const char *options) {
    char link[64], path[512] = "", *name;
    (void)options;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    if (readlink(link, path, sizeof path - 1) < 0)
        return -1;
    name = strrchr(path, '/') + 1;
    printf("%s\n", name);
    errno = strcmp(name, "there.ko") == 0 ? EEXIST : ENODEV;
    return strcmp(name, "there.ko") == 0 || strcmp(name, "broken.ko") == 0 ? -1 : 0;
}

static int fake_uname(struct utsname *kernel) {
    strcpy(kernel->release, "6.1.0");
    return 0;
}

static int enter(void) { return chdir(root); }

#define syscall(number, file, options, flags) fake_load(file, options)
#define chroot(path) enter()
#define chdir(path) 0
#define uname(kernel) fake_uname(kernel)

#include "modprobe.c"

bool in_sandbox;
void note(const char *format, ...) { (void)format; }
int write_file(const char *path, const void *bytes, size_t length) { return (void)path, (void)bytes, (int)length; }

/* Arguments: the directory, then those of modprobe. */
int main(int count, char **arguments) {
    root = arguments[1];
    if (!modprobe_is_meant(count - 2, arguments + 2))
        return 2;
    return modprobe_run(arguments[5]);
}
