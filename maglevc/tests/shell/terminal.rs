//! A terminal with `maglevc` in it.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcgetpgrp, tcsetwinsize};

/// The program.
pub const MAGLEVC: &str = env!("CARGO_BIN_EXE_maglevc");

/// Only a test that fails waits for so long.
const PATIENCE: Duration = Duration::from_secs(20);

const ROWS: u16 = 50;

/// Wide enough for the longest line that is waited for.
const COLUMNS: u16 = 140;

/// A terminal, and what runs in it.
pub struct Terminal {
    keyboard: File,
    seen: Arc<(Mutex<Seen>, Condvar)>,
    child: Child,
}

struct Seen {
    screen: vt100::Parser,
    closed: bool,
}

impl Terminal {
    /// Starts `maglevc` in a wide terminal, with this directory as its home.
    pub fn start(home: &Path, arguments: &[&str]) -> Self {
        Self::run(home, MAGLEVC, arguments)
    }

    /// Starts any program so, with `maglevc` in its path.
    pub fn run(home: &Path, program: &str, arguments: &[&str]) -> Self {
        let keyboard = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&keyboard).unwrap();
        unlockpt(&keyboard).unwrap();
        let name = ptsname(&keyboard, Vec::new()).unwrap().into_string().unwrap();
        let mut terminal = OpenOptions::new();
        let terminal = terminal.read(true).write(true).open(name).unwrap();
        set_size(&keyboard, COLUMNS);
        let path = format!("{}:/usr/bin:/bin", Path::new(MAGLEVC).parent().unwrap().display());
        let end = || Stdio::from(terminal.try_clone().unwrap());
        let child = Command::new("setsid")
            .args(["--ctty", "--wait", program])
            .args(arguments)
            .env_clear()
            .env("PATH", path)
            .env("TERM", "xterm")
            .env("HOME", home)
            .stdin(end())
            .stdout(end())
            .stderr(end())
            .spawn()
            .unwrap();
        let screen = vt100::Parser::new(ROWS, COLUMNS, 1_000);
        let seen = Arc::new((Mutex::new(Seen { screen, closed: false }), Condvar::new()));
        let keyboard = File::from(keyboard);
        let mut output = keyboard.try_clone().unwrap();
        let theirs = Arc::clone(&seen);
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            loop {
                // A terminal without a program in it reads as an error.
                let read = output.read(&mut bytes).unwrap_or(0);
                let mut seen = theirs.0.lock().unwrap_or_else(PoisonError::into_inner);
                seen.screen.process(&bytes[..read]);
                seen.closed = read == 0;
                theirs.1.notify_all();
                if read == 0 {
                    return;
                }
            }
        });
        Self { keyboard, seen, child }
    }

    /// Types.
    pub fn press(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    /// Makes it this wide.
    pub fn resize(&self, columns: u16) {
        self.seen.0.lock().unwrap().screen.screen_mut().set_size(ROWS, columns);
        set_size(&self.keyboard, columns);
    }

    /// The lines on the screen, without the blanks at their ends.
    pub fn lines(&self) -> Vec<String> {
        lines(&self.seen.0.lock().unwrap())
    }

    /// Waits until the lines on the screen are such, and returns them.
    pub fn until(&self, what: &str, good: impl Fn(&[String]) -> bool) -> Vec<String> {
        let (seen, changed) = &*self.seen;
        let bad = |seen: &mut Seen| !good(&lines(seen)) && !seen.closed;
        let (seen, _) = changed.wait_timeout_while(seen.lock().unwrap(), PATIENCE, bad).unwrap();
        let lines = lines(&seen);
        assert!(good(&lines), "waited for {what}, and saw:\n{}", lines.join("\n"));
        lines
    }

    /// Waits until a line with this is on the screen.
    pub fn until_line(&self, with: &str) -> Vec<String> {
        self.until(with, |lines| lines.iter().any(|line| line.contains(with)))
    }

    /// Waits until there are as many prompts without anything typed.
    pub fn until_prompts(&self, count: usize) -> Vec<String> {
        let empty = |lines: &[String]| lines.iter().filter(|line| *line == "maglev>").count() == count;
        self.until("another prompt", empty)
    }

    /// Waits until this is the last line.
    pub fn until_last(&self, line: &str) -> Vec<String> {
        self.until(line, |lines| lines.last().is_some_and(|last| last == line))
    }

    /// Sends a signal to what runs in it.
    pub fn signal(&self, signal: Signal) {
        kill_process(self.program(), signal).unwrap();
    }

    /// Waits for the end of the program while the terminal stays open, and returns the modes of the keyboard then.
    pub fn left(&mut self) -> (ExitStatus, LocalModes) {
        (self.child.wait().unwrap(), self.modes())
    }

    /// The modes of the keyboard.
    pub fn modes(&self) -> LocalModes {
        tcgetattr(&self.keyboard).unwrap().local_modes
    }

    fn program(&self) -> Pid {
        // It leads its session, and is the only one in it.
        tcgetpgrp(&self.keyboard).unwrap()
    }

    /// Waits for the end of the program.
    pub fn ended(mut self) -> ExitStatus {
        let (seen, changed) = &*self.seen;
        let open = |seen: &mut Seen| !seen.closed;
        let (seen, _) = changed.wait_timeout_while(seen.lock().unwrap(), PATIENCE, open).unwrap();
        assert!(seen.closed, "waited for the end, and saw:\n{}", lines(&seen).join("\n"));
        drop(seen);
        self.child.wait().unwrap()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn set_size(terminal: impl rustix::fd::AsFd, columns: u16) {
    let size = Winsize { ws_row: ROWS, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(terminal, size).unwrap();
}

fn lines(seen: &Seen) -> Vec<String> {
    let screen = seen.screen.screen();
    let mut lines: Vec<String> =
        screen.rows(0, screen.size().1).map(|line| line.trim_end().to_owned()).collect();
    while lines.last().is_some_and(String::is_empty) {
        lines.pop();
    }
    lines
}
