//! A child process with its log.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::{fs, thread};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::shared_value::SharedValue;

/// Number of log lines that a failing test prints.
const TAIL: usize = 60;

/// A running program. Killed on drop.
pub struct Process {
    name: String,
    child: Child,
    log: Arc<SharedValue<ProcessLog>>,
}

/// Lines that a program has written to standard error.
#[derive(Debug, Default)]
struct ProcessLog {
    lines: Vec<String>,
    ended: bool,
}

impl Process {
    /// Starts `command` under the name `name`.
    ///
    /// # Panics
    /// If that fails.
    pub fn spawn(name: &str, command: &mut Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let log = Arc::new(SharedValue::new(ProcessLog::default()));
        let stderr = child.stderr.take().expect("standard error is a pipe");
        let writer = Arc::clone(&log);
        thread::spawn(move || listen(stderr, &writer));
        Self { name: name.to_owned(), child, log }
    }

    /// Returns its process id.
    #[must_use]
    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    /// Sends `signal`.
    ///
    /// # Panics
    /// If the process is gone.
    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).unwrap();
    }

    /// Kills it as `kill -9` does, and waits for its exit.
    pub fn kill(&mut self) {
        // The process may have exited already.
        _ = self.child.kill();
        _ = self.child.wait();
    }

    /// Waits for its exit.
    ///
    /// # Panics
    /// On timeout.
    pub fn end(&mut self) -> ExitStatus {
        let ended = self.log.wait_for(|log| log.ended.then_some(()));
        assert!(ended.is_some(), "{} does not exit; its log:\n{}", self.name, self.tail());
        self.child.wait().unwrap()
    }

    /// Returns the number of lines written so far.
    #[must_use]
    pub fn line_count(&self) -> usize {
        self.log.read(|log| log.lines.len())
    }

    /// Returns the lines after the first `from`.
    #[must_use]
    pub fn lines(&self, from: usize) -> Vec<String> {
        self.log.read(|log| log.lines.get(from..).unwrap_or_default().to_vec())
    }

    /// Waits for a line that contains `text`, after the first `from`.
    ///
    /// # Panics
    /// On timeout.
    pub fn line(&self, from: usize, text: &str) -> String {
        let found = self.log.wait_for(|log| {
            let line = log.lines.iter().skip(from).find(|line| line.contains(text)).cloned();
            if line.is_none() && log.ended { Some(None) } else { line.map(Some) }
        });
        found
            .flatten()
            .unwrap_or_else(|| panic!("{} did not log {text:?}; its log:\n{}", self.name, self.tail()))
    }

    /// Returns a field of its `/proc/PID/status`.
    ///
    /// # Panics
    /// If the field or the process is missing.
    #[must_use]
    pub fn status(&self, key: &str) -> String {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
        line.unwrap().trim().to_owned()
    }

    /// Returns its only child.
    ///
    /// # Panics
    /// If it has none.
    #[must_use]
    pub fn child(&self) -> Pid {
        child_of(self.pid())
    }

    fn tail(&self) -> String {
        let lines = self.lines(0);
        lines[lines.len().saturating_sub(TAIL)..].join("\n")
    }
}

/// Returns the only child of a process.
///
/// # Panics
/// If it has none.
#[must_use]
pub fn child_of(parent: Pid) -> Pid {
    // Each thread has its own list of children.
    let threads = fs::read_dir(format!("/proc/{parent}/task")).unwrap();
    let children = threads.map(|thread| fs::read_to_string(thread.unwrap().path().join("children")).unwrap());
    Pid::from_raw(children.collect::<String>().trim().parse().unwrap())
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if thread::panicking() {
            eprintln!("--- log of {}:\n{}", self.name, self.tail());
        }
    }
}

fn listen(from: impl Read, log: &SharedValue<ProcessLog>) {
    for line in BufReader::new(from).lines().map_while(Result::ok) {
        log.update(|log| log.lines.push(line));
    }
    log.update(|log| log.ended = true);
}
