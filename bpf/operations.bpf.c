// SPDX-License-Identifier: GPL-2.0-only
/*
 * The operation layer: every system call that is a documented socket operation, from its entry to
 * its return.
 *
 * Probes    raw tracepoints sys_enter -> enter_system_call, sys_exit -> exit_system_call; or
 *           (BY_FUNCTION) the same programs by kprobe_multi and its return probe at the functions
 *           of all system calls of the table, __x64_sys_sendto and so on
 * Maps      those of aggregate.h, filter.h, in_flight.h, label.h, new_sockets.h and turns.h, and
 *   system_calls  number -> struct system_call, filled from tracer/model/operations.py
 * Overhead  docs/benchmarks.md, "Where the time of a traced call goes"
 * Caveats   A call counts when it returns, with the value that the kernel's own code returned: a
 *           call interrupted by a signal has -ERESTARTSYS here, whether the program then sees EINTR
 *           or the kernel calls again (which counts again). Calls of 32-bit programs on a 64-bit
 *           kernel have other numbers and are not counted.
 */

#include "histogram.h"
#include "aggregate.h"
#include "filter.h"
#include "current.h"
#include "describe_socket.h"
#include "in_flight.h"
#include "label.h"
#include "new_sockets.h"
#include "turns.h"

#define MESSAGES_MAX 1024 /* the kernel's UIO_MAXIOV: the most that one call may have */

struct system_call {
	u8 subject; /* SUBJECT_NONE (0): not traced */
	u8 bytes;
	u8 operation;
	u8 probe;
};

BPF_ARRAY(system_calls, struct system_call, SYSTEM_CALL_NUMBERS);

static __always_inline u64 argument(void *registers, u32 offset)
{
	u64 value = 0;

	READ_FIELD(&value, registers, offset);
	return value;
}

/* Sets what the call acts on. False for a call on another kind of file, which does not count. */
static __always_inline bool describe_subject(struct socket_description *to, u8 subject, void *task,
					     void *registers)
{
	u64 first;

	to->transport = TRANSPORT_OTHER;
	if (subject == SUBJECT_NO_SOCKET || subject == SUBJECT_UNCOUNTED)
		return true;
	first = argument(registers, ARGUMENT_1);
	if (subject != SUBJECT_NEW_SOCKET)
		return describe_descriptor(to, task, first) || subject == SUBJECT_SOCKET;
	to->transport = transport_of_new_socket(first, argument(registers, ARGUMENT_2),
						argument(registers, ARGUMENT_3));
	return true;
}

#ifdef CONNECTIONS
/* The address of a struct sockaddr that says which peer a call connects to, sends to, or is from.
 */
static __always_inline u64 address_argument(struct system_call *known, u32 transport,
					    void *registers)
{
	u64 address = 0;

	if (known->operation == OPERATION_CONNECT)
		return argument(registers, ARGUMENT_2);
	if (transport != TRANSPORT_UDP || known->subject != SUBJECT_SOCKET ||
	    known->bytes != BYTES_RETURNED)
		return 0;
	if (known->operation == OPERATION_SEND || known->operation == OPERATION_RECV)
		return argument(registers, ARGUMENT_5);
	/* The first field of struct msghdr. */
	bpf_probe_read_user(&address, sizeof(address), (void *)argument(registers, ARGUMENT_2));
	return address;
}

static __always_inline bool is_last_close(void *task, u32 descriptor)
{
	void *file = file_of_descriptor(task, descriptor);
	u64 references = 0;

	READ_FIELD(&references, file, FILE_REFERENCES);
	return references == ONE_REFERENCE;
}

static __always_inline void note_connection(struct call *call, struct system_call *known,
					    struct socket_description *socket, void *task,
					    void *registers)
{
	call->sk = socket->transport <= TRANSPORT_UDP ? (u64)socket->sk : 0;
	if (!call->sk)
		return;
	call->inode = socket->inode;
	call->address = address_argument(known, socket->transport, registers);
	if (known->operation == OPERATION_CLOSE && socket->transport == TRANSPORT_UDP)
		call->is_last_close = is_last_close(task, argument(registers, ARGUMENT_1));
}
#else
#define note_connection(call, known, socket, task, registers)
#endif

