/* SPDX-License-Identifier: MIT
 *
 * load - traffic for a server or a proxy, checked byte by byte
 *
 * USAGE
 *   load target                          open an echo port and a source port on 127.0.0.1,
 *                                        print them as JSON, serve until stdin ends
 *   load echo PORT [option=value ...]    clients that send requests and check the echo
 *   load download PORT [option=value ...]
 *                                        one client that reads bytes=N from a source port
 *
 * OPTIONS
 *   proxy=PORT     go through the SOCKSv4 proxy at 127.0.0.1:PORT
 *   version=5      speak SOCKSv5 to it, which takes one more message
 *   clients=N      echo: number of connections open at once (default 1)
 *   requests=N     echo: number of requests of all clients together (default 1)
 *   each=N         echo: open a new connection after N requests (default 0: never)
 *   bytes=N        size of a request or of the download (default 64)
 *   together=1     echo: send the first request when all clients are connected
 *   seconds=N      give up after N seconds (default 60)
 *
 * The result is one JSON object on standard output. The exit status is 1 if a single byte or
 * connection was wrong.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* Each byte of a stream depends on its position, so lost, doubled and swapped bytes are noticed.
 * The period is a prime, so that it divides no buffer size of a server. */
#define PERIOD 251
#define CHUNK (256 * 1024)

static char pattern[CHUNK + PERIOD];
static char scratch[CHUNK];

static void die(const char *what)
{
	fprintf(stderr, "load: cannot %s: %s\n", what, strerror(errno));
	exit(2);
}

static double now_seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

static struct sockaddr_in loopback(int port)
{
	return (struct sockaddr_in){.sin_family = AF_INET,
				    .sin_port = htons(port),
				    .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

static void watch(int ep, int op, int fd, uint32_t events, void *who)
{
	struct epoll_event event = {.events = events, .data.ptr = who};

	if (epoll_ctl(ep, op, fd, &event))
		die("watch a socket");
}

/* ---- target: the other end of the traffic ---- */

struct peer {
	int fd;
	bool source;	   /* sends `left` bytes of the pattern; else an echo */
	uint64_t left, at; /* source: bytes left to send, and the position in the stream */
	unsigned got;	   /* source: bytes received of the 8-byte length */
	size_t head, tail; /* echo: the bytes still to send back */
	bool ended;
	char length[8];
	char *held;
};

static int listen_on_loopback(int *port)
{
	struct sockaddr_in a = loopback(0);
	socklen_t size = sizeof(a);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);

	if (fd < 0 || bind(fd, (void *)&a, sizeof(a)) || listen(fd, 4096) ||
	    getsockname(fd, (void *)&a, &size))
		die("listen");
	*port = ntohs(a.sin_port);
	return fd;
}

static void drop_peer(struct peer *p)
{
	close(p->fd);
	free(p->held);
	free(p);
}

/* Keeps what the other side does not accept yet, and reads nothing more until it is sent. */
static bool serve_echo(int ep, struct peer *p)
{
	for (;;) {
		while (p->head < p->tail) {
			ssize_t n = send(p->fd, p->held + p->head, p->tail - p->head, MSG_NOSIGNAL);

			if (n < 0 && errno == EAGAIN) {
				watch(ep, EPOLL_CTL_MOD, p->fd, EPOLLOUT, p);
				return true;
			}
			if (n < 0)
				return false;
			p->head += n;
			if (p->head == p->tail)
				watch(ep, EPOLL_CTL_MOD, p->fd, EPOLLIN, p);
		}
		ssize_t n = recv(p->fd, scratch, sizeof(scratch), 0);

		if (n < 0)
			return errno == EAGAIN;
		if (n == 0)
			return false;
		ssize_t sent = send(p->fd, scratch, n, MSG_NOSIGNAL);

		if (sent < 0 && errno != EAGAIN)
			return false;
		sent = sent < 0 ? 0 : sent;
		if (sent == n && n < (ssize_t)sizeof(scratch))
			return true;
		if (sent < n) {
			p->held = p->held ? p->held : malloc(CHUNK);
			memcpy(p->held, scratch + sent, n - sent);
			p->head = 0;
			p->tail = n - sent;
		}
	}
}

static bool serve_source(int ep, struct peer *p)
{
	while (p->got < 8) {
		ssize_t n = recv(p->fd, p->length + p->got, 8 - p->got, 0);

		if (n <= 0)
			return n < 0 && errno == EAGAIN;
		p->got += n;
		if (p->got == 8)
			memcpy(&p->left, p->length, 8);
	}
	while (p->left) {
		size_t want = p->left < CHUNK ? p->left : CHUNK;
		ssize_t n = send(p->fd, pattern + p->at % PERIOD, want, MSG_NOSIGNAL);

		if (n < 0 && errno == EAGAIN) {
			watch(ep, EPOLL_CTL_MOD, p->fd, EPOLLOUT, p);
			return true;
		}
		if (n < 0)
			return false;
		p->left -= n;
		p->at += n;
	}
	return false;
}

static void accept_peers(int ep, int listener, bool source)
{
	int fd;

	while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
		struct peer *p = calloc(1, sizeof(*p));

		p->fd = fd;
		p->source = source;
		watch(ep, EPOLL_CTL_ADD, fd, EPOLLIN, p);
	}
}

