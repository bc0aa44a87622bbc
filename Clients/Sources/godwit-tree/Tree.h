// Copies a local tree to an export, or compares the two, with many calls on their way at once.
//
// Directories go level by level, because a child needs the handle of its parent; then all files and symbolic links.
// Every job is one entry of the tree and has one call on its way at any moment; many jobs run side by side.
#ifndef GODWIT_TREE_H
#define GODWIT_TREE_H

#include <sys/types.h>

#include "ClientKit.h"

enum {
    JOB_COUNT_MAX = 256,
    TRANSFER_BYTES = 256 << 10,
};

/// A directory, regular file or symbolic link of the local tree.
typedef struct entry {
    /// Local path; `name` points at its last part.
    char *path;
    const char *name;
    /// Index of the parent directory, -1 for the top.
    int64_t parent;
    mode_t mode;
    uint64_t size;
    uint32_t depth;
    uint32_t child_count;
    kit_handle handle;
} entry;

typedef struct tree {
    entry *entries;
    size_t count;
    size_t capacity;
    uint32_t depth_max;
    uint64_t skipped;
} tree;

typedef struct tally {
    uint64_t files;
    uint64_t directories;
    uint64_t links;
    uint64_t bytes;
    uint64_t mismatches;
    uint64_t resent;
} tally;

typedef struct copier copier;

typedef struct job {
    copier *copier;
    kit_connection *connection;
    entry *entry;
    enum { STEP_IDLE, STEP_LOOKUP, STEP_MKDIR, STEP_CREATE, STEP_WRITE, STEP_COMMIT, STEP_SYMLINK, STEP_READ,
           STEP_READLINK, STEP_LIST } step;
    int file;
    uint64_t offset;
    uint32_t length;
    kit_handle handle;
    char verifier[8];
    bool has_verifier;
    bool is_verifier_changed;
    uint64_t cookie;
    uint32_t listed;
    char *buffer;
    char *local;
} job;

struct copier {
    tree tree;
    tally tally;
    kit_handle top;
    bool is_verifying;
    bool is_stable;
    bool is_exact;
    job jobs[JOB_COUNT_MAX];
    uint32_t job_count;
    uint32_t busy;
};

/// Reads the names and attributes of a local tree.
void tree_walk(tree *tree, const char *path);

/// Starts the work on an entry with a job that is idle.
void job_start(job *job, entry *entry);

/// The handle of the directory in which an entry lies.
const kit_handle *entry_parent_handle(const copier *copier, const entry *entry);

/// Counts a difference between the tree and the export, and says it.
void count_mismatch(copier *copier, const entry *entry, const char *what);

#endif
