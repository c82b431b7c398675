/* The Emberbox guest agent: PID 1 in the guest. It boots the guest as far as the application's container needs,
 * runs the application in it, and does what the host says over one virtio-serial port. It trusts the host, but
 * checks every length; it owns nothing that the application could reach. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent.h"

#define FIXED_POLLS (4 + SERVICES_POLLS) /* channel, signals, stdout, stderr */
#define HOSTLESS_POLL_MS 50
#define READS_MAX 32 /* in a round: the kernel hands out one page at a time, but others must have their turn */
#define LAST_OUTPUT_MAX 1048576 /* of an application that has ended: its children may write without end */

static int64_t output_credit; /* bytes of output that the host will still take; last words may overdraw it */
static bool exit_unreported;
static uint32_t exit_code;

static void answer(const char *problem, uint8_t done) {
    if (problem)
        send_frame(FRAME_FAILED, 0, problem, strlen(problem));
    else
        send_frame(done, 0, NULL, 0);
}

/* Returns how many bytes there were. */
static size_t forward_output(int which, size_t limit) {
    static char buffer[FRAME_PAYLOAD_MAX];
    if (app.output[which] < 0 || !limit || !channel_has_room())
        return 0;
    ssize_t got = read(app.output[which], buffer, limit < sizeof buffer ? limit : sizeof buffer);
    if (got > 0) {
        output_credit -= got;
        send_frame(FRAME_OUTPUT, (uint32_t)which + 1, buffer, (size_t)got);
        return (size_t)got;
    }
    if (got == 0) {
        close(app.output[which]);
        app.output[which] = -1;
    }
    return 0;
}

/* The host's window does not count for what is left in the pipes when the application stands still or has ended. */
static void drain_output(void) {
    for (int which = 0; which < 2; which++) {
        size_t left = LAST_OUTPUT_MAX, got;
        while (left && (got = forward_output(which, left))) {
            left -= got;
            channel_flush_blocking();
        }
    }
}

/* In turns: one that always has something to say would leave the other no credit. */
static void forward_ready(const struct pollfd polls[2]) {
    static int first;
    first = !first;
    for (int i = 0; i < 2; i++) {
        int which = i ^ first;
        if (polls[which].fd >= 0 && polls[which].revents)
            forward_output(which, output_credit > 0 ? (size_t)output_credit : 0);
    }
}

static void take_output_credit(uint32_t more) {
    output_credit += more;
    if (output_credit > OUTPUT_WINDOW_BYTES)
        output_credit = OUTPUT_WINDOW_BYTES;
}

static void freeze(bool for_launches) {
    const char *problem = app_freeze(for_launches);
    if (!problem) {
        drain_output();
        streams_drop(); /* the snapshot's readers know nothing of them */
    }
    answer(problem, FRAME_FROZEN);
}

static _Noreturn void power_off(void) {
    kill(-1, SIGKILL);
    end_guest();
}

static void hello(const uint8_t *nonce, size_t length) {
    uint8_t reply[NONCE_BYTES + 4];
    uint32_t version = PROTOCOL_VERSION;
    if (length != NONCE_BYTES)
        return;
    memcpy(reply, nonce, NONCE_BYTES);
    memcpy(reply + NONCE_BYTES, &version, 4);
    output_credit = OUTPUT_WINDOW_BYTES;
    send_frame(FRAME_HELLO, 0, reply, sizeof reply);
    if (exit_unreported)
        send_u32(FRAME_EXITED, 0, exit_code);
}

static uint16_t read_u16(const uint8_t *bytes) { return (uint16_t)(bytes[0] | bytes[1] << 8); }

