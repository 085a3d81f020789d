/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The system call that each traced thread is in. A thread is in one at a time, so what is known of
 * it is found by the thread. A call without a start is a thread between two calls, and tells a
 * return whose entry was passed over (a read of a file) from one whose entry was not seen (a call
 * that was already blocked when tracing began).
 *
 * Finding it is in the way of every call: an array is found in a tenth of a hash's time, and to ask
 * the kernel for the thread's id, or its task, takes longer than the array. So a thread is known by
 * its kernel stack, of which the programs are given an address (the user's registers, saved at its
 * top), and has the array's place of that address modulo the array's size, if no other thread was
 * there first; else it has an entry in the hash, by its id. The hash also says whose the places
 * are: who can insert a place's number has it, until the thread ends.
 *
 * A stack that is free again is handed to the next thread, and an end may go by unseen. So a place
 * remembers its thread's task, and is that thread's while the task has the stack.
 *
 * Maps
 *   calls    place -> struct call
 *   threads  PLACE | place of threads with a place, tid of those without -> struct call
 *   registers_above_stack
 *            0 -> how far into its stack a thread's address is: the same for all, learnt from any
 *   armed    0 -> 1 once all probes are there: a return without an entry means nothing before
 */
#pragma once

#include "current.h"

#define CALLS 8192	 /* a power of two */
#define PLACE (1U << 31) /* more than any tid */
/* Stacks are as a rule 16 KiB each, at multiples of it, with a page between them. */
#define STACK_SHIFT 15

#define MADE_BY_TRACER (~0U) /* for a number, in an entry of the hash */

/* Read and written by tracer/session.py, too. */
struct call {
	u64 messages;  /* of sendmmsg and recvmmsg: the address of the struct mmsghdr array */
	u64 start_ns;  /* 0: not in a traced call */
	u64 pid_tgid;  /* the thread's; the tid may be that from before an execve(2) */
	u64 stack_key; /* in `calls`: of the thread that has this slot; 0: the slot is free */
	u64 task;
	u64 stack;
	u32 port;
	u8 probe;
	u8 operation;
	u8 transport;
	u8 bytes;   /* BYTES_NONE and so on: where the number of bytes stands */
	u32 number; /* the system call's */
	u32 pad;
};

BPF_ARRAY(calls, struct call, CALLS);
BPF_HASH(threads, u32, struct call, THREADS);
BPF_ARRAY(registers_above_stack, u64, 1);
BPF_ARRAY(armed, u32, 1);

static __always_inline bool is_armed(void)
{
	u32 zero = 0, *value = armed.lookup(&zero);

	return value && *value;
}

static __always_inline u64 stack_of(void *task)
{
	u64 stack = 0;

	READ_TASK_FIELD(&stack, task, TASK_STRUCT_STACK);
	return stack;
}

/* What a thread is known by, while it lives: an address on its kernel stack. */
static __always_inline u64 thread_at(void *registers)
{
#ifdef BY_FUNCTION
	/* At the return of a function, the user's registers are not at hand. */
	return stack_of(current_task());
#else
	return (u64)registers;
#endif
}

static __always_inline u32 place_of(u64 thread)
{
	return (thread >> STACK_SHIFT) & (CALLS - 1);
}

static __always_inline struct call *find_place(u64 thread)
{
	u32 place = place_of(thread);
	struct call *call = calls.lookup(&place);

	return call && call->stack_key == thread ? call : 0;
}

/* From a program that is not given an address on the thread's stack. */
static __always_inline struct call *find_place_of_task(void *task)
{
	u32 zero = 0;
	u64 *above = registers_above_stack.lookup(&zero);
	struct call *call = find_place(stack_of(task) + (above ? *above : 0));

	return call && call->task == (u64)task ? call : 0;
}

static __always_inline void count_abandoned(u32 probe)
{
	struct probe_stats *stats = probes.lookup(&probe);

	if (!stats)
		return; /* of a call that is marked, not counted */
	stats->abandoned++;
	count_event(EVENT_RETURN_NOT_SEEN);
}

