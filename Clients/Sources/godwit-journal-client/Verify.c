#include <string.h>

#include "Journal.h"

/// What READDIR and LOOKUP found in the directory of a worker.
typedef struct findings {
    worker *self;
    name_state names[NAME_COUNT];
    uint32_t seen[NAME_COUNT];
} findings;

static void report_lost(worker *self, const char *what, const char *name) {
    complain(self, "lost: %s %s", what, name);
    atomic_fetch_add(&self->tally->lost, 1);
}

static void report_mismatch(worker *self, const char *what, const char *name) {
    complain(self, "mismatch: %s %s", what, name);
    atomic_fetch_add(&self->tally->mismatches, 1);
}

static void note_entry(void *context, const char *name, uint64_t fileid) {
    findings *found = context;
    unsigned number = 0;
    char expected[16];
    if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0 || strncmp(name, "held-", 5) == 0
        || strcmp(name, ".snapshot") == 0) {
        return;
    }
    if (sscanf(name, "name-%u", &number) != 1 || number >= NAME_COUNT) {
        report_mismatch(found->self, "a name that was never made:", name);
        return;
    }
    name_text(expected, number);
    if (strcmp(name, expected) != 0) {
        report_mismatch(found->self, "a name that was never made:", name);
        return;
    }
    found->seen[number]++;
    found->names[number].fileid = fileid;
}

/// Whether a name may also be in the other state because the last operation was never answered.
static bool is_in_doubt(const model *state, uint32_t name) {
    const operation *pending = &state->pending;
    switch (pending->kind) {
    case OPERATION_RENAME:
    case OPERATION_LINK:
        return pending->first == name || pending->second == name;
    case OPERATION_CREATE_GUARDED:
    case OPERATION_CREATE_EXCLUSIVE:
    case OPERATION_REMOVE:
    case OPERATION_MKDIR:
    case OPERATION_RMDIR:
    case OPERATION_FILL:
        return pending->first == name;
    default:
        return false;
    }
}

/// Whether the link count of a file may differ because the last operation was never answered.
static bool links_are_in_doubt(const model *state, uint64_t fileid) {
    for (uint32_t name = 0; name < NAME_COUNT; name++) {
        if (state->names[name].what == NAME_FILE && state->names[name].fileid == fileid && is_in_doubt(state, name)) {
            return true;
        }
    }
    return false;
}

static void verify_content(worker *self, uint32_t number, const char *name, const kit_handle *file) {
    call *call = &self->calls[0];
    const model *state = &self->model;
    if (!call_read(self, call, file, 0, CONTENT_BYTES)) {
        return;
    }
    if (call->status != NFS3_OK) {
        report_mismatch(self, kit_status_name(call->status), name);
        return;
    }
    uint64_t expected = state->contents[number];
    memset(call->data + call->count, 0, sizeof call->data - call->count);
    uint64_t record = record_check(call->data, CONTENT_BYTES, self->settings->run, self->index, CONTENT_FILE);
    const operation *pending = &state->pending;
    bool may_be_pending = pending->kind == OPERATION_FILL && record == pending->second
        && state->names[pending->first].fileid == state->names[number].fileid;
    if (record == expected || may_be_pending) {
        return;
    }
    if (record == RECORD_BROKEN) {
        report_mismatch(self, "broken record in", name);
    } else {
        report_lost(self, "the content of", name);
    }
}

/// Compares one name that must be there.
static void verify_present(worker *self, uint32_t number) {
    call *call = &self->calls[0];
    const model *state = &self->model;
    const name_state *expected = &state->names[number];
    char name[16];
    name_text(name, number);
    if (!call_lookup(self, call, &state->directory, name)) {
        return;
    }
    if (call->status != NFS3_OK || !call->has_attributes) {
        if (call->status == NFS3ERR_NOENT) {
            report_lost(self, "LOOKUP does not find", name);
        } else {
            report_mismatch(self, kit_status_name(call->status), name);
        }
        return;
    }
    if (call->attributes.fileid != expected->fileid) {
        report_mismatch(self, "another file under", name);
        return;
    }
    if (call->attributes.type != (expected->what == NAME_DIRECTORY ? NF3DIR : NF3REG)) {
        report_mismatch(self, "another type under", name);
        return;
    }
    if (expected->what == NAME_FILE) {
        uint32_t links = model_link_count(state, expected->fileid);
        if (call->attributes.nlink != links && !links_are_in_doubt(state, expected->fileid)) {
            report_mismatch(self, "a wrong link count of", name);
        }
        kit_handle file = call->handle;
        verify_content(self, number, name, &file);
    }
}

