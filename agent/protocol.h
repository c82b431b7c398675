/* The wire format between the host and this agent. docs/guest-protocol.md explains it; the host's side is
 * src/emberbox/guest/protocol.py. Both must agree; a test compares the numbers. */
#ifndef EMBERBOX_PROTOCOL_H
#define EMBERBOX_PROTOCOL_H

#include <stdint.h>

#define PROTOCOL_VERSION 6
#define FRAME_HEADER_BYTES 12
#define FRAME_PAYLOAD_MAX 65536
#define STREAM_WINDOW_BYTES 262144
#define OUTPUT_WINDOW_BYTES 65536 /* of the application's stdout and stderr together */
#define GUEST_STREAMS_MAX 32
#define NONCE_BYTES 16
#define GUEST_STREAMS 0x80000000u /* streams with smaller ids are the host's to open */

/* Frame: u32 payload length, u8 type, 3 zero bytes, u32 stream, payload. All numbers little-endian. */
enum frame_type {
    /* host to guest */
    FRAME_HELLO = 1,    /* 16-byte nonce; answered with FRAME_HELLO: nonce, u32 version */
    FRAME_START = 2,    /* settings of the application (enum start_field); answered with STARTED or FAILED */
    FRAME_FREEZE = 3,   /* stop the application's processes (u32 1: and look for connections); answered with FROZEN */
    FRAME_THAW = 4,     /* identity (enum thaw_field), then let it run; answered with THAWED */
    FRAME_OPEN = 5,     /* connect `stream` to a port of the guest; payload: u16 port; answered with OPENED or CLOSE */
    FRAME_POWEROFF = 6, /* end the guest */
    FRAME_EXEC = 7,     /* run a command (enum exec_field) as `stream`; answered with OPENED or CLOSE */
    FRAME_RESIZE = 8,   /* the command's terminal: u16 columns, u16 rows */
    FRAME_SIGNAL = 9,   /* u32: to the command's process group */
    FRAME_ANSWER = 10,  /* a datagram of the name server's; stream: the QUERY's */
    FRAME_LOST = 11,    /* the host's end has closed: said by who keeps a channel that cannot show it (agent/keeper.c) */

    /* guest to host */
    FRAME_STARTED = 16,
    FRAME_FAILED = 17,  /* text: why START, FREEZE or THAW could not be done */
    FRAME_FROZEN = 18,
    FRAME_THAWED = 19,
    FRAME_OPENED = 20,  /* of OPEN: u8, which address of the guest took the connection (enum place) */
    FRAME_OUTPUT = 21,  /* stream 1: what the application wrote to stdout; 2: to stderr */
    FRAME_EXITED = 22,  /* u32: exit code of the application's main process, 128 + n after signal n */
    FRAME_EXEC_EXITED = 23, /* the same of a command; after its last output, before its CLOSE */
    FRAME_ACCEPTED = 24, /* somebody in the guest has connected to the service at u16 port (metadata 80, names 53): a new
                          * stream, id >= GUEST_STREAMS */
    FRAME_QUERY = 25,    /* a datagram to the name server; stream: a number for its ANSWER */

    /* both ways */
    FRAME_DATA = 32,
    FRAME_EOF = 33,     /* no more data from this side */
    FRAME_CLOSE = 34,   /* the stream is gone; u32 errno, 0 when it ended well */
    FRAME_WINDOW = 35,  /* u32: so many more bytes may be sent on this stream; stream 0: as OUTPUT */
    FRAME_ERROR_DATA = 36, /* guest to host: DATA of a command's stderr; counts for the same window */
};

/* Where OPEN looks for a listener: in this order, but at its own address first in a sandbox. */
enum place { PLACE_LOOPBACK = 0, PLACE_LOOPBACK6 = 1, PLACE_OWN_ADDRESS = 2 };

/* Fields of START and THAW: u8 field, u32 length, value; in any order, some more than once. */
enum start_field {
    START_ARGUMENT = 1,
    START_ENVIRONMENT = 2,
    START_DIRECTORY = 3,
    START_UID = 4,
    START_GID = 5,
    START_GROUP = 6,
    START_CAPABILITIES = 7, /* u64 bounding set */
    START_PRIVILEGED = 8,   /* u32: 1 leaves /proc and /sys writable, mounts the cgroup tree and loads modules */
    START_HOSTNAME = 9,
    START_RESOLV_CONF = 10,
    START_NOFILE = 11,      /* u64 hard limit of open files */
    START_NAMES = 12,       /* u32: 1 has the agent pass questions to the name server on to the host */
};

enum exec_field {
    EXEC_ARGUMENT = 1,    /* none: a shell, bash where there is one */
    EXEC_ENVIRONMENT = 2, /* beside the application's */
    EXEC_DIRECTORY = 3,   /* the application's when missing */
    EXEC_USER = 4,        /* name or number, ":" and a group may follow; the application's when missing */
    EXEC_TERMINAL = 5,    /* u32: 1 gives it a terminal in place of three pipes */
    EXEC_FILES = 6,       /* u32, enum files_work: not a program, but this with the path that is the argument */
};

/* Root's rights count where EXEC_USER is missing. The exit code is an errno; stderr says what failed. */
enum files_work {
    FILES_PACK = 1,          /* a tar archive of the path comes on stdout */
    FILES_PACK_FOLLOWED = 2, /* the same, of what a link at the path leads to */
    FILES_UNPACK = 3,        /* a tar archive is read from stdin */
};

enum thaw_field {
    THAW_CLOCK = 1,         /* u64 nanoseconds since 1970 */
    THAW_ENTROPY = 2,       /* bytes for the kernel's random number generator */
    THAW_HOSTNAME = 3,
    THAW_MACHINE_ID = 4,
    THAW_NEW_NETWORK = 5,   /* u32: 1 says that connections from before lead nowhere any more */
    THAW_REHEARSAL = 6,     /* u32: 1 leaves the application frozen; all else is done */
    THAW_SPARED = 7,        /* before NEW_NETWORK, connections that go on all the same: the gateway's 4 bytes of
                             * address; then for each u16 the gateway's port, u16 the guest's */
    THAW_NAMES = 8,         /* as START_NAMES; 0 takes that back */
};

#endif
