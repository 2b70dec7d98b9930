//! Injects system calls into a running process, as an attacker with code execution would.

use std::os::raw::c_void;

use nix::sys::ptrace;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// The instruction `syscall` in the low bytes of a word.
const SYSCALL: u64 = 0x050f;

/// Result of an injected call.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CallOutcome {
    /// Return value; negative for an error.
    Returned(i64),
    /// The process was killed by this signal.
    Killed(Signal),
}

/// A system call with arguments.
#[derive(Clone, Copy, Debug)]
pub struct SystemCall {
    /// Number of the call.
    pub number: i64,
    /// Arguments of the call.
    pub arguments: [u64; 3],
}

/// Makes a system call in the first thread of a process, and then restores the interrupted state.
///
/// # Panics
/// If the process does not exist or cannot be traced.
#[must_use]
pub fn call(pid: Pid, call: &SystemCall) -> CallOutcome {
    ptrace::attach(pid).unwrap();
    assert!(matches!(wait(pid), WaitStatus::Stopped(..)), "{pid} did not stop");
    let before = ptrace::getregs(pid).unwrap();
    let instruction = before.rip - 2;
    let word = ptrace::read(pid, instruction as *mut c_void).unwrap();
    assert_eq!(word.cast_unsigned() & 0xffff, SYSCALL, "{pid} is to wait in the kernel");

    let mut regs = before;
    regs.rip = instruction;
    regs.rax = call.number.cast_unsigned();
    // Prevents the kernel from restarting the interrupted call.
    regs.orig_rax = u64::MAX;
    [regs.rdi, regs.rsi, regs.rdx] = call.arguments;
    ptrace::setregs(pid, regs).unwrap();
    ptrace::step(pid, None).unwrap();
    match wait(pid) {
        WaitStatus::Signaled(_, signal, _) => CallOutcome::Killed(signal),
        WaitStatus::Stopped(..) => {
            let answer = ptrace::getregs(pid).unwrap().rax.cast_signed();
            ptrace::setregs(pid, before).unwrap();
            ptrace::detach(pid, None).unwrap();
            CallOutcome::Returned(answer)
        }
        other => panic!("{pid} made no system call: {other:?}"),
    }
}

fn wait(pid: Pid) -> WaitStatus {
    waitpid(pid, Some(WaitPidFlag::__WALL)).unwrap()
}
