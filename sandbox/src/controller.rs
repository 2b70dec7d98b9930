//! Sandbox of `maglevd`, which reads input of operators, the prober and VPP: its open listeners, unix sockets, reads of
//! files, and writes below its state directory.
//!
//! Unlike in the prober, an unlisted call only fails: NSS modules run inside the process for user lookups, and their calls
//! are not known. Calls that only an attacker makes kill the process.

use std::path::Path;

use seccompiler::SeccompAction;

use crate::both::{ENDING, LOOKING, MEMORY, OPEN_FILES, WAITING, of_type, option};
use crate::files;
use crate::filter::ArgCondition::{Is, Masked};
use crate::filter::{ANY, FilterSpec, SyscallGroup};
use crate::{Error, SandboxReport};

/// Enters the sandbox irreversibly, for this thread and its descendants. So it must be the only thread. The listeners must be
/// bound, and `state_dir`, the only writable directory, must exist.
///
/// # Errors
/// The kernel rejects it.
pub fn enter(state_dir: Option<&Path>) -> Result<SandboxReport, Error> {
    let status = files::reading(state_dir)?;
    let deadly = FilterSpec {
        groups: &[PROCESSES, MACHINE, IDENTITY, PACKETS],
        listed: SeccompAction::KillProcess,
        others: SeccompAction::Allow,
    };
    deadly.install()?;
    let filter = FilterSpec {
        groups: &[MEMORY, WAITING, LOOKING, OPEN_FILES, ENDING, THREADS, RUNTIME, LINKS, FILES],
        listed: SeccompAction::Allow,
        others: SeccompAction::Errno(libc::EPERM.cast_unsigned()),
    };
    let calls = filter.len();
    filter.install()?;
    Ok(SandboxReport::new(calls, &status))
}

/// Threads of this process.
const THREADS: SyscallGroup = &[
    (libc::SYS_clone, &[&[Masked(0, libc::CLONE_THREAD | NAMESPACES, libc::CLONE_THREAD)]]),
    (libc::SYS_set_robust_list, ANY),
    (libc::SYS_rseq, ANY),
    (libc::SYS_prctl, &[&[Is(0, libc::PR_SET_NAME)], &[Is(0, libc::PR_GET_NAME)]]),
    (libc::SYS_nanosleep, ANY),
    (libc::SYS_clock_nanosleep, ANY),
    (libc::SYS_membarrier, ANY),
    (libc::SYS_sched_getscheduler, ANY),
    (libc::SYS_sched_getparam, ANY),
];

/// The tokio runtime, its waits, and the data of process metrics.
const RUNTIME: SyscallGroup = &[
    (libc::SYS_epoll_create1, ANY),
    (libc::SYS_eventfd2, ANY),
    (libc::SYS_timerfd_create, ANY),
    (libc::SYS_timerfd_settime, ANY),
    (libc::SYS_pipe2, ANY),
    (libc::SYS_ppoll, ANY),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_poll, ANY),
    (
        libc::SYS_fcntl,
        &[
            &[Is(1, libc::F_DUPFD)],
            &[Is(1, libc::F_DUPFD_CLOEXEC)],
            &[Is(1, libc::F_GETFD)],
            &[Is(1, libc::F_SETFD)],
            &[Is(1, libc::F_GETFL)],
            &[Is(1, libc::F_SETFL)],
            &[Is(1, libc::F_GETLK)],
            &[Is(1, libc::F_SETLK)],
            &[Is(1, libc::F_SETLKW)],
        ],
    ),
    (libc::SYS_dup, ANY),
    (libc::SYS_dup3, ANY),
    (libc::SYS_close_range, ANY),
    (libc::SYS_ioctl, &[&[Is(1, FIONBIO)], &[Is(1, FIONREAD)]]),
    (libc::SYS_uname, ANY),
    (libc::SYS_sysinfo, ANY),
    (libc::SYS_getrusage, ANY),
    // Limits of this process only, as 0 is.
    (libc::SYS_prlimit64, &[&[Is(0, 0)]]),
    (libc::SYS_getppid, ANY),
    (libc::SYS_getgroups, ANY),
    (libc::SYS_getresuid, ANY),
    (libc::SYS_getresgid, ANY),
];

