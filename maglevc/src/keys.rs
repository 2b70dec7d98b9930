//! Waiting for a key, and for whoever reads our output to go away.

use std::io::{self, IsTerminal};
use std::os::unix::net::UnixStream;
use std::thread;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::termios::{
    LocalModes, OptionalActions, QueueSelector, SpecialCodeIndex, Termios, tcflush, tcgetattr, tcgetpgrp,
    tcsetattr,
};
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
        if tcgetpgrp(&stdin).ok()? != rustix::process::getpgrp() {
            return None;
        }
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

/// Until a key is pressed, if there is a keyboard, or nobody reads our output any more.
pub async fn enough(keys: Option<&Keys>) {
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
