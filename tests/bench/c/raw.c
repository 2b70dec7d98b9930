/* Lower bound of the cost of probes without a socket per probe: packets in batches.
 *
 *   raw syn|icmp BACKENDS PORT INTERVAL_MS TICK_US
 *
 * syn   sends SYN and receives SYN-ACK; the kernel has no such connection and resets it
 * icmp  sends echo requests and receives the replies
 *
 * It prints nothing, because the kernel counts arrivals. The addresses are those of the harness. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <linux/filter.h>
#include <netinet/ip_icmp.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

enum { BATCH = 256, SOURCE_PORT = 40001, IDENTIFIER = 40001, ROOM = 96 };

struct echo {
	struct icmphdr header;
	uint8_t payload[16];
};

struct pseudo {
	uint32_t source, destination;
	uint16_t protocol, length;
};

static int is_syn;
static uint16_t port;
static int line;
static uint64_t answers;

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

static uint32_t add(uint32_t sum, const void *data, size_t length)
{
	const uint16_t *word = data;
	for (; length > 1; length -= 2)
		sum += *word++;
	return sum;
}

static uint16_t finish(uint32_t sum)
{
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

static size_t make(void *packet, uint32_t to, uint64_t number)
{
	if (is_syn) {
		struct tcphdr *syn = packet;
		const struct pseudo pseudo = {htonl(INADDR_LOOPBACK), to, htons(IPPROTO_TCP), htons(sizeof *syn)};
		memset(syn, 0, sizeof *syn);
		syn->source = htons(SOURCE_PORT);
		syn->dest = htons(port);
		syn->seq = htonl(number * 2246822519u);
		syn->doff = sizeof *syn / 4;
		syn->syn = 1;
		syn->window = htons(1024);
		syn->check = finish(add(add(0, &pseudo, sizeof pseudo), syn, sizeof *syn));
		return sizeof *syn;
	}
	struct echo *echo = packet;
	memset(echo, 0, sizeof *echo);
	echo->header.type = ICMP_ECHO;
	echo->header.un.echo.id = htons(IDENTIFIER);
	echo->header.un.echo.sequence = htons(number);
	echo->header.checksum = finish(add(0, echo, sizeof *echo));
	return sizeof *echo;
}

/* Starts `count` probes from number `first` on. */
static void start(uint64_t first, uint64_t count, uint64_t backends)
{
	static struct mmsghdr messages[BATCH];
	static struct iovec parts[BATCH];
	static struct sockaddr_in to[BATCH];
	static uint8_t packets[BATCH][ROOM];
	for (uint64_t i = 0; i < count; i++) {
		const uint64_t backend = (first + i) % backends;
		to[i].sin_family = AF_INET;
		to[i].sin_addr.s_addr = htonl(0x7f0a0000 + backend / 200 * 256 + 1 + backend % 200);
		parts[i].iov_base = packets[i];
		parts[i].iov_len = make(packets[i], to[i].sin_addr.s_addr, first + i);
		messages[i].msg_hdr = (struct msghdr){
			.msg_name = &to[i], .msg_namelen = sizeof to[i], .msg_iov = &parts[i], .msg_iovlen = 1};
	}
	for (uint64_t sent = 0; sent < count;) {
		const int some = sendmmsg(line, messages + sent, count - sent, 0);
		sent += some > 0 ? some : 1;
	}
}

static void take(void)
{
	static struct mmsghdr messages[BATCH];
	static struct iovec parts[BATCH];
	static struct sockaddr_in from[BATCH];
	static uint8_t packets[BATCH][ROOM];
	int some;
	do {
		for (int i = 0; i < BATCH; i++) {
			parts[i] = (struct iovec){packets[i], ROOM};
			messages[i].msg_hdr = (struct msghdr){
				.msg_name = &from[i], .msg_namelen = sizeof from[i], .msg_iov = &parts[i], .msg_iovlen = 1};
		}
		some = recvmmsg(line, messages, BATCH, MSG_DONTWAIT, NULL);
		if (some > 0)
			answers += some;
	} while (some == BATCH);
}

static void filter(void)
{
	struct sock_filter syn_ack[] = {
		BPF_STMT(BPF_LDX | BPF_B | BPF_MSH, 0),
		BPF_STMT(BPF_LD | BPF_H | BPF_IND, 2),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SOURCE_PORT, 0, 3),
		BPF_STMT(BPF_LD | BPF_B | BPF_IND, 13),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0x12, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, ROOM),
		BPF_STMT(BPF_RET | BPF_K, 0),
	};
	struct sock_filter reply[] = {
		BPF_STMT(BPF_LDX | BPF_B | BPF_MSH, 0),
		BPF_STMT(BPF_LD | BPF_B | BPF_IND, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ICMP_ECHOREPLY, 0, 3),
		BPF_STMT(BPF_LD | BPF_H | BPF_IND, 4),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, IDENTIFIER, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, ROOM),
		BPF_STMT(BPF_RET | BPF_K, 0),
	};
	const struct sock_fprog program = {7, is_syn ? syn_ack : reply};
	if (setsockopt(line, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program))
		fail("SO_ATTACH_FILTER");
}

int main(int argc, char **argv)
{
	if (argc != 6)
		return 2;
	is_syn = !strcmp(argv[1], "syn");
	const uint64_t backends = atoi(argv[2]), interval = atoll(argv[4]) * 1000000ull, tick = atoll(argv[5]) * 1000ull;
	port = atoi(argv[3]);
	line = socket(AF_INET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, is_syn ? IPPROTO_TCP : IPPROTO_ICMP);
	const int buffer = 8 << 20;
	if (line < 0 || setsockopt(line, SOL_SOCKET, SO_RCVBUFFORCE, &buffer, sizeof buffer))
		fail("socket");
	filter();

	const uint64_t began = now_ns();
	for (uint64_t started = 0;;) {
		const uint64_t due = (now_ns() - began) * backends / interval;
		while (started < due) {
			const uint64_t count = due - started < BATCH ? due - started : BATCH;
			start(started, count, backends);
			started += count;
		}
		/* Sleeping through the tick collects all its answers at once. */
		const uint64_t pause = tick - (now_ns() - began) % tick;
		const struct timespec wait = {pause / 1000000000, pause % 1000000000};
		struct pollfd poll = {line, POLLIN, 0};
		if (ppoll(&poll, 1, &wait, NULL) > 0)
			take();
	}
}
