/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The system call that each traced thread is in. A thread is in one at a time, so what is known of
 * it is found by the thread's id. A call without a start is a thread between two calls, and tells a
 * return whose entry was passed over (a read of a file) from one whose entry was not seen (a call
 * that was already blocked when tracing began).
 *
 * Finding it is in the way of every call, and an array is found in a tenth of a hash's time. So a
 * thread has the array's place of its id modulo the array's size, if no other one was there first;
 * else it has an entry in the hash. The hash also says whose the places are: who can insert a
 * place's number has it, until the thread ends.
 *
 * Maps
 *   calls    tid % CALLS -> struct call
 *   threads  PLACE | tid % CALLS of threads with a place, tid of those without -> struct call
 *   armed    0 -> 1 once all probes are there: a return without an entry means nothing before
 */
#pragma once

#define CALLS 8192	 /* a power of two */
#define PLACE (1U << 31) /* more than any tid */

#define MADE_BY_TRACER (~0U) /* for a number, in an entry of the hash */

struct call {
	u64 start_ns; /* 0: not in a traced call */
	u64 messages; /* of sendmmsg and recvmmsg: the address of the struct mmsghdr array */
	u32 tid;      /* in `calls`: whose place this is; 0 for nobody's */
	u32 port;
	u8 probe;
	u8 operation;
	u8 transport;
	u8 bytes;   /* BYTES_NONE and so on: where the number of bytes stands */
	u32 number; /* the system call's */
};

BPF_ARRAY(calls, struct call, CALLS);
BPF_HASH(threads, u32, struct call, THREADS);
BPF_ARRAY(armed, u32, 1);

static __always_inline bool is_armed(void)
{
	u32 zero = 0, *value = armed.lookup(&zero);

	return value && *value;
}

static __always_inline struct call *place_of_thread(u32 tid)
{
	u32 place = tid & (CALLS - 1);
	struct call *call = calls.lookup(&place);

	return call && call->tid == tid ? call : 0;
}

static __always_inline struct call *find_thread(u32 tid)
{
	struct call *call = place_of_thread(tid);

	return call ? call : threads.lookup(&tid);
}

/*
 * The thread's place or entry, made if need be; null if there is no room for it. An entry that the
 * tracer made, for a thread that was blocked already, is exchanged for a place, if that is free.
 */
static __always_inline struct call *call_of_thread(u32 tid)
{
	struct call *call = find_thread(tid), *at_place, none = {};
	u32 place = tid & (CALLS - 1), key = PLACE | place;

	if (call && call->number != MADE_BY_TRACER)
		return call;
	if (!threads.insert(&key, &none)) {
		at_place = calls.lookup(&place);
		if (at_place) {
			*at_place = none;
			at_place->tid = tid;
		}
		if (call)
			threads.delete(&tid);
		else
			count_event(EVENT_THREAD_ADDED);
		return at_place;
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

static __always_inline void count_abandoned(u32 probe)
{
	struct traffic *traffic = probes.lookup(&probe);

	if (!traffic)
		return; /* of a call that is marked, not counted */
	traffic->abandoned++;
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

static __always_inline void forget_thread(u32 tid)
{
	struct call *place = place_of_thread(tid), *call = place ? place : threads.lookup(&tid);
	u32 key = place ? PLACE | (tid & (CALLS - 1)) : tid;

	if (!call)
		return;
	abandon_call(call);
	if (place)
		place->tid = 0; /* before the place is anyone's again */
	if (!threads.delete(&key))
		count_event(EVENT_THREAD_REMOVED);
}
