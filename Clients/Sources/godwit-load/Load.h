// The load generator: a fixed number of outstanding calls over a few connections, one thread, nothing allocated by us
// while it measures.
#ifndef GODWIT_LOAD_H
#define GODWIT_LOAD_H

#include "ClientKit.h"

enum {
    CONNECTION_COUNT_MAX = 32,
    SLOT_COUNT_MAX = 1024,
    NAME_COUNT = 1000,
    TRANSFER_BYTES = 1 << 20,
    BLOCK_BYTES = 4096,
    /// One file for sequential transfers per slot group; see `sequential_file_count`.
    SEQUENTIAL_FILE_COUNT = 4,
};

/// Bytes of the file for random reads and writes, and of each file for sequential ones.
#define RANDOM_FILE_BYTES (128ull << 20)
#define SEQUENTIAL_FILE_BYTES (64ull << 20)

typedef struct load load;

/// One outstanding call. A slot always has the same connection, so one callback argument is enough.
typedef struct slot {
    load *load;
    struct rpc_context *rpc;
    uint32_t index;
    uint64_t started_nanoseconds;
    /// Position in the operation: create or remove, cookie of a listing, block of a file.
    uint64_t position;
    char verifier[8];
    char name[24];
} slot;

typedef struct operation {
    const char *name;
    /// "ops/s" or "MB/s".
    const char *unit;
    /// Queues the next call of the slot.
    void (*issue)(slot *slot);
} operation;

struct load {
    const operation *operation;
    kit_handle directory;
    kit_handle names_directory;
    kit_handle churn_directory;
    kit_handle random_file;
    kit_handle sequential_files[SEQUENTIAL_FILE_COUNT];
    kit_handle name_handles[NAME_COUNT];
    char names[NAME_COUNT][16];
    char *payload;
    uint32_t transfer_bytes;
    uint64_t random;
    slot slots[SLOT_COUNT_MAX];
    uint32_t slot_count;
    bool is_stopping;
    bool is_measuring;
    uint32_t outstanding;
    uint64_t done;
    uint64_t bytes_done;
    uint64_t listings;
    kit_histogram histogram;
    /// For sequential writes: next block and blocks answered of the pass over each file.
    uint64_t next_block[SEQUENTIAL_FILE_COUNT];
    uint64_t blocks_answered[SEQUENTIAL_FILE_COUNT];
    bool is_committing[SEQUENTIAL_FILE_COUNT];
};

/// The operations, ended by a null name.
extern const operation operations[];

/// Counts one answered call of a slot and queues its next.
void load_finish(slot *slot, uint64_t bytes);

/// Ends the program with what the server refused.
void load_check(const slot *slot, int rpc_status, const void *data, int status, const char *what);

#endif