/// Clients of the open listeners; VPP, the prober, systemd and NSS over unix sockets.
const LINKS: SyscallGroup = &[
    (libc::SYS_socket, &[&[Is(0, libc::AF_UNIX)]]),
    (libc::SYS_socketpair, &[&[Is(0, libc::AF_UNIX)]]),
    (libc::SYS_connect, ANY),
    (libc::SYS_accept4, ANY),
    (libc::SYS_getsockname, ANY),
    (libc::SYS_getpeername, ANY),
    (libc::SYS_getsockopt, ANY),
    (
        libc::SYS_setsockopt,
        &[
            &option(libc::SOL_SOCKET, libc::SO_RCVTIMEO),
            &option(libc::SOL_SOCKET, libc::SO_SNDTIMEO),
            &option(libc::SOL_SOCKET, libc::SO_SNDBUF),
            &option(libc::SOL_SOCKET, libc::SO_KEEPALIVE),
            &option(libc::SOL_TCP, libc::TCP_NODELAY),
            &option(libc::SOL_TCP, libc::TCP_KEEPIDLE),
            &option(libc::SOL_TCP, libc::TCP_KEEPINTVL),
            &option(libc::SOL_TCP, libc::TCP_KEEPCNT),
            &option(libc::SOL_TCP, libc::TCP_USER_TIMEOUT),
        ],
    ),
    (libc::SYS_shutdown, ANY),
    (libc::SYS_sendmmsg, ANY),
    (libc::SYS_recvmmsg, ANY),
];

/// Files: the configuration, VPP's counters, and the state directory. Landlock limits the paths.
const FILES: SyscallGroup = &[
    (libc::SYS_openat, ANY),
    (libc::SYS_newfstatat, ANY),
    (libc::SYS_statx, ANY),
    (libc::SYS_fstatfs, ANY),
    (libc::SYS_statfs, ANY),
    (libc::SYS_faccessat, ANY),
    (libc::SYS_faccessat2, ANY),
    (libc::SYS_readlinkat, ANY),
    (libc::SYS_getdents64, ANY),
    (libc::SYS_getcwd, ANY),
    (libc::SYS_lseek, ANY),
    (libc::SYS_pread64, ANY),
    (libc::SYS_pwrite64, ANY),
    (libc::SYS_fadvise64, ANY),
    (libc::SYS_ftruncate, ANY),
    (libc::SYS_fallocate, ANY),
    (libc::SYS_fsync, ANY),
    (libc::SYS_fdatasync, ANY),
    (libc::SYS_flock, ANY),
    (libc::SYS_fchmod, ANY),
    (libc::SYS_fchmodat, ANY),
    (libc::SYS_mkdirat, ANY),
    (libc::SYS_unlinkat, ANY),
    (libc::SYS_linkat, ANY),
    (RENAMEAT, ANY),
    (libc::SYS_renameat2, ANY),
    (libc::SYS_umask, ANY),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_open, ANY),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_stat, ANY),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_lstat, ANY),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_access, ANY),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_readlink, ANY),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_rename, ANY),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_link, ANY),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_unlink, ANY),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_rmdir, ANY),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_mkdir, ANY),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_chmod, ANY),
];

/// Deadly: execution of programs, and memory of other processes.
const PROCESSES: SyscallGroup = &[
    (libc::SYS_execve, ANY),
    (libc::SYS_execveat, ANY),
    (libc::SYS_clone, &[&[Masked(0, libc::CLONE_THREAD, 0)]]),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_fork, ANY),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_vfork, ANY),
    (libc::SYS_ptrace, ANY),
    (libc::SYS_process_vm_readv, ANY),
    (libc::SYS_process_vm_writev, ANY),
    (libc::SYS_process_madvise, ANY),
    (libc::SYS_pidfd_getfd, ANY),
    (libc::SYS_kcmp, ANY),
];

