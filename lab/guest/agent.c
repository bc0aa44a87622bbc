/* The agent of a guest: runs commands that come over TCP from the host, any number at the same time.
 *
 *   agent ADDRESS PORT
 *
 * One connection is one command. Both directions carry frames: a byte that tells the kind, four bytes with the length
 * (big-endian), and as many bytes.
 *
 *   to the guest:    'C' the command, for /bin/sh -c (first, once)   'I' bytes for its standard input, none: its end
 *                    'K' a signal number as one byte, for the command and all its descendants of its session
 *   from the guest:  'O' standard output   'E' standard error   'X' the exit status as one byte (last)
 *
 * A connection that breaks ends its command with SIGKILL. The host reaches the agent over a network of its own, so that
 * what tests do to the network of the clients does not cut the test off.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* The largest frame that is accepted, and the largest that is sent. */
#define FRAME_BYTES_MAX (4u << 20)
#define CHUNK_BYTES 65536

static int read_all(int fd, void *bytes, size_t count)
{
    char *at = bytes;
    while (count > 0) {
        ssize_t got = read(fd, at, count);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return -1;
        at += got;
        count -= (size_t)got;
    }
    return 0;
}

static int write_all(int fd, const void *bytes, size_t count)
{
    const char *at = bytes;
    while (count > 0) {
        ssize_t put = write(fd, at, count);
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0)
            return -1;
        at += put;
        count -= (size_t)put;
    }
    return 0;
}

static int send_frame(int fd, char kind, const void *bytes, uint32_t count)
{
    unsigned char head[5] = {(unsigned char)kind};
    uint32_t length = htonl(count);
    memcpy(head + 1, &length, 4);
    return write_all(fd, head, sizeof head) || write_all(fd, bytes, count) ? -1 : 0;
}

/* Reads a frame; the bytes are the caller's to free, and end with a zero that does not count. */
static char *receive_frame(int fd, char *kind, uint32_t *count)
{
    unsigned char head[5];
    if (read_all(fd, head, sizeof head))
        return NULL;
    memcpy(count, head + 1, 4);
    *count = ntohl(*count);
    *kind = (char)head[0];
    if (*count > FRAME_BYTES_MAX)
        return NULL;
    char *bytes = malloc(*count + 1u);
    if (bytes == NULL || read_all(fd, bytes, *count)) {
        free(bytes);
        return NULL;
    }
    bytes[*count] = 0;
    return bytes;
}

/* Starts the command in a session of its own; pipes[] become its ends on our side: input, output, error. */
static pid_t start(const char *command, int pipes[3])
{
    int in[2], out[2], err[2];
    if (pipe2(in, O_CLOEXEC) || pipe2(out, O_CLOEXEC) || pipe2(err, O_CLOEXEC))
        return -1;
    pid_t child = fork();
    if (child == 0) {
        setsid();
        dup2(in[0], 0);
        dup2(out[1], 1);
        dup2(err[1], 2);
        signal(SIGCHLD, SIG_DFL);
        signal(SIGPIPE, SIG_DFL);
        execl("/bin/sh", "sh", "-c", command, (char *)NULL);
        _exit(127);
    }
    close(in[0]);
    close(out[1]);
    close(err[1]);
    pipes[0] = in[1];
    pipes[1] = out[0];
    pipes[2] = err[0];
    return child;
}

/* Hands on what the host sent; returns -1 when the host is gone. */
static int take_frame(int connection, pid_t child, int *input)
{
    char kind;
    uint32_t count;
    char *bytes = receive_frame(connection, &kind, &count);
    if (bytes == NULL)
        return -1;
    if (kind == 'K' && count == 1) {
        kill(-child, bytes[0]);
    } else if (kind == 'I' && *input >= 0 && (count == 0 || write_all(*input, bytes, count))) {
        close(*input);
        *input = -1;
    }
    free(bytes);
    return 0;
}

/* One connection, from the command to its status. */
static int serve(int connection)
{
    char kind;
    uint32_t count;
    char *command = receive_frame(connection, &kind, &count);
    if (command == NULL || kind != 'C')
        return 1;
    int pipes[3];
    pid_t child = start(command, pipes);
    if (child < 0)
        return 1;
    static char chunk[CHUNK_BYTES];
    int input = pipes[0];
    struct pollfd polled[3] = {{connection, POLLIN, 0}, {pipes[1], POLLIN, 0}, {pipes[2], POLLIN, 0}};
    while (polled[1].fd >= 0 || polled[2].fd >= 0) {
        if (poll(polled, 3, -1) < 0)
            continue;
        if (polled[0].revents && take_frame(connection, child, &input)) {
            kill(-child, SIGKILL);
            return 1;
        }
        for (int index = 1; index < 3; index++) {
            if (!polled[index].revents)
                continue;
            ssize_t got = read(polled[index].fd, chunk, sizeof chunk);
            if (got <= 0) {
                polled[index].fd = -1;
            } else if (send_frame(connection, index == 1 ? 'O' : 'E', chunk, (uint32_t)got)) {
                kill(-child, SIGKILL);
                return 1;
            }
        }
    }
    int status = 0;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        ;
    unsigned char code = (unsigned char)(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
    return send_frame(connection, 'X', &code, 1) ? 1 : 0;
}

int main(int count, char **arguments)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    if (count != 3 || inet_pton(AF_INET, arguments[1], &address.sin_addr) != 1) {
        fprintf(stderr, "agent: usage: agent ADDRESS PORT\n");
        return 64;
    }
    address.sin_port = htons((uint16_t)atoi(arguments[2]));
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), yes = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (listener < 0 || bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 64)) {
        perror("agent: listen");
        return 71;
    }
    signal(SIGPIPE, SIG_IGN);
    /* Children are reaped by the kernel; those that serve a connection wait for their command themselves. */
    signal(SIGCHLD, SIG_IGN);
    for (;;) {
        int connection = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        if (connection < 0)
            continue;
        pid_t server = fork();
        if (server == 0) {
            close(listener);
            signal(SIGCHLD, SIG_DFL);
            setsockopt(connection, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
            _exit(serve(connection));
        }
        close(connection);
    }
}
