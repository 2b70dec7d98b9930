//! What a process may do once it is confined, what is refused, and what it dies of: one row for each rule and for its
//! neighbours.
#![cfg(test)]

mod controller;
mod prober;
mod processes;

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};

use maglev_tests::programs::program;
use nix::errno::Errno;
use nix::libc::{c_int, c_long};
use nix::sys::signal::Signal;

/// What comes of an attempt.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum End {
    /// It is done, or what the kernel says has nothing to do with the sandbox.
    Allowed,
    /// With this error.
    Refused(Errno),
    /// It was the last thing that the process did.
    Killed,
}

/// A system call by its number, and its arguments; those that are not given are -1.
type Row<'a> = (&'a str, c_long, &'a [c_int]);

/// Asserts that each of `rows` comes to `end` in that process.
fn assert_calls(who: &str, end: End, rows: &[Row<'_>]) {
    for (name, number, arguments) in rows {
        let mut words = vec!["call".to_owned(), number.to_string()];
        words.extend(arguments.iter().map(c_int::to_string));
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        assert_eq!(attempt(who, &words), end, "{who}: {name} {arguments:?}");
    }
}

fn attempt(who: &str, words: &[&str]) -> End {
    ended(confined(who, words).status().unwrap())
}

fn attempt_in(state: &Path, who: &str, words: &[&str]) -> End {
    ended(confined(who, words).env("STATE", state).status().unwrap())
}

fn confined(who: &str, words: &[&str]) -> Command {
    let mut command = Command::new(program("confined").unwrap());
    command.arg(who).args(words).stdout(Stdio::null()).stderr(Stdio::null()).env_remove("NOTIFY_SOCKET");
    command
}

fn ended(status: ExitStatus) -> End {
    match (status.code(), status.signal()) {
        (Some(0), _) => End::Allowed,
        (Some(code), _) => match Errno::from_raw(code) {
            // The other answers are those that the kernel gives to nonsense.
            errno @ (Errno::EPERM | Errno::EACCES | Errno::ENOSYS) => End::Refused(errno),
            _ => End::Allowed,
        },
        (None, Some(signal)) if signal == Signal::SIGSYS as c_int => End::Killed,
        (None, signal) => panic!("ended by signal {signal:?}"),
    }
}

/// Whether this kernel's Landlock is older than ABI `needed`; says so in the form in which skipped tests are counted.
fn skip_before_landlock(needed: u32, name: &str) -> bool {
    let output = confined("prober", &["call"]).stdout(Stdio::piped()).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let abi = said.trim().rsplit_once("Landlock ABI ").map_or(0, |(_, abi)| abi.parse().unwrap());
    if abi < needed {
        println!("SKIP {name}: needs Landlock ABI {needed}, and this kernel has {abi}");
    }
    abi < needed
}
