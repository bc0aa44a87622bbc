#include <string.h>

#include "Journal.h"

/// The limit above which a wait is listed in the outage report.
static const uint64_t gap_reported_nanoseconds = 50000000ull;
static const uint64_t jukebox_pause_microseconds = 10000;

void worker_note_gap(worker *self, uint64_t started_nanoseconds) {
    uint64_t waited = kit_now_nanoseconds() - started_nanoseconds;
    if (waited > self->longest_gap_nanoseconds) {
        self->longest_gap_nanoseconds = waited;
    }
    if (waited > gap_reported_nanoseconds && self->gap_count < GAP_COUNT_MAX) {
        self->gaps[self->gap_count++] =
            (gap){.start_nanoseconds = started_nanoseconds, .length_nanoseconds = waited, .kind = self->current_kind};
    }
}

static bool is_stale(int status) {
    return status == NFS3ERR_STALE || status == NFS3ERR_BADHANDLE;
}

/// Counts an answer that no correct server gives here.
static void count_mismatch(worker *self, const operation *done, int status) {
    if (!is_stale(status)) {
        complain(
            self, "%s %u %llu: unexpected %s (%d)", operation_names[done->kind], done->first,
            (unsigned long long)done->second, kit_status_name(status), status);
        atomic_fetch_add(&self->tally->mismatches, 1);
    }
}

/// Sends the call of an operation on names. The status is in `calls[0]`.
static bool send_naming(worker *self, const operation *intent) {
    call *call = &self->calls[0];
    const kit_handle *directory = &self->model.directory;
    char first[16];
    char second[16];
    name_text(first, intent->first);
    name_text(second, (uint32_t)intent->second);
    switch (intent->kind) {
    case OPERATION_CREATE_GUARDED:
        return call_create(self, call, directory, first, GUARDED, 0);
    case OPERATION_CREATE_EXCLUSIVE:
        return call_create(self, call, directory, first, EXCLUSIVE, self->settings->run ^ intent->sequence);
    case OPERATION_MKDIR:
        return call_mkdir(self, call, directory, first);
    case OPERATION_RMDIR:
        return call_rmdir(self, call, directory, first);
    case OPERATION_REMOVE:
        return call_remove(self, call, directory, first);
    case OPERATION_RENAME:
        return call_rename(self, call, directory, first, second);
    case OPERATION_LINK: {
        if (!call_lookup(self, call, directory, first)) {
            return false;
        }
        if (call->status != NFS3_OK) {
            return true;
        }
        kit_handle file = call->handle;
        return call_link(self, call, &file, directory, second);
    }
    default:
        return false;
    }
}

/// Looks whether the effect of an operation on names is there, whatever its answer was; `fileid` is that of the object.
static bool effect_is_there(worker *self, const operation *intent, uint64_t *fileid) {
    call *call = &self->calls[0];
    const model *state = &self->model;
    char first[16];
    char second[16];
    name_text(first, intent->first);
    name_text(second, (uint32_t)intent->second);
    if (!call_lookup(self, call, &state->directory, first)) {
        return false;
    }
    bool first_is_there = call->status == NFS3_OK;
    *fileid = call->has_attributes ? call->attributes.fileid : 0;
    switch (intent->kind) {
    case OPERATION_CREATE_GUARDED:
    case OPERATION_CREATE_EXCLUSIVE:
    case OPERATION_MKDIR:
        return first_is_there;
    case OPERATION_REMOVE:
    case OPERATION_RMDIR:
        return call->status == NFS3ERR_NOENT;
    case OPERATION_RENAME:
        if (first_is_there) {
            return false;
        }
        break;
    default:
        break;
    }
    if (!call_lookup(self, call, &state->directory, second) || call->status != NFS3_OK || !call->has_attributes) {
        return false;
    }
    return call->attributes.fileid == state->names[intent->first].fileid;
}

