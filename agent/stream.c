#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent.h"

#define COMMANDS_MAX 64
#define LAST_OUTPUT_MAX 1048576 /* of a command that has ended: its children may write without end */

struct stream {
    bool used;
    uint32_t id;         /* 0: a command whose host has gone; what it writes is thrown away */
    int in;              /* takes what the host sends; -1 when closed */
    int out[2];          /* give what the guest sends: the connection, or a command's stdout and stderr */
    bool connecting;
    uint16_t port;       /* that a connection is for */
    uint8_t look;        /* where a listener is being looked for (place_at) */
    int refusal;         /* what the first place said */
    bool host_eof;       /* the host sends no more; shut down once `pending` is written */
    bool app_eof;
    uint32_t credit;     /* bytes that the host will still take */
    uint8_t *pending;    /* what the application has not read yet, at most one window */
    size_t pending_used;
    pid_t pid;           /* of a command; 0 of a connection */
    bool exited, files;
    uint32_t exit_code;
    size_t last_output;  /* what may still be read of a command that has ended */
};

static struct stream streams[STREAMS_MAX];
static struct stream *polled[STREAM_POLLS_MAX];

static struct stream *find(uint32_t id) {
    for (size_t i = 0; id && i < STREAMS_MAX; i++)
        if (streams[i].used && streams[i].id == id)
            return &streams[i];
    return NULL;
}

static bool is_duplex(const struct stream *stream) { return stream->in >= 0 && stream->in == stream->out[0]; }

/* Not of a connection or terminal: it goes both ways. */
static void close_input(struct stream *stream) {
    if (is_duplex(stream))
        return;
    if (stream->in >= 0)
        close(stream->in);
    stream->in = -1;
}

static void close_output(struct stream *stream, int which) {
    bool duplex = which == 0 && is_duplex(stream);
    if (stream->out[which] >= 0)
        close(stream->out[which]);
    stream->out[which] = -1;
    if (duplex)
        stream->in = -1;
}

static void release(struct stream *stream) {
    close_input(stream);
    close_output(stream, 0);
    close_output(stream, 1);
    free(stream->pending);
    *stream = (struct stream){0};
}

static void hang_up(pid_t group, int signal) {
    kill(-group, signal);
    kill(-group, SIGCONT);
}

/* Closing a terminal hangs up by itself, as when it is unplugged; the agent's own work just ends. */
static void drop(struct stream *stream) {
    pid_t group = stream->exited || is_duplex(stream) ? 0 : stream->pid;
    int signal = stream->files ? SIGTERM : SIGHUP;
    release(stream);
    if (group)
        hang_up(group, signal);
}

static void finish(struct stream *stream, int error) {
    send_u32(FRAME_CLOSE, stream->id, (uint32_t)error);
    drop(stream);
}

static struct stream *find_free(void) {
    for (size_t i = 0; i < STREAMS_MAX; i++)
        if (!streams[i].used)
            return &streams[i];
    return NULL;
}

static struct stream *take_slot(uint32_t id) {
    struct stream *stream = id && !find(id) ? find_free() : NULL;
    uint8_t *pending = stream ? malloc(STREAM_WINDOW_BYTES) : NULL;
    if (!pending)
        return NULL;
    *stream = (struct stream){
        .used = true, .id = id, .in = -1, .out = {-1, -1}, .credit = STREAM_WINDOW_BYTES, .pending = pending};
    return stream;
}

/* --- connections from the host to a port */

#define PLACES 3

/* Where the network leads to by itself comes first: a kernel of the guest's own passes on to its loopback what comes from
 * outside, a sandbox's does not. */
static enum place place_at(uint8_t look) {
    static const enum place order[2][PLACES] = {
        {PLACE_LOOPBACK, PLACE_LOOPBACK6, PLACE_OWN_ADDRESS},
        {PLACE_OWN_ADDRESS, PLACE_LOOPBACK, PLACE_LOOPBACK6},
    };
    return order[in_sandbox][look];
}

