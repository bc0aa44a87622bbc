#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "Journal.h"

const uint32_t held_record_bytes[HELD_COUNT] = {4096, 4096, 1000, 2500};
const bool held_is_unstable[HELD_COUNT] = {false, true, false, true};

const char *const operation_names[OPERATION_KIND_COUNT] = {
    "none", "stable", "unstable", "create-guarded", "create-exclusive", "fill", "rename",
    "link", "remove", "mkdir",    "rmdir",          "read",             "lookup",
};

static const uint64_t record_magic = 0x474f445749543031ull;

/// The head of every record; the rest of it is generated from `seed`.
typedef struct record_head {
    uint64_t magic;
    uint64_t run;
    uint32_t worker;
    uint32_t file;
    uint64_t number;
    uint64_t seed;
    /// Over the whole record with this field zero.
    uint64_t checksum;
} record_head;

void record_make(char *bytes, uint32_t length, uint64_t run, uint32_t worker, uint32_t file, uint64_t number) {
    uint64_t seed = run ^ (number * 0x9e3779b97f4a7c15ull) ^ ((uint64_t)worker << 48) ^ ((uint64_t)file << 32);
    record_head head = {record_magic, run, worker, file, number, seed, 0};
    for (uint32_t offset = sizeof head; offset < length; offset += 8) {
        uint64_t word = kit_random(&seed);
        memcpy(bytes + offset, &word, length - offset < 8 ? length - offset : 8);
    }
    memcpy(bytes, &head, sizeof head);
    head.checksum = kit_checksum(KIT_CHECKSUM_START, bytes, length);
    memcpy(bytes, &head, sizeof head);
}

uint64_t record_check(const char *bytes, uint32_t length, uint64_t run, uint32_t worker, uint32_t file) {
    record_head head;
    memcpy(&head, bytes, sizeof head);
    if (head.magic == 0) {
        for (uint32_t offset = 0; offset < length; offset++) {
            if (bytes[offset] != 0) {
                return RECORD_BROKEN;
            }
        }
        return 0;
    }
    if (head.magic != record_magic || head.run != run || head.worker != worker || head.file != file) {
        return RECORD_BROKEN;
    }
    char copy[RECORD_BYTES_MAX];
    memcpy(copy, bytes, length);
    uint64_t checksum = head.checksum;
    head.checksum = 0;
    memcpy(copy, &head, sizeof head);
    return kit_checksum(KIT_CHECKSUM_START, copy, length) == checksum ? head.number : RECORD_BROKEN;
}

void name_text(char text[16], uint32_t name) {
    snprintf(text, 16, "name-%03u", name);
}

uint32_t model_link_count(const model *state, uint64_t fileid) {
    uint32_t count = 0;
    for (uint32_t name = 0; name < NAME_COUNT; name++) {
        count += state->names[name].what == NAME_FILE && state->names[name].fileid == fileid;
    }
    return count;
}

void model_apply(model *state, const operation *done, uint64_t fileid) {
    uint32_t first = done->first;
    switch (done->kind) {
    case OPERATION_STABLE:
        state->slots[first][done->second % SLOT_COUNT] = done->second;
        break;
    case OPERATION_UNSTABLE:
        for (uint64_t number = done->second; number < done->second + BATCH_COUNT; number++) {
            state->slots[first][number % SLOT_COUNT] = number;
        }
        break;
    case OPERATION_CREATE_GUARDED:
    case OPERATION_CREATE_EXCLUSIVE:
        state->names[first] = (name_state){NAME_FILE, fileid};
        state->contents[first] = 0;
        break;
    case OPERATION_FILL:
        for (uint32_t name = 0; name < NAME_COUNT; name++) {
            if (state->names[name].what == NAME_FILE && state->names[name].fileid == state->names[first].fileid) {
                state->contents[name] = done->second;
            }
        }
        break;
    case OPERATION_RENAME:
        state->names[done->second] = state->names[first];
        state->contents[done->second] = state->contents[first];
        state->names[first] = (name_state){NAME_ABSENT, 0};
        break;
    case OPERATION_LINK:
        state->names[done->second] = state->names[first];
        state->contents[done->second] = state->contents[first];
        break;
    case OPERATION_REMOVE:
    case OPERATION_RMDIR:
        state->names[first] = (name_state){NAME_ABSENT, 0};
        break;
    case OPERATION_MKDIR:
        state->names[first] = (name_state){NAME_DIRECTORY, fileid};
        break;
    default:
        break;
    }
}

void complain(const worker *self, const char *format, ...) {
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    fprintf(
        stderr, "journal: %8.3f s worker %u: %s\n", (double)(kit_now_nanoseconds() - run_started_nanoseconds) / 1e9,
        self->index, text);
}

/// One line, in the file before this returns, so that it outlives the client.
static void journal_line(worker *self, const char *format, ...) {
    if (self->journal == NULL) {
        return;
    }
    char text[512];
    int length = snprintf(text, sizeof text, "%u ", self->index);
    va_list arguments;
    va_start(arguments, format);
    length += vsnprintf(text + length, sizeof text - (size_t)length - 1, format, arguments);
    va_end(arguments);
    text[length++] = '\n';
    flockfile(self->journal);
    if (fwrite(text, 1, (size_t)length, self->journal) != (size_t)length || fflush(self->journal) != 0) {
        kit_fail("the journal file could not be written; is its disk full?");
    }
    funlockfile(self->journal);
}

