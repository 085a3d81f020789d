/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Calls in flight in a plain hash by thread id: the simple twin of in_flight_stack.h, which must
 * give the same numbers. See in_flight.h for the functions and the maps.
 *
 * Probes    none of its own
 * Maps      those of in_flight.h
 * Overhead  a hash look-up at the entry and at the return of every system call, also of processes
 *           that are not traced
 * Caveats   for tests and comparisons; no command selects it
 */
#pragma once

BPF_ARRAY(calls, struct call, 1); /* unused: user space reads the same maps either way */

static __always_inline struct call *find_thread(u64 pid_tgid)
{
	u32 tid = pid_tgid;

	return threads.lookup(&tid);
}

static __always_inline struct call *find_at_return(void *registers)
{
	return find_thread(bpf_get_current_pid_tgid());
}

static __always_inline struct call *find_at_entry(void *registers, void **task)
{
	u64 pid_tgid = bpf_get_current_pid_tgid();
	struct call *call = find_thread(pid_tgid);

	*task = current_task();
	if (!call)
		return 0;
	abandon_call(call);
	/*
	 * Otherwise the entry is of an earlier thread that was not seen to end, or the tracer made
	 * it. enter_thread() handles both.
	 */
	return call->pid_tgid == pid_tgid ? call : 0;
}

static __always_inline struct call *enter_thread(void *registers, void *task, u64 pid_tgid)
{
	struct call *call = find_thread(pid_tgid);

	if (!call)
		return enter_in_hash(pid_tgid);
	abandon_call(call);
	call->pid_tgid = pid_tgid;
	call->number = 0;
	return call;
}

static __always_inline void forget_thread(u32 tid)
{
	forget_tid(tid);
}
