/* A guest's network where there is none: the other end of its device, at which everything is refused at once. Else an
 * application would wait for seconds for each address, and for a name the longer.
 *
 * A frame has a header for segmentation offload (virtio's) before that of Ethernet. Questions for a hardware address are
 * answered, whatever the address; packets are answered with an error (ICMP). Nothing is kept of either. */
#include "nowhere.h"

#include <arpa/inet.h>
#include <net/ethernet.h>
#include <net/if_arp.h>
#include <netinet/if_ether.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/ip_icmp.h>
#include <string.h>
#include <sys/socket.h>

#define OFFLOAD_BYTES 10
#define QUOTED_BYTES 8 /* of what follows the header of the packet that is refused (RFC 792) */
#define FRAMES_AT_ONCE 16
#define FRAME_BYTES_MIN 256

static const uint8_t hardware_address[ETH_ALEN] = {0x02, 0xeb, 0, 0, 0, 2}; /* the gateway's in every network */

struct question {
    uint8_t offload[OFFLOAD_BYTES];
    struct ether_header ethernet;
    struct ether_arp arp;
};

struct refused {
    uint8_t offload[OFFLOAD_BYTES];
    struct ether_header ethernet;
    struct iphdr ip;
    uint8_t rest[40 + QUOTED_BYTES]; /* the header's options, and what follows it */
};

struct refusal {
    uint8_t offload[OFFLOAD_BYTES];
    struct ether_header ethernet;
    struct iphdr ip;
    struct icmphdr icmp;
    uint8_t quoted[60 + QUOTED_BYTES];
};

#define STARTS (OFFLOAD_BYTES + ETHER_HDR_LEN)
_Static_assert(offsetof(struct question, arp) == STARTS && offsetof(struct refused, ip) == STARTS, "as it is sent");
_Static_assert(offsetof(struct refusal, ip) == STARTS, "as it is sent");

/* RFC 1071 */
static uint16_t checksum(const void *bytes, size_t length) {
    const uint8_t *each = bytes;
    uint32_t sum = 0;
    for (size_t i = 0; i < length; i++)
        sum += i % 2 ? each[i] : (uint32_t)each[i] << 8;
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return htons((uint16_t)~sum);
}

static void address(struct ether_header *answer, const struct ether_header *asked) {
    memcpy(answer->ether_dhost, asked->ether_shost, ETH_ALEN);
    memcpy(answer->ether_shost, hardware_address, ETH_ALEN);
    answer->ether_type = asked->ether_type;
}

/* Who asks for its own address wants to know whether somebody else has it. */
static size_t tell_address(const struct question *asked, struct question *answer) {
    static const uint8_t none[4];
    const struct ether_arp *arp = &asked->arp;
    if (arp->ea_hdr.ar_op != htons(ARPOP_REQUEST) || memcmp(arp->arp_spa, arp->arp_tpa, 4) == 0 ||
        memcmp(arp->arp_spa, none, 4) == 0)
        return 0;
    *answer = (struct question){.arp.ea_hdr = arp->ea_hdr};
    address(&answer->ethernet, &asked->ethernet);
    answer->arp.ea_hdr.ar_op = htons(ARPOP_REPLY);
    memcpy(answer->arp.arp_sha, hardware_address, ETH_ALEN);
    memcpy(answer->arp.arp_spa, arp->arp_tpa, 4);
    memcpy(answer->arp.arp_tha, arp->arp_sha, ETH_ALEN);
    memcpy(answer->arp.arp_tpa, arp->arp_spa, 4);
    return sizeof *answer;
}

/* No error is answered with an error, nor what was sent to many, nor a later part of a packet (RFC 1122, 3.2.2). */
static bool may_refuse(const struct iphdr *ip, const uint8_t *content) {
    bool is_question = ip->protocol != IPPROTO_ICMP || content[0] == ICMP_ECHO;
    return is_question && !IN_MULTICAST(ntohl(ip->daddr)) && ip->daddr != INADDR_BROADCAST &&
           !(ntohs(ip->frag_off) & IP_OFFMASK);
}

static size_t refuse(const struct refused *sent, size_t length, struct refusal *answer) {
    size_t header = sent->ip.ihl * 4u, quoted = header + QUOTED_BYTES;
    if (header < sizeof sent->ip || length < STARTS + quoted ||
        !may_refuse(&sent->ip, (const uint8_t *)&sent->ip + header))
        return 0;
    size_t total = sizeof answer->ip + sizeof answer->icmp + quoted;
    *answer = (struct refusal){
        .ip = {.version = 4, .ihl = 5, .ttl = 64, .protocol = IPPROTO_ICMP, .saddr = sent->ip.daddr, .daddr = sent->ip.saddr},
        .icmp = {.type = ICMP_DEST_UNREACH, .code = sent->ip.protocol == IPPROTO_UDP ? ICMP_PORT_UNREACH : ICMP_NET_UNREACH},
    };
    address(&answer->ethernet, &sent->ethernet);
    memcpy(answer->quoted, &sent->ip, quoted);
    answer->ip.tot_len = htons((uint16_t)total);
    answer->ip.check = checksum(&answer->ip, sizeof answer->ip);
    answer->icmp.checksum = checksum(&answer->icmp, sizeof answer->icmp + quoted);
    return STARTS + total;
}

static size_t answer_frame(const void *frame, size_t length, struct refusal *answer) {
    const struct question *question = frame;
    if (length >= sizeof *question && question->ethernet.ether_type == htons(ETHERTYPE_ARP))
        return tell_address(question, (struct question *)answer);
    if (length >= offsetof(struct refused, rest) && question->ethernet.ether_type == htons(ETHERTYPE_IP))
        return refuse(frame, length, answer);
    return 0;
}

/* The rest waits for the next time: others have something to say, too. An answer for which there is no room is lost. */
void nowhere_answer(int device) {
    union {
        struct refused sent;
        struct question asked;
        uint8_t bytes[FRAME_BYTES_MIN];
    } frame;
    struct refusal answer;
    for (int frames = 0; frames < FRAMES_AT_ONCE; frames++) {
        ssize_t got = recv(device, &frame, sizeof frame, MSG_DONTWAIT);
        if (got < 0)
            return;
        size_t length = answer_frame(&frame, (size_t)got, &answer);
        if (length)
            (void)!send(device, &answer, length, MSG_DONTWAIT | MSG_NOSIGNAL);
    }
}
