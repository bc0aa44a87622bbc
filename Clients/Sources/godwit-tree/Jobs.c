#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "Tree.h"

static void call_next(job *job);

const kit_handle *entry_parent_handle(const copier *copier, const entry *entry) {
    return entry->parent < 0 ? &copier->top : &copier->tree.entries[entry->parent].handle;
}

void count_mismatch(copier *copier, const entry *entry, const char *what) {
    copier->tally.mismatches++;
    if (copier->tally.mismatches <= 20) {
        fprintf(stderr, "tree: %s: %s\n", entry->path, what);
    }
}

static void job_end(job *job) {
    if (job->file >= 0) {
        close(job->file);
        job->file = -1;
    }
    job->step = STEP_IDLE;
    job->copier->busy--;
}

static void job_fail(job *job, const char *call, int status) {
    char text[80];
    snprintf(text, sizeof text, "%s answered %s (%d)", call, kit_status_name(status), status);
    count_mismatch(job->copier, job->entry, text);
    job_end(job);
}

/// The status of a reply. -1 when the call is being sent again or the job is over.
static int judge(job *job, int rpc_status, const void *data, const char *call) {
    if (rpc_status == RPC_STATUS_CANCEL) {
        return -1;
    }
    if (rpc_status != RPC_STATUS_SUCCESS) {
        kit_fail("%s: %s: %s", job->entry->path, call, data ? (const char *)data : "call failed");
    }
    int status = (int)*(const nfsstat3 *)data;
    if (status == NFS3ERR_JUKEBOX) {
        kit_sleep_microseconds(10000);
        call_next(job);
        return -1;
    }
    return status;
}

static diropargs3 place(const job *job) {
    const kit_handle *directory = entry_parent_handle(job->copier, job->entry);
    return (diropargs3){kit_handle_lend(directory), (char *)(uintptr_t)job->entry->name};
}

/// Fills `buffer` from the local file at `offset`; `length` is what there was.
static void read_local(job *job, char *buffer) {
    job->length = 0;
    while (job->length < TRANSFER_BYTES) {
        ssize_t count =
            pread(job->file, buffer + job->length, TRANSFER_BYTES - job->length, (off_t)(job->offset + job->length));
        if (count < 0) {
            kit_fail("%s: %s", job->entry->path, strerror(errno));
        }
        if (count == 0) {
            break;
        }
        job->length += (uint32_t)count;
    }
}

static void start_writing(job *job) {
    job->offset = 0;
    job->has_verifier = false;
    job->is_verifier_changed = false;
    read_local(job, job->buffer);
    if (job->length == 0) {
        job->copier->tally.files++;
        job_end(job);
        return;
    }
    job->step = STEP_WRITE;
    call_next(job);
}

static void on_create(struct rpc_context *rpc, int rpc_status, void *data, void *context) {
    job *job = context;
    int status = judge(job, rpc_status, data, "CREATE");
    if (status == NFS3_OK) {
        const CREATE3resok *ok = &((const CREATE3res *)data)->CREATE3res_u.resok;
        if (!ok->obj.handle_follows) {
            kit_fail("the server answered CREATE without a handle.");
        }
        job->handle = kit_handle_copy(&ok->obj.post_op_fh3_u.handle);
        start_writing(job);
    } else if (status > 0) {
        job_fail(job, "CREATE", status);
    }
}

static void on_write(struct rpc_context *rpc, int rpc_status, void *data, void *context) {
    job *job = context;
    int status = judge(job, rpc_status, data, "WRITE");
    if (status < 0) {
        return;
    }
    if (status != NFS3_OK) {
        job_fail(job, "WRITE", status);
        return;
    }
    const WRITE3resok *ok = &((const WRITE3res *)data)->WRITE3res_u.resok;
    if (ok->count == 0 || ok->count > job->length) {
        job_fail(job, "WRITE with a wrong count", status);
        return;
    }
    if (ok->committed == UNSTABLE) {
        bool differs = job->has_verifier && memcmp(job->verifier, ok->verf, sizeof job->verifier) != 0;
        job->is_verifier_changed = job->is_verifier_changed || differs;
        memcpy(job->verifier, ok->verf, sizeof job->verifier);
        job->has_verifier = true;
    }
    job->copier->tally.bytes += ok->count;
    job->offset += ok->count;
    read_local(job, job->buffer);
    if (job->length == 0 && !job->has_verifier) {
        job->copier->tally.files++;
        job_end(job);
        return;
    }
    job->step = job->length > 0 ? STEP_WRITE : STEP_COMMIT;
    call_next(job);
}

