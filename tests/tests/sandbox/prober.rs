//! Rules of the prober.

use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;

use nix::errno::Errno;
use nix::libc::{self, c_int};

use super::{CallResult, CallRow, assert_calls, attempt, call_result, confined, skip_before_landlock};

const PROBER: &str = "prober";

const FLAGS: c_int = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
const IPV6_HDRINCL: c_int = 36;
const EXECUTABLE: c_int = libc::PROT_READ | libc::PROT_EXEC;

const fn socket<'a>(name: &'a str, arguments: &'a [c_int; 3]) -> CallRow<'a> {
    (name, libc::SYS_socket, arguments)
}

const fn option<'a>(name: &'a str, arguments: &'a [c_int; 3]) -> CallRow<'a> {
    (name, libc::SYS_setsockopt, arguments)
}

#[test]
fn only_probe_sockets_are_allowed() {
    assert_calls(
        PROBER,
        CallResult::Allowed,
        &[
            socket("TCP over IPv4", &[libc::AF_INET, libc::SOCK_STREAM, libc::IPPROTO_TCP]),
            socket("TCP over IPv6", &[libc::AF_INET6, libc::SOCK_STREAM | FLAGS, libc::IPPROTO_TCP]),
            socket("systemd's", &[libc::AF_UNIX, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0]),
            ("the address of its own end", libc::SYS_getsockname, &[-1]),
        ],
    );
    assert_calls(
        PROBER,
        CallResult::Killed,
        &[
            socket("raw", &[libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP]),
            socket("raw IPv6", &[libc::AF_INET6, libc::SOCK_RAW | FLAGS, libc::IPPROTO_ICMPV6]),
            socket("raw with headers", &[libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_RAW]),
            socket("UDP", &[libc::AF_INET, libc::SOCK_DGRAM, 0]),
            socket("ping", &[libc::AF_INET, libc::SOCK_DGRAM, libc::IPPROTO_ICMP]),
            socket("SCTP", &[libc::AF_INET, libc::SOCK_STREAM, libc::IPPROTO_SCTP]),
            socket("MPTCP", &[libc::AF_INET, libc::SOCK_STREAM, libc::IPPROTO_MPTCP]),
            socket("packets", &[libc::AF_PACKET, libc::SOCK_RAW, 0]),
            socket("netlink", &[libc::AF_NETLINK, libc::SOCK_RAW, 0]),
            socket("a stream to another process", &[libc::AF_UNIX, libc::SOCK_STREAM, 0]),
            socket("hypervisor", &[libc::AF_VSOCK, libc::SOCK_STREAM, 0]),
            socket("crypto", &[libc::AF_ALG, libc::SOCK_SEQPACKET, 0]),
            ("a pair", libc::SYS_socketpair, &[libc::AF_UNIX, libc::SOCK_STREAM, 0]),
            ("listen", libc::SYS_listen, &[0, 1]),
        ],
    );
}

#[test]
fn only_probe_socket_options_are_allowed() {
    assert_calls(
        PROBER,
        CallResult::Allowed,
        &[
            option("errors at once", &[-1, libc::SOL_IP, libc::IP_RECVERR]),
            option("errors at once, IPv6", &[-1, libc::SOL_IPV6, libc::IPV6_RECVERR]),
            option("reset on close", &[-1, libc::SOL_SOCKET, libc::SO_LINGER]),
            option("no needless segment", &[-1, libc::SOL_TCP, libc::TCP_QUICKACK]),
            option("a port later", &[-1, libc::SOL_IP, libc::IP_BIND_ADDRESS_NO_PORT]),
        ],
    );
    assert_calls(
        PROBER,
        CallResult::Killed,
        &[
            option("forged headers", &[-1, libc::SOL_IP, libc::IP_HDRINCL]),
            option("forged headers, IPv6", &[-1, libc::SOL_IPV6, IPV6_HDRINCL]),
            option("mark", &[-1, libc::SOL_SOCKET, libc::SO_MARK]),
            option("foreign addresses", &[-1, libc::SOL_IP, libc::IP_TRANSPARENT]),
            option("foreign addresses, IPv6", &[-1, libc::SOL_IPV6, libc::IPV6_TRANSPARENT]),
            option("addresses that are not there", &[-1, libc::SOL_IP, libc::IP_FREEBIND]),
            option("an interface", &[-1, libc::SOL_SOCKET, libc::SO_BINDTODEVICE]),
            option("another filter", &[-1, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER]),
            option("an eBPF filter", &[-1, libc::SOL_SOCKET, libc::SO_ATTACH_BPF]),
            option("no filter", &[-1, libc::SOL_SOCKET, libc::SO_DETACH_FILTER]),
            // Same numbers as other options at this level.
            option("options in headers", &[-1, libc::SOL_IP, libc::IP_OPTIONS]),
            option("the same number at another level", &[-1, libc::SOL_TCP, libc::IP_RECVERR]),
            ("read another option", libc::SYS_getsockopt, &[-1, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER]),
        ],
    );
}

#[test]
fn process_control_kills() {
    let rows: &[CallRow<'_>] = &[
        ("a thread", libc::SYS_clone, &[libc::CLONE_THREAD | libc::CLONE_SIGHAND | libc::CLONE_VM]),
        ("pidfd_open", libc::SYS_pidfd_open, &[]),
        ("kill", libc::SYS_kill, &[1, 0]),
        ("a signal to another process", libc::SYS_tgkill, &[1, 1, 0]),
        ("prlimit64", libc::SYS_prlimit64, &[1]),
        ("capabilities", libc::SYS_prctl, &[libc::PR_CAP_AMBIENT]),
        ("another filter", libc::SYS_seccomp, &[]),
    ];
    assert_calls(PROBER, CallResult::Killed, rows);
}

