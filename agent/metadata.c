/* The instance metadata address, 169.254.169.254:80. Whoever connects there speaks with the host: the agent only
 * carries the bytes. The address is the guest's own (on lo), so nothing of it ever reaches a network. */
#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent.h"

#define METADATA_ADDRESS "169.254.169.254"
#define METADATA_PORT 80
#define BACKLOG 16

static int listener = -1;

static struct sockaddr_in metadata_address(const char *text) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(METADATA_PORT)};
    inet_pton(AF_INET, text, &address.sin_addr);
    return address;
}

static int add_address(int control) {
    struct ifreq request = {.ifr_name = "lo:0"};
    struct sockaddr_in address = metadata_address(METADATA_ADDRESS), mask = metadata_address("255.255.255.255");
    memcpy(&request.ifr_addr, &address, sizeof address);
    if (ioctl(control, SIOCSIFADDR, &request))
        return -1;
    memcpy(&request.ifr_netmask, &mask, sizeof mask);
    return ioctl(control, SIOCSIFNETMASK, &request);
}

void metadata_listen(void) {
    struct sockaddr_in address = metadata_address(METADATA_ADDRESS);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0 || add_address(fd) || bind(fd, (struct sockaddr *)&address, sizeof address) || listen(fd, BACKLOG)) {
        note("no instance metadata: %s", strerror(errno));
        if (fd >= 0)
            close(fd);
        return;
    }
    listener = fd;
}

/* What cannot be taken now waits in the kernel's backlog. */
int metadata_fd(void) { return stream_may_accept() ? listener : -1; }

void metadata_ready(void) {
    int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd >= 0)
        stream_accept(fd);
}
