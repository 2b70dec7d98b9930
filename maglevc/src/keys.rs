//! The keyboard: waits for a key or for the reader of our output to exit, keeps keys for the next line of the shell, and
//! restores the terminal.

use std::io::{self, IsTerminal};
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, Once, PoisonError, mpsc};
use std::{env, process, thread};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, ioctl_fionread};
use rustix::process::Signal;
use rustix::termios::{
    InputModes, LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcgetpgrp, tcsetattr,
};
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

/// Terminals without line editing, as rustyline has them.
const WITHOUT_EDITING: [&str; 3] = ["dumb", "cons25", "emacs"];

/// Longest wait for the rest of a key that is several characters.
const KEY_TIMEOUT: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };

/// A character that ended a `watch` and begins a line, as more characters followed it.
static UNUSED: Mutex<Option<char>> = Mutex::new(None);

/// Returns the character that begins the next line, with the cursor behind it.
pub fn take_unused() -> Option<(String, usize)> {
    let unused = UNUSED.lock().unwrap_or_else(PoisonError::into_inner).take()?;
    Some((unused.to_string(), unused.len_utf8()))
}

/// The terminal between two lines of the shell: keys wait for the next line as they were typed, without echo. Ctrl-C
/// interrupts. Restored on drop.
#[derive(Debug)]
pub struct ShellKeyboard {
    before: Option<Termios>,
}

impl ShellKeyboard {
    /// Takes the terminal, if it has line editing and this process is in the foreground.
    pub fn take() -> Self {
        let edits = env::var("TERM").is_ok_and(|term| !WITHOUT_EDITING.contains(&term.as_str()));
        let before = if edits && is_ours() { tcgetattr(io::stdin()).ok() } else { None };
        let keyboard = Self { before };
        keyboard.enter();
        keyboard
    }

    /// Sets the mode, which another program may have changed while this process was suspended.
    pub fn enter(&self) {
        let Some(before) = &self.before else { return };
        let mut quiet = before.clone();
        quiet.input_modes -= InputModes::ICRNL;
        quiet.local_modes -= LocalModes::ICANON | LocalModes::ECHO | LocalModes::IEXTEN;
        quiet.special_codes[SpecialCodeIndex::VMIN] = 1;
        quiet.special_codes[SpecialCodeIndex::VTIME] = 0;
        set(&quiet);
    }

    /// Suspends this process and its group, as Ctrl-Z does.
    pub fn suspend(&self) {
        self.leave();
        // Without job control the kernel ignores the signal.
        let _ = rustix::process::kill_current_process_group(Signal::TSTP);
        self.enter();
    }

    fn leave(&self) {
        if let Some(before) = &self.before {
            set(before);
        }
    }
}

impl Drop for ShellKeyboard {
    fn drop(&mut self) {
        self.leave();
    }
}

fn set(modes: &Termios) {
    if is_ours() {
        // A closed terminal cannot be changed.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, modes);
    }
}

/// The terminal in raw mode without echo: every key arrives at once, Ctrl-C included. Restored on drop.
#[derive(Debug)]
pub struct RawKeyboard {
    before: Termios,
}

impl RawKeyboard {
    /// Enters raw mode, if standard input and output are terminals and this process is in the foreground. Keys that wait
    /// already are for a later line: then none is taken.
    pub fn take() -> Option<Self> {
        let stdin = io::stdin();
        if !stdin.is_terminal() || !io::stdout().is_terminal() {
            return None;
        }
        if !is_ours() || pending() > 0 {
            return None;
        }
        guard();
        let before = tcgetattr(&stdin).ok()?;
        let mut raw = before.clone();
        raw.local_modes -= LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG;
        raw.special_codes[SpecialCodeIndex::VMIN] = 1;
        raw.special_codes[SpecialCodeIndex::VTIME] = 0;
        tcsetattr(&stdin, OptionalActions::Now, &raw).ok()?;
        Some(Self { before })
    }
}

impl Drop for RawKeyboard {
    fn drop(&mut self) {
        // A closed terminal cannot be restored.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.before);
    }
}

/// Reports whether keys wait for a later line.
pub fn is_waiting() -> bool {
    io::stdin().is_terminal() && io::stdout().is_terminal() && is_ours() && pending() > 0
}

/// Returns the number of bytes that were typed and not read.
fn pending() -> u64 {
    ioctl_fionread(io::stdin()).unwrap_or(0)
}

/// Reads one key, so that none of its characters is left over. A character before others begins a line.
fn read_key() {
    match read_byte() {
        Some(b'\x1b') => read_sequence(),
        Some(first) if first >= b' ' && first != b'\x7f' => {
            let unused = read_char(first).filter(|_| pending() > 0);
            *UNUSED.lock().unwrap_or_else(PoisonError::into_inner) = unused;
        }
        Some(_) | None => {}
    }
}

