#include "Relay.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "ClientKit.h"

static const uint64_t retry_pause_nanoseconds = 2000000ull;
static const uint64_t connect_limit_nanoseconds = 1000000000ull;
/// Without any byte from the server for so long while calls wait, the connection is taken for dead.
static const uint64_t silence_limit_nanoseconds = 15000000000ull;
static const size_t record_bytes_max = 4u << 20;

static void buffer_reserve(relay_buffer *buffer, size_t room) {
    if (buffer->start > 0) {
        memmove(buffer->bytes, buffer->bytes + buffer->start, buffer->end - buffer->start);
        buffer->end -= buffer->start;
        buffer->start = 0;
    }
    if (buffer->capacity - buffer->end < room) {
        buffer->capacity = (buffer->end + room) * 2;
        buffer->bytes = realloc(buffer->bytes, buffer->capacity);
        if (buffer->bytes == NULL) {
            kit_fail("out of memory.");
        }
    }
}

static uint32_t word_at(const char *bytes) {
    uint32_t word;
    memcpy(&word, bytes, sizeof word);
    return ntohl(word);
}

/// Length of the first whole record (RFC 5531 section 11: fragments up to one with the top bit set), 0 if not yet
/// whole.
static size_t whole_record(const relay_buffer *buffer) {
    size_t available = buffer->end - buffer->start;
    size_t length = 0;
    for (;;) {
        if (available < length + 4) {
            return 0;
        }
        uint32_t mark = word_at(buffer->bytes + buffer->start + length);
        length += 4 + (mark & 0x7fffffffu);
        if (length > record_bytes_max) {
            kit_fail("a record of more than %zu bytes arrived; the stream is broken.", record_bytes_max);
        }
        if (available < length) {
            return 0;
        }
        if ((mark & 0x80000000u) != 0) {
            return length;
        }
    }
}

bool relay_open(relay *relay, struct sockaddr_in server, int *inner) {
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) != 0) {
        return false;
    }
    int bytes = 1 << 20;
    for (int side = 0; side < 2; side++) {
        setsockopt(pair[side], SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
    }
    memset(relay, 0, sizeof *relay);
    relay->server = server;
    relay->inner = pair[1];
    relay->outer = -1;
    *inner = pair[0];
    return true;
}

