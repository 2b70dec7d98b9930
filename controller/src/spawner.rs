//! Spawner: the process that starts probers without a service manager.
//!
//! The sandboxed `maglevd` cannot start programs, and its children would be sandboxed like it and could not probe. So
//! it first starts itself with `--spawner`. That process keeps the privilege of a starting prober, and runs only the
//! code in this module. It reads requests from `maglevd` (a network namespace with the prober's end of a link, or the
//! reason of the prober's exit), and forwards the prober's standard error.

use std::ffi::OsStr;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, setsockopt, socketpair, sockopt};
use nix::sys::time::{TimeVal, TimeValLike};
use rustix::io::retry_on_intr;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recv, recvmsg, send, sendmsg,
};

use crate::flags::{Flags, OnOff, ProberAddress};
use crate::privilege;
use child::ProberChild;

mod child;
mod output;

/// Prefix of a request, so that no message is empty.
const REQUEST_PREFIX: &[u8] = b"start ";

/// Answer in place of an error number: the previous prober has not exited.
const LINGERS: i32 = -1;

/// Request for the reason of the last prober's exit.
const REASON_REQUEST: &[u8] = b"reason";

/// Maximum length of a namespace name, which is a file name.
const MAX_NETNS_LEN: usize = 255;

/// Maximum time of an answer. The spawner itself waits for nothing as long as this.
const START_TIMEOUT: Duration = Duration::from_secs(10);

/// Failure to start a prober.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The program cannot be executed.
    #[error("cannot start {}: {source}", program.display())]
    Start {
        /// Program of the prober.
        program: PathBuf,
        /// Error of the system.
        source: io::Error,
    },
    /// The previous program has not exited.
    #[error("the previous prober does not exit although it was killed: maglevd retries")]
    Lingers,
    /// The spawner has not answered in time. It may be stopped.
    #[error("the spawner has not answered for {START_TIMEOUT:?}: maglevd retries")]
    Silent,
    /// The spawner has exited.
    #[error("the spawner has exited, restart maglevd: {0}")]
    Gone(io::Error),
}

/// Handle on the spawner process, which exits with its prober when this is dropped.
#[derive(Debug)]
pub struct ProberSpawner {
    program: PathBuf,
    link: Mutex<OwnedFd>,
}

impl ProberSpawner {
    /// Starts the spawner for `program`. Must be called before privilege is dropped.
    ///
    /// # Errors
    /// Error of the system.
    pub fn begin(program: &Path, flags: &Flags) -> anyhow::Result<Self> {
        let (ours, theirs) = socket_pair()?;
        let limit = TimeVal::seconds(i64::try_from(START_TIMEOUT.as_secs())?);
        setsockopt(&ours, sockopt::ReceiveTimeout, &limit)?;
        let mut target = std::ffi::OsString::from("--prober=spawn:");
        target.push(program);
        // This path is the running program, even after an upgrade has replaced its file.
        let mut command = Command::new("/proc/self/exe");
        command.arg0("maglevd").arg("--spawner").arg(target).stdin(Stdio::from(theirs));
        command.arg(format!("--log-level={}", flags.log_level.of_prober()));
        command.arg(format!("--log-format={}", flags.log_format.as_str()));
        command.arg(format!("--prober-args={}", flags.prober_args));
        if flags.sandbox == OnOff::Off {
            command.arg("--sandbox=off");
        }
        // Only maglevd talks to the service manager.
        for name in ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"] {
            command.env_remove(name);
        }
        // Its own process group: a terminal's signals are for maglevd alone.
        command.process_group(0).spawn().context("cannot start the spawner")?;
        Ok(Self { program: program.to_owned(), link: Mutex::new(ours) })
    }

    /// Replaces the prober, and returns our end of the link. Blocks.
    ///
    /// # Errors
    /// The program cannot be executed.
    pub fn start(&self, netns: Option<&str>) -> Result<OwnedFd, Error> {
        let (ours, theirs) = socket_pair().map_err(|source| self.failed(source))?;
        let link = self.link.lock().unwrap_or_else(PoisonError::into_inner);
        discard_late_answers(link.as_fd());
        match send_request(link.as_fd(), netns, theirs.as_fd()).map_err(lost)? {
            0 => Ok(ours),
            LINGERS => Err(Error::Lingers),
            errno => Err(self.failed(io::Error::from_raw_os_error(errno))),
        }
    }

    /// Returns the reason of the prober's exit; `None` if it still runs, or gave none. Blocks.
    pub fn exit_reason(&self) -> Option<String> {
        let link = self.link.lock().unwrap_or_else(PoisonError::into_inner);
        discard_late_answers(link.as_fd());
        send(&*link, REASON_REQUEST, SendFlags::NOSIGNAL).ok()?;
        let mut answer = [0; 2048];
        let (length, _) = retry_on_intr(|| recv(&*link, &mut answer[..], RecvFlags::empty())).ok()?;
        let reason = output::reason(&answer[..length]);
        (!reason.is_empty()).then_some(reason)
    }

    fn failed(&self, source: io::Error) -> Error {
        Error::Start { program: self.program.clone(), source }
    }
}