static int connect_to(enum place place, uint16_t port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct sockaddr_in6 address6 = {.sin6_family = AF_INET6, .sin6_port = htons(port), .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    bool is_6 = place == PLACE_LOOPBACK6;
    int fd = socket(is_6 ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    inet_pton(AF_INET, place == PLACE_OWN_ADDRESS ? GUEST_ADDRESS : "127.0.0.1", &address.sin_addr);
    if (fd < 0)
        return -1;
    int failed = is_6 ? connect(fd, (struct sockaddr *)&address6, sizeof address6)
                      : connect(fd, (struct sockaddr *)&address, sizeof address);
    if (!failed || errno == EINPROGRESS)
        return fd;
    int error = errno;
    close(fd);
    errno = error;
    return -1;
}

/* Looks for a listener at the stream's place and, where there is none, at those that follow. */
static void look_for_listener(struct stream *stream) {
    for (; stream->look < PLACES; stream->look++) {
        int fd = connect_to(place_at(stream->look), stream->port);
        if (fd >= 0) {
            stream->in = stream->out[0] = fd;
            stream->connecting = true;
            return;
        }
        if (!stream->refusal)
            stream->refusal = errno;
    }
    finish(stream, stream->refusal);
}

void stream_open(uint32_t id, uint16_t port) {
    struct stream *stream = take_slot(id);
    if (!stream) {
        send_u32(FRAME_CLOSE, id, EMFILE);
        return;
    }
    stream->port = port;
    look_for_listener(stream);
}

/* --- connections from the guest to the host */

static size_t count_accepted(void) {
    size_t count = 0;
    for (size_t i = 0; i < STREAMS_MAX; i++)
        count += streams[i].used && streams[i].id >= GUEST_STREAMS;
    return count;
}

bool stream_may_accept(void) { return count_accepted() < GUEST_STREAMS_MAX && find_free(); }

void stream_accept(int fd, uint16_t port) {
    static uint32_t next;
    struct stream *stream = take_slot(GUEST_STREAMS + next);
    next = (next + 1) % GUEST_STREAMS;
    if (!stream) {
        close(fd);
        return;
    }
    stream->in = stream->out[0] = fd;
    uint8_t payload[2] = {(uint8_t)port, (uint8_t)(port >> 8)};
    send_frame(FRAME_ACCEPTED, stream->id, payload, sizeof payload);
}

/* --- commands */

static size_t count_commands(struct stream **abandoned) {
    size_t count = 0;
    for (size_t i = 0; i < STREAMS_MAX; i++)
        if (streams[i].used && streams[i].pid) {
            count++;
            if (!streams[i].id)
                *abandoned = &streams[i];
        }
    return count;
}

/* Commands that have outlived their hosts make room for new ones. */
bool stream_reserve(uint32_t id) {
    struct stream *abandoned = NULL;
    if (count_commands(&abandoned) >= COMMANDS_MAX) {
        if (!abandoned)
            return false;
        drop(abandoned);
    }
    return take_slot(id);
}

void stream_attach(uint32_t id, const struct command *command) {
    struct stream *stream = find(id);
    stream->pid = command->pid;
    stream->files = command->files;
    stream->in = command->in;
    stream->out[0] = command->out;
    stream->out[1] = command->err;
    stream->last_output = LAST_OUTPUT_MAX;
    send_frame(FRAME_OPENED, id, NULL, 0);
}

static void finish_command(struct stream *stream) {
    if (!stream->exited || stream->out[0] >= 0 || stream->out[1] >= 0)
        return;
    if (!stream->id) {
        release(stream);
        return;
    }
    send_u32(FRAME_EXEC_EXITED, stream->id, stream->exit_code);
    finish(stream, 0);
}

void stream_resize(uint32_t id, uint16_t columns, uint16_t rows) {
    const struct stream *stream = find(id);
    struct winsize size = {.ws_col = columns, .ws_row = rows};
    if (stream && stream->pid && is_duplex(stream))
        ioctl(stream->in, TIOCSWINSZ, &size);
}

void stream_signal(uint32_t id, uint32_t signal) {
    const struct stream *stream = find(id);
    if (stream && stream->pid && !stream->exited && signal <= 64)
        kill(-stream->pid, (int)signal);
}

/* --- from the host */

/* What nobody will read any more is taken all the same: its writer learns it from the command's end. */
static ssize_t write_some(struct stream *stream, const uint8_t *bytes, size_t length) {
    ssize_t written = stream->in < 0 ? (ssize_t)length : write(stream->in, bytes, length);
    if (written >= 0 || errno == EAGAIN || !stream->pid)
        return written;
    close_input(stream);
    return (ssize_t)length;
}

static void end_input(struct stream *stream) {
    if (stream->pid)
        close_input(stream);
    else if (stream->app_eof)
        finish(stream, 0);
    else
        shutdown(stream->in, SHUT_WR);
}

static void write_pending(struct stream *stream) {
    size_t done = 0;
    while (done < stream->pending_used) {
        ssize_t written = write_some(stream, stream->pending + done, stream->pending_used - done);
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
    if (done && stream->id)
        send_u32(FRAME_WINDOW, stream->id, (uint32_t)done);
    if (stream->host_eof && !stream->pending_used)
        end_input(stream);
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

/* A program without a terminal is told with SIGHUP, and may still write while it ends. */
void stream_close(uint32_t id) {
    struct stream *stream = find(id);
    if (!stream)
        return;
    if (!stream->pid || stream->files || stream->exited || is_duplex(stream)) {
        drop(stream);
        return;
    }
    stream->id = 0;
    close_input(stream);
    hang_up(stream->pid, SIGHUP);
}

void stream_window(uint32_t id, uint32_t more) {
    struct stream *stream = find(id);
    if (stream && more <= STREAM_WINDOW_BYTES - stream->credit)
        stream->credit += more;
}

/* The host has gone, or stops the guest and forgets its streams. Commands go on without it. */
void streams_drop(void) {
    for (size_t i = 0; i < STREAMS_MAX; i++) {
        struct stream *stream = &streams[i];
        if (!stream->used)
            continue;
        stream->id = 0;
        if (!stream->pid || stream->files || stream->exited)
            drop(stream);
    }
}

/* --- from the guest */

static bool may_read(const struct stream *stream) {
    return !stream->id || (!stream->app_eof && stream->credit && channel_has_room());
}

static size_t poll_one(struct stream *stream, struct pollfd *polls) {
    short output = may_read(stream) ? POLLIN : 0, input = stream->pending_used ? POLLOUT : 0;
    size_t count = 0;
    if (stream->connecting)
        output = POLLOUT;
    if (is_duplex(stream))
        output |= input;
    else if (input && stream->in >= 0)
        polls[count++] = (struct pollfd){.fd = stream->in, .events = input};
    /* Without a wish there is no poll: a closed one would wake us for ever while the host owes us credit. */
    if (output && stream->out[0] >= 0)
        polls[count++] = (struct pollfd){.fd = stream->out[0], .events = output};
    if (output && stream->out[1] >= 0)
        polls[count++] = (struct pollfd){.fd = stream->out[1], .events = output};
    return count;
}

size_t streams_poll(struct pollfd *polls, size_t room) {
    size_t count = 0;
    for (size_t i = 0; i < STREAMS_MAX && count + 3 <= room; i++) {
        size_t more = streams[i].used ? poll_one(&streams[i], polls + count) : 0;
        while (more--)
            polled[count++] = &streams[i];
    }
    return count;
}

static void finish_connect(struct stream *stream) {
    int error = 0;
    socklen_t length = sizeof error;
    getsockopt(stream->in, SOL_SOCKET, SO_ERROR, &error, &length);
    stream->connecting = false;
    if (error) {
        if (!stream->refusal)
            stream->refusal = error;
        close_output(stream, 0);
        stream->look++;
        look_for_listener(stream);
        return;
    }
    uint8_t place = (uint8_t)place_at(stream->look);
    send_frame(FRAME_OPENED, stream->id, &place, sizeof place);
    write_pending(stream);
}

static void end_output(struct stream *stream, int which, int error) {
    if (stream->pid) { /* a terminal whose other end is closed says EIO */
        close_output(stream, which);
        finish_command(stream);
    } else if (error) {
        finish(stream, error);
    } else {
        stream->app_eof = true;
        send_frame(FRAME_EOF, stream->id, NULL, 0);
        if (stream->host_eof && !stream->pending_used)
            finish(stream, 0);
    }
}

static void read_app(struct stream *stream, int which) {
    static uint8_t buffer[FRAME_PAYLOAD_MAX];
    if (!may_read(stream))
        return;
    size_t limit = stream->id && stream->credit < sizeof buffer ? stream->credit : sizeof buffer;
    ssize_t got = read(stream->out[which], buffer, limit);
    if (got < 0 && errno == EAGAIN)
        return;
    if (got <= 0) {
        end_output(stream, which, got < 0 ? errno : 0);
        return;
    }
    if (stream->exited)
        stream->last_output -= stream->last_output < (size_t)got ? stream->last_output : (size_t)got;
    if (!stream->id)
        return;
    stream->credit -= (uint32_t)got;
    send_frame(which ? FRAME_ERROR_DATA : FRAME_DATA, stream->id, buffer, (size_t)got);
}

static bool has_more(const struct stream *stream, int which) {
    struct pollfd now = {.fd = stream->out[which], .events = POLLIN};
    return stream->last_output && poll(&now, 1, 0) > 0 && now.revents & POLLIN;
}

/* A command that has ended is over when what it wrote is read: what its children still write does not count. */
static void read_last(struct stream *stream) {
    for (int which = 0; which < 2; which++) {
        while (stream->used && stream->out[which] >= 0 && may_read(stream) && has_more(stream, which))
            read_app(stream, which);
        if (stream->used && stream->out[which] >= 0 && !has_more(stream, which))
            close_output(stream, which);
    }
    if (stream->used)
        finish_command(stream);
}

void stream_exited(pid_t pid, uint32_t code) {
    for (size_t i = 0; i < STREAMS_MAX; i++)
        if (streams[i].used && streams[i].pid == pid) {
            streams[i].exited = true;
            streams[i].exit_code = code;
            read_last(&streams[i]);
            return;
        }
}

static void one_ready(struct stream *stream, const struct pollfd *poll) {
    if (stream->connecting) {
        finish_connect(stream);
        return;
    }
    if (poll->revents & (POLLOUT | POLLERR) && stream->in == poll->fd)
        write_pending(stream);
    if (!(poll->revents & (POLLIN | POLLHUP | POLLERR)))
        return;
    for (int which = 0; which < 2; which++)
        if (stream->used && stream->out[which] == poll->fd)
            read_app(stream, which);
    if (stream->used && stream->exited)
        read_last(stream);
}

void streams_ready(const struct pollfd *polls, size_t count) {
    for (size_t i = 0; i < count; i++) {
        struct stream *stream = polled[i];
        bool ours = stream->in == polls[i].fd || stream->out[0] == polls[i].fd || stream->out[1] == polls[i].fd;
        if (stream->used && ours && polls[i].revents)
            one_ready(stream, &polls[i]);
    }
}
