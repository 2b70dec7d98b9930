/* Preloaded into keepalived on kernels without IP_VS: accepts every IP_VS request.
 *
 * keepalived exits at start without IP_VS. Its checkers do not use it: only changes of a server do, so the cost of a
 * probe is the same. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

/* Range of IP_VS options of IPPROTO_IP in the kernel's ip_vs.h, and the first one that reads. */
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
		/* Version, table size and number of services. */
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
