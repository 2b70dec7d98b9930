//! `maglevd-prober`, which reads what strangers send: it may probe over TCP, go on with the raw sockets that it has,
//! and talk to its controller. What it has no use for ends it, and the kernel's log says which call it was.

use seccompiler::SeccompAction;

use crate::both::{ENDING, LOOKING, MEMORY, NOTIFY, OPEN_FILES, WAITING, of_type, option};
use crate::files;
use crate::filter::{ANY, Arg, Arg::Is, Filter, Group};
use crate::{Error, Report};

/// Confines this process for good. It must have its sockets and its certificates, and hold no privilege any more;
/// it must have one thread.
///
/// # Errors
/// The kernel does not take it.
pub fn enter() -> Result<Report, Error> {
    let status = files::nothing()?;
    let refused = Filter {
        groups: &[NAMES],
        listed: SeccompAction::Errno(libc::EACCES.cast_unsigned()),
        others: SeccompAction::Allow,
    };
    refused.install()?;
    let filter = Filter {
        groups: &[MEMORY, WAITING, LOOKING, OPEN_FILES, ENDING, PROBES, CONTROLLER, NAMES],
        listed: SeccompAction::Allow,
        others: SeccompAction::KillProcess,
    };
    let calls = filter.len();
    filter.install()?;
    Ok(Report::new(calls, &status))
}

/// Probes: connections over TCP, and echo requests and SYNs through the raw sockets that are open. No option with which a raw
/// socket would take forged headers, another interface or another kernel filter.
const PROBES: Group = &[
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
    // To a source address, and of raw sockets to one at which they hear nothing; nothing can listen.
    (libc::SYS_bind, ANY),
    (libc::SYS_connect, ANY),
    // From which address a SYN would go out.
    (libc::SYS_getsockname, ANY),
    (libc::SYS_getsockopt, &[&option(libc::SOL_SOCKET, libc::SO_ERROR)]),
    (libc::SYS_sendmmsg, ANY),
    (libc::SYS_recvmmsg, ANY),
];

/// The controller, who may come again, and systemd.
const CONTROLLER: Group = &[
    (libc::SYS_accept4, ANY),
    (
        libc::SYS_getsockopt,
        &[&option(libc::SOL_SOCKET, libc::SO_TYPE), &option(libc::SOL_SOCKET, libc::SO_PEERCRED)],
    ),
    (libc::SYS_fcntl, &[&[Is(1, libc::F_GETFD)], &[Is(1, libc::F_GETFL)], &[Is(1, libc::F_SETFL)]]),
    NOTIFY,
];

/// Files by name, to be read: nothing is had. The libraries may look for something when memory is short or a panic
/// is told, and go on without. To open one for writing has no such excuse.
const NAMES: Group = &[
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

const fn tcp(family: libc::c_int) -> [Arg; 3] {
    let [family, kind] = of_type(family, libc::SOCK_STREAM);
    [family, kind, Is(2, libc::IPPROTO_TCP)]
}

/// The flags of an `open` that changes nothing.
const fn reading(flags: u8) -> Arg {
    Arg::Masked(flags, libc::O_ACCMODE | libc::O_CREAT | libc::O_TRUNC, libc::O_RDONLY)
}
