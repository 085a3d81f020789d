/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * From a descriptor of the current process to its socket: task -> files -> descriptor table -> file
 * -> socket -> sock, by offsets from the running kernel's BTF. No state is kept per descriptor:
 * each call looks it up again, so duplicated, inherited and passed descriptors need no special
 * care.
 *
 * Probes    none of its own
 * Maps
 *   known_pointers  0 -> struct known
 * Overhead  docs/benchmarks.md, "Where the time of a traced call goes"
 * Caveats   Another thread may close or replace the descriptor while the call is entered. Then what
 *           is found here may be another file than the one the kernel uses.
 */
#pragma once

#include "current.h"
#include "service_port.h"

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
#ifdef LABEL_PORT
	u32 port; /* the service's */
#endif
#if defined(LABEL_PORT) || defined(CONNECTIONS)
	void *sk; /* to find the port at the return of a call that sets it, and the connection */
#endif
#ifdef CONNECTIONS
	u32 inode;
#endif
};

/* The type counts too: a raw socket may have the number of TCP or UDP as its protocol. */
static __always_inline u32 transport_of(u32 family, u32 type, u32 protocol)
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

/*
 * From the arguments of socket(2). The kernel takes them as ints: the upper halves of the registers
 * may hold anything.
 */
static __always_inline u32 transport_of_new_socket(u32 family, u32 type, u32 protocol)
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
	to->port = service_port(to->transport, sk);
#endif
}

#ifdef LABEL_PORT
#define SET_PORT(to, description) ((to)->port = (description)->port)
#else
#define SET_PORT(to, description)
#endif

/*
 * Addresses that save following the pointers to their end: which file operations are those of
 * sockets, and which socket operations are those of a transport. Both are constants of the kernel,
 * and are stored when they are first seen. 0 means not seen yet.
 */
struct known {
	u64 socket_file_operations;
	u64 operations[KNOWN_OPERATIONS]; /* the transport is in the low bits, which are free */
};

#define TRANSPORT_BITS 3ULL

BPF_ARRAY(known_pointers, struct known, 1);

/* By address: kernel objects of this kind are far apart, and a clash only costs time. */
static __always_inline u32 operations_slot(u64 operations)
{
	return (operations >> 6) & (KNOWN_OPERATIONS - 1);
}

/* Reads the sock itself, and remembers what holds for all sockets with these operations. */
static __always_inline void learn_transport(struct socket_description *to, struct known *known,
					    u64 operations, void *sk)
{
	describe_sock(to, sk);
	/* One word, so one store: no CPU sees these operations with another one's transport. */
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
	/*
	 * Also for files and fdt, which are not tasks: a field of a pointer with a type has a type
	 * again, unless it is a pointer to pointers.
	 */
	READ_TASK_FIELD(&fdt, files, FILES_STRUCT_FDT);
	if (!fdt)
		return 0;
	READ_TASK_FIELD(&max_fds, fdt, FDTABLE_MAX_FDS);
	READ_TASK_FIELD(&fd, fdt, FDTABLE_FD);
	if (descriptor < max_fds)
		READ_FIELD(&file, fd, (u64)descriptor * sizeof(file));
	return file;
}

/* Whether the file is a socket's: its inode says so, and the socket points back at the file. */
static __always_inline bool is_socket_file(void *file, void *socket)
{
	void *inode = 0, *file_of_socket = 0;
	u16 mode = 0;

	READ_FIELD(&inode, file, FILE_F_INODE);
	READ_FIELD(&mode, inode, INODE_I_MODE);
	/* So far, it may be an O_PATH descriptor of a Unix socket's name in a file system. */
	if ((mode & S_IFMT) != S_IFSOCK)
		return false;
	READ_FIELD(&file_of_socket, socket, SOCKET_FILE);
	return file_of_socket == file;
}

/* False if the descriptor is not a socket's, or is not open. */
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
#if defined(LABEL_PORT) || defined(CONNECTIONS)
	READ_FIELD(&to->sk, socket, SOCKET_SK);
	describe_port(to, to->sk);
#endif
#ifdef CONNECTIONS
	READ_FIELD(&to->inode, socket, SOCKET_INODE);
#endif
	return true;
}
