/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * From a descriptor of the current process to its socket, with no state kept: task -> files ->
 * descriptor table -> file -> socket -> sock, by offsets from the running kernel's BTF. Duplicated,
 * inherited and passed descriptors need no care: each call is looked up afresh.
 *
 * Maps
 *   known_pointers  0 -> struct known
 */
#pragma once

#include "current.h"

#define AF_UNIX 1
#define AF_INET 2
#define AF_INET6 10
#define SOCK_STREAM 1
#define SOCK_DGRAM 2
#define SOCK_TYPE_MASK 0xf /* above it: SOCK_NONBLOCK, SOCK_CLOEXEC */
#define IPPROTO_TCP 6
#define IPPROTO_UDP 17
#define IPPROTO_UDPLITE 136
#define S_IFMT 0170000
#define S_IFSOCK 0140000
#define KNOWN_OPERATIONS 16 /* a power of two */

struct socket_description {
	u32 transport;
	u32 port; /* the lower of both ends': the service's, not the client's passing one */
};

/* By type as well: a raw socket may have the protocol's number, and is neither. */
static __always_inline u32 transport_of(u16 family, u16 type, u16 protocol)
{
	if (family == AF_UNIX)
		return TRANSPORT_UNIX;
	if (family != AF_INET && family != AF_INET6)
		return TRANSPORT_OTHER;
	if (type == SOCK_STREAM && protocol == IPPROTO_TCP)
		return TRANSPORT_TCP;
	if (type == SOCK_DGRAM && (protocol == IPPROTO_UDP || protocol == IPPROTO_UDPLITE))
		return TRANSPORT_UDP;
	return TRANSPORT_OTHER;
}

static __always_inline u32 transport_of_new_socket(u64 family, u64 type, u64 protocol)
{
	type &= SOCK_TYPE_MASK;
	if (!protocol)
		protocol = type == SOCK_STREAM ? IPPROTO_TCP : type == SOCK_DGRAM ? IPPROTO_UDP : 0;
	return transport_of(family, type, protocol);
}

static __always_inline void describe_sock(struct socket_description *to, void *sk)
{
	u16 family = 0, type = 0, protocol = 0;

	READ_FIELD(&family, sk, SOCK_COMMON_SKC_FAMILY);
	READ_FIELD(&type, sk, SOCK_SK_TYPE);
	READ_FIELD(&protocol, sk, SOCK_SK_PROTOCOL);
	to->transport = transport_of(family, type, protocol);
}

static __always_inline void describe_port(struct socket_description *to, void *sk)
{
#ifdef LABEL_PORT
	u16 local = 0, peer = 0;

	if (to->transport != TRANSPORT_TCP && to->transport != TRANSPORT_UDP)
		return;
	READ_FIELD(&local, sk, SOCK_COMMON_SKC_NUM);
	READ_FIELD(&peer, sk, SOCK_COMMON_SKC_DPORT);
	peer = __builtin_bswap16(peer);
	to->port = peer && peer < local ? peer : local;
#endif
}

/*
 * Pointers that were followed to the end once need not be again: which file operations are those of
 * sockets, and which socket operations are those of a transport. Both are constants of the kernel,
 * learnt when first met. 0 is what nothing is known of.
 */
struct known {
	u64 socket_file_operations;
	u64 operations[KNOWN_OPERATIONS]; /* with the transport in the low bits, which are free */
};

#define TRANSPORT_BITS 3ULL

BPF_ARRAY(known_pointers, struct known, 1);

/* Slots are found by address: kernel objects of this kind are far apart, and a clash only costs. */
static __always_inline u32 operations_slot(u64 operations)
{
	return (operations >> 6) & (KNOWN_OPERATIONS - 1);
}

/* By asking the sock itself; remembers what is true of all sockets with these operations. */
static __always_inline void learn_transport(struct socket_description *to, struct known *known,
					    u64 operations, void *sk)
{
	describe_sock(to, sk);
	/* One word, one store: no CPU ever sees these operations with another's transport. */
	if (to->transport != TRANSPORT_OTHER)
		known->operations[operations_slot(operations)] = operations | to->transport;
}

static __always_inline void *file_of_descriptor(void *task, u32 descriptor)
{
	void *files = 0, *fdt = 0, *fd = 0, *file = 0;
	u32 max_fds = 0;

	READ_TASK_FIELD(&files, task, TASK_STRUCT_FILES);
	if (!files)
		return 0;
	/* A typed pointer's field is a typed pointer, or a plain one behind two stars. */
	READ_TASK_FIELD(&fdt, files, FILES_STRUCT_FDT);
	if (!fdt)
		return 0;
	READ_TASK_FIELD(&max_fds, fdt, FDTABLE_MAX_FDS);
	READ_TASK_FIELD(&fd, fdt, FDTABLE_FD);
	if (descriptor < max_fds)
		READ_FIELD(&file, fd, (u64)descriptor * sizeof(file));
	return file;
}

/* Whether the file is a socket's, by its inode and by the socket that points back at it. */
static __always_inline bool is_socket_file(void *file, void *socket)
{
	void *inode = 0, *file_of_socket = 0;
	u16 mode = 0;

	READ_FIELD(&inode, file, FILE_F_INODE);
	READ_FIELD(&mode, inode, INODE_I_MODE);
	/* An O_PATH descriptor of a Unix socket's name in a file system has this mode too. */
	if ((mode & S_IFMT) != S_IFSOCK)
		return false;
	READ_FIELD(&file_of_socket, socket, SOCKET_FILE);
	return file_of_socket == file;
}

/* false if the descriptor is not that of a socket, or of nothing at all */
static __always_inline bool describe_descriptor(struct socket_description *to, void *task,
						u32 descriptor)
{
	void *file = file_of_descriptor(task, descriptor), *socket = 0, *sk = 0;
	struct known *known;
	u64 operations = 0, remembered;
	u32 zero = 0;

	if (!file)
		return false;
	known = known_pointers.lookup(&zero);
	if (!known)
		return false;
	READ_FIELD(&operations, file, FILE_F_OP);
	if (known->socket_file_operations && operations != known->socket_file_operations)
		return false;
	READ_FIELD(&socket, file, FILE_PRIVATE_DATA);
	if (!known->socket_file_operations) {
		if (!is_socket_file(file, socket))
			return false;
		known->socket_file_operations = operations;
	}
	READ_FIELD(&operations, socket, SOCKET_OPS);
	remembered = known->operations[operations_slot(operations)];
	if (remembered && (remembered & ~TRANSPORT_BITS) == operations) {
		to->transport = remembered & TRANSPORT_BITS;
	} else {
		READ_FIELD(&sk, socket, SOCKET_SK);
		learn_transport(to, known, operations, sk);
	}
#ifdef LABEL_PORT
	READ_FIELD(&sk, socket, SOCKET_SK);
	describe_port(to, sk);
#endif
	return true;
}