/// Discards answers to requests that have timed out.
fn discard_late_answers(link: BorrowedFd<'_>) {
    let mut answer = [0; 1];
    while matches!(recv(link, &mut answer[..], RecvFlags::DONTWAIT), Ok((1.., _))) {}
}

/// Distinguishes a spawner that does not answer from one that has exited.
fn lost(error: io::Error) -> Error {
    if error.kind() == io::ErrorKind::WouldBlock { Error::Silent } else { Error::Gone(error) }
}

/// Sends a request, and returns the error number of the answer; 0 is success.
fn send_request(link: BorrowedFd<'_>, netns: Option<&str>, prober: BorrowedFd<'_>) -> io::Result<i32> {
    let request = [IoSlice::new(REQUEST_PREFIX), IoSlice::new(netns.unwrap_or_default().as_bytes())];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors = [prober];
    control.push(SendAncillaryMessage::ScmRights(&descriptors));
    sendmsg(link, &request, &mut control, SendFlags::NOSIGNAL)?;
    let mut answer = [0; 4];
    // With a receive timeout set, SA_RESTART does not resume the call.
    let (length, _) = retry_on_intr(|| recv(link, &mut answer[..], RecvFlags::empty()))?;
    if length == answer.len() {
        Ok(i32::from_ne_bytes(answer))
    } else {
        Err(io::ErrorKind::UnexpectedEof.into())
    }
}

/// Runs the spawner: starts one prober after another until `maglevd` exits.
///
/// # Errors
/// `maglevd` did not start this process.
pub fn serve(flags: &Flags) -> anyhow::Result<()> {
    let ProberAddress::Spawn(program) = flags.prober(None) else { anyhow::bail!("no program to start") };
    privilege::keep_for_probers().context("privilege")?;
    // Ignore signals sent to every process named maglevd: this one exits with its link. Children reset the mask.
    SigSet::from_iter([Signal::SIGHUP, Signal::SIGINT, Signal::SIGTERM]).thread_block()?;
    prctl::set_name(c"maglevd-spawner")?;
    let link = io::stdin().as_fd().try_clone_to_owned()?;
    let mut prober: Option<ProberChild> = None;
    loop {
        forward_until_request(link.as_fd(), prober.as_mut())?;
        match receive(link.as_fd()).context("--spawner is for maglevd itself")? {
            SpawnRequest::Start(netns, theirs) => {
                let answer = replace(&mut prober, || start(&program, flags, &netns, theirs));
                send(&link, &answer.to_ne_bytes(), SendFlags::NOSIGNAL)?;
            }
            SpawnRequest::Reason => {
                let reason = prober.as_mut().map(ProberChild::exit_reason).unwrap_or_default();
                // An empty message would read as the end of the link.
                let reason = if reason.is_empty() { b" ".to_vec() } else { reason };
                send(&link, &reason, SendFlags::NOSIGNAL)?;
            }
            SpawnRequest::End => {
                prober.as_mut().map(ProberChild::end);
                return Ok(());
            }
        }
    }
}