static void verify_names(worker *self) {
    call *call = &self->calls[0];
    findings found = {.self = self};
    call->cookie = 0;
    call->is_end = false;
    memset(call->verifier, 0, sizeof call->verifier);
    while (!call->is_end) {
        if (!call_readdir(self, call, &self->model.directory, note_entry, &found)) {
            return;
        }
        if (call->status != NFS3_OK) {
            report_mismatch(self, "READDIR answered", kit_status_name(call->status));
            return;
        }
    }
    for (uint32_t number = 0; number < NAME_COUNT; number++) {
        const name_state *expected = &self->model.names[number];
        char name[16];
        name_text(name, number);
        if (found.seen[number] > 1) {
            complain(self, "repeated: READDIR lists %s %u times", name, found.seen[number]);
            atomic_fetch_add(&self->tally->repeated, 1);
        }
        if (is_in_doubt(&self->model, number) && self->model.pending.kind != OPERATION_FILL) {
            continue;
        }
        if (expected->what == NAME_ABSENT && found.seen[number] != 0) {
            report_lost(self, "an acknowledged removal: READDIR lists", name);
        } else if (expected->what != NAME_ABSENT && found.seen[number] == 0) {
            report_lost(self, "READDIR does not list", name);
        } else if (expected->what != NAME_ABSENT) {
            if (found.names[number].fileid != expected->fileid) {
                report_mismatch(self, "READDIR lists another file under", name);
            }
            verify_present(self, number);
        }
    }
}

/// A held file through the handle of the start: the same file, and in every place the last acknowledged record.
static void verify_held(worker *self, uint32_t held) {
    call *call = &self->calls[0];
    const model *state = &self->model;
    uint32_t length = held_record_bytes[held];
    char name[40];
    snprintf(name, sizeof name, "held-%u", held);
    if (!call_getattr(self, call, &state->held_handles[held])) {
        return;
    }
    if (call->status != NFS3_OK || call->attributes.fileid != state->held_fileids[held]) {
        report_mismatch(self, "handle of", name);
        return;
    }
    for (uint32_t slot = 0; slot < SLOT_COUNT; slot++) {
        if (!call_read(self, call, &state->held_handles[held], (uint64_t)slot * length, length)) {
            return;
        }
        if (call->status != NFS3_OK) {
            report_mismatch(self, kit_status_name(call->status), name);
            return;
        }
        memset(call->data + call->count, 0, sizeof call->data - call->count);
        uint64_t record = record_check(call->data, length, self->settings->run, self->index, held);
        uint64_t expected = state->slots[held][slot];
        const operation *pending = &state->pending;
        bool is_write = pending->kind == OPERATION_STABLE || pending->kind == OPERATION_UNSTABLE;
        uint64_t count = pending->kind == OPERATION_UNSTABLE ? BATCH_COUNT : 1;
        bool may_be_pending = is_write && pending->first == held && record >= pending->second
            && record < pending->second + count && record % SLOT_COUNT == slot;
        if (record == expected || may_be_pending) {
            continue;
        }
        snprintf(
            name, sizeof name, "held-%u place %u (%llu, not %llu)", held, slot, (unsigned long long)record,
            (unsigned long long)expected);
        if (record == RECORD_BROKEN || record > expected) {
            report_mismatch(self, "record in", name);
        } else {
            report_lost(self, "record in", name);
        }
    }
}

void worker_verify(worker *self) {
    if (!self->model.has_started) {
        return;
    }
    self->current_kind = OPERATION_READ;
    for (uint32_t held = 0; held < HELD_COUNT && !self->gave_up; held++) {
        verify_held(self, held);
    }
    if (!self->gave_up) {
        verify_names(self);
    }
}
