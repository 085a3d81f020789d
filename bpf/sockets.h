/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The table of TCP and UDP sockets: who uses each, who is at its other end, how much went over it.
 * Compiled in with CONNECTIONS.
 *
 * A socket is known by the address of its struct sock. The kernel gives that memory to the next
 * socket, so an entry also has the inode number of its socket, which ss(8) and /proc/PID/fd show.
 * It is 0 until a program has accepted the socket.
 *
 * Every send and receive has to find its socket, and an array look-up takes a tenth of the time of
 * a hash look-up. So a TCP socket has the slot of the array `sockets` that its address gives. If
 * another socket has that slot, the socket has an entry in the hash `more_sockets` instead.
 * `slots_taken` says which slots are in use: the socket whose slot could be inserted owns it until
 * it is destroyed. The kernel has no tracepoint at the end of a UDP socket, so these have a map
 * from which the socket not used for longest falls out.
 *
 * Probes    none of its own
 * Maps
 *   sockets        slot of a TCP socket -> struct socket_state; sk 0 if the slot is free
 *   slots_taken    slot -> 1
 *   more_sockets   struct sock of a TCP socket without a slot -> struct socket_state
 *   datagram_sockets  struct sock of a UDP socket -> struct socket_state
 *   empty_socket   0 -> zeros, to insert: too large for the BPF stack
 * Overhead  docs/connections.md, "Cost"
 * Caveats   A socket that finds no room is not in any number of this layer, which is counted
 *           (EVENT_SOCKET_MAP_FULL). The name of the process is from when it first used the socket:
 *           a later execve(2) does not change it.
 */
#pragma once

#include "current.h"
#include "describe_socket.h"
#include "listening.h"

struct socket_state {
	u64 sk;
	u64 peer_id;	   /* of its struct peer; 0: not looked up yet */
	u64 born_ns;	   /* established, or first used; 0: older than the trace */
	u64 connecting_ns; /* since when it connects; 0: it does not */
	u64 connected_ns;  /* when the last attempt to connect ended; 0: never */
	u64 last_send_ns;  /* when the last send that took bytes returned */
	u64 last_receive_ns;
	u64 sent_bytes;
	u64 received_bytes;
	u64 sends;
	u64 receives;
	u64 comm[2];   /* of the process: its first thread's name */
	u64 local[2];  /* IPv6; an IPv4 address is mapped (::ffff:a.b.c.d) */
	u64 remote[2]; /* the same */
	u32 inode;
	u32 tgid; /* of the process that used it last */
	u32 tid;
	u32 retransmits; /* segments */
	u32 resets_sent;
	u32 resets_received;
	u16 local_port;
	u16 remote_port;
	u8 role; /* ROLE_CLIENT and so on */
	u8 transport;
	u8 state; /* TCP_ESTABLISHED and so on */
	u8 turn;  /* TURN_SENT and so on: what was done last */
};

BPF_ARRAY(sockets, struct socket_state, SOCKET_SLOTS);
BPF_HASH(slots_taken, u32, u32, SOCKET_SLOTS);
BPF_F_TABLE("hash", u64, struct socket_state, more_sockets, MORE_SOCKETS, CONNECTION_MAP_FLAGS);
BPF_TABLE("lru_hash", u64, struct socket_state, datagram_sockets, DATAGRAM_SOCKETS);
BPF_ARRAY(empty_socket, struct socket_state, 1);

/* Objects of this kind are far apart in memory: their addresses differ above these bits. */
static __always_inline u32 socket_slot(u64 sk)
{
	return (sk >> 6 ^ sk >> 20) & (SOCKET_SLOTS - 1);
}

static __always_inline struct socket_state *find_tcp_socket(u64 sk)
{
	u32 slot = socket_slot(sk);
	struct socket_state *socket = sockets.lookup(&slot);

	if (socket && socket->sk == sk)
		return socket;
	return more_sockets.lookup(&sk);
}

static __always_inline struct socket_state *find_socket(u64 sk, u32 transport)
{
	if (transport == TRANSPORT_TCP)
		return find_tcp_socket(sk);
	return datagram_sockets.lookup(&sk);
}

static __always_inline void forget_tcp_socket(struct socket_state *socket, u64 sk)
{
	u32 slot = socket_slot(sk);

	if (!more_sockets.delete(&sk))
		return;
	socket->sk = 0; /* before another socket can take the slot */
	slots_taken.delete(&slot);
}

static __always_inline struct socket_state *make_tcp_socket(u64 sk, struct socket_state *empty)
{
	u32 slot = socket_slot(sk), one = 1;
	struct socket_state *socket = find_tcp_socket(sk);

	/* The memory was another socket's, and its end was missed. */
	if (socket)
		forget_tcp_socket(socket, sk);
	if (!slots_taken.insert(&slot, &one)) {
		socket = sockets.lookup(&slot);
		if (socket)
			*socket = *empty;
		return socket;
	}
	more_sockets.insert(&sk, empty);
	return more_sockets.lookup(&sk);
}

