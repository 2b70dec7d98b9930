//! Waiting for a key, and for whoever reads our output to go away; and leaving the keyboard as it was.

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

/// The keyboard, with every key telling at once and none of them written to the screen. Ctrl-C is a key like any other.
/// Dropped, it is as it was, and what was typed meanwhile is forgotten.
#[derive(Debug)]
pub struct Keys {
    before: Termios,
}

impl Keys {
    /// Takes the keyboard, if there is one, a person can see what we write, and it is ours to read.
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
        // What was typed before was not meant for us.
        tcsetattr(&stdin, OptionalActions::Flush, &raw).ok()?;
        Some(Self { before })
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        // A terminal that is gone cannot be set right.
        let _ = tcflush(io::stdin(), QueueSelector::IFlush);
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.before);
    }
}

/// Has SIGTERM and SIGHUP end the program with the keyboard as it is now, which nobody may have changed yet. Once is enough.
pub fn guard() {
    static GUARDED: Once = Once::new();
    GUARDED.call_once(|| {
        let Ok(before) = tcgetattr(io::stdin()) else { return };
        let (ready, listening) = mpsc::channel();
        // Whoever runs commands may be waiting for a key, and hear of no signal.
        let started = thread::Builder::new().spawn(move || end_well(&before, ready));
        if started.is_ok() {
            // If it cannot listen, signals are what they have always been.
            let _ = listening.recv();
        }
    });
}

fn end_well(before: &Termios, ready: mpsc::Sender<()>) -> io::Result<()> {
    let runtime = Builder::new_current_thread().enable_io().build()?;
    let told = runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut hang_up = signal(SignalKind::hangup())?;
        // It waits for this.
        let _ = ready.send(());
        let told = tokio::select! {
            _ = terminate.recv() => SignalKind::terminate(),
            _ = hang_up.recv() => SignalKind::hangup(),
        };
        Ok::<_, io::Error>(told)
    })?;
    if is_ours() {
        // A terminal that is gone cannot be set right.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, before);
    }
    // As a shell tells of whoever a signal has ended.
    process::exit(128 + told.as_raw_value())
}

/// Whether we are in the foreground. Who changes the terminal from the background is stopped.
fn is_ours() -> bool {
    tcgetpgrp(io::stdin()).is_ok_and(|group| group == rustix::process::getpgrp())
}

/// Until a key is pressed, if there is a keyboard, or nobody reads our output any more. With a keyboard that is not as it was,
/// SIGINT is a Ctrl-C like any other.
pub async fn enough(keys: Option<&Keys>) {
    let interrupted = async {
        match keys.map(|_| signal(SignalKind::interrupt())) {
            Some(Ok(mut interrupt)) => drop(interrupt.recv().await),
            // Then it ends us as it always has.
            Some(Err(_)) | None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = pressed_or_unread(keys) => {}
        () = interrupted => {}
    }
}

async fn pressed_or_unread(keys: Option<&Keys>) {
    let watched = UnixStream::pair().and_then(|(ours, theirs)| {
        let (tell, told) = oneshot::channel();
        let keys = keys.is_some();
        // With no asynchronous way to it, a thread waits. It ends with us, as `ours` is then closed.
        thread::Builder::new().spawn(move || {
            if wait(keys, &theirs) {
                // Nobody may be there to hear it.
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

/// Whether there was a key, or nobody reads; and not the end of `other`.
fn wait(keys: bool, other: &UnixStream) -> bool {
    let (stdin, stdout) = (io::stdin(), io::stdout());
    loop {
        // What is not asked for is told all the same: that the other end is gone.
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
