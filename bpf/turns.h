/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the return of a system call means for its socket: answer times, accept waits, bytes, and
 * connects that failed before a packet was sent. Called by operations.bpf.c. docs/connections.md
 * defines what is measured.
 *
 * Probes    none of its own
 * Maps      those of sockets.h and peers.h, and
 *   accept_queue  struct sock of a connection that was not accepted yet -> when it was established
 * Overhead  docs/connections.md, "Cost"
 * Caveats   A receive with MSG_PEEK counts as a receive.
 */
#pragma once

#ifdef CONNECTIONS

#include "peers.h"

#define EALREADY 114
#define EINPROGRESS 115
#define EISCONN 106
#define EINTR 4
#define ERESTART_FIRST 512 /* ERESTARTSYS; up to ERESTARTNOHAND, 514 */
#define ERESTART_LAST 514

BPF_F_TABLE("hash", u64, u64, accept_queue, ACCEPT_QUEUE, CONNECTION_MAP_FLAGS);

/* What a return ends: at most one duration, which is added at one place in the program. */
struct ended {
	struct socket_state *socket;
	u64 ns;
	u32 kind; /* DURATION_NONE: nothing */
	u32 result;
	bool is_first; /* the connection is used for the first time */
};

/* The address in a struct sockaddr that the call was given; `address` 0 if none. */
static __always_inline void set_remote(struct socket_state *socket, u64 address)
{
	struct {
		u16 family;
		u16 port;
		u32 ipv4; /* or the flow of IPv6 */
	} head = {};
	u64 remote[2] = {};
	u16 port;

	if (!address)
		return;
	bpf_probe_read_user(&head, sizeof(head), (void *)address);
	if (head.family == AF_INET)
		remote[1] = MAPPED(head.ipv4);
	else if (head.family == AF_INET6)
		bpf_probe_read_user(remote, sizeof(remote), (void *)(address + 8));
	else
		return;
	port = __builtin_bswap16(head.port);
	if (remote[0] == socket->remote[0] && remote[1] == socket->remote[1] &&
	    port == socket->remote_port)
		return;
	socket->remote[0] = remote[0];
	socket->remote[1] = remote[1];
	socket->remote_port = port;
	socket->peer_id = 0;
}

/* A socket with an unknown role has its first data now; so it is a UDP socket. */
static __always_inline void start_role(struct ended *ended, u32 role, u64 now_ns)
{
	ended->socket->role = role;
	ended->socket->born_ns = now_ns;
	ended->is_first = true;
}

static __always_inline void sent(struct ended *ended, struct call *call, u64 bytes, u64 now_ns)
{
	struct socket_state *socket = ended->socket;
	u64 received_ns = socket->last_receive_ns;

	if (socket->role == ROLE_UNKNOWN)
		start_role(ended, ROLE_CLIENT, now_ns);
	lock_xadd(&socket->sent_bytes, bytes);
	lock_xadd(&socket->sends, 1);
	socket->last_send_ns = now_ns;
	ended->ns = duration_ns(call->start_ns, received_ns);
	if (socket->role == ROLE_CLIENT && ended->ns) {
		/* Another thread has received the answer before this call returned. */
		ended->kind = DURATION_ANSWER;
		return;
	}
	if (socket->role == ROLE_SERVER && socket->turn == TURN_RECEIVED) {
		ended->kind = DURATION_ANSWER;
		ended->ns = duration_ns(received_ns, call->start_ns);
	}
	socket->turn = TURN_SENT;
}

static __always_inline void received(struct ended *ended, u64 bytes, u64 now_ns)
{
	struct socket_state *socket = ended->socket;

	if (socket->role == ROLE_UNKNOWN)
		start_role(ended, ROLE_SERVER, now_ns);
	lock_xadd(&socket->received_bytes, bytes);
	lock_xadd(&socket->receives, 1);
	if (socket->role == ROLE_CLIENT && socket->turn == TURN_SENT) {
		ended->kind = DURATION_ANSWER;
		ended->ns = duration_ns(socket->last_send_ns, now_ns);
	}
	socket->turn = TURN_RECEIVED;
	socket->last_receive_ns = now_ns;
}

/* Whether a call of connect(2) with this result has not decided how the connect ends. */
static __always_inline bool is_still_connecting(s64 ret)
{
	return !ret || ret == -EINPROGRESS || ret == -EALREADY || ret == -EISCONN ||
	       ret == -EINTR || (ret <= -ERESTART_FIRST && ret >= -ERESTART_LAST);
}

/*
 * connection_changed_state() sees how a connect ends, unless the kernel refuses it before it sends
 * anything: there is no route, no free port, a wrong argument.
 */
