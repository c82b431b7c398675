/* What the agent's parts offer each other. Every part is one C file of the same name as its section. Calls go one way:
 * main.c calls the others, and none calls back, directly or through another (tests/unit/test_agent_calls.py). */
#ifndef EMBERBOX_AGENT_H
#define EMBERBOX_AGENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "protocol.h"

struct pollfd;

/* log.c: to the guest's kernel log, which the host keeps while an image is built; of a sandbox, to its standard error. */
extern bool in_sandbox; /* the guest has no kernel of its own: sandbox.c */
void note(const char *format, ...) __attribute__((format(printf, 1, 2)));
_Noreturn void give_up(const char *format, ...) __attribute__((format(printf, 1, 2)));
_Noreturn void end_guest(void);
int write_file(const char *path, const void *bytes, size_t length);

/* boot.c: from the first instruction to a mounted container root and a configured network. */
#define CONTAINER_ROOT "/container"
#define IDENTITY_DIRECTORY "/dev/identity"
#define GUEST_ADDRESS "10.0.2.15"
void boot(void);
int open_channel_port(void);
int bring_up(const char *device);

/* sandbox.c: the same where the guest has no kernel of its own: the agent's only argument is then "sandbox". */
#define SANDBOX_ROOT "/dev/root" /* the application's in a sandbox, where what it writes to files is bounded */
#define SANDBOX_AGENT "/.emberbox-agent" /* where the image has it */
void sandbox_boot(void);

/* modprobe.c: the program that the guest's kernel asks for modules. */
bool modprobe_is_meant(int count, char **arguments);
int modprobe_run(const char *asked);
void modprobe_offer(void);
void modprobe_make_devices(void); /* in the child */

/* fields.c: the TLV fields of START and THAW. */
struct field {
    uint8_t kind;
    uint32_t length;
    const uint8_t *value;
};
bool next_field(const uint8_t **cursor, const uint8_t *end, struct field *field);
bool field_u32(const struct field *field, uint32_t *out);
bool field_u64(const struct field *field, uint64_t *out);
bool copy_text(const struct field *field, char *buffer, size_t size);
char *field_text(const struct field *field);
bool add_text(char **list, size_t *count, size_t max, const struct field *field);

/* container.c: what makes a child a process of the container; the child says what failed, and ends. */
#define ARGUMENTS_MAX 256
#define ENVIRONMENT_MAX 512
#define GROUPS_MAX 64
struct credentials {
    uint32_t uid, gid, groups[GROUPS_MAX];
    size_t group_count;
    uint64_t capabilities, nofile;
};
#define CANNOT_EXECUTE 126 /* these two as shells have it */
#define NO_SUCH_PROGRAM 127
extern int child_words;
_Noreturn void child_fails(const char *what);
void child_become(const struct credentials *credentials, const char *directory, bool make_directory);
void child_execute(char *const *arguments, char **environment);

/* freezer.c: which processes are the application's, and how they are made to stand still. What is returned is a problem. */
bool freezer_open(void);
const char *freezer_add(pid_t pid);
void freezer_delegate(void); /* the controllers, to the application's cgroup */
bool freezer_share(const char *mounted); /* in the child: goes below that cgroup, so that others there get controllers too */
const char *freezer_freeze(void);
const char *freezer_thaw(bool rehearsal);

/* app.c: the application as a container. */
enum { IPC_NAMESPACE, CGROUP_NAMESPACE, MOUNT_NAMESPACE, PID_NAMESPACE, NAMESPACES };
struct app {
    pid_t pid;        /* 0 before START and after its end was reported */
    int output[2];    /* read ends of its stdout and stderr; -1 when closed */
    bool frozen;
    struct credentials credentials;
    char *environment[ENVIRONMENT_MAX + 1];
    char *directory;
    int namespaces[NAMESPACES], root; /* of the container; -1 when it is not there */
};
extern struct app app;
const char *app_start(const uint8_t *payload, size_t length);
const char *app_freeze(bool for_launches);
const char *app_thaw(const uint8_t *payload, size_t length);

/* channel.c: frames over the virtio-serial port, or the socket that a sandbox has as its standard input. Who owns the loop reads, takes frames until there is none, and flushes. */
struct frame {
    uint8_t type;
    uint32_t stream;
    const uint8_t *payload; /* until the next channel_next */
    size_t length;
};
enum channel_read { CHANNEL_EMPTY, CHANNEL_READ, CHANNEL_LOST }; /* LOST, once: the host's end has closed */
void channel_open(void);
int channel_fd(void);
short channel_events(void);
enum channel_read channel_read(void); /* once; after it frames are taken until there is none */
bool channel_next(struct frame *frame);
bool channel_has_room(void);
bool channel_usable(void);
bool channel_wakes(void); /* a poll of it ends when the host says something; else it is looked at by the clock */
void channel_lose(void);
void channel_flush(void);
void channel_flush_blocking(void);
void send_frame(uint8_t type, uint32_t stream, const void *payload, size_t length);
void send_u32(uint8_t type, uint32_t stream, uint32_t value);

/* services.c: what the host answers in the guest: instance metadata, and names. */
#define SERVICES_POLLS 3
void services_open(void);
void services_answer_names(bool here); /* or else the network has a name server */
void services_answer(uint32_t id, const uint8_t *bytes, size_t length);
size_t services_poll(struct pollfd *polls, bool asleep); /* asleep: the application stands still */
void services_ready(const struct pollfd *polls);

/* sever.c: ends TCP connections that cannot have survived. */
void sever_open(void); /* once the modules are loaded */
void sever_look_ahead(void);
void sever_spare(const uint8_t *spared, size_t length); /* as THAW_SPARED has them; for the next call of: */
void sever_connections(void);

/* stream.c: what a stream of the host's leads to: a TCP port in the guest, or a command. */
#define STREAMS_MAX 256
#define STREAM_POLLS_MAX (3 * STREAMS_MAX)
struct command {
    pid_t pid;
    int in, out, err; /* the agent's ends; of a terminal, `in` is `out` and `err` is -1 */
    bool files;       /* the agent's own work, not a program */
};
void stream_open(uint32_t id, uint16_t port);
bool stream_may_accept(void);
void stream_accept(int fd, uint16_t port); /* of the service that was connected to */
bool stream_reserve(uint32_t id); /* before a command is started; then attach or close */
void stream_attach(uint32_t id, const struct command *command);
void stream_exited(pid_t pid, uint32_t code);
void stream_resize(uint32_t id, uint16_t columns, uint16_t rows);
void stream_signal(uint32_t id, uint32_t signal);
void stream_data(uint32_t id, const uint8_t *bytes, size_t length);
void stream_eof(uint32_t id);
void stream_close(uint32_t id);
void stream_window(uint32_t id, uint32_t more);
void streams_drop(void);
size_t streams_poll(struct pollfd *polls, size_t room);
void streams_ready(const struct pollfd *polls, size_t count);

/* exec.c: commands in the application's container. */
void exec_start(uint32_t id, const uint8_t *payload, size_t length);

#endif
