/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The port of the service that a socket belongs to, for the label "port" (LABEL_PORT):
 *
 *   TCP   accepted and listening sockets: the local port; connected ones: the peer's
 *   UDP   the peer's port if it is connected, else the local one
 *
 * Which side a TCP socket is on is in no field of it. bpf/ports.bpf.c notes the service's port when
 * it sees the socket connect, listen or be made by a listener. It stays until the socket is
 * destroyed: a reset takes the ports from the socket, and not its label. Of sockets older than the
 * trace it is only known whether anything listens on their local port.
 *
 * Probes    none of its own
 * Maps
 *   service_ports  struct sock of a TCP socket -> port. The socket not used for longest falls out.
 *   and that of listening.h
 * Overhead  a look-up in a hash per call; docs/benchmarks.md
 * Caveats   those of listening.h
 */
#pragma once

#include "listening.h"

#ifdef LABEL_PORT

BPF_TABLE("lru_hash", u64, u32, service_ports, 65536);

static __always_inline u32 service_port(u32 transport, void *sk)
{
	u64 key = (u64)sk;
	u32 *known, local, peer;

	if (transport != TRANSPORT_TCP && transport != TRANSPORT_UDP)
		return 0;
	if (transport == TRANSPORT_TCP) {
		known = service_ports.lookup(&key);
		if (known)
			return *known;
	}
	local = local_port(sk);
	peer = peer_port(sk);
	if (!local || !peer)
		return local ? local : peer;
	if (transport == TRANSPORT_TCP) {
		if (is_listened_on(local))
			peer = local;
		/* Noted now: a reset would take the local port. */
		service_ports.update(&key, &peer);
	}
	return peer;
}

#endif
