/* SPDX-License-Identifier: GPL-2.0-only */
#pragma once
/* bcc puts the running kernel's own number in place of this one. */
#define KERNEL_VERSION(a, b, c) (((a) << 16) + ((b) << 8) + ((c) > 255 ? 255 : (c)))
#define LINUX_VERSION_CODE KERNEL_VERSION(5, 10, 0)
