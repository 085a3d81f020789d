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

enum transport { TRANSPORT_TCP, TRANSPORT_UDP, TRANSPORT_UNIX, TRANSPORT_OTHER };

struct socket_description {
	u32 transport;
	u32 port; /* the lower of both ends': the service's, not the client's passing one */
};

/* *to = the field of that offset in the struct at `base`; zero if it cannot be read */
#define READ_FIELD(to, base, offset) \
	bpf_probe_read_kernel(to, sizeof(*(to)), (void *)((u64)(base) + (offset)))

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

/* The fields of struct socket from `file` to `ops`, which lie side by side; see the assertion. */
struct socket_window {
	u64 file;
	u64 sk;
	u64 ops;
};

_Static_assert(SOCKET_SK == SOCKET_FILE + 8 && SOCKET_OPS == SOCKET_FILE + 16, "struct socket");

struct fdtable_window {
	u32 max_fds;
	u32 pad;
	u64 fd;
};

_Static_assert(FDTABLE_FD == FDTABLE_MAX_FDS + 8, "struct fdtable");

/* Slots are found by address: kernel objects of this kind are far apart, and a clash only costs. */
static __always_inline u32 operations_slot(u64 operations)
{
	return (operations >> 6) & (KNOWN_OPERATIONS - 1);
}

/* By asking the sock itself; remembers what is true of all sockets with these operations. */
static __always_inline void learn_transport(struct socket_description *to, struct known *known,
					    struct socket_window *socket)
{
	u32 slot = operations_slot(socket->ops);

	describe_sock(to, (void *)socket->sk);
	if (to->transport == TRANSPORT_OTHER || !known)
		return;
	/* One word, one store: no CPU ever sees these operations with another's transport. */
	known->operations[slot] = socket->ops | to->transport;
}

static __always_inline void *file_of_descriptor(u32 descriptor)
{
	struct fdtable_window table = {};
	void *files = 0, *fdt = 0, *file = 0;

#ifdef HAVE_TASK_BTF
	/* Typed pointers: the kernel turns these reads into plain loads. */
	files = *(void **)((char *)bpf_get_current_task_btf() + TASK_STRUCT_FILES);
	if (!files)
		return 0;
	fdt = *(void **)(files + FILES_STRUCT_FDT);
	if (!fdt)
		return 0;
	table.max_fds = *(u32 *)(fdt + FDTABLE_MAX_FDS);
	table.fd = *(u64 *)(fdt + FDTABLE_FD);
#else
	READ_FIELD(&files, bpf_get_current_task(), TASK_STRUCT_FILES);
	READ_FIELD(&fdt, files, FILES_STRUCT_FDT);
	READ_FIELD(&table, fdt, FDTABLE_MAX_FDS);
#endif
	if (descriptor < table.max_fds)
		READ_FIELD(&file, table.fd, (u64)descriptor * sizeof(file));
	return file;
}

/* Whether the file is a socket's, by its inode and by the socket that points back at it. */
static __always_inline bool is_socket_file(void *file, struct socket_window *socket)
{
	void *inode = 0;
	u16 mode = 0;

	READ_FIELD(&inode, file, FILE_F_INODE);
	READ_FIELD(&mode, inode, INODE_I_MODE);
	/* An O_PATH descriptor of a Unix socket's name in a file system has this mode too. */
	return (mode & S_IFMT) == S_IFSOCK && socket->file == (u64)file;
}

/* false if the descriptor is not that of a socket, or of nothing at all */
static __always_inline bool describe_descriptor(struct socket_description *to, u32 descriptor)
{
	void *file = file_of_descriptor(descriptor), *private = 0;
	struct socket_window socket = {};
	struct known *known;
	u64 operations = 0;
	u32 zero = 0, slot;

	if (!file)
		return false;
	known = known_pointers.lookup(&zero);
	if (!known)
		return false;
	READ_FIELD(&operations, file, FILE_F_OP);
	if (known->socket_file_operations && operations != known->socket_file_operations)
		return false;
	READ_FIELD(&private, file, FILE_PRIVATE_DATA);
	READ_FIELD(&socket, private, SOCKET_FILE);
	if (!known->socket_file_operations) {
		if (!is_socket_file(file, &socket))
			return false;
		known->socket_file_operations = operations;
	}
	slot = operations_slot(socket.ops);
	operations = known->operations[slot];
	if (operations && (operations & ~TRANSPORT_BITS) == socket.ops)
		to->transport = operations & TRANSPORT_BITS;
	else
		learn_transport(to, known, &socket);
	describe_port(to, (void *)socket.sk);
	return true;
}