static void on_commit(struct rpc_context *rpc, int rpc_status, void *data, void *context) {
    job *job = context;
    int status = judge(job, rpc_status, data, "COMMIT");
    if (status == NFS3_OK) {
        const COMMIT3resok *ok = &((const COMMIT3res *)data)->COMMIT3res_u.resok;
        if (job->is_verifier_changed || memcmp(job->verifier, ok->verf, sizeof job->verifier) != 0) {
            // The server was restarted in between: what it had not committed may be gone (RFC 1813 section 4.8).
            job->copier->tally.resent++;
            start_writing(job);
            return;
        }
        job->copier->tally.files++;
        job_end(job);
    } else if (status > 0) {
        job_fail(job, "COMMIT", status);
    }
}

static void on_symlink(struct rpc_context *rpc, int rpc_status, void *data, void *context) {
    job *job = context;
    int status = judge(job, rpc_status, data, "SYMLINK");
    if (status == NFS3_OK || status == NFS3ERR_EXIST) {
        job->copier->tally.links++;
        job_end(job);
    } else if (status > 0) {
        job_fail(job, "SYMLINK", status);
    }
}

static void on_mkdir(struct rpc_context *rpc, int rpc_status, void *data, void *context) {
    job *job = context;
    int status = judge(job, rpc_status, data, "MKDIR");
    if (status == NFS3_OK || status == NFS3ERR_EXIST) {
        job->step = STEP_LOOKUP;
        call_next(job);
    } else if (status > 0) {
        job_fail(job, "MKDIR", status);
    }
}

static void on_list(struct rpc_context *rpc, int rpc_status, void *data, void *context) {
    job *job = context;
    int status = judge(job, rpc_status, data, "READDIR");
    if (status < 0) {
        return;
    }
    if (status != NFS3_OK) {
        job_fail(job, "READDIR", status);
        return;
    }
    const READDIR3resok *ok = &((const READDIR3res *)data)->READDIR3res_u.resok;
    for (const entry3 *found = ok->reply.entries; found != NULL; found = found->nextentry) {
        bool is_own = strcmp(found->name, ".") != 0 && strcmp(found->name, "..") != 0
            && strcmp(found->name, ".snapshot") != 0;
        job->listed += is_own;
        job->cookie = found->cookie;
    }
    memcpy(job->verifier, ok->cookieverf, sizeof job->verifier);
    if (!ok->reply.eof && ok->reply.entries != NULL) {
        call_next(job);
        return;
    }
    if (job->listed != job->entry->child_count) {
        count_mismatch(job->copier, job->entry, "another number of entries in the export");
    }
    job->copier->tally.directories++;
    job_end(job);
}

/// After LOOKUP of a directory its handle is known; of a file, the comparison begins.
static void found_entry(job *job, const fattr3 *attributes) {
    entry *entry = job->entry;
    copier *copier = job->copier;
    if (S_ISDIR(entry->mode)) {
        entry->handle = job->handle;
        if (!copier->is_exact || !copier->is_verifying) {
            copier->tally.directories++;
            job_end(job);
            return;
        }
        job->step = STEP_LIST;
        job->cookie = 0;
        job->listed = 0;
        memset(job->verifier, 0, sizeof job->verifier);
        call_next(job);
        return;
    }
    bool is_link = S_ISLNK(entry->mode);
    if (attributes->type != (is_link ? NF3LNK : NF3REG)) {
        count_mismatch(copier, entry, "another type");
        job_end(job);
        return;
    }
    if (!is_link && (attributes->size != entry->size || (attributes->mode & 07777) != (entry->mode & 07777))) {
        count_mismatch(copier, entry, attributes->size != entry->size ? "another size" : "another mode");
        job_end(job);
        return;
    }
    job->step = is_link ? STEP_READLINK : STEP_READ;
    job->offset = 0;
    if (!is_link && entry->size == 0) {
        copier->tally.files++;
        job_end(job);
        return;
    }
    call_next(job);
}

static void on_lookup(struct rpc_context *rpc, int rpc_status, void *data, void *context) {
    job *job = context;
    int status = judge(job, rpc_status, data, "LOOKUP");
    if (status == NFS3_OK) {
        const LOOKUP3resok *ok = &((const LOOKUP3res *)data)->LOOKUP3res_u.resok;
        job->handle = kit_handle_copy(&ok->object);
        if (!ok->obj_attributes.attributes_follow) {
            kit_fail("the server answered LOOKUP without attributes.");
        }
        found_entry(job, &ok->obj_attributes.post_op_attr_u.attributes);
    } else if (status > 0) {
        job_fail(job, "LOOKUP", status);
    }
}

