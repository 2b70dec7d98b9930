/* Lower bound of the cost of probes with a socket per probe or per backend.
 *
 *   floor half|full|http|kept BACKENDS PORT INTERVAL_MS TICK_US
 *
 * half  connects and resets before the handshake is acknowledged; the server never accepts
 * full  connects, is accepted, and resets
 * http  connects, sends a request, reads the answer, and resets
 * kept  sends requests on one connection, and renews it for every tenth request
 *
 * Starts are spread evenly, and grouped by ticks to save wake-ups. The addresses are those of the harness. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { FRESH_EVERY = 10, EVENTS = 1024 };
enum mode { HALF, FULL, HTTP, KEPT };

struct backend {
	int fd;
	int left; /* requests until the connection is renewed */
	int connecting;
};

static const char *const MODES[] = {"half", "full", "http", "kept"};
static const char CLOSING[] = "GET /health HTTP/1.1\r\nHost: floor\r\nConnection: close\r\n\r\n";
static const char KEEPING[] = "GET /health HTTP/1.1\r\nHost: floor\r\n\r\n";

static enum mode mode;
static uint16_t port;
static int events;
static struct backend *backends;

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

static uint64_t now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ull + t.tv_nsec;
}

static void hang_up(struct backend *b)
{
	const struct linger reset = {1, 0};
	setsockopt(b->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
	close(b->fd);
	b->fd = -1;
}

static void watch(struct backend *b, int how, uint32_t what)
{
	struct epoll_event event = {.events = what, .data.ptr = b};
	if (epoll_ctl(events, how, b->fd, &event))
		fail("epoll_ctl");
}

static void dial(struct backend *b)
{
	const uint32_t i = b - backends;
	const struct sockaddr_in to = {
		.sin_family = AF_INET,
		.sin_port = htons(port),
		.sin_addr.s_addr = htonl(0x7f0a0000 + i / 200 * 256 + 1 + i % 200),
	};
	const int off = 0;
	b->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (b->fd < 0)
		fail("socket");
	if (mode == HALF || mode == HTTP)
		setsockopt(b->fd, IPPROTO_TCP, TCP_QUICKACK, &off, sizeof off);
	if (connect(b->fd, (const struct sockaddr *)&to, sizeof to) && errno != EINPROGRESS)
		fail("connect");
	b->connecting = 1;
	b->left = FRESH_EVERY;
	watch(b, EPOLL_CTL_ADD, EPOLLOUT);
}

static void ask(struct backend *b)
{
	const char *text = mode == KEPT ? KEEPING : CLOSING;
	if (send(b->fd, text, strlen(text), MSG_NOSIGNAL) < 0)
		hang_up(b);
}

static void start(struct backend *b)
{
	if (b->fd < 0)
		dial(b);
	else if (mode == KEPT && !b->connecting)
		ask(b);
}

static void connected(struct backend *b)
{
	int error = 0;
	socklen_t length = sizeof error;
	getsockopt(b->fd, SOL_SOCKET, SO_ERROR, &error, &length);
	b->connecting = 0;
	if (error || mode == HALF || mode == FULL) {
		hang_up(b);
		return;
	}
	watch(b, EPOLL_CTL_MOD, EPOLLIN);
	ask(b);
}

static void answered(struct backend *b)
{
	char answer[512];
	const ssize_t length = recv(b->fd, answer, sizeof answer, 0);
	if (length < 0 && errno == EAGAIN)
		return;
	if (length < 12 || answer[9] != '2' || mode == HTTP || --b->left == 0)
		hang_up(b);
}

int main(int argc, char **argv)
{
	if (argc != 6)
		return 2;
	while (strcmp(MODES[mode], argv[1]))
		if (++mode > KEPT)
			return 2;
	const uint64_t count = atoi(argv[2]), interval = atoll(argv[4]) * 1000000ull, tick = atoll(argv[5]) * 1000ull;
	port = atoi(argv[3]);
	events = epoll_create1(EPOLL_CLOEXEC);
	backends = calloc(count, sizeof *backends);
	for (uint64_t i = 0; i < count; i++)
		backends[i].fd = -1;

	const uint64_t began = now_ns();
	for (uint64_t started = 0;;) {
		const uint64_t passed = now_ns() - began;
		for (const uint64_t due = passed * count / interval; started < due; started++)
			start(&backends[started % count]);
		const uint64_t pause = tick - (now_ns() - began) % tick;
		const struct timespec wait = {pause / 1000000000, pause % 1000000000};
		struct epoll_event ready[EVENTS];
		const int found = epoll_pwait2(events, ready, EVENTS, &wait, NULL);
		for (int i = 0; i < found; i++) {
			struct backend *b = ready[i].data.ptr;
			if (b->connecting)
				connected(b);
			else
				answered(b);
		}
	}
}