static int target(void)
{
	struct peer echo = {0}, source = {.source = true};
	int ep = epoll_create1(0), echo_port, source_port;
	struct epoll_event ready[256];

	echo.fd = listen_on_loopback(&echo_port);
	source.fd = listen_on_loopback(&source_port);
	watch(ep, EPOLL_CTL_ADD, echo.fd, EPOLLIN, &echo);
	watch(ep, EPOLL_CTL_ADD, source.fd, EPOLLIN, &source);
	watch(ep, EPOLL_CTL_ADD, 0, EPOLLIN, NULL);
	printf("{\"echo\": %d, \"source\": %d}\n", echo_port, source_port);
	fflush(stdout);
	for (;;) {
		int n = epoll_wait(ep, ready, 256, -1);

		for (int i = 0; i < n; i++) {
			struct peer *p = ready[i].data.ptr;

			if (!p)
				return 0;
			if (p == &echo || p == &source)
				accept_peers(ep, p->fd, p->source);
			else if (!(p->source ? serve_source(ep, p) : serve_echo(ep, p)))
				drop_peer(p);
		}
	}
}

/* ---- clients ---- */

struct options {
	int port, proxy, version;
	unsigned clients, seconds;
	uint64_t requests, each, bytes;
	bool together;
};

enum stage { CONNECTING, ASKING, WAITING, EXCHANGING };

struct client {
	int fd;
	enum stage stage;
	unsigned step, got_answer; /* of the talk with the proxy: which message, and bytes of its
				      answer that came */
	unsigned char answer[16];
	uint64_t sent, got, done;
	bool wants_to_write;
};

static struct {
	struct options o;
	int ep;
	uint64_t begun, finished, failed, bytes, connections;
	unsigned open, through, most_at_once;
	bool gate_open;
	char first_failure[160];
} run;

static void start_connection(struct client *c)
{
	struct sockaddr_in a = loopback(run.o.proxy ? run.o.proxy : run.o.port);

	*c = (struct client){.fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0),
			     .stage = CONNECTING};
	if (c->fd < 0)
		die("make a socket");
	if (connect(c->fd, (void *)&a, sizeof(a)) && errno != EINPROGRESS)
		die("connect");
	run.connections++;
	run.open++;
	c->wants_to_write = true;
	watch(run.ep, EPOLL_CTL_ADD, c->fd, EPOLLOUT, c);
}

static void end_connection(struct client *c)
{
	if (c->stage == EXCHANGING)
		run.through--;
	close(c->fd);
	c->fd = -1;
	run.open--;
}

static void fail(struct client *c, const char *why)
{
	if (!run.failed++)
		snprintf(run.first_failure, sizeof(run.first_failure), "%s (%s) in request %llu",
			 why, errno ? strerror(errno) : "no errno",
			 (unsigned long long)run.finished);
	run.finished++;
	end_connection(c);
	if (run.begun < run.o.requests) {
		run.begun++;
		start_connection(c);
	}
}

static void want(struct client *c, bool write)
{
	if (c->wants_to_write != write)
		watch(run.ep, EPOLL_CTL_MOD, c->fd, EPOLLIN | (write ? EPOLLOUT : 0), c);
	c->wants_to_write = write;
}

/* A message to the proxy and the length of its answer. The second byte of the answer tells
 * success. */
struct message {
	unsigned char bytes[10];
	unsigned length, answer_length, success;
};