/// Runs one operation on names to its end: journal, call, judgement of the answer, model.
static void run_naming(worker *self, const operation *intent) {
    call *call = &self->calls[0];
    uint64_t losses = self->connection.losses;
    uint64_t started = kit_now_nanoseconds();
    bool was_put_off = false;
    do {
        if (was_put_off) {
            kit_sleep_microseconds(jukebox_pause_microseconds);
        }
        if (!send_naming(self, intent)) {
            return;
        }
        was_put_off = was_put_off || call->status == NFS3ERR_JUKEBOX;
    } while (call->status == NFS3ERR_JUKEBOX);
    if (was_put_off) {
        worker_note_gap(self, started);
    }
    int status = call->status;
    uint64_t fileid = call->has_attributes ? call->attributes.fileid : 0;
    bool creates = intent->kind == OPERATION_CREATE_GUARDED || intent->kind == OPERATION_CREATE_EXCLUSIVE
        || intent->kind == OPERATION_MKDIR;
    if (status == NFS3_OK && creates && fileid == 0) {
        if (!effect_is_there(self, intent, &fileid)) {
            status = NFS3ERR_NOENT;
        }
    } else if (status == NFS3ERR_EXIST || status == NFS3ERR_NOENT) {
        // Every operation here was chosen so that it must succeed. If its effect is there all the same, it was done
        // and then judged a second time.
        if (effect_is_there(self, intent, &fileid)) {
            bool is_honest = self->settings->is_crash_tolerant && self->connection.losses > losses;
            atomic_fetch_add(is_honest ? &self->tally->in_doubt : &self->tally->repeated, 1);
            if (!is_honest) {
                complain(
                    self, "%s %u %llu: done, but answered %s", operation_names[intent->kind], intent->first,
                    (unsigned long long)intent->second, kit_status_name(status));
            }
            status = NFS3_OK;
        }
    }
    if (self->gave_up) {
        return;
    }
    if (status == NFS3_OK) {
        journal_answer(self, intent->sequence, fileid);
        model_apply(&self->model, intent, fileid);
        atomic_fetch_add(&self->tally->operations, 1);
    } else {
        count_mismatch(self, intent, status);
        journal_refusal(self, intent->sequence, status);
    }
    self->model.pending.kind = OPERATION_NONE;
}

/// Writes `count` records from `calls` and `buffers`, all outstanding together, at the places of their numbers.
static bool write_records(
    worker *self, const operation *intent, const kit_handle *file, uint32_t count, uint32_t length, stable_how stable) {
    for (uint32_t index = 0; index < count; index++) {
        uint64_t slot = intent->kind == OPERATION_FILL ? 0 : (intent->second + index) % SLOT_COUNT;
        call_write_send(self, &self->calls[index], file, slot * length, self->buffers[index], length, stable);
    }
    return calls_await(self, self->calls, count);
}

/// The first status that is not OK, or a short count as an I/O error.
static int write_status(const worker *self, uint32_t count, uint32_t length) {
    for (uint32_t index = 0; index < count; index++) {
        if (self->calls[index].status != NFS3_OK) {
            return self->calls[index].status;
        }
        if (self->calls[index].count != length) {
            return NFS3ERR_IO;
        }
    }
    return NFS3_OK;
}

/// COMMIT after a batch. True in `is_kept` when every write and the COMMIT were of one and the same server instance
/// (RFC 1813 section 4.8): only then are the records acknowledged.
static bool commit_batch(worker *self, const kit_handle *file, int *status, bool *is_kept) {
    char verifiers[BATCH_COUNT][8];
    bool is_unstable[BATCH_COUNT];
    for (uint32_t index = 0; index < BATCH_COUNT; index++) {
        memcpy(verifiers[index], self->calls[index].verifier, 8);
        is_unstable[index] = self->calls[index].committed == UNSTABLE;
    }
    if (!call_commit(self, &self->calls[0], file)) {
        return false;
    }
    *status = self->calls[0].status;
    *is_kept = *status == NFS3_OK;
    for (uint32_t index = 0; index < BATCH_COUNT; index++) {
        if (is_unstable[index] && memcmp(verifiers[index], self->calls[0].verifier, 8) != 0) {
            *is_kept = false;
        }
    }
    return true;
}

/// Runs one write, stable or unstable with COMMIT, to its end.
static void run_write(
    worker *self, const operation *intent, const kit_handle *file, uint32_t file_number, uint32_t length) {
    uint32_t count = intent->kind == OPERATION_UNSTABLE ? BATCH_COUNT : 1;
    for (uint32_t index = 0; index < count; index++) {
        record_make(
            self->buffers[index], length, self->settings->run, self->index, file_number, intent->second + index);
    }
    uint64_t started = kit_now_nanoseconds();
    bool was_put_off = false;
    bool is_kept = false;
    int status = NFS3_OK;
    stable_how stable = intent->kind == OPERATION_UNSTABLE ? UNSTABLE : FILE_SYNC;
    do {
        if (!write_records(self, intent, file, count, length, stable)) {
            return;
        }
        status = write_status(self, count, length);
        is_kept = status == NFS3_OK;
        if (status == NFS3_OK && intent->kind == OPERATION_UNSTABLE) {
            if (!commit_batch(self, file, &status, &is_kept)) {
                return;
            }
            if (status == NFS3_OK && !is_kept) {
                atomic_fetch_add(&self->tally->resent_batches, 1);
            }
        }
        if (status == NFS3ERR_JUKEBOX) {
            was_put_off = true;
            kit_sleep_microseconds(jukebox_pause_microseconds);
        }
    } while (status == NFS3ERR_JUKEBOX || (status == NFS3_OK && !is_kept));
    if (was_put_off) {
        worker_note_gap(self, started);
    }
    if (status == NFS3_OK) {
        journal_answer(self, intent->sequence, 0);
        model_apply(&self->model, intent, 0);
        atomic_fetch_add(&self->tally->operations, 1);
        atomic_fetch_add(&self->tally->acknowledged_writes, count);
        self->model.pending.kind = OPERATION_NONE;
    } else {
        // What a refused write left behind is not known, so it stays in doubt and the worker ends.
        count_mismatch(self, intent, status);
        self->gave_up = true;
    }
}

