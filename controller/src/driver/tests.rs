//! Watchdog and status of the driver.

use std::os::unix::net::UnixDatagram;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::thread;

use maglev_notify::ServiceNotifier;
use tokio::runtime;
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt};

use super::*;
use crate::handle::{Handle, HandleEnds};
use crate::{clock, fixture};

/// Log writer that blocks once armed, until released.
struct BlockingLog {
    armed: Arc<AtomicBool>,
    blocked: Sender<()>,
    go_on: Mutex<Receiver<()>>,
}

impl<S: tracing::Subscriber> Layer<S> for BlockingLog {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        if self.armed.load(Ordering::Relaxed) && event.metadata().target().starts_with("maglevd") {
            self.blocked.send(()).unwrap();
            self.go_on.lock().unwrap_or_else(PoisonError::into_inner).recv().unwrap();
        }
    }
}

/// Waits for the next watchdog notification.
fn wait_for_watchdog(manager: &UnixDatagram) -> std::io::Result<()> {
    let mut buffer = [0; 200];
    while manager.recv(&mut buffer).map(|n| &buffer[..n] != b"WATCHDOG=1")? {}
    Ok(())
}

#[test]
fn stuck_driver_feeds_no_watchdog() {
    const LIMIT: Duration = Duration::from_millis(40);
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("notify");
    let manager = UnixDatagram::bind(&socket).unwrap();
    manager.set_read_timeout(Some(Duration::from_secs(30))).unwrap();

    let armed = Arc::new(AtomicBool::new(false));
    let (blocked, has_begun) = channel();
    let (release, go_on) = channel();
    let (inputs, input_receiver) = mpsc::channel(1);
    let (prober, _commands) = mpsc::unbounded_channel();
    let (netns, _) = watch::channel(None);
    let (pending_write, _) = watch::channel(Default::default());
    let (_handle, HandleEnds { requests, events, .. }) = Handle::new();
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    let stuck = BlockingLog { armed: Arc::clone(&armed), blocked, go_on: Mutex::new(go_on) };
    let driver = thread::spawn(move || {
        let subscriber = tracing_subscriber::registry().with(stuck);
        let _guard = tracing::subscriber::set_default(subscriber);
        let runtime = runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let driver_status =
                DriverStatus::new(ServiceNotifier::connect(socket.as_os_str(), Some(LIMIT)).unwrap());
            let channels = DriverChannels {
                inputs: input_receiver,
                requests,
                events,
                prober,
                netns,
                vpp: None,
                index_changes: broadcast::channel(1).0,
                pending_write,
                owned_vips: watch::channel(Default::default()).0,
                driver_status,
            };
            let (config, metrics) = (fixture::view().config, Arc::new(Metrics::new().unwrap()));
            Driver::new(config, metrics, channels, clock::SystemClock).run(stopped).await;
        });
    });
    wait_for_watchdog(&manager).unwrap();
    armed.store(true, Ordering::Relaxed);
    inputs.blocking_send(vec![Input::ProberUp]).unwrap();
    has_begun.recv().unwrap();
    // Drain earlier notifications.
    manager.set_nonblocking(true).unwrap();
    while wait_for_watchdog(&manager).is_ok() {}
    manager.set_nonblocking(false).unwrap();
    manager.set_read_timeout(Some(LIMIT * 10)).unwrap();
    wait_for_watchdog(&manager).unwrap_err();
    manager.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    armed.store(false, Ordering::Relaxed);
    release.send(()).unwrap();
    wait_for_watchdog(&manager).unwrap();
    stop.cancel();
    driver.join().unwrap();
}
