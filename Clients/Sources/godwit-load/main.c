#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "Load.h"

static const char help[] =
    "godwit-load: measures one NFSv3 operation against a server and prints one line of JSON.\n"
    "\n"
    "  --url nfs://ADDRESS/EXPORT   the export to work in\n"
    "  --port PORT                  TCP port of NFS (default 2049)\n"
    "  --mount-port PORT            TCP port of MOUNT (default: the same)\n"
    "  --prepare                    make the files that the operations need, and end\n"
    "  --operation NAME             getattr, lookup, read4k, write4k-stable, seqread, seqwrite-commit, create-remove,\n"
    "                               readdirplus\n"
    "  --directory NAME             where in the export (default load); create-remove works in NAME/churn\n"
    "  --connections COUNT          TCP connections (default 4, at most one for each outstanding call)\n"
    "  --outstanding COUNT          calls on their way at any moment, over all connections (default 32)\n"
    "  --seconds SECONDS            how long to measure (default 3), after --warmup-milliseconds (default 300)\n"
    "  --server-pid PID             report the CPU time that this process spent per operation\n";

/// User and system time of all threads of a process, in clock ticks; 0 when there is no such process.
static uint64_t process_ticks(uint64_t pid) {
    char path[64];
    char text[1024];
    snprintf(path, sizeof path, "/proc/%" PRIu64 "/stat", pid);
    FILE *file = fopen(path, "r");
    if (file == NULL) {
        kit_fail("%s cannot be read: is the server still running?", path);
    }
    size_t length = fread(text, 1, sizeof text - 1, file);
    fclose(file);
    text[length] = '\0';
    // The name of the command is in parentheses and may hold anything: fields count from the last one.
    const char *cursor = strrchr(text, ')');
    unsigned long long user = 0;
    unsigned long long kernel = 0;
    if (cursor == NULL
        || sscanf(cursor + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu", &user, &kernel) != 2) {
        kit_fail("%s is not as expected.", path);
    }
    return user + kernel;
}

/// A reply that preparation waits for.
typedef struct answer {
    bool is_done;
    bool is_failed;
    int status;
    kit_handle handle;
    uint32_t transfer_bytes;
} answer;

static bool answered(answer *answer, int rpc_status, const void *data) {
    answer->is_done = true;
    answer->is_failed = rpc_status != RPC_STATUS_SUCCESS;
    if (!answer->is_failed) {
        answer->status = (int)*(const nfsstat3 *)data;
    }
    return !answer->is_failed && answer->status == NFS3_OK;
}

static void on_status(struct rpc_context *rpc, int rpc_status, void *data, void *context) {
    answered(context, rpc_status, data);
}

static void on_lookup(struct rpc_context *rpc, int rpc_status, void *data, void *context) {
    answer *answer = context;
    if (answered(answer, rpc_status, data)) {
        answer->handle = kit_handle_copy(&((const LOOKUP3res *)data)->LOOKUP3res_u.resok.object);
    }
}

static void on_fsinfo(struct rpc_context *rpc, int rpc_status, void *data, void *context) {
    answer *answer = context;
    if (answered(answer, rpc_status, data)) {
        const FSINFO3resok *ok = &((const FSINFO3res *)data)->FSINFO3res_u.resok;
        answer->transfer_bytes = ok->rtmax < ok->wtmax ? ok->rtmax : ok->wtmax;
    }
}

static void pump(struct rpc_context *const *contexts, uint32_t count) {
    struct pollfd entries[CONNECTION_COUNT_MAX];
    for (uint32_t index = 0; index < count; index++) {
        entries[index] = (struct pollfd){
            .fd = rpc_get_fd(contexts[index]), .events = (short)rpc_which_events(contexts[index])};
    }
    if (poll(entries, count, 1000) < 0 && errno != EINTR) {
        kit_fail("poll: %s", strerror(errno));
    }
    for (uint32_t index = 0; index < count; index++) {
        if (entries[index].revents != 0 && rpc_service(contexts[index], entries[index].revents) < 0) {
            kit_fail("the connection to the server broke: %s", rpc_get_error(contexts[index]));
        }
    }
}

static void await(struct rpc_context *rpc, answer *answer, const char *what) {
    while (!answer->is_done) {
        pump(&rpc, 1);
    }
    if (answer->is_failed) {
        kit_fail("%s: call failed: %s", what, rpc_get_error(rpc));
    }
}

static bool look_up(struct rpc_context *rpc, const kit_handle *parent, const char *name, kit_handle *handle) {
    answer answer = {0};
    LOOKUP3args arguments = {{kit_handle_lend(parent), (char *)(uintptr_t)name}};
    rpc_nfs3_lookup_async(rpc, on_lookup, &arguments, &answer);
    await(rpc, &answer, name);
    *handle = answer.handle;
    return answer.status == NFS3_OK;
}

static void enter_directory(struct rpc_context *rpc, const kit_handle *parent, const char *name, kit_handle *handle) {
    answer answer = {0};
    MKDIR3args arguments = {{kit_handle_lend(parent), (char *)(uintptr_t)name}, kit_attributes_with_mode(0755)};
    rpc_nfs3_mkdir_async(rpc, on_status, &arguments, &answer);
    await(rpc, &answer, name);
    if ((answer.status != NFS3_OK && answer.status != NFS3ERR_EXIST) || !look_up(rpc, parent, name, handle)) {
        kit_fail("MKDIR %s answered %s; the export must let root write.", name, kit_status_name(answer.status));
    }
}

static void make_file(struct rpc_context *rpc, const kit_handle *parent, const char *name, kit_handle *handle) {
    answer answer = {0};
    CREATE3args arguments = {{kit_handle_lend(parent), (char *)(uintptr_t)name}, {.mode = UNCHECKED}};
    arguments.how.createhow3_u.obj_attributes = kit_attributes_with_mode(0644);
    rpc_nfs3_create_async(rpc, on_status, &arguments, &answer);
    await(rpc, &answer, name);
    if (answer.status != NFS3_OK || !look_up(rpc, parent, name, handle)) {
        kit_fail("CREATE %s answered %s.", name, kit_status_name(answer.status));
    }
}

/// Writes a file from one end to the other, one call after the other, and commits it.
static void fill_file(struct rpc_context *rpc, const load *load, const kit_handle *file, uint64_t bytes) {
    for (uint64_t offset = 0; offset < bytes; offset += load->transfer_bytes) {
        answer answer = {0};
        WRITE3args arguments = {
            .file = kit_handle_lend(file), .offset = offset, .count = load->transfer_bytes, .stable = UNSTABLE,
            .data = {load->transfer_bytes, load->payload}};
        rpc_nfs3_write_async(rpc, on_status, &arguments, &answer);
        await(rpc, &answer, "WRITE");
        if (answer.status != NFS3_OK) {
            kit_fail("WRITE answered %s.", kit_status_name(answer.status));
        }
    }
    answer answer = {0};
    COMMIT3args arguments = {.file = kit_handle_lend(file)};
    rpc_nfs3_commit_async(rpc, on_status, &arguments, &answer);
    await(rpc, &answer, "COMMIT");
    if (answer.status != NFS3_OK) {
        kit_fail("COMMIT answered %s.", kit_status_name(answer.status));
    }
}

static void prepare(struct rpc_context *rpc, load *load) {
    for (uint32_t index = 0; index < NAME_COUNT; index++) {
        make_file(rpc, &load->names_directory, load->names[index], &load->name_handles[index]);
    }
    make_file(rpc, &load->directory, "random", &load->random_file);
    fill_file(rpc, load, &load->random_file, RANDOM_FILE_BYTES);
    for (uint32_t index = 0; index < SEQUENTIAL_FILE_COUNT; index++) {
        char name[24];
        snprintf(name, sizeof name, "sequential-%u", index);
        make_file(rpc, &load->directory, name, &load->sequential_files[index]);
        fill_file(rpc, load, &load->sequential_files[index], SEQUENTIAL_FILE_BYTES);
    }
}

static void find_prepared(struct rpc_context *rpc, load *load) {
    bool is_there = look_up(rpc, &load->directory, "random", &load->random_file);
    for (uint32_t index = 0; index < SEQUENTIAL_FILE_COUNT && is_there; index++) {
        char name[24];
        snprintf(name, sizeof name, "sequential-%u", index);
        is_there = look_up(rpc, &load->directory, name, &load->sequential_files[index]);
    }
    for (uint32_t index = 0; index < NAME_COUNT && is_there; index++) {
        is_there = look_up(rpc, &load->names_directory, load->names[index], &load->name_handles[index]);
    }
    if (!is_there) {
        kit_fail("the files to work on are not there; run once with --prepare.");
    }
}

void load_finish(slot *slot, uint64_t bytes) {
    load *load = slot->load;
    uint64_t now = kit_now_nanoseconds();
    if (load->is_measuring) {
        load->done++;
        load->bytes_done += bytes;
        kit_histogram_add(&load->histogram, now - slot->started_nanoseconds);
    }
    // Create and remove come in pairs: a slot stops only when its file is gone, so that the next run finds none.
    bool is_in_a_pair = load->operation->name[0] == 'c' && slot->position % 2 == 1;
    if (load->is_stopping && !is_in_a_pair) {
        load->outstanding--;
        return;
    }
    slot->started_nanoseconds = now;
    load->operation->issue(slot);
}

typedef struct settings {
    kit_target target;
    const char *operation;
    const char *directory;
    bool prepares;
    uint64_t connections;
    uint64_t outstanding;
    uint64_t seconds;
    uint64_t warmup_milliseconds;
    uint64_t server_pid;
} settings;

static settings parse(int count, char **arguments) {
    enum { URL = 1, PORT, MOUNT_PORT, PREPARE, OPERATION, DIRECTORY, CONNECTIONS, OUTSTANDING, SECONDS, WARMUP, PID,
           HELP };
    static const struct option options[] = {
        {"url", required_argument, NULL, URL},
        {"port", required_argument, NULL, PORT},
        {"mount-port", required_argument, NULL, MOUNT_PORT},
        {"prepare", no_argument, NULL, PREPARE},
        {"operation", required_argument, NULL, OPERATION},
        {"directory", required_argument, NULL, DIRECTORY},
        {"connections", required_argument, NULL, CONNECTIONS},
        {"outstanding", required_argument, NULL, OUTSTANDING},
        {"seconds", required_argument, NULL, SECONDS},
        {"warmup-milliseconds", required_argument, NULL, WARMUP},
        {"server-pid", required_argument, NULL, PID},
        {"help", no_argument, NULL, HELP},
        {NULL, 0, NULL, 0},
    };
    settings result = {
        .directory = "load", .connections = 4, .outstanding = 32, .seconds = 3, .warmup_milliseconds = 300};
    const char *url = NULL;
    uint64_t port = 2049;
    uint64_t mount_port = 0;
    int option;
    while ((option = getopt_long(count, arguments, "", options, NULL)) != -1) {
        switch (option) {
        case URL: url = optarg; break;
        case PORT: port = kit_number("port", optarg, 1, 65535); break;
        case MOUNT_PORT: mount_port = kit_number("mount-port", optarg, 1, 65535); break;
        case PREPARE: result.prepares = true; break;
        case OPERATION: result.operation = optarg; break;
        case DIRECTORY: result.directory = optarg; break;
        case CONNECTIONS: result.connections = kit_number("connections", optarg, 1, CONNECTION_COUNT_MAX); break;
        case OUTSTANDING: result.outstanding = kit_number("outstanding", optarg, 1, SLOT_COUNT_MAX); break;
        case SECONDS: result.seconds = kit_number("seconds", optarg, 1, 3600); break;
        case WARMUP: result.warmup_milliseconds = kit_number("warmup-milliseconds", optarg, 0, 60000); break;
        case PID: result.server_pid = kit_number("server-pid", optarg, 1, 1u << 30); break;
        case HELP: fputs(help, stdout); exit(0);
        default: kit_usage("an option that does not exist or lacks its value.");
        }
    }
    if (optind < count || (!result.prepares && result.operation == NULL)) {
        kit_usage("one of --prepare and --operation NAME is needed, and nothing beside options.");
    }
    result.target = kit_target_parse(url, port, mount_port);
    return result;
}

static void run_for(load *load, struct rpc_context *const *contexts, uint32_t count, uint64_t nanoseconds) {
    uint64_t deadline = kit_now_nanoseconds() + nanoseconds;
    while (kit_now_nanoseconds() < deadline) {
        pump(contexts, count);
    }
}

static void measure(const settings *settings, load *load, struct rpc_context *const *contexts, uint32_t count) {
    for (uint32_t index = 0; index < load->slot_count; index++) {
        slot *slot = &load->slots[index];
        slot->load = load;
        slot->rpc = contexts[index % count];
        slot->index = load->slot_count == 1 ? 0 : index;
        snprintf(slot->name, sizeof slot->name, "churn-%d-%u", (int)getpid(), index);
        slot->started_nanoseconds = kit_now_nanoseconds();
        if (load->operation->unit[0] == 'M' && strcmp(load->operation->name, "seqwrite-commit") == 0) {
            load->operation->issue(slot);
        } else {
            load->outstanding++;
            load->operation->issue(slot);
        }
    }
    run_for(load, contexts, count, settings->warmup_milliseconds * 1000000ull);
    load->bytes_done = 0;
    load->listings = 0;
    load->is_measuring = true;
    uint64_t ticks = settings->server_pid ? process_ticks(settings->server_pid) : 0;
    uint64_t started = kit_now_nanoseconds();
    run_for(load, contexts, count, settings->seconds * 1000000000ull);
    if (strcmp(load->operation->name, "seqwrite-commit") == 0) {
        // Bytes count when they are committed: the measurement ends with a COMMIT.
        uint64_t counted = load->bytes_done;
        while (load->bytes_done == counted) {
            pump(contexts, count);
        }
    }
    double seconds = (double)(kit_now_nanoseconds() - started) / 1e9;
    uint64_t spent = settings->server_pid ? process_ticks(settings->server_pid) - ticks : 0;
    uint64_t done = load->done;
    double amount = load->operation->unit[0] == 'M' ? (double)load->bytes_done / 1e6
        : load->operation->unit[0] == 'e'           ? (double)load->listings
                                                    : (double)done;
    load->is_measuring = false;
    load->is_stopping = true;
    while (load->outstanding > 0) {
        pump(contexts, count);
    }
    printf(
        "{\"operation\": \"%s\", \"outstanding\": %u, \"connections\": %u, \"unit\": \"%s\", "
        "\"value\": %.1f, \"operations\": %" PRIu64 ", \"seconds\": %.3f, \"p50_us\": %.1f, \"p99_us\": %.1f, "
        "\"cpu_us_per_op\": %.2f}\n",
        load->operation->name, load->slot_count, count, load->operation->unit, amount / seconds, done, seconds,
        kit_histogram_quantile_microseconds(&load->histogram, 0.5),
        kit_histogram_quantile_microseconds(&load->histogram, 0.99),
        done ? (double)spent * 1e6 / (double)sysconf(_SC_CLK_TCK) / (double)done : 0.0);
}

int main(int count, char **arguments) {
    static load load;
    settings settings = parse(count, arguments);
    char reason[256] = "";
    kit_handle root;
    if (!kit_mount(&settings.target, 10, &root, reason)) {
        kit_fail("%s cannot be mounted from %s: %s", settings.target.export_path, settings.target.address, reason);
    }
    uint32_t connection_count = (uint32_t)(
        settings.connections < settings.outstanding ? settings.connections : settings.outstanding);
    struct rpc_context *contexts[CONNECTION_COUNT_MAX];
    for (uint32_t index = 0; index < connection_count; index++) {
        contexts[index] = kit_connect_plain(&settings.target, 10, reason);
        if (contexts[index] == NULL) {
            kit_fail("no connection to %s port %d: %s", settings.target.address, settings.target.nfs_port, reason);
        }
        rpc_set_next_xid(contexts[index], (uint32_t)getpid() << 16 ^ index << 27);
    }
    load.random = (uint64_t)getpid();
    load.slot_count = (uint32_t)settings.outstanding;
    load.payload = malloc(TRANSFER_BYTES);
    if (load.payload == NULL) {
        kit_fail("out of memory.");
    }
    uint64_t seed = 1;
    for (size_t offset = 0; offset < TRANSFER_BYTES; offset += 8) {
        uint64_t word = kit_random(&seed);
        memcpy(load.payload + offset, &word, 8);
    }
    for (uint32_t index = 0; index < NAME_COUNT; index++) {
        snprintf(load.names[index], sizeof load.names[index], "name-%04u", index);
    }
    answer answer = {0};
    FSINFO3args information = {kit_handle_lend(&root)};
    rpc_nfs3_fsinfo_async(contexts[0], on_fsinfo, &information, &answer);
    await(contexts[0], &answer, "FSINFO");
    bool is_smaller = answer.transfer_bytes > 0 && answer.transfer_bytes < TRANSFER_BYTES;
    load.transfer_bytes = is_smaller ? answer.transfer_bytes : TRANSFER_BYTES;
    enter_directory(contexts[0], &root, settings.directory, &load.directory);
    enter_directory(contexts[0], &load.directory, "names", &load.names_directory);
    enter_directory(contexts[0], &load.directory, "churn", &load.churn_directory);
    if (settings.prepares) {
        prepare(contexts[0], &load);
        return 0;
    }
    for (const operation *candidate = operations; candidate->name != NULL; candidate++) {
        if (strcmp(candidate->name, settings.operation) == 0) {
            load.operation = candidate;
        }
    }
    if (load.operation == NULL) {
        kit_usage("'%s' is not an operation.", settings.operation);
    }
    find_prepared(contexts[0], &load);
    measure(&settings, &load, contexts, connection_count);
    return 0;
}
