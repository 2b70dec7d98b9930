//! Raw keyboard input: waits for a key or for the reader of our output to exit, and restores the terminal.

use std::io::{self, IsTerminal};
use std::os::unix::net::UnixStream;
use std::sync::{Once, mpsc};
use std::{process, thread};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::termios::{
    LocalModes, OptionalActions, QueueSelector, SpecialCodeIndex, Termios, tcflush, tcgetattr, tcgetpgrp,
    tcsetattr,
};
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

/// The terminal in raw mode without echo: every key arrives at once, Ctrl-C included. Restored on drop; pending input
/// is discarded.
#[derive(Debug)]
pub struct RawKeyboard {
    before: Termios,
}

impl RawKeyboard {
    /// Enters raw mode, if standard input and output are terminals and this process is in the foreground.
    pub fn take() -> Option<Self> {
        let stdin = io::stdin();
        if !stdin.is_terminal() || !io::stdout().is_terminal() {
            return None;
        }
        if !is_ours() {
            return None;
        }
        guard();
        let before = tcgetattr(&stdin).ok()?;
        let mut raw = before.clone();
        raw.local_modes -= LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG;
        raw.special_codes[SpecialCodeIndex::VMIN] = 1;
        raw.special_codes[SpecialCodeIndex::VTIME] = 0;
        // Input from before is discarded.
        tcsetattr(&stdin, OptionalActions::Flush, &raw).ok()?;
        Some(Self { before })
    }
}

impl Drop for RawKeyboard {
    fn drop(&mut self) {
        // A closed terminal cannot be restored.
        let _ = tcflush(io::stdin(), QueueSelector::IFlush);
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.before);
    }
}

/// Makes SIGTERM and SIGHUP restore the terminal before the process exits. Call it once, before raw mode.
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
        // The parent waits for this.
        let _ = ready.send(());
        let told = tokio::select! {
            _ = terminate.recv() => SignalKind::terminate(),
            _ = hang_up.recv() => SignalKind::hangup(),
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
        () = pressed_or_unread(keys) => {}
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