/// Reads one place of a held file, through the handle taken at the start, and compares.
static void run_read(worker *self, const operation *intent) {
    call *call = &self->calls[0];
    uint32_t held = intent->first;
    uint32_t length = held_record_bytes[held];
    uint64_t expected = self->model.slots[held][intent->second];
    if (!call_read(self, call, &self->model.held_handles[held], intent->second * length, length)) {
        return;
    }
    if (call->status != NFS3_OK) {
        count_mismatch(self, intent, call->status);
        return;
    }
    memset(call->data + call->count, 0, sizeof call->data - call->count);
    uint64_t found = record_check(call->data, length, self->settings->run, self->index, held);
    if (found != expected) {
        complain(
            self, "held file %u place %llu: expected record %llu, found %lld", held, (unsigned long long)intent->second,
            (unsigned long long)expected, (long long)found);
        atomic_fetch_add(found < expected ? &self->tally->lost : &self->tally->mismatches, 1);
    }
    atomic_fetch_add(&self->tally->operations, 1);
}

/// Looks a name up and compares what is under it.
static void run_lookup(worker *self, const operation *intent) {
    call *call = &self->calls[0];
    const name_state *expected = &self->model.names[intent->first];
    char name[16];
    name_text(name, intent->first);
    if (!call_lookup(self, call, &self->model.directory, name)) {
        return;
    }
    atomic_fetch_add(&self->tally->operations, 1);
    bool is_there = call->status == NFS3_OK;
    if (!is_there && call->status != NFS3ERR_NOENT) {
        count_mismatch(self, intent, call->status);
    } else if (is_there != (expected->what != NAME_ABSENT)) {
        complain(self, "%s: expected %s", name, is_there ? "nothing there" : "to be there");
        atomic_fetch_add(&self->tally->lost, 1);
    } else if (is_there && call->has_attributes && call->attributes.fileid != expected->fileid) {
        complain(self, "%s: another file than before", name);
        atomic_fetch_add(&self->tally->mismatches, 1);
    }
}

static void run_fill(worker *self, const operation *intent) {
    char name[16];
    name_text(name, intent->first);
    if (!call_lookup(self, &self->calls[0], &self->model.directory, name)) {
        return;
    }
    if (self->calls[0].status != NFS3_OK) {
        count_mismatch(self, intent, self->calls[0].status);
        journal_refusal(self, intent->sequence, self->calls[0].status);
        self->model.pending.kind = OPERATION_NONE;
        return;
    }
    kit_handle file = self->calls[0].handle;
    run_write(self, intent, &file, CONTENT_FILE, CONTENT_BYTES);
}

/// A name that is in the wanted state, searched from a random one on; NAME_COUNT when there is none.
static uint32_t pick_name(worker *self, int what) {
    uint32_t start = (uint32_t)(kit_random(&self->random) % NAME_COUNT);
    for (uint32_t step = 0; step < NAME_COUNT; step++) {
        uint32_t name = (start + step) % NAME_COUNT;
        if ((int)self->model.names[name].what == what) {
            return name;
        }
    }
    return NAME_COUNT;
}

/// Chooses what to do next. Every choice is one that must succeed, given what was acknowledged before.
static operation choose(worker *self) {
    operation chosen = {.kind = OPERATION_READ, .sequence = self->sequence + 1};
    uint32_t dice = (uint32_t)(kit_random(&self->random) % 100);
    uint32_t absent = pick_name(self, NAME_ABSENT);
    uint32_t file = pick_name(self, NAME_FILE);
    uint32_t directory = pick_name(self, NAME_DIRECTORY);
    chosen.first = (uint32_t)(kit_random(&self->random) % HELD_COUNT);
    chosen.second = kit_random(&self->random) % SLOT_COUNT;
    if (dice < 30) {
        chosen.kind = held_is_unstable[chosen.first] ? OPERATION_UNSTABLE : OPERATION_STABLE;
        chosen.second = self->next_record;
        self->next_record += BATCH_COUNT;
    } else if (dice < 42 && absent < NAME_COUNT) {
        chosen.kind = dice % 2 == 0 ? OPERATION_CREATE_GUARDED : OPERATION_CREATE_EXCLUSIVE;
        chosen.first = absent;
    } else if (dice < 52 && file < NAME_COUNT) {
        chosen.kind = OPERATION_REMOVE;
        chosen.first = file;
    } else if (dice < 60 && file < NAME_COUNT && absent < NAME_COUNT) {
        uint32_t other = pick_name(self, NAME_FILE);
        bool replaces = dice < 54 && self->model.names[other].fileid != self->model.names[file].fileid;
        chosen = (operation){OPERATION_RENAME, chosen.sequence, file, replaces ? other : absent};
    } else if (dice < 65 && file < NAME_COUNT && absent < NAME_COUNT) {
        chosen = (operation){OPERATION_LINK, chosen.sequence, file, absent};
    } else if (dice < 69 && absent < NAME_COUNT) {
        chosen.kind = OPERATION_MKDIR;
        chosen.first = absent;
    } else if (dice < 73 && directory < NAME_COUNT) {
        chosen.kind = OPERATION_RMDIR;
        chosen.first = directory;
    } else if (dice < 80 && file < NAME_COUNT) {
        chosen = (operation){OPERATION_FILL, chosen.sequence, file, self->next_record++};
    } else if (dice < 88) {
        chosen.kind = OPERATION_LOOKUP;
        chosen.first %= NAME_COUNT;
        chosen.first = (uint32_t)(kit_random(&self->random) % NAME_COUNT);
    }
    return chosen;
}

