//! Watchdog and status notifications, sent from the driver's own loop.
//!
//! Only this module feeds the watchdog, so a hang of the driver is detected. Sends never block: a service manager
//! that does not read its socket loses notifications.

use std::time::Duration;

use maglev_notify::{NotifyState, ServiceNotifier};
use tokio::time::Instant;
use tracing::debug;

/// Minimum interval between status messages.
const STATUS_PAUSE: Duration = Duration::from_secs(1);

/// Notifier of the driver.
#[derive(Debug)]
pub struct DriverStatus {
    notifier: ServiceNotifier,
    /// Watchdog interval, and the time of the next notification.
    watchdog: Option<(Duration, Instant)>,
    /// Last status sent.
    status: String,
    /// Earliest time of the next status.
    next_status: Instant,
    changed: bool,
}

/// Notifier without a service manager.
impl Default for DriverStatus {
    fn default() -> Self {
        Self::new(ServiceNotifier::default())
    }
}

impl DriverStatus {
    /// Creates the driver's part of `notifier`.
    #[must_use]
    pub fn new(notifier: ServiceNotifier) -> Self {
        let now = Instant::now();
        let watchdog = notifier.watchdog().map(|limit| (limit / 2, now));
        Self { notifier, watchdog, status: String::new(), next_status: now, changed: true }
    }

    /// Marks the status as changed.
    pub const fn changed(&mut self) {
        self.changed = true;
    }

    /// Sends due notifications. `status` returns the current status.
    pub fn poll(&mut self, status: impl FnOnce() -> String) {
        if !self.notifier.is_active() {
            return;
        }
        let now = Instant::now();
        if let Some((interval, next_deadline)) = &mut self.watchdog
            && *next_deadline <= now
        {
            *next_deadline = now + *interval;
            send(&self.notifier, NotifyState::Watchdog);
        }
        if self.changed && self.next_status <= now {
            self.changed = false;
            let status = status();
            if status != self.status {
                self.next_status = now + STATUS_PAUSE;
                send(&self.notifier, NotifyState::Status(&status));
                self.status = status;
            }
        }
    }

    /// Returns the time at which the driver must call again.
    pub fn next_deadline(&self) -> Option<Instant> {
        let status = (self.notifier.is_active() && self.changed).then_some(self.next_status);
        let watchdog = self.watchdog.map(|(_, next_deadline)| next_deadline);
        watchdog.into_iter().chain(status).min()
    }
}

fn send(notifier: &ServiceNotifier, state: NotifyState<'_>) {
    if let Err(error) = notifier.notify(&[state]) {
        debug!(%error, "cannot notify the service manager");
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;

    use super::*;

    /// Returns a service manager, and a notifier of it.
    fn listen(watchdog: Option<Duration>) -> (tempfile::TempDir, UnixDatagram, DriverStatus) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let received = UnixDatagram::bind(&path).unwrap();
        received.set_nonblocking(true).unwrap();
        let status = DriverStatus::new(ServiceNotifier::connect(path.as_os_str(), watchdog).unwrap());
        (directory, received, status)
    }

    fn received(socket: &UnixDatagram) -> Vec<String> {
        let mut buffer = [0; 200];
        let receive =
            || socket.recv(&mut buffer).ok().map(|n| String::from_utf8_lossy(&buffer[..n]).into_owned());
        std::iter::from_fn(receive).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn watchdog_is_fed_at_half_the_limit() {
        let (_directory, manager, mut status) = listen(Some(Duration::from_secs(4)));
        let mut beats = 0;
        for _ in 0..100 {
            status.poll(String::new);
            beats += received(&manager).iter().filter(|state| *state == "WATCHDOG=1").count();
            tokio::time::advance(Duration::from_millis(100)).await;
        }
        assert_eq!(beats, 5);
        assert!(status.next_deadline().unwrap() <= Instant::now() + Duration::from_secs(2));
    }

    #[tokio::test(start_paused = true)]
    async fn status_is_sent_on_change_once_a_second() {
        let (_directory, manager, mut status) = listen(None);
        status.poll(|| "1 up".into());
        assert_eq!(received(&manager), ["STATUS=1 up"]);
        for _ in 0..9 {
            status.changed();
            status.poll(|| panic!("too soon"));
            tokio::time::advance(Duration::from_millis(100)).await;
        }
        assert_eq!(status.next_deadline(), Some(Instant::now() + Duration::from_millis(100)));
        tokio::time::advance(Duration::from_millis(100)).await;
        status.poll(|| "1 down".into());
        assert_eq!((received(&manager), status.next_deadline()), (vec!["STATUS=1 down".to_owned()], None));
        tokio::time::advance(STATUS_PAUSE).await;
        status.changed();
        status.poll(|| "1 down".into());
        assert_eq!(received(&manager), [""; 0]);
    }

    #[tokio::test]
    async fn slow_service_manager_never_blocks() {
        let (_directory, manager, mut status) = listen(Some(Duration::from_nanos(2)));
        for _ in 0..10_000 {
            status.poll(String::new);
        }
        assert!(received(&manager).len() < 10_000);
    }

    #[tokio::test]
    async fn without_service_manager_nothing_is_due() {
        let mut status = DriverStatus::default();
        status.poll(|| panic!("nobody asks"));
        assert_eq!(status.next_deadline(), None);
    }
}
