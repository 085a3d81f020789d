/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The system call that each traced thread is in. A thread is in one at a time, so a call is found
 * by its thread. The struct call of a thread that is between two traced calls has start_ns 0. It
 * tells a return whose entry did not count (a read of a file) from one whose entry was not seen (a
 * call that was already blocked when tracing began).
 *
 * Two implementations have the same functions: in_flight_stack.h, the default, finds most threads
 * by an address on their kernel stack; in_flight_hash.h (IN_FLIGHT_BY_HASH) is a plain hash by
 * thread id, with which entry and return take 474 ns instead of 313 ns (6.18, by run_time_ns).
 * tests/kernel/bpf/test_in_flight.py runs both.
 *
 *   enter    enter_thread(registers, task, pid_tgid): makes the current thread known and gives
 *            its struct call; null if there is no room
 *   find     all give null for an unknown thread
 *            find_at_entry(registers, &task): where a system call is entered. Sets the task,
 *            and counts a call that is still in flight as abandoned
 *            find_at_return(registers): where one returns. May miss what find_thread() finds
 *            find_thread(pid_tgid): in any program
 *   forget   forget_thread(tid): the current thread ends
 *            forget_tid(tid): no thread has this id any more
 *   for each user space walks all values of `calls` and `threads`; those with a start_ns are
 *            in flight (tracer/session.py)
 *
 * Probes   none of its own
 * Maps
 *   calls    slot of a thread -> struct call; one unused slot with IN_FLIGHT_BY_HASH
 *   threads  tid of a thread without a slot -> struct call;
 *            SLOT_KEY | slot, for a slot in use -> zeros
 *   armed    0 -> 1 once all probes are attached: before that, a return without an entry
 *            means nothing
 * Overhead docs/benchmarks.md, "Where the time of a traced call goes"
 * Caveats  A thread that finds no room is not traced, which is counted
 *          (EVENT_START_MAP_FULL).
 */
#pragma once

#include "current.h"

#define MADE_BY_TRACER (~0U) /* as `number`, in an entry that tracer/session.py has made */

/* User space reads it by the names of its fields. */
struct call {
	u64 messages;  /* sendmmsg, recvmmsg: the address of the struct mmsghdr array */
	u64 start_ns;  /* 0: not in a traced call */
	u64 pid_tgid;  /* of the thread; the tid may be that from before an execve(2) */
	u64 stack_key; /* in `calls`: of the thread that has this slot; 0: the slot is free */
	u64 task;      /* in `calls`: the thread's struct task_struct */
	u64 stack;     /* in `calls`: the lowest address of its kernel stack */
	u32 port;      /* 0 unless the label is "port" */
	u8 probe;
	u8 operation; /* OPERATION_NEW and so on */
	u8 transport; /* TRANSPORT_TCP and so on */
	u8 bytes;     /* BYTES_NONE and so on */
	u32 number;   /* the system call's */
	u32 pad;
#if defined(LABEL_PORT) || defined(CONNECTIONS)
	u64 sk; /* the socket's struct sock; 0 if the call is on none */
#endif
#ifdef CONNECTIONS
	u64 address; /* of a struct sockaddr that the call was given; 0 if none */
	u32 inode;
	u32 is_last_close;
#endif
};

BPF_HASH(threads, u32, struct call, THREADS);
BPF_ARRAY(armed, u32, 1);

static __always_inline bool is_armed(void)
{
	u32 zero = 0, *value = armed.lookup(&zero);

	return value && *value;
}

static __always_inline void count_abandoned(u32 probe)
{
	struct probe_stats *stats = probes.lookup(&probe);

	if (!stats)
		return; /* of a call that is marked, not counted */
	stats->abandoned++;
	count_event(EVENT_RETURN_NOT_SEEN);
}

/* The call's return was not seen: the next return of its thread is another call's. */
static __always_inline void abandon_call(struct call *call)
{
	if (!call->start_ns)
		return;
	count_abandoned(call->probe);
	call->start_ns = 0;
}

/* The entry of a thread without a slot, made if there is none yet; null if there is no room. */
static __always_inline struct call *enter_in_hash(u64 pid_tgid)
{
	struct call none = {.pid_tgid = pid_tgid};
	u32 tid = pid_tgid;

	if (threads.insert(&tid, &none))
		return 0;
	count_event(EVENT_THREAD_ADDED);
	return threads.lookup(&tid);
}

static __always_inline void forget_tid(u32 tid)
{
	struct call *call = threads.lookup(&tid);

	if (!call)
		return;
	abandon_call(call);
	if (!threads.delete(&tid))
		count_event(EVENT_THREAD_REMOVED);
}

#ifdef IN_FLIGHT_BY_HASH
#include "in_flight_hash.h"
#else
#include "in_flight_stack.h"
#endif