static struct message message_to_proxy(unsigned step)
{
	unsigned char high = run.o.port >> 8, low = run.o.port & 255;

	if (run.o.version != 5)
		return (struct message){{4, 1, high, low, 127, 0, 0, 1, 0}, 9, 8, 90};
	if (step == 0)
		return (struct message){{5, 1, 0}, 3, 2, 0};
	return (struct message){{5, 1, 0, 1, 127, 0, 0, 1, high, low}, 10, 10, 0};
}

static bool ask_proxy(struct client *c)
{
	struct message m = message_to_proxy(c->step);

	c->stage = WAITING;
	c->got_answer = 0;
	if (send(c->fd, m.bytes, m.length, MSG_NOSIGNAL) != m.length)
		return false;
	want(c, false);
	return true;
}

/* 1: connected, 0: not yet, -1: refused or broken */
static int hear_proxy(struct client *c)
{
	struct message m = message_to_proxy(c->step);
	ssize_t n = recv(c->fd, c->answer + c->got_answer, m.answer_length - c->got_answer, 0);

	if (n <= 0) {
		errno = n < 0 ? errno : 0;
		return -1;
	}
	c->got_answer += n;
	errno = 0;
	if (c->got_answer < m.answer_length)
		return 0;
	if (c->answer[1] != m.success)
		return -1;
	if (run.o.version != 5 || c->step++ == 1)
		return 1;
	return ask_proxy(c) ? 0 : -1;
}

static void now_through(struct client *c)
{
	c->stage = EXCHANGING;
	run.through++;
	if (run.through > run.most_at_once)
		run.most_at_once = run.through;
}

/* Sends what the socket accepts, checks what came. 1: request done, 0: not yet, -1: wrong. */
static int exchange(struct client *c)
{
	while (c->sent < run.o.bytes) {
		uint64_t left = run.o.bytes - c->sent;
		ssize_t n = send(c->fd, pattern + c->sent % PERIOD, left < CHUNK ? left : CHUNK,
				 MSG_NOSIGNAL);

		if (n < 0 && errno == EAGAIN)
			break;
		if (n < 0)
			return -1;
		c->sent += n;
	}
	want(c, c->sent < run.o.bytes);
	while (c->got < run.o.bytes) {
		uint64_t left = run.o.bytes - c->got;
		ssize_t n = recv(c->fd, scratch, left < CHUNK ? left : CHUNK, 0);

		if (n < 0 && errno == EAGAIN)
			return 0;
		if (n <= 0 || memcmp(scratch, pattern + c->got % PERIOD, n)) {
			errno = n < 0 ? errno : 0;
			return -1;
		}
		c->got += n;
		run.bytes += n;
	}
	return 1;
}

static void next_request(struct client *c)
{
	c->done++;
	run.finished++;
	c->sent = c->got = 0;
	if (run.begun == run.o.requests) {
		end_connection(c);
		return;
	}
	run.begun++;
	if (run.o.each && c->done == run.o.each) {
		end_connection(c);
		start_connection(c);
	}
}

static void advance(struct client *c)
{
	int error = 0;
	socklen_t size = sizeof(error);

	if (c->stage == CONNECTING) {
		if (getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &size) || error) {
			errno = error;
			return fail(c, "connect");
		}
		c->stage = ASKING;
		if (!run.o.proxy)
			now_through(c);
		else if (!ask_proxy(c))
			return fail(c, "ask the proxy");
		else
			return;
	} else if (c->stage == WAITING) {
		int heard = hear_proxy(c);

		if (heard < 0)
			return fail(c, "the proxy's answer");
		if (!heard)
			return;
		now_through(c);
	}
	if (!run.gate_open) {
		want(c, false);
		return;
	}
	while (c->fd >= 0 && c->stage == EXCHANGING) {
		int done = exchange(c);

		if (done < 0)
			return fail(c, "a wrong or missing byte");
		if (!done)
			return;
		next_request(c);
	}
}

static void open_gate(struct client *clients)
{
	run.gate_open = true;
	for (unsigned i = 0; i < run.o.clients; i++)
		if (clients[i].fd >= 0 && clients[i].stage == EXCHANGING)
			advance(&clients[i]);
}

