//! Rules of the controller.

use std::fs;
use std::net::TcpListener;
use std::path::Path;

use nix::errno::Errno;
use nix::libc::{self, c_int};

use super::{CallResult, CallRow, assert_calls, attempt, attempt_in, skip_before_landlock};

const CONTROLLER: &str = "controller";

const FLAGS: c_int = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
const EXECUTABLE: c_int = libc::PROT_READ | libc::PROT_EXEC;

#[test]
fn only_unix_sockets_are_allowed() {
    assert_calls(
        CONTROLLER,
        CallResult::Allowed,
        &[
            ("VPP's API", libc::SYS_socket, &[libc::AF_UNIX, libc::SOCK_STREAM | FLAGS, 0]),
            ("the prober's", libc::SYS_socket, &[libc::AF_UNIX, libc::SOCK_SEQPACKET, 0]),
            ("options of a client", libc::SYS_setsockopt, &[-1, libc::SOL_TCP, libc::TCP_NODELAY]),
            ("who a client is", libc::SYS_getsockopt, &[-1, libc::SOL_SOCKET, libc::SO_PEERCRED]),
        ],
    );
    assert_calls(
        CONTROLLER,
        CallResult::Refused(Errno::EPERM),
        &[
            ("TCP", libc::SYS_socket, &[libc::AF_INET, libc::SOCK_STREAM, 0]),
            ("TCP over IPv6", libc::SYS_socket, &[libc::AF_INET6, libc::SOCK_STREAM | FLAGS, 0]),
            ("UDP", libc::SYS_socket, &[libc::AF_INET, libc::SOCK_DGRAM, 0]),
            ("netlink", libc::SYS_socket, &[libc::AF_NETLINK, libc::SOCK_RAW, 0]),
            ("hypervisor", libc::SYS_socket, &[libc::AF_VSOCK, libc::SOCK_STREAM, 0]),
            ("bind", libc::SYS_bind, &[]),
            ("listen", libc::SYS_listen, &[]),
            ("foreign addresses", libc::SYS_setsockopt, &[-1, libc::SOL_IP, libc::IP_TRANSPARENT]),
        ],
    );
    assert_calls(
        CONTROLLER,
        CallResult::Killed,
        &[
            ("raw", libc::SYS_socket, &[libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP]),
            ("raw IPv6", libc::SYS_socket, &[libc::AF_INET6, libc::SOCK_RAW | FLAGS, libc::IPPROTO_ICMPV6]),
            ("packets", libc::SYS_socket, &[libc::AF_PACKET, libc::SOCK_DGRAM, 0]),
        ],
    );
}

#[test]
fn connect_is_refused() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = server.local_addr().unwrap().port().to_string();
    assert_eq!(attempt(CONTROLLER, &["connect", &port]), CallResult::Refused(Errno::EPERM));
}

#[test]
fn threads_are_allowed_and_processes_are_not() {
    assert_eq!(attempt(CONTROLLER, &["thread"]), CallResult::Allowed);
    assert_calls(CONTROLLER, CallResult::Refused(Errno::ENOSYS), &[("clone3", libc::SYS_clone3, &[])]);
    assert_calls(
        CONTROLLER,
        CallResult::Refused(Errno::EPERM),
        &[
            ("a thread elsewhere", libc::SYS_clone, &[libc::CLONE_THREAD | libc::CLONE_NEWNET]),
            ("kill", libc::SYS_kill, &[1, 0]),
            ("a signal to another process", libc::SYS_tgkill, &[1, 1, 0]),
        ],
    );
    let rows: &[CallRow<'_>] =
        &[("process_madvise", libc::SYS_process_madvise, &[]), ("kcmp", libc::SYS_kcmp, &[])];
    assert_calls(CONTROLLER, CallResult::Killed, rows);
}

#[test]
fn changing_identity_kills() {
    let rows: &[CallRow<'_>] = &[
        ("setgid", libc::SYS_setgid, &[]),
        ("setreuid", libc::SYS_setreuid, &[]),
        ("setregid", libc::SYS_setregid, &[]),
        ("setresuid", libc::SYS_setresuid, &[]),
        ("setresgid", libc::SYS_setresgid, &[]),
        ("setfsuid", libc::SYS_setfsuid, &[]),
        ("setfsgid", libc::SYS_setfsgid, &[]),
        ("setgroups", libc::SYS_setgroups, &[]),
        ("the memory map", libc::SYS_prctl, &[libc::PR_SET_MM]),
    ];
    assert_calls(CONTROLLER, CallResult::Killed, rows);
    assert_calls(
        CONTROLLER,
        CallResult::Refused(Errno::EPERM),
        &[
            ("ambient capabilities", libc::SYS_prctl, &[libc::PR_CAP_AMBIENT]),
            ("another filter", libc::SYS_seccomp, &[]),
            ("memfd_create", libc::SYS_memfd_create, &[]),
        ],
    );
}

/// A name service module that is not yet loaded cannot be mapped; the lookup then fails without a crash.
#[test]
fn executable_memory_is_denied() {
    let mapping = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    assert_calls(
        CONTROLLER,
        CallResult::Refused(Errno::EPERM),
        &[
            ("executable", libc::SYS_mmap, &[0, 4096, EXECUTABLE, mapping, -1, 0]),
            ("made executable", libc::SYS_mprotect, &[0, 0, EXECUTABLE]),
        ],
    );
    assert_eq!(attempt(CONTROLLER, &["user"]), CallResult::Allowed);
}

#[test]
fn only_state_directory_is_writable() {
    let dir = tempfile::tempdir().unwrap();
    let (state, other) = (dir.path().join("state"), dir.path().join("other"));
    for directory in [&state, &other] {
        fs::create_dir(directory).unwrap();
        fs::write(directory.join("file"), "old").unwrap();
    }
    let name = |directory: &Path| directory.join("file").to_str().unwrap().to_owned();
    for file in [&name(&state), &name(&other), "/etc/passwd", "/proc/self/stat"] {
        assert_eq!(attempt_in(&state, CONTROLLER, &["read", file]), CallResult::Allowed, "{file}");
    }
    assert_eq!(attempt_in(&state, CONTROLLER, &["list", "/proc/self/fd"]), CallResult::Allowed);
    assert_eq!(attempt_in(&state, CONTROLLER, &["replace", &name(&state)]), CallResult::Allowed);
    assert_eq!(fs::read(state.join("file")).unwrap(), b"new");
    if skip_before_landlock(1, "only_state_directory_is_writable") {
        return;
    }
    for what in ["replace", "overwrite"] {
        let end = attempt_in(&state, CONTROLLER, &[what, &name(&other)]);
        assert_eq!(end, CallResult::Refused(Errno::EACCES), "{what}");
        let end = attempt(CONTROLLER, &[what, &name(&state)]);
        assert_eq!(end, CallResult::Refused(Errno::EACCES), "{what} without a state directory");
    }
    assert_eq!(fs::read(other.join("file")).unwrap(), b"old");
}

#[test]
fn limits_of_other_processes_are_out_of_reach() {
    let limit = |process: c_int| ("prlimit64", libc::SYS_prlimit64, [process, 7, 0, 0]);
    for (process, result) in [(0, CallResult::Allowed), (1, CallResult::Refused(Errno::EPERM))] {
        let (name, number, arguments) = limit(process);
        assert_calls(CONTROLLER, result, &[(name, number, &arguments)]);
    }
}
