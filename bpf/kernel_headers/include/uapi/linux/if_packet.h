/* SPDX-License-Identifier: GPL-2.0-only */
/* Empty: bcc includes it, and nothing of it is used. */
