#include "ClientKit.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>

extern char *program_invocation_short_name;

uint64_t kit_now_nanoseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000ull + (uint64_t)now.tv_nsec;
}

void kit_sleep_microseconds(uint64_t microseconds) {
    struct timespec pause = {
        .tv_sec = (time_t)(microseconds / 1000000), .tv_nsec = (long)(microseconds % 1000000) * 1000};
    while (nanosleep(&pause, &pause) != 0 && errno == EINTR) {
    }
}

uint64_t kit_checksum(uint64_t state, const void *bytes, size_t length) {
    const unsigned char *cursor = bytes;
    for (size_t index = 0; index < length; index++) {
        state = (state ^ cursor[index]) * 0x100000001b3ull;
    }
    return state;
}

uint64_t kit_random(uint64_t *state) {
    uint64_t mixed = (*state += 0x9e3779b97f4a7c15ull);
    mixed = (mixed ^ (mixed >> 30)) * 0xbf58476d1ce4e5b9ull;
    mixed = (mixed ^ (mixed >> 27)) * 0x94d049bb133111ebull;
    return mixed ^ (mixed >> 31);
}

void kit_fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "%s: ", program_invocation_short_name);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(2);
}

void kit_usage(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "%s: ", program_invocation_short_name);
    vfprintf(stderr, format, arguments);
    fprintf(stderr, "\nTry '%s --help'.\n", program_invocation_short_name);
    va_end(arguments);
    exit(64);
}

uint64_t kit_number(const char *option, const char *text, uint64_t low, uint64_t high) {
    char *end = NULL;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || text[0] == '-' || value < low || value > high) {
        kit_usage(
            "--%s takes a whole number from %llu to %llu, not '%s'.", option, (unsigned long long)low,
            (unsigned long long)high, text);
    }
    return value;
}

kit_handle kit_handle_copy(const nfs_fh3 *handle) {
    kit_handle copy = {0};
    if (handle->data.data_len > sizeof copy.bytes) {
        kit_fail("the server sent a file handle of %u bytes; RFC 1813 allows 64.", handle->data.data_len);
    }
    copy.length = handle->data.data_len;
    memcpy(copy.bytes, handle->data.data_val, copy.length);
    return copy;
}

kit_target kit_target_parse(const char *url, uint64_t nfs_port, uint64_t mount_port) {
    static const char scheme[] = "nfs://";
    kit_target target = {.nfs_port = (int)nfs_port, .mount_port = (int)(mount_port ? mount_port : nfs_port)};
    if (url == NULL || strncmp(url, scheme, sizeof scheme - 1) != 0) {
        kit_usage("--url takes nfs://ADDRESS/EXPORT, not '%s'.", url ? url : "");
    }
    const char *address = url + sizeof scheme - 1;
    const char *path = strchr(address, '/');
    if (path == NULL || path == address || (size_t)(path - address) >= sizeof target.address) {
        kit_usage("--url takes nfs://ADDRESS/EXPORT, not '%s'.", url);
    }
    size_t path_length = strcspn(path, "?");
    if (path_length >= sizeof target.export_path) {
        kit_usage("the export path in --url is longer than %zu bytes.", sizeof target.export_path - 1);
    }
    memcpy(target.address, address, (size_t)(path - address));
    memcpy(target.export_path, path, path_length);
    return target;
}

/// State of a connection attempt or of the MOUNT call, written by the libnfs callback.
typedef struct attempt {
    bool is_done;
    bool is_ok;
    kit_handle root;
    char reason[256];
} attempt;

static void note_connected(struct rpc_context *rpc, int status, void *data, void *context) {
    attempt *state = context;
    state->is_done = true;
    state->is_ok = status == RPC_STATUS_SUCCESS;
    if (!state->is_ok) {
        snprintf(state->reason, sizeof state->reason, "%s", data ? (const char *)data : "connection failed");
    }
}

static void note_mounted(struct rpc_context *rpc, int status, void *data, void *context) {
    attempt *state = context;
    state->is_done = true;
    if (status != RPC_STATUS_SUCCESS) {
        snprintf(state->reason, sizeof state->reason, "MOUNT was not answered");
        return;
    }
    const mountres3 *result = data;
    if (result->fhs_status != MNT3_OK) {
        snprintf(state->reason, sizeof state->reason, "MOUNT refused with status %d", (int)result->fhs_status);
        return;
    }
    const nfs_fh3 lent = {
        {result->mountres3_u.mountinfo.fhandle.fhandle3_len, result->mountres3_u.mountinfo.fhandle.fhandle3_val}};
    state->root = kit_handle_copy(&lent);
    state->is_ok = true;
}

