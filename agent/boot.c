#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <net/route.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <arpa/inet.h>

#include "agent.h"

/* The host's side of these is in src/emberbox/vmm/qemu/arguments.py and src/emberbox/host/network/slots.py. */
#define PORT_NAME "emberbox.agent"
#define ROOT_SERIAL "root"
#define DISK_SERIAL "disk"
#define DEVICE_TRIES 6000 /* a minute: on a busy host an emulated guest is slow */
#define GUEST_NETMASK "255.255.255.0"
#define GUEST_GATEWAY "10.0.2.2"

static void must_mount(const char *what, const char *where, const char *type, unsigned long flags, const char *options) {
    mkdir(where, 0755);
    if (mount(what, where, type, flags, options))
        give_up("cannot mount %s: %s", where, strerror(errno));
}

static int by_name(const struct dirent **a, const struct dirent **b) { return strcmp((*a)->d_name, (*b)->d_name); }

/* The host has named the modules so that their order is the order of loading. */
static void load_modules(void) {
    struct dirent **entries;
    int count = scandir("/modules", &entries, NULL, by_name);
    for (int i = 0; i < count; i++) {
        char path[512];
        snprintf(path, sizeof path, "/modules/%s", entries[i]->d_name);
        if (entries[i]->d_name[0] != '.') {
            int file = open(path, O_RDONLY | O_CLOEXEC);
            if (file < 0 || syscall(SYS_finit_module, file, "", 0))
                note("cannot load %s: %s", path, strerror(errno));
            close(file);
        }
        free(entries[i]);
    }
    if (count >= 0)
        free(entries);
}

static bool file_says(const char *path, const char *text) {
    char buffer[64] = "";
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return false;
    ssize_t got = read(file, buffer, sizeof buffer - 1);
    close(file);
    if (got < 0)
        return false;
    buffer[strcspn(buffer, "\n")] = 0;
    return strcmp(buffer, text) == 0;
}

/* Devices appear in an order of the kernel's own: find one by what its attribute file says. */
static bool find_device(const char *class, const char *attribute, const char *text, char *path, size_t size) {
    for (int tries = 0; tries < DEVICE_TRIES; tries++) {
        DIR *directory = opendir(class);
        for (struct dirent *entry; directory && (entry = readdir(directory));) {
            char attribute_path[512];
            snprintf(attribute_path, sizeof attribute_path, "%s/%s/%s", class, entry->d_name, attribute);
            if (file_says(attribute_path, text)) {
                snprintf(path, size, "/dev/%s", entry->d_name);
                closedir(directory);
                return true;
            }
        }
        if (directory)
            closedir(directory);
        usleep(10000);
    }
    return false;
}

int open_channel_port(void) {
    char path[300];
    if (!find_device("/sys/class/virtio-ports", "name", PORT_NAME, path, sizeof path))
        give_up("the host's channel is missing");
    /* The kernel lets one process at a time open a port, so the application never can. */
    int port = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (port < 0)
        give_up("cannot open %s: %s", path, strerror(errno));
    return port;
}

static void mount_container_root(void) {
    char root[300], disk[300];
    if (!find_device("/sys/block", "serial", ROOT_SERIAL, root, sizeof root) ||
        !find_device("/sys/block", "serial", DISK_SERIAL, disk, sizeof disk))
        give_up("a disk is missing");
    must_mount(root, "/image", "erofs", MS_RDONLY, NULL);
    must_mount(disk, "/disk", "ext4", MS_NOATIME, NULL);
    mkdir("/disk/upper", 0755);
    mkdir("/disk/work", 0755);
    must_mount("overlay", CONTAINER_ROOT, "overlay", MS_NOATIME, "lowerdir=/image,upperdir=/disk/upper,workdir=/disk/work");
}

static void set_address(struct sockaddr *where, const char *text) {
    struct sockaddr_in address = {.sin_family = AF_INET};
    inet_pton(AF_INET, text, &address.sin_addr);
    memcpy(where, &address, sizeof address);
}

int bring_up(const char *device) {
    int control = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct ifreq request = {0};
    snprintf(request.ifr_name, sizeof request.ifr_name, "%s", device);
    int failed = ioctl(control, SIOCGIFFLAGS, &request);
    request.ifr_flags |= IFF_UP | IFF_RUNNING;
    failed = failed ? failed : ioctl(control, SIOCSIFFLAGS, &request);
    close(control);
    return failed;
}

static void configure_network(void) {
    int control = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct ifreq request = {.ifr_name = "eth0"};
    struct rtentry route = {.rt_flags = RTF_UP | RTF_GATEWAY};
    /* IPv6 ends at the guest's own loopback: its network has none. */
    write_file("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1", 1);
    write_file("/proc/sys/net/ipv6/conf/eth0/disable_ipv6", "1", 1);
    bring_up("lo");
    set_address(&request.ifr_addr, GUEST_ADDRESS);
    if (ioctl(control, SIOCSIFADDR, &request)) {
        note("no network device: %s", strerror(errno));
        close(control);
        return;
    }
    set_address(&request.ifr_netmask, GUEST_NETMASK);
    ioctl(control, SIOCSIFNETMASK, &request);
    bring_up("eth0");
    set_address(&route.rt_dst, "0.0.0.0");
    set_address(&route.rt_genmask, "0.0.0.0");
    set_address(&route.rt_gateway, GUEST_GATEWAY);
    if (ioctl(control, SIOCADDRT, &route))
        note("no default route: %s", strerror(errno));
    close(control);
    /* The host sends what clients ask for to 127.0.0.1, so that servers bound to loopback are reached too. */
    write_file("/proc/sys/net/ipv4/conf/eth0/route_localnet", "1", 1);
}

void boot(void) {
    must_mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
    must_mount("sysfs", "/sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
    must_mount("devtmpfs", "/dev", "devtmpfs", MS_NOSUID, NULL);
    load_modules();
    must_mount("cgroup2", "/cgroup", "cgroup2", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
    mkdir("/cgroup/app", 0755);
    must_mount("identity", IDENTITY_DIRECTORY, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=755,size=1m");
    mount_container_root();
    configure_network();
}
