// SPDX-License-Identifier: GPL-2.0-only
/*
 * The function layer: calls inside the kernel, from the entry of a function to its return.
 *
 * Probes    for each function of tracer/model/operations.py that this kernel has, function_entered
 * and function_returned: by kprobe and kretprobe, or (BY_FENTRY) by fentry and fexit Maps
 * frames_by_place      thread % FRAME_PLACES -> struct frames functions_of_thread  FRAME_PLACE |
 * thread % FRAME_PLACES of threads with a place, those without -> struct frames; see in_flight.h
 *           function_cells       (function * PATHS + path) * TRANSPORTS + transport -> struct cell
 *           function_probes      function -> struct probe_stats
 * Overhead  docs/benchmarks.md
 * Caveats   The functions nest (kernel_recvmsg calls sock_recvmsg calls tcp_recvmsg), and so may
 *           one function in itself, in a thread or in a soft interrupt on top of it. Each thread
 *           therefore has a stack of frames. A return is matched to the topmost frame of its
 *           function that lies at the same place of the kernel's stack. Frames above a match, or
 *           left when the stack is full, are of calls whose return was missed: a kretprobe with no
 *           room, an fexit whose program was at work on that CPU already. They are counted as lost.
 */

#include "histogram.h"
#include "aggregate.h"
#include "filter.h"
#include "current.h"
#include "describe_socket.h"
#include "in_flight.h"
#include "label.h"

#define PATH_USER 0
#define PATH_KERNEL 1
#define PATHS 2
#define PF_EXITING 4
/* What differs from function to function: put into the instructions
 * (tracer/loading/function_layer.py). */