/* An IPv4 address as the second half of a mapped IPv6 address. */
#define MAPPED(address) ((u64)(address) << 32 | 0xffff0000ULL)

static __always_inline void read_addresses(struct socket_state *socket, void *sk)
{
	u16 family = 0;
	u32 local = 0, remote = 0;

	READ_FIELD(&family, sk, SOCK_COMMON_SKC_FAMILY);
	socket->local_port = local_port(sk);
	socket->remote_port = peer_port(sk);
#ifdef SOCK_COMMON_SKC_V6_DADDR
	if (family == AF_INET6) {
		READ_FIELD(&socket->local[0], sk, SOCK_COMMON_SKC_V6_RCV_SADDR);
		READ_FIELD(&socket->local[1], sk, SOCK_COMMON_SKC_V6_RCV_SADDR + 8);
		READ_FIELD(&socket->remote[0], sk, SOCK_COMMON_SKC_V6_DADDR);
		READ_FIELD(&socket->remote[1], sk, SOCK_COMMON_SKC_V6_DADDR + 8);
		return;
	}
#endif
	READ_FIELD(&local, sk, SOCK_COMMON_SKC_RCV_SADDR);
	READ_FIELD(&remote, sk, SOCK_COMMON_SKC_DADDR);
	socket->local[0] = socket->remote[0] = 0;
	socket->local[1] = MAPPED(local);
	socket->remote[1] = MAPPED(remote);
}

static __always_inline u32 inode_of(void *sk)
{
	void *socket = 0;
	u32 inode = 0;

	READ_FIELD(&socket, sk, SOCK_SK_SOCKET);
	if (socket)
		READ_FIELD(&inode, socket, SOCKET_INODE);
	return inode;
}

/* The current process is the owner from now on. Its numbers by peer are other ones. */
static __always_inline void set_owner(struct socket_state *socket, u64 pid_tgid)
{
	void *task = (void *)bpf_get_current_task(), *leader = 0;

	READ_FIELD(&leader, task, TASK_STRUCT_GROUP_LEADER);
	READ_FIELD(&socket->comm[0], leader, TASK_STRUCT_COMM);
	READ_FIELD(&socket->comm[1], leader, TASK_STRUCT_COMM + 8);
	socket->tgid = pid_tgid >> 32;
	socket->tid = pid_tgid;
	socket->peer_id = 0;
}

/*
 * An entry for this socket, owned by the current process; null if there is no room. `sk` is set
 * last: until then, no program finds it in its slot.
 */
static __always_inline struct socket_state *make_socket(u64 sk, u32 transport, u32 inode, u32 role,
							u64 pid_tgid)
{
	u32 zero = 0;
	struct socket_state *socket = 0, *empty = empty_socket.lookup(&zero);
	u8 state = 0;

	if (!empty)
		return 0;
	if (transport == TRANSPORT_TCP) {
		socket = make_tcp_socket(sk, empty);
	} else {
		datagram_sockets.update(&sk, empty);
		socket = datagram_sockets.lookup(&sk);
	}
	if (!socket) {
		count_event(EVENT_SOCKET_MAP_FULL);
		return 0;
	}
	READ_FIELD(&state, sk, SOCK_COMMON_SKC_STATE);
	socket->state = state;
	socket->transport = transport;
	socket->role = role;
	socket->inode = inode;
	if (transport == TRANSPORT_TCP)
		READ_FIELD(&socket->retransmits, sk, TCP_SOCK_TOTAL_RETRANS);
	read_addresses(socket, (void *)sk);
	set_owner(socket, pid_tgid);
	socket->sk = sk;
	return socket;
}

/* The role of a socket that was not seen to connect, listen or be accepted. */
static __always_inline u32 role_of_older_socket(u64 sk, u32 transport)
{
	u8 state = 0;

	if (transport != TRANSPORT_TCP)
		return ROLE_UNKNOWN;
	READ_FIELD(&state, sk, SOCK_COMMON_SKC_STATE);
	if (state == TCP_LISTEN)
		return ROLE_LISTENER;
	return is_listened_on(local_port((void *)sk)) ? ROLE_SERVER : ROLE_CLIENT;
}

/* The socket that a call of the current process was on. It is made known if it is not yet. */
static __always_inline struct socket_state *use_socket(u64 sk, u32 transport, u32 inode,
						       u64 pid_tgid)
{
	struct socket_state *socket = find_socket(sk, transport);

	if (!socket || socket->inode != inode)
		return make_socket(sk, transport, inode, role_of_older_socket(sk, transport),
				   pid_tgid);
	if (socket->tgid != pid_tgid >> 32)
		set_owner(socket, pid_tgid);
	socket->tid = pid_tgid;
	return socket;
}
