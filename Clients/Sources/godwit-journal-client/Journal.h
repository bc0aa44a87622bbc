// The journal client: what it did, what the server acknowledged, and what must therefore be there.
//
//   worker --intent--> journal file          one line before a call is sent ("I"), one after its answer ("A")
//          --call----> server
//          <-answer--
//          --ack-----> journal file, model   the model is what must be found later
//
// Every worker does one operation after the other, so at any moment at most the last intent of each is in doubt.
#ifndef GODWIT_JOURNAL_H
#define GODWIT_JOURNAL_H

#include <stdatomic.h>
#include <stdio.h>

#include "ClientKit.h"

enum {
    /// Names in the directory of a worker. They are used again and again, so that a late repetition is seen.
    NAME_COUNT = 192,
    /// Files whose handles are taken once and kept to the end.
    HELD_COUNT = 4,
    /// Places for records in a held file; record n lies in place n modulo this.
    SLOT_COUNT = 256,
    /// Records in one batch of unstable writes.
    BATCH_COUNT = 8,
    RECORD_BYTES_MAX = 4096,
    /// Bytes of the one record in a file of the directory, and the file number in its head.
    CONTENT_BYTES = 3000,
    CONTENT_FILE = HELD_COUNT,
    WORKER_COUNT_MAX = 32,
    GAP_COUNT_MAX = 512,
};

/// Bytes in a record of each held file: block-sized ones and ones that straddle blocks.
extern const uint32_t held_record_bytes[HELD_COUNT];
/// Whether the held file is written unstable and committed.
extern const bool held_is_unstable[HELD_COUNT];

typedef enum operation_kind {
    OPERATION_NONE,
    OPERATION_STABLE,
    OPERATION_UNSTABLE,
    OPERATION_CREATE_GUARDED,
    OPERATION_CREATE_EXCLUSIVE,
    OPERATION_FILL,
    OPERATION_RENAME,
    OPERATION_LINK,
    OPERATION_REMOVE,
    OPERATION_MKDIR,
    OPERATION_RMDIR,
    OPERATION_READ,
    OPERATION_LOOKUP,
    OPERATION_KIND_COUNT,
} operation_kind;

/// Names of the kinds in the journal.
extern const char *const operation_names[OPERATION_KIND_COUNT];

/// One operation. `first` and `second` are a held file and a record number, or one or two names (by number).
typedef struct operation {
    operation_kind kind;
    uint64_t sequence;
    uint32_t first;
    uint64_t second;
} operation;

/// What is under a name. Names with the same `fileid` are links to one file.
typedef struct name_state {
    enum { NAME_ABSENT, NAME_FILE, NAME_DIRECTORY } what;
    uint64_t fileid;
} name_state;

/// What must be found in the directory of one worker.
typedef struct model {
    name_state names[NAME_COUNT];
    /// Number of the last acknowledged record in each place, 0 for none.
    uint64_t slots[HELD_COUNT][SLOT_COUNT];
    /// Number of the record in the file of each name, 0 for an empty file.
    uint64_t contents[NAME_COUNT];
    kit_handle held_handles[HELD_COUNT];
    uint64_t held_fileids[HELD_COUNT];
    kit_handle directory;
    bool has_started;
    /// The intent that has no answer yet; kind NONE when there is none.
    operation pending;
} model;

/// Takes an acknowledged operation over into the model. `fileid` is that of a created object.
void model_apply(model *state, const operation *done, uint64_t fileid);

/// How many names a file has.
uint32_t model_link_count(const model *state, uint64_t fileid);

/// What was found wrong, and what was counted.
typedef struct tally {
    atomic_ullong acknowledged_writes;
    atomic_ullong operations;
    atomic_ullong lost;
    atomic_ullong repeated;
    atomic_ullong stale_handles;
    atomic_ullong mismatches;
    atomic_ullong in_doubt;
    atomic_ullong resent_batches;
    atomic_ullong losses;
} tally;

typedef struct settings {
    kit_target target;
    const char *journal_path;
    uint64_t duration_seconds;
    uint64_t worker_count;
    uint64_t operations_per_second;
    uint64_t give_up_seconds;
    uint64_t patience_seconds;
    uint64_t run;
    bool is_crash_tolerant;
    bool is_verify_only;
    bool reports_outages;
} settings;