static __always_inline void connect_returned(struct ended *ended, struct call *call, s64 ret,
					     u64 now_ns)
{
	struct socket_state *socket = ended->socket;

	socket->role = ROLE_CLIENT;
	socket->connecting_ns = 0;
	socket->connected_ns = now_ns;
	set_remote(socket, call->address);
	ended->kind = DURATION_CONNECT;
	ended->result = -ret;
	ended->ns = duration_ns(call->start_ns, now_ns);
}

/* Whether connection_changed_state() has seen how the connect of this call ended. */
static __always_inline bool has_connected(struct call *call)
{
	struct socket_state *socket = find_tcp_socket(call->sk);

	return socket && socket->inode == call->inode && socket->connected_ns >= call->start_ns;
}

/* A UDP socket that is connected has another peer from then on. */
static __always_inline void datagram_connected(struct call *call)
{
	struct socket_state *socket = datagram_sockets.lookup(&call->sk);

	if (!socket || socket->inode != call->inode)
		return;
	read_addresses(socket, (void *)call->sk);
	socket->peer_id = 0;
}

static __always_inline void accepted(struct ended *ended, struct call *call, u64 now_ns)
{
	struct socket_state *socket = ended->socket;
	u64 *established_ns = accept_queue.lookup(&socket->sk);

	ended->is_first = true;
	if (!established_ns)
		return; /* from before the trace */
	socket->born_ns = *established_ns;
	ended->kind = DURATION_ACCEPT;
	ended->ns = duration_ns(socket->born_ns, now_ns);
	accept_queue.delete(&socket->sk);
}

static __always_inline struct socket_state *accepted_socket(struct call *call, s64 ret)
{
	struct socket_description description = {};

	if (!describe_descriptor(&description, current_task(), ret) ||
	    description.transport != TRANSPORT_TCP || !description.sk)
		return 0;
	return make_socket((u64)description.sk, TRANSPORT_TCP, description.inode, ROLE_SERVER,
			   call->pid_tgid);
}

static __always_inline bool is_send(u32 operation)
{
	return operation == OPERATION_SEND || operation == OPERATION_SENDMSG;
}

static __always_inline bool is_receive(u32 operation)
{
	return operation == OPERATION_RECV || operation == OPERATION_RECVMSG;
}

/* Calls that only change the table of sockets. */
static __always_inline void change_datagram_socket(struct call *call, s64 ret)
{
	if (ret)
		return;
	if (call->operation == OPERATION_CONNECT)
		datagram_connected(call);
	else if (call->operation == OPERATION_CLOSE && call->is_last_close)
		datagram_sockets.delete(&call->sk);
}

/* The socket on which something was done; null if nothing was that is of interest here. */
static __always_inline struct socket_state *socket_of_return(struct call *call, s64 ret)
{
	u32 operation = call->operation;

	if (!call->sk)
		return 0;
	if (is_send(operation) || is_receive(operation)) {
		if (ret <= 0)
			return 0;
	} else if (call->transport != TRANSPORT_TCP) {
		change_datagram_socket(call, ret);
		return 0;
	} else if (operation == OPERATION_ACCEPT) {
		return ret < 0 ? 0 : accepted_socket(call, ret);
	} else if (operation != OPERATION_CONNECT || is_still_connecting(ret) ||
		   has_connected(call)) {
		return 0;
	}
	return use_socket(call->sk, call->transport, call->inode, call->pid_tgid);
}

/*
 * The bytes of a sendmmsg or recvmmsg are not known yet, and are not in those of the socket: with a
 * pointer to them in the loop over the messages, which comes last, the verifier has too many states
 * to follow (396,000 instructions on 6.18, and above its limit of a million on 5.10).
 */
static __always_inline void finish_on_socket(struct call *call, s64 ret, u64 now_ns)
{
	u32 operation = call->operation;
	u64 bytes = call->bytes == BYTES_RETURNED ? ret : 0;
	struct socket_state *socket = socket_of_return(call, ret);
	struct ended ended = {.socket = socket};

	if (!socket || socket->role == ROLE_LISTENER)
		return;
	if (call->transport == TRANSPORT_UDP)
		set_remote(socket, call->address);
	if (is_send(operation))
		sent(&ended, call, bytes, now_ns);
	else if (is_receive(operation))
		received(&ended, bytes, now_ns);
	else if (operation == OPERATION_ACCEPT)
		accepted(&ended, call, now_ns);
	else
		connect_returned(&ended, call, ret, now_ns);
	if (ended.is_first)
		add_connection(socket);
	if (ended.kind)
		add_duration(socket, ended.kind, ended.result, ended.ns);
}

#else

static __always_inline void finish_on_socket(struct call *call, s64 ret, u64 now_ns)
{
}

#endif
