/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The steps of a traced call, each as a program of its own: where the time goes. Compiled after the
 * text of the operation layer, whose functions these are; tests/bench/steps.py.
 *
 * Overhead  all of it, on purpose
 */

/* The tracepoint's format, after the 8 bytes common to all. */
struct sys_enter {
	u64 common;
	long number;
	unsigned long args[6];
};

#define KEEP(value) asm volatile("" : : "r"(value))

int step_empty(struct sys_enter *ctx)
{
	return 0;
}

int step_clock(struct sys_enter *ctx)
{
	KEEP(bpf_ktime_get_ns());
	return 0;
}

int step_filter(struct sys_enter *ctx)
{
	void *task = current_task();

	KEEP(is_traced(ids_of(task)) && !is_32_bit(task));
	return 0;
}

int step_filter_again(struct sys_enter *ctx)
{
	KEEP(is_traced(bpf_get_current_pid_tgid()));
	return 0;
}

int step_thread(struct sys_enter *ctx)
{
	KEEP(find_thread(THREAD));
	return 0;
}

int step_socket(struct sys_enter *ctx)
{
	struct socket_description socket = {};

	KEEP(describe_descriptor(&socket, current_task(), ctx->args[0]));
	KEEP(socket.transport);
	return 0;
}

int step_counter(struct sys_enter *ctx)
{
	u32 probe = 0;
	struct traffic *traffic = probes.lookup(&probe);

	if (traffic)
		traffic->entered++;
	return 0;
}

int step_cell(struct sys_enter *ctx)
{
	u32 index = 0;
	struct cell *cell = cells.lookup(&index);

	if (cell)
		add_call(cell, ctx->args[2] + 2000, 1, 1);
	return 0;
}