static __always_inline void start_call(struct call *call, struct system_call *known,
				       struct socket_description *socket, void *task,
				       void *registers, u32 number)
{
	u32 probe = known->probe;
	struct probe_stats *stats = probes.lookup(&probe);

	if (stats)
		stats->entered++;
	call->probe = probe;
	call->operation = known->operation;
	call->transport = socket->transport;
	call->bytes = known->bytes;
	call->number = number;
	SET_PORT(call, socket);
#ifdef LABEL_PORT
	call->sk = (u64)socket->sk;
	/* Here and not at the return, when its memory may be another socket's. */
	if (known->operation == OPERATION_CLOSE && socket->transport == TRANSPORT_UDP)
		settle_new_socket(call->sk, socket->port);
#endif
	note_connection(call, known, socket, task, registers);
	if (known->bytes == BYTES_MESSAGE_VECTOR)
		call->messages = argument(registers, ARGUMENT_2);
	call->start_ns = bpf_ktime_get_ns();
}

static __always_inline void enter_call(void *registers, u32 number)
{
	struct system_call *known = system_calls.lookup(&number);
	struct socket_description socket = {};
	u64 pid_tgid = 0;
	struct call *call;
	void *task;
	bool counts;

	if (!known || !known->subject)
		return;
	call = find_at_entry(registers, &task);
	if (!call) {
		pid_tgid = ids_of(task);
		if (!is_of_traced_process(pid_tgid))
			return;
	}
	if (!is_traced_now() || is_32_bit(task))
		return;
	counts = describe_subject(&socket, known->subject, task, registers);
	if (!call) {
		call = enter_thread(registers, task, pid_tgid);
		if (!call) {
			if (counts && known->subject != SUBJECT_UNCOUNTED)
				count_event(EVENT_START_MAP_FULL);
			return;
		}
	}
	if (counts)
		start_call(call, known, &socket, task, registers, number);
}

/*
 * sendmmsg and recvmmsg return a number of messages; the bytes of each message are in its msg_len.
 * This comes last in the program: the verifier follows each round of the loop to the program's end.
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
 * Calls that give a socket its port have it when they return. Not those that end a socket: its
 * memory may be another's by then.
 */
static __always_inline u32 port_at_return(struct call *call)
{
#ifdef LABEL_PORT
	u32 operation = call->operation;

	if (call->sk &&
	    (operation == OPERATION_CONNECT || operation == OPERATION_BIND ||
	     (!call->port && (operation == OPERATION_SEND || operation == OPERATION_SENDMSG ||
			      operation == OPERATION_LISTEN))))
		return service_port(call->transport, (void *)call->sk);
#endif
	return call->port;
}

#ifdef LABEL_PORT
/* Calls that can give a socket the port under which its `new` counts. */
static __always_inline void settle_at_return(struct call *call, u32 port)
{
	u32 operation = call->operation;

	if (!port || !call->sk)
		return;
	if (operation == OPERATION_LISTEN ||
	    (call->transport == TRANSPORT_UDP &&
	     (operation == OPERATION_BIND || operation == OPERATION_CONNECT ||
	      (!call->port && (operation == OPERATION_SEND || operation == OPERATION_SENDMSG)))))
		settle_new_socket(call->sk, port);
}

/* Whether the call is a `new` that counts later, under the port that its socket gets. */
static __always_inline bool counts_later(struct call *call, s64 ret, u64 duration_ns)
{
	struct socket_description socket = {};
	u32 transport = call->transport;

	if (call->operation != OPERATION_NEW || ret < 0 ||
	    (transport != TRANSPORT_TCP && transport != TRANSPORT_UDP))
		return false;
	if (!describe_descriptor(&socket, current_task(), ret) || socket.transport != transport)
		return false;
	return note_new_socket((u64)socket.sk, transport, duration_ns);
}
#else
#define settle_at_return(call, port)
#define counts_later(call, ret, duration_ns) false
#endif

static __always_inline void finish_call(struct call *call, s64 ret, u64 now_ns)
{
	u32 index = call->operation * TRANSPORTS + call->transport, probe = call->probe;
	u64 bytes = call->bytes == BYTES_RETURNED && ret > 0 ? ret : 0;
	struct probe_stats *stats = probes.lookup(&probe);
	u32 port = port_at_return(call);
	struct cell *cell;

	finish_on_socket(call, ret, now_ns);
	if (stats)
		stats->returned++;
	settle_at_return(call, port);
	if (counts_later(call, ret, duration_ns(call->start_ns, now_ns)))
		return;
	cell = labelled_cell(index, port, call->pid_tgid);
	if (!cell)
		cell = cells.lookup(&index);
	if (!cell)
		return;
	add_call(cell, duration_ns(call->start_ns, now_ns), ret, bytes);
	if (call->bytes == BYTES_MESSAGE_VECTOR)
		add_bytes_of_messages(cell, call->messages, ret);
}

