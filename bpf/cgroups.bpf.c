// SPDX-License-Identifier: GPL-2.0-only
/*
 * Follows the path of --cgroup: when a service restarts, its cgroup is removed and made again under
 * the same path, with another id. Compiled in only with a filter by cgroup.
 *
 * User space looks at the path at each snapshot (tracer/session.py) and updates `cgroups`[0].
 * This program closes the gap until that snapshot: it runs before the new cgroup can be seen
 * in the file system, so before any process can be in it.
 *
 * Probes    raw tracepoint cgroup_mkdir -> on_cgroup_made
 * Maps      those of filter.h, and
 *   path_of_cgroup  0 -> the path of the cgroup that is made
 * Overhead  none per call; some 100 ns for each cgroup that is made on the machine
 * Caveats   The kernel gives the path from the root of the hierarchy. Inside a cgroup namespace the
 *           tracer does not know its own path from there, and this program is not loaded.
 */

#include "current.h"
#include "filter.h"

#define PATH_WORDS 128 /* 1 KB, the kernel's TRACE_CGROUP_PATH_LEN */

struct cgroup_path {
	u64 words[PATH_WORDS];
};

/* One buffer for all: the kernel makes one cgroup at a time (cgroup_mutex). */
BPF_ARRAY(path_of_cgroup, struct cgroup_path, 1);

/* Arguments: the cgroup, its path. */
int on_cgroup_made(struct bpf_raw_tracepoint_args *ctx)
{
	void *cgroup = (void *)ctx->args[0], *root = 0, *node = 0;
	struct cgroup_path *path;
	u32 zero = 0, hierarchy = -1;
	u64 id = 0;

	path = path_of_cgroup.lookup(&zero);
	if (!path)
		return 0;
	if (bpf_probe_read_kernel_str(path, sizeof(*path), (void *)ctx->args[1]) !=
	    CGROUP_PATH_SIZE)
		return 0;
	if (!(CGROUP_PATH_MATCHES(path->words)))
		return 0;
	/* The hierarchies of cgroup v1 have paths of their own; that of cgroup2 has the number 0.
	 */
	READ_FIELD(&root, cgroup, CGROUP_ROOT);
	READ_FIELD(&hierarchy, root, CGROUP_ROOT_HIERARCHY_ID);
	if (hierarchy)
		return 0;
	READ_FIELD(&node, cgroup, CGROUP_KN);
	READ_FIELD(&id, node, KERNFS_NODE_ID);
	cgroup_made_anew.update(&zero, &id);
	return 0;
}
