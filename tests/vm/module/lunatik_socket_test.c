// SPDX-License-Identifier: GPL-2.0-only
/*
 * lunatik_socket_test - calls every in-kernel socket operation a known number of times
 *
 * Loading it makes the calls over TCP, UDP and unix sockets, and keeps a tally of what it called
 * and what came back. /proc/lunatik_socket_test shows the tally, a line for each function,
 * transport and errno: "function transport errno calls bytes"; errno is 0 for a success. The test,
 * tests/kernel/bpf/test_kernel_module.py, has its own table of what these lines must be.
 *
 * As with Lunatik, some callers are a process and some a kernel thread, and a socket may be closed
 * by another thread than the one that made it.
 */
#include <linux/in.h>
#include <linux/mm.h>
#include <linux/mman.h>
#include <linux/module.h>
#include <linux/net.h>
#include <linux/proc_fs.h>
#include <linux/seq_file.h>
#include <linux/tcp.h>
#include <linux/uaccess.h>
#include <linux/udp.h>
#include <linux/uio.h>
#include <linux/un.h>
#include <linux/version.h>
#include <linux/workqueue.h>
#include <net/net_namespace.h>
#include <net/sock.h>

#define NAME "lunatik_socket_test"

#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 19, 0)
typedef struct sockaddr_unsized generic_address;
#else
typedef struct sockaddr generic_address;
#endif

/* do_sock_setsockopt() and do_sock_getsockopt(): 6.12 exports them, 6.1 does not. */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 12, 0)
#define HAVE_DO_SOCK_SOCKOPT
#endif

#define CLIENTS 29
#define ACCEPTED 23 /* of the clients; the others stay in the backlog */
#define EXTRAS 19
#define BACKLOG 32
#define MESSAGE_BYTES 101
#define SHORT_MESSAGE_BYTES 7
#define CLOSED_PORT 1
#define NO_SUCH_OPTION 9999
#define TIMEOUT (30 * HZ)

enum { TCP, UDP, UNIX, OTHER, TRANSPORTS };
static const char *const transport_names[] = {"tcp", "udp", "unix", "other"};

struct sockets {
	struct socket *client[CLIENTS];
	struct socket *accepted[ACCEPTED];
	union {
		struct socket *extra[EXTRAS];
		struct {
			struct socket *server;
			struct socket *silent; /* bound, but does not listen */
			struct socket *unused;
			struct socket *refused; /* connected to a port that nothing is bound to */
		};
	};
};

static struct sockets of_transport[TRANSPORTS];

struct address {
	struct sockaddr_storage storage;
	int length;
};

#define ADDRESS(address) (generic_address *)&(address)->storage, (address)->length

struct line {
	const char *function;
	int transport, error;
	u64 calls, bytes;
};

static struct line tally[128];
static int lines;

/* moves_bytes: a result above 0 is a number of bytes, and not the length of an address. */
static int count(const char *function, int transport, int result, bool moves_bytes)
{
	int error = result < 0 ? -result : 0, i;

	for (i = 0; i < lines; i++)
		if (!strcmp(tally[i].function, function) && tally[i].transport == transport &&
		    tally[i].error == error)
			break;
	if (WARN_ON(i == ARRAY_SIZE(tally)))
		return result;
	if (i == lines)
		tally[lines++] = (struct line){function, transport, error};
	tally[i].calls++;
	if (moves_bytes && result > 0)
		tally[i].bytes += result;
	return result;
}

#define CALL(function, transport, ...) count(#function, transport, function(__VA_ARGS__), false)
#define REPEAT(times, call)                                  \
	do {                                                 \
		int repeat;                                  \
                                                             \
		for (repeat = 0; repeat < (times); repeat++) \
			call;                                \
	} while (0)

static int show_tally(struct seq_file *file, void *unused)
{
	int i;

	for (i = 0; i < lines; i++)
		seq_printf(file, "%s %s %d %llu %llu\n", tally[i].function,
			   transport_names[tally[i].transport], tally[i].error, tally[i].calls,
			   tally[i].bytes);
	return 0;
}

static struct address inet_address(u16 port)
{
	struct address address = {.length = sizeof(struct sockaddr_in)};
	struct sockaddr_in *inet = (struct sockaddr_in *)&address.storage;

	inet->sin_family = AF_INET;
	inet->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	inet->sin_port = htons(port);
	return address;
}

/* A port of the kernel's choice, or an abstract name of a number. */
static struct address free_address(int transport)
{
	static int number;
	struct address address = {};
	struct sockaddr_un *name = (struct sockaddr_un *)&address.storage;

