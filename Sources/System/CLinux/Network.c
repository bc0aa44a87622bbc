#define _GNU_SOURCE
#include "CLinux.h"

#include <errno.h>
#include <linux/ethtool.h>
#include <linux/filter.h>
#include <linux/if_packet.h>
#include <linux/netlink.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

static int open_netlink(int family) {
    int descriptor = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, family);
    if (descriptor < 0) return -1;
    struct sockaddr_nl name = {.nl_family = AF_NETLINK};
    if (bind(descriptor, (struct sockaddr *)&name, sizeof name) == 0) return descriptor;
    int number = errno;
    close(descriptor);
    errno = number;
    return -1;
}

int godwit_netlink_open(void) { return open_netlink(NETLINK_ROUTE); }

int godwit_socket_diagnosis_open(void) { return open_netlink(NETLINK_SOCK_DIAG); }

int godwit_packet_open(int link_index, uint16_t ether_type) {
    int descriptor = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
    if (descriptor < 0) return -1;
    // The kernel takes a tag off a frame, gives the frame to the link of the VLAN, and hands it to the sockets of the link
    // that it came by all the same. One in a VLAN that this host does not have counts as another host's.
    struct sock_filter own[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)(SKF_AD_OFF + SKF_AD_IFINDEX)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)link_index, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)(SKF_AD_OFF + SKF_AD_PKTTYPE)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, PACKET_OTHERHOST, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, UINT32_MAX),
        BPF_STMT(BPF_RET | BPF_K, 0)};
    struct sock_fprog program = {.len = sizeof own / sizeof own[0], .filter = own};
    struct sockaddr_ll name = {
        .sll_family = AF_PACKET, .sll_protocol = htons(ether_type), .sll_ifindex = link_index};
    // Nothing arrives before it is bound.
    if (setsockopt(descriptor, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) == 0
        && bind(descriptor, (struct sockaddr *)&name, sizeof name) == 0)
        return descriptor;
    int number = errno;
    close(descriptor);
    errno = number;
    return -1;
}

int godwit_link_speed(const char *name) {
    int descriptor = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (descriptor < 0) return -1;
    struct ethtool_cmd command = {.cmd = ETHTOOL_GSET};
    struct ifreq request = {.ifr_data = (char *)&command};
    strncpy(request.ifr_name, name, IFNAMSIZ - 1);
    int result = ioctl(descriptor, SIOCETHTOOL, &request);
    close(descriptor);
    if (result != 0) return -1;
    uint32_t speed = ethtool_cmd_speed(&command);
    return speed == 0 || speed == (uint32_t)SPEED_UNKNOWN ? -1 : (int)speed;
}

int godwit_raw_open(void) { return socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW); }

ssize_t godwit_raw_send(int socket, const void *packet, size_t count, uint32_t destination) {
    struct sockaddr_in name = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(destination)};
    return sendto(socket, packet, count, MSG_DONTWAIT | MSG_NOSIGNAL, (struct sockaddr *)&name, sizeof name);
}

ssize_t godwit_receive_within(int socket, void *buffer, size_t count, int milliseconds) {
    struct pollfd wanted = {.fd = socket, .events = POLLIN};
    int ready = poll(&wanted, 1, milliseconds);
    if (ready == 0) errno = EAGAIN;
    if (ready <= 0) return -1;
    return recv(socket, buffer, count, MSG_DONTWAIT);
}

int godwit_drop_everything(int socket) {
    struct sock_filter nothing[] = {BPF_STMT(BPF_RET | BPF_K, 0)};
    struct sock_fprog program = {.len = 1, .filter = nothing};
    return setsockopt(socket, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program);
}

int godwit_drop_nothing(int socket) {
    int ignored = 0;
    int result = setsockopt(socket, SOL_SOCKET, SO_DETACH_FILTER, &ignored, sizeof ignored);
    return result != 0 && errno == ENOENT ? 0 : result;
}

int godwit_silence(int socket) {
    int on = 1;
    return setsockopt(socket, IPPROTO_TCP, TCP_REPAIR, &on, sizeof on);
}
