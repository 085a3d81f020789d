// SPDX-License-Identifier: GPL-2.0-only
/*
 * Processes and threads as they come and go: who is followed, and whose entries can be dropped.
 *
 * Probes    raw tracepoints sched_process_fork (with FOLLOW_FORKS), sched_process_exec,
 *           sched_process_exit
 * Maps      those of filter.h, in_flight.h and functions.bpf.c
 * Overhead  none per call; some 100 ns for each thread that ends on the machine
 */

#include "current.h"
#include "filter.h"
#include "in_flight.h"

#ifdef FOLLOW_FORKS
/* The parent, the child */
int on_fork(struct bpf_raw_tracepoint_args *ctx)
{
	u32 tid = 0;

	if (!is_followed(bpf_get_current_pid_tgid() >> 32))
		return 0;
	/* For a new thread this is its tid, which does no harm: on_thread_end() ends it. */
	READ_FIELD(&tid, ctx->args[1], TASK_STRUCT_PID);
	set_followed(tid, 1);
	return 0;
}
#endif

/*
 * The task, the tid it had, the program. A thread that executes a program while others run takes
 * over the tid of the first thread.
 */
int on_exec(struct bpf_raw_tracepoint_args *ctx)
{
	u32 tid = bpf_get_current_pid_tgid(), old_tid = ctx->args[1];

	if (tid == old_tid)
		return 0;
	forget_tid(old_tid);
#ifdef FUNCTION_LAYER
	forget_functions(old_tid);
#endif
#ifdef FILTER_PIDS
	set_followed(old_tid, 0);
#endif
	return 0;
}

int on_thread_end(struct bpf_raw_tracepoint_args *ctx)
{
	u64 pid_tgid = bpf_get_current_pid_tgid();

	forget_thread(pid_tgid);
#ifdef FUNCTION_LAYER
	forget_functions(pid_tgid);
#endif
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
