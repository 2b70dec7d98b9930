//! Sandbox of `maglevd-prober`, which reads untrusted replies: TCP connections, its open raw sockets, and the link to the
//! controller. Any other call kills the process, and the kernel's log names the call.

use seccompiler::SeccompAction;

use crate::both::{ENDING, LOOKING, MEMORY, NOTIFY, OPEN_FILES, WAITING, of_type, option};
use crate::files;
use crate::filter::ArgCondition::{self, Is};
use crate::filter::{ANY, FilterSpec, SyscallGroup};
use crate::{Error, SandboxReport};

/// Enters the sandbox irreversibly. The process must have opened its sockets, loaded its certificates and dropped its
/// privilege, and must have one thread.
///
/// # Errors
/// The kernel rejects it.
pub fn enter() -> Result<SandboxReport, Error> {
    let status = files::nothing()?;
    let refused = FilterSpec {
        groups: &[NAMES],
        listed: SeccompAction::Errno(libc::EACCES.cast_unsigned()),
        others: SeccompAction::Allow,
    };
    refused.install()?;
    let filter = FilterSpec {
        groups: &[MEMORY, WAITING, LOOKING, OPEN_FILES, ENDING, PROBES, CONTROLLER, NAMES],
        listed: SeccompAction::Allow,
        others: SeccompAction::KillProcess,
    };
    let calls = filter.len();
    filter.install()?;
    Ok(SandboxReport::new(calls, &status))
}

/// Probes: TCP connections, and echo requests and SYNs through the open raw sockets. Socket options that would allow forged
/// headers, another interface or another BPF filter are excluded.
const PROBES: SyscallGroup = &[
    (libc::SYS_socket, &[&tcp(libc::AF_INET), &tcp(libc::AF_INET6)]),
    (
        libc::SYS_setsockopt,
        &[
            &option(libc::SOL_IP, libc::IP_RECVERR),
            &option(libc::SOL_IPV6, libc::IPV6_RECVERR),
            &option(libc::SOL_SOCKET, libc::SO_LINGER),
            &option(libc::SOL_TCP, libc::TCP_QUICKACK),
            &option(libc::SOL_IP, libc::IP_BIND_ADDRESS_NO_PORT),
        ],
    ),
    // Binds to source addresses, and of raw sockets to an address without traffic. `listen` is excluded.
    (libc::SYS_bind, ANY),
    (libc::SYS_connect, ANY),
    // Finds the source address of a SYN.
    (libc::SYS_getsockname, ANY),
    (libc::SYS_getsockopt, &[&option(libc::SOL_SOCKET, libc::SO_ERROR)]),
    (libc::SYS_sendmmsg, ANY),
    (libc::SYS_recvmmsg, ANY),
];

/// The controller, which may reconnect, and systemd.
const CONTROLLER: SyscallGroup = &[
    (libc::SYS_accept4, ANY),
    (
        libc::SYS_getsockopt,
        &[&option(libc::SOL_SOCKET, libc::SO_TYPE), &option(libc::SOL_SOCKET, libc::SO_PEERCRED)],
    ),
    (libc::SYS_fcntl, &[&[Is(1, libc::F_GETFD)], &[Is(1, libc::F_GETFL)], &[Is(1, libc::F_SETFL)]]),
    NOTIFY,
];

/// Files by name, for reading: refused with `EACCES`. Libraries may try it under memory pressure or during a panic, and
/// continue without the file. An attempt to write has no such reason and kills.
const NAMES: SyscallGroup = &[
    (libc::SYS_openat, &[&[reading(2)]]),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_open, &[&[reading(1)]]),
    (libc::SYS_newfstatat, ANY),
    (libc::SYS_statx, ANY),
    (libc::SYS_readlinkat, ANY),
    (libc::SYS_getcwd, ANY),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_stat, ANY),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_readlink, ANY),
];

const fn tcp(family: libc::c_int) -> [ArgCondition; 3] {
    let [family, kind] = of_type(family, libc::SOCK_STREAM);
    [family, kind, Is(2, libc::IPPROTO_TCP)]
}

/// Matches the flags of an `open` for reading.
const fn reading(flags: u8) -> ArgCondition {
    ArgCondition::Masked(flags, libc::O_ACCMODE | libc::O_CREAT | libc::O_TRUNC, libc::O_RDONLY)
}