/* The number of the system call that returns; -1 after a signal handler. */
static __always_inline u32 returning_number(void *registers)
{
	u32 number = -1;

	READ_FIELD(&number, registers, SYSTEM_CALL_NUMBER);
	return number;
}

static __always_inline bool is_in_table(u32 number)
{
	struct system_call *known = system_calls.lookup(&number);

	return known && known->subject;
}

/*
 * With BY_FUNCTION the number is not available at the return. It is not needed: the program runs
 * only at functions of the table.
 */
#ifdef BY_FUNCTION
#define RETURNS_FROM(call, registers) true
#define RETURNS_FROM_TABLE(registers) true
#else
#define RETURNS_FROM(call, registers) (returning_number(registers) == (call)->number)
#define RETURNS_FROM_TABLE(registers) is_in_table(returning_number(registers))
#endif

/*
 * Whether the call that returns counts. A write(2) to the thread's own /proc/self/comm, or to the
 * cgroup.procs that moves it into a traced cgroup, is traced from its return on, and does not.
 */
#ifdef BY_FUNCTION
#define RETURNING_CALL_COUNTS(task, registers) true
#else
#define RETURNING_CALL_COUNTS(task, registers) returning_call_counts(task, registers)

static __always_inline bool returning_call_counts(void *task, void *registers)
{
	u32 number = returning_number(registers);
	struct system_call *known = system_calls.lookup(&number);
	struct socket_description socket = {};

	if (!known || known->subject == SUBJECT_UNCOUNTED)
		return false;
	return known->subject != SUBJECT_ANY_FILE ||
	       describe_subject(&socket, SUBJECT_ANY_FILE, task, registers);
}
#endif

/*
 * The call of a thread that find_at_return() does not find. If a thread is not known at all, and
 * returns from a call that is traced and counts, the entry of that call was missed. The threads
 * that were in a call when tracing began are known: tracer/session.py adds them. The thread is made
 * known here, so that its entry is not missed again.
 */
static __always_inline struct call *call_of_other_thread(void *registers)
{
	u64 pid_tgid;
	struct call *call;
	void *task;

	if (!RETURNS_FROM_TABLE(registers))
		return 0;
	task = current_task();
	pid_tgid = ids_of(task);
#ifdef FILTER_PIDS
	if (!is_followed(pid_tgid >> 32))
		return 0;
#endif
	call = find_thread(pid_tgid);
	if (call)
		return call;
	if (!is_armed() || !is_traced(pid_tgid) || is_32_bit(task))
		return 0;
	if (!RETURNING_CALL_COUNTS(task, registers))
		return 0;
	/* If there is no room for it, that was counted when it entered. */
	if (enter_thread(registers, task, pid_tgid))
		count_event(EVENT_RETURN_WITHOUT_ENTRY);
	return 0;
}

static __always_inline void leave_call(void *registers, s64 ret)
{
	struct call *call = find_at_return(registers);
	u64 now_ns;

	if (!call)
		call = call_of_other_thread(registers);
	if (!call || !call->start_ns)
		return;
	if (!RETURNS_FROM(call, registers)) {
		abandon_call(call);
		return;
	}
	now_ns = bpf_ktime_get_ns();
	if (call->bytes != BYTES_UNCOUNTED)
		finish_call(call, ret, now_ns);
	call->start_ns = 0;
}

#ifdef BY_FUNCTION
/* Each of these functions has one argument, the registers with which user space called. */
int enter_system_call(struct pt_regs *ctx)
{
	void *registers = (void *)PT_REGS_PARM1(ctx);
	u32 number = -1;

	READ_FIELD(&number, registers, SYSTEM_CALL_NUMBER);
	enter_call(registers, number);
	return 0;
}

int exit_system_call(struct pt_regs *ctx)
{
	leave_call(0, PT_REGS_RC(ctx));
	return 0;
}
#else
int enter_system_call(struct bpf_raw_tracepoint_args *ctx)
{
	enter_call((void *)ctx->args[0], ctx->args[1]);
	return 0;
}

int exit_system_call(struct bpf_raw_tracepoint_args *ctx)
{
	leave_call((void *)ctx->args[0], ctx->args[1]);
	return 0;
}
#endif
