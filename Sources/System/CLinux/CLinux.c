#define _GNU_SOURCE
#include "CLinux.h"

#include <fcntl.h>
#include <linux/sockios.h>
#include <malloc.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

int godwit_open(const char *path, int flags, unsigned int mode) { return open(path, flags | O_CLOEXEC, mode); }

ssize_t godwit_pread_nowait(int descriptor, void *buffer, size_t count, off_t offset) {
    struct iovec vector = {.iov_base = buffer, .iov_len = count};
    return preadv2(descriptor, &vector, 1, offset, RWF_NOWAIT);
}

int godwit_punch_hole(int descriptor, off_t offset, off_t count) {
    return fallocate(descriptor, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, count);
}

int godwit_start_writeback(int descriptor, off_t offset, off_t count) {
    return sync_file_range(descriptor, offset, count, SYNC_FILE_RANGE_WRITE);
}

int godwit_socket_unacknowledged_bytes(int descriptor) {
    int bytes = 0;
    return ioctl(descriptor, SIOCOUTQ, &bytes) == 0 ? bytes : -1;
}

int godwit_socket_unread_bytes(int descriptor) {
    int bytes = 0;
    return ioctl(descriptor, FIONREAD, &bytes) == 0 ? bytes : -1;
}

ssize_t godwit_receive_now(int socket, void *buffer, size_t count) {
    return recv(socket, buffer, count, MSG_DONTWAIT);
}

ssize_t godwit_send_now(int socket, const void *buffer, size_t count) {
    return send(socket, buffer, count, MSG_DONTWAIT | MSG_NOSIGNAL);
}

int godwit_lock_exclusively(int descriptor) { return flock(descriptor, LOCK_EX | LOCK_NB); }

void godwit_set_thread_name(const char *name) { prctl(PR_SET_NAME, name, 0, 0, 0); }

void godwit_keep_freed_memory(void) {
    // Buffers of 1 MiB come and go with every large read and write: mapping and unmapping them costs 256 page faults each.
    mallopt(M_MMAP_THRESHOLD, 64 << 20);
    mallopt(M_TRIM_THRESHOLD, 512 << 20);
    mallopt(M_ARENA_MAX, 4);
}
