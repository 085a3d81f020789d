/* SPDX-License-Identifier: GPL-2.0-only */
/* Included by bcc ahead of everything else: the types that its own headers and ours use. */
#pragma once
#define CONFIG_BPF_SYSCALL 1

typedef signed char s8;
typedef unsigned char u8;
typedef short s16;
typedef unsigned short u16;
typedef int s32;
typedef unsigned int u32;
typedef long long s64;
typedef unsigned long long u64;

typedef s8 __s8;
typedef u8 __u8;
typedef s16 __s16;
typedef u16 __u16;
typedef s32 __s32;
typedef u32 __u32;
typedef s64 __s64;
typedef u64 __u64;
typedef u64 __aligned_u64 __attribute__((aligned(8)));
typedef u16 __be16;
typedef u32 __be32;
typedef u64 __be64;
typedef u16 __sum16;
typedef u32 __wsum;
typedef _Bool bool;
#define true 1
#define false 0
typedef unsigned long size_t;
typedef unsigned long uintptr_t;

#ifndef __always_inline
#define __always_inline inline __attribute__((always_inline))
#endif

/* The registers as a kprobe finds them: the kernel's struct pt_regs, which is part of its ABI. */
#if defined(__TARGET_ARCH_x86) || defined(__x86_64__)
struct pt_regs {
	unsigned long r15, r14, r13, r12, bp, bx, r11, r10, r9, r8, ax, cx, dx, si, di;
	unsigned long orig_ax, ip, cs, flags, sp, ss;
};
#elif defined(__TARGET_ARCH_arm64) || defined(__aarch64__)
struct pt_regs {
	u64 regs[31];
	u64 sp, pc, pstate;
};
#endif
