//! System calls of both processes: those of their loops, and those that libc may make at any time.

use libc::c_int;

use crate::filter::ArgCondition::{self, Is, Masked, OurPid};
use crate::filter::{ANY, SyscallGroup, SyscallRule};

/// Memory of the allocator. None of it can become executable.
pub(crate) const MEMORY: SyscallGroup = &[
    (libc::SYS_mmap, &[&[NO_CODE]]),
    (libc::SYS_mprotect, &[&[NO_CODE]]),
    (libc::SYS_munmap, ANY),
    (libc::SYS_mremap, ANY),
    (libc::SYS_brk, ANY),
    // Memory that is returned, or of which no page is there yet, and the guards of stacks.
    (
        libc::SYS_madvise,
        &[
            &[Is(2, libc::MADV_DONTNEED)],
            &[Is(2, libc::MADV_FREE)],
            &[Is(2, libc::MADV_HUGEPAGE)],
            &[Is(2, libc::MADV_NOHUGEPAGE)],
            &[Is(2, MADV_GUARD_INSTALL)],
            &[Is(2, MADV_GUARD_REMOVE)],
        ],
    ),
    // Newer allocators name their mappings.
    (libc::SYS_prctl, &[&[Is(0, PR_SET_VMA)]]),
];

/// Waits and wake-ups.
pub(crate) const WAITING: SyscallGroup = &[
    (libc::SYS_epoll_ctl, ANY),
    (libc::SYS_epoll_pwait, ANY),
    (libc::SYS_epoll_pwait2, ANY),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_epoll_wait, ANY),
    // The waits and wake-ups of locks and threads. The others, those of priority inheritance above all, have had many defects.
    (
        libc::SYS_futex,
        &[&[futex(libc::FUTEX_WAIT)], &[futex(libc::FUTEX_WAKE)], &[futex(libc::FUTEX_WAIT_BITSET)]],
    ),
    (libc::SYS_sched_yield, ANY),
    // The kernel restarts an interrupted wait with it after SIGSTOP and SIGCONT.
    (libc::SYS_restart_syscall, ANY),
];

/// Clocks and randomness without vDSO, ids, and the number of usable CPUs, which the allocator reads under memory pressure.
pub(crate) const LOOKING: SyscallGroup = &[
    (libc::SYS_clock_gettime, ANY),
    (libc::SYS_clock_getres, ANY),
    (libc::SYS_gettimeofday, ANY),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_time, ANY),
    (libc::SYS_getrandom, ANY),
    (libc::SYS_sched_getaffinity, ANY),
    (libc::SYS_getcpu, ANY),
    (libc::SYS_getpid, ANY),
    (libc::SYS_gettid, ANY),
    (libc::SYS_getuid, ANY),
    (libc::SYS_geteuid, ANY),
    (libc::SYS_getgid, ANY),
    (libc::SYS_getegid, ANY),
];

/// Reads, writes and closes of open descriptors, including the log.
pub(crate) const OPEN_FILES: SyscallGroup = &[
    (libc::SYS_read, ANY),
    (libc::SYS_readv, ANY),
    (libc::SYS_write, ANY),
    (libc::SYS_writev, ANY),
    (libc::SYS_recvfrom, ANY),
    (libc::SYS_recvmsg, ANY),
    (libc::SYS_sendto, ANY),
    (libc::SYS_sendmsg, ANY),
    (libc::SYS_fstat, ANY),
    (libc::SYS_close, ANY),
    // The test for a terminal only. TIOCSTI, which injects input, is excluded.
    (libc::SYS_ioctl, &[&[Is(1, TCGETS)], &[Is(1, TCGETS2)]]),
];

/// Normal and abnormal exit: signal handlers with their stack, and `abort`, which may signal this process only.
pub(crate) const ENDING: SyscallGroup = &[
    (libc::SYS_exit_group, ANY),
    (libc::SYS_exit, ANY),
    (libc::SYS_rt_sigreturn, ANY),
    (libc::SYS_rt_sigaction, ANY),
    (libc::SYS_rt_sigprocmask, ANY),
    (libc::SYS_sigaltstack, ANY),
    (libc::SYS_tgkill, &[&[OurPid(0)]]),
];

/// Matches `socket` of this family and type, with any flags of the type.
pub(crate) const fn of_type(family: c_int, kind: c_int) -> [ArgCondition; 2] {
    [Is(0, family), Masked(1, !(libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC), kind)]
}

/// Matches `setsockopt` or `getsockopt` of this option.
pub(crate) const fn option(level: c_int, name: c_int) -> [ArgCondition; 2] {
    [Is(1, level), Is(2, name)]
}

/// Sockets for datagrams to systemd, such as those of sd_notify(3).
pub(crate) const NOTIFY: SyscallRule = (libc::SYS_socket, &[&of_type(libc::AF_UNIX, libc::SOCK_DGRAM)]);

/// Matches this operation of `futex`, among threads or processes, with either clock.
const fn futex(operation: c_int) -> ArgCondition {
    Masked(1, !(libc::FUTEX_PRIVATE_FLAG | libc::FUTEX_CLOCK_REALTIME), operation)
}

/// Matches mappings that are not executable.
pub(crate) const NO_CODE: ArgCondition = Masked(2, libc::PROT_EXEC, 0);

const PR_SET_VMA: c_int = 0x5356_4d41;
const MADV_GUARD_INSTALL: c_int = 102;
const MADV_GUARD_REMOVE: c_int = 103;
const TCGETS: c_int = 0x5401;
/// Replacement of `TCGETS` in newer versions of libc.
const TCGETS2: c_int = 0x802c_542a_u32.cast_signed();