/// A wait for an answer that was longer than the limit of the report.
typedef struct gap {
    uint64_t start_nanoseconds;
    uint64_t length_nanoseconds;
    operation_kind kind;
} gap;

/// An answer, copied out of the reply that libnfs only lends.
typedef struct call {
    bool is_done;
    bool is_failed;
    int status;
    char reason[128];
    kit_handle handle;
    bool has_handle;
    fattr3 attributes;
    bool has_attributes;
    char verifier[8];
    stable_how committed;
    uint32_t count;
    char data[RECORD_BYTES_MAX];
    /// For READDIR: who sees the entries, and how far the listing is.
    void *context;
    uint64_t cookie;
    bool is_end;
} call;

typedef struct worker {
    uint32_t index;
    const settings *settings;
    tally *tally;
    FILE *journal;
    kit_connection connection;
    kit_handle root;
    model model;
    uint64_t sequence;
    uint64_t next_record;
    uint64_t random;
    bool gave_up;
    uint64_t longest_gap_nanoseconds;
    uint32_t gap_count;
    gap gaps[GAP_COUNT_MAX];
    operation_kind current_kind;
    call calls[BATCH_COUNT];
    char buffers[BATCH_COUNT][RECORD_BYTES_MAX];
} worker;

extern atomic_bool stop_requested;
extern uint64_t run_started_nanoseconds;

/// Says on standard error what is wrong, with the worker it concerns.
void complain(const worker *self, const char *format, ...) __attribute__((format(printf, 2, 3)));

// Calls.c: one call each; true when it was answered (the status is in `call`), false when the worker gave up.

bool call_getattr(worker *self, call *call, const kit_handle *handle);
bool call_lookup(worker *self, call *call, const kit_handle *directory, const char *name);
bool call_create(
    worker *self, call *call, const kit_handle *directory, const char *name, createmode3 mode, uint64_t verifier);
bool call_mkdir(worker *self, call *call, const kit_handle *directory, const char *name);
bool call_rename(worker *self, call *call, const kit_handle *directory, const char *from, const char *to);
bool call_link(worker *self, call *call, const kit_handle *file, const kit_handle *directory, const char *name);
bool call_remove(worker *self, call *call, const kit_handle *directory, const char *name);
bool call_rmdir(worker *self, call *call, const kit_handle *directory, const char *name);
bool call_read(worker *self, call *call, const kit_handle *file, uint64_t offset, uint32_t count);
bool call_commit(worker *self, call *call, const kit_handle *file);
/// Sends a write without waiting for its answer; `calls_await` waits.
void call_write_send(
    worker *self, call *call, const kit_handle *file, uint64_t offset, char *data, uint32_t count, stable_how stable);
bool calls_await(worker *self, call *calls, uint32_t count);
/// One READDIR from `call->cookie`; `each` sees every entry.
bool call_readdir(
    worker *self, call *call, const kit_handle *directory,
    void (*each)(void *context, const char *name, uint64_t fileid),
    void *context);

// Records.c

/// Fills `bytes` with record `number` of a file (held file, or CONTENT_FILE).
void record_make(char *bytes, uint32_t length, uint64_t run, uint32_t worker, uint32_t file, uint64_t number);
/// The number of the record in `bytes`, 0 when there is none (all zero), `RECORD_BROKEN` when it is not intact.
#define RECORD_BROKEN UINT64_MAX
uint64_t record_check(const char *bytes, uint32_t length, uint64_t run, uint32_t worker, uint32_t file);

void journal_intent(worker *self, const operation *intent);
void journal_answer(worker *self, uint64_t sequence, uint64_t fileid);
void journal_refusal(worker *self, uint64_t sequence, int status);
void journal_held(worker *self);
/// Reads a journal back into the models of its workers; returns how many workers it has.
uint32_t journal_load(settings *settings, worker *workers, tally *tally);

void name_text(char text[16], uint32_t name);

// Work.c
bool worker_prepare(worker *self);
void *worker_main(void *context);
/// Takes down how long the worker waited for an answer.
void worker_note_gap(worker *self, uint64_t started_nanoseconds);

// Verify.c
void worker_verify(worker *self);

#endif
