#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "agent.h"

/* Room for one frame more than what makes us stop reading from the application. */
#define OUT_BYTES (4 * (FRAME_PAYLOAD_MAX + FRAME_HEADER_BYTES))

static int port = -1;
static bool connected = true;
static uint8_t in[FRAME_HEADER_BYTES + FRAME_PAYLOAD_MAX];
static size_t in_taken, in_used; /* what was handed out, and what was read */
static uint8_t out[OUT_BYTES];
static size_t out_used;

void channel_open(void) {
    port = in_sandbox ? STDIN_FILENO : open_channel_port();
    if (in_sandbox)
        fcntl(port, F_SETFL, O_NONBLOCK);
}

int channel_fd(void) { return port; }

/* A port without a host behind it reports POLLHUP at once and for ever, so it is then looked at by the clock. */
bool channel_usable(void) { return connected; }

bool channel_wakes(void) { return connected || in_sandbox; }

short channel_events(void) { return POLLIN | (out_used ? POLLOUT : 0); }

bool channel_has_room(void) { return OUT_BYTES - out_used >= FRAME_PAYLOAD_MAX + FRAME_HEADER_BYTES; }

static void flush_out(void) {
    size_t done = 0;
    while (done < out_used) {
        ssize_t written = write(port, out + done, out_used - done);
        if (written <= 0)
            break; /* EAGAIN: the host is slow. Anything else shows as POLLHUP in the next round. */
        done += (size_t)written;
    }
    memmove(out, out + done, out_used - done);
    out_used -= done;
}

void channel_flush_blocking(void) {
    for (int tries = 0; out_used && tries < 100; tries++) {
        struct pollfd wait = {.fd = port, .events = POLLOUT};
        poll(&wait, 1, 100);
        flush_out();
    }
}

void send_frame(uint8_t type, uint32_t stream, const void *payload, size_t length) {
    if (length > FRAME_PAYLOAD_MAX || !connected)
        return;
    if (OUT_BYTES - out_used < FRAME_HEADER_BYTES + length)
        channel_flush_blocking();
    if (OUT_BYTES - out_used < FRAME_HEADER_BYTES + length) {
        note("the host does not read; a frame of type %u is lost", type);
        return;
    }
    uint8_t *at = out + out_used;
    uint32_t length32 = (uint32_t)length;
    memset(at, 0, FRAME_HEADER_BYTES);
    memcpy(at, &length32, 4);
    at[4] = type;
    memcpy(at + 8, &stream, 4);
    if (length)
        memcpy(at + FRAME_HEADER_BYTES, payload, length);
    out_used += FRAME_HEADER_BYTES + length;
}

void send_u32(uint8_t type, uint32_t stream, uint32_t value) { send_frame(type, stream, &value, sizeof value); }

/* Moves what is left of `in` to its front, so that there is room for a whole frame again. */
static bool no_more_frames(void) {
    memmove(in, in + in_taken, in_used - in_taken);
    in_used -= in_taken;
    in_taken = 0;
    return false;
}

bool channel_next(struct frame *frame) {
    const uint8_t *at = in + in_taken;
    uint32_t length;
    if (in_used - in_taken < FRAME_HEADER_BYTES)
        return no_more_frames();
    memcpy(&length, at, 4);
    if (length > FRAME_PAYLOAD_MAX) {
        note("a frame of %u bytes is too long; the channel starts afresh", length);
        in_taken = in_used = 0;
        return false;
    }
    if (in_used - in_taken < FRAME_HEADER_BYTES + length)
        return no_more_frames();
    *frame = (struct frame){.type = at[4], .payload = at + FRAME_HEADER_BYTES, .length = length};
    memcpy(&frame->stream, at + 8, 4);
    in_taken += FRAME_HEADER_BYTES + length;
    return true;
}

/* What has been read is still there to be taken: a sandbox learns it by a frame, and whole frames may follow. */
void channel_lose(void) {
    connected = in_used > in_taken;
    out_used = 0;
}

static enum channel_read nothing_read(bool lost) {
    if (!connected || !lost)
        return CHANNEL_EMPTY;
    if (in_sandbox)
        end_guest(); /* who kept the channel has gone, and nobody can speak to this guest any more */
    connected = false;
    in_used = out_used = 0;
    return CHANNEL_LOST;
}

enum channel_read channel_read(void) {
    ssize_t got = read(port, in + in_used, sizeof in - in_used);
    if (got <= 0) /* the kernel answers 0 when no host is behind the port */
        return nothing_read(got == 0 || (errno != EAGAIN && errno != EINTR));
    connected = true;
    in_used += (size_t)got;
    return CHANNEL_READ;
}

void channel_flush(void) {
    if (connected && out_used)
        flush_out();
}
