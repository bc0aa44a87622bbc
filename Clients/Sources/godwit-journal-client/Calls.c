#include <string.h>

#include "Journal.h"

static void call_begin(call *call) {
    call->is_done = false;
    call->is_failed = false;
    call->has_handle = false;
    call->has_attributes = false;
    call->status = -1;
}

/// Marks a call as answered. False when there is no reply to look at.
static bool call_answered(call *call, int rpc_status, void *data) {
    call->is_done = true;
    if (rpc_status == RPC_STATUS_SUCCESS && data != NULL) {
        return true;
    }
    call->is_failed = true;
    snprintf(
        call->reason, sizeof call->reason, "%s",
        rpc_status == RPC_STATUS_ERROR && data != NULL ? (const char *)data : "cancelled");
    return false;
}

static void take_attributes(call *call, const post_op_attr *attributes) {
    call->has_attributes = attributes->attributes_follow != 0;
    if (call->has_attributes) {
        call->attributes = attributes->post_op_attr_u.attributes;
    }
}

bool calls_await(worker *self, call *calls, uint32_t count) {
    uint64_t started = kit_now_nanoseconds();
    uint64_t deadline = started + self->settings->give_up_seconds * 1000000000ull;
    uint32_t done = 0;
    while (done < count) {
        if (calls[done].is_done) {
            done++;
            continue;
        }
        kit_pump(&self->connection, 100);
        if (kit_now_nanoseconds() > deadline) {
            complain(
                self, "no answer for %llu s: giving up; %s", (unsigned long long)self->settings->give_up_seconds,
                rpc_get_error(self->connection.rpc));
            self->gave_up = true;
            return false;
        }
    }
    worker_note_gap(self, started);
    for (uint32_t index = 0; index < count; index++) {
        if (calls[index].is_failed) {
            complain(self, "%s: call failed: %s", operation_names[self->current_kind], calls[index].reason);
            atomic_fetch_add(&self->tally->mismatches, 1);
            self->gave_up = true;
            return false;
        }
        if (calls[index].status == NFS3ERR_STALE || calls[index].status == NFS3ERR_BADHANDLE) {
            complain(self, "%s: %s", operation_names[self->current_kind], kit_status_name(calls[index].status));
            atomic_fetch_add(&self->tally->stale_handles, 1);
        }
    }
    return true;
}

/// Waits for one call after `queued`, the result of handing it to libnfs.
static bool finish(worker *self, call *call, int queued) {
    if (queued != 0) {
        kit_fail("libnfs could not queue a call: %s", rpc_get_error(self->connection.rpc));
    }
    return calls_await(self, call, 1);
}

static diropargs3 place(const kit_handle *directory, const char *name) {
    return (diropargs3){.dir = kit_handle_lend(directory), .name = (char *)(uintptr_t)name};
}

static void on_getattr(struct rpc_context *rpc, int rpc_status, void *data, void *context) {
    call *call = context;
    if (call_answered(call, rpc_status, data)) {
        const GETATTR3res *result = data;
        call->status = result->status;
        call->has_attributes = result->status == NFS3_OK;
        if (call->has_attributes) {
            call->attributes = result->GETATTR3res_u.resok.obj_attributes;
        }
    }
}

bool call_getattr(worker *self, call *call, const kit_handle *handle) {
    GETATTR3args arguments = {kit_handle_lend(handle)};
    call_begin(call);
    return finish(self, call, rpc_nfs3_getattr_async(self->connection.rpc, on_getattr, &arguments, call));
}

static void on_lookup(struct rpc_context *rpc, int rpc_status, void *data, void *context) {
    call *call = context;
    if (call_answered(call, rpc_status, data)) {
        const LOOKUP3res *result = data;
        call->status = result->status;
        if (result->status == NFS3_OK) {
            call->handle = kit_handle_copy(&result->LOOKUP3res_u.resok.object);
            call->has_handle = true;
            take_attributes(call, &result->LOOKUP3res_u.resok.obj_attributes);
        }
    }
}

