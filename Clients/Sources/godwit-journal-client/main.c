#include <getopt.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "Journal.h"

atomic_bool stop_requested;
uint64_t run_started_nanoseconds;

static const char help[] =
    "godwit-journal-client: changes an NFSv3 export without pause, keeps a journal of what was acknowledged, and\n"
    "checks at the end that all of it is there, once. It stands on libnfs and survives the loss of its connections.\n"
    "\n"
    "  --url nfs://ADDRESS/EXPORT   the export to work in\n"
    "  --port PORT                  TCP port of NFS (default 2049)\n"
    "  --mount-port PORT            TCP port of MOUNT (default: the same)\n"
    "  --journal FILE               journal, appended to; must not exist unless --verify-only\n"
    "  --duration SECONDS           how long; 0, the default: until SIGTERM or SIGINT\n"
    "  --workers COUNT              loops, each with a connection of its own (default 4)\n"
    "  --operations-per-second N    of all workers together (default 0: as fast as the server answers)\n"
    "  --give-up SECONDS            the longest wait for an answer (default 120)\n"
    "  --patience SECONDS           how long to try the first connection (default 60)\n"
    "  --run NUMBER                 number of the directory journal-NUMBER (default: from the clock)\n"
    "  --crash-tolerant             for servers that forget their duplicate request cache in a crash: a call that was sent\n"
    "                               again may honestly answer EXIST or NOENT\n"
    "  --verify-only                only check what the journal of an earlier run says\n"
    "  --outage-report              list every wait above 50 ms\n"
    "\n"
    "The last line is 'journal: outage_ms=N acknowledged_writes=N operations=N lost=N repeated=N stale_handles=N\n"
    "mismatches=N'; the exit status is 0 only when the last four are zero.\n";

enum { OPTION_URL = 1, OPTION_PORT, OPTION_MOUNT_PORT, OPTION_JOURNAL, OPTION_DURATION, OPTION_WORKERS, OPTION_RATE,
       OPTION_GIVE_UP, OPTION_PATIENCE, OPTION_RUN, OPTION_CRASH, OPTION_VERIFY, OPTION_OUTAGE, OPTION_HELP };

static const struct option options[] = {
    {"url", required_argument, NULL, OPTION_URL},
    {"port", required_argument, NULL, OPTION_PORT},
    {"mount-port", required_argument, NULL, OPTION_MOUNT_PORT},
    {"journal", required_argument, NULL, OPTION_JOURNAL},
    {"duration", required_argument, NULL, OPTION_DURATION},
    {"workers", required_argument, NULL, OPTION_WORKERS},
    {"operations-per-second", required_argument, NULL, OPTION_RATE},
    {"give-up", required_argument, NULL, OPTION_GIVE_UP},
    {"patience", required_argument, NULL, OPTION_PATIENCE},
    {"run", required_argument, NULL, OPTION_RUN},
    {"crash-tolerant", no_argument, NULL, OPTION_CRASH},
    {"verify-only", no_argument, NULL, OPTION_VERIFY},
    {"outage-report", no_argument, NULL, OPTION_OUTAGE},
    {"help", no_argument, NULL, OPTION_HELP},
    {NULL, 0, NULL, 0},
};