static void on_read(struct rpc_context *rpc, int rpc_status, void *data, void *context) {
    job *job = context;
    int status = judge(job, rpc_status, data, "READ");
    if (status < 0) {
        return;
    }
    if (status != NFS3_OK) {
        job_fail(job, "READ", status);
        return;
    }
    const READ3resok *ok = &((const READ3res *)data)->READ3res_u.resok;
    read_local(job, job->local);
    uint32_t count = ok->data.data_len;
    if (count == 0 || count > job->length || memcmp(job->local, ok->data.data_val, count) != 0) {
        count_mismatch(job->copier, job->entry, "other bytes");
        job_end(job);
        return;
    }
    job->offset += count;
    job->copier->tally.bytes += count;
    if (job->offset >= job->entry->size) {
        job->copier->tally.files++;
        job_end(job);
        return;
    }
    call_next(job);
}

static void on_readlink(struct rpc_context *rpc, int rpc_status, void *data, void *context) {
    job *job = context;
    int status = judge(job, rpc_status, data, "READLINK");
    if (status == NFS3_OK) {
        ssize_t length = readlink(job->entry->path, job->local, TRANSFER_BYTES - 1);
        job->local[length > 0 ? length : 0] = '\0';
        if (strcmp(job->local, ((const READLINK3res *)data)->READLINK3res_u.resok.data) != 0) {
            count_mismatch(job->copier, job->entry, "another target");
        }
        job->copier->tally.links++;
        job_end(job);
    } else if (status > 0) {
        job_fail(job, "READLINK", status);
    }
}

/// Hands the call of a writing step to libnfs.
static int call_copying(job *job, struct rpc_context *rpc) {
    mode_t mode = job->entry->mode & 07777;
    switch (job->step) {
    case STEP_MKDIR: {
        MKDIR3args arguments = {place(job), kit_attributes_with_mode(mode)};
        return rpc_nfs3_mkdir_async(rpc, on_mkdir, &arguments, job);
    }
    case STEP_CREATE: {
        CREATE3args arguments = {place(job), {.mode = UNCHECKED}};
        arguments.how.createhow3_u.obj_attributes = kit_attributes_with_mode(mode);
        return rpc_nfs3_create_async(rpc, on_create, &arguments, job);
    }
    case STEP_WRITE: {
        WRITE3args arguments = {
            .file = kit_handle_lend(&job->handle), .offset = job->offset, .count = job->length,
            .stable = job->copier->is_stable ? FILE_SYNC : UNSTABLE, .data = {job->length, job->buffer}};
        return rpc_nfs3_write_async(rpc, on_write, &arguments, job);
    }
    case STEP_COMMIT: {
        COMMIT3args arguments = {.file = kit_handle_lend(&job->handle)};
        return rpc_nfs3_commit_async(rpc, on_commit, &arguments, job);
    }
    default: {
        ssize_t length = readlink(job->entry->path, job->buffer, TRANSFER_BYTES - 1);
        job->buffer[length > 0 ? length : 0] = '\0';
        SYMLINK3args arguments = {place(job), {kit_attributes_with_mode(0777), job->buffer}};
        return rpc_nfs3_symlink_async(rpc, on_symlink, &arguments, job);
    }
    }
}

/// Hands the call of the job's step to libnfs.
static void call_next(job *job) {
    struct rpc_context *rpc = job->connection->rpc;
    int queued;
    switch (job->step) {
    case STEP_LOOKUP: {
        LOOKUP3args arguments = {place(job)};
        queued = rpc_nfs3_lookup_async(rpc, on_lookup, &arguments, job);
        break;
    }
    case STEP_READ: {
        READ3args arguments = {
            .file = kit_handle_lend(&job->handle), .offset = job->offset, .count = TRANSFER_BYTES};
        queued = rpc_nfs3_read_async(rpc, on_read, &arguments, job);
        break;
    }
    case STEP_READLINK: {
        READLINK3args arguments = {kit_handle_lend(&job->handle)};
        queued = rpc_nfs3_readlink_async(rpc, on_readlink, &arguments, job);
        break;
    }
    case STEP_LIST: {
        READDIR3args arguments = {.dir = kit_handle_lend(&job->handle), .cookie = job->cookie, .count = 32768};
        memcpy(arguments.cookieverf, job->verifier, sizeof arguments.cookieverf);
        queued = rpc_nfs3_readdir_async(rpc, on_list, &arguments, job);
        break;
    }
    default:
        queued = call_copying(job, rpc);
        break;
    }
    if (queued != 0) {
        kit_fail("libnfs could not queue a call: %s", rpc_get_error(rpc));
    }
}

void job_start(job *job, entry *entry) {
    copier *copier = job->copier;
    job->entry = entry;
    job->file = -1;
    copier->busy++;
    if (S_ISREG(entry->mode)) {
        job->file = open(entry->path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        if (job->file < 0) {
            kit_fail("%s: %s", entry->path, strerror(errno));
        }
    }
    if (copier->is_verifying) {
        job->step = STEP_LOOKUP;
    } else {
        job->step = S_ISDIR(entry->mode) ? STEP_MKDIR : S_ISLNK(entry->mode) ? STEP_SYMLINK : STEP_CREATE;
    }
    call_next(job);
}
