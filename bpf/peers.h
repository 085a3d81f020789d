/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The numbers by process and peer. A peer is the other end's address with the port of the service:
 * the peer's own port for a client, the local port for a server.
 *
 * Probes    none of its own
 * Maps
 *   peers            struct peer_key -> struct peer, for PEERS peers
 *   other_peers      role * TRANSPORTS + transport -> struct peer, for all further peers
 *   durations        struct duration_key -> struct durations. The CPU is in the key, so that no two
 *                    CPUs write to the same memory, and a CPU that counts nothing takes none.
 *   empty_durations  0 -> zeros, to insert: too large for the BPF stack
 * Overhead  docs/connections.md, "Cost"
 * Caveats   Peers are not given back while tracing.
 */
#pragma once

#include "sockets.h"
#include "histogram.h"

#define OTHER_PEER 1ULL /* as id; no clock is that young */

struct peer_key {
	u64 comm[2];
	u64 remote[2];
	u32 tgid; /* 0 unless PEERS_BY_PID */
	u16 port;
	u8 role;
	u8 transport;
};

struct peer {
	u64 id;
	u64 connections;    /* that were established or used */
	u64 sent_bytes;	    /* over sockets that have been destroyed; others have their own */
	u64 received_bytes; /* the same */
	u64 retransmits;    /* segments */
	u64 resets_sent;
	u64 resets_received;
};

struct duration_key {
	u64 peer_id;
	u16 cpu;
	u16 result; /* of a connect: 0, an errno or RESULT_ABORTED */
	u8 kind;    /* DURATION_CONNECT and so on */
	u8 role;
	u8 transport;
	u8 pad;
};

struct durations {
	u64 sum_ns;
	u64 slots[SLOTS]; /* see slot_of() */
};

BPF_HASH(peers, struct peer_key, struct peer, PEERS);
BPF_ARRAY(other_peers, struct peer, ROLES *TRANSPORTS);
BPF_F_TABLE("hash", struct duration_key, struct durations, durations, DURATION_CELLS,
	    CONNECTION_MAP_FLAGS);
BPF_ARRAY(empty_durations, struct durations, 1);

static __always_inline struct peer *other_peer(struct socket_state *socket)
{
	u32 index = socket->role * TRANSPORTS + socket->transport;

	return other_peers.lookup(&index);
}

/* The peer's row, made if there is none yet and room for it; else that of all other peers. */
static __always_inline struct peer *peer_of(struct socket_state *socket)
{
	struct peer_key key = {};
	struct peer first = {}, *peer;

	if (socket->peer_id == OTHER_PEER)
		return other_peer(socket);
	key.comm[0] = socket->comm[0];
	key.comm[1] = socket->comm[1];
	key.remote[0] = socket->remote[0];
	key.remote[1] = socket->remote[1];
	key.port = socket->role == ROLE_CLIENT ? socket->remote_port : socket->local_port;
	key.role = socket->role;
	key.transport = socket->transport;
#ifdef PEERS_BY_PID
	key.tgid = socket->tgid;
#endif
	peer = peers.lookup(&key);
	if (!peer) {
		/* No two CPUs make the same id: a CPU's clock moves on between two events. */
		first.id = bpf_ktime_get_ns() << 10 | bpf_get_smp_processor_id();
		peers.insert(&key, &first);
		peer = peers.lookup(&key);
	}
	if (peer) {
		socket->peer_id = peer->id;
		return peer;
	}
	socket->peer_id = OTHER_PEER;
	count_event(EVENT_OTHER_PEER);
	return other_peer(socket);
}

static __always_inline void add_connection(struct socket_state *socket)
{
	struct peer *peer = peer_of(socket);

	if (peer)
		lock_xadd(&peer->connections, 1);
}

static __always_inline void add_duration(struct socket_state *socket, u32 kind, u32 result, u64 ns)
{
	struct duration_key key = {};
	struct durations *cell, *empty;
	u64 slot = slot_of(ns);
	u32 zero = 0;

	if (!socket->peer_id)
		peer_of(socket);
	key.peer_id = socket->peer_id;
	key.cpu = bpf_get_smp_processor_id();
	key.result = result;
	key.kind = kind;
	key.role = socket->role;
	key.transport = socket->transport;
	cell = durations.lookup(&key);
	if (!cell) {
		empty = empty_durations.lookup(&zero);
		if (empty)
			durations.insert(&key, empty);
		cell = durations.lookup(&key);
	}
	if (!cell) {
		count_event(EVENT_PEER_MAP_FULL);
		return;
	}
	/* Atomic: a soft interrupt, in which a connect ends, may come in between. */
	lock_xadd(&cell->sum_ns, ns);
	FORGET_ORIGIN(slot);
	if (slot < SLOTS)
		lock_xadd(&cell->slots[slot], 1);
}
