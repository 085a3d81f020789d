// SPDX-License-Identifier: GPL-2.0-only
/*
 * Notes the service's port of each TCP socket, for the label "port". Compiled in only with it.
 *
 * Probes    raw tracepoints inet_sock_set_state -> on_socket_state,
 *           tcp_destroy_sock -> on_socket_destroyed
 * Maps      those of service_port.h
 * Overhead  none per call; a few 100 ns for each connection of the machine
 * Caveats   A socket that was a listener's or a client's before tracing began is not noted.
 */

#include "current.h"
#include "describe_socket.h"

static __always_inline void note_port(void *sk, u32 port)
{
	u64 key = (u64)sk;

	if (port)
		service_ports.update(&key, &port);
}

/*
 * Arguments: the sock, the state it has, the one it gets. The peer's port is set before the state
 * is SYN_SENT; a socket made by a listener has the listener's port when it gets SYN_RECV. A socket
 * that listens without bind(2) gets its port later: then there is none yet.
 */
int on_socket_state(struct bpf_raw_tracepoint_args *ctx)
{
	void *sk = (void *)ctx->args[0];
	u32 old = ctx->args[1], new = ctx->args[2], port;

	if (new == TCP_SYN_SENT) {
		note_port(sk, peer_port(sk));
	} else if (new == TCP_LISTEN) {
		port = local_port(sk);
		note_port(sk, port);
		note_listening(port);
	} else if (new == TCP_SYN_RECV && old != TCP_SYN_SENT) {
		note_port(sk, local_port(sk));
	}
	return 0;
}

/* Argument: the sock. */
int on_socket_destroyed(struct bpf_raw_tracepoint_args *ctx)
{
	u64 key = ctx->args[0];

	service_ports.delete(&key);
	return 0;
}
