// SPDX-License-Identifier: GPL-2.0-only
/*
 * The function layer: calls inside the kernel, from the entry of a function to its return.
 *
 * Probes    function_entered and function_returned, at each function of tracer/model/operations.py
 *           that this kernel has: by kprobe and kretprobe, or (BY_FENTRY) by fentry and fexit
 * Maps      those of frames.h, in_flight.h and label.h, and
 *   function_cells  (function * PATHS + path) * TRANSPORTS + transport -> struct cell, per CPU
 * Overhead  docs/benchmarks.md
 * Caveats   A return is matched to the topmost frame of its function with the same stack pointer.
 *           Frames above the match, or left when the stack of frames is full, are calls with a
 *           missed return: a kretprobe had no room, or the kernel skipped the program because
 *           it was already running on that CPU, preempted. They are counted as lost, and so
 *           are all skipped runs (recursion_misses). Where the kernel preempts,
 *           tracer/loading/plan.py therefore prefers kprobes.
 */

#include "histogram.h"
#include "aggregate.h"
#include "filter.h"
#include "current.h"
#include "describe_socket.h"
#include "in_flight.h"
#include "label.h"
#include "frames.h"
#include "function_socket.h"

#define PF_EXITING 4

/*
 * What differs from function to function: numbers in the instructions that the loader replaces
 * (tracer/loading/instructions.py).
 */