static void step(worker *self) {
    operation intent = choose(self);
    self->current_kind = intent.kind;
    if (intent.kind == OPERATION_READ) {
        run_read(self, &intent);
        return;
    }
    if (intent.kind == OPERATION_LOOKUP) {
        run_lookup(self, &intent);
        return;
    }
    self->sequence = intent.sequence;
    self->model.pending = intent;
    journal_intent(self, &intent);
    if (intent.kind == OPERATION_FILL) {
        run_fill(self, &intent);
    } else if (intent.kind == OPERATION_STABLE || intent.kind == OPERATION_UNSTABLE) {
        run_write(
            self, &intent, &self->model.held_handles[intent.first], intent.first, held_record_bytes[intent.first]);
    } else {
        run_naming(self, &intent);
    }
}

/// A directory that may exist already, by name.
static bool enter_directory(worker *self, const kit_handle *parent, const char *name, kit_handle *handle) {
    call *call = &self->calls[0];
    if (!call_mkdir(self, call, parent, name)) {
        return false;
    }
    if (call->status != NFS3_OK && call->status != NFS3ERR_EXIST) {
        kit_fail(
            "MKDIR %s answered %s: the export must let this client write (export policy, squash, mode).", name,
            kit_status_name(call->status));
    }
    if (!call_lookup(self, call, parent, name) || call->status != NFS3_OK) {
        return false;
    }
    *handle = call->handle;
    return true;
}

bool worker_prepare(worker *self) {
    char run[40];
    char own[24];
    snprintf(run, sizeof run, "journal-%llu", (unsigned long long)self->settings->run);
    snprintf(own, sizeof own, "worker-%u", self->index);
    self->current_kind = OPERATION_MKDIR;
    kit_handle run_directory;
    if (!enter_directory(self, &self->root, run, &run_directory)
        || !enter_directory(self, &run_directory, own, &self->model.directory)) {
        return false;
    }
    call *call = &self->calls[0];
    for (uint32_t held = 0; held < HELD_COUNT; held++) {
        char name[16];
        snprintf(name, sizeof name, "held-%u", held);
        self->current_kind = OPERATION_CREATE_GUARDED;
        if (!call_create(self, call, &self->model.directory, name, UNCHECKED, 0)
            || !call_lookup(self, call, &self->model.directory, name) || call->status != NFS3_OK
            || !call->has_attributes) {
            complain(self, "%s could not be made: %s", name, kit_status_name(call->status));
            return false;
        }
        self->model.held_handles[held] = call->handle;
        self->model.held_fileids[held] = call->attributes.fileid;
    }
    journal_held(self);
    self->model.has_started = true;
    self->next_record = 1;
    return true;
}

void *worker_main(void *context) {
    worker *self = context;
    const settings *settings = self->settings;
    uint64_t deadline = run_started_nanoseconds + settings->duration_seconds * 1000000000ull;
    uint64_t pause = settings->operations_per_second
        ? settings->worker_count * 1000000000ull / settings->operations_per_second
        : 0;
    uint64_t next = kit_now_nanoseconds();
    while (!self->gave_up && !atomic_load(&stop_requested)) {
        uint64_t now = kit_now_nanoseconds();
        if (settings->duration_seconds != 0 && now >= deadline) {
            break;
        }
        if (pause != 0 && now < next) {
            kit_sleep_microseconds((next - now) / 1000);
        }
        step(self);
        // After an outage the rate goes on from now; what was missed is not caught up on.
        now = kit_now_nanoseconds();
        next = next + pause < now ? now : next + pause;
    }
    return NULL;
}