bool call_lookup(worker *self, call *call, const kit_handle *directory, const char *name) {
    LOOKUP3args arguments = {place(directory, name)};
    call_begin(call);
    return finish(self, call, rpc_nfs3_lookup_async(self->connection.rpc, on_lookup, &arguments, call));
}

static void on_create(struct rpc_context *rpc, int rpc_status, void *data, void *context) {
    call *call = context;
    if (call_answered(call, rpc_status, data)) {
        const CREATE3res *result = data;
        call->status = result->status;
        const CREATE3resok *ok = &result->CREATE3res_u.resok;
        if (result->status == NFS3_OK) {
            take_attributes(call, &ok->obj_attributes);
            call->has_handle = ok->obj.handle_follows != 0;
            if (call->has_handle) {
                call->handle = kit_handle_copy(&ok->obj.post_op_fh3_u.handle);
            }
        }
    }
}

bool call_create(
    worker *self, call *call, const kit_handle *directory, const char *name, createmode3 mode, uint64_t verifier) {
    CREATE3args arguments = {.where = place(directory, name), .how = {.mode = mode}};
    if (mode == EXCLUSIVE) {
        memcpy(arguments.how.createhow3_u.verf, &verifier, sizeof verifier);
    } else {
        arguments.how.createhow3_u.g_obj_attributes = kit_attributes_with_mode(0644);
    }
    call_begin(call);
    return finish(self, call, rpc_nfs3_create_async(self->connection.rpc, on_create, &arguments, call));
}

static void on_mkdir(struct rpc_context *rpc, int rpc_status, void *data, void *context) {
    call *call = context;
    if (call_answered(call, rpc_status, data)) {
        const MKDIR3res *result = data;
        call->status = result->status;
        const MKDIR3resok *ok = &result->MKDIR3res_u.resok;
        if (result->status == NFS3_OK) {
            take_attributes(call, &ok->obj_attributes);
            call->has_handle = ok->obj.handle_follows != 0;
            if (call->has_handle) {
                call->handle = kit_handle_copy(&ok->obj.post_op_fh3_u.handle);
            }
        }
    }
}

bool call_mkdir(worker *self, call *call, const kit_handle *directory, const char *name) {
    MKDIR3args arguments = {.where = place(directory, name), .attributes = kit_attributes_with_mode(0755)};
    call_begin(call);
    return finish(self, call, rpc_nfs3_mkdir_async(self->connection.rpc, on_mkdir, &arguments, call));
}

/// Replies of which only the status matters begin with it.
static void on_status(struct rpc_context *rpc, int rpc_status, void *data, void *context) {
    call *call = context;
    if (call_answered(call, rpc_status, data)) {
        call->status = *(const nfsstat3 *)data;
    }
}

bool call_rename(worker *self, call *call, const kit_handle *directory, const char *from, const char *to) {
    RENAME3args arguments = {.from = place(directory, from), .to = place(directory, to)};
    call_begin(call);
    return finish(self, call, rpc_nfs3_rename_async(self->connection.rpc, on_status, &arguments, call));
}

bool call_link(worker *self, call *call, const kit_handle *file, const kit_handle *directory, const char *name) {
    LINK3args arguments = {.file = kit_handle_lend(file), .link = place(directory, name)};
    call_begin(call);
    return finish(self, call, rpc_nfs3_link_async(self->connection.rpc, on_status, &arguments, call));
}

bool call_remove(worker *self, call *call, const kit_handle *directory, const char *name) {
    REMOVE3args arguments = {place(directory, name)};
    call_begin(call);
    return finish(self, call, rpc_nfs3_remove_async(self->connection.rpc, on_status, &arguments, call));
}

bool call_rmdir(worker *self, call *call, const kit_handle *directory, const char *name) {
    RMDIR3args arguments = {place(directory, name)};
    call_begin(call);
    return finish(self, call, rpc_nfs3_rmdir_async(self->connection.rpc, on_status, &arguments, call));
}

