#include <string.h>

#include "Load.h"

void load_check(const slot *slot, int rpc_status, const void *data, int status, const char *what) {
    if (rpc_status != RPC_STATUS_SUCCESS) {
        kit_fail("%s: %s", what, rpc_status == RPC_STATUS_ERROR && data ? (const char *)data : "cancelled");
    }
    if (status != NFS3_OK) {
        kit_fail("%s answered %s (%d)", what, kit_status_name(status), status);
    }
}

static void queued(const slot *slot, int result) {
    if (result != 0) {
        kit_fail("libnfs could not queue a call: %s", rpc_get_error(slot->rpc));
    }
}

/// All NFSv3 results begin with their status.
static int status_of(int rpc_status, const void *data) {
    return rpc_status == RPC_STATUS_SUCCESS && data != NULL ? (int)*(const nfsstat3 *)data : NFS3_OK;
}

static void on_simple(struct rpc_context *rpc, int rpc_status, void *data, void *context) {
    slot *slot = context;
    load_check(slot, rpc_status, data, status_of(rpc_status, data), slot->load->operation->name);
    load_finish(slot, 0);
}

static void issue_getattr(slot *slot) {
    load *load = slot->load;
    GETATTR3args arguments = {kit_handle_lend(&load->name_handles[kit_random(&load->random) % NAME_COUNT])};
    queued(slot, rpc_nfs3_getattr_async(slot->rpc, on_simple, &arguments, slot));
}

static void issue_lookup(slot *slot) {
    load *load = slot->load;
    LOOKUP3args arguments = {
        {kit_handle_lend(&load->names_directory), load->names[kit_random(&load->random) % NAME_COUNT]}};
    queued(slot, rpc_nfs3_lookup_async(slot->rpc, on_simple, &arguments, slot));
}

static void on_read(struct rpc_context *rpc, int rpc_status, void *data, void *context) {
    slot *slot = context;
    load_check(slot, rpc_status, data, status_of(rpc_status, data), "READ");
    const READ3res *result = data;
    if (result->READ3res_u.resok.data.data_len == 0) {
        kit_fail("READ inside of a file answered no bytes");
    }
    load_finish(slot, result->READ3res_u.resok.data.data_len);
}

static void issue_read4k(slot *slot) {
    load *load = slot->load;
    READ3args arguments = {
        .file = kit_handle_lend(&load->random_file),
        .offset = kit_random(&load->random) % (RANDOM_FILE_BYTES / BLOCK_BYTES) * BLOCK_BYTES,
        .count = BLOCK_BYTES};
    queued(slot, rpc_nfs3_read_async(slot->rpc, on_read, &arguments, slot));
}

static void on_write(struct rpc_context *rpc, int rpc_status, void *data, void *context) {
    slot *slot = context;
    load_check(slot, rpc_status, data, status_of(rpc_status, data), "WRITE");
    const WRITE3res *result = data;
    if (result->WRITE3res_u.resok.count != BLOCK_BYTES || result->WRITE3res_u.resok.committed != FILE_SYNC) {
        kit_fail("WRITE was short or not on stable storage as asked");
    }
    load_finish(slot, BLOCK_BYTES);
}

static void issue_write4k(slot *slot) {
    load *load = slot->load;
    uint64_t block = kit_random(&load->random) % (RANDOM_FILE_BYTES / BLOCK_BYTES);
    WRITE3args arguments = {
        .file = kit_handle_lend(&load->random_file), .offset = block * BLOCK_BYTES, .count = BLOCK_BYTES,
        .stable = FILE_SYNC, .data = {BLOCK_BYTES, load->payload + block % 255 * BLOCK_BYTES}};
    queued(slot, rpc_nfs3_write_async(slot->rpc, on_write, &arguments, slot));
}

static void issue_sequential_read(slot *slot) {
    load *load = slot->load;
    uint32_t file = slot->index % SEQUENTIAL_FILE_COUNT;
    uint64_t block_count = SEQUENTIAL_FILE_BYTES / load->transfer_bytes;
    READ3args arguments = {
        .file = kit_handle_lend(&load->sequential_files[file]),
        .offset = load->next_block[file]++ % block_count * load->transfer_bytes, .count = load->transfer_bytes};
    queued(slot, rpc_nfs3_read_async(slot->rpc, on_read, &arguments, slot));
}

static void issue_sequential_write(slot *slot);

/// After the COMMIT of a pass, every slot of the file goes on with the next pass.
static void on_commit(struct rpc_context *rpc, int rpc_status, void *data, void *context) {
    slot *slot = context;
    load *load = slot->load;
    uint32_t file = slot->index % SEQUENTIAL_FILE_COUNT;
    load_check(slot, rpc_status, data, status_of(rpc_status, data), "COMMIT");
    load->bytes_done += SEQUENTIAL_FILE_BYTES;
    load->next_block[file] = 0;
    load->blocks_answered[file] = 0;
    load->is_committing[file] = false;
    for (uint32_t index = file; index < load->slot_count; index += SEQUENTIAL_FILE_COUNT) {
        load->slots[index].started_nanoseconds = kit_now_nanoseconds();
        if (!load->is_stopping) {
            issue_sequential_write(&load->slots[index]);
        }
    }
}

