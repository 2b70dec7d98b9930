//! Messages to the service manager: `READY`, `STATUS`, `RELOADING`, `STOPPING` and `WATCHDOG` of sd_notify(3).
//!
//! The `sd-notify` crate formats the messages and reads the environment, but its `notify` opens a socket for each message
//! and blocks while the receiver's queue is full. A [`ServiceNotifier`] opens its sockets once, before the sandbox, and sends
//! in two ways:
//!
//! * [`notify`](ServiceNotifier::notify) never waits, so a service manager that does not read cannot stop the caller's loop.
//!   It is for `WATCHDOG` and `STATUS`, which repeat.
//! * [`notify_once`](ServiceNotifier::notify_once) waits a little for room. It is for `READY`, `RELOADING` and `STOPPING`,
//!   which the service manager waits for.
//!
//! ```
//! use maglev_notify::{NotifyState, ServiceNotifier};
//!
//! // Without NOTIFY_SOCKET there is no receiver, and messages are dropped.
//! let notifier = ServiceNotifier::default();
//! assert!(!notifier.is_active() && notifier.watchdog().is_none());
//! notifier.notify_once(&[NotifyState::Ready])?;
//! notifier.notify(&[NotifyState::Status("2 backends up")])?;
//! # Ok::<(), std::io::Error>(())
//! ```

#![forbid(unsafe_code)]

use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::time::Duration;

pub use sd_notify::NotifyState;

/// Longest time that [`ServiceNotifier::notify_once`] waits. A lost `READY` fails the unit at its `TimeoutStartSec=`, 90 s by
/// default, so a stalled service manager gets most of that time.
const SEND_TIMEOUT: Duration = Duration::from_secs(60);

/// A sender of messages to the service manager. Clones share its sockets.
#[derive(Clone, Debug, Default)]
pub struct ServiceNotifier {
    manager: Option<Arc<ServiceManager>>,
    watchdog: Option<Duration>,
}

#[derive(Debug)]
struct ServiceManager {
    address: SocketAddr,
    nonblocking: UnixDatagram,
    blocking: UnixDatagram,
}

impl ServiceNotifier {
    /// Creates the notifier for the service manager that `NOTIFY_SOCKET` and `WATCHDOG_USEC` name. Without them, it is
    /// inactive.
    ///
    /// # Errors
    /// `NOTIFY_SOCKET` is not an address of a unix socket, or no socket can be opened.
    pub fn from_env() -> io::Result<Self> {
        let Some(name) = env::var_os("NOTIFY_SOCKET") else { return Ok(Self::default()) };
        Self::connect(&name, sd_notify::watchdog_enabled())
    }

    /// Creates the notifier for the service manager at `name`, a path or an abstract name that begins with `@`.
    /// `watchdog` is the longest pause between two `WATCHDOG` messages that the service manager allows.
    ///
    /// # Errors
    /// `name` is not an address of a unix socket, or no socket can be opened.
    pub fn connect(name: &OsStr, watchdog: Option<Duration>) -> io::Result<Self> {
        let address = match name.as_bytes().strip_prefix(b"@") {
            Some(name) => SocketAddr::from_abstract_name(name)?,
            None => SocketAddr::from_pathname(name)?,
        };
        let (nonblocking, blocking) = (UnixDatagram::unbound()?, UnixDatagram::unbound()?);
        nonblocking.set_nonblocking(true)?;
        blocking.set_write_timeout(Some(SEND_TIMEOUT))?;
        Ok(Self { manager: Some(Arc::new(ServiceManager { address, nonblocking, blocking })), watchdog })
    }

    /// Returns true if there is a service manager.
    #[must_use]
    pub const fn is_active(&self) -> bool {
        self.manager.is_some()
    }

    /// Returns the watchdog's timeout, if the service manager watches this process. Send `WATCHDOG` at half of it.
    #[must_use]
    pub const fn watchdog(&self) -> Option<Duration> {
        self.watchdog
    }