/* Its return was not seen; what returns next is another call's. */
static __always_inline void abandon_call(struct call *call)
{
	if (!call->start_ns)
		return;
	count_abandoned(call->probe);
	call->start_ns = 0;
}

static __always_inline bool is_of_process(void *task, u64 pid_tgid)
{
	u32 tgid = 0;

	READ_TASK_FIELD(&tgid, task, TASK_STRUCT_TGID);
	return tgid == pid_tgid >> 32;
}

/*
 * Whether a place is still that of the thread which has its stack now; and that thread's task. By
 * its process, too: the kernel may give the next thread both the stack and the task's memory.
 */
static __always_inline bool is_still_its(struct call *call, void **task)
{
#if defined(HAVE_CAST) && !defined(BY_FUNCTION)
	*task = (void *)call->task;
	if (stack_of(*task) == call->stack && is_of_process(*task, call->pid_tgid))
		return true;
	*task = current_task();
	return false;
#else
	*task = current_task();
	return call->task == (u64)*task && is_of_process(*task, call->pid_tgid);
#endif
}

/*
 * The place of a thread that enters a call, null if it has none; and the thread's task. What the
 * place was in before has ended, whoever's it was.
 */
static __always_inline struct call *place_at_entry(u64 thread, void **task)
{
	struct call *call = find_place(thread);

	if (call) {
		abandon_call(call);
		return is_still_its(call, task) ? call : 0;
	}
	*task = current_task();
	return 0;
}

static __always_inline void take_place(struct call *call, u64 thread, void *task, u64 pid_tgid)
{
	u32 zero = 0;
	u64 *above = registers_above_stack.lookup(&zero);

	call->pid_tgid = pid_tgid;
	call->task = (u64)task;
	call->stack = stack_of(task);
	call->stack_key = thread;
	if (above)
		*above = thread - call->stack;
}

/*
 * The place or entry of a thread that has no place, made if need be; null if there is no room for
 * it. An entry that the tracer made, for a thread that was blocked already, is exchanged for a
 * place, if that is free.
 */
static __always_inline struct call *call_of_thread(u64 thread, void *task, u64 pid_tgid)
{
	u32 tid = pid_tgid, place = place_of(thread), key = PLACE | place;
	struct call *call = find_place(thread), none = {.pid_tgid = pid_tgid};

	if (call) {
		/* Of the thread that had this stack before, whose end was not seen. */
		take_place(call, thread, task, pid_tgid);
		return call;
	}
	call = threads.lookup(&tid);
	if (call) {
		abandon_call(call);
		call->pid_tgid = pid_tgid;
		if (call->number != MADE_BY_TRACER)
			return call;
	}
	if (!threads.insert(&key, &none)) {
		if (call)
			threads.delete(&tid);
		else
			count_event(EVENT_THREAD_ADDED);
		call = calls.lookup(&place);
		if (call) {
			*call = none;
			take_place(call, thread, task, pid_tgid);
		}
		return call;
	}
	if (call) {
		call->number = 0;
		return call;
	}
	if (threads.insert(&tid, &none))
		return 0;
	count_event(EVENT_THREAD_ADDED);
	return threads.lookup(&tid);
}

/* The hash's entry for a thread of this id, which is no one's from now on. */
static __always_inline void forget_tid(u32 tid)
{
	struct call *call = threads.lookup(&tid);

	if (!call)
		return;
	abandon_call(call);
	if (!threads.delete(&tid))
		count_event(EVENT_THREAD_REMOVED);
}

/* The current thread ends. */
static __always_inline void forget_thread(u32 tid)
{
	struct call *call = find_place_of_task(current_task());
	u32 key;

	if (!call) {
		forget_tid(tid);
		return;
	}
	abandon_call(call);
	key = PLACE | place_of(call->stack_key);
	call->task = 0;
	call->stack_key = 0; /* before the place is anyone's again */
	if (!threads.delete(&key))
		count_event(EVENT_THREAD_REMOVED);
}
