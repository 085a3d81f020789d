// SPDX-License-Identifier: GPL-2.0-only
/*
 * The connection layer: what happens to sockets outside of their owners' system calls. What happens
 * in system calls comes from turns.h.
 *
 * Probes    raw tracepoints inet_sock_set_state -> connection_changed_state,
 *           tcp_destroy_sock -> connection_destroyed, tcp_retransmit_skb -> connection_retransmits,
 *           tcp_send_reset -> connection_sends_reset,
 *           tcp_receive_reset -> connection_receives_reset
 * Maps      those of turns.h
 * Overhead  docs/connections.md, "Cost"
 * Caveats   The first two are attached twice where the kernel may preempt them
 *           (tracer/loading/connection_layer.py), so each must do no harm when it runs twice.
 */

#include "filter.h"
#include "in_flight.h"
#include "turns.h"

/* The argument of a tracepoint that is its struct sock. The position depends on the kernel. */
#define SOCK_OF(ctx, tracepoint) ((ctx)->args[tracepoint##_SOCK])

static __always_inline bool is_tcp(u64 sk)
{
	u16 protocol = 0;

	READ_FIELD(&protocol, sk, SOCK_SK_PROTOCOL);
	return protocol == IPPROTO_TCP;
}

/* In the process that connects. The addresses and the peer's port are set already. */
static __always_inline void starts_connecting(u64 sk)
{
	u64 pid_tgid = bpf_get_current_pid_tgid();
	u32 inode = inode_of((void *)sk);
	struct socket_state *socket;

	if (!is_traced(pid_tgid))
		return;
	socket = use_socket(sk, TRANSPORT_TCP, inode, pid_tgid);
	if (!socket)
		return;
	read_addresses(socket, (void *)sk);
	READ_FIELD(&socket->retransmits, sk, TCP_SOCK_TOTAL_RETRANS);
	socket->role = ROLE_CLIENT;
	socket->state = TCP_SYN_SENT;
	socket->turn = TURN_NONE;
	socket->peer_id = 0;
	socket->connecting_ns = bpf_ktime_get_ns();
}

/* The kernel sets the state only after this. */
static __always_inline void starts_listening(u64 sk)
{
	struct socket_state *socket;

	socket = make_socket(sk, TRANSPORT_TCP, inode_of((void *)sk), ROLE_LISTENER,
			     bpf_get_current_pid_tgid());
	if (!socket)
		return;
	socket->state = TCP_LISTEN;
	socket->born_ns = bpf_ktime_get_ns();
}

/* Whether the current thread is in connect(2): it then knows why the socket is closed. */
static __always_inline bool is_in_connect(u64 sk)
{
	struct call *call = find_thread(bpf_get_current_pid_tgid());

	return call && call->start_ns && call->operation == OPERATION_CONNECT && call->sk == sk;
}

/*
 * How the connect of this socket ends: 0, an errno, or RESULT_ABORTED if there is no error, since
 * the program has closed the socket.
 */
static __always_inline u32 result_of_connect(u64 sk, u32 state)
{
	u32 error = 0;

	if (state == TCP_ESTABLISHED)
		return 0;
	READ_FIELD(&error, sk, SOCK_SK_ERR);
	return error ? error : RESULT_ABORTED;
}

static __always_inline void ends_connecting(struct socket_state *socket, u64 sk, u32 state)
{
	u64 start_ns = socket->connecting_ns, now_ns = bpf_ktime_get_ns();
	u32 result = result_of_connect(sk, state);

	if (state == TCP_ESTABLISHED) {
		socket->local_port = local_port((void *)sk);
		socket->born_ns = now_ns;
	}
	if (!start_ns || (result == RESULT_ABORTED && is_in_connect(sk)))
		return;
	socket->connecting_ns = 0;
	socket->connected_ns = now_ns;
	if (!result)
		add_connection(socket);
	add_duration(socket, DURATION_CONNECT, result, duration_ns(start_ns, now_ns));
}

/* Arguments: the sock, the state it has, the one it gets. */
int connection_changed_state(struct bpf_raw_tracepoint_args *ctx)
{
	u64 sk = ctx->args[0], now_ns;
	u32 old = ctx->args[1], new = ctx->args[2];
	struct socket_state *socket;

	if (!is_tcp(sk))
		return 0;
	if (new == TCP_SYN_SENT) {
		starts_connecting(sk);
		return 0;
	}
	socket = find_tcp_socket(sk);
	if (new == TCP_LISTEN) {
		note_listening(local_port((void *)sk));
		if (is_traced(bpf_get_current_pid_tgid()))
			starts_listening(sk);
		return 0;
	}
	if (!socket) {
		if (new == TCP_ESTABLISHED && old == TCP_SYN_RECV) {
			now_ns = bpf_ktime_get_ns();
			if (accept_queue.update(&sk, &now_ns))
				count_event(EVENT_SOCKET_MAP_FULL);
		}
		return 0;
	}
	socket->state = new;
	if (new == TCP_ESTABLISHED || (new == TCP_CLOSE && socket->connecting_ns))
		ends_connecting(socket, sk, new);
	return 0;
}

/* Argument: the sock. */
int connection_destroyed(struct bpf_raw_tracepoint_args *ctx)
{
	u64 sk = SOCK_OF(ctx, TCP_DESTROY_SOCK);
	struct socket_state *socket = find_tcp_socket(sk);
	struct peer *peer;

	if (!socket) {
		accept_queue.delete(&sk);
		return 0;
	}
	if (socket->role != ROLE_LISTENER) {
		if (socket->born_ns)
			add_duration(socket, DURATION_LIFE, 0,
				     duration_ns(socket->born_ns, bpf_ktime_get_ns()));
		peer = peer_of(socket);
		if (peer) {
			lock_xadd(&peer->sent_bytes, socket->sent_bytes);
			lock_xadd(&peer->received_bytes, socket->received_bytes);
		}
	}
	forget_tcp_socket(socket, sk);
	return 0;
}

/* The kernel has already added the segments of this retransmit to total_retrans. */
int connection_retransmits(struct bpf_raw_tracepoint_args *ctx)
{
	u64 sk = SOCK_OF(ctx, TCP_RETRANSMIT_SKB);
	struct socket_state *socket = find_tcp_socket(sk);
	struct peer *peer;
	u32 total = 0;

	if (!socket)
		return 0;
	READ_FIELD(&total, sk, TCP_SOCK_TOTAL_RETRANS);
	peer = peer_of(socket);
	if (peer)
		lock_xadd(&peer->retransmits, total - socket->retransmits);
	socket->retransmits = total;
	return 0;
}

/* The sock is null if the reset answers a packet for which there is no socket. */
int connection_sends_reset(struct bpf_raw_tracepoint_args *ctx)
{
	u64 sk = SOCK_OF(ctx, TCP_SEND_RESET);
	struct socket_state *socket = sk ? find_tcp_socket(sk) : 0;
	struct peer *peer;

	if (!socket)
		return 0;
	socket->resets_sent++;
	peer = peer_of(socket);
	if (peer)
		lock_xadd(&peer->resets_sent, 1);
	return 0;
}

int connection_receives_reset(struct bpf_raw_tracepoint_args *ctx)
{
	struct socket_state *socket = find_tcp_socket(SOCK_OF(ctx, TCP_RECEIVE_RESET));
	struct peer *peer;

	if (!socket)
		return 0;
	socket->resets_received++;
	peer = peer_of(socket);
	if (peer)
		lock_xadd(&peer->resets_received, 1);
	return 0;
}
