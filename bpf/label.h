/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Separate cells for each value of one extra label: comm, pid, cgroup or port (LABELS in
 * tracer/model/config.py). Compiled in only if a label is set. Once the map is full, further calls
 * count in the cells of aggregate.h and functions.bpf.c; user space shows these as "other".
 *
 * Probes    none of its own
 * Maps
 *   labelled_cells  struct cell_key -> struct cell, per CPU
 *   zero_cell       0 -> zeros, to insert: too large for the BPF stack
 * Overhead  a look-up in a hash per call; docs/benchmarks.md
 * Caveats   Cells are not freed while tracing.
 */
#pragma once

#ifdef LABELLED

struct cell_key {
	u32 cell;
	u32 pad;
	char label[16];
};

BPF_TABLE("percpu_hash", struct cell_key, struct cell, labelled_cells, LABELLED_CELLS);
BPF_ARRAY(zero_cell, struct cell, 1);

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

static __always_inline struct cell *labelled_cell(u32 index, u32 port, u64 pid_tgid)
{
	struct cell_key key = {.cell = index};
	u32 zero = 0;
	struct cell *cell, *empty;

	make_label(key.label, port, pid_tgid);
	cell = labelled_cells.lookup(&key);
	if (cell)
		return cell;
	empty = zero_cell.lookup(&zero);
	if (!empty)
		return 0;
	/* -EEXIST is fine: another CPU was first, and the look-up finds its cell. */
	labelled_cells.insert(&key, empty);
	cell = labelled_cells.lookup(&key);
	if (!cell)
		count_event(EVENT_AGGREGATE_MAP_FULL);
	return cell;
}

#else

static __always_inline struct cell *labelled_cell(u32 index, u32 port, u64 pid_tgid)
{
	return 0;
}

#endif