/// Reads the rest of an escape sequence: after `[` to its final byte, else one character.
fn read_sequence() {
    match read_byte() {
        Some(b'[') => while read_byte().is_some_and(|byte| !(b'@'..=b'~').contains(&byte)) {},
        Some(b'O') => drop(read_byte()),
        Some(_) | None => {}
    }
}

/// Reads the rest of a character in UTF-8.
fn read_char(first: u8) -> Option<char> {
    let mut bytes = vec![first];
    for _ in 1..first.leading_ones().clamp(1, 4) {
        bytes.extend(read_byte());
    }
    str::from_utf8(&bytes).ok()?.chars().next()
}

/// Reads a byte, if one comes at once.
fn read_byte() -> Option<u8> {
    let stdin = io::stdin();
    let waited = poll(&mut [PollFd::new(&stdin, PollFlags::IN)], Some(&KEY_TIMEOUT));
    let mut byte = [0];
    let read = waited.ok().filter(|ready| *ready > 0).and_then(|_| rustix::io::read(&stdin, &mut byte).ok());
    (read == Some(1)).then_some(byte[0])
}

/// Makes SIGTERM, SIGHUP and SIGQUIT restore the terminal before the process exits. Call it once, before raw mode.
pub fn guard() {
    static GUARDED: Once = Once::new();
    GUARDED.call_once(|| {
        let Ok(before) = tcgetattr(io::stdin()) else { return };
        let (ready, listening) = mpsc::channel();
        // The thread that runs commands may be blocked on the keyboard and see no signal.
        let started = thread::Builder::new().spawn(move || end_well(&before, ready));
        if started.is_ok() {
            // Without the thread, signals keep their default action.
            let _ = listening.recv();
        }
    });
}

fn end_well(before: &Termios, ready: mpsc::Sender<()>) -> io::Result<()> {
    let runtime = Builder::new_current_thread().enable_io().build()?;
    let told = runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut hang_up = signal(SignalKind::hangup())?;
        let mut quit = signal(SignalKind::quit())?;
        // The parent waits for this.
        let _ = ready.send(());
        let told = tokio::select! {
            _ = terminate.recv() => SignalKind::terminate(),
            _ = hang_up.recv() => SignalKind::hangup(),
            _ = quit.recv() => SignalKind::quit(),
        };
        Ok::<_, io::Error>(told)
    })?;
    if is_ours() {
        // A closed terminal cannot be restored.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, before);
    }
    // A shell's exit code for a signal.
    process::exit(128 + told.as_raw_value())
}

/// Reports whether this process is in the foreground. A background process that changes the terminal is stopped by
/// SIGTTOU.
fn is_ours() -> bool {
    tcgetpgrp(io::stdin()).is_ok_and(|group| group == rustix::process::getpgrp())
}

/// Waits for a key, or until the reader of our output exits. In raw mode SIGINT counts as Ctrl-C.
pub async fn enough(keys: Option<&RawKeyboard>) {
    let interrupted = async {
        match keys.map(|_| signal(SignalKind::interrupt())) {
            Some(Ok(mut interrupt)) => drop(interrupt.recv().await),
            // Then SIGINT keeps its default action.
            Some(Err(_)) | None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = pressed_or_unread(keys) => {
            if keys.is_some() && pending() > 0 {
                read_key();
            }
        }
        () = interrupted => {}
    }
}

async fn pressed_or_unread(keys: Option<&RawKeyboard>) {
    let watched = UnixStream::pair().and_then(|(ours, theirs)| {
        let (tell, told) = oneshot::channel();
        let keys = keys.is_some();
        // There is no asynchronous interface, so a thread waits. It ends when `ours` closes.
        thread::Builder::new().spawn(move || {
            if wait(keys, &theirs) {
                // The receiver may be gone.
                let _ = tell.send(());
            }
        })?;
        Ok((ours, told))
    });
    let heard = match watched {
        Ok((_ours, told)) => told.await.is_ok(),
        Err(_) => false,
    };
    if !heard {
        std::future::pending::<()>().await;
    }
}

/// Waits; returns true for a key or a closed output, false for the end of `other`.
fn wait(keys: bool, other: &UnixStream) -> bool {
    let (stdin, stdout) = (io::stdin(), io::stdout());
    loop {
        // POLLHUP is reported even without a requested event.
        let mut fds = vec![PollFd::new(other, PollFlags::IN), PollFd::new(&stdout, PollFlags::empty())];
        if keys {
            fds.push(PollFd::new(&stdin, PollFlags::IN));
        }
        match poll(&mut fds, None) {
            Err(Errno::INTR) => continue,
            Err(_) => return false,
            Ok(_) => {}
        }
        let mut heard = fds.iter().map(|fd| !fd.revents().is_empty());
        return !heard.next().unwrap_or(true) && heard.any(|heard| heard);
    }
}
