// What the simulator needs of the machine and Swift cannot say: stacks to switch between, and the hook through which
// the Swift runtime gives its jobs away. No daemon links it.
#ifndef GODWIT_CSIMULATION_H
#define GODWIT_CSIMULATION_H

#include <stddef.h>

typedef struct godwit_fiber godwit_fiber;

/// Makes a fiber with a stack of its own that will run `body(argument)`; the body must end with a switch and never
/// return. Stacks are taken from those of destroyed fibers first.
godwit_fiber *godwit_fiber_create(size_t stack_bytes, void (*body)(void *), void *argument);
/// The fiber of the thread that calls, to switch back to.
godwit_fiber *godwit_fiber_of_thread(void);
/// Leaves `from`, which is running, and goes on with `to`. The thread-local state of the Swift runtime (running task,
/// executor, open accesses) belongs to the fiber, as if each were a thread.
void godwit_fiber_switch(godwit_fiber *from, godwit_fiber *to);
/// Gives a fiber that will never run again back. What its stack refers to is lost.
void godwit_fiber_destroy(godwit_fiber *fiber);

/// From now on the Swift runtime gives every job to `take` instead of to its pool of threads. Returns 0, or -1 when
/// this runtime has no such hook.
int godwit_take_jobs(void (*take)(void *job));
/// Runs a job that was taken on the calling fiber.
void godwit_run_job(void *job);

/// Ends the calling process image and starts it again with the same arguments, without randomised addresses and with
/// Swift's hash seed fixed. Returns at once when that is so already, and when the system refuses.
void godwit_fix_addresses_and_hashes(char **arguments);

#endif
