/* Loaded into keepalived where the kernel has no IP_VS: says yes to whatever keepalived asks of it.
 *
 * keepalived gives up at its start without IP_VS. Its checkers know nothing of it, and IP_VS is spoken to only when a
 * server is added or changes, so this costs a probe nothing and saves it nothing. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

/* Options of IPPROTO_IP that belong to IP_VS, as in the kernel's ip_vs.h, and the first of those that ask. */
enum { FIRST = 64 + 1024 + 64, LAST = FIRST + 63, INFO = FIRST + 1 };

static int is_ipvs(int level, int option)
{
	return level == IPPROTO_IP && option >= FIRST && option <= LAST;
}

int setsockopt(int fd, int level, int option, const void *value, socklen_t length)
{
	static int (*real)(int, int, int, const void *, socklen_t);
	if (is_ipvs(level, option))
		return 0;
	if (!real)
		real = dlsym(RTLD_NEXT, "setsockopt");
	return real(fd, level, option, value, length);
}

int getsockopt(int fd, int level, int option, void *value, socklen_t *length)
{
	static int (*real)(int, int, int, void *, socklen_t *);
	if (is_ipvs(level, option)) {
		/* The version, the size of the table, and how many services there are. */
		const unsigned info[3] = {0x010201, 4096, 0};
		memset(value, 0, *length);
		if (option == INFO && *length >= sizeof info)
			memcpy(value, info, sizeof info);
		return 0;
	}
	if (!real)
		real = dlsym(RTLD_NEXT, "getsockopt");
	return real(fd, level, option, value, length);
}
