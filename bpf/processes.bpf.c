// SPDX-License-Identifier: GPL-2.0-only
/*
 * Processes and threads as they come and go: who is followed, and whose entries can be dropped.
 *
 * Probes    sched:sched_process_fork (with FOLLOW_FORKS), sched_process_exec, sched_process_exit
 * Maps      those of filter.h, in_flight.h and functions.bpf.c
 * Overhead  none per call; some 100 ns for each thread that ends on the machine
 * Caveats   The offsets of these tracepoints' fields changed over the releases (6.15 made comm a
 *           string of its own length); tracer/program.py takes them from tracefs.
 */

#include "filter.h"
#include "in_flight.h"

#define FIELD(ctx, offset) (*(u32 *)((char *)(ctx) + (offset)))

#ifdef FOLLOW_FORKS
int on_fork(void *ctx)
{
	/* For a new thread this is its tid, which does no harm: on_thread_end() ends it. */
	if (is_followed(bpf_get_current_pid_tgid() >> 32))
		set_followed(FIELD(ctx, FORK_CHILD_PID), 1);
	return 0;
}
#endif

static __always_inline void forget(u32 tid)
{
	forget_thread(tid);
#ifdef FUNCTION_LAYER
	forget_functions(tid);
#endif
}

/* A thread that executes a program while others run takes over the tid of the first thread. */
int on_exec(void *ctx)
{
	u32 tid = FIELD(ctx, EXEC_PID), old_tid = FIELD(ctx, EXEC_OLD_PID);

	if (tid == old_tid)
		return 0;
	forget(old_tid);
#ifdef FILTER_PIDS
	set_followed(old_tid, 0);
#endif
	return 0;
}

int on_thread_end(void *ctx)
{
	u64 pid_tgid = bpf_get_current_pid_tgid();

	forget(pid_tgid);
#ifdef FILTER_PIDS
	{
		u32 tid = pid_tgid, tgid = pid_tgid >> 32;
		void *signal = 0;
		int live = 0;

		if (tid != tgid)
			set_followed(tid, 0);
		READ_FIELD(&signal, bpf_get_current_task(), TASK_STRUCT_SIGNAL);
		READ_FIELD(&live, signal, SIGNAL_STRUCT_LIVE);
		if (!live)
			set_followed(tgid, 0);
	}
#endif
	return 0;
}