#define OF_FUNCTION(name)                                                        \
	({                                                                       \
		u64 constant;                                                    \
		asm volatile("%0 = %1" : "=r"(constant) : "i"(CONSTANT_##name)); \
		constant;                                                        \
	})

BPF_PERCPU_ARRAY(function_cells, struct cell, FUNCTIONS *PATHS *TRANSPORTS);

static __always_inline void enter_function(struct frame *frame, u64 pid_tgid)
{
	u32 function = frame->function, depth;
	struct frames *frames = frames_of_thread(thread_key(pid_tgid));
	struct probe_stats *stats;

	if (!frames) {
		count_event(EVENT_START_MAP_FULL);
		return;
	}
	/* Functions do not nest so deep: these are calls whose returns were missed. */
	if (frames->depth >= FRAMES)
		abandon_frames(frames);
	stats = function_probes.lookup(&function);
	if (stats)
		stats->entered++;
	depth = frames->depth;
	frames->depth = depth + 1;
	frame->start_ns = bpf_ktime_get_ns();
	frames->frame[depth & (FRAMES - 1)] = *frame;
}

static __always_inline void finish_function(struct frame *frame, s64 ret, u64 bytes, u64 now_ns,
					    u64 pid_tgid)
{
	u32 function = frame->function;
	u32 index = (function * PATHS + frame->path) * TRANSPORTS + frame->transport;
	struct probe_stats *stats = function_probes.lookup(&function);
	struct cell *cell = labelled_cell(CELLS + index, frame->port, pid_tgid);

	if (stats)
		stats->returned++;
	if (!cell)
		cell = function_cells.lookup(&index);
	if (cell)
		add_call(cell, duration_ns(frame->start_ns, now_ns), ret, bytes);
}

/*
 * Whether the thread is ending. The kernel closes its last files after on_thread_end(); they must
 * not make an entry for the thread again.
 */
static __always_inline bool is_ending(void)
{
	u32 flags = 0;

	READ_FIELD(&flags, current_task(), TASK_STRUCT_FLAGS);
	return flags & PF_EXITING;
}

/*
 * Returned without a known entry: the call entered before the probes were attached, or there was no
 * room for it. The lack of room was counted at the entry.
 */
static __always_inline void function_without_entry(u32 key, u64 pid_tgid)
{
	if (!is_armed() || !is_traced(pid_tgid) || is_ending() || !frames_of_thread(key))
		return;
	count_event(EVENT_RETURN_WITHOUT_ENTRY);
}

static __always_inline void exit_function(u32 function, s64 ret, u64 bytes, u64 stack_pointer,
					  u64 pid_tgid)
{
	u64 now_ns = bpf_ktime_get_ns();
	u32 key = thread_key(pid_tgid), i, depth, found;
	struct frames *frames;

#ifdef FILTER_PIDS
	if (!is_followed(pid_tgid >> 32))
		return;
#endif
	frames = find_frames(key);
	if (!frames) {
		function_without_entry(key, pid_tgid);
		return;
	}
	depth = frames->depth;
	found = FRAMES;
#pragma clang loop unroll(disable)
	for (i = 0; i < FRAMES; i++) {
		if (i >= depth || found < FRAMES)
			break;
		if (is_frame_of(frame_below_top(frames, i), function, stack_pointer))
			found = i;
	}
	if (found == FRAMES) {
		function_without_entry(key, pid_tgid);
		return;
	}
	finish_function(frame_below_top(frames, found), ret, bytes, now_ns, pid_tgid);
	FORGET_ORIGIN(found);
#pragma clang loop unroll(disable)
	for (i = 0; i < FRAMES - 1; i++)
		if (i < found)
			count_function_abandoned(frame_below_top(frames, i)->function);
	frames->depth = depth - 1 - found;
}

#ifdef BY_FENTRY
/* The arguments, a word each (a struct has as many as it fills), and then the returned value. */
typedef u64 context;
#define FUNCTION_ARGUMENT(ctx, number) ((ctx)[(number)-1])
#define STACK_POINTER(ctx) (u64)(ctx) /* the address of the arguments */

/*
 * In assembler, since the compiler would merge the cases into one load from a computed address,
 * which the verifier refuses.
 */
#define CASE_OF_SLOTS(slots)                                                                     \
      case slots:                                                                                \
		asm volatile("%0 = *(u64 *)(%1 + %2)" : "=r"(value) : "r"(ctx), "i"(8 * slots)); \
		break

static __always_inline s32 returned_value(context *ctx, u64 slots)
{
	u64 value = 0;

	switch (slots) {
		CASE_OF_SLOTS(1);
		CASE_OF_SLOTS(2);
		CASE_OF_SLOTS(3);
		CASE_OF_SLOTS(4);
		CASE_OF_SLOTS(5);
		CASE_OF_SLOTS(6);
		CASE_OF_SLOTS(7);
		CASE_OF_SLOTS(8);
	}
	return value;
}
#else
typedef struct pt_regs context;
#define FUNCTION_ARGUMENT(ctx, number) PT_REGS_PARM##number(ctx)
#define STACK_POINTER(ctx) PT_REGS_SP(ctx)

static __always_inline s32 returned_value(context *ctx, u64 slots)
{
	return PT_REGS_RC(ctx);
}
#endif

/* Whether this call is part of a call of another function, or of a system call, that counts. */
static __always_inline bool is_part_of_another(u64 pid_tgid)
{
	u64 inside = OF_FUNCTION(INSIDE);

	if (OF_FUNCTION(SKIPS_NEW) && is_in_socket_call(pid_tgid))
		return true;
	return inside && is_directly_inside(thread_key(pid_tgid), inside - 1);
}

int function_entered(context *ctx)
{
	u64 pid_tgid = bpf_get_current_pid_tgid(), argument = OF_FUNCTION(ARGUMENT);
	u64 path = OF_FUNCTION(PATH);
	struct frame frame = {
	    .function = OF_FUNCTION(NUMBER),
	    .stack_pointer = STACK_POINTER(ctx),
	};

	if (!is_traced(pid_tgid) || is_part_of_another(pid_tgid))
		return 0;
	if (argument == ARGUMENT_SOCKET)
		frame_of_socket(&frame, (void *)FUNCTION_ARGUMENT(ctx, 1));
	else if (argument == ARGUMENT_SOCK)
		frame_of_sock(&frame, (void *)FUNCTION_ARGUMENT(ctx, 1), OF_FUNCTION(TRANSPORT));
	else if (argument == ARGUMENT_FILE)
		frame_of_inode_file(&frame, (void *)FUNCTION_ARGUMENT(ctx, 2));
	else if (argument == ARGUMENT_NEW)
		frame_of_new(&frame, FUNCTION_ARGUMENT(ctx, 1), FUNCTION_ARGUMENT(ctx, 2),
			     FUNCTION_ARGUMENT(ctx, 3));
	else
		frame_of_new(&frame, FUNCTION_ARGUMENT(ctx, 2), FUNCTION_ARGUMENT(ctx, 3),
			     FUNCTION_ARGUMENT(ctx, 4));
	if (path != PATH_OF_SOCKET)
		frame.path = path;
	enter_function(&frame, pid_tgid);
	return 0;
}

int function_returned(context *ctx)
{
	u64 pid_tgid = bpf_get_current_pid_tgid(), returns = OF_FUNCTION(RETURNS), bytes = 0;
	s64 ret = 0;

	if (is_part_of_another(pid_tgid))
		return 0;
	/* They return int: the upper half of the register is undefined. */
	if (returns != RETURNS_NOTHING)
		ret = returned_value(ctx, OF_FUNCTION(SLOTS));
	if (returns == RETURNS_BYTES && ret > 0)
		bytes = ret;
	exit_function(OF_FUNCTION(NUMBER), ret, bytes, STACK_POINTER(ctx), pid_tgid);
	/* sock_close and sock_release are also passed by threads that are ending. */
	if ((OF_FUNCTION(ARGUMENT) == ARGUMENT_FILE || returns == RETURNS_NOTHING) && is_ending())
		forget_if_idle(pid_tgid);
	return 0;
}
