/* Random operations on a file system, every one checked against a model in memory.
 *
 *   verify DIRECTORY SEED OPERATIONS [SPOIL]
 *
 * The operations follow from the seed alone: create, write, read, truncate, rename, link, unlink, mkdir, rmdir, readdir, stat,
 * fsync, and now and then the caches of the kernel are dropped. What is read is compared byte by byte, and so are sizes, link
 * counts, lists of names and, for what must not succeed, the error. At the end everything is read once more past the caches.
 * The last line tells the result; its digest depends on the seed and the number of operations and on nothing else, so that
 * two file systems can be compared by it:
 *
 *   verify: seed=1 operations=2000 bytes_written=N bytes_compared=N files=N digest=HEX errors=0
 *
 * DIRECTORY is made and must not exist; it is left as it is at the end. The exit status is 0 if there was no error; the first
 * one is printed and ends the run, because after it the model is worth nothing. With SPOIL a byte of a file is changed behind
 * the model's back after that operation, so that one can see that it is found.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_BYTES_MAX (512 * 1024)
#define WRITE_BYTES_MAX (64 * 1024)
#define FILES_MAX 96
#define NAMES_MAX 160
#define DIRECTORIES_MAX 12
/* How many operations there are, on average, between two drops of the caches. */
#define DROP_EVERY 100

/* What a file must be. */
struct content {
    int links;
    size_t size;
    unsigned char *bytes;
};

/* A name in a directory; the content is FREE when the name is not there. */
struct name {
    int directory, content;
    char text[32];
};

enum { FREE = -1 };
static struct content contents[FILES_MAX];
static struct name names[NAMES_MAX];
/* Whether a directory is there; directory 0 is the one that was given. */
static int has_directory[DIRECTORIES_MAX];
static const char *root;
static uint64_t state, bytes_written, bytes_compared;
static long operation;
static int counter;

static void fail(const char *format, ...)
{
    va_list list;
    va_start(list, format);
    printf("verify: error at operation %ld: ", operation);
    vprintf(format, list);
    printf("\n");
    exit(1);
}

/* xorshift64*: the same numbers everywhere. */
static uint64_t next(void)
{
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    return state * 2685821657736338717ull;
}

static size_t below(size_t limit) { return (size_t)((next() >> 11) % limit); }

static const char *directory_path(int directory)
{
    static char path[512];
    if (directory == 0)
        snprintf(path, sizeof path, "%s", root);
    else
        snprintf(path, sizeof path, "%s/d%d", root, directory);
    return path;
}

static char *path_of(const struct name *name)
{
    static char paths[4][640];
    static int turn;
    char *path = paths[turn = (turn + 1) % 4];
    snprintf(path, sizeof paths[0], "%s/%s", directory_path(name->directory), name->text);
    return path;
}

static struct name *some_name(int is_there)
{
    size_t start = below(NAMES_MAX);
    for (size_t index = 0; index < NAMES_MAX; index++) {
        struct name *name = &names[(start + index) % NAMES_MAX];
        if ((name->content != FREE) == is_there)
            return name;
    }
    return NULL;
}

static int some_directory(void)
{
    int directory;
    do
        directory = (int)below(DIRECTORIES_MAX);
    while (!has_directory[directory]);
    return directory;
}

/* Gives a free name a place and a text that were never used before. */
static void baptize(struct name *name)
{
    name->directory = some_directory();
    snprintf(name->text, sizeof name->text, "f%d-%llx", ++counter, (unsigned long long)(next() & 0xffffff));
}

static void drop(struct name *name)
{
    struct content *content = &contents[name->content];
    name->content = FREE;
    if (--content->links == 0)
        content->size = 0;
}

static void check_stat(const struct name *name)
{
    struct stat status;
    const struct content *content = &contents[name->content];
    if (lstat(path_of(name), &status))
        fail("stat %s: %s", path_of(name), strerror(errno));
    if ((size_t)status.st_size != content->size)
        fail("%s has %lld bytes, not %zu", path_of(name), (long long)status.st_size, content->size);
    if ((int)status.st_nlink != content->links)
        fail("%s has %d links, not %d", path_of(name), (int)status.st_nlink, content->links);
}

static void compare(const struct name *name, size_t offset, size_t length)
{
    static unsigned char bytes[FILE_BYTES_MAX];
    const struct content *content = &contents[name->content];
    int file = open(path_of(name), O_RDONLY);
    if (file < 0)
        fail("open %s: %s", path_of(name), strerror(errno));
    ssize_t got = pread(file, bytes, length, (off_t)offset);
    if (got < 0)
        fail("read %s: %s", path_of(name), strerror(errno));
    size_t expected = offset >= content->size ? 0 : content->size - offset < length ? content->size - offset : length;
    if ((size_t)got != expected)
        fail("read %s at %zu: %zd bytes, not %zu", path_of(name), offset, got, expected);
    for (size_t index = 0; index < expected; index++)
        if (bytes[index] != content->bytes[offset + index])
            fail("%s differs at %zu: %02x, not %02x", path_of(name), offset + index, bytes[index],
                 content->bytes[offset + index]);
    bytes_compared += expected;
    if (close(file))
        fail("close %s: %s", path_of(name), strerror(errno));
}