/// Deadly: kernel interfaces with a large attack surface, mounts, and administration.
const MACHINE: SyscallGroup = &[
    (libc::SYS_bpf, ANY),
    (libc::SYS_perf_event_open, ANY),
    (libc::SYS_userfaultfd, ANY),
    (libc::SYS_io_uring_setup, ANY),
    (libc::SYS_io_uring_enter, ANY),
    (libc::SYS_io_uring_register, ANY),
    (libc::SYS_keyctl, ANY),
    (libc::SYS_add_key, ANY),
    (libc::SYS_request_key, ANY),
    (libc::SYS_mount, ANY),
    (libc::SYS_umount2, ANY),
    (libc::SYS_pivot_root, ANY),
    (libc::SYS_chroot, ANY),
    (libc::SYS_open_tree, ANY),
    (libc::SYS_move_mount, ANY),
    (libc::SYS_fsopen, ANY),
    (libc::SYS_fsconfig, ANY),
    (libc::SYS_fsmount, ANY),
    (libc::SYS_fspick, ANY),
    (libc::SYS_mount_setattr, ANY),
    (libc::SYS_setns, ANY),
    (libc::SYS_unshare, ANY),
    (libc::SYS_open_by_handle_at, ANY),
    (libc::SYS_mknodat, ANY),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_mknod, ANY),
    (libc::SYS_init_module, ANY),
    (libc::SYS_finit_module, ANY),
    (libc::SYS_delete_module, ANY),
    (libc::SYS_kexec_load, ANY),
    (libc::SYS_kexec_file_load, ANY),
    (libc::SYS_reboot, ANY),
    (libc::SYS_swapon, ANY),
    (libc::SYS_swapoff, ANY),
    (libc::SYS_acct, ANY),
    (libc::SYS_settimeofday, ANY),
    (libc::SYS_clock_settime, ANY),
    (libc::SYS_sethostname, ANY),
    (libc::SYS_setdomainname, ANY),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_iopl, ANY),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_ioperm, ANY),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_modify_ldt, ANY),
];

/// Deadly: changes of identity.
const IDENTITY: SyscallGroup = &[
    (libc::SYS_setuid, ANY),
    (libc::SYS_setgid, ANY),
    (libc::SYS_setreuid, ANY),
    (libc::SYS_setregid, ANY),
    (libc::SYS_setresuid, ANY),
    (libc::SYS_setresgid, ANY),
    (libc::SYS_setfsuid, ANY),
    (libc::SYS_setfsgid, ANY),
    (libc::SYS_setgroups, ANY),
    (libc::SYS_capset, ANY),
    (libc::SYS_prctl, &[&[Is(0, libc::PR_SET_DUMPABLE)], &[Is(0, libc::PR_SET_MM)]]),
];

/// Deadly: forged packets.
const PACKETS: SyscallGroup = &[(
    libc::SYS_socket,
    &[
        &of_type(libc::AF_INET, libc::SOCK_RAW),
        &of_type(libc::AF_INET6, libc::SOCK_RAW),
        &[Is(0, libc::AF_PACKET)],
    ],
)];

/// Namespaces that a new thread could enter.
const NAMESPACES: libc::c_int = libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET;

#[cfg(target_arch = "x86_64")]
const RENAMEAT: libc::c_long = libc::SYS_renameat;
/// Number of `renameat` on arm64, which `libc` does not define.
#[cfg(target_arch = "aarch64")]
const RENAMEAT: libc::c_long = 38;

const FIONBIO: libc::c_int = 0x5421;
const FIONREAD: libc::c_int = 0x541b;
