/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The counts. They are per CPU, so that no two CPUs write to the same memory; nothing is sent to
 * user space per call.
 *
 * A cell has all counts of one (operation, transport). The cells are a dense array: there is always
 * room.
 *
 * Probes   none of its own
 * Maps     all per CPU
 *   cells    operation * TRANSPORTS + transport -> struct cell
 *   probes   probe -> struct probe_stats
 *   events   event (EVENT_THREAD_ADDED and so on) -> number
 * Overhead docs/benchmarks.md, "Where the time of a traced call goes"
 * Caveats  User space reads the CPUs one after another while they count on.
 */
#pragma once

struct cell {
	u64 count;
	u64 sum_ns;
	u64 bytes;
	u64 errors[ERRNO_SLOTS]; /* see errno_slot() */
	u64 slots[SLOTS];	 /* see slot_of() */
};

/*
 * entered = returned + abandoned + calls in flight. The tracer reads all three by one system call:
 * between two of them, thousands of calls may come and go.
 */
struct probe_stats {
	u64 entered;
	u64 returned;
	u64 abandoned; /* entered, and its return was missed */
};

BPF_PERCPU_ARRAY(cells, struct cell, CELLS);
BPF_PERCPU_ARRAY(probes, struct probe_stats, PROBES);
BPF_PERCPU_ARRAY(events, u64, EVENTS);

/*
 * The compiler may check the bound of one register and then index with another one that it knows to
 * be equal. The verifier does not know that, and refuses. After this, the compiler assumes
 * nothing about `index`, so it checks the register that it uses.
 */
#define FORGET_ORIGIN(index) asm volatile("" : "+r"(index))

static __always_inline void count_event(u32 event)
{
	u64 *number = events.lookup(&event);

	/* Atomic: programs of several contexts count the same event (bpf/new_sockets.h). */
	if (number)
		__sync_fetch_and_add(number, 1);
}

/*
 * 1 to 133 are the errnos of user space, 512 to 530 the kernel's own (tracer/model/errnos.py). The
 * programs see those before the kernel turns them into EINTR or a restart (ERESTARTSYS and others).
 */
static __always_inline u64 errno_slot(s64 ret)
{
	u64 number = -ret;

	if (number < ERRNO_KERNEL_FIRST_SLOT)
		return number;
	if (number >= ERRNO_KERNEL_FIRST &&
	    number - ERRNO_KERNEL_FIRST < ERRNO_SLOTS - ERRNO_KERNEL_FIRST_SLOT)
		return number - ERRNO_KERNEL_FIRST + ERRNO_KERNEL_FIRST_SLOT;
	return 0;
}

/* The clocks of two CPUs may differ by a little: never less than 0. */
static __always_inline u64 duration_ns(u64 start_ns, u64 now_ns)
{
	return now_ns > start_ns ? now_ns - start_ns : 0;
}

static __always_inline void add_call(struct cell *cell, u64 duration_ns, s64 ret, u64 bytes)
{
	u64 slot = slot_of(duration_ns);

	cell->count++;
	cell->sum_ns += duration_ns;
	cell->bytes += bytes;
	FORGET_ORIGIN(slot);
	if (slot < SLOTS)
		cell->slots[slot]++;
	/* The kernel's MAX_ERRNO. */
	if (ret < 0 && ret >= -4095) {
		slot = errno_slot(ret);
		FORGET_ORIGIN(slot);
		if (slot < ERRNO_SLOTS)
			cell->errors[slot]++;
	}
}