void journal_intent(worker *self, const operation *intent) {
    journal_line(
        self, "I %" PRIu64 " %s %u %" PRIu64, intent->sequence, operation_names[intent->kind], intent->first,
        intent->second);
}

void journal_answer(worker *self, uint64_t sequence, uint64_t fileid) {
    journal_line(self, "A %" PRIu64 " %" PRIu64, sequence, fileid);
}

void journal_refusal(worker *self, uint64_t sequence, int status) {
    journal_line(self, "X %" PRIu64 " %d", sequence, status);
}

static void handle_to_text(char text[129], const kit_handle *handle) {
    for (uint32_t index = 0; index < handle->length; index++) {
        snprintf(text + 2 * index, 3, "%02x", (unsigned char)handle->bytes[index]);
    }
    text[2 * handle->length] = '\0';
}

static kit_handle handle_from_text(const char *text) {
    kit_handle handle = {0};
    unsigned byte = 0;
    while (handle.length < sizeof handle.bytes && sscanf(text + 2 * handle.length, "%2x", &byte) == 1) {
        handle.bytes[handle.length++] = (char)byte;
    }
    return handle;
}

void journal_held(worker *self) {
    char text[129];
    handle_to_text(text, &self->model.directory);
    journal_line(self, "D %s", text);
    for (uint32_t held = 0; held < HELD_COUNT; held++) {
        handle_to_text(text, &self->model.held_handles[held]);
        journal_line(self, "H %u %" PRIu64 " %s", held, self->model.held_fileids[held], text);
    }
    journal_line(self, "S");
}

/// One line of a worker's history.
static void load_line(worker *self, const char *line, const char *path) {
    model *state = &self->model;
    char kind[24] = "";
    char text[129] = "";
    uint64_t sequence = 0;
    uint64_t value = 0;
    uint32_t first = 0;
    if (sscanf(line, "I %" SCNu64 " %23s %u %" SCNu64, &sequence, kind, &first, &value) == 4) {
        operation pending = {OPERATION_NONE, sequence, first, value};
        for (int index = 1; index < OPERATION_KIND_COUNT; index++) {
            if (strcmp(kind, operation_names[index]) == 0) {
                pending.kind = (operation_kind)index;
            }
        }
        state->pending = pending;
    } else if (sscanf(line, "A %" SCNu64 " %" SCNu64, &sequence, &value) == 2) {
        if (state->pending.kind == OPERATION_NONE || state->pending.sequence != sequence) {
            kit_fail("%s: an answer without its intent: '%s'", path, line);
        }
        model_apply(state, &state->pending, value);
        atomic_fetch_add(&self->tally->operations, 1);
        operation_kind done = state->pending.kind;
        atomic_fetch_add(
            &self->tally->acknowledged_writes,
            done == OPERATION_UNSTABLE ? BATCH_COUNT : done == OPERATION_STABLE || done == OPERATION_FILL);
        state->pending.kind = OPERATION_NONE;
    } else if (sscanf(line, "X %" SCNu64, &sequence) == 1) {
        state->pending.kind = OPERATION_NONE;
    } else if (sscanf(line, "D %128s", text) == 1) {
        state->directory = handle_from_text(text);
    } else if (sscanf(line, "H %u %" SCNu64 " %128s", &first, &value, text) == 3 && first < HELD_COUNT) {
        state->held_handles[first] = handle_from_text(text);
        state->held_fileids[first] = value;
    } else if (line[0] == 'S') {
        state->has_started = true;
    } else {
        kit_fail("%s: a line that is not one of a journal: '%s'", path, line);
    }
}

uint32_t journal_load(settings *settings, worker *workers, tally *tally) {
    FILE *file = fopen(settings->journal_path, "r");
    if (file == NULL) {
        kit_fail("%s: cannot be read. Give the file that an earlier run wrote.", settings->journal_path);
    }
    char *line = NULL;
    size_t capacity = 0;
    uint32_t count = 0;
    ssize_t length;
    if (getline(&line, &capacity, file) < 0
        || sscanf(line, "godwit-journal 1 run %" SCNu64 " workers %u", &settings->run, &count) != 2
        || count > WORKER_COUNT_MAX) {
        kit_fail("%s: not a journal of this program.", settings->journal_path);
    }
    for (uint32_t index = 0; index < count; index++) {
        workers[index].index = index;
        workers[index].settings = settings;
        workers[index].tally = tally;
    }
    while ((length = getline(&line, &capacity, file)) > 0) {
        unsigned index = 0;
        int offset = 0;
        // A last line without its end was cut by the death of the client: the intent of it was never sent.
        if (line[length - 1] != '\n') {
            break;
        }
        line[length - 1] = '\0';
        if (sscanf(line, "%u %n", &index, &offset) != 1 || index >= count) {
            kit_fail("%s: a line without its worker: '%s'", settings->journal_path, line);
        }
        load_line(&workers[index], line + offset, settings->journal_path);
    }
    free(line);
    fclose(file);
    return count;
}
