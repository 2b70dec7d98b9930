//! Has a running process ask the kernel for what its program never asks for, as if it had been taken over.

use std::os::raw::c_void;

use nix::sys::ptrace;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// The instruction `syscall`, from the end of a word that it begins.
const SYSCALL: u64 = 0x050f;

/// What became of it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Answer {
    /// The kernel's word: a negative one is an error's number.
    Returned(i64),
    /// The process was killed for it.
    Killed(Signal),
}

/// A system call, and its arguments.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// Its number.
    pub number: i64,
    /// What it is given.
    pub arguments: [u64; 3],
}

/// Has the first thread of a process make a call, wherever it waits now, and lets it go on then as if nothing had been.
///
/// # Panics
/// There is no such process, or it cannot be traced.
#[must_use]
pub fn call(pid: Pid, call: &Call) -> Answer {
    ptrace::attach(pid).unwrap();
    assert!(matches!(wait(pid), WaitStatus::Stopped(..)), "{pid} is to stop where it is");
    let before = ptrace::getregs(pid).unwrap();
    let instruction = before.rip - 2;
    let word = ptrace::read(pid, instruction as *mut c_void).unwrap();
    assert_eq!(word.cast_unsigned() & 0xffff, SYSCALL, "{pid} is to wait in the kernel");

    let mut regs = before;
    regs.rip = instruction;
    regs.rax = call.number.cast_unsigned();
    // The call that it waits in is not to be begun again on the way.
    regs.orig_rax = u64::MAX;
    [regs.rdi, regs.rsi, regs.rdx] = call.arguments;
    ptrace::setregs(pid, regs).unwrap();
    ptrace::step(pid, None).unwrap();
    match wait(pid) {
        WaitStatus::Signaled(_, signal, _) => Answer::Killed(signal),
        WaitStatus::Stopped(..) => {
            let answer = ptrace::getregs(pid).unwrap().rax.cast_signed();
            ptrace::setregs(pid, before).unwrap();
            ptrace::detach(pid, None).unwrap();
            Answer::Returned(answer)
        }
        other => panic!("{pid} was to make a call, and instead: {other:?}"),
    }
}

fn wait(pid: Pid) -> WaitStatus {
    waitpid(pid, Some(WaitPidFlag::__WALL)).unwrap()
}
