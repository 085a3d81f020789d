/* SPDX-License-Identifier: MIT */
/*
 * Socket calls of known number, timed where they are made: the workload of `python -m tests.bench`.
 *
 *   calls           reads orders from standard input, one a line, and answers each with a line
 *   calls now       makes one socket call and prints CLOCK_MONOTONIC's nanoseconds
 *
 * An order is `HOW TRANSPORT BYTES SLICES PAIRS`, such as `one tcp 1 1000 1`; the answer is
 * `CALLS NANOSECONDS`, in which the nanoseconds are as if each slice of rounds had been the median
 * one: what the machine did beside is in few slices. A round is a message there and one back: four
 * calls, sendto and recvfrom in turns. HOW is `one` (one thread has both ends, so that nothing but
 * the calls is timed) or `two` (a thread at each end, both on one CPU: a call that waits is a
 * switch to the other). The rounds go over the pairs of sockets in turn.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define PAIRS_MAX 5000
#define BYTES_MAX 65536
#define ROUNDS_OF_A_SLICE 25
#define SLICES_MAX 8000
#define PAIRS_AT_ONCE 500 /* connections that wait for accept: well below any backlog */

struct order {
	char how[8], transport[8];
	unsigned bytes, slices, pairs;
};

static int near_ends[PAIRS_MAX], far_ends[PAIRS_MAX];
static int orders[2]; /* to the thread at the far end */
static int64_t slices[SLICES_MAX];

static void die(const char *what)
{
	fprintf(stderr, "calls: cannot %s: %s\n", what, strerror(errno));
	exit(2);
}

static int64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static struct sockaddr_in name_of(int descriptor)
{
	struct sockaddr_in name = {.sin_family = AF_INET};
	socklen_t length = sizeof(name);

	if (getsockname(descriptor, (struct sockaddr *)&name, &length))
		die("getsockname");
	return name;
}

static int bound(int type)
{
	struct sockaddr_in any = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int descriptor = socket(AF_INET, type, 0);

	if (descriptor < 0 || bind(descriptor, (struct sockaddr *)&any, sizeof(any)))
		die("bind");
	return descriptor;
}

static void connect_to(int descriptor, struct sockaddr_in name)
{
	if (connect(descriptor, (struct sockaddr *)&name, sizeof(name)))
		die("connect");
}

static void open_tcp_pairs(unsigned pairs)
{
	int listener = bound(SOCK_STREAM);

	if (listen(listener, PAIRS_AT_ONCE))
		die("listen");
	for (unsigned i = 0; i < pairs; i++) {
		near_ends[i] = socket(AF_INET, SOCK_STREAM, 0);
		if (near_ends[i] < 0)
			die("open a socket");
		connect_to(near_ends[i], name_of(listener));
		far_ends[i] = accept(listener, NULL, NULL);
		if (far_ends[i] < 0)
			die("accept");
	}
	close(listener);
}

static void open_udp_pairs(unsigned pairs)
{
	for (unsigned i = 0; i < pairs; i++) {
		near_ends[i] = bound(SOCK_DGRAM);
		far_ends[i] = bound(SOCK_DGRAM);
		connect_to(near_ends[i], name_of(far_ends[i]));
		connect_to(far_ends[i], name_of(near_ends[i]));
	}
}

static void close_pairs(unsigned pairs)
{
	for (unsigned i = 0; i < pairs; i++) {
		close(near_ends[i]);
		close(far_ends[i]);
	}
}

static void send_all(int descriptor, const char *buffer, unsigned bytes)
{
	if (send(descriptor, buffer, bytes, 0) != (ssize_t)bytes)
		die("send");
}

static void recv_all(int descriptor, char *buffer, unsigned bytes)
{
	if (recv(descriptor, buffer, bytes, MSG_WAITALL) != (ssize_t)bytes)
		die("receive");
}

static void play_both_ends(const struct order *order, unsigned slice)
{
	static char buffer[BYTES_MAX];

	for (unsigned i = 0; i < ROUNDS_OF_A_SLICE; i++) {
		unsigned pair = (slice * ROUNDS_OF_A_SLICE + i) % order->pairs;

		send_all(near_ends[pair], buffer, order->bytes);
		recv_all(far_ends[pair], buffer, order->bytes);
		send_all(far_ends[pair], buffer, order->bytes);
		recv_all(near_ends[pair], buffer, order->bytes);
	}
}

static void play_near_end(const struct order *order)
{
	static char buffer[BYTES_MAX];

	for (unsigned i = 0; i < ROUNDS_OF_A_SLICE; i++) {
		send_all(near_ends[0], buffer, order->bytes);
		recv_all(near_ends[0], buffer, order->bytes);
	}
}

static void *play_far_end(void *unused)
{
	static char buffer[BYTES_MAX];
	struct order order;

	while (read(orders[0], &order, sizeof(order)) == sizeof(order)) {
		for (unsigned i = 0; i < order.slices * ROUNDS_OF_A_SLICE; i++) {
			recv_all(far_ends[0], buffer, order.bytes);
			send_all(far_ends[0], buffer, order.bytes);
		}
	}
	return unused;
}

static int by_size(const void *a, const void *b)
{
	int64_t left = *(const int64_t *)a, right = *(const int64_t *)b;

	return (left > right) - (left < right);
}

static void play(const struct order *order)
{
	bool both = !strcmp(order->how, "one");

	if (!both && write(orders[1], order, sizeof(*order)) != sizeof(*order))
		die("order");
	for (unsigned slice = 0; slice < order->slices; slice++) {
		int64_t begun = now_ns();

		if (both)
			play_both_ends(order, slice);
		else
			play_near_end(order);
		slices[slice] = now_ns() - begun;
	}
	qsort(slices, order->slices, sizeof(slices[0]), by_size);
}

static void obey(const struct order *order)
{
	if (!order->pairs || order->pairs > PAIRS_MAX || order->bytes > BYTES_MAX ||
	    !order->slices || order->slices > SLICES_MAX) {
		errno = EINVAL;
		die("obey");
	}
	if (strcmp(order->transport, "tcp"))
		open_udp_pairs(order->pairs);
	else
		open_tcp_pairs(order->pairs);
	play(order);
	printf("%llu %lld\n", 4ULL * ROUNDS_OF_A_SLICE * order->slices,
	       (long long)(slices[order->slices / 2] * order->slices));
	fflush(stdout);
	close_pairs(order->pairs);
}

static void allow_many_descriptors(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit))
		die("see how many descriptors there may be");
	limit.rlim_cur = limit.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &limit))
		die("open so many descriptors");
}

static void stay_on_last_cpu(void)
{
	cpu_set_t cpus;

	CPU_ZERO(&cpus);
	CPU_SET(sysconf(_SC_NPROCESSORS_ONLN) - 1, &cpus);
	if (sched_setaffinity(0, sizeof(cpus), &cpus))
		die("stay on a CPU");
}

int main(int count, char **arguments)
{
	struct order order;
	pthread_t far_end;

	if (count == 2 && !strcmp(arguments[1], "now")) {
		close(socket(AF_INET, SOCK_STREAM, 0));
		printf("%lld\n", (long long)now_ns());
		return 0;
	}
	allow_many_descriptors();
	stay_on_last_cpu();
	if (pipe(orders) || pthread_create(&far_end, NULL, play_far_end, NULL))
		die("start a thread");
	while (scanf("%7s %7s %u %u %u", order.how, order.transport, &order.bytes, &order.slices,
		     &order.pairs) == 5)
		obey(&order);
	return 0;
}
