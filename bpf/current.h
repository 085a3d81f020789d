/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Reading the kernel's memory, and the current task.
 *
 * HAVE_CAST (6.2 on): a read is a plain load, which takes a tenth of the time of the helper
 * bpf_probe_read_kernel(). A load from a bad address gives zero; so does the helper as it is used
 * here. The loader puts bpf_rdonly_cast() in place of kernel_cast()
 * (tracer/loading/instructions.py).
 *
 * HAVE_TASK_BTF (5.11 on): the kernel gives the current task with its type, and reading its fields
 * is a plain load. Used only without HAVE_CAST.
 *
 * Probes    none of its own
 * Maps      none
 * Overhead  docs/benchmarks.md, "Where the time of a traced call goes"
 * Caveats   What is read may change meanwhile: nothing is locked.
 */
#pragma once

/* *to = the field of that offset in the struct at `base`, at most 8 bytes; zero if unreadable */
#ifdef HAVE_CAST
static void *(*kernel_cast)(u64 address, u64 type) = (void *)KERNEL_CAST;

#define READ_FIELD(to, base, offset) \
	(*(to) = *(volatile typeof(*(to)) *)kernel_cast((u64)(base) + (offset), TYPE_OF_WORDS))
#else
#define READ_FIELD(to, base, offset) \
	bpf_probe_read_kernel(to, sizeof(*(to)), (void *)((u64)(base) + (offset)))
#endif

#if defined(HAVE_TASK_BTF) && !defined(HAVE_CAST)
#define READ_TASK_FIELD(to, task, offset) \
	(*(to) = *(volatile typeof(*(to)) *)((char *)(task) + (offset)))

static __always_inline void *current_task(void)
{
	return bpf_get_current_task_btf();
}

static __always_inline u64 ids_of(void *task)
{
	u32 tid, tgid;

	READ_TASK_FIELD(&tid, task, TASK_STRUCT_PID);
	READ_TASK_FIELD(&tgid, task, TASK_STRUCT_TGID);
	return (u64)tgid << 32 | tid;
}
#else
#define READ_TASK_FIELD READ_FIELD

static __always_inline void *current_task(void)
{
	return (void *)bpf_get_current_task();
}

static __always_inline u64 ids_of(void *task)
{
	return bpf_get_current_pid_tgid();
}
#endif

/* Whether the task is in a system call of a 32-bit program, where other numbers apply. */
static __always_inline bool is_32_bit(void *task)
{
	u32 flags = 0;

	READ_TASK_FIELD(&flags, task, TASK_STRUCT_THREAD_INFO + THREAD_INFO_COMPAT);
	return flags & COMPAT_BIT;
}