/// Services `rpc` until `state` is done, an error, or five seconds without either.
static void pump_attempt(struct rpc_context *rpc, attempt *state) {
    uint64_t deadline = kit_now_nanoseconds() + 5000000000ull;
    while (!state->is_done) {
        struct pollfd entry = {.fd = rpc_get_fd(rpc), .events = (short)rpc_which_events(rpc)};
        if (poll(&entry, 1, 100) < 0 && errno != EINTR) {
            snprintf(state->reason, sizeof state->reason, "poll: %s", strerror(errno));
            return;
        }
        if (rpc_service(rpc, entry.revents) < 0 && !state->is_done) {
            snprintf(state->reason, sizeof state->reason, "%s", rpc_get_error(rpc));
            return;
        }
        if (kit_now_nanoseconds() > deadline) {
            snprintf(state->reason, sizeof state->reason, "no answer within 5 s");
            return;
        }
    }
}

/// One attempt to reach `program` on `port`. Null when it failed.
static struct rpc_context *connect_once(const kit_target *target, int port, int program, int version, char *reason) {
    struct rpc_context *rpc = rpc_init_context();
    if (rpc == NULL) {
        kit_fail("libnfs could not make a context: out of memory.");
    }
    attempt state = {0};
    if (rpc_connect_port_async(rpc, target->address, port, program, version, note_connected, &state) != 0) {
        snprintf(state.reason, sizeof state.reason, "%s", rpc_get_error(rpc));
    } else {
        pump_attempt(rpc, &state);
    }
    if (state.is_ok) {
        return rpc;
    }
    snprintf(reason, 256, "%s", state.reason);
    rpc_destroy_context(rpc);
    return NULL;
}

/// `connect_once` again and again until the patience is at its end.
static struct rpc_context *connect_patiently(
    const kit_target *target, int port, int program, int version, unsigned patience_seconds, char *reason) {
    uint64_t deadline = kit_now_nanoseconds() + (uint64_t)patience_seconds * 1000000000ull;
    for (;;) {
        struct rpc_context *rpc = connect_once(target, port, program, version, reason);
        if (rpc != NULL || kit_now_nanoseconds() >= deadline) {
            return rpc;
        }
        kit_sleep_microseconds(20000);
    }
}

struct rpc_context *kit_connect_plain(const kit_target *target, unsigned patience_seconds, char reason[256]) {
    return connect_patiently(target, target->nfs_port, NFS_PROGRAM, NFS_V3, patience_seconds, reason);
}

bool kit_connect(
    kit_connection *connection, const kit_target *target, uint32_t first_xid, unsigned patience_seconds,
    char reason[256]) {
    struct sockaddr_in server = {.sin_family = AF_INET, .sin_port = htons((uint16_t)target->nfs_port)};
    int inner = -1;
    memset(connection, 0, sizeof *connection);
    if (inet_pton(AF_INET, target->address, &server.sin_addr) != 1) {
        kit_usage("'%s' is not an IPv4 address.", target->address);
    }
    connection->rpc = rpc_init_context();
    if (connection->rpc == NULL || !relay_open(&connection->relay, server, &inner)) {
        kit_fail("out of memory or descriptors.");
    }
    rpc_set_fd(connection->rpc, inner);
    rpc_set_next_xid(connection->rpc, first_xid);
    // The socket pair is connected from the start; the first service call makes libnfs see that.
    rpc_service(connection->rpc, POLLOUT);
    attempt state = {0};
    rpc_nfs3_null_async(connection->rpc, note_connected, &state);
    uint64_t deadline = kit_now_nanoseconds() + (uint64_t)patience_seconds * 1000000000ull;
    while (!state.is_done) {
        kit_pump(connection, 100);
        if (!state.is_done && kit_now_nanoseconds() > deadline) {
            kit_disconnect(connection);
            snprintf(reason, 256, "nobody answered a NULL call");
            return false;
        }
    }
    snprintf(reason, 256, "%s", state.reason);
    return state.is_ok;
}

/// What is due on one connection: libnfs writes, the relay carries, libnfs reads. True when libnfs got bytes.
static bool serve(kit_connection *connection) {
    bool got_bytes = false;
    int waiting = 0;
    rpc_service(connection->rpc, rpc_which_events(connection->rpc) & POLLOUT);
    relay_run(&connection->relay);
    connection->losses = connection->relay.losses;
    // One service call reads no more than a record mark or a record.
    while (ioctl(rpc_get_fd(connection->rpc), FIONREAD, &waiting) == 0 && waiting > 0) {
        got_bytes = true;
        if (rpc_service(connection->rpc, POLLIN) < 0) {
            kit_fail("libnfs could not read a reply: %s", rpc_get_error(connection->rpc));
        }
    }
    return got_bytes;
}

void kit_pump_all(kit_connection *connections, unsigned count, int timeout_milliseconds) {
    struct pollfd entries[3 * KIT_CONNECTIONS_MAX];
    nfds_t used = 0;
    for (unsigned index = 0; index < count; index++) {
        kit_connection *connection = &connections[index];
        if (serve(connection)) {
            timeout_milliseconds = 0;
        }
        short events = (short)rpc_which_events(connection->rpc);
        entries[used++] = (struct pollfd){.fd = rpc_get_fd(connection->rpc), .events = events};
        used += (nfds_t)relay_poll_entries(&connection->relay, entries + used);
        if (connection->relay.state == RELAY_DOWN && timeout_milliseconds > 2) {
            timeout_milliseconds = 2;
        }
    }
    if (poll(entries, used, timeout_milliseconds) > 0) {
        for (unsigned index = 0; index < count; index++) {
            serve(&connections[index]);
        }
    }
}

