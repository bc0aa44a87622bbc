// The transport under a libnfs context.
//
//     libnfs (encodes, decodes, xids)  <-- socket pair -->  relay  <-- TCP -->  server
//
// libnfs 4.0.0 gives calls up when a new connection is refused, so it is never told that a connection was lost. The
// relay keeps the bytes of every call until its reply is whole, and after a loss connects again, from the same local
// port where it can, and sends the same bytes again: the behaviour of a kernel's NFS client on a hard mount.
#ifndef GODWIT_CLIENT_RELAY_H
#define GODWIT_CLIENT_RELAY_H

#include <netinet/in.h>
#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/// Bytes on their way; `start` to `end` of `bytes` are still to go.
typedef struct relay_buffer {
    char *bytes;
    size_t start;
    size_t end;
    size_t capacity;
} relay_buffer;

/// A call that has no reply yet, with its record mark.
typedef struct relay_call {
    struct relay_call *next;
    uint32_t xid;
    size_t length;
    char bytes[];
} relay_call;

typedef enum relay_state { RELAY_DOWN, RELAY_CONNECTING, RELAY_UP } relay_state;

typedef struct relay {
    struct sockaddr_in server;
    /// Local port of the first connection; 0 before it.
    in_port_t local_port;
    relay_state state;
    /// The relay's end of the socket pair, and the TCP socket (-1 when down).
    int inner;
    int outer;
    uint64_t retry_nanoseconds;
    uint64_t progress_nanoseconds;
    uint64_t losses;
    /// Calls without a reply, oldest first, and the first one that is not wholly sent on this connection.
    relay_call *first;
    relay_call *last;
    relay_call *unsent;
    size_t unsent_offset;
    relay_buffer from_inner;
    relay_buffer from_outer;
    relay_buffer to_inner;
} relay;

/// Makes a relay to a server, not connected yet; `inner` is the descriptor for libnfs. False when there are no
/// descriptors left.
bool relay_open(relay *relay, struct sockaddr_in server, int *inner);

/// What to poll for: up to two entries.

int relay_poll_entries(const relay *relay, struct pollfd entries[2]);

/// Does everything that can be done without waiting.
void relay_run(relay *relay);

void relay_close(relay *relay);

#endif