	if (transport != UNIX)
		return inet_address(0);
	name->sun_family = AF_UNIX;
	address.length =
	    offsetof(struct sockaddr_un, sun_path) + 1 +
	    snprintf(name->sun_path + 1, sizeof(name->sun_path) - 1, NAME "-%d", number++);
	return address;
}

static struct address address_of(struct socket *socket, int transport)
{
	struct address address = {};

	address.length =
	    CALL(kernel_getsockname, transport, socket, (struct sockaddr *)&address.storage);
	return address;
}

static int get_peer(struct socket *socket, int transport)
{
	struct address address;

	return CALL(kernel_getpeername, transport, socket, (struct sockaddr *)&address.storage);
}

static int bind_to(struct socket *socket, int transport, struct address address)
{
	return CALL(kernel_bind, transport, socket, ADDRESS(&address));
}

static int connect_to(struct socket *socket, int transport, struct address address)
{
	return CALL(kernel_connect, transport, socket, ADDRESS(&address), 0);
}

static u8 buffer[MESSAGE_BYTES];

static int send(struct socket *socket, int transport, size_t bytes)
{
	struct msghdr message = {.msg_flags = MSG_NOSIGNAL};
	struct kvec part = {buffer, bytes};

	return count("kernel_sendmsg", transport, kernel_sendmsg(socket, &message, &part, 1, bytes),
		     true);
}

static int receive(struct socket *socket, int transport, int flags)
{
	struct msghdr message = {};
	struct kvec part = {buffer, sizeof(buffer)};

	return count("kernel_recvmsg", transport,
		     kernel_recvmsg(socket, &message, &part, 1, sizeof(buffer), flags), true);
}

/* As sunrpc and NVMe/TCP do it. */
static void move_without_kernel_functions(struct socket *from, struct socket *to, int transport)
{
	struct kvec part = {buffer, SHORT_MESSAGE_BYTES};
	struct msghdr message = {.msg_flags = MSG_NOSIGNAL};

	iov_iter_kvec(&message.msg_iter, WRITE, &part, 1, SHORT_MESSAGE_BYTES);
	count("sock_sendmsg", transport, sock_sendmsg(from, &message), true);
	message = (struct msghdr){};
	iov_iter_kvec(&message.msg_iter, READ, &part, 1, SHORT_MESSAGE_BYTES);
	count("sock_recvmsg", transport, sock_recvmsg(to, &message, 0), true);
}

static bool all_there(struct socket **sockets, int number)
{
	while (number--)
		if (!sockets[number])
			return false;
	return true;
}

static int create(struct sockets *of, int transport)
{
	int family = transport == UNIX ? AF_UNIX : AF_INET, i;
	int type = transport == UDP ? SOCK_DGRAM : SOCK_STREAM;
	/* There is no protocol -1; the family alone says whose socket it would have been. */
	int failing = transport == UNIX ? UNIX : OTHER;
	struct socket *none;

	for (i = 0; i < CLIENTS; i++)
		CALL(sock_create_kern, transport, &init_net, family, type, 0, &of->client[i]);
	for (i = 0; i < EXTRAS; i++)
		CALL(sock_create, transport, family, type, 0, &of->extra[i]);
	REPEAT(5, CALL(sock_create_kern, failing, &init_net, family, type, -1, &none));
	REPEAT(3, CALL(sock_create, failing, family, type, -1, &none));
	if (!all_there(of->client, CLIENTS) || !all_there(of->extra, EXTRAS))
		return -EIO;
	for (i = 0; i < EXTRAS; i++)
		of->extra[i]->sk->sk_rcvtimeo = TIMEOUT;
	return 0;
}

static void bind_all(struct sockets *of, int transport, struct address *server,
		     struct address *silent)
{
	int i;

	for (i = 0; i < CLIENTS; i++)
		bind_to(of->client[i], transport, free_address(transport));
	bind_to(of->server, transport, free_address(transport));
	bind_to(of->silent, transport, free_address(transport));
	*silent = address_of(of->silent, transport);
	REPEAT(42, *server = address_of(of->server, transport));
	REPEAT(11, bind_to(of->unused, transport, *server)); /* EADDRINUSE */
}

