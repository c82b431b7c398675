#include <arpa/inet.h>
#include <errno.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent.h"

/* TCP connections to elsewhere lead nowhere after a launch or resume: the guest has another network, and its peers
 * have gone on. The kernel is told to end them, so that the application notices at once and not after a time-out. */

#define BATCH 1024  /* connections that are ended per look */
#define LOOKS_MAX 64

struct request {
    struct nlmsghdr header;
    struct inet_diag_req_v2 body;
};

static struct inet_diag_msg found[BATCH];
static size_t found_count;

static bool is_loopback(const struct inet_diag_msg *connection) {
    const uint8_t *peer = (const uint8_t *)connection->id.idiag_dst;
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff}, own[16] = {[15] = 1};
    if (connection->idiag_family == AF_INET)
        return peer[0] == 127;
    return memcmp(peer, own, sizeof own) == 0 || (memcmp(peer, mapped, sizeof mapped) == 0 && peer[12] == 127);
}

static bool ask(int netlink, uint16_t type, uint16_t flags, struct inet_diag_req_v2 body) {
    struct request request = {
        .header = {.nlmsg_len = sizeof request, .nlmsg_type = type, .nlmsg_flags = NLM_F_REQUEST | flags},
        .body = body,
    };
    return send(netlink, &request, sizeof request, 0) == sizeof request;
}

/* Takes one message of the kernel's; false at the end of the list, or of what there is room for. */
static bool take_message(const struct nlmsghdr *message) {
    if (message->nlmsg_type != SOCK_DIAG_BY_FAMILY || found_count == BATCH)
        return false;
    memcpy(&found[found_count], NLMSG_DATA(message), sizeof *found);
    if (!is_loopback(&found[found_count]))
        found_count++;
    return true;
}

static void look(int netlink, uint8_t family) {
    static char answer[32768] __attribute__((aligned(NLMSG_ALIGNTO)));
    uint32_t states = 1u << TCP_ESTABLISHED | 1u << TCP_SYN_SENT | 1u << TCP_SYN_RECV | 1u << TCP_FIN_WAIT1 |
                      1u << TCP_FIN_WAIT2 | 1u << TCP_CLOSE_WAIT | 1u << TCP_LAST_ACK | 1u << TCP_CLOSING;
    struct inet_diag_req_v2 body = {.sdiag_family = family, .sdiag_protocol = IPPROTO_TCP, .idiag_states = states};
    found_count = 0;
    if (!ask(netlink, SOCK_DIAG_BY_FAMILY, NLM_F_DUMP, body))
        return;
    for (;;) {
        ssize_t got = recv(netlink, answer, sizeof answer, 0);
        if (got <= 0)
            return;
        struct nlmsghdr *message = (struct nlmsghdr *)answer;
        for (; NLMSG_OK(message, (uint32_t)got); message = NLMSG_NEXT(message, got))
            if (!take_message(message))
                return;
    }
}

static int open_diagnosis(void) { return socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG); }

static void end_connections(uint8_t family) {
    for (int looks = 0; looks < LOOKS_MAX; looks++) {
        int netlink = open_diagnosis(); /* a new one each time: the list may not have been read to its end */
        if (netlink < 0) {
            note("connections from before cannot be ended: %s", strerror(errno));
            return;
        }
        look(netlink, family);
        close(netlink);
        if (!found_count)
            return;
        netlink = open_diagnosis();
        for (size_t i = 0; i < found_count; i++)
            ask(netlink, SOCK_DESTROY, 0,
                (struct inet_diag_req_v2){
                    .sdiag_family = family, .sdiag_protocol = IPPROTO_TCP, .id = found[i].id});
        close(netlink);
    }
}

void sever_connections(void) {
    end_connections(AF_INET);
    end_connections(AF_INET6);
}
