//! Watchdog and status notifications, sent from the driver's own loop.
//!
//! Only this module feeds the watchdog, so a hang of the driver is detected. Sends never block: a service manager
//! that does not read its socket loses notifications.

use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::Instant;
use tracing::debug;

/// Minimum interval between status messages.
const STATUS_PAUSE: Duration = Duration::from_secs(1);

/// Notifier of the driver.
#[derive(Debug)]
pub struct Pulse {
    manager: Option<Manager>,
    /// Watchdog interval, and the time of the next notification.
    beat: Option<(Duration, Instant)>,
    /// Last status sent.
    status: String,
    /// Earliest time of the next status.
    quiet_until: Instant,
    changed: bool,
}

/// Socket of the service manager.
#[derive(Debug)]
struct Manager {
    socket: UnixDatagram,
    address: SocketAddr,
}

/// Notifier without a service manager.
impl Default for Pulse {
    fn default() -> Self {
        Self::new(None, None)
    }
}

impl Pulse {
    /// Connects to the service manager named by the environment, if any.
    #[must_use]
    pub fn from_env() -> Self {
        let manager = env::var_os("NOTIFY_SOCKET").and_then(|name| {
            Manager::new(&name).inspect_err(|error| debug!(%error, "cannot notify the service manager")).ok()
        });
        Self::new(manager, sd_notify::watchdog_enabled())
    }

    /// Creates a notifier; `watchdog` is the service manager's timeout.
    fn new(manager: Option<Manager>, watchdog: Option<Duration>) -> Self {
        let now = Instant::now();
        let beat = watchdog.filter(|_| manager.is_some()).map(|limit| (limit / 2, now));
        Self { manager, beat, status: String::new(), quiet_until: now, changed: true }
    }

    /// Creates a notifier of the service manager at `socket`.
    #[cfg(test)]
    pub fn to(socket: &OsStr, watchdog: Duration) -> io::Result<Self> {
        Ok(Self::new(Some(Manager::new(socket)?), Some(watchdog)))
    }

    /// Marks the status as changed.
    pub const fn changed(&mut self) {
        self.changed = true;
    }

    /// Sends due notifications. `status` returns the current status.
    pub fn turn(&mut self, status: impl FnOnce() -> String) {
        let Some(manager) = &self.manager else { return };
        let now = Instant::now();
        if let Some((every, next)) = &mut self.beat
            && *next <= now
        {
            *next = now + *every;
            manager.tell(NotifyState::Watchdog);
        }
        if self.changed && self.quiet_until <= now {
            self.changed = false;
            let status = status();
            if status != self.status {
                self.quiet_until = now + STATUS_PAUSE;
                manager.tell(NotifyState::Status(&status));
                self.status = status;
            }
        }
    }

    /// Returns the time at which the driver must call again.
    pub fn next(&self) -> Option<Instant> {
        let status = (self.manager.is_some() && self.changed).then_some(self.quiet_until);
        let beat = self.beat.map(|(_, next)| next);
        beat.into_iter().chain(status).min()
    }
}

impl Manager {
    fn new(name: &OsStr) -> io::Result<Self> {
        let address = match name.as_bytes().strip_prefix(b"@") {
            Some(name) => SocketAddr::from_abstract_name(name)?,
            None => SocketAddr::from_pathname(name)?,
        };
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket, address })
    }

    fn tell(&self, state: NotifyState<'_>) {
        if let Err(error) = self.socket.send_to_addr(state.to_string().as_bytes(), &self.address) {
            debug!(%error, "cannot notify the service manager");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a service manager, and a notifier of it.
    fn listen(watchdog: Option<Duration>) -> (tempfile::TempDir, UnixDatagram, Pulse) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let heard = UnixDatagram::bind(&path).unwrap();
        heard.set_nonblocking(true).unwrap();
        let pulse = Pulse::new(Some(Manager::new(path.as_os_str()).unwrap()), watchdog);
        (directory, heard, pulse)
    }

    fn heard(socket: &UnixDatagram) -> Vec<String> {
        let mut buffer = [0; 200];
        let receive =
            || socket.recv(&mut buffer).ok().map(|n| String::from_utf8_lossy(&buffer[..n]).into_owned());
        std::iter::from_fn(receive).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn watchdog_is_fed_at_half_the_limit() {
        let (_directory, manager, mut pulse) = listen(Some(Duration::from_secs(4)));
        let mut beats = 0;
        for _ in 0..100 {
            pulse.turn(String::new);
            beats += heard(&manager).iter().filter(|state| *state == "WATCHDOG=1").count();
            tokio::time::advance(Duration::from_millis(100)).await;
        }
        assert_eq!(beats, 5);
        assert!(pulse.next().unwrap() <= Instant::now() + Duration::from_secs(2));
    }

    #[tokio::test(start_paused = true)]
    async fn status_is_sent_on_change_once_a_second() {
        let (_directory, manager, mut pulse) = listen(None);
        pulse.turn(|| "1 up".into());
        assert_eq!(heard(&manager), ["STATUS=1 up"]);
        for _ in 0..9 {
            pulse.changed();
            pulse.turn(|| panic!("too soon"));
            tokio::time::advance(Duration::from_millis(100)).await;
        }
        assert_eq!(pulse.next(), Some(Instant::now() + Duration::from_millis(100)));
        tokio::time::advance(Duration::from_millis(100)).await;
        pulse.turn(|| "1 down".into());
        assert_eq!((heard(&manager), pulse.next()), (vec!["STATUS=1 down".to_owned()], None));
        tokio::time::advance(STATUS_PAUSE).await;
        pulse.changed();
        pulse.turn(|| "1 down".into());
        assert_eq!(heard(&manager), [""; 0]);
    }

    #[tokio::test]
    async fn slow_service_manager_never_blocks() {
        let (_directory, manager, mut pulse) = listen(Some(Duration::from_nanos(2)));
        for _ in 0..10_000 {
            pulse.turn(String::new);
        }
        assert!(heard(&manager).len() < 10_000);
    }

    #[tokio::test]
    async fn without_service_manager_nothing_is_due() {
        let mut pulse = Pulse::new(None, Some(Duration::from_secs(1)));
        pulse.turn(|| panic!("nobody asks"));
        assert_eq!(pulse.next(), None);
    }
}
