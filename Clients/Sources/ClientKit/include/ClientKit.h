// What the NFS clients share: where the server is, a connection that outlives the server, file handles as values,
// checksums, time and latency histograms.
#ifndef GODWIT_CLIENT_KIT_H
#define GODWIT_CLIENT_KIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/time.h>

#include <nfsc/libnfs.h>
#include <nfsc/libnfs-raw.h>
#include <nfsc/libnfs-raw-mount.h>
#include <nfsc/libnfs-raw-nfs.h>

#include "Relay.h"

/// Monotonic time in nanoseconds.
uint64_t kit_now_nanoseconds(void);

/// Sleeps for so many microseconds.
void kit_sleep_microseconds(uint64_t microseconds);

/// 64-bit FNV-1a over `length` bytes, continuing from `state` (start with `KIT_CHECKSUM_START`).
#define KIT_CHECKSUM_START 0xcbf29ce484222325ull
uint64_t kit_checksum(uint64_t state, const void *bytes, size_t length);

/// One step of the splitmix64 generator; `state` moves on.
uint64_t kit_random(uint64_t *state);

/// Prints "program: message" on standard error and ends the program with status 2.
void kit_fail(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

/// Prints a usage error with its remedy on standard error and ends the program with status 64.
void kit_usage(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

/// The whole of `text` as a number between `low` and `high`, or the end of the program with a usage error.
uint64_t kit_number(const char *option, const char *text, uint64_t low, uint64_t high);

/// A file handle (RFC 1813 section 2.5: at most 64 bytes) as a value.
typedef struct kit_handle {
    uint32_t length;
    char bytes[64];
} kit_handle;

/// Copies the handle of a reply, which is only lent, into a value.
kit_handle kit_handle_copy(const nfs_fh3 *handle);

/// Lends a handle to a call. The result is valid as long as `handle` is.
static inline nfs_fh3 kit_handle_lend(const kit_handle *handle) {
    nfs_fh3 lent = {{handle->length, (char *)(uintptr_t)handle->bytes}};
    return lent;
}

/// Where an export is: an address, the path for MOUNT, and the two TCP ports.
typedef struct kit_target {
    char address[64];
    char export_path[1024];
    int nfs_port;
    int mount_port;
} kit_target;

/// Takes `nfs://ADDRESS/EXPORT`. `mount_port` 0 means the same port as NFS. Ends the program on a malformed URL.
kit_target kit_target_parse(const char *url, uint64_t nfs_port, uint64_t mount_port);

/// A connection to the NFS program of a target that outlives the server: calls that are not answered yet are sent
/// again, with the same transaction ids, when the TCP connection had to be made anew (see Relay.h).
typedef struct kit_connection {
    struct rpc_context *rpc;
    /// How often the TCP connection was lost. A call during which this grew was, or may have been, sent twice.
    uint64_t losses;
    relay relay;
} kit_connection;

/// Connects to the NFS program, trying for `patience_seconds`. `first_xid` keeps the transaction ids of several
/// connections of one address apart. Returns false, with the reason in `reason`, when nobody answered in time.
bool kit_connect(
    kit_connection *connection, const kit_target *target, uint32_t first_xid, unsigned patience_seconds,
    char reason[256]);

/// Waits at most `timeout_milliseconds` for the connection and does what is due on it, which includes reconnecting.
void kit_pump(kit_connection *connection, int timeout_milliseconds);

/// `kit_pump` for several connections at once, at most `KIT_CONNECTIONS_MAX`.
#define KIT_CONNECTIONS_MAX 64
void kit_pump_all(kit_connection *connections, unsigned count, int timeout_milliseconds);

/// Closes the connection; calls that are not answered are cancelled.
void kit_disconnect(kit_connection *connection);

/// A plain libnfs connection without a relay, for measuring: when it breaks, it is gone.
struct rpc_context *kit_connect_plain(const kit_target *target, unsigned patience_seconds, char reason[256]);

/// The root handle of the export through MOUNT 3, trying for `patience_seconds`.
bool kit_mount(const kit_target *target, unsigned patience_seconds, kit_handle *root, char reason[256]);

/// Name of an NFSv3 status as RFC 1813 writes it.
const char *kit_status_name(int status);

/// A latency histogram with 32 steps for each power of two of nanoseconds: an error below 3.2 percent.
#define KIT_HISTOGRAM_BUCKETS (64 * 32)
typedef struct kit_histogram {
    uint64_t counts[KIT_HISTOGRAM_BUCKETS];
    uint64_t total;
    uint64_t maximum_nanoseconds;
} kit_histogram;

void kit_histogram_add(kit_histogram *histogram, uint64_t nanoseconds);

/// The value below which the fraction `quantile` (0 to 1) of the samples lies, in microseconds.
double kit_histogram_quantile_microseconds(const kit_histogram *histogram, double quantile);

/// Attributes that set a mode and nothing else.
sattr3 kit_attributes_with_mode(uint32_t mode);

#endif
