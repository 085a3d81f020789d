/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Which calls are traced. Filters are compiled in: one that is not set costs nothing.
 *
 *   FILTER_PIDS    the thread group is in `followed`; with FOLLOW_FORKS its later children too
 *   FILTER_COMMS   the thread's name is one of COMM_MATCHES(first 8 bytes, last 8 bytes), or
 *                  (COMM_STATES_START) one of the patterns of tracer/model/thread_names.py
 *   FILTER_CGROUP  the thread is in the cgroup of `cgroups`[0], or below it; with CGROUP_LEVEL also
 *                  in or below that of `cgroup_made_anew`[0] (bpf/cgroups.bpf.c)
 *   TRACER_TGID    the tracer itself: never traced
 *
 * Probes    none of its own
 * Maps
 *   followed  tgid / 64 -> a byte for each of 64 tgids. An array, since the JIT inlines its
 *             look-up. Bytes and not bits, since several threads of a process may end at
 *             once: a store of a byte is atomic, and harmless when made twice. Sized by the
 *             kernel's PID_MAX_LIMIT, 4 MB: pid_max may be raised while tracing.
 *   comm_bytes
 *             byte of a name -> the states that it moves on, filled from Automaton.moving
 *   cgroups   0 -> cgroup
 *   cgroup_made_anew
 *             0 -> the id of the last cgroup that was made under the path while tracing; 0: none
 * Overhead  docs/benchmarks.md
 * Caveats   Without CGROUP_LEVEL, a cgroup made anew counts from the next snapshot on.
 */
#pragma once

#include "current.h"

#ifdef FILTER_PIDS
struct followed_row {
	u8 is_followed[64];
};

BPF_ARRAY(followed, struct followed_row, FOLLOWED_ROWS);

static __always_inline u8 *followed_byte(u32 tgid)
{
	u32 index = tgid >> 6;
	struct followed_row *row = followed.lookup(&index);

	return row ? &row->is_followed[tgid & 63] : 0;
}

static __always_inline bool is_followed(u32 tgid)
{
	u8 *byte = followed_byte(tgid);

	return byte && *byte;
}

static __always_inline void set_followed(u32 tgid, u8 value)
{
	u8 *byte = followed_byte(tgid);

	if (byte)
		*byte = value;
}
#endif

#ifdef COMM_STATES_START
struct comm_byte {
	u64 moving;
};

BPF_ARRAY(comm_bytes, struct comm_byte, 256);

/* Automaton.matches of tracer/model/thread_names.py */
static __always_inline bool matches_pattern(u64 first, u64 last)
{
	u64 states = COMM_STATES_START;
	struct comm_byte *known;
	u32 byte, i;

#pragma clang loop unroll(disable)
	for (i = 0; i < 15; i++) {
		byte = first & 0xff;
		if (!byte)
			break;
		known = comm_bytes.lookup(&byte);
		if (!known)
			break;
		states = (states & known->moving) << 1 | (states & COMM_STATES_STAYING);
		first = first >> 8 | last << 56;
		last >>= 8;
	}
	return states & COMM_STATES_ACCEPTING;
}
#else
static __always_inline bool matches_pattern(u64 first, u64 last)
{
	return false;
}
#endif

#ifdef FILTER_CGROUP
BPF_CGROUP_ARRAY(cgroups, 1);

#ifdef CGROUP_LEVEL
BPF_ARRAY(cgroup_made_anew, u64, 1);

/*
 * The id of the cgroup of this level that the thread is in, itself or by one below; zero if none.
 * On 5.10 tracing programs must not call the helper. Until 6.0 the ids are in struct cgroup.
 */
static __always_inline u64 ancestor_cgroup_id(void)
{
#ifdef CGROUP_ANCESTOR_IDS
	void *set = 0, *cgroup = 0;
	int level = 0;
	u64 id = 0;

	READ_FIELD(&set, bpf_get_current_task(), TASK_STRUCT_CGROUPS);
	READ_FIELD(&cgroup, set, CSS_SET_DFL_CGRP);
	READ_FIELD(&level, cgroup, CGROUP_LEVEL_OF);
	if (level >= CGROUP_LEVEL)
		READ_FIELD(&id, cgroup, CGROUP_ANCESTOR_IDS + CGROUP_LEVEL * 8);
	return id;
#else
	return bpf_get_current_ancestor_cgroup_id(CGROUP_LEVEL);
#endif
}

static __always_inline bool is_in_cgroup_made_anew(void)
{
	u32 zero = 0;
	u64 *id = cgroup_made_anew.lookup(&zero);

	return id && *id && ancestor_cgroup_id() == *id;
}
#else
static __always_inline bool is_in_cgroup_made_anew(void)
{
	return false;
}
#endif
#endif

/* The filters whose result does not change while a thread lives. */
static __always_inline bool is_of_traced_process(u64 pid_tgid)
{
	u32 tgid = pid_tgid >> 32;

#ifdef TRACER_TGID
	if (tgid == TRACER_TGID)
		return false;
#endif
#ifdef FILTER_PIDS
	if (!is_followed(tgid))
		return false;
#endif
	return true;
}

/* The filters whose result may change from call to call: the thread's name and its cgroup. */
static __always_inline bool is_traced_now(void)
{
#ifdef FILTER_COMMS
	{
		u64 comm[2] = {};

		bpf_get_current_comm(comm, sizeof(comm));
		if (!(COMM_MATCHES(comm[0], comm[1])) && !matches_pattern(comm[0], comm[1]))
			return false;
	}
#endif
#ifdef FILTER_CGROUP
	if (cgroups.check_current_task(0) <= 0 && !is_in_cgroup_made_anew())
		return false;
#endif
	return true;
}

static __always_inline bool is_traced(u64 pid_tgid)
{
	return is_of_traced_process(pid_tgid) && is_traced_now();
}