static settings parse(int count, char **arguments) {
    settings result = {.worker_count = 4, .give_up_seconds = 120, .patience_seconds = 60};
    const char *url = NULL;
    uint64_t port = 2049;
    uint64_t mount_port = 0;
    int option;
    while ((option = getopt_long(count, arguments, "", options, NULL)) != -1) {
        switch (option) {
        case OPTION_URL: url = optarg; break;
        case OPTION_PORT: port = kit_number("port", optarg, 1, 65535); break;
        case OPTION_MOUNT_PORT: mount_port = kit_number("mount-port", optarg, 1, 65535); break;
        case OPTION_JOURNAL: result.journal_path = optarg; break;
        case OPTION_DURATION: result.duration_seconds = kit_number("duration", optarg, 0, 1000000); break;
        case OPTION_WORKERS: result.worker_count = kit_number("workers", optarg, 1, WORKER_COUNT_MAX); break;
        case OPTION_RATE:
            result.operations_per_second = kit_number("operations-per-second", optarg, 0, 10000000);
            break;
        case OPTION_GIVE_UP: result.give_up_seconds = kit_number("give-up", optarg, 1, 100000); break;
        case OPTION_PATIENCE: result.patience_seconds = (unsigned)kit_number("patience", optarg, 0, 100000); break;
        case OPTION_RUN: result.run = kit_number("run", optarg, 1, UINT64_MAX - 1); break;
        case OPTION_CRASH: result.is_crash_tolerant = true; break;
        case OPTION_VERIFY: result.is_verify_only = true; break;
        case OPTION_OUTAGE: result.reports_outages = true; break;
        case OPTION_HELP: fputs(help, stdout); exit(0);
        default: kit_usage("an option that does not exist or lacks its value.");
        }
    }
    if (optind < count) {
        kit_usage("'%s' is not an option.", arguments[optind]);
    }
    if (result.journal_path == NULL) {
        kit_usage("--journal FILE is missing.");
    }
    result.target = kit_target_parse(url, port, mount_port);
    if (result.run == 0) {
        struct timespec now;
        clock_gettime(CLOCK_REALTIME, &now);
        result.run = (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
    }
    return result;
}

static void on_signal(int number) {
    atomic_store(&stop_requested, true);
}

static FILE *journal_create(const settings *settings) {
    FILE *file = fopen(settings->journal_path, "ax");
    if (file == NULL) {
        kit_fail(
            "%s: cannot be made. The journal of a run must be a new file in a directory that exists.",
            settings->journal_path);
    }
    fprintf(
        file, "godwit-journal 1 run %" PRIu64 " workers %" PRIu64 "\n", settings->run, settings->worker_count);
    fflush(file);
    return file;
}

/// Connects a worker, or connects it anew for the check at the end.
static bool connect_worker(worker *self, const kit_handle *root) {
    char reason[256] = "";
    // The upper bits keep the transaction ids of all workers, and of runs that follow each other, apart.
    uint32_t first_xid = (self->index << 26) ^ (uint32_t)(self->settings->run * 2654435761u >> 6);
    const kit_target *target = &self->settings->target;
    self->root = *root;
    if (!kit_connect(
            &self->connection, target, first_xid, (unsigned)self->settings->patience_seconds, reason)) {
        complain(self, "no connection to %s port %d: %s", target->address, target->nfs_port, reason);
        self->gave_up = true;
        return false;
    }
    return true;
}

static void run_workers(settings *settings, worker *workers, const kit_handle *root, FILE *journal) {
    pthread_t threads[WORKER_COUNT_MAX];
    for (uint32_t index = 0; index < settings->worker_count; index++) {
        workers[index].journal = journal;
        if (!connect_worker(&workers[index], root) || !worker_prepare(&workers[index])) {
            kit_fail("worker %u could not be prepared; is the server still there?", index);
        }
    }
    run_started_nanoseconds = kit_now_nanoseconds();
    fprintf(
        stderr, "journal: run %" PRIu64 " started with %" PRIu64 " workers\n", settings->run, settings->worker_count);
    for (uint32_t index = 0; index < settings->worker_count; index++) {
        if (pthread_create(&threads[index], NULL, worker_main, &workers[index]) != 0) {
            kit_fail("no thread could be started.");
        }
    }
    for (uint32_t index = 0; index < settings->worker_count; index++) {
        pthread_join(threads[index], NULL);
    }
}

static void report_outages(const settings *settings, const worker *workers) {
    for (uint32_t index = 0; index < settings->worker_count; index++) {
        for (uint32_t gap = 0; gap < workers[index].gap_count; gap++) {
            const struct gap *entry = &workers[index].gaps[gap];
            printf(
                "gap: worker=%u at_ms=%.1f length_ms=%.1f operation=%s\n", index,
                ((double)entry->start_nanoseconds - (double)run_started_nanoseconds) / 1e6,
                (double)entry->length_nanoseconds / 1e6, operation_names[entry->kind]);
        }
    }
}

static int conclude(const settings *settings, worker *workers, tally *tally, uint64_t longest) {
    unsigned long long lost = atomic_load(&tally->lost);
    unsigned long long repeated = atomic_load(&tally->repeated);
    unsigned long long stale = atomic_load(&tally->stale_handles);
    unsigned long long mismatches = atomic_load(&tally->mismatches);
    if (settings->reports_outages) {
        report_outages(settings, workers);
    }
    fprintf(
        stderr, "journal: connections_lost=%llu in_doubt=%llu resent_batches=%llu\n", atomic_load(&tally->losses),
        atomic_load(&tally->in_doubt), atomic_load(&tally->resent_batches));
    printf(
        "journal: outage_ms=%" PRIu64
        " acknowledged_writes=%llu operations=%llu lost=%llu repeated=%llu stale_handles=%llu mismatches=%llu\n",
        (longest + 999999) / 1000000, atomic_load(&tally->acknowledged_writes), atomic_load(&tally->operations), lost,
        repeated, stale, mismatches);
    return lost + repeated + stale + mismatches == 0 ? 0 : 1;
}

int main(int count, char **arguments) {
    static worker workers[WORKER_COUNT_MAX];
    static tally tally;
    settings settings = parse(count, arguments);
    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    signal(SIGPIPE, SIG_IGN);
    run_started_nanoseconds = kit_now_nanoseconds();

    if (settings.is_verify_only) {
        settings.worker_count = journal_load(&settings, workers, &tally);
    }
    char reason[256] = "";
    kit_handle root;
    if (!kit_mount(&settings.target, (unsigned)settings.patience_seconds, &root, reason)) {
        kit_fail(
            "%s cannot be mounted from %s port %d: %s", settings.target.export_path, settings.target.address,
            settings.target.mount_port, reason);
    }
    FILE *journal = NULL;
    if (!settings.is_verify_only) {
        journal = journal_create(&settings);
        for (uint32_t index = 0; index < settings.worker_count; index++) {
            workers[index].index = index;
            workers[index].settings = &settings;
            workers[index].tally = &tally;
            workers[index].random = settings.run * 31 + index;
        }
        run_workers(&settings, workers, &root, journal);
    }
    // The check has fresh connections: nothing that libnfs or the server keeps for a connection helps it.
    uint64_t longest = 0;
    bool gave_up = false;
    for (uint32_t index = 0; index < settings.worker_count; index++) {
        worker *self = &workers[index];
        longest = self->longest_gap_nanoseconds > longest ? self->longest_gap_nanoseconds : longest;
        atomic_fetch_add(&tally.losses, self->connection.losses);
        kit_disconnect(&self->connection);
        gave_up = gave_up || self->gave_up;
        self->gave_up = false;
        uint32_t gap_count = self->gap_count;
        if (connect_worker(self, &root)) {
            worker_verify(self);
        }
        self->gap_count = gap_count;
        gave_up = gave_up || self->gave_up;
        kit_disconnect(&self->connection);
    }
    if (journal != NULL) {
        fclose(journal);
    }
    int status = conclude(&settings, workers, &tally, longest);
    return gave_up ? 1 : status;
}