#[test]
fn unneeded_calls_kill() {
    let rows: &[CallRow<'_>] = &[
        ("memfd_create", libc::SYS_memfd_create, &[]),
        ("shmget", libc::SYS_shmget, &[]),
        ("splice", libc::SYS_splice, &[]),
        ("typing into a terminal", libc::SYS_ioctl, &[0, 0x5412]),
        ("moving a descriptor", libc::SYS_fcntl, &[0, libc::F_DUPFD]),
        ("a signal on input", libc::SYS_fcntl, &[0, libc::F_SETOWN]),
        ("dup3", libc::SYS_dup3, &[]),
    ];
    assert_calls(PROBER, CallResult::Killed, rows);
}

#[test]
fn executable_memory_is_denied() {
    let mapping = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    let writable = libc::PROT_READ | libc::PROT_WRITE;
    assert_calls(
        PROBER,
        CallResult::Allowed,
        &[
            ("mmap", libc::SYS_mmap, &[0, 4096, writable, mapping, -1, 0]),
            ("mprotect", libc::SYS_mprotect, &[0, 0, writable]),
        ],
    );
    assert_calls(
        PROBER,
        CallResult::Killed,
        &[
            ("executable", libc::SYS_mmap, &[0, 4096, EXECUTABLE, mapping, -1, 0]),
            ("made executable", libc::SYS_mprotect, &[0, 0, EXECUTABLE]),
            ("made executable by key", libc::SYS_pkey_mprotect, &[0, 0, EXECUTABLE]),
        ],
    );
}

#[test]
fn file_reads_fail_and_writes_kill() {
    for what in ["read", "list"] {
        assert_eq!(attempt(PROBER, &[what, "/"]), CallResult::Refused(Errno::EACCES), "{what}");
    }
    assert_eq!(attempt(PROBER, &["read", "/etc/passwd"]), CallResult::Refused(Errno::EACCES));
    let rows: &[CallRow<'_>] = &[
        ("newfstatat", libc::SYS_newfstatat, &[]),
        ("statx", libc::SYS_statx, &[]),
        ("readlinkat", libc::SYS_readlinkat, &[]),
        ("getcwd", libc::SYS_getcwd, &[]),
        #[cfg(target_arch = "x86_64")]
        ("open", libc::SYS_open, &[-1, 0]),
    ];
    assert_calls(PROBER, CallResult::Refused(Errno::EACCES), rows);
    assert_eq!(attempt(PROBER, &["overwrite", "/dev/null"]), CallResult::Killed);
    assert_calls(
        PROBER,
        CallResult::Killed,
        &[
            ("create", libc::SYS_openat, &[-1, 0, libc::O_CREAT]),
            ("truncate", libc::SYS_openat, &[-1, 0, libc::O_TRUNC]),
            ("openat2", libc::SYS_openat2, &[]),
            ("unlinkat", libc::SYS_unlinkat, &[]),
            ("renameat2", libc::SYS_renameat2, &[]),
            ("linkat", libc::SYS_linkat, &[]),
            ("mkdirat", libc::SYS_mkdirat, &[]),
            ("fchmod", libc::SYS_fchmod, &[]),
            ("ftruncate", libc::SYS_ftruncate, &[]),
            ("getdents64", libc::SYS_getdents64, &[]),
            ("inotify", libc::SYS_inotify_init1, &[]),
        ],
    );
}

#[test]
fn unknown_newer_calls_return_enosys() {
    assert_calls(
        PROBER,
        CallResult::Refused(Errno::ENOSYS),
        &[
            ("clone3", libc::SYS_clone3, &[]),
            ("the first unknown", 470, &[]),
            ("one of the years to come", 600, &[]),
        ],
    );
    assert_calls(PROBER, CallResult::Killed, &[("the last known", 469, &[])]);
    #[cfg(target_arch = "x86_64")]
    assert_calls(PROBER, CallResult::Killed, &[("getpid of the 32-bit calls", 0x4000_0000 + 39, &[])]);
}

#[test]
fn connect_is_allowed_and_bind_is_not() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = server.local_addr().unwrap().port();
    assert_eq!(attempt(PROBER, &["connect", &port.to_string()]), CallResult::Allowed);
    if skip_before_landlock(4, "connect_is_allowed_and_bind_is_not") {
        return;
    }
    drop(server);
    assert_eq!(attempt(PROBER, &["bind", &port.to_string()]), CallResult::Refused(Errno::EACCES));
}

#[test]
fn only_notify_abstract_socket_is_reachable() {
    let name = format!("maglev-sandbox-{}", std::process::id());
    let _receiver = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    let words = ["abstract", name.as_str()];
    let notified = confined(PROBER, &words).env("NOTIFY_SOCKET", format!("@{name}")).status();
    let end = call_result(notified.unwrap());
    assert_eq!(end, CallResult::Allowed);
    if skip_before_landlock(6, "only_notify_abstract_socket_is_reachable") {
        return;
    }
    assert_eq!(attempt(PROBER, &words), CallResult::Refused(Errno::EPERM));
}

#[test]
fn notify_socket_is_reachable() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notify");
    let _receiver = UnixDatagram::bind(&path).unwrap();
    assert_eq!(attempt(PROBER, &["notify", path.to_str().unwrap()]), CallResult::Allowed);
}

#[test]
fn panic_is_reported_and_not_killed() {
    let mut panic = confined(PROBER, &["panic", "a bug"]);
    let output = panic.env("RUST_BACKTRACE", "full").stderr(Stdio::piped()).output().unwrap();
    assert_eq!(output.status.code(), Some(101));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("a bug"), "{text}");
    let status = confined(PROBER, &["abort"]).status().unwrap();
    assert_eq!(status.signal(), Some(libc::SIGABRT));
}
