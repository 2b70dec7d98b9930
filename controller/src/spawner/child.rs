//! Child prober of the spawner, from its start to its end.

use std::os::fd::{AsFd, BorrowedFd};
use std::process::Child;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::output::ProberOutput;
use crate::privilege;

/// Maximum time for a prober to exit: by itself after its link has closed, and after SIGKILL.
const EXIT_TIMEOUT: Duration = Duration::from_secs(1);

/// Child prober. It exits with its link, unless it hangs.
pub struct ProberChild {
    child: Child,
    output: ProberOutput,
}

impl ProberChild {
    pub fn new(mut child: Child) -> Self {
        let output = ProberOutput::new(child.stderr.take());
        Self { child, output }
    }

    /// Returns the descriptor of its output; `None` once it has closed it.
    pub fn output(&self) -> Option<BorrowedFd<'_>> {
        self.output.descriptor()
    }

    /// Forwards available output. Blocks if there is none.
    pub fn forward(&mut self) {
        self.output.forward();
    }

    /// Returns the last line of a prober that has exited, or else its status; empty if it still runs.
    pub fn exit_reason(&mut self) -> Vec<u8> {
        let end = Instant::now() + EXIT_TIMEOUT;
        self.output.forward_all(end);
        self.wait_until(end);
        match self.child.try_wait() {
            Ok(Some(status)) if status.code().is_none() || self.output.last_line().is_empty() => {
                status.to_string().into_bytes()
            }
            Ok(Some(_)) => self.output.last_line().to_vec(),
            Ok(None) | Err(_) => Vec::new(),
        }
    }

    /// Kills the child, also a stopped one. Returns false if it has not exited in time: the kernel may not interrupt it.
    pub fn end(&mut self) -> bool {
        // An error means that it has exited, or that it cannot be killed; its status shows which.
        let _ = privilege::with_kill(|| self.child.kill());
        let end = Instant::now() + EXIT_TIMEOUT;
        self.wait_until(end);
        self.output.forward_all(end);
        matches!(self.child.try_wait(), Ok(Some(_)))
    }

    /// Waits until the child has exited, or until `end`. A child has closed its output before its status can be read.
    fn wait_until(&self, end: Instant) {
        // Without a descriptor, the status is read at once, as it would be after the wait.
        let pidfd = pidfd_open(Pid::from_child(&self.child), PidfdFlags::empty());
        while let Ok(pidfd) = &pidfd {
            let left = PollTimeout::try_from(end.saturating_duration_since(Instant::now()));
            let mut polled = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
            match poll(&mut polled, left.unwrap_or(PollTimeout::ZERO)) {
                Err(Errno::EINTR) => {}
                Ok(_) | Err(_) => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    fn child(script: &str) -> ProberChild {
        let mut command = Command::new("sh");
        ProberChild::new(command.args(["-c", script]).stderr(Stdio::piped()).spawn().unwrap())
    }

    #[test]
    fn exit_is_awaited_after_closed_output() {
        let mut prober = child("echo no raw sockets >&2; exec 2>&-; sleep 0.1; exit 1");
        assert_eq!(prober.exit_reason(), b"no raw sockets");
    }

    #[test]
    fn endless_output_delays_no_reason_and_no_end() {
        let mut prober = child("exec yes >&2");
        assert_eq!(prober.exit_reason(), b"");
        assert!(prober.end());
    }

    #[test]
    fn stopped_child_is_killed() {
        let mut prober = child("kill -STOP $$");
        assert!(prober.end());
        assert!(prober.end());
    }
}
