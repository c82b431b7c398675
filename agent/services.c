/* What the host answers inside the guest: instance metadata at 169.254.169.254:80, and where the network has no name
 * server of its own, names at 10.0.2.3:53, UDP and TCP. The agent only carries the bytes.
 *
 *     the guest's network namespace                     one that the agent alone uses
 *     application ──► route to 169.254.169.254 ──► services ═veth═ agent0 169.254.169.254:80, 10.0.2.3:53
 *
 * The listeners live apart so that every port of the guest is the application's, also where it binds 0.0.0.0. Neither
 * namespace forwards, so nobody outside the guest reaches them. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent.h"

#define METADATA_ADDRESS "169.254.169.254"
#define METADATA_PORT 80
#define NAMES_ADDRESS "10.0.2.3"
#define NAMES_PORT 53
#define NEAR_END "services"
#define FAR_END "agent0"
#define BACKLOG 16
#define QUERY_BYTES_MAX 4096
#define QUERIES_MAX 32

/* The oldest question makes room: whoever asked it asks again. */
struct question {
    uint32_t id;
    struct sockaddr_in from;
};

static int metadata = -1, names_stream = -1, names_datagram = -1;
static int route = -1; /* speaks with the kernel about the guest's own routes */
static bool names_here;
static struct question questions[QUERIES_MAX];

/* --- messages to the kernel (rtnetlink(7)) */

struct message {
    struct nlmsghdr header;
    uint8_t body[512] __attribute__((aligned(NLMSG_ALIGNTO)));
};

static void *end_of(struct message *message) { return (uint8_t *)message + NLMSG_ALIGN(message->header.nlmsg_len); }

static void put(struct message *message, const void *bytes, size_t length) {
    memcpy(end_of(message), bytes, length);
    message->header.nlmsg_len = NLMSG_ALIGN(message->header.nlmsg_len) + (uint32_t)length;
}

static struct rtattr *begin_attribute(struct message *message, unsigned short type) {
    struct rtattr *attribute = end_of(message);
    put(message, &(struct rtattr){.rta_type = type}, sizeof *attribute);
    return attribute;
}

static void end_attribute(struct message *message, struct rtattr *attribute) {
    attribute->rta_len = (unsigned short)((uint8_t *)message + message->header.nlmsg_len - (uint8_t *)attribute);
}

static void put_attribute(struct message *message, unsigned short type, const void *bytes, size_t length) {
    struct rtattr *attribute = begin_attribute(message, type);
    put(message, bytes, length);
    end_attribute(message, attribute);
}

static struct message begin_message(uint16_t type, uint16_t flags, const void *body, size_t length) {
    struct message message = {.header = {
                                  .nlmsg_len = NLMSG_HDRLEN,
                                  .nlmsg_type = type,
                                  .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | flags,
                              }};
    put(&message, body, length);
    return message;
}

static int tell_kernel(int socket, const struct message *message) {
    struct {
        struct nlmsghdr header;
        struct nlmsgerr verdict;
        uint8_t rest[1024];
    } answer;
    if (send(socket, message, message->header.nlmsg_len, 0) < 0 || recv(socket, &answer, sizeof answer, 0) < 0)
        return -1;
    errno = -answer.verdict.error;
    return answer.header.nlmsg_type == NLMSG_ERROR && !answer.verdict.error ? 0 : -1;
}

static int make_pair(int far_namespace) {
    struct ifinfomsg link = {0};
    struct message message = begin_message(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &link, sizeof link);
    put_attribute(&message, IFLA_IFNAME, NEAR_END, sizeof NEAR_END);
    struct rtattr *information = begin_attribute(&message, IFLA_LINKINFO);
    put_attribute(&message, IFLA_INFO_KIND, "veth", sizeof "veth");
    struct rtattr *data = begin_attribute(&message, IFLA_INFO_DATA);
    struct rtattr *peer = begin_attribute(&message, VETH_INFO_PEER);
    put(&message, &link, sizeof link);
    put_attribute(&message, IFLA_IFNAME, FAR_END, sizeof FAR_END);
    put_attribute(&message, IFLA_NET_NS_FD, &far_namespace, sizeof far_namespace);
    end_attribute(&message, peer);
    end_attribute(&message, data);
    end_attribute(&message, information);
    return tell_kernel(route, &message);
}

static int add_address(int socket, unsigned device, const char *text) {
    struct ifaddrmsg body = {.ifa_family = AF_INET, .ifa_prefixlen = 32, .ifa_index = device};
    struct message message = begin_message(RTM_NEWADDR, NLM_F_CREATE, &body, sizeof body);
    struct in_addr address;
    inet_pton(AF_INET, text, &address);
    put_attribute(&message, IFA_LOCAL, &address, sizeof address);
    return tell_kernel(socket, &message);
}

/* Without an address all addresses are meant. */
static int change_route(int socket, uint16_t change, unsigned device, const char *text) {
    struct rtmsg body = {
        .rtm_family = AF_INET,
        .rtm_dst_len = text ? 32 : 0,
        .rtm_table = RT_TABLE_MAIN,
        .rtm_protocol = RTPROT_BOOT,
        .rtm_scope = RT_SCOPE_LINK,
        .rtm_type = RTN_UNICAST,
    };
    struct message message = begin_message(change, change == RTM_NEWROUTE ? NLM_F_CREATE : 0, &body, sizeof body);
    struct in_addr address;
    if (text) {
        inet_pton(AF_INET, text, &address);
        put_attribute(&message, RTA_DST, &address, sizeof address);
    }
    put_attribute(&message, RTA_OIF, &device, sizeof device);
    return tell_kernel(socket, &message);
}