/// Closes the TCP side; every call without a reply will be sent again.
static void lose(relay *relay) {
    if (relay->outer >= 0) {
        // Closing with a reset leaves no TIME_WAIT, so that the local port is free for the next connection.
        struct linger reset = {1, 0};
        setsockopt(relay->outer, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
        close(relay->outer);
    }
    relay->losses += relay->state == RELAY_UP;
    relay->outer = -1;
    relay->state = RELAY_DOWN;
    relay->retry_nanoseconds = kit_now_nanoseconds() + retry_pause_nanoseconds;
    relay->unsent = relay->first;
    relay->unsent_offset = 0;
    relay->from_outer.start = relay->from_outer.end = 0;
}

static void start_connecting(relay *relay) {
    int on = 1;
    relay->outer = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_TCP);
    if (relay->outer < 0) {
        lose(relay);
        return;
    }
    setsockopt(relay->outer, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (relay->local_port != 0) {
        // Servers find a repeated call in their duplicate request cache by the client's address, some with the port.
        struct sockaddr_in local = {.sin_family = AF_INET, .sin_port = relay->local_port};
        setsockopt(relay->outer, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
        if (bind(relay->outer, (struct sockaddr *)&local, sizeof local) != 0) {
            relay->local_port = 0;
        }
    }
    relay->state = RELAY_CONNECTING;
    relay->progress_nanoseconds = kit_now_nanoseconds();
    if (connect(relay->outer, (struct sockaddr *)&relay->server, sizeof relay->server) != 0 && errno != EINPROGRESS) {
        if (errno == EADDRNOTAVAIL) {
            relay->local_port = 0;
        }
        lose(relay);
    }
}

/// Looks whether a connection attempt has come to its end.
static void finish_connecting(relay *relay) {
    struct pollfd entry = {.fd = relay->outer, .events = POLLOUT};
    uint64_t now = kit_now_nanoseconds();
    if (poll(&entry, 1, 0) <= 0) {
        if (now > relay->progress_nanoseconds + connect_limit_nanoseconds) {
            lose(relay);
        }
        return;
    }
    int error = 0;
    socklen_t length = sizeof error;
    struct sockaddr_in local;
    socklen_t local_length = sizeof local;
    if (getsockopt(relay->outer, SOL_SOCKET, SO_ERROR, &error, &length) != 0 || error != 0
        || (entry.revents & (POLLERR | POLLHUP)) != 0) {
        lose(relay);
        return;
    }
    if (getsockname(relay->outer, (struct sockaddr *)&local, &local_length) == 0) {
        relay->local_port = local.sin_port;
    }
    relay->state = RELAY_UP;
    relay->progress_nanoseconds = now;
}

/// Takes the calls that libnfs has written.
static void take_calls(relay *relay) {
    relay_buffer *buffer = &relay->from_inner;
    for (;;) {
        buffer_reserve(buffer, 65536);
        ssize_t count = recv(relay->inner, buffer->bytes + buffer->end, buffer->capacity - buffer->end, 0);
        if (count <= 0) {
            break;
        }
        buffer->end += (size_t)count;
        size_t length;
        while ((length = whole_record(buffer)) != 0) {
            relay_call *call = malloc(sizeof *call + length);
            if (call == NULL) {
                kit_fail("out of memory.");
            }
            memcpy(call->bytes, buffer->bytes + buffer->start, length);
            call->next = NULL;
            call->length = length;
            call->xid = word_at(call->bytes + 4);
            buffer->start += length;
            if (relay->first == NULL) {
                relay->progress_nanoseconds = kit_now_nanoseconds();
                relay->first = call;
            } else {
                relay->last->next = call;
            }
            relay->last = call;
            if (relay->unsent == NULL) {
                relay->unsent = call;
                relay->unsent_offset = 0;
            }
        }
    }
}

static void send_calls(relay *relay) {
    while (relay->state == RELAY_UP && relay->unsent != NULL) {
        relay_call *call = relay->unsent;
        ssize_t count = send(
            relay->outer, call->bytes + relay->unsent_offset, call->length - relay->unsent_offset, MSG_NOSIGNAL);
        if (count < 0) {
            if (errno != EAGAIN && errno != EINTR) {
                lose(relay);
            }
            return;
        }
        relay->unsent_offset += (size_t)count;
        if (relay->unsent_offset == call->length) {
            relay->unsent = call->next;
            relay->unsent_offset = 0;
        }
    }
}

/// Drops the call that a reply answers. False when no call waits for it, or the call is not wholly sent.
static bool settle_call(relay *relay, uint32_t xid) {
    relay_call *previous = NULL;
    for (relay_call *call = relay->first; call != relay->unsent; previous = call, call = call->next) {
        if (call->xid != xid) {
            continue;
        }
        if (previous == NULL) {
            relay->first = call->next;
        } else {
            previous->next = call->next;
        }
        if (relay->last == call) {
            relay->last = previous;
        }
        free(call);
        return true;
    }
    return false;
}

static void take_replies(relay *relay) {
    relay_buffer *buffer = &relay->from_outer;
    while (relay->state == RELAY_UP) {
        buffer_reserve(buffer, 262144);
        ssize_t count = recv(relay->outer, buffer->bytes + buffer->end, buffer->capacity - buffer->end, 0);
        if (count == 0 || (count < 0 && errno != EAGAIN && errno != EINTR)) {
            lose(relay);
            return;
        }
        if (count < 0) {
            return;
        }
        buffer->end += (size_t)count;
        relay->progress_nanoseconds = kit_now_nanoseconds();
        size_t length;
        while ((length = whole_record(buffer)) != 0) {
            if (length >= 8 && settle_call(relay, word_at(buffer->bytes + buffer->start + 4))) {
                buffer_reserve(&relay->to_inner, length);
                memcpy(relay->to_inner.bytes + relay->to_inner.end, buffer->bytes + buffer->start, length);
                relay->to_inner.end += length;
            }
            buffer->start += length;
        }
    }
}

static void deliver_replies(relay *relay) {
    relay_buffer *buffer = &relay->to_inner;
    while (buffer->start < buffer->end) {
        ssize_t count = send(relay->inner, buffer->bytes + buffer->start, buffer->end - buffer->start, MSG_NOSIGNAL);
        if (count <= 0) {
            return;
        }
        buffer->start += (size_t)count;
    }
}

void relay_run(relay *relay) {
    uint64_t now = kit_now_nanoseconds();
    if (relay->state == RELAY_DOWN && now >= relay->retry_nanoseconds) {
        start_connecting(relay);
    }
    if (relay->state == RELAY_CONNECTING) {
        finish_connecting(relay);
    }
    take_calls(relay);
    send_calls(relay);
    take_replies(relay);
    deliver_replies(relay);
    if (relay->state == RELAY_UP && relay->first != NULL
        && kit_now_nanoseconds() > relay->progress_nanoseconds + silence_limit_nanoseconds) {
        lose(relay);
    }
}

int relay_poll_entries(const relay *relay, struct pollfd entries[2]) {
    bool has_replies = relay->to_inner.start < relay->to_inner.end;
    entries[0] = (struct pollfd){.fd = relay->inner, .events = (short)(POLLIN | (has_replies ? POLLOUT : 0))};
    if (relay->state == RELAY_DOWN) {
        return 1;
    }
    bool wants_out = relay->state == RELAY_CONNECTING || relay->unsent != NULL;
    entries[1] = (struct pollfd){.fd = relay->outer, .events = (short)(POLLIN | (wants_out ? POLLOUT : 0))};
    return 2;
}

void relay_close(relay *relay) {
    lose(relay);
    close(relay->inner);
    while (relay->first != NULL) {
        relay_call *next = relay->first->next;
        free(relay->first);
        relay->first = next;
    }
    free(relay->from_inner.bytes);
    free(relay->from_outer.bytes);
    free(relay->to_inner.bytes);
}
