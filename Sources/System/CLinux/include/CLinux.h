// Linux system calls and inline C libraries that Swift cannot call directly: variadic functions,
// macros with side effects, and header-only code. Nothing is decided here.
#ifndef GODWIT_CLINUX_H
#define GODWIT_CLINUX_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/// XXH3 (64 bit) of a byte range; see https://xxhash.com.
uint64_t godwit_xxh3_64(const void *bytes, size_t count);
/// XXH3 (64 bit) with a seed.
uint64_t godwit_xxh3_64_seeded(const void *bytes, size_t count, uint64_t seed);
/// Writes one 32-bit checksum for each `block_size` bytes at `bytes` (`block_count` blocks) to `checksums`.
void godwit_block_checksums(const void *bytes, size_t block_size, size_t block_count, uint32_t *checksums);

/// open(2) without the variadic signature; O_CLOEXEC is added.
int godwit_open(const char *path, int flags, unsigned int mode);
/// preadv2(2) with RWF_NOWAIT for one buffer: -1 and EAGAIN when the range is not in the page cache.
ssize_t godwit_pread_nowait(int descriptor, void *buffer, size_t count, off_t offset);
/// fallocate(2) with FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE.
int godwit_punch_hole(int descriptor, off_t offset, off_t count);
/// sync_file_range(2) with SYNC_FILE_RANGE_WRITE: starts writeback and does not wait.
int godwit_start_writeback(int descriptor, off_t offset, off_t count);
/// Bytes in the send queue of a TCP socket that the peer has not acknowledged yet (ioctl SIOCOUTQ); -1 on error.
int godwit_socket_unacknowledged_bytes(int descriptor);
/// Bytes in the receive queue of a TCP socket that nobody has read yet (ioctl FIONREAD); -1 on error.
int godwit_socket_unread_bytes(int descriptor);
/// recv(2) with MSG_DONTWAIT: -1 and EAGAIN when nothing has arrived.
ssize_t godwit_receive_now(int socket, void *buffer, size_t count);
/// send(2) with MSG_DONTWAIT and MSG_NOSIGNAL: fewer bytes, or -1 and EAGAIN, when the socket is full.
ssize_t godwit_send_now(int socket, const void *buffer, size_t count);
/// flock(2) LOCK_EX | LOCK_NB.
int godwit_lock_exclusively(int descriptor);
/// prctl(PR_SET_NAME) of the calling thread.
void godwit_set_thread_name(const char *name);

/// A socket of NETLINK_ROUTE, bound; -1 on error.
int godwit_netlink_open(void);
/// A socket of NETLINK_SOCK_DIAG, bound; -1 on error.
int godwit_socket_diagnosis_open(void);
/// A socket of AF_PACKET (whole frames) bound to a link, for frames of one EtherType that are in no VLAN on that link; -1 on
/// error.
int godwit_packet_open(int link_index, uint16_t ether_type);
/// Megabits per second of a link (ETHTOOL_GSET); -1 when its driver does not tell.
int godwit_link_speed(const char *name);
/// A socket that sends IPv4 packets with the header that the caller made (IPPROTO_RAW); -1 on error.
int godwit_raw_open(void);
/// sendto(2) of a whole IPv4 packet to an address (bits of the address, first octet highest).
ssize_t godwit_raw_send(int socket, const void *packet, size_t count, uint32_t destination);
/// recv(2) that waits at most some milliseconds: -1 and EAGAIN when nothing has arrived by then.
ssize_t godwit_receive_within(int socket, void *buffer, size_t count, int milliseconds);
/// SO_ATTACH_FILTER with a program that lets nothing through: what arrives at the socket is dropped before TCP sees it.
int godwit_drop_everything(int socket);
/// SO_DETACH_FILTER; no filter is no error.
int godwit_drop_nothing(int socket);
/// TCP_REPAIR on: the socket sends nothing any more, and closing it sends neither FIN nor RST. Needs CAP_NET_ADMIN.
int godwit_silence(int socket);

/// Keeps freed memory for the next large buffer instead of giving it back to the system at once.
void godwit_keep_freed_memory(void);

#endif
