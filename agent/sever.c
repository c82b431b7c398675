#include <arpa/inet.h>
#include <errno.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>

#include "agent.h"

/* TCP connections to elsewhere lead nowhere after a launch or resume: the guest has another network, and its peers
 * have gone on. The kernel is told to end them, so that the application notices at once and not after a time-out.
 * A resume that finds its network as it was spares those from the gateway which the gateway has held meanwhile. */

#define BATCH 1024 /* connections that are ended per look */
#define LOOKS_MAX 64

/* The older form of the question (TCPDIAG_GETSOCK) lists both families in one go over the kernel's table. */
struct list_request {
    struct nlmsghdr header;
    struct inet_diag_req body;
};

struct end_request {
    struct nlmsghdr header;
    struct inet_diag_req_v2 body;
};

static struct inet_diag_msg found[BATCH];
static size_t found_count;
static int diagnosis = -1;
static bool looked_ahead;
static const uint8_t *spared;
static size_t spared_bytes;

/* A sandbox's kernel ends them by itself when it is saved. */
void sever_open(void) {
    if (in_sandbox)
        return;
    diagnosis = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
    if (diagnosis < 0)
        note("connections from before a launch cannot be ended: %s", strerror(errno));
}

static bool is_loopback(const struct inet_diag_msg *connection) {
    const uint8_t *peer = (const uint8_t *)connection->id.idiag_dst;
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff}, own[16] = {[15] = 1};
    if (connection->idiag_family == AF_INET)
        return peer[0] == 127;
    return memcmp(peer, own, sizeof own) == 0 || (memcmp(peer, mapped, sizeof mapped) == 0 && peer[12] == 127);
}

void sever_spare(const uint8_t *bytes, size_t length) {
    spared = bytes;
    spared_bytes = length;
}

/* What the gateway has closed, the application may read to its end: it needs no reset to notice. */
static bool is_spared(const struct inet_diag_msg *connection) {
    const uint8_t *peer = (const uint8_t *)connection->id.idiag_dst;
    if (connection->idiag_family == AF_INET6)
        peer += 12; /* an address of the form ::ffff:a.b.c.d; others do not get here from outside */
    if (spared_bytes < 4 || memcmp(peer, spared, 4) != 0)
        return false;
    if (connection->idiag_state == TCP_CLOSE_WAIT)
        return true;
    for (size_t at = 4; at + 4 <= spared_bytes; at += 4)
        if (ntohs(connection->id.idiag_dport) == (spared[at] | spared[at + 1] << 8) &&
            ntohs(connection->id.idiag_sport) == (spared[at + 2] | spared[at + 3] << 8))
            return true;
    return false;
}

/* Takes one message of the kernel's; false when it is the last one. More than there is room for waits for a next look. */
static bool take_message(const struct nlmsghdr *message) {
    if (message->nlmsg_type != TCPDIAG_GETSOCK)
        return false;
    if (found_count < BATCH) {
        memcpy(&found[found_count], NLMSG_DATA(message), sizeof *found);
        if (!is_loopback(&found[found_count]) && !is_spared(&found[found_count]))
            found_count++;
    }
    return true;
}

static void look(void) {
    static char answer[32768] __attribute__((aligned(NLMSG_ALIGNTO)));
    struct list_request request = {
        .header = {.nlmsg_len = sizeof request, .nlmsg_type = TCPDIAG_GETSOCK, .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP},
        .body.idiag_states = 1u << TCP_ESTABLISHED | 1u << TCP_SYN_SENT | 1u << TCP_SYN_RECV | 1u << TCP_FIN_WAIT1 |
                             1u << TCP_FIN_WAIT2 | 1u << TCP_CLOSE_WAIT | 1u << TCP_LAST_ACK | 1u << TCP_CLOSING,
    };
    found_count = 0;
    if (send(diagnosis, &request, sizeof request, 0) != sizeof request)
        return;
    for (;;) {
        ssize_t got = recv(diagnosis, answer, sizeof answer, 0);
        if (got <= 0)
            return;
        struct nlmsghdr *message = (struct nlmsghdr *)answer;
        for (; NLMSG_OK(message, (uint32_t)got); message = NLMSG_NEXT(message, got))
            if (!take_message(message))
                return;
    }
}

static void end_found(void) {
    char refusal[512];
    for (size_t i = 0; i < found_count; i++) {
        struct end_request request = {
            .header = {.nlmsg_len = sizeof request, .nlmsg_type = SOCK_DESTROY, .nlmsg_flags = NLM_F_REQUEST},
            .body = {.sdiag_family = found[i].idiag_family, .sdiag_protocol = IPPROTO_TCP, .id = found[i].id},
        };
        send(diagnosis, &request, sizeof request, 0);
        while (recv(diagnosis, refusal, sizeof refusal, MSG_DONTWAIT) > 0)
            ; /* it has ended meanwhile */
    }
}

/* While the application stands still no connections are added: what is found now need not be looked for later. */
void sever_look_ahead(void) {
    if (diagnosis >= 0) {
        look();
        looked_ahead = found_count < BATCH;
    }
}

static void look_and_end(void) {
    for (int looks = 0; diagnosis >= 0 && looks < LOOKS_MAX; looks++) {
        look();
        if (!found_count)
            return;
        end_found();
    }
}

void sever_connections(void) {
    if (looked_ahead && !spared_bytes)
        end_found();
    else
        look_and_end();
    looked_ahead = false;
    spared_bytes = 0;
}
