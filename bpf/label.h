/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Separate cells for each value of one extra label: comm, pid, cgroup or port (LABELS in
 * tracer/model/config.py). Compiled in only if a label is set. Once there are LABEL_VALUES values,
 * calls with further ones count in the cells of aggregate.h and functions.bpf.c; user space shows
 * these as "other".
 *
 * Probes    none of its own
 * Maps
 *   label_values    label -> since when it has cells: bpf_ktime_get_ns(), ns
 *   labelled_cells  struct cell_key -> struct cell. The CPU is in the key: a per-CPU hash would
 *                   take memory for all CPUs, and runs out of it for a moment when many cells are
 *                   made at once (seen on 6.18).
 *   zero_cell       0 -> zeros, to insert: too large for the BPF stack
 *   grace_period    0 -> any map: an update from user space returns once all programs that were
 *                   running have ended (commit 1ae80cf31938 ("bpf: wait for running BPF programs
 *                   when updating map-in-map") in v4.20)
 * Overhead  two look-ups in hashes per call; docs/benchmarks.md. With LABELLED_CELLS_ON_DEMAND (6.1
 *           on) a cell takes memory when it is first used: from there on the kernel allocates for
 *           hashes from caches of its own (bpf_mem_alloc), which is safe in any context.
 * Caveats   User space gives back the cells of values that have been silent for long
 *           (tracer/reading/labels.py). It deletes the value here first and then waits for the
 *           running programs. From then on no program has the value's time, so none finds its
 *           cells, and they no longer change. A value that comes back has another time, and so
 *           other cells.
 */
#pragma once

#ifdef LABELLED

struct label {
	char bytes[16];
};

struct cell_key {
	u32 cell;
	u32 cpu;
	u64 since_ns; /* as in label_values */
	struct label label;
};

#ifdef LABELLED_CELLS_ON_DEMAND
#define LABELLED_CELLS_FLAGS BPF_F_NO_PREALLOC
#else
#define LABELLED_CELLS_FLAGS 0
#endif

BPF_HASH(label_values, struct label, u64, LABEL_VALUES);
BPF_F_TABLE("hash", struct cell_key, struct cell, labelled_cells, LABELLED_CELLS,
	    LABELLED_CELLS_FLAGS);
BPF_ARRAY(zero_cell, struct cell, 1);
BPF_ARRAY_OF_MAPS(grace_period, "armed", 1);

static __always_inline void make_label(char label[16], u32 port, u64 pid_tgid)
{
#if defined(LABEL_COMM)
	bpf_get_current_comm(label, 16);
#elif defined(LABEL_PID)
	*(u64 *)label = pid_tgid >> 32;
#elif defined(LABEL_CGROUP)
	*(u64 *)label = bpf_get_current_cgroup_id();
#elif defined(LABEL_PORT)
	*(u64 *)label = port;
#endif
}

/* Since when the value has room, which it takes here if there is any; 0 if there is none. */
static __always_inline u64 has_room_since(struct label *label)
{
	u64 now_ns, *since_ns = label_values.lookup(label);

	if (since_ns)
		return *since_ns;
	now_ns = bpf_ktime_get_ns();
	label_values.insert(label, &now_ns);
	since_ns = label_values.lookup(label);
	return since_ns ? *since_ns : 0;
}

static __always_inline struct cell *labelled_cell_of_cpu(u32 index, u32 cpu, u32 port, u64 pid_tgid)
{
	struct cell_key key = {.cell = index, .cpu = cpu};
	u32 zero = 0;
	struct cell *cell, *empty;

	make_label(key.label.bytes, port, pid_tgid);
	key.since_ns = has_room_since(&key.label);
	if (!key.since_ns) {
		count_event(EVENT_OTHER_LABEL);
		return 0;
	}
	cell = labelled_cells.lookup(&key);
	if (cell)
		return cell;
	empty = zero_cell.lookup(&zero);
	if (!empty)
		return 0;
	labelled_cells.insert(&key, empty);
	cell = labelled_cells.lookup(&key);
	if (!cell)
		count_event(EVENT_OTHER_LABEL);
	return cell;
}

static __always_inline struct cell *labelled_cell(u32 index, u32 port, u64 pid_tgid)
{
	return labelled_cell_of_cpu(index, bpf_get_smp_processor_id(), port, pid_tgid);
}

#else

static __always_inline struct cell *labelled_cell(u32 index, u32 port, u64 pid_tgid)
{
	return 0;
}

#endif