/// Starts a prober after its predecessor has exited, and returns the answer to `maglevd`.
fn replace(prober: &mut Option<ProberChild>, start: impl FnOnce() -> io::Result<Child>) -> i32 {
    if prober.as_mut().is_some_and(|old| !old.end()) {
        return LINGERS;
    }
    *prober = None;
    match start() {
        Ok(child) => {
            *prober = Some(ProberChild::new(child));
            0
        }
        Err(error) => error.raw_os_error().unwrap_or(Errno::EINVAL as i32),
    }
}

/// Forwards the prober's output until a request comes.
fn forward_until_request(link: BorrowedFd<'_>, mut prober: Option<&mut ProberChild>) -> anyhow::Result<()> {
    loop {
        let output = prober.as_ref().and_then(|prober| prober.output());
        let mut polled: Vec<_> =
            [Some(link), output].into_iter().flatten().map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
        match poll(&mut polled, PollTimeout::NONE) {
            Err(Errno::EINTR) => continue,
            result => result?,
        };
        let has_request = polled[0].any() == Some(true);
        let has_output = polled.get(1).is_some_and(|output| output.any() == Some(true));
        if has_request {
            return Ok(());
        }
        if let (true, Some(prober)) = (has_output, prober.as_mut()) {
            prober.forward();
        }
    }
}

/// Request of `maglevd`.
enum SpawnRequest {
    /// Start a prober in a network namespace, which may be empty, with this end of a link.
    Start(Vec<u8>, OwnedFd),
    /// Return the reason of its exit.
    Reason,
    /// The link has closed.
    End,
}

fn receive(link: BorrowedFd<'_>) -> anyhow::Result<SpawnRequest> {
    let mut bytes = [0; REQUEST_PREFIX.len() + MAX_NETNS_LEN];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut into = [IoSliceMut::new(&mut bytes)];
    let length = recvmsg(link, &mut into, &mut control, RecvFlags::CMSG_CLOEXEC)?.bytes;
    if length == 0 {
        return Ok(SpawnRequest::End);
    }
    if bytes[..length] == *REASON_REQUEST {
        return Ok(SpawnRequest::Reason);
    }
    let descriptor = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    let netns = bytes[..length].strip_prefix(REQUEST_PREFIX).context("a malformed request")?.to_vec();
    Ok(SpawnRequest::Start(netns, descriptor.context("a request without a link")?))
}

/// Starts the prober with its end of the link as standard input.
fn start(program: &Path, flags: &Flags, netns: &[u8], link: OwnedFd) -> io::Result<Child> {
    let mut command = Command::new(program);
    command.arg("--stdin").stdin(Stdio::from(link));
    command.arg(format!("--log-level={}", flags.log_level.of_prober()));
    command.arg(format!("--log-format={}", flags.log_format.as_str()));
    if flags.sandbox == OnOff::Off {
        command.arg("--sandbox=off");
    }
    if !netns.is_empty() {
        command.arg("--netns").arg(OsStr::from_bytes(netns));
    }
    command.args(flags.prober_args.split_whitespace());
    command.stderr(Stdio::piped()).spawn()
}

fn socket_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spawner() -> (ProberSpawner, OwnedFd) {
        let (ours, theirs) = socket_pair().unwrap();
        setsockopt(&ours, sockopt::ReceiveTimeout, &TimeVal::milliseconds(1)).unwrap();
        (ProberSpawner { program: "maglevd-prober".into(), link: Mutex::new(ours) }, theirs)
    }

    #[test]
    fn silent_spawner_is_told_from_exited_one() {
        let (spawner, theirs) = spawner();
        assert!(matches!(spawner.start(None), Err(Error::Silent)));
        drop(theirs);
        assert!(matches!(spawner.start(None), Err(Error::Gone(_))));
    }

    #[test]
    fn late_answer_answers_no_other_request() {
        let (spawner, theirs) = spawner();
        send(&theirs, &0_i32.to_ne_bytes(), SendFlags::NOSIGNAL).unwrap();
        send(&theirs, b"reason", SendFlags::NOSIGNAL).unwrap();
        assert!(matches!(spawner.start(None), Err(Error::Silent)));
    }
}
