#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent.h"

struct stream {
    uint32_t id;
    int fd;              /* -1: free slot */
    bool connecting;
    bool host_eof;       /* the host sends no more; shut down once `pending` is written */
    bool app_eof;
    uint32_t credit;     /* bytes that the host will still take */
    uint8_t *pending;    /* what the application has not read yet, at most one window */
    size_t pending_used;
};

static struct stream streams[STREAMS_MAX];
static size_t polled[STREAMS_MAX];
static bool initialised;

static void initialise(void) {
    for (size_t i = 0; i < STREAMS_MAX; i++)
        streams[i].fd = -1;
    initialised = true;
}

static struct stream *find(uint32_t id) {
    for (size_t i = 0; initialised && i < STREAMS_MAX; i++)
        if (streams[i].fd >= 0 && streams[i].id == id)
            return &streams[i];
    return NULL;
}

static void drop(struct stream *stream) {
    close(stream->fd);
    free(stream->pending);
    *stream = (struct stream){.fd = -1};
}

static void finish(struct stream *stream, int error) {
    send_u32(FRAME_CLOSE, stream->id, (uint32_t)error);
    drop(stream);
}

static struct stream *take_slot(void) {
    if (!initialised)
        initialise();
    for (size_t i = 0; i < STREAMS_MAX; i++)
        if (streams[i].fd < 0)
            return &streams[i];
    return NULL;
}

void stream_open(uint32_t id, uint16_t port) {
    struct stream *stream = find(id) ? NULL : take_slot();
    if (!stream) {
        send_u32(FRAME_CLOSE, id, EMFILE);
        return;
    }
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    uint8_t *pending = malloc(STREAM_WINDOW_BYTES);
    if (fd < 0 || !pending) {
        if (fd >= 0)
            close(fd);
        free(pending);
        send_u32(FRAME_CLOSE, id, ENOMEM);
        return;
    }
    *stream = (struct stream){.id = id, .fd = fd, .credit = STREAM_WINDOW_BYTES, .pending = pending};
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) == 0)
        send_frame(FRAME_OPENED, id, NULL, 0);
    else if (errno == EINPROGRESS)
        stream->connecting = true;
    else
        finish(stream, errno);
}

static void write_pending(struct stream *stream) {
    size_t done = 0;
    while (done < stream->pending_used) {
        ssize_t written = send(stream->fd, stream->pending + done, stream->pending_used - done, MSG_NOSIGNAL);
        if (written < 0 && errno == EAGAIN)
            break;
        if (written < 0) {
            finish(stream, errno);
            return;
        }
        done += (size_t)written;
    }
    memmove(stream->pending, stream->pending + done, stream->pending_used - done);
    stream->pending_used -= done;
    if (done)
        send_u32(FRAME_WINDOW, stream->id, (uint32_t)done);
    if (!stream->host_eof || stream->pending_used)
        return;
    if (stream->app_eof)
        finish(stream, 0);
    else
        shutdown(stream->fd, SHUT_WR);
}

void stream_data(uint32_t id, const uint8_t *bytes, size_t length) {
    struct stream *stream = find(id);
    if (!stream)
        return;
    if (length > STREAM_WINDOW_BYTES - stream->pending_used) {
        finish(stream, EPROTO); /* the host overran the window */
        return;
    }
    memcpy(stream->pending + stream->pending_used, bytes, length);
    stream->pending_used += length;
    if (!stream->connecting)
        write_pending(stream);
}

void stream_eof(uint32_t id) {
    struct stream *stream = find(id);
    if (!stream)
        return;
    stream->host_eof = true;
    if (!stream->connecting)
        write_pending(stream);
}

void stream_close(uint32_t id) {
    struct stream *stream = find(id);
    if (stream)
        drop(stream);
}

void stream_window(uint32_t id, uint32_t more) {
    struct stream *stream = find(id);
    if (stream && more <= STREAM_WINDOW_BYTES - stream->credit)
        stream->credit += more;
}

void streams_drop(void) {
    for (size_t i = 0; initialised && i < STREAMS_MAX; i++)
        if (streams[i].fd >= 0)
            drop(&streams[i]);
}

static short wanted_events(const struct stream *stream) {
    if (stream->connecting)
        return POLLOUT;
    short events = stream->pending_used ? POLLOUT : 0;
    if (!stream->app_eof && stream->credit && channel_has_room())
        events |= POLLIN;
    return events;
}

size_t streams_poll(struct pollfd *polls, size_t room) {
    size_t count = 0;
    for (size_t i = 0; initialised && i < STREAMS_MAX && count < room; i++) {
        short events = streams[i].fd < 0 ? 0 : wanted_events(&streams[i]);
        if (!events)
            continue; /* else a closed connection would wake us for ever while the host owes us credit */
        polled[count] = i;
        polls[count++] = (struct pollfd){.fd = streams[i].fd, .events = events};
    }
    return count;
}

static void finish_connect(struct stream *stream) {
    int error = 0;
    socklen_t length = sizeof error;
    getsockopt(stream->fd, SOL_SOCKET, SO_ERROR, &error, &length);
    if (error) {
        finish(stream, error);
        return;
    }
    stream->connecting = false;
    send_frame(FRAME_OPENED, stream->id, NULL, 0);
    write_pending(stream);
}

static void read_app(struct stream *stream) {
    static uint8_t buffer[FRAME_PAYLOAD_MAX];
    if (!stream->credit || !channel_has_room())
        return;
    size_t limit = stream->credit < sizeof buffer ? stream->credit : sizeof buffer;
    ssize_t got = recv(stream->fd, buffer, limit, 0);
    if (got > 0) {
        stream->credit -= (uint32_t)got;
        send_frame(FRAME_DATA, stream->id, buffer, (size_t)got);
    } else if (got == 0) {
        stream->app_eof = true;
        send_frame(FRAME_EOF, stream->id, NULL, 0);
        if (stream->host_eof && !stream->pending_used)
            finish(stream, 0);
    } else if (errno != EAGAIN) {
        finish(stream, errno);
    }
}

void streams_ready(const struct pollfd *polls, size_t count) {
    for (size_t i = 0; i < count; i++) {
        struct stream *stream = &streams[polled[i]];
        if (stream->fd != polls[i].fd || !polls[i].revents)
            continue;
        if (stream->connecting) {
            finish_connect(stream);
            continue;
        }
        if (polls[i].revents & POLLOUT)
            write_pending(stream);
        if (stream->fd >= 0 && polls[i].revents & (POLLIN | POLLHUP | POLLERR))
            read_app(stream);
    }
}
