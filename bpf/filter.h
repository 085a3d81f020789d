/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Which calls are traced. Compiled in: a filter that was not asked for costs nothing.
 *
 *   FILTER_PIDS    the thread group is in `followed`; with FOLLOW_FORKS its later children too
 *   FILTER_COMMS   the thread's name is one of COMM_MATCHES(first 8 bytes, last 8 bytes)
 *   FILTER_CGROUP  the thread is in the cgroup of `cgroups`[0], or below it
 *   TRACER_TGID    the tracer itself: never traced
 *
 * Maps
 *   followed  tgid / 64 -> bit mask of 64 tgids. An array, since its look-up is inlined by the
 *             JIT; bits are set and cleared by adding and subtracting, the atomic operation that
 *             every kernel has. No two writers meet on one bit: a process is born and dies once.
 *   cgroups   0 -> cgroup
 */
#pragma once

#ifdef FILTER_PIDS
BPF_ARRAY(followed, u64, FOLLOWED_WORDS);

static __always_inline u64 *followed_word(u32 tgid)
{
	u32 index = tgid >> 6;

	return followed.lookup(&index);
}

static __always_inline bool is_followed(u32 tgid)
{
	u64 *word = followed_word(tgid);

	return word && (*word >> (tgid & 63)) & 1;
}

static __always_inline void follow(u32 tgid)
{
	u64 *word = followed_word(tgid);

	if (word && !((*word >> (tgid & 63)) & 1))
		__sync_fetch_and_add(word, 1ULL << (tgid & 63));
}

static __always_inline void unfollow(u32 tgid)
{
	u64 *word = followed_word(tgid);

	if (word && (*word >> (tgid & 63)) & 1)
		__sync_fetch_and_add(word, -(1ULL << (tgid & 63)));
}
#endif

#ifdef FILTER_CGROUP
BPF_CGROUP_ARRAY(cgroups, 1);
#endif

static __always_inline bool is_traced(u64 pid_tgid)
{
	u32 tgid = pid_tgid >> 32;

	if (tgid == TRACER_TGID)
		return false;
#ifdef FILTER_PIDS
	if (!is_followed(tgid))
		return false;
#endif
#ifdef FILTER_COMMS
	{
		u64 comm[2] = {};

		bpf_get_current_comm(comm, sizeof(comm));
		if (!(COMM_MATCHES(comm[0], comm[1])))
			return false;
	}
#endif
#ifdef FILTER_CGROUP
	if (cgroups.check_current_task(0) <= 0)
		return false;
#endif
	return true;
}
