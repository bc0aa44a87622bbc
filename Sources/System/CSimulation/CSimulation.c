#define _GNU_SOURCE
#include "CSimulation.h"

#include <dlfcn.h>
#include <link.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <ucontext.h>
#include <unistd.h>

// The thread-local blocks of the two runtime libraries. They are a few words each.
enum { LOCAL_BYTES_MAX = 128, LOCAL_BLOCKS = 2 };

struct local_block {
    void *start;
    size_t count;
};

static struct local_block local_blocks[LOCAL_BLOCKS];
static int local_blocks_found = -1;

struct godwit_fiber {
    ucontext_t context;
    void *stack;
    size_t stack_bytes;
    void (*body)(void *);
    void *argument;
    unsigned char locals[LOCAL_BLOCKS][LOCAL_BYTES_MAX];
    struct godwit_fiber *next;
};

static struct godwit_fiber *spare;

static int find_locals(struct dl_phdr_info *info, size_t size, void *unused) {
    (void)size;
    (void)unused;
    const char *name = info->dlpi_name ? info->dlpi_name : "";
    if (!strstr(name, "libswiftCore.so") && !strstr(name, "libswift_Concurrency.so")) return 0;
    for (int index = 0; index < info->dlpi_phnum; index++) {
        const ElfW(Phdr) *header = &info->dlpi_phdr[index];
        if (header->p_type != PT_TLS || !info->dlpi_tls_data) continue;
        if (header->p_memsz > LOCAL_BYTES_MAX || local_blocks_found == LOCAL_BLOCKS) abort();
        local_blocks[local_blocks_found].start = info->dlpi_tls_data;
        local_blocks[local_blocks_found].count = header->p_memsz;
        local_blocks_found++;
    }
    return 0;
}

static void prepare(void) {
    if (local_blocks_found >= 0) return;
    local_blocks_found = 0;
    dl_iterate_phdr(find_locals, NULL);
}

static void enter(unsigned int high, unsigned int low) {
    struct godwit_fiber *fiber = (struct godwit_fiber *)(((unsigned long)high << 32) | (unsigned long)low);
    fiber->body(fiber->argument);
    abort();
}

godwit_fiber *godwit_fiber_of_thread(void) {
    prepare();
    return calloc(1, sizeof(struct godwit_fiber));
}

godwit_fiber *godwit_fiber_create(size_t stack_bytes, void (*body)(void *), void *argument) {
    prepare();
    struct godwit_fiber *fiber = spare;
    if (fiber && fiber->stack_bytes == stack_bytes) {
        spare = fiber->next;
    } else {
        fiber = calloc(1, sizeof(*fiber));
        fiber->stack_bytes = stack_bytes;
        fiber->stack = mmap(NULL, stack_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (fiber->stack == MAP_FAILED) abort();
        // A stack that is too small ends in a fault, not in another stack.
        if (mprotect(fiber->stack, 4096, PROT_NONE) != 0) abort();
    }
    fiber->body = body;
    fiber->argument = argument;
    memset(fiber->locals, 0, sizeof(fiber->locals));
    getcontext(&fiber->context);
    fiber->context.uc_stack.ss_sp = fiber->stack;
    fiber->context.uc_stack.ss_size = stack_bytes;
    fiber->context.uc_link = NULL;
    unsigned long address = (unsigned long)fiber;
    makecontext(&fiber->context, (void (*)(void))enter, 2, (unsigned int)(address >> 32), (unsigned int)address);
    return fiber;
}

void godwit_fiber_switch(godwit_fiber *from, godwit_fiber *to) {
    for (int index = 0; index < local_blocks_found; index++) {
        memcpy(from->locals[index], local_blocks[index].start, local_blocks[index].count);
        memcpy(local_blocks[index].start, to->locals[index], local_blocks[index].count);
    }
    swapcontext(&from->context, &to->context);
}

void godwit_fiber_destroy(godwit_fiber *fiber) {
    fiber->next = spare;
    spare = fiber;
}

// The runtime's own types are opaque here: a job, and a serial executor of two words of which zero is the generic one.
typedef __attribute__((swiftcall)) void (*enqueue_function)(void *job);
typedef __attribute__((swiftcall)) void (*enqueue_hook)(void *job, enqueue_function original);
typedef __attribute__((swiftcall)) void (*run_function)(void *job, void *identity, void *implementation);

static void (*taker)(void *job);
static run_function run;

static __attribute__((swiftcall)) void take(void *job, enqueue_function original) {
    (void)original;
    taker(job);
}

int godwit_take_jobs(void (*give)(void *job)) {
    enqueue_hook *hook = dlsym(RTLD_DEFAULT, "swift_task_enqueueGlobal_hook");
    run = (run_function)dlsym(RTLD_DEFAULT, "swift_job_run");
    if (!hook || !run) return -1;
    taker = give;
    *hook = take;
    return 0;
}

void godwit_run_job(void *job) { run(job, NULL, NULL); }

void godwit_fix_addresses_and_hashes(char **arguments) {
    int persona = personality(0xffffffff);
    int is_fixed = persona == -1 || (persona & ADDR_NO_RANDOMIZE);
    if (is_fixed && getenv("SWIFT_DETERMINISTIC_HASHING")) return;
    if (getenv("GODWIT_SIM_STARTED")) return;
    if (persona != -1) personality((unsigned long)persona | ADDR_NO_RANDOMIZE);
    setenv("SWIFT_DETERMINISTIC_HASHING", "1", 1);
    setenv("GODWIT_SIM_STARTED", "1", 1);
    execv("/proc/self/exe", arguments);
}
