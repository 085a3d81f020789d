/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The steps of a traced call, each as a separate program, to measure where the time goes. Compiled
 * together with the operation layer, which has the functions that are called here
 * (tests/bench/steps.py).
 *
 * Probes    raw tracepoint sys_enter
 * Maps      those of the operation layer
 * Overhead  not for use outside the benchmark: each program runs at every system call
 * Caveats   step_thread and step_thread_again measure in_flight_stack.h, not the hash
 */

#define KEEP(value) asm volatile("" : : "r"(value))

int step_empty(struct bpf_raw_tracepoint_args *ctx)
{
	return 0;
}

int step_clock(struct bpf_raw_tracepoint_args *ctx)
{
	KEEP(bpf_ktime_get_ns());
	return 0;
}

int step_table(struct bpf_raw_tracepoint_args *ctx)
{
	KEEP(is_in_table(ctx->args[1]));
	return 0;
}

int step_thread(struct bpf_raw_tracepoint_args *ctx)
{
	struct call *call = find_in_slot(stack_key_at((void *)ctx->args[0]));
	void *task;

	KEEP(call && is_of_current_thread(call, &task) && is_traced_now() && !is_32_bit(task));
	return 0;
}

int step_thread_again(struct bpf_raw_tracepoint_args *ctx)
{
	KEEP(find_in_slot(stack_key_at((void *)ctx->args[0])));
	return 0;
}

int step_newcomer(struct bpf_raw_tracepoint_args *ctx)
{
	void *task = current_task();

	KEEP(is_traced(ids_of(task)) && !is_32_bit(task));
	return 0;
}

int step_thread_and_socket(struct bpf_raw_tracepoint_args *ctx)
{
	void *registers = (void *)ctx->args[0], *task;
	struct call *call = find_in_slot(stack_key_at(registers));
	struct socket_description socket = {};

	if (!call || !is_of_current_thread(call, &task))
		return 0;
	KEEP(describe_descriptor(&socket, task, argument(registers, ARGUMENT_1)));
	KEEP(socket.transport);
	return 0;
}

int step_counter(struct bpf_raw_tracepoint_args *ctx)
{
	u32 probe = 0;
	struct probe_stats *stats = probes.lookup(&probe);

	if (stats)
		stats->entered++;
	return 0;
}

int step_cell(struct bpf_raw_tracepoint_args *ctx)
{
	u32 index = 0;
	struct cell *cell = cells.lookup(&index);

	if (cell)
		add_call(cell, (ctx->args[1] & 64) + 2000, 1, 1);
	return 0;
}