#define OF_FUNCTION(name)                                                        \
	({                                                                       \
		u64 constant;                                                    \
		asm volatile("%0 = %1" : "=r"(constant) : "i"(CONSTANT_##name)); \
		constant;                                                        \
	})

#define FRAME_PLACES 2048      /* a power of two */
#define FRAME_PLACE (3U << 30) /* more than any thread's key */
#define FRAMES 8	       /* a power of two, and more than functions nest */

#ifdef BY_FENTRY
#define IS_SAME_PLACE(entered, returned) ((entered) == (returned))
#else
/* How far the stack pointer at a return may be from that at the entry: the return address and what
 * a return trampoline pushes. Frames of one function are farther apart. */
#define STACK_SLACK 64
#define IS_SAME_PLACE(entered, returned) ((returned) - (entered) + STACK_SLACK <= 2 * STACK_SLACK)
#endif

struct frame {
	u64 start_ns;
	u64 stack_place;
	u8 function;
	u8 path;
	u8 transport;
	u8 seen_by; /* with copies: a bit for each that saw it enter */
	u32 port;
};

struct frames {
	u32 depth;
	u32 returned_function; /* see note_return() */
	u64 returned_from;
	u32 owner; /* in frames_by_place: whose place this is; 0 for nobody's */
	u32 pad;
	struct frame frame[FRAMES];
};

BPF_ARRAY(frames_by_place, struct frames, FRAME_PLACES);
BPF_HASH(functions_of_thread, u32, struct frames, THREADS);
BPF_ARRAY(no_frames, struct frames, 1); /* too large for the stack */
BPF_PERCPU_ARRAY(function_cells, struct cell, FUNCTIONS *PATHS *TRANSPORTS);
BPF_PERCPU_ARRAY(function_probes, struct probe_stats, FUNCTIONS);

/* The idle tasks of all CPUs share tid 0, and soft interrupts run on top of them. */
static __always_inline u32 thread_key(u64 pid_tgid)
{
	u32 tid = pid_tgid;

	return tid ? tid : 1U << 31 | bpf_get_smp_processor_id();
}

static __always_inline struct frames *place_of_frames(u32 key)
{
	u32 place = key & (FRAME_PLACES - 1);
	struct frames *frames = frames_by_place.lookup(&place);

	return frames && frames->owner == key ? frames : 0;
}

static __always_inline struct frames *find_frames(u32 key)
{
	struct frames *frames = place_of_frames(key);

	return frames ? frames : functions_of_thread.lookup(&key);
}

/* As call_of_thread() in in_flight.h. */
static __always_inline struct frames *frames_of_thread(u32 key)
{
	u32 zero = 0, place = key & (FRAME_PLACES - 1), place_key = FRAME_PLACE | place;
	struct frames *frames = find_frames(key), *none = no_frames.lookup(&zero);

	if (frames || !none)
		return frames;
	if (!functions_of_thread.insert(&place_key, none)) {
		frames = frames_by_place.lookup(&place);
		if (frames) {
			frames->depth = 0;
			frames->returned_function = 0;
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

/* What a function's first arguments say of its socket; one of these for each kind of function. */

/* By fentry the arguments come with their types, and their fields are plain loads. */
#ifdef BY_FENTRY
#define READ_ARGUMENT_FIELD(to, argument, offset) \
	(*(to) = *(volatile typeof(*(to)) *)((char *)(argument) + (offset)))
#else
#define READ_ARGUMENT_FIELD READ_FIELD
#endif

/* A socket of user space has a file; one that code in the kernel made has none. */
static __always_inline u8 path_of_file(void *file)
{
	return file ? PATH_USER : PATH_KERNEL;
}

static __always_inline void frame_of_socket(struct frame *frame, void *socket)
{
	struct socket_description to = {.transport = TRANSPORT_OTHER};
	void *sk = 0, *file = 0;

	READ_ARGUMENT_FIELD(&file, socket, SOCKET_FILE);
	frame->path = path_of_file(file);
	READ_ARGUMENT_FIELD(&sk, socket, SOCKET_SK);
	if (sk)
		describe_sock(&to, sk);
	describe_port(&to, sk);
	frame->transport = to.transport;
	frame->port = to.port;
}

/* Functions of a protocol: its sockets are all of one transport. */
static __always_inline void frame_of_sock(struct frame *frame, void *sk, u32 transport)
{
	struct socket_description to = {.transport = transport};
	void *socket = 0, *file = 0;

	READ_ARGUMENT_FIELD(&socket, sk, SOCK_SK_SOCKET);
	if (socket)
		READ_ARGUMENT_FIELD(&file, socket, SOCKET_FILE);
	frame->path = path_of_file(file);
	describe_port(&to, sk);
	frame->transport = to.transport;
	frame->port = to.port;
}

static __always_inline void frame_of_inode_file(struct frame *frame, void *file)
{
	struct socket_description to = {.transport = TRANSPORT_OTHER};
	void *socket = 0, *sk = 0;

	READ_FIELD(&socket, file, FILE_PRIVATE_DATA);
	READ_FIELD(&sk, socket, SOCKET_SK);
	describe_sock(&to, sk);
	describe_port(&to, sk);
	frame->transport = to.transport;
	frame->port = to.port;
	frame->path = PATH_USER;
}

static __always_inline void frame_of_new(struct frame *frame, u64 family, u64 type, u64 protocol)
{
	frame->transport = transport_of_new_socket(family, type, protocol);
	frame->path = PATH_KERNEL;
}

/*
 * socket(2) and socketpair(2) call sock_create() too, and sock_release() if they fail later on;
 * those are no calls of the kernel's own. Where they are not traced themselves, they are marked
 * nevertheless (SUBJECT_UNCOUNTED).
 */
static __always_inline bool is_in_socket_call(u64 pid_tgid)
{
	struct call *call = find_thread(pid_tgid);

	return call && call->start_ns && call->operation == OPERATION_NEW;
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

static __always_inline bool is_frame_of(struct frame *frame, u32 function, u64 stack_place)
{
	return frame->function == function && IS_SAME_PLACE(frame->stack_place, stack_place);
}

static __always_inline void enter_function(struct frame *frame, u64 pid_tgid)
{
	u32 function = frame->function, depth;
	struct frames *frames = frames_of_thread(thread_key(pid_tgid));
	struct probe_stats *stats;

	if (!frames) {
		if (!OF_FUNCTION(IS_COPY))
			count_event(EVENT_START_MAP_FULL);
		return;
	}
#ifdef HAVE_COPIES
	frame->seen_by = 1 << OF_FUNCTION(IS_COPY);
	if (frames->depth &&
	    is_frame_of(frame_below_top(frames, 0), function, frame->stack_place)) {
		struct frame *top = frame_below_top(frames, 0);

		if (!(top->seen_by & frame->seen_by)) {
			top->seen_by |= frame->seen_by;
			return;
		}
		/* An earlier call, whose return was missed. */
		count_function_abandoned(function);
		frames->depth--;
	}
#endif
	/* Nothing nests so deep: these are calls whose returns were missed, one after another. */
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

/* A thread's last files are closed after its end was told; nothing must make its entry anew. */
static __always_inline bool is_ending(void)
{
	u32 flags = 0;

	READ_FIELD(&flags, current_task(), TASK_STRUCT_FLAGS);
	return flags & PF_EXITING;
}

/*
 * With copies, two programs see each return, in no order to rely on. The first leaves a note of
 * what it has dealt with; the second finds it, takes it away, and has nothing to do.
 */
static __always_inline void note_return(struct frames *frames, u32 function, u64 stack_place)
{
#ifdef HAVE_COPIES
	frames->returned_function = function + 1;
	frames->returned_from = stack_place;
#endif
}

static __always_inline bool is_dealt_with(struct frames *frames, u32 function, u64 stack_place)
{
#ifdef HAVE_COPIES
	if (frames->returned_function == function + 1 && frames->returned_from == stack_place) {
		frames->returned_function = 0;
		return true;
	}
#endif
	return false;
}

/* It entered before the probes were there; or with no room, and was counted as such then. */
static __always_inline void function_without_entry(u32 key, u64 pid_tgid, u32 function,
						   u64 stack_place)
{
	struct frames *frames;

	if (!is_armed() || !is_traced(pid_tgid) || is_ending())
		return;
	frames = frames_of_thread(key);
	if (!frames || is_dealt_with(frames, function, stack_place))
		return;
	note_return(frames, function, stack_place);
	count_event(EVENT_RETURN_WITHOUT_ENTRY);
}

static __always_inline void exit_function(u32 function, s64 ret, u64 bytes, u64 stack_place,
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
		function_without_entry(key, pid_tgid, function, stack_place);
		return;
	}
	depth = frames->depth;
	found = FRAMES;
#pragma clang loop unroll(disable)
	for (i = 0; i < FRAMES; i++) {
		if (i >= depth || found < FRAMES)
			break;
		if (is_frame_of(frame_below_top(frames, i), function, stack_place))
			found = i;
	}
	if (found == FRAMES) {
		function_without_entry(key, pid_tgid, function, stack_place);
		return;
	}
	note_return(frames, function, stack_place);
	finish_function(frame_below_top(frames, found), ret, bytes, now_ns, pid_tgid);
	FORGET_ORIGIN(found);
#pragma clang loop unroll(disable)
	for (i = 0; i < FRAMES - 1; i++)
		if (i < found)
			count_function_abandoned(frame_below_top(frames, i)->function);
	frames->depth = depth - 1 - found;
}

/* The thread is gone, and its calls with it. */
static __always_inline void forget_functions(u32 tid)
{
	struct frames *place = place_of_frames(tid);
	struct frames *frames = place ? place : functions_of_thread.lookup(&tid);
	u32 key = place ? FRAME_PLACE | (tid & (FRAME_PLACES - 1)) : tid;

	if (!frames)
		return;
	abandon_frames(frames);
	if (place)
		place->owner = 0; /* before the place is anyone's again */
	if (!functions_of_thread.delete(&key))
		count_event(EVENT_FUNCTION_THREAD_REMOVED);
}

static __always_inline void forget_if_idle(u32 tid)
{
	struct frames *frames = find_frames(tid);

	if (frames && !frames->depth)
		forget_functions(tid);
}

#ifdef BY_FENTRY
/* The arguments, a word each (a struct as many as it fills), and after them what was returned. */
typedef u64 context;
#define FUNCTION_ARGUMENT(ctx, number) ((ctx)[(number)-1])
#define STACK_PLACE(ctx) (u64)(ctx) /* where its arguments were put */

/* In assembler, since the compiler would make one load of them, from an address it computes first.
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
	}
	return value;
}
#else
typedef struct pt_regs context;
#define FUNCTION_ARGUMENT(ctx, number) PT_REGS_PARM##number(ctx)
#define STACK_PLACE(ctx) PT_REGS_SP(ctx)

static __always_inline s32 returned_value(context *ctx, u64 slots)
{
	return PT_REGS_RC(ctx);
}
#endif

int function_entered(context *ctx)
{
	u64 pid_tgid = bpf_get_current_pid_tgid(), argument = OF_FUNCTION(ARGUMENT);
	u64 path = OF_FUNCTION(PATH);
	struct frame frame = {
	    .function = OF_FUNCTION(NUMBER),
	    .stack_place = STACK_PLACE(ctx),
	};

	if (!is_traced(pid_tgid) || (OF_FUNCTION(SKIPS_NEW) && is_in_socket_call(pid_tgid)))
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

	if (OF_FUNCTION(SKIPS_NEW) && is_in_socket_call(pid_tgid))
		return 0;
	/* All of them return int, whose upper half is anything. */
	if (returns != RETURNS_NOTHING)
		ret = returned_value(ctx, OF_FUNCTION(SLOTS));
	if (returns == RETURNS_BYTES && ret > 0)
		bytes = ret;
	exit_function(OF_FUNCTION(NUMBER), ret, bytes, STACK_PLACE(ctx), pid_tgid);
	/* sock_close and sock_release, which threads pass that are ending. */
	if ((OF_FUNCTION(ARGUMENT) == ARGUMENT_FILE || returns == RETURNS_NOTHING) && is_ending())
		forget_if_idle(pid_tgid);
	return 0;
}