static void do_create(void)
{
    struct name *name = some_name(0);
    int index = 0;
    while (index < FILES_MAX && contents[index].links > 0)
        index++;
    if (name == NULL || index == FILES_MAX)
        return;
    baptize(name);
    int file = open(path_of(name), O_WRONLY | O_CREAT | O_EXCL, 0644);
    if (file < 0 || close(file))
        fail("create %s: %s", path_of(name), strerror(errno));
    name->content = index;
    contents[index].links = 1;
    contents[index].size = 0;
    if (open(path_of(name), O_WRONLY | O_CREAT | O_EXCL, 0644) >= 0 || errno != EEXIST)
        fail("a second create of %s: %s, not EEXIST", path_of(name), strerror(errno));
}

static void do_write(struct name *name)
{
    struct content *content = &contents[name->content];
    size_t length = 1 + below(WRITE_BYTES_MAX);
    /* Mostly inside or at the end, now and then with a hole before it. */
    size_t offset = below(4) ? below(content->size + 1) : below(FILE_BYTES_MAX);
    if (offset + length > FILE_BYTES_MAX)
        length = FILE_BYTES_MAX - offset;
    if (length == 0)
        return;
    if (offset > content->size)
        memset(content->bytes + content->size, 0, offset - content->size);
    for (size_t index = 0; index < length; index++)
        content->bytes[offset + index] = (unsigned char)(next() >> 24);
    if (offset + length > content->size)
        content->size = offset + length;
    int is_synced = below(4) == 0;
    int file = open(path_of(name), O_WRONLY);
    if (file < 0)
        fail("open %s: %s", path_of(name), strerror(errno));
    if (pwrite(file, content->bytes + offset, length, (off_t)offset) != (ssize_t)length)
        fail("write %s: %s", path_of(name), strerror(errno));
    if ((is_synced && fsync(file)) || close(file))
        fail("%s %s: %s", is_synced ? "fsync" : "close", path_of(name), strerror(errno));
    bytes_written += length;
}

static void do_truncate(struct name *name)
{
    struct content *content = &contents[name->content];
    size_t size = below(2) ? below(content->size + 1) : below(FILE_BYTES_MAX);
    if (truncate(path_of(name), (off_t)size))
        fail("truncate %s: %s", path_of(name), strerror(errno));
    if (size > content->size)
        memset(content->bytes + content->size, 0, size - content->size);
    content->size = size;
}

static void do_rename(struct name *name)
{
    struct name *target = some_name(below(3) == 0);
    if (target == NULL || target == name)
        return;
    int content = name->content;
    if (target->content == FREE)
        baptize(target);
    if (rename(path_of(name), path_of(target)))
        fail("rename %s: %s", path_of(name), strerror(errno));
    /* Two names of one file: rename does nothing (POSIX), and both stay. */
    if (target->content == content)
        return;
    if (access(path_of(name), F_OK) == 0 || errno != ENOENT)
        fail("%s is still there after a rename", path_of(name));
    if (target->content != FREE)
        drop(target);
    target->content = content;
    name->content = FREE;
}

static void do_link(struct name *name)
{
    struct name *target = some_name(0);
    if (target == NULL)
        return;
    baptize(target);
    if (link(path_of(name), path_of(target)))
        fail("link %s: %s", path_of(target), strerror(errno));
    target->content = name->content;
    contents[name->content].links++;
    check_stat(target);
}

static void do_unlink(struct name *name)
{
    if (unlink(path_of(name)))
        fail("unlink %s: %s", path_of(name), strerror(errno));
    if (unlink(path_of(name)) == 0 || errno != ENOENT)
        fail("a second unlink of %s: %s, not ENOENT", path_of(name), strerror(errno));
    drop(name);
}

static void do_directory(void)
{
    int directory = 1 + (int)below(DIRECTORIES_MAX - 1), is_used = 0;
    for (int index = 0; index < NAMES_MAX; index++)
        is_used |= names[index].content != FREE && names[index].directory == directory;
    if (!has_directory[directory]) {
        if (mkdir(directory_path(directory), 0755))
            fail("mkdir d%d: %s", directory, strerror(errno));
        has_directory[directory] = 1;
    } else if (is_used) {
        if (rmdir(directory_path(directory)) == 0 || (errno != ENOTEMPTY && errno != EEXIST))
            fail("rmdir of d%d, which is not empty: %s", directory, strerror(errno));
    } else {
        if (rmdir(directory_path(directory)))
            fail("rmdir d%d: %s", directory, strerror(errno));
        has_directory[directory] = 0;
    }
}

