/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The system call that each traced thread is in. A thread is in one at a time, so the key is the
 * thread; its entry is made at its first call and stays until the thread ends, since finding an
 * entry costs a third of making one. An entry without a start is a thread between two calls, and
 * tells a return whose entry was passed over (a read of a file) from one whose entry was not seen
 * (a call that was already blocked when tracing began).
 *
 * Maps
 *   threads  tid -> struct call
 *   armed    0 -> 1 once all probes are there: a return without an entry means nothing before
 */
#pragma once

struct call {
	u64 start_ns; /* 0: not in a traced call */
	u64 messages; /* of sendmmsg and recvmmsg: the address of the struct mmsghdr array */
	u16 probe;
	u8 operation;
	u8 transport;
	u32 port;
};

BPF_HASH(threads, u32, struct call, THREADS);
BPF_ARRAY(armed, u32, 1);

static __always_inline bool is_armed(void)
{
	u32 zero = 0, *value = armed.lookup(&zero);

	return value && *value;
}

/* The thread's entry, made if need be; null if there is no room for it. */
static __always_inline struct call *call_of_thread(u32 tid)
{
	struct call *call = threads.lookup(&tid), none = {};

	if (call)
		return call;
	if (threads.insert(&tid, &none))
		return 0;
	count_event(EVENT_THREAD_ADDED);
	return threads.lookup(&tid);
}

static __always_inline void count_abandoned(u32 probe)
{
	struct returns *counters = returns.lookup(&probe);

	if (counters)
		counters->abandoned++;
}

static __always_inline void forget_thread(u32 tid)
{
	struct call *call = threads.lookup(&tid);

	if (!call)
		return;
	if (call->start_ns) {
		count_abandoned(call->probe);
		count_event(EVENT_RETURN_NOT_SEEN);
	}
	if (!threads.delete(&tid))
		count_event(EVENT_THREAD_REMOVED);
}
