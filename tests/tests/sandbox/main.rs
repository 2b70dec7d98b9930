//! Allowed, refused and deadly calls of a confined process: one row per rule and its neighbours.
#![cfg(test)]

mod controller;
mod prober;
mod processes;

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};

use maglev_lab::programs::program;
use nix::errno::Errno;
use nix::libc::{self, c_int, c_long};
use nix::sys::signal::Signal;

/// Result of an attempt.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum CallResult {
    /// The call succeeds, or fails for reasons unrelated to the sandbox.
    Allowed,
    /// The call fails with this error.
    Refused(Errno),
    /// The call kills the process.
    Killed,
}

/// A system call by number, and its arguments. Missing arguments are -1.
type CallRow<'a> = (&'a str, c_long, &'a [c_int]);

/// Asserts that each of `rows` has the result `end` in that process.
fn assert_calls(who: &str, end: CallResult, rows: &[CallRow<'_>]) {
    for (name, number, arguments) in rows {
        let mut words = vec!["call".to_owned(), number.to_string()];
        words.extend(arguments.iter().map(c_int::to_string));
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        assert_eq!(attempt(who, &words), end, "{who}: {name} {arguments:?}");
    }
}

fn attempt(who: &str, words: &[&str]) -> CallResult {
    call_result(confined(who, words).status().unwrap())
}

fn attempt_in(state: &Path, who: &str, words: &[&str]) -> CallResult {
    call_result(confined(who, words).env("STATE", state).status().unwrap())
}

fn confined(who: &str, words: &[&str]) -> Command {
    let mut command = Command::new(program("confined").unwrap());
    command.arg(who).args(words).stdout(Stdio::null()).stderr(Stdio::null()).env_remove("NOTIFY_SOCKET");
    command
}

fn call_result(status: ExitStatus) -> CallResult {
    match (status.code(), status.signal()) {
        (Some(0), _) => CallResult::Allowed,
        (Some(code), _) => match Errno::from_raw(code) {
            // Other errors are the kernel's answers to invalid arguments.
            errno @ (Errno::EPERM | Errno::EACCES | Errno::ENOSYS) => CallResult::Refused(errno),
            _ => CallResult::Allowed,
        },
        (None, Some(signal)) if signal == Signal::SIGSYS as c_int => CallResult::Killed,
        (None, signal) => panic!("ended by signal {signal:?}"),
    }
}

/// True if this kernel's Landlock is older than ABI `needed`. Prints the skip line that the test runner counts.
fn skip_before_landlock(needed: u32, name: &str) -> bool {
    let output = confined("prober", &["call"]).stdout(Stdio::piped()).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let abi = text.trim().rsplit_once("Landlock ABI ").map_or(0, |(_, abi)| abi.parse().unwrap());
    if abi < needed {
        println!("SKIP {name}: needs Landlock ABI {needed}, and this kernel has {abi}");
    }
    abi < needed
}

/// Operations of two calls that both need, and of those that neither needs.
#[test]
fn only_plain_locks_and_memory_advice_are_allowed() {
    let private = libc::FUTEX_PRIVATE_FLAG;
    let realtime = libc::FUTEX_WAIT_BITSET | private | libc::FUTEX_CLOCK_REALTIME;
    let needed: &[CallRow<'_>] = &[
        ("a wake-up", libc::SYS_futex, &[0, libc::FUTEX_WAKE | private, 1]),
        ("a wait for a thread", libc::SYS_futex, &[0, libc::FUTEX_WAIT, 0]),
        ("a wait with a time limit", libc::SYS_futex, &[0, realtime, 0]),
        ("returned memory", libc::SYS_madvise, &[0, 0, libc::MADV_DONTNEED]),
    ];
    let unneeded: &[CallRow<'_>] = &[
        ("priority inheritance", libc::SYS_futex, &[0, libc::FUTEX_LOCK_PI | private, 0]),
        ("a requeue", libc::SYS_futex, &[0, libc::FUTEX_CMP_REQUEUE, 0]),
        ("a requeue with inheritance", libc::SYS_futex, &[0, libc::FUTEX_WAIT_REQUEUE_PI, 0]),
        ("poisoned memory", libc::SYS_madvise, &[0, 0, libc::MADV_HWPOISON]),
        ("shared pages", libc::SYS_madvise, &[0, 0, libc::MADV_MERGEABLE]),
    ];
    for (who, refused) in [("controller", CallResult::Refused(Errno::EPERM)), ("prober", CallResult::Killed)]
    {
        assert_calls(who, CallResult::Allowed, needed);
        assert_calls(who, refused, unneeded);
    }
}

/// Calls that kill either process: other programs, other processes' memory, administration, and changes of identity.
#[test]
fn forbidden_calls_kill_both() {
    let rows: &[CallRow<'_>] = &[
        ("execve", libc::SYS_execve, &[]),
        ("execveat", libc::SYS_execveat, &[]),
        ("a process", libc::SYS_clone, &[libc::SIGCHLD]),
        #[cfg(target_arch = "x86_64")]
        ("fork", libc::SYS_fork, &[]),
        #[cfg(target_arch = "x86_64")]
        ("vfork", libc::SYS_vfork, &[]),
        ("ptrace", libc::SYS_ptrace, &[]),
        ("process_vm_readv", libc::SYS_process_vm_readv, &[]),
        ("process_vm_writev", libc::SYS_process_vm_writev, &[]),
        ("pidfd_getfd", libc::SYS_pidfd_getfd, &[]),
        ("bpf", libc::SYS_bpf, &[]),
        ("perf_event_open", libc::SYS_perf_event_open, &[]),
        ("userfaultfd", libc::SYS_userfaultfd, &[]),
        ("io_uring_setup", libc::SYS_io_uring_setup, &[]),
        ("io_uring_enter", libc::SYS_io_uring_enter, &[]),
        ("io_uring_register", libc::SYS_io_uring_register, &[]),
        ("keyctl", libc::SYS_keyctl, &[]),
        ("add_key", libc::SYS_add_key, &[]),
        ("request_key", libc::SYS_request_key, &[]),
        ("mount", libc::SYS_mount, &[]),
        ("umount2", libc::SYS_umount2, &[]),
        ("pivot_root", libc::SYS_pivot_root, &[]),
        ("chroot", libc::SYS_chroot, &[]),
        ("open_tree", libc::SYS_open_tree, &[]),
        ("move_mount", libc::SYS_move_mount, &[]),
        ("fsopen", libc::SYS_fsopen, &[]),
        ("fsconfig", libc::SYS_fsconfig, &[]),
        ("fsmount", libc::SYS_fsmount, &[]),
        ("fspick", libc::SYS_fspick, &[]),
        ("mount_setattr", libc::SYS_mount_setattr, &[]),
        ("setns", libc::SYS_setns, &[]),
        ("unshare", libc::SYS_unshare, &[]),
        ("open_by_handle_at", libc::SYS_open_by_handle_at, &[]),
        ("mknodat", libc::SYS_mknodat, &[]),
        ("init_module", libc::SYS_init_module, &[]),
        ("finit_module", libc::SYS_finit_module, &[]),
        ("delete_module", libc::SYS_delete_module, &[]),
        ("kexec_load", libc::SYS_kexec_load, &[]),
        ("kexec_file_load", libc::SYS_kexec_file_load, &[]),
        ("reboot", libc::SYS_reboot, &[]),
        ("swapon", libc::SYS_swapon, &[]),
        ("swapoff", libc::SYS_swapoff, &[]),
        ("acct", libc::SYS_acct, &[]),
        ("settimeofday", libc::SYS_settimeofday, &[]),
        ("clock_settime", libc::SYS_clock_settime, &[]),
        ("sethostname", libc::SYS_sethostname, &[]),
        ("setdomainname", libc::SYS_setdomainname, &[]),
        ("setuid", libc::SYS_setuid, &[]),
        ("capset", libc::SYS_capset, &[]),
        ("dumpable", libc::SYS_prctl, &[libc::PR_SET_DUMPABLE, 1]),
    ];
    for who in ["controller", "prober"] {
        assert_calls(who, CallResult::Killed, rows);
    }
}