static void check_directory(int directory)
{
    char is_seen[NAMES_MAX] = {0};
    DIR *stream = opendir(directory_path(directory));
    if (stream == NULL)
        fail("opendir d%d: %s", directory, strerror(errno));
    struct dirent *entry;
    while (errno = 0, (entry = readdir(stream)) != NULL) {
        if (entry->d_name[0] == '.' || (directory == 0 && entry->d_name[0] == 'd'))
            continue;
        int index = 0;
        while (index < NAMES_MAX
               && (names[index].content == FREE || names[index].directory != directory
                   || strcmp(names[index].text, entry->d_name) != 0))
            index++;
        if (index == NAMES_MAX || is_seen[index]++)
            fail("d%d lists '%s', %s", directory, entry->d_name, index == NAMES_MAX ? "which is not there" : "twice");
    }
    if (errno)
        fail("readdir d%d: %s", directory, strerror(errno));
    for (int index = 0; index < NAMES_MAX; index++)
        if (names[index].content != FREE && names[index].directory == directory && !is_seen[index])
            fail("d%d does not list '%s'", directory, names[index].text);
    closedir(stream);
}

/* Only root can; for others the caches stay, and the run is worth a little less. */
static void drop_caches(void)
{
    sync();
    int file = open("/proc/sys/vm/drop_caches", O_WRONLY);
    if (file >= 0) {
        if (write(file, "3", 1) != 1)
            fail("drop_caches: %s", strerror(errno));
        close(file);
    }
}

/* Changes the last byte of the largest file. */
static void spoil(void)
{
    const struct name *name = NULL;
    for (int index = 0; index < NAMES_MAX; index++)
        if (names[index].content != FREE
            && (name == NULL || contents[names[index].content].size > contents[name->content].size))
            name = &names[index];
    if (name == NULL || contents[name->content].size == 0)
        fail("there is nothing to spoil yet");
    const struct content *content = &contents[name->content];
    unsigned char byte = content->bytes[content->size - 1] ^ 1;
    int file = open(path_of(name), O_WRONLY);
    if (file < 0 || pwrite(file, &byte, 1, (off_t)content->size - 1) != 1 || close(file))
        fail("spoiling %s: %s", path_of(name), strerror(errno));
}

static void step(void)
{
    if (below(DROP_EVERY) == 0)
        drop_caches();
    size_t kind = below(100);
    struct name *name = some_name(1);
    if (name == NULL || kind < 10)
        do_create();
    else if (kind < 38)
        do_write(name);
    else if (kind < 60)
        compare(name, below(FILE_BYTES_MAX), 1 + below(WRITE_BYTES_MAX));
    else if (kind < 66)
        do_truncate(name);
    else if (kind < 74)
        do_rename(name);
    else if (kind < 79)
        do_link(name);
    else if (kind < 86)
        do_unlink(name);
    else if (kind < 90)
        do_directory();
    else if (kind < 94)
        check_directory(some_directory());
    else if (kind < 97)
        compare(name, 0, FILE_BYTES_MAX);
    else
        check_stat(name);
}

/* Reads everything past the caches; returns FNV-1a of all names and bytes, in the order of the model. */
static uint64_t check_all(int *files)
{
    uint64_t digest = 14695981039346656037ull;
    drop_caches();
    for (int directory = 0; directory < DIRECTORIES_MAX; directory++)
        if (has_directory[directory])
            check_directory(directory);
    for (int index = 0; index < NAMES_MAX; index++) {
        const struct name *name = &names[index];
        if (name->content == FREE)
            continue;
        check_stat(name);
        compare(name, 0, FILE_BYTES_MAX);
        ++*files;
        for (const char *at = name->text; *at; at++)
            digest = (digest ^ (unsigned char)*at) * 1099511628211ull;
        const struct content *content = &contents[name->content];
        for (size_t at = 0; at < content->size; at++)
            digest = (digest ^ content->bytes[at]) * 1099511628211ull;
    }
    return digest;
}

int main(int count, char **arguments)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (count < 4 || count > 5 || atol(arguments[2]) <= 0 || atol(arguments[3]) <= 0) {
        fprintf(stderr, "verify: usage: verify DIRECTORY SEED OPERATIONS [SPOIL]\n");
        return 64;
    }
    root = arguments[1];
    long seed = atol(arguments[2]), operations = atol(arguments[3]), spoiled = count > 4 ? atol(arguments[4]) : 0;
    state = (uint64_t)seed * 0x9e3779b97f4a7c15ull;
    for (int index = 0; index < FILES_MAX; index++)
        contents[index].bytes = malloc(FILE_BYTES_MAX);
    for (int index = 0; index < NAMES_MAX; index++)
        names[index].content = FREE;
    if (mkdir(root, 0755))
        fail("mkdir %s: %s", root, strerror(errno));
    has_directory[0] = 1;
    for (operation = 1; operation <= operations; operation++) {
        step();
        if (operation == spoiled)
            spoil();
    }
    int files = 0;
    uint64_t digest = check_all(&files);
    printf("verify: seed=%ld operations=%ld bytes_written=%llu bytes_compared=%llu files=%d digest=%016llx errors=0\n", seed,
           operations, (unsigned long long)bytes_written, (unsigned long long)bytes_compared, files,
           (unsigned long long)digest);
    return 0;
}