    /// Sends `states` in one message, without waiting. An inactive notifier drops it.
    ///
    /// # Errors
    /// The service manager's queue is full, or its socket is gone.
    pub fn notify(&self, states: &[NotifyState<'_>]) -> io::Result<()> {
        self.manager.as_ref().map_or(Ok(()), |manager| manager.send(&manager.nonblocking, states))
    }

    /// Sends `states` in one message, and waits up to 60 s for room in the service manager's queue.
    ///
    /// # Errors
    /// Those of [`notify`](Self::notify).
    pub fn notify_once(&self, states: &[NotifyState<'_>]) -> io::Result<()> {
        self.manager.as_ref().map_or(Ok(()), |manager| manager.send(&manager.blocking, states))
    }
}

impl ServiceManager {
    /// The sockets are not connected, so a service manager that restarts at the same path is reached again.
    fn send(&self, socket: &UnixDatagram, states: &[NotifyState<'_>]) -> io::Result<()> {
        let lines: Vec<_> = states.iter().map(ToString::to_string).collect();
        socket.send_to_addr(lines.join("\n").as_bytes(), &self.address).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(4);

    fn listen() -> (tempfile::TempDir, UnixDatagram, ServiceNotifier) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        manager.set_nonblocking(true).unwrap();
        let notifier = ServiceNotifier::connect(path.as_os_str(), Some(LIMIT)).unwrap();
        (directory, manager, notifier)
    }

    fn receive(manager: &UnixDatagram) -> Option<String> {
        let mut buffer = [0; 200];
        manager.recv(&mut buffer).ok().map(|n| String::from_utf8_lossy(&buffer[..n]).into_owned())
    }

    #[test]
    fn states_are_lines_of_one_message() {
        let (_directory, manager, notifier) = listen();
        assert!(notifier.is_active() && notifier.watchdog() == Some(LIMIT));
        notifier.notify_once(&[NotifyState::Ready, NotifyState::Status("all up")]).unwrap();
        assert_eq!(receive(&manager).as_deref(), Some("READY=1\nSTATUS=all up"));
        assert_eq!(receive(&manager), None);
    }

    #[test]
    fn abstract_name_is_reached() {
        let name = format!("maglev-notify-{}", std::process::id());
        let manager = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        let notifier = ServiceNotifier::connect(OsStr::new(&format!("@{name}")), None).unwrap();
        notifier.notify(&[NotifyState::Watchdog]).unwrap();
        assert_eq!(receive(&manager).as_deref(), Some("WATCHDOG=1"));
    }

    #[test]
    fn full_queue_is_an_error_at_once() {
        let (_directory, manager, notifier) = listen();
        let sent = (0..10_000).take_while(|_| notifier.notify(&[NotifyState::Watchdog]).is_ok()).count();
        assert!((1..10_000).contains(&sent), "{sent}");
        assert_eq!(std::iter::from_fn(|| receive(&manager)).count(), sent);
    }

    #[test]
    fn notify_once_waits_for_room() {
        let (_directory, manager, notifier) = listen();
        while notifier.notify(&[NotifyState::Watchdog]).is_ok() {}
        let sender = notifier.clone();
        let ready = std::thread::spawn(move || sender.notify_once(&[NotifyState::Ready]));
        manager.set_nonblocking(false).unwrap();
        while receive(&manager).as_deref() != Some("READY=1") {}
        ready.join().unwrap().unwrap();
    }

    #[test]
    fn manager_that_restarts_is_reached_again() {
        let (directory, manager, notifier) = listen();
        drop(manager);
        let path = directory.path().join("notify");
        std::fs::remove_file(&path).unwrap();
        assert!(notifier.notify(&[NotifyState::Watchdog]).is_err());
        let manager = UnixDatagram::bind(&path).unwrap();
        notifier.notify(&[NotifyState::Watchdog]).unwrap();
        assert_eq!(receive(&manager).as_deref(), Some("WATCHDOG=1"));
    }
}
