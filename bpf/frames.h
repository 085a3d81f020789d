/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The traced functions that each thread is in, as a stack of frames: the functions nest
 * (kernel_recvmsg calls sock_recvmsg calls tcp_recvmsg), and so may one function in itself, in a
 * thread or in a soft interrupt on top of it.
 *
 * As in in_flight_stack.h, most threads have a slot in an array and the others an entry in a hash.
 * Here the slot is the tid modulo the size of the array: most calls of these functions already ask
 * the kernel for the tid.
 *
 * Probes    none of its own
 * Maps
 *   frames_by_slot       slot of a thread -> struct frames
 *   functions_of_thread  key of a thread without a slot -> struct frames;
 *                        FRAME_SLOT_KEY | slot, for a slot in use -> zeros
 *   no_frames            0 -> zeros, to insert: too large for the BPF stack
 *   function_probes      function -> struct probe_stats
 * Overhead  docs/benchmarks.md
 * Caveats   FRAMES at once per thread. More are taken for calls whose returns were missed, and are
 *           counted as lost.
 */
#pragma once

#define FRAME_SLOTS 2048	  /* a power of two */
#define FRAME_SLOT_KEY (3U << 30) /* more than any thread's key */
#define FRAMES 8		  /* a power of two, and more than functions nest */

#ifdef BY_FENTRY
#define IS_SAME_CALL(entered, returned) ((entered) == (returned))
#else
/*
 * How far the stack pointer at a return may be from that at the entry, in bytes: the return address
 * and what a return trampoline pushes. Frames of one function are farther apart.
 */
#define STACK_SLACK 64
#define IS_SAME_CALL(entered, returned) ((returned) - (entered) + STACK_SLACK <= 2 * STACK_SLACK)
#endif

struct frame {
	u64 start_ns;
	u64 stack_pointer; /* at the entry; by fentry, the address of the arguments */
	u8 function;
	u8 path;      /* PATH_USER or PATH_KERNEL */
	u8 transport; /* TRANSPORT_TCP and so on */
	u8 pad;
	u32 port; /* 0 unless the label is "port" */
};

struct frames {
	u32 depth;
	u32 owner; /* in frames_by_slot: key of the thread that has the slot; 0: the slot is free */
	struct frame frame[FRAMES];
};

BPF_ARRAY(frames_by_slot, struct frames, FRAME_SLOTS);
BPF_HASH(functions_of_thread, u32, struct frames, THREADS);
BPF_ARRAY(no_frames, struct frames, 1);
BPF_PERCPU_ARRAY(function_probes, struct probe_stats, FUNCTIONS);

/* The tid; but the idle tasks of all CPUs share tid 0, and soft interrupts run on top of them. */
static __always_inline u32 thread_key(u64 pid_tgid)
{
	u32 tid = pid_tgid;

	return tid ? tid : 1U << 31 | bpf_get_smp_processor_id();
}

static __always_inline struct frames *frames_in_slot(u32 key)
{
	u32 slot = key & (FRAME_SLOTS - 1);
	struct frames *frames = frames_by_slot.lookup(&slot);

	return frames && frames->owner == key ? frames : 0;
}

static __always_inline struct frames *find_frames(u32 key)
{
	struct frames *frames = frames_in_slot(key);

	return frames ? frames : functions_of_thread.lookup(&key);
}

/* The thread's frames, made if there are none yet; null if there is no room. */
static __always_inline struct frames *frames_of_thread(u32 key)
{
	u32 zero = 0, slot = key & (FRAME_SLOTS - 1), slot_key = FRAME_SLOT_KEY | slot;
	struct frames *frames = find_frames(key), *none = no_frames.lookup(&zero);

	if (frames || !none)
		return frames;
	if (!functions_of_thread.insert(&slot_key, none)) {
		frames = frames_by_slot.lookup(&slot);
		if (frames) {
			frames->depth = 0;
			frames->owner = key;
		}
	} else {
		if (functions_of_thread.insert(&key, none))
			return 0;
		frames = functions_of_thread.lookup(&key);
	}
	count_event(EVENT_FUNCTION_THREAD_ADDED);
	return frames;
}

static __always_inline void count_function_abandoned(u32 function)
{
	struct probe_stats *stats = function_probes.lookup(&function);

	if (stats)
		stats->abandoned++;
	count_event(EVENT_RETURN_NOT_SEEN);
}

static __always_inline void abandon_frames(struct frames *frames)
{
	u32 i;

#pragma clang loop unroll(disable)
	for (i = 0; i < FRAMES; i++)
		if (i < frames->depth)
			count_function_abandoned(frames->frame[i].function);
	frames->depth = 0;
}

static __always_inline struct frame *frame_below_top(struct frames *frames, u32 distance)
{
	return &frames->frame[(frames->depth - 1 - distance) & (FRAMES - 1)];
}

/* Whether the innermost traced function that the thread is in is this one. */
static __always_inline bool is_directly_inside(u32 key, u32 function)
{
	struct frames *frames = find_frames(key);

	return frames && frames->depth && frame_below_top(frames, 0)->function == function;
}

static __always_inline bool is_frame_of(struct frame *frame, u32 function, u64 stack_pointer)
{
	return frame->function == function && IS_SAME_CALL(frame->stack_pointer, stack_pointer);
}

/* The thread ends, and its calls with it. */
static __always_inline void forget_functions(u32 tid)
{
	struct frames *in_slot = frames_in_slot(tid);
	struct frames *frames = in_slot ? in_slot : functions_of_thread.lookup(&tid);
	u32 key = in_slot ? FRAME_SLOT_KEY | (tid & (FRAME_SLOTS - 1)) : tid;

	if (!frames)
		return;
	abandon_frames(frames);
	if (in_slot)
		in_slot->owner = 0; /* before another thread can take the slot */
	if (!functions_of_thread.delete(&key))
		count_event(EVENT_FUNCTION_THREAD_REMOVED);
}

static __always_inline void forget_if_idle(u32 tid)
{
	struct frames *frames = find_frames(tid);

	if (frames && !frames->depth)
		forget_functions(tid);
}
