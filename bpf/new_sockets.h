/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Under which port `new` counts, for the label "port" (LABEL_PORT). A socket has no port when
 * socket(2) returns. So the call is noted until it is known, and then settled: counted under it.
 *
 *   TCP   settled when it connects or listens, else when it is destroyed (bpf/ports.bpf.c)
 *   UDP   settled when it has a port or a peer, else when it is closed
 *
 * User space shows what is noted and not settled as "(no port yet)": the difference of two counts,
 * so that the sum of all is exact at any time, also for a socket of which the end was not seen.
 *
 * The programs that settle run in any context, also in soft interrupts. So these cells are not per
 * CPU, and all additions to them are atomic. The cells of settled calls are those of label.h with
 * the index NEW_SOCKET_CELLS + transport.
 *
 * Probes    none of its own
 * Maps
 *   new_sockets        struct sock of a noted call -> struct new_socket. The one that was noted
 *                      first falls out if it is full, and is "(no port yet)" from there on.
 *   noted_new          transport -> struct cell: all calls that were noted
 *   settled_new_other  transport -> struct cell: settled while the label had no room for the port
 * Overhead  per connection: two updates of a hash, and a look-up of the descriptor
 * Caveats   A UDP socket that is closed in one process while another one has it open is settled
 *           then.
 */
#pragma once

#ifdef LABEL_PORT

struct new_socket {
	u64 duration_ns;
	u64 transport;
};

BPF_TABLE("lru_hash", u64, struct new_socket, new_sockets, 16384);
BPF_ARRAY(noted_new, struct cell, TRANSPORTS);
BPF_ARRAY(settled_new_other, struct cell, TRANSPORTS);

static __always_inline void add_success_atomically(struct cell *cell, u64 duration_ns)
{
	u64 slot = slot_of(duration_ns);

	__sync_fetch_and_add(&cell->count, 1);
	__sync_fetch_and_add(&cell->sum_ns, duration_ns);
	FORGET_ORIGIN(slot);
	if (slot < SLOTS)
		__sync_fetch_and_add(&cell->slots[slot], 1);
}

static __always_inline void settle_new_socket(u64 sk, u32 port)
{
	struct new_socket *noted = new_sockets.lookup(&sk), socket;
	struct cell *cell;
	u32 transport;

	if (!noted)
		return;
	socket = *noted;
	/* Of several programs that settle it at once, one deletes it. */
	if (new_sockets.delete(&sk))
		return;
	transport = socket.transport;
	cell = labelled_cell_of_cpu(NEW_SOCKET_CELLS + transport, 0, port, 0);
	if (!cell)
		cell = settled_new_other.lookup(&transport);
	if (cell)
		add_success_atomically(cell, socket.duration_ns);
}

/* False if the call must be counted now. */
static __always_inline bool note_new_socket(u64 sk, u32 transport, u64 duration_ns)
{
	struct new_socket socket = {.duration_ns = duration_ns, .transport = transport};
	struct cell *cell = noted_new.lookup(&transport);

	if (!cell)
		return false;
	/* An earlier socket had this address, and its end was not seen. */
	settle_new_socket(sk, 0);
	if (new_sockets.insert(&sk, &socket))
		return false;
	add_success_atomically(cell, duration_ns);
	return true;
}

#endif
