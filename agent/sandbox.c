#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent.h"

/* A guest without a kernel of its own: gVisor has mounted the image, /proc, /sys and /dev and made the network, and the
 * agent is its first process. The host's side is src/emberbox/vmm/gvisor.
 *
 * The image has the agent as a file, which the application should neither see nor be able to write to: the agent runs a
 * copy in its own /dev, which the application's container has mounted another one over. */

#define COPY "/dev/agent"
#define DISK "/dev/disk"
#define COPY_BYTES_MAX (16 << 20)

static void run_copy(int original) {
    int copy = open(COPY, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0500);
    ssize_t done = 0;
    while (copy >= 0 && (done = sendfile(copy, original, NULL, COPY_BYTES_MAX)) > 0)
        ;
    if (copy < 0 || done < 0 || close(copy) || unlink(SANDBOX_AGENT))
        give_up("cannot copy the agent: %s", strerror(errno));
    execl(COPY, COPY, "sandbox", NULL);
    give_up("cannot execute the agent's copy: %s", strerror(errno));
}

/* What lies over the image has no bound of its own in this kernel. So the application's root is one more layer, which has:
 * EMBERBOX_DISK_BYTES. */
static void bound_root(void) {
    char options[64];
    const char *bytes = getenv("EMBERBOX_DISK_BYTES");
    snprintf(options, sizeof options, "mode=700,size=%s", bytes ? bytes : "50%");
    if (mkdir(DISK, 0700) || mount("disk", DISK, "tmpfs", 0, options) || mkdir(DISK "/upper", 0755) ||
        mkdir(DISK "/work", 0755) || mkdir(SANDBOX_ROOT, 0755) ||
        mount("root", SANDBOX_ROOT, "overlay", 0, "lowerdir=/,upperdir=" DISK "/upper,workdir=" DISK "/work"))
        give_up("cannot make the application's root: %s", strerror(errno));
}

void sandbox_boot(void) {
    int original = open(SANDBOX_AGENT, O_RDONLY | O_CLOEXEC);
    if (original >= 0)
        run_copy(original);
    mkdir(IDENTITY_DIRECTORY, 0755);
    bound_root();
}
