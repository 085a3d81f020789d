/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The ports of a sock, and which local ports are those of services: which side a TCP socket is on
 * is in no field of it. Compiled in with the label "port" and with the connection layer.
 *
 * Probes    none of its own
 * Maps
 *   listening  port -> 1 if a TCP socket listened on it at any time of the trace
 * Overhead  none by itself
 * Caveats   `listening` does not tell network namespaces apart.
 */
#pragma once

#include "current.h"

#if defined(LABEL_PORT) || defined(CONNECTIONS)

BPF_ARRAY(listening, u32, 65536);

static __always_inline u32 local_port(void *sk)
{
	u16 port = 0;

	READ_FIELD(&port, sk, SOCK_COMMON_SKC_NUM);
	return port;
}

static __always_inline u32 peer_port(void *sk)
{
	u16 port = 0;

	READ_FIELD(&port, sk, SOCK_COMMON_SKC_DPORT);
	return __builtin_bswap16(port);
}

static __always_inline bool is_listened_on(u32 port)
{
	u32 *known = listening.lookup(&port);

	return known && *known;
}

static __always_inline void note_listening(u32 port)
{
	u32 one = 1;

	if (port)
		listening.update(&port, &one);
}

#endif