static int echo_clients(void)
{
	struct client *clients = calloc(run.o.clients, sizeof(*clients));
	struct epoll_event ready[512];
	double start = now_seconds(), end = start + run.o.seconds, seconds;

	run.ep = epoll_create1(0);
	run.gate_open = !run.o.together;
	for (unsigned i = 0; i < run.o.clients; i++) {
		clients[i].fd = -1;
		if (run.begun < run.o.requests) {
			run.begun++;
			start_connection(&clients[i]);
		}
	}
	while (run.finished < run.o.requests && now_seconds() < end) {
		int n = epoll_wait(run.ep, ready, 512, 1000);

		for (int i = 0; i < n; i++)
			if (((struct client *)ready[i].data.ptr)->fd >= 0)
				advance(ready[i].data.ptr);
		if (!run.gate_open && run.through == run.o.clients)
			open_gate(clients);
	}
	seconds = now_seconds() - start;
	printf("{\"requests\": %llu, \"failed\": %llu, \"connections\": %llu, \"bytes\": %llu, "
	       "\"most_at_once\": %u, \"seconds\": %.4f, \"first_failure\": \"%s\"}\n",
	       (unsigned long long)(run.finished - run.failed), (unsigned long long)run.failed,
	       (unsigned long long)run.connections, (unsigned long long)run.bytes, run.most_at_once,
	       seconds, run.first_failure);
	return run.failed || run.finished < run.o.requests;
}

static void wait_for(int fd, short events)
{
	struct pollfd p = {.fd = fd, .events = events};

	if (poll(&p, 1, run.o.seconds * 1000) != 1) {
		errno = ETIMEDOUT;
		die("go on");
	}
}

static int download(void)
{
	struct client c;
	uint64_t got = 0;
	double start = now_seconds();

	run.ep = epoll_create1(0);
	start_connection(&c);
	wait_for(c.fd, POLLOUT);
	if (run.o.proxy && !ask_proxy(&c))
		die("ask the proxy");
	for (int heard = !run.o.proxy; heard != 1;) {
		wait_for(c.fd, POLLIN);
		heard = hear_proxy(&c);
		if (heard < 0)
			die("connect through the proxy");
	}
	fcntl(c.fd, F_SETFL, 0);
	if (send(c.fd, &run.o.bytes, 8, MSG_NOSIGNAL) != 8)
		die("send the length");
	alarm(run.o.seconds);
	for (;;) {
		ssize_t n = recv(c.fd, scratch, sizeof(scratch), 0);

		if (n < 0)
			die("receive");
		if (n == 0)
			break;
		if (memcmp(scratch, pattern + got % PERIOD, n)) {
			errno = EBADMSG;
			die("accept the wrong bytes that came");
		}
		got += n;
	}
	printf("{\"bytes\": %llu, \"seconds\": %.4f}\n", (unsigned long long)got,
	       now_seconds() - start);
	return got != run.o.bytes;
}

static void read_option(const char *text)
{
	const char *value = strchr(text, '=');
	uint64_t n = value ? strtoull(value + 1, NULL, 10) : 0;

#define OPTION(name)                                                     \
	do {                                                             \
		if (value && !strncmp(text, #name "=", sizeof(#name))) { \
			run.o.name = n;                                  \
			return;                                          \
		}                                                        \
	} while (0)
	OPTION(proxy);
	OPTION(version);
	OPTION(clients);
	OPTION(requests);
	OPTION(each);
	OPTION(bytes);
	OPTION(together);
	OPTION(seconds);
#undef OPTION
	errno = EINVAL;
	die(text);
}

int main(int argc, char **argv)
{
	struct rlimit files;

	getrlimit(RLIMIT_NOFILE, &files);
	files.rlim_cur = files.rlim_max;
	setrlimit(RLIMIT_NOFILE, &files);
	for (size_t i = 0; i < sizeof(pattern); i++)
		pattern[i] = (char)(i % PERIOD + 1);
	run.o = (struct options){.clients = 1, .requests = 1, .bytes = 64, .seconds = 60};
	if (argc >= 2 && !strcmp(argv[1], "target"))
		return target();
	if (argc < 3) {
		errno = EINVAL;
		die("start: expected target, echo PORT or download PORT");
	}
	run.o.port = atoi(argv[2]);
	for (int i = 3; i < argc; i++)
		read_option(argv[i]);
	return strcmp(argv[1], "download") ? echo_clients() : download();
}
