// SPDX-License-Identifier: GPL-2.0-only
/*
 * Starts and ends of processes and threads: follows the children of followed processes, and drops
 * what is stored for a thread when it ends.
 *
 * Probes    raw tracepoints sched_process_fork -> on_fork (with FOLLOW_FORKS),
 *           sched_process_exec -> on_exec, sched_process_exit -> on_thread_end
 * Maps      those of filter.h, in_flight.h and frames.h
 * Overhead  none per call; some 100 ns for each thread that ends on the machine
 * Caveats   Where the kernel preempts programs at tracepoints, it may skip them. They are
 *           attached twice there (tracer/loading/source.py), so each must do no harm when it
 *           runs twice.
 */

#include "current.h"
#include "filter.h"
#include "in_flight.h"

#ifdef FOLLOW_FORKS
/* Arguments: the parent's task, the child's task. */
int on_fork(struct bpf_raw_tracepoint_args *ctx)
{
	u32 tid = 0;

	if (!is_followed(bpf_get_current_pid_tgid() >> 32))
		return 0;
	/* A new thread has its own tid here. That does no harm: on_thread_end() clears it. */
	READ_FIELD(&tid, ctx->args[1], TASK_STRUCT_PID);
	set_followed(tid, 1);
	return 0;
}
#endif

/*
 * Arguments: the task, the tid it had before, the program. A thread that executes a program while
 * the process has other threads takes over the tid of the first thread.
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