static int call_streams(int transport)
{
	struct sockets *of = &of_transport[transport];
	struct address server, silent;
	struct socket *none;
	int i;

	if (create(of, transport))
		return -EIO;
	bind_all(of, transport, &server, &silent);
	REPEAT(17, CALL(kernel_listen, transport, of->server, BACKLOG));
	REPEAT(7, CALL(kernel_accept, transport, of->server, &none, O_NONBLOCK)); /* EAGAIN */
	for (i = 0; i < CLIENTS; i++)
		connect_to(of->client[i], transport, server);
	REPEAT(13, connect_to(of->unused, transport, silent));		   /* ECONNREFUSED */
	REPEAT(5, CALL(kernel_listen, transport, of->client[0], BACKLOG)); /* EINVAL */
	REPEAT(53, get_peer(of->client[0], transport));
	REPEAT(59, get_peer(of->unused, transport)); /* ENOTCONN */
	for (i = 0; i < ACCEPTED; i++)
		CALL(kernel_accept, transport, of->server, &of->accepted[i], 0);
	if (!all_there(of->accepted, ACCEPTED))
		return -EIO;
	for (i = 0; i < ACCEPTED; i++) {
		of->accepted[i]->sk->sk_rcvtimeo = TIMEOUT;
		send(of->client[i], transport, MESSAGE_BYTES);
		receive(of->accepted[i], transport, MSG_WAITALL);
	}
	REPEAT(3, send(of->unused, transport, MESSAGE_BYTES)); /* EPIPE or ENOTCONN */
	REPEAT(5, move_without_kernel_functions(of->client[0], of->accepted[0], transport));
	REPEAT(41, receive(of->accepted[0], transport, MSG_DONTWAIT)); /* EAGAIN */
	kernel_sock_shutdown(of->client[0], SHUT_WR);
	REPEAT(47, receive(of->accepted[0], transport, 0)); /* 0: the end of the stream */
	return 0;
}

static int call_datagrams(int transport)
{
	struct sockets *of = &of_transport[transport];
	struct address server, silent, name = free_address(UNIX);
	struct socket *none;
	int i;

	if (create(of, transport))
		return -EIO;
	bind_all(of, transport, &server, &silent);
	REPEAT(5, CALL(kernel_listen, transport, of->server, BACKLOG));	 /* EOPNOTSUPP */
	REPEAT(7, CALL(kernel_accept, transport, of->server, &none, 0)); /* EOPNOTSUPP */
	for (i = 0; i < CLIENTS; i++)
		connect_to(of->client[i], transport, server);
	REPEAT(13, connect_to(of->unused, transport, name)); /* EAFNOSUPPORT */
	REPEAT(53, get_peer(of->client[0], transport));
	REPEAT(59, get_peer(of->unused, transport)); /* ENOTCONN */
	for (i = 0; i < ACCEPTED; i++) {
		send(of->client[i], transport, MESSAGE_BYTES);
		receive(of->server, transport, 0);
	}
	for (i = 0; i < 31; i++) {
		send(of->client[0], transport, 0);
		receive(of->server, transport, 0); /* 0: an empty datagram */
	}
	REPEAT(5, move_without_kernel_functions(of->client[0], of->server, transport));
	REPEAT(41, receive(of->server, transport, MSG_DONTWAIT)); /* EAGAIN */
	REPEAT(2, connect_to(of->refused, transport, inet_address(CLOSED_PORT)));
	for (i = 0; i < 13; i++) {
		send(of->refused, transport, 1);
		receive(of->refused, transport, 0); /* ECONNREFUSED */
	}
	return 0;
}

/* Options are got into a process's memory: that is what the socket's operations take. */
struct user_memory {
	int value, length;
};

static int zero;

static void set_protocol_option(struct socket *socket, int transport, int level, int option)
{
	count("sock_common_setsockopt", transport,
	      socket->ops->setsockopt(socket, level, option, KERNEL_SOCKPTR(&zero), sizeof(zero)),
	      false);
}

static void get_protocol_option(struct socket *socket, int transport, int level, int option,
				struct user_memory __user *user)
{
	if (put_user(sizeof(user->value), &user->length))
		return;
	count("sock_common_getsockopt", transport,
	      sock_common_getsockopt(socket, level, option, (char __user *)&user->value,
				     &user->length),
	      false);
}

static void call_protocol_options(int transport, int level, int option,
				  struct user_memory __user *user)
{
	struct socket *socket = of_transport[transport].unused;

	REPEAT(71, set_protocol_option(socket, transport, level, option));
	REPEAT(73, set_protocol_option(socket, transport, level, NO_SUCH_OPTION));
	REPEAT(79, get_protocol_option(socket, transport, level, option, user));
	REPEAT(83, get_protocol_option(socket, transport, level, NO_SUCH_OPTION, user));
}

