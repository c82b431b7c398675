#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "agent.h"

/* What the guest's kernel runs when it wants a module: `modprobe -q -- NAME` (kernel/module/kmod.c), in a process of its
 * own, outside the application's container. It is the agent's program by another name, as most images have no modprobe.
 * The files are those of the application's root, so that a module that was installed there is found as well; what
 * src/emberbox/host/kernel_modules.py or depmod(8) wrote says where. */
#define HELPER "/modprobe"
#define DEPTH_MAX 4
#define NEEDED_MAX 64
#define LOOP_DEVICES 8 /* as many as the kernel makes: CONFIG_BLK_DEV_LOOP_MIN_COUNT */

static char directory[128]; /* lib/modules/RELEASE, below the application's root, which is the working directory */

static FILE *open_list(const char *name) {
    char path[256];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    return fopen(path, "re");
}

/* Dashes and underscores are the same, but for those that mean a range of characters. */
static void normalize(char *name) {
    for (bool inside = false; *name; name++) {
        inside = *name == '[' || (inside && *name != ']');
        if (*name == '-' && !inside)
            *name = '_';
    }
}

/* Returns whether it is there now. */
static bool load_file(const char *path) {
    char whole[512];
    snprintf(whole, sizeof whole, "%s%s%s", path[0] == '/' ? "" : directory, path[0] == '/' ? "" : "/", path);
    int file = open(whole, O_RDONLY | O_CLOEXEC);
    bool loaded = file >= 0 && (!syscall(SYS_finit_module, file, "", 0) || errno == EEXIST);
    if (!loaded)
        note("cannot load %s: %s", whole, strerror(errno));
    if (file >= 0)
        close(file);
    return loaded;
}

/* A line of modules.dep(5): a file, and those that it needs, the last of which comes first. */
static bool load_line(char *line) {
    char *needed[NEEDED_MAX];
    size_t count = 0;
    bool loaded = true;
    for (char *path = strtok(line, ": \n"); path && count < NEEDED_MAX; path = strtok(NULL, ": \n"))
        needed[count++] = path;
    while (count && loaded)
        loaded = load_file(needed[--count]);
    return loaded;
}

/* Returns whether a path is that of a module with this name. */
static bool names(const char *path, size_t length, const char *name) {
    char stem[128];
    const char *slash = memrchr(path, '/', length);
    const char *start = slash ? slash + 1 : path;
    snprintf(stem, sizeof stem, "%.*s", (int)(length - (size_t)(start - path)), start);
    stem[strcspn(stem, ".")] = 0;
    normalize(stem);
    return strcmp(stem, name) == 0;
}

enum found { ABSENT, FAILED, LOADED };

static enum found load_named(const char *name) {
    enum found found = ABSENT;
    char *line = NULL;
    size_t size = 0;
    FILE *list = open_list("modules.dep");
    while (list && found == ABSENT && getline(&line, &size, list) > 0)
        if (names(line, strcspn(line, ":"), name))
            found = load_line(line) ? LOADED : FAILED;
    free(line);
    if (list)
        fclose(list);
    return found;
}

static bool load(const char *asked, unsigned depth);

/* What modprobe.d(5) has as a soft dependency is asked for, and nobody minds if there is none. */
static void load_wanted(const char *name, bool before, unsigned depth) {
    char *line = NULL, *rest;
    size_t size = 0;
    FILE *list = open_list("modules.softdep");
    while (list && getline(&line, &size, list) > 0) {
        bool this_time = false;
        if (!strtok_r(line, " \n", &rest) || strcmp(strtok_r(NULL, " \n", &rest) ?: "", name))
            continue;
        for (char *word; (word = strtok_r(NULL, " \n", &rest));)
            if (word[strlen(word) - 1] == ':')
                this_time = strcmp(word, before ? "pre:" : "post:") == 0;
            else if (this_time)
                load(word, depth + 1);
    }
    free(line);
    if (list)
        fclose(list);
}

static enum found load_module(const char *name, unsigned depth) {
    load_wanted(name, true, depth);
    enum found found = load_named(name);
    if (found == LOADED)
        load_wanted(name, false, depth);
    return found;
}

/* As modprobe does, all modules that have the alias. */
static bool load_aliased(const char *asked, unsigned depth) {
    bool loaded = false;
    char *line = NULL, *rest;
    size_t size = 0;
    FILE *list = open_list("modules.alias");
    while (list && getline(&line, &size, list) > 0) {
        strtok_r(line, " \n", &rest);
        char *pattern = strtok_r(NULL, " \n", &rest), *name = strtok_r(NULL, " \n", &rest);
        if (!name)
            continue;
        normalize(pattern);
        if (fnmatch(pattern, asked, 0) == 0)
            loaded |= load_module(name, depth) == LOADED;
    }
    free(line);
    if (list)
        fclose(list);
    return loaded;
}

static bool load(const char *asked, unsigned depth) {
    char name[128];
    if (depth > DEPTH_MAX || strlen(asked) >= sizeof name)
        return false;
    strcpy(name, asked);
    normalize(name);
    enum found found = load_module(name, depth);
    return found == ABSENT ? load_aliased(name, depth) : found == LOADED;
}

static void name_directory(void) {
    struct utsname kernel;
    uname(&kernel);
    snprintf(directory, sizeof directory, "lib/modules/%s", kernel.release);
}

bool modprobe_is_meant(int count, char **arguments) { return count == 4 && strcmp(arguments[0], HELPER) == 0; }

int modprobe_run(const char *asked) {
    if (chroot(CONTAINER_ROOT) || chdir("/"))
        return 1; /* the application's root is not there yet */
    name_directory();
    return load(asked, 0) ? 0 : 1;
}

/* Until this the kernel asks for a program that the agent's root does not have, and nothing is loaded. */
void modprobe_offer(void) {
    if (write_file("/proc/sys/kernel/modprobe", HELPER, sizeof HELPER - 1))
        note("the kernel cannot ask for modules: %s", strerror(errno));
}

/* What opens one of these makes the kernel load what is behind it, where there is a module; else opening it fails. They are
 * made ahead, as kmod's static nodes are: nothing here makes them when a driver comes. */
void modprobe_make_devices(void) {
    static const struct {
        const char *path;
        mode_t mode;
        unsigned major, minor;
    } devices[] = {
        {"/dev/fuse", S_IFCHR | 0666, 10, 229},         {"/dev/net/tun", S_IFCHR | 0666, 10, 200},
        {"/dev/loop-control", S_IFCHR | 0600, 10, 237}, {"/dev/mapper/control", S_IFCHR | 0600, 10, 236},
    };
    size_t count = in_sandbox ? 1 : sizeof devices / sizeof *devices;
    mkdir("/dev/net", 0755);
    mkdir("/dev/mapper", 0755);
    for (size_t i = 0; i < count; i++)
        if (!mknod(devices[i].path, devices[i].mode, makedev(devices[i].major, devices[i].minor)))
            chmod(devices[i].path, devices[i].mode & 0777);
    for (unsigned number = 0; number < LOOP_DEVICES && !in_sandbox; number++) {
        char path[32];
        snprintf(path, sizeof path, "/dev/loop%u", number);
        (void)!mknod(path, S_IFBLK | 0600, makedev(7, number));
    }
}