/* --- at boot */

static int open_route(void) { return socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE); }

static int listen_at(int type, const char *text, uint16_t port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    int fd = socket(AF_INET, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    inet_pton(AF_INET, text, &address.sin_addr);
    if (fd >= 0 && bind(fd, (struct sockaddr *)&address, sizeof address) == 0 &&
        (type == SOCK_DGRAM || listen(fd, BACKLOG) == 0))
        return fd;
    note("nothing answers at %s:%u: %s", text, port, strerror(errno));
    if (fd >= 0)
        close(fd);
    return -1;
}

/* In the namespace apart. Sockets stay where they were made. */
static bool open_far_end(void) {
    int socket = open_route();
    unsigned device = if_nametoindex(FAR_END);
    write_file("/proc/sys/net/ipv6/conf/" FAR_END "/disable_ipv6", "1", 1); /* /proc/sys/net is the namespace's */
    bool done = socket >= 0 && device && bring_up(FAR_END) == 0 && add_address(socket, device, METADATA_ADDRESS) == 0 &&
                add_address(socket, device, NAMES_ADDRESS) == 0 &&
                change_route(socket, RTM_NEWROUTE, device, NULL) == 0;
    if (socket >= 0)
        close(socket);
    if (!done)
        return false;
    metadata = listen_at(SOCK_STREAM, METADATA_ADDRESS, METADATA_PORT);
    names_stream = listen_at(SOCK_STREAM, NAMES_ADDRESS, NAMES_PORT);
    names_datagram = listen_at(SOCK_DGRAM, NAMES_ADDRESS, NAMES_PORT);
    return true;
}

static bool open_near_end(void) {
    write_file("/proc/sys/net/ipv6/conf/" NEAR_END "/disable_ipv6", "1", 1);
    unsigned device = if_nametoindex(NEAR_END);
    return bring_up(NEAR_END) == 0 && change_route(route, RTM_NEWROUTE, device, METADATA_ADDRESS) == 0;
}

static bool make_both_ends(void) {
    int home = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC), apart = -1;
    route = open_route();
    if (home < 0 || route < 0 || unshare(CLONE_NEWNET))
        return false;
    apart = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    bool done = apart >= 0 && make_pair(apart) == 0 && open_far_end();
    int error = errno;
    if (setns(home, CLONE_NEWNET))
        give_up("the guest's network is lost: %s", strerror(errno));
    errno = error;
    done = done && open_near_end();
    close(home);
    if (apart >= 0)
        close(apart); /* the listeners hold it */
    return done;
}

/* A sandbox's network has both by itself: what its kernel saves of a network of the agent's it could not restore. */
void services_open(void) {
    if (!in_sandbox && !make_both_ends())
        note("no instance metadata and no names: %s", strerror(errno));
}

/* --- while the guest runs */

void services_answer_names(bool here) {
    unsigned device = in_sandbox || here == names_here ? 0 : if_nametoindex(NEAR_END);
    if (!device)
        return;
    if (change_route(route, here ? RTM_NEWROUTE : RTM_DELROUTE, device, NAMES_ADDRESS))
        note("the way to the name server cannot be changed: %s", strerror(errno));
    else
        names_here = here;
}

/* What cannot be taken now waits in the kernel; and the agent says nothing by itself while all stands still. */
size_t services_poll(struct pollfd *polls, bool asleep) {
    bool accepts = !asleep && stream_may_accept();
    polls[0] = (struct pollfd){.fd = accepts ? metadata : -1, .events = POLLIN};
    polls[1] = (struct pollfd){.fd = accepts ? names_stream : -1, .events = POLLIN};
    polls[2] = (struct pollfd){.fd = asleep ? -1 : names_datagram, .events = POLLIN};
    return SERVICES_POLLS;
}

static void accept_one(int listener, uint16_t port) {
    int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd >= 0)
        stream_accept(fd, port);
}

static void take_question(void) {
    static uint8_t bytes[QUERY_BYTES_MAX + 1];
    static uint32_t next;
    struct question *question = &questions[next % QUERIES_MAX];
    socklen_t size = sizeof question->from;
    ssize_t got = recvfrom(names_datagram, bytes, sizeof bytes, 0, (struct sockaddr *)&question->from, &size);
    if (got <= 0 || got > QUERY_BYTES_MAX)
        return;
    question->id = next++;
    send_frame(FRAME_QUERY, question->id, bytes, (size_t)got);
}

void services_answer(uint32_t id, const uint8_t *bytes, size_t length) {
    const struct question *question = &questions[id % QUERIES_MAX];
    if (question->id == id && question->from.sin_family == AF_INET)
        (void)!sendto(names_datagram, bytes, length, 0, (const struct sockaddr *)&question->from, sizeof question->from);
}

void services_ready(const struct pollfd *polls) {
    if (polls[0].fd >= 0 && polls[0].revents)
        accept_one(metadata, METADATA_PORT);
    if (polls[1].fd >= 0 && polls[1].revents && stream_may_accept())
        accept_one(names_stream, NAMES_PORT);
    if (polls[2].fd >= 0 && polls[2].revents)
        take_question();
}
