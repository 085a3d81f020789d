/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Calls in flight in an array, found by an address on the thread's kernel stack. See in_flight.h
 * for the functions and the maps `calls` and `threads`.
 *
 * Every call has to find its thread, and an array look-up takes a tenth of the time of a hash
 * look-up. Even asking the kernel for the thread's id or task takes longer than the array. So the
 * key of a thread is an address on its kernel stack that the programs are given anyway: that of
 * the user's registers, saved at the top of the stack. This stack key, modulo the size of the
 * array, is the thread's slot. If another thread has that slot, the thread has an entry in the hash
 * instead, by its id. The hash also says who owns a slot: the thread that could insert SLOT_KEY |
 * slot owns it until the thread ends.
 *
 * The kernel gives a stack that is free to the next thread, and the end of a thread may be missed.
 * So a slot remembers the task of its thread, and belongs to it as long as the task has the stack.
 *
 * Probes    none of its own
 * Maps      those of in_flight.h, and
 *   registers_above_stack
 *             0 -> bytes from the lowest address of a stack to the stack key: the same for all
 *             threads, found from the first
 * Overhead  docs/benchmarks.md, "Where the time of a traced call goes"
 * Caveats   More than CALL_SLOTS stacks, or stacks that share a slot, make some threads use the
 *           hash.
 */
#pragma once

#define CALL_SLOTS 8192	    /* a power of two */
#define SLOT_KEY (1U << 31) /* more than any tid */
/* Stacks are usually 16 KiB each, at multiples of that, with a guard page in between. */
#define STACK_SHIFT 15

/* To be mapped by user space: a look-up of each slot would take most of the time of a scrape. */
BPF_F_TABLE("array", u32, struct call, calls, CALL_SLOTS, BPF_F_MMAPABLE);
BPF_ARRAY(registers_above_stack, u64, 1);

static __always_inline u64 stack_of(void *task)
{
	u64 stack = 0;

	READ_TASK_FIELD(&stack, task, TASK_STRUCT_STACK);
	return stack;
}

static __always_inline u64 stack_key_at(void *registers)
{
#ifdef BY_FUNCTION
	/* At the return of a function, the user's registers are not available. */
	return stack_of(current_task());
#else
	return (u64)registers;
#endif
}

static __always_inline u32 call_slot(u64 stack_key)
{
	return (stack_key >> STACK_SHIFT) & (CALL_SLOTS - 1);
}

static __always_inline struct call *find_in_slot(u64 stack_key)
{
	u32 slot = call_slot(stack_key);
	struct call *call = calls.lookup(&slot);

	return call && call->stack_key == stack_key ? call : 0;
}

/* For a program that is not given an address on the thread's stack. */
static __always_inline struct call *find_in_slot_of_task(void *task)
{
	u32 zero = 0;
	u64 *above = registers_above_stack.lookup(&zero);
	struct call *call = find_in_slot(stack_of(task) + (above ? *above : 0));

	return call && call->task == (u64)task ? call : 0;
}

static __always_inline bool is_of_process(void *task, u64 pid_tgid)
{
	u32 tgid = 0;

	READ_TASK_FIELD(&tgid, task, TASK_STRUCT_TGID);
	return tgid == pid_tgid >> 32;
}

/*
 * Whether the slot still belongs to the thread that has the stack now; sets that thread's task. The
 * process is compared too: the kernel may give both the stack and the task's memory to the next
 * thread.
 */
static __always_inline bool is_of_current_thread(struct call *call, void **task)
{
#if defined(HAVE_CAST) && !defined(BY_FUNCTION)
	*task = (void *)call->task;
	if (stack_of(*task) == call->stack && is_of_process(*task, call->pid_tgid))
		return true;
	*task = current_task();
	return false;
#else
	*task = current_task();
	return call->task == (u64)*task && is_of_process(*task, call->pid_tgid);
#endif
}

static __always_inline struct call *find_at_entry(void *registers, void **task)
{
	struct call *call = find_in_slot(stack_key_at(registers));

	if (call) {
		/* A call still in the slot has ended, even if it was another thread's. */
		abandon_call(call);
		return is_of_current_thread(call, task) ? call : 0;
	}
	*task = current_task();
	return 0;
}

static __always_inline struct call *find_at_return(void *registers)
{
	return find_in_slot(stack_key_at(registers));
}

static __always_inline struct call *find_thread(u64 pid_tgid)
{
	struct call *call = find_in_slot_of_task(current_task());
	u32 tid = pid_tgid;

	return call ? call : threads.lookup(&tid);
}

static __always_inline void take_slot(struct call *call, u64 stack_key, void *task, u64 pid_tgid)
{
	u32 zero = 0;
	u64 *above = registers_above_stack.lookup(&zero);

	call->pid_tgid = pid_tgid;
	call->task = (u64)task;
	call->stack = stack_of(task);
	call->stack_key = stack_key;
	if (above)
		*above = stack_key - call->stack;
}

/*
 * An entry that the tracer made, for a thread that was already blocked when tracing began, is
 * exchanged for a slot if that is free.
 */
static __always_inline struct call *enter_thread(void *registers, void *task, u64 pid_tgid)
{
	u64 stack_key = stack_key_at(registers);
	u32 tid = pid_tgid, slot = call_slot(stack_key), key = SLOT_KEY | slot;
	struct call *call = find_in_slot(stack_key), none = {.pid_tgid = pid_tgid};

	if (call) {
		/* The slot is of the thread that had this stack before and was not seen to end. */
		take_slot(call, stack_key, task, pid_tgid);
		return call;
	}
	call = threads.lookup(&tid);
	if (call) {
		abandon_call(call);
		call->pid_tgid = pid_tgid;
		if (call->number != MADE_BY_TRACER)
			return call;
	}
	if (!threads.insert(&key, &none)) {
		if (call)
			threads.delete(&tid);
		else
			count_event(EVENT_THREAD_ADDED);
		call = calls.lookup(&slot);
		if (call) {
			*call = none;
			take_slot(call, stack_key, task, pid_tgid);
		}
		return call;
	}
	if (call) {
		call->number = 0;
		return call;
	}
	return enter_in_hash(pid_tgid);
}

static __always_inline void forget_thread(u32 tid)
{
	struct call *call = find_in_slot_of_task(current_task());
	u32 key;

	if (!call) {
		forget_tid(tid);
		return;
	}
	abandon_call(call);
	key = SLOT_KEY | call_slot(call->stack_key);
	call->task = 0;
	call->stack_key = 0; /* before another thread can take the slot */
	if (!threads.delete(&key))
		count_event(EVENT_THREAD_REMOVED);
}