static void on_sequential_write(struct rpc_context *rpc, int rpc_status, void *data, void *context) {
    slot *slot = context;
    load *load = slot->load;
    uint32_t file = slot->index % SEQUENTIAL_FILE_COUNT;
    load_check(slot, rpc_status, data, status_of(rpc_status, data), "WRITE");
    const WRITE3res *result = data;
    if (result->WRITE3res_u.resok.count != load->transfer_bytes) {
        kit_fail("WRITE was short");
    }
    load->outstanding--;
    if (load->is_measuring) {
        load->done++;
        kit_histogram_add(&load->histogram, kit_now_nanoseconds() - slot->started_nanoseconds);
    }
    if (++load->blocks_answered[file] == SEQUENTIAL_FILE_BYTES / load->transfer_bytes) {
        COMMIT3args arguments = {.file = kit_handle_lend(&load->sequential_files[file]), .offset = 0, .count = 0};
        load->is_committing[file] = true;
        queued(slot, rpc_nfs3_commit_async(slot->rpc, on_commit, &arguments, slot));
        return;
    }
    if (!load->is_stopping) {
        issue_sequential_write(slot);
    }
}

static void issue_sequential_write(slot *slot) {
    load *load = slot->load;
    uint32_t file = slot->index % SEQUENTIAL_FILE_COUNT;
    uint64_t block = load->next_block[file];
    if (block == SEQUENTIAL_FILE_BYTES / load->transfer_bytes || load->is_committing[file]) {
        // The pass is wholly on its way; the slot rests until its COMMIT.
        return;
    }
    load->next_block[file]++;
    load->outstanding++;
    slot->started_nanoseconds = kit_now_nanoseconds();
    WRITE3args arguments = {
        .file = kit_handle_lend(&load->sequential_files[file]), .offset = block * load->transfer_bytes,
        .count = load->transfer_bytes, .stable = UNSTABLE, .data = {load->transfer_bytes, load->payload}};
    queued(slot, rpc_nfs3_write_async(slot->rpc, on_sequential_write, &arguments, slot));
}

static void issue_create_remove(slot *slot) {
    load *load = slot->load;
    diropargs3 place = {kit_handle_lend(&load->churn_directory), slot->name};
    if (slot->position++ % 2 == 0) {
        CREATE3args arguments = {.where = place, .how = {.mode = GUARDED}};
        arguments.how.createhow3_u.g_obj_attributes = kit_attributes_with_mode(0644);
        queued(slot, rpc_nfs3_create_async(slot->rpc, on_simple, &arguments, slot));
    } else {
        REMOVE3args arguments = {place};
        queued(slot, rpc_nfs3_remove_async(slot->rpc, on_simple, &arguments, slot));
    }
}

static void on_readdirplus(struct rpc_context *rpc, int rpc_status, void *data, void *context) {
    slot *slot = context;
    load_check(slot, rpc_status, data, status_of(rpc_status, data), "READDIRPLUS");
    const READDIRPLUS3resok *ok = &((const READDIRPLUS3res *)data)->READDIRPLUS3res_u.resok;
    const entryplus3 *last = NULL;
    for (const entryplus3 *entry = ok->reply.entries; entry != NULL; entry = entry->nextentry) {
        last = entry;
        // The unit is entries: one more than the call itself, which load_finish counts.
        slot->load->listings++;
    }
    slot->position = ok->reply.eof != 0 || last == NULL ? 0 : last->cookie;
    memcpy(slot->verifier, ok->cookieverf, sizeof slot->verifier);
    if (slot->position == 0) {
        memset(slot->verifier, 0, sizeof slot->verifier);
    }
    load_finish(slot, 0);
}

static void issue_readdirplus(slot *slot) {
    READDIRPLUS3args arguments = {
        .dir = kit_handle_lend(&slot->load->names_directory), .cookie = slot->position, .dircount = 8192,
        .maxcount = 32768};
    memcpy(arguments.cookieverf, slot->verifier, sizeof arguments.cookieverf);
    queued(slot, rpc_nfs3_readdirplus_async(slot->rpc, on_readdirplus, &arguments, slot));
}

const operation operations[] = {
    {"getattr", "ops/s", issue_getattr},
    {"lookup", "ops/s", issue_lookup},
    {"read4k", "ops/s", issue_read4k},
    {"write4k-stable", "ops/s", issue_write4k},
    {"seqread", "MB/s", issue_sequential_read},
    {"seqwrite-commit", "MB/s", issue_sequential_write},
    {"create-remove", "ops/s", issue_create_remove},
    {"readdirplus", "entries/s", issue_readdirplus},
    {NULL, NULL, NULL},
};