static void on_read(struct rpc_context *rpc, int rpc_status, void *data, void *context) {
    call *call = context;
    if (call_answered(call, rpc_status, data)) {
        const READ3res *result = data;
        call->status = result->status;
        const READ3resok *ok = &result->READ3res_u.resok;
        if (result->status == NFS3_OK) {
            call->count = ok->data.data_len < sizeof call->data ? ok->data.data_len : sizeof call->data;
            memcpy(call->data, ok->data.data_val, call->count);
            call->is_end = ok->eof != 0;
        }
    }
}

bool call_read(worker *self, call *call, const kit_handle *file, uint64_t offset, uint32_t count) {
    READ3args arguments = {.file = kit_handle_lend(file), .offset = offset, .count = count};
    call_begin(call);
    return finish(self, call, rpc_nfs3_read_async(self->connection.rpc, on_read, &arguments, call));
}

static void on_commit(struct rpc_context *rpc, int rpc_status, void *data, void *context) {
    call *call = context;
    if (call_answered(call, rpc_status, data)) {
        const COMMIT3res *result = data;
        call->status = result->status;
        if (result->status == NFS3_OK) {
            memcpy(call->verifier, result->COMMIT3res_u.resok.verf, sizeof call->verifier);
        }
    }
}

bool call_commit(worker *self, call *call, const kit_handle *file) {
    COMMIT3args arguments = {.file = kit_handle_lend(file), .offset = 0, .count = 0};
    call_begin(call);
    return finish(self, call, rpc_nfs3_commit_async(self->connection.rpc, on_commit, &arguments, call));
}

static void on_write(struct rpc_context *rpc, int rpc_status, void *data, void *context) {
    call *call = context;
    if (call_answered(call, rpc_status, data)) {
        const WRITE3res *result = data;
        call->status = result->status;
        if (result->status == NFS3_OK) {
            const WRITE3resok *ok = &result->WRITE3res_u.resok;
            call->count = ok->count;
            call->committed = ok->committed;
            memcpy(call->verifier, ok->verf, sizeof call->verifier);
        }
    }
}

void call_write_send(
    worker *self, call *call, const kit_handle *file, uint64_t offset, char *data, uint32_t count, stable_how stable) {
    WRITE3args arguments = {
        .file = kit_handle_lend(file), .offset = offset, .count = count, .stable = stable, .data = {count, data}};
    call_begin(call);
    if (rpc_nfs3_write_async(self->connection.rpc, on_write, &arguments, call) != 0) {
        kit_fail("libnfs could not queue a call: %s", rpc_get_error(self->connection.rpc));
    }
}

typedef struct entry_visitor {
    void (*each)(void *context, const char *name, uint64_t fileid);
    void *context;
} entry_visitor;

static void on_readdir(struct rpc_context *rpc, int rpc_status, void *data, void *context) {
    call *call = context;
    if (!call_answered(call, rpc_status, data)) {
        return;
    }
    const READDIR3res *result = data;
    call->status = result->status;
    if (result->status != NFS3_OK) {
        return;
    }
    const entry_visitor *visitor = call->context;
    const READDIR3resok *ok = &result->READDIR3res_u.resok;
    for (const entry3 *entry = ok->reply.entries; entry != NULL; entry = entry->nextentry) {
        visitor->each(visitor->context, entry->name, entry->fileid);
        call->cookie = entry->cookie;
    }
    call->is_end = ok->reply.eof != 0;
    memcpy(call->verifier, ok->cookieverf, sizeof call->verifier);
}

bool call_readdir(
    worker *self, call *call, const kit_handle *directory,
    void (*each)(void *context, const char *name, uint64_t fileid),
    void *context) {
    entry_visitor visitor = {each, context};
    READDIR3args arguments = {.dir = kit_handle_lend(directory), .cookie = call->cookie, .count = 4096};
    memcpy(arguments.cookieverf, call->verifier, sizeof arguments.cookieverf);
    call->context = &visitor;
    call_begin(call);
    return finish(self, call, rpc_nfs3_readdir_async(self->connection.rpc, on_readdir, &arguments, call));
}