static void on_frame(const struct frame *frame) {
    uint32_t stream = frame->stream, number = 0;
    const uint8_t *payload = frame->payload;
    size_t length = frame->length;
    if (length == 4)
        memcpy(&number, payload, 4);
    switch (frame->type) {
    case FRAME_HELLO:
        hello(payload, length);
        break;
    case FRAME_START:
        answer(app_start(payload, length), FRAME_STARTED);
        break;
    case FRAME_FREEZE:
        freeze(number == 1);
        break;
    case FRAME_THAW:
        answer(app_thaw(payload, length), FRAME_THAWED);
        break;
    case FRAME_OPEN:
        if (length == 2)
            stream_open(stream, read_u16(payload));
        break;
    case FRAME_EXEC:
        exec_start(stream, payload, length);
        break;
    case FRAME_RESIZE:
        if (length == 4)
            stream_resize(stream, read_u16(payload), read_u16(payload + 2));
        break;
    case FRAME_SIGNAL:
        if (length == 4)
            stream_signal(stream, number);
        break;
    case FRAME_DATA:
        stream_data(stream, payload, length);
        break;
    case FRAME_EOF:
        stream_eof(stream);
        break;
    case FRAME_CLOSE:
        stream_close(stream);
        break;
    case FRAME_WINDOW:
        if (stream)
            stream_window(stream, number);
        else
            take_output_credit(number);
        break;
    case FRAME_LOST:
        channel_lose();
        streams_drop();
        break;
    case FRAME_ANSWER:
        services_answer(stream, payload, length);
        break;
    case FRAME_POWEROFF:
        power_off();
    default:
        note("a frame of unknown type %u is ignored", frame->type);
    }
}

static void serve_host(short events) {
    enum channel_read got = events & (POLLIN | POLLHUP) ? channel_read() : CHANNEL_EMPTY;
    for (int reads = 1; got == CHANNEL_READ; reads++) {
        for (struct frame frame; channel_next(&frame);)
            on_frame(&frame);
        got = reads < READS_MAX ? channel_read() : CHANNEL_EMPTY;
    }
    if (got == CHANNEL_LOST)
        streams_drop();
    channel_flush();
}

static void report_exit(uint32_t code) {
    drain_output();
    exit_code = code;
    exit_unreported = true;
    send_u32(FRAME_EXITED, 0, exit_code);
}

static void reap(int signals) {
    struct signalfd_siginfo information;
    int status;
    (void)!read(signals, &information, sizeof information);
    for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;) {
        uint32_t code = WIFEXITED(status) ? (uint32_t)WEXITSTATUS(status) : 128 + (uint32_t)WTERMSIG(status);
        if (pid == app.pid)
            report_exit(code);
        else
            stream_exited(pid, code);
    }
}

static int watch_children(void) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

static void one_round(int signals) {
    struct pollfd polls[FIXED_POLLS + STREAM_POLLS_MAX];
    bool usable = channel_usable();
    bool has_room = channel_has_room() && usable, read_output = has_room && output_credit > 0, wakes = channel_wakes();
    polls[0] = (struct pollfd){.fd = wakes ? channel_fd() : -1, .events = channel_events()};
    polls[1] = (struct pollfd){.fd = signals, .events = POLLIN};
    for (int which = 0; which < 2; which++)
        polls[2 + which] = (struct pollfd){.fd = read_output ? app.output[which] : -1, .events = POLLIN};
    size_t services = has_room ? services_poll(polls + 4, app.frozen) : 0;
    for (size_t i = services; i < SERVICES_POLLS; i++)
        polls[4 + i] = (struct pollfd){.fd = -1};
    size_t streams = streams_poll(polls + FIXED_POLLS, STREAM_POLLS_MAX);
    poll(polls, FIXED_POLLS + streams, wakes ? -1 : HOSTLESS_POLL_MS);
    if (polls[1].revents)
        reap(signals);
    forward_ready(polls + 2);
    streams_ready(polls + FIXED_POLLS, streams);
    services_ready(polls + 4);
    serve_host(wakes ? polls[0].revents : POLLIN);
}

/* A launch is over when the agent has answered, so it goes before the application that it has just thawed. */
static void go_first(void) {
    struct sched_param priority = {.sched_priority = 1};
    if (sched_setscheduler(0, SCHED_FIFO | SCHED_RESET_ON_FORK, &priority))
        note("no real-time priority: %s", strerror(errno));
}

int main(int count, char **arguments) {
    if (modprobe_is_meant(count, arguments))
        return modprobe_run(arguments[3]);
    int signals = watch_children();
    in_sandbox = count == 2 && strcmp(arguments[1], "sandbox") == 0;
    if (in_sandbox) {
        sandbox_boot();
    } else {
        go_first();
        boot();
    }
    services_open();
    sever_open();
    channel_open();
    for (;;)
        one_round(signals);
}
