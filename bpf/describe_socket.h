/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * From a descriptor of the current process to its socket, with no state kept: task -> files ->
 * descriptor table -> file -> socket -> sock, by offsets from the running kernel's BTF. Duplicated,
 * inherited and passed descriptors need no care: each call is looked up afresh.
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
#define S_IFMT 0170000
#define S_IFSOCK 0140000

enum transport { TRANSPORT_TCP, TRANSPORT_UDP, TRANSPORT_UNIX, TRANSPORT_OTHER };

struct socket_description {
	u32 transport;
	u32 port; /* the lower of both ends': the service's, not the client's passing one */
};

/* *to = the field of that offset in the struct at `base`; zero if it cannot be read */
#define READ_FIELD(to, base, offset)                                                               \
	bpf_probe_read_kernel(to, sizeof(*(to)), (void *)((u64)(base) + (offset)))

static __always_inline u32 transport_of(u16 family, u16 protocol)
{
	if (family == AF_INET || family == AF_INET6)
		return protocol == IPPROTO_TCP	 ? TRANSPORT_TCP
		       : protocol == IPPROTO_UDP ? TRANSPORT_UDP
						 : TRANSPORT_OTHER;
	return family == AF_UNIX ? TRANSPORT_UNIX : TRANSPORT_OTHER;
}

static __always_inline u32 transport_of_new_socket(u64 family, u64 type, u64 protocol)
{
	if (!protocol) {
		type &= SOCK_TYPE_MASK;
		protocol = type == SOCK_STREAM ? IPPROTO_TCP : type == SOCK_DGRAM ? IPPROTO_UDP : 0;
	}
	return transport_of(family, protocol);
}

static __always_inline void describe_sock(struct socket_description *to, void *sk)
{
	u16 family = 0, protocol = 0;

	READ_FIELD(&family, sk, SOCK_COMMON_SKC_FAMILY);
	READ_FIELD(&protocol, sk, SOCK_SK_PROTOCOL);
	to->transport = transport_of(family, protocol);
#ifdef LABEL_PORT
	if (family == AF_INET || family == AF_INET6) {
		u16 local = 0, peer = 0;

		READ_FIELD(&local, sk, SOCK_COMMON_SKC_NUM);
		READ_FIELD(&peer, sk, SOCK_COMMON_SKC_DPORT);
		peer = __builtin_bswap16(peer);
		to->port = peer && peer < local ? peer : local;
	}
#endif
}

/* false if the descriptor is not that of a socket, or of nothing at all */
static __always_inline bool describe_descriptor(struct socket_description *to, u32 descriptor)
{
	void *files = 0, *fdt = 0, *file = 0, **table = 0, *inode = 0, *socket = 0, *sk = 0;
	u32 max_fds = 0;
	u16 mode = 0;

	READ_FIELD(&files, bpf_get_current_task(), TASK_STRUCT_FILES);
	READ_FIELD(&fdt, files, FILES_STRUCT_FDT);
	READ_FIELD(&max_fds, fdt, FDTABLE_MAX_FDS);
	if (descriptor >= max_fds)
		return false;
	READ_FIELD(&table, fdt, FDTABLE_FD);
	READ_FIELD(&file, table, (u64)descriptor * sizeof(file));
	if (!file)
		return false;
	READ_FIELD(&inode, file, FILE_F_INODE);
	READ_FIELD(&mode, inode, INODE_I_MODE);
	if ((mode & S_IFMT) != S_IFSOCK)
		return false;
	READ_FIELD(&socket, file, FILE_PRIVATE_DATA);
	READ_FIELD(&sk, socket, SOCKET_SK);
	describe_sock(to, sk);
	return true;
}