static void set_socket_option(struct socket *socket, int transport, int option)
{
	CALL(sock_setsockopt, transport, socket, SOL_SOCKET, option, KERNEL_SOCKPTR(&zero),
	     sizeof(zero));
}

static void call_socket_options(int transport)
{
	struct socket *socket = of_transport[transport].unused;

	REPEAT(61, set_socket_option(socket, transport, SO_KEEPALIVE));
	REPEAT(67, set_socket_option(socket, transport, NO_SUCH_OPTION));
}

#ifdef HAVE_DO_SOCK_SOCKOPT
static void set_any_option(struct socket *socket, int transport, int level, int option)
{
	CALL(do_sock_setsockopt, transport, socket, false, level, option, KERNEL_SOCKPTR(&zero),
	     sizeof(zero));
}

static void get_any_option(struct socket *socket, int transport, int level, int option,
			   struct user_memory __user *user)
{
	if (put_user(sizeof(user->value), &user->length))
		return;
	CALL(do_sock_getsockopt, transport, socket, false, level, option,
	     USER_SOCKPTR(&user->value), USER_SOCKPTR(&user->length));
}

static void call_any_options(int transport, int level, int option, struct user_memory __user *user)
{
	struct socket *socket = of_transport[transport].unused;

	REPEAT(29, set_any_option(socket, transport, SOL_SOCKET, SO_KEEPALIVE));
	REPEAT(37, set_any_option(socket, transport, SOL_SOCKET, NO_SUCH_OPTION));
	REPEAT(89, get_any_option(socket, transport, SOL_SOCKET, SO_KEEPALIVE, user));
	REPEAT(97, get_any_option(socket, transport, SOL_SOCKET, NO_SUCH_OPTION, user));
	if (level == SOL_SOCKET)
		return;
	REPEAT(31, set_any_option(socket, transport, level, option));
	REPEAT(19, get_any_option(socket, transport, level, option, user));
}
#else
static void call_any_options(int transport, int level, int option, struct user_memory __user *user)
{
}
#endif

/* A unix socket has no options but those of every socket. */
static int call_all_options(void)
{
	unsigned long page =
	    vm_mmap(NULL, 0, PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_ANONYMOUS | MAP_PRIVATE, 0);
	struct user_memory __user *user = (void __user *)page;
	int transport;

	if (IS_ERR_VALUE(page))
		return page;
	for (transport = TCP; transport <= UNIX; transport++)
		call_socket_options(transport);
	call_protocol_options(TCP, IPPROTO_TCP, TCP_NODELAY, user);
	call_protocol_options(UDP, IPPROTO_UDP, UDP_CORK, user);
	call_any_options(TCP, IPPROTO_TCP, TCP_NODELAY, user);
	call_any_options(UDP, IPPROTO_UDP, UDP_CORK, user);
	call_any_options(UNIX, SOL_SOCKET, 0, user);
	return vm_munmap(page, PAGE_SIZE);
}

static void close(struct socket **socket, int transport)
{
	if (!*socket)
		return;
	sock_release(*socket);
	*socket = NULL;
	count("sock_release", transport, 0, false);
}

static void close_all(int transport)
{
	struct sockets *of = &of_transport[transport];
	int i;

	for (i = 0; i < CLIENTS; i++)
		close(&of->client[i], transport);
	for (i = 0; i < ACCEPTED; i++)
		close(&of->accepted[i], transport);
	for (i = 0; i < EXTRAS; i++)
		close(&of->extra[i], transport);
}

static int work_result;

static void call_datagrams_in_a_thread(struct work_struct *work)
{
	work_result = call_datagrams(UDP);
}

static DECLARE_WORK(datagrams, call_datagrams_in_a_thread);

static int call_everything(void)
{
	schedule_work(&datagrams);
	flush_work(&datagrams);
	return work_result ?: call_streams(TCP) ?: call_streams(UNIX) ?: call_all_options();
}

static int __init start(void)
{
	int error = call_everything(), transport;

	for (transport = TCP; transport <= UNIX; transport++)
		close_all(transport);
	if (!error && !proc_create_single(NAME, 0400, NULL, show_tally))
		error = -ENOMEM;
	return error;
}

static void __exit stop(void)
{
	remove_proc_entry(NAME, NULL);
}

module_init(start);
module_exit(stop);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Calls every in-kernel socket operation a known number of times");
