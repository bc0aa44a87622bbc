#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "Tree.h"

static const char help[] =
    "godwit-tree: copies a local tree to an NFSv3 export, or compares the two.\n"
    "\n"
    "  --url nfs://ADDRESS/EXPORT   the export\n"
    "  --port PORT                  TCP port of NFS (default 2049)\n"
    "  --mount-port PORT            TCP port of MOUNT (default: the same)\n"
    "  --source DIRECTORY           the local tree; its own name is not part of what is copied\n"
    "  --directory PATH             where in the export (made when copying), for example etc/share or\n"
    "                               .snapshot/first/share when comparing (default: tree)\n"
    "  --verify                     compare type, mode, size and every byte instead of copying\n"
    "  --exact                      with --verify: directories of the export hold nothing else\n"
    "  --stable                     write FILE_SYNC instead of UNSTABLE with a COMMIT per file\n"
    "  --outstanding COUNT          entries worked on side by side (default 64)\n"
    "  --connections COUNT          TCP connections (default 4)\n"
    "\n"
    "Prints 'tree: files=N directories=N symlinks=N bytes=N skipped=N seconds=S MBps=N mismatches=N', or with\n"
    "--verify 'files_verified=N mismatches=N'. The exit status is 0 only without mismatches.\n";

typedef struct settings {
    kit_target target;
    const char *source;
    const char *directory;
    uint64_t outstanding;
    uint64_t connections;
    bool verifies;
    bool is_exact;
    bool is_stable;
} settings;

static settings parse(int count, char **arguments) {
    enum { URL = 1, PORT, MOUNT_PORT, SOURCE, DIRECTORY, VERIFY, EXACT, STABLE, OUTSTANDING, CONNECTIONS, HELP };
    static const struct option options[] = {
        {"url", required_argument, NULL, URL},
        {"port", required_argument, NULL, PORT},
        {"mount-port", required_argument, NULL, MOUNT_PORT},
        {"source", required_argument, NULL, SOURCE},
        {"directory", required_argument, NULL, DIRECTORY},
        {"verify", no_argument, NULL, VERIFY},
        {"exact", no_argument, NULL, EXACT},
        {"stable", no_argument, NULL, STABLE},
        {"outstanding", required_argument, NULL, OUTSTANDING},
        {"connections", required_argument, NULL, CONNECTIONS},
        {"help", no_argument, NULL, HELP},
        {NULL, 0, NULL, 0},
    };
    settings result = {.directory = "tree", .outstanding = 64, .connections = 4};
    const char *url = NULL;
    uint64_t port = 2049;
    uint64_t mount_port = 0;
    int option;
    while ((option = getopt_long(count, arguments, "", options, NULL)) != -1) {
        switch (option) {
        case URL: url = optarg; break;
        case PORT: port = kit_number("port", optarg, 1, 65535); break;
        case MOUNT_PORT: mount_port = kit_number("mount-port", optarg, 1, 65535); break;
        case SOURCE: result.source = optarg; break;
        case DIRECTORY: result.directory = optarg; break;
        case VERIFY: result.verifies = true; break;
        case EXACT: result.is_exact = true; break;
        case STABLE: result.is_stable = true; break;
        case OUTSTANDING: result.outstanding = kit_number("outstanding", optarg, 1, JOB_COUNT_MAX); break;
        case CONNECTIONS: result.connections = kit_number("connections", optarg, 1, KIT_CONNECTIONS_MAX); break;
        case HELP: fputs(help, stdout); exit(0);
        default: kit_usage("an option that does not exist or lacks its value.");
        }
    }
    if (optind < count || result.source == NULL) {
        kit_usage("--source DIRECTORY is needed, and nothing beside options.");
    }
    result.target = kit_target_parse(url, port, mount_port);
    return result;
}

/// Works on every entry for which `is_chosen` holds, as many side by side as there are jobs.
static void run(
    copier *copier, kit_connection *connections, uint32_t connection_count,
    bool (*is_chosen)(const entry *entry, uint32_t depth), uint32_t depth) {
    size_t next = 0;
    for (;;) {
        for (uint32_t index = 0; index < copier->job_count; index++) {
            job *job = &copier->jobs[index];
            if (job->step != STEP_IDLE) {
                continue;
            }
            while (next < copier->tree.count && !is_chosen(&copier->tree.entries[next], depth)) {
                next++;
            }
            if (next == copier->tree.count) {
                break;
            }
            job_start(job, &copier->tree.entries[next++]);
        }
        if (copier->busy == 0) {
            return;
        }
        kit_pump_all(connections, connection_count, 1000);
    }
}

static bool is_directory_at(const entry *entry, uint32_t depth) {
    return S_ISDIR(entry->mode) && entry->depth == depth && entry->parent >= 0;
}

static bool is_file(const entry *entry, uint32_t depth) {
    return !S_ISDIR(entry->mode);
}

typedef struct answer {
    bool is_done;
    int status;
    kit_handle handle;
} answer;

