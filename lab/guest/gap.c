/* One reader with one outstanding read, and how long it waited.
 *
 *   gap FILE [REPORT_MS]
 *
 * Reads the first block of FILE past the page cache, again and again. Prints a line for each read that took REPORT_MS (50) or
 * more, with the time of its start, and an error if there is one. A line on standard input ends a stretch:
 *
 *   gap: slow ms=104.2 started=1700000000.123456
 *   gap: longest_ms=104.2 started=1700000000.123456 reads=5123 errors=0
 *
 * The end of standard input ends the program; the exit status is 0 if no read failed.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define BLOCK_BYTES 4096

static double now(clockid_t clock)
{
    struct timespec time;
    clock_gettime(clock, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

/* Whether a line came: 1; nothing: 0; the end: -1. */
static int look_at_input(void)
{
    char bytes[256];
    struct pollfd polled = {0, POLLIN, 0};
    if (poll(&polled, 1, 0) <= 0)
        return 0;
    ssize_t got = read(0, bytes, sizeof bytes);
    return got > 0 ? 1 : -1;
}

int main(int count, char **arguments)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (count < 2 || count > 3) {
        fprintf(stderr, "gap: usage: gap FILE [REPORT_MS]\n");
        return 64;
    }
    double report_ms = count > 2 ? atof(arguments[2]) : 50;
    void *block = NULL;
    int file = open(arguments[1], O_RDONLY | O_DIRECT);
    if (file < 0 || posix_memalign(&block, BLOCK_BYTES, BLOCK_BYTES)) {
        perror("gap: open");
        return 66;
    }
    double longest_ms = 0, longest_started = 0;
    long reads = 0, errors = 0, errors_in_all = 0;
    for (;;) {
        double started = now(CLOCK_REALTIME), from = now(CLOCK_MONOTONIC);
        ssize_t got = pread(file, block, BLOCK_BYTES, 0);
        double took_ms = (now(CLOCK_MONOTONIC) - from) * 1e3;
        reads++;
        if (got != BLOCK_BYTES) {
            printf("gap: error %s\n", got < 0 ? strerror(errno) : "short read");
            errors++;
            errors_in_all++;
            usleep(100000);
        }
        if (took_ms > longest_ms) {
            longest_ms = took_ms;
            longest_started = started;
        }
        if (took_ms >= report_ms)
            printf("gap: slow ms=%.1f started=%.6f\n", took_ms, started);
        int input = look_at_input();
        if (input) {
            printf("gap: longest_ms=%.1f started=%.6f reads=%ld errors=%ld\n", longest_ms, longest_started, reads, errors);
            longest_ms = longest_started = 0;
            reads = errors = 0;
        }
        if (input < 0)
            return errors_in_all ? 1 : 0;
    }
}