void kit_pump(kit_connection *connection, int timeout_milliseconds) {
    kit_pump_all(connection, 1, timeout_milliseconds);
}

void kit_disconnect(kit_connection *connection) {
    if (connection->rpc != NULL) {
        rpc_destroy_context(connection->rpc);
        relay_close(&connection->relay);
        connection->rpc = NULL;
    }
}

bool kit_mount(const kit_target *target, unsigned patience_seconds, kit_handle *root, char reason[256]) {
    struct rpc_context *rpc =
        connect_patiently(target, target->mount_port, MOUNT_PROGRAM, MOUNT_V3, patience_seconds, reason);
    if (rpc == NULL) {
        return false;
    }
    attempt state = {0};
    if (rpc_mount3_mnt_async(rpc, note_mounted, (char *)(uintptr_t)target->export_path, &state) != 0) {
        snprintf(state.reason, sizeof state.reason, "%s", rpc_get_error(rpc));
    } else {
        pump_attempt(rpc, &state);
    }
    *root = state.root;
    snprintf(reason, 256, "%s", state.reason);
    rpc_destroy_context(rpc);
    return state.is_ok;
}

const char *kit_status_name(int status) {
    switch (status) {
    case NFS3_OK: return "NFS3_OK";
    case NFS3ERR_PERM: return "NFS3ERR_PERM";
    case NFS3ERR_NOENT: return "NFS3ERR_NOENT";
    case NFS3ERR_IO: return "NFS3ERR_IO";
    case NFS3ERR_ACCES: return "NFS3ERR_ACCES";
    case NFS3ERR_EXIST: return "NFS3ERR_EXIST";
    case NFS3ERR_NOTDIR: return "NFS3ERR_NOTDIR";
    case NFS3ERR_ISDIR: return "NFS3ERR_ISDIR";
    case NFS3ERR_INVAL: return "NFS3ERR_INVAL";
    case NFS3ERR_NOSPC: return "NFS3ERR_NOSPC";
    case NFS3ERR_ROFS: return "NFS3ERR_ROFS";
    case NFS3ERR_NOTEMPTY: return "NFS3ERR_NOTEMPTY";
    case NFS3ERR_DQUOT: return "NFS3ERR_DQUOT";
    case NFS3ERR_STALE: return "NFS3ERR_STALE";
    case NFS3ERR_BADHANDLE: return "NFS3ERR_BADHANDLE";
    case NFS3ERR_NOTSUPP: return "NFS3ERR_NOTSUPP";
    case NFS3ERR_TOOSMALL: return "NFS3ERR_TOOSMALL";
    case NFS3ERR_SERVERFAULT: return "NFS3ERR_SERVERFAULT";
    case NFS3ERR_JUKEBOX: return "NFS3ERR_JUKEBOX";
    default: return "NFS3ERR_other";
    }
}

static size_t bucket_of(uint64_t nanoseconds) {
    if (nanoseconds < 32) {
        return (size_t)nanoseconds;
    }
    unsigned exponent = 63u - (unsigned)__builtin_clzll(nanoseconds);
    return (size_t)(exponent - 4) * 32 + (size_t)((nanoseconds >> (exponent - 5)) & 31);
}

void kit_histogram_add(kit_histogram *histogram, uint64_t nanoseconds) {
    histogram->counts[bucket_of(nanoseconds)]++;
    histogram->total++;
    if (nanoseconds > histogram->maximum_nanoseconds) {
        histogram->maximum_nanoseconds = nanoseconds;
    }
}

double kit_histogram_quantile_microseconds(const kit_histogram *histogram, double quantile) {
    uint64_t wanted = (uint64_t)((double)histogram->total * quantile);
    uint64_t seen = 0;
    for (size_t bucket = 0; bucket < KIT_HISTOGRAM_BUCKETS; bucket++) {
        seen += histogram->counts[bucket];
        if (seen > wanted) {
            if (bucket < 32) {
                return (double)bucket / 1000.0;
            }
            unsigned exponent = (unsigned)(bucket / 32) + 4;
            double base = (double)(1ull << exponent);
            return base * (1.0 + ((double)(bucket % 32) + 0.5) / 32.0) / 1000.0;
        }
    }
    return (double)histogram->maximum_nanoseconds / 1000.0;
}

sattr3 kit_attributes_with_mode(uint32_t mode) {
    sattr3 attributes = {0};
    attributes.mode.set_it = 1;
    attributes.mode.set_mode3_u.mode = mode;
    return attributes;
}