static void on_mkdir(struct rpc_context *rpc, int rpc_status, void *data, void *context) {
    answer *answer = context;
    answer->is_done = true;
    answer->status = rpc_status == RPC_STATUS_SUCCESS ? (int)*(const nfsstat3 *)data : -1;
}

static void on_lookup(struct rpc_context *rpc, int rpc_status, void *data, void *context) {
    answer *answer = context;
    on_mkdir(rpc, rpc_status, data, context);
    if (answer->status == NFS3_OK) {
        answer->handle = kit_handle_copy(&((const LOOKUP3res *)data)->LOOKUP3res_u.resok.object);
    }
}

/// Walks down `path` from the root of the export, making directories on the way when copying.
static kit_handle enter_path(kit_connection *connection, kit_handle from, const char *path, bool makes) {
    char *copy = strdup(path);
    char *rest = NULL;
    for (char *part = strtok_r(copy, "/", &rest); part != NULL; part = strtok_r(NULL, "/", &rest)) {
        if (makes) {
            answer answer = {0};
            MKDIR3args arguments = {{kit_handle_lend(&from), part}, kit_attributes_with_mode(0755)};
            rpc_nfs3_mkdir_async(connection->rpc, on_mkdir, &arguments, &answer);
            while (!answer.is_done) {
                kit_pump(connection, 100);
            }
        }
        answer answer = {0};
        LOOKUP3args arguments = {{kit_handle_lend(&from), part}};
        rpc_nfs3_lookup_async(connection->rpc, on_lookup, &arguments, &answer);
        while (!answer.is_done) {
            kit_pump(connection, 100);
        }
        if (answer.status != NFS3_OK) {
            kit_fail("LOOKUP of '%s' in the export answered %s.", part, kit_status_name(answer.status));
        }
        from = answer.handle;
    }
    free(copy);
    return from;
}

int main(int count, char **arguments) {
    static copier copier;
    static kit_connection connections[KIT_CONNECTIONS_MAX];
    settings settings = parse(count, arguments);
    signal(SIGPIPE, SIG_IGN);
    char reason[256] = "";
    kit_handle root;
    if (!kit_mount(&settings.target, 60, &root, reason)) {
        kit_fail("%s cannot be mounted from %s: %s", settings.target.export_path, settings.target.address, reason);
    }
    uint32_t connection_count = (uint32_t)settings.connections;
    uint64_t salt = kit_now_nanoseconds() ^ (uint64_t)getpid() << 32;
    uint32_t first_xid = (uint32_t)kit_random(&salt);
    for (uint32_t index = 0; index < connection_count; index++) {
        if (!kit_connect(&connections[index], &settings.target, first_xid + (index << 26), 60, reason)) {
            kit_fail("no connection to %s: %s", settings.target.address, reason);
        }
    }
    tree_walk(&copier.tree, settings.source);
    copier.is_verifying = settings.verifies;
    copier.is_exact = settings.is_exact;
    copier.is_stable = settings.is_stable;
    copier.job_count = (uint32_t)settings.outstanding;
    for (uint32_t index = 0; index < copier.job_count; index++) {
        job *job = &copier.jobs[index];
        job->copier = &copier;
        job->connection = &connections[index % connection_count];
        job->file = -1;
        job->buffer = malloc(TRANSFER_BYTES);
        job->local = malloc(TRANSFER_BYTES);
        if (job->buffer == NULL || job->local == NULL) {
            kit_fail("out of memory.");
        }
    }
    uint64_t started = kit_now_nanoseconds();
    copier.top = enter_path(&connections[0], root, settings.directory, !settings.verifies);
    copier.tree.entries[0].handle = copier.top;
    for (uint32_t depth = 1; depth <= copier.tree.depth_max; depth++) {
        run(&copier, connections, connection_count, is_directory_at, depth);
    }
    run(&copier, connections, connection_count, is_file, 0);
    double seconds = (double)(kit_now_nanoseconds() - started) / 1e9;
    const tally *tally = &copier.tally;
    if (settings.verifies) {
        fprintf(stderr, "tree: bytes=%" PRIu64 " seconds=%.2f\n", tally->bytes, seconds);
        printf("files_verified=%" PRIu64 " mismatches=%" PRIu64 "\n", tally->files + tally->links, tally->mismatches);
    } else {
        printf(
            "tree: files=%" PRIu64 " directories=%" PRIu64 " symlinks=%" PRIu64 " bytes=%" PRIu64 " skipped=%" PRIu64
            " seconds=%.2f MBps=%.1f mismatches=%" PRIu64 "\n",
            tally->files, tally->directories, tally->links, tally->bytes, copier.tree.skipped, seconds,
            (double)tally->bytes / 1e6 / seconds, tally->mismatches);
    }
    for (uint32_t index = 0; index < connection_count; index++) {
        kit_disconnect(&connections[index]);
    }
    return tally->mismatches == 0 ? 0 : 1;
}
