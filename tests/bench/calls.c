/* SPDX-License-Identifier: MIT */
/*
 * Makes a known number of socket calls and times them: the workload of `python -m tests.bench`.
 *
 *   calls           reads orders from standard input, one per line, and answers each with a line
 *   calls now       makes one socket call and prints CLOCK_MONOTONIC in nanoseconds
 *
 * An order is `HOW TRANSPORT BYTES SLICES PAIRS`, e.g. `one tcp 1 1000 1`. The program opens the
 * sockets, prints `ready` and waits for a line; then makes the calls, prints `CALLS NANOSECONDS`
 * and waits for a line again before it closes the sockets. So counters that are read in between
 * count only these calls. NANOSECONDS is the time of the median slice of rounds times the number of
 * slices, because other load on the machine affects few slices. A round sends one message in each
 * direction: four calls, sendto and recvfrom alternating. HOW is
 *
 *   one    one thread has both ends, so that only the calls are timed; a slice is 25 rounds, which
 *          use the pairs of sockets in turn
 *   two    a thread at each end, both on one CPU: a call that waits switches to the other thread
 *   bare   one thread and no socket calls: four calls of getppid per round
 *   many   one process per pair, all on one CPU, each with both ends of its own pair; they take
 *          turns, and a slice is one round of each
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PAIRS_MAX 5000
#define BYTES_MAX 65536
#define ROUNDS_OF_A_SLICE 25
#define SLICES_MAX 10000
#define PROCESSES_MAX 500
#define START_SECONDS 30  /* for all processes together */
#define PAIRS_AT_ONCE 500 /* connections waiting for accept, well below any backlog */

struct order {
	char how[8], transport[8];
	unsigned bytes, slices, pairs;
};

static int near_ends[PAIRS_MAX], far_ends[PAIRS_MAX];
static int orders[2]; /* for the thread at the far end */

/* Memory that the processes of `many` share. */
static struct {
	int64_t slices[SLICES_MAX];
	sem_t is_open, turn[PROCESSES_MAX];
} * shared;

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

/* Close with a reset: connections left in TIME_WAIT would use up the ports. */
static void close_at_once(int descriptor)
{
	struct linger at_once = {.l_onoff = 1};

	if (setsockopt(descriptor, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once)))
		die("set SO_LINGER");
	close(descriptor);
}

static void close_pairs(unsigned pairs)
{
	for (unsigned i = 0; i < pairs; i++) {
		close_at_once(near_ends[i]);
		close_at_once(far_ends[i]);
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

static void play_round(unsigned pair, unsigned bytes)
{
	static char buffer[BYTES_MAX];

	send_all(near_ends[pair], buffer, bytes);
	recv_all(far_ends[pair], buffer, bytes);
	send_all(far_ends[pair], buffer, bytes);
	recv_all(near_ends[pair], buffer, bytes);
}

static void play_both_ends(const struct order *order, unsigned slice)
{
	for (unsigned i = 0; i < ROUNDS_OF_A_SLICE; i++)
		play_round((slice * ROUNDS_OF_A_SLICE + i) % order->pairs, order->bytes);
}

static void play_bare(void)
{
	for (unsigned i = 0; i < 4 * ROUNDS_OF_A_SLICE; i++)
		syscall(SYS_getppid);
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

static bool is(const struct order *order, const char *how)
{
	return !strcmp(order->how, how);
}

static void play(const struct order *order)
{
	bool both = is(order, "one"), bare = is(order, "bare");

	if (!both && !bare && write(orders[1], order, sizeof(*order)) != sizeof(*order))
		die("read an order");
	for (unsigned slice = 0; slice < order->slices; slice++) {
		int64_t begun = now_ns();

		if (both)
			play_both_ends(order, slice);
		else if (bare)
			play_bare();
		else
			play_near_end(order);
		shared->slices[slice] = now_ns() - begun;
	}
}

static void open_pairs(const struct order *order, unsigned pairs)
{
	if (strcmp(order->transport, "tcp"))
		open_udp_pairs(pairs);
	else
		open_tcp_pairs(pairs);
}

/* One of the processes of `many`. Its first turn comes when all have started. */
static void take_turns(const struct order *order, unsigned process)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	open_pairs(order, 1);
	sem_post(&shared->is_open);
	for (unsigned slice = process; slice < order->slices; slice += order->pairs) {
		int64_t begun;

		sem_wait(&shared->turn[process]);
		begun = now_ns();
		play_round(0, order->bytes);
		shared->slices[slice] = now_ns() - begun;
		sem_post(&shared->turn[(process + 1) % order->pairs]);
	}
	close_pairs(1);
}

static void start_processes(const struct order *order)
{
	struct timespec limit;

	sem_init(&shared->is_open, 1, 0);
	for (unsigned i = 0; i < order->pairs; i++)
		sem_init(&shared->turn[i], 1, 0);
	for (unsigned i = 0; i < order->pairs; i++) {
		pid_t process = fork();

		if (process < 0)
			die("start a process");
		if (!process) {
			take_turns(order, i);
			_exit(0);
		}
	}
	clock_gettime(CLOCK_REALTIME, &limit);
	limit.tv_sec += START_SECONDS;
	for (unsigned i = 0; i < order->pairs; i++)
		if (sem_timedwait(&shared->is_open, &limit))
			die("wait for the processes");
}

static void play_in_processes(void)
{
	int status;

	sem_post(&shared->turn[0]);
	while (wait(&status) > 0)
		if (status)
			die("get all calls from the processes");
}

static void await_line(void)
{
	for (int c = getchar(); c != '\n'; c = getchar())
		if (c == EOF)
			exit(0);
}

static void obey(const struct order *order)
{
	bool many = is(order, "many");
	unsigned rounds = many ? 1 : ROUNDS_OF_A_SLICE;

	if (!order->pairs || order->pairs > (many ? PROCESSES_MAX : PAIRS_MAX) ||
	    order->bytes > BYTES_MAX || !order->slices || order->slices > SLICES_MAX) {
		errno = EINVAL;
		die("carry out the order");
	}
	if (many)
		start_processes(order);
	else
		open_pairs(order, order->pairs);
	puts("ready");
	fflush(stdout);
	await_line();
	if (many)
		play_in_processes();
	else
		play(order);
	qsort(shared->slices, order->slices, sizeof(shared->slices[0]), by_size);
	printf("%llu %lld\n", 4ULL * rounds * order->slices,
	       (long long)(shared->slices[order->slices / 2] * order->slices));
	fflush(stdout);
	await_line();
	if (!many)
		close_pairs(order->pairs);
}

static void allow_many_descriptors(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit))
		die("read the limit of open files");
	limit.rlim_cur = limit.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &limit))
		die("raise the limit of open files");
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
	shared =
	    mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED)
		die("share memory");
	if (pipe(orders) || pthread_create(&far_end, NULL, play_far_end, NULL))
		die("start a thread");
	while (scanf("%7s %7s %u %u %u", order.how, order.transport, &order.bytes, &order.slices,
		     &order.pairs) == 5) {
		await_line();
		obey(&order);
	}
	return 0;
}
