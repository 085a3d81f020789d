// SPDX-License-Identifier: GPL-2.0-only
/*
 * The operation layer: every system call that is a documented socket operation, from its entry
 * tracepoint to its exit tracepoint.
 *
 * Probes    syscalls:sys_enter_NAME -> enter_NAME, made for each system call of
 *           tracer/operations.py; syscalls:sys_exit_NAME -> exit_KIND, by where its bytes stand
 * Maps      in aggregate.h, filter.h and in_flight.h
 * Overhead  docs/benchmarks.md
 * Caveats   A call counts when it returns. What returns is what the kernel's own code returned:
 *           a call broken off by a signal has -ERESTARTSYS here, whether the program then sees
 *           EINTR or the kernel calls again (and that counts again). 32-bit programs on a 64-bit
 *           kernel pass no system call tracepoint.
 */

#include "histogram.h"
#include "aggregate.h"
#include "filter.h"
#include "describe_socket.h"
#include "in_flight.h"
#include "label.h"

#define MESSAGES_MAX 1024 /* the kernel's UIO_MAXIOV: it takes no more at once */

/* The fields of the tracepoints' formats, after the 8 bytes common to all. */
struct sys_enter {
	u64 common;
	long number;
	unsigned long args[6];
};

struct sys_exit {
	u64 common;
	long number;
	long ret;
};

static __always_inline void start_call(struct call *call, u16 probe, u8 operation,
				       struct socket_description *socket, u64 messages)
{
	u32 key = probe;
	u64 *number;

	if (!call) {
		count_event(EVENT_START_MAP_FULL);
		return;
	}
	number = entries.lookup(&key);
	if (number)
		(*number)++;
	if (call->start_ns) {
		count_abandoned(call->probe);
		count_event(EVENT_RETURN_NOT_SEEN);
	}
	call->probe = probe;
	call->operation = operation;
	call->transport = socket->transport;
	call->port = socket->port;
	call->messages = messages;
	call->start_ns = bpf_ktime_get_ns();
}

/* The bodies of the entry programs, one for each kind of subject (tracer/operations.py). */

static __always_inline int enter_with_socket(struct sys_enter *ctx, u16 probe, u8 operation,
					     u64 messages)
{
	u64 pid_tgid = bpf_get_current_pid_tgid();
	struct socket_description socket = {.transport = TRANSPORT_OTHER};

	if (!is_traced(pid_tgid))
		return 0;
	describe_descriptor(&socket, ctx->args[0]);
	start_call(call_of_thread(pid_tgid), probe, operation, &socket, messages);
	return 0;
}

static __always_inline int enter_with_any_file(struct sys_enter *ctx, u16 probe, u8 operation)
{
	u64 pid_tgid = bpf_get_current_pid_tgid();
	struct socket_description socket = {};
	struct call *call;

	if (!is_traced(pid_tgid))
		return 0;
	call = call_of_thread(pid_tgid);
	if (describe_descriptor(&socket, ctx->args[0]))
		start_call(call, probe, operation, &socket, 0);
	return 0;
}

static __always_inline int enter_with_new_socket(struct sys_enter *ctx, u16 probe, u8 operation)
{
	u64 pid_tgid = bpf_get_current_pid_tgid();
	struct socket_description socket = {};

	if (!is_traced(pid_tgid))
		return 0;
	socket.transport = transport_of_new_socket(ctx->args[0], ctx->args[1], ctx->args[2]);
	start_call(call_of_thread(pid_tgid), probe, operation, &socket, 0);
	return 0;
}

static __always_inline int enter_without_socket(struct sys_enter *ctx, u16 probe, u8 operation)
{
	u64 pid_tgid = bpf_get_current_pid_tgid();
	struct socket_description socket = {.transport = TRANSPORT_OTHER};

	if (is_traced(pid_tgid))
		start_call(call_of_thread(pid_tgid), probe, operation, &socket, 0);
	return 0;
}

/* The cell that the call was added to. */
static __always_inline struct cell *finish_call(struct call *call, s64 ret, u64 bytes, u64 now_ns,
						u64 pid_tgid)
{
	u32 index = call->operation * TRANSPORTS + call->transport, probe = call->probe;
	struct returns *counters = returns.lookup(&probe);
	struct cell *cell = labelled_cell(index, call->port, pid_tgid);

	if (counters)
		counters->returned++;
	if (!cell)
		cell = cells.lookup(&index);
	if (cell)
		add_call(cell, duration_ns(call->start_ns, now_ns), ret, bytes);
	call->start_ns = 0;
	return cell;
}

/*
 * sendmmsg and recvmmsg return a number of messages; the bytes of each are in its msg_len. This
 * comes last in its program, since the verifier follows every round of the loop to the program's
 * end.
 */
static __always_inline void add_bytes_of_messages(struct cell *cell, u64 messages, s64 number)
{
	u32 length, i;

	for (i = 0; i < MESSAGES_MAX; i++) {
		if (i >= number)
			break;
		length = 0;
		/* struct mmsghdr is 64 bytes, and msg_len follows its 56 of struct msghdr. */
		bpf_probe_read_user(&length, sizeof(length), (void *)(messages + i * 64ULL + 56));
		cell->bytes += length;
	}
}

/*
 * A thread that returns without ever having been seen entering was in the call before tracing
 * began. Its entry in the map, made here, keeps its later reads of files from looking the same.
 */
static __always_inline void return_without_entry(u64 pid_tgid)
{
	struct call none = {};
	u32 tid = pid_tgid;

	if (!is_armed() || !is_traced(pid_tgid))
		return;
	if (threads.insert(&tid, &none))
		return; /* no room: it was counted as such when it entered */
	count_event(EVENT_THREAD_ADDED);
	count_event(EVENT_RETURN_WITHOUT_ENTRY);
}

/* The call that this thread returns from; null if it is not traced or was not seen entering. */
static __always_inline struct call *returning_call(u64 pid_tgid)
{
	u32 tid = pid_tgid;
	struct call *call;

#ifdef FILTER_PIDS
	if (!is_followed(pid_tgid >> 32))
		return 0;
#endif
	call = threads.lookup(&tid);
	if (!call) {
		return_without_entry(pid_tgid);
		return 0;
	}
	return call->start_ns ? call : 0;
}

/* The exit programs, one for each place where the number of bytes stands (tracer/operations.py). */

int exit_none(struct sys_exit *ctx)
{
	u64 now_ns = bpf_ktime_get_ns(), pid_tgid = bpf_get_current_pid_tgid();
	struct call *call = returning_call(pid_tgid);

	if (call)
		finish_call(call, ctx->ret, 0, now_ns, pid_tgid);
	return 0;
}

int exit_returned(struct sys_exit *ctx)
{
	u64 now_ns = bpf_ktime_get_ns(), pid_tgid = bpf_get_current_pid_tgid();
	struct call *call = returning_call(pid_tgid);

	if (call)
		finish_call(call, ctx->ret, ctx->ret > 0 ? ctx->ret : 0, now_ns, pid_tgid);
	return 0;
}

int exit_message_vector(struct sys_exit *ctx)
{
	u64 now_ns = bpf_ktime_get_ns(), pid_tgid = bpf_get_current_pid_tgid();
	struct call *call = returning_call(pid_tgid);
	struct cell *cell;

	if (!call)
		return 0;
	cell = finish_call(call, ctx->ret, 0, now_ns, pid_tgid);
	if (cell)
		add_bytes_of_messages(cell, call->messages, ctx->ret);
	return 0;
}
