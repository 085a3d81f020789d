/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What a traced function's first arguments say about its socket: path, transport, port. There is
 * one function here for each kind of argument (ARGUMENT_SOCKET and so on).
 *
 * Probes    none of its own
 * Maps      known_pointers of describe_socket.h
 * Overhead  part of that of a traced function, docs/benchmarks.md
 * Caveats   A socket with a file counts as one of user space, but some drivers give their own
 *           sockets a file (NVMe/TCP in 6.12).
 */
#pragma once

#include "describe_socket.h"
#include "frames.h"

/* By fentry the arguments have their types, and reading a field is a plain load. */
#ifdef BY_FENTRY
#define READ_ARGUMENT_FIELD(to, argument, offset) \
	(*(to) = *(volatile typeof(*(to)) *)((char *)(argument) + (offset)))
#else
#define READ_ARGUMENT_FIELD READ_FIELD
#endif

/* A socket of user space has a file. A socket that kernel code made for itself has none. */
static __always_inline u8 path_of_file(void *file)
{
	return file ? PATH_USER : PATH_KERNEL;
}

static __always_inline void frame_of_socket(struct frame *frame, void *socket)
{
	struct socket_description to = {.transport = TRANSPORT_OTHER};
	void *sk = 0, *file = 0;

	READ_ARGUMENT_FIELD(&file, socket, SOCKET_FILE);
	frame->path = path_of_file(file);
	READ_ARGUMENT_FIELD(&sk, socket, SOCKET_SK);
	if (sk)
		describe_sock(&to, sk);
	describe_port(&to, sk);
	frame->transport = to.transport;
	SET_PORT(frame, &to);
}

/* Functions of a protocol: its sockets are all of one transport. */
static __always_inline void frame_of_sock(struct frame *frame, void *sk, u32 transport)
{
	struct socket_description to = {.transport = transport};
	void *socket = 0, *file = 0;

	READ_ARGUMENT_FIELD(&socket, sk, SOCK_SK_SOCKET);
	if (socket)
		READ_ARGUMENT_FIELD(&file, socket, SOCKET_FILE);
	frame->path = path_of_file(file);
	describe_port(&to, sk);
	frame->transport = to.transport;
	SET_PORT(frame, &to);
}

static __always_inline void frame_of_inode_file(struct frame *frame, void *file)
{
	struct socket_description to = {.transport = TRANSPORT_OTHER};
	void *socket = 0, *sk = 0;

	READ_FIELD(&socket, file, FILE_PRIVATE_DATA);
	READ_FIELD(&sk, socket, SOCKET_SK);
	describe_sock(&to, sk);
	describe_port(&to, sk);
	frame->transport = to.transport;
	SET_PORT(frame, &to);
	frame->path = PATH_USER;
}

static __always_inline void frame_of_new(struct frame *frame, u64 family, u64 type, u64 protocol)
{
	frame->transport = transport_of_new_socket(family, type, protocol);
	frame->path = PATH_KERNEL;
}

/*
 * socket(2) and socketpair(2) call sock_create() too, and sock_release() if they fail later on.
 * Those are not calls of the kernel's own. Even if these system calls are not traced themselves,
 * they are marked as in flight (SUBJECT_UNCOUNTED).
 */
static __always_inline bool is_in_socket_call(u64 pid_tgid)
{
	struct call *call = find_thread(pid_tgid);

	return call && call->start_ns && call->operation == OPERATION_NEW;
}
