//! The API socket: one thread accepts, and one thread per connection reads and answers.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use maglev_vpp::frame::FrameSplitter;

use super::crash::OutOfBounds;
use super::process::{ClientConnection, ReplyQueue, VppProcess};

/// State shared by all threads.
pub(super) struct SharedProcess {
    process: Mutex<VppProcess>,
    changed: Condvar,
    pub api_path: PathBuf,
    pub stats_path: PathBuf,
}

/// The connection of a client.
struct SocketConnection {
    stream: UnixStream,
    /// Held while writing, because replies may come from another client's thread.
    writing: Mutex<()>,
    closing: AtomicBool,
}

impl ClientConnection for SocketConnection {
    fn write(&self, bytes: &[u8]) {
        let _turn = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        // The reading thread notices a client that is gone.
        _ = (&self.stream).write_all(bytes);
        if self.closing.load(Ordering::Relaxed) {
            self.close();
        }
    }

    fn close(&self) {
        _ = self.stream.shutdown(Shutdown::Both);
    }

    fn close_when_written(&self) {
        self.closing.store(true, Ordering::Relaxed);
    }
}

impl SharedProcess {
    pub fn new(process: VppProcess, api_path: PathBuf, stats_path: PathBuf) -> Self {
        Self { process: Mutex::new(process), changed: Condvar::new(), api_path, stats_path }
    }

    pub fn lock(&self) -> MutexGuard<'_, VppProcess> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn wait<'a>(&self, process: MutexGuard<'a, VppProcess>) -> MutexGuard<'a, VppProcess> {
        self.changed.wait(process).unwrap_or_else(PoisonError::into_inner)
    }

    pub fn wait_timeout<'a>(
        &self,
        process: MutexGuard<'a, VppProcess>,
        limit: std::time::Duration,
    ) -> MutexGuard<'a, VppProcess> {
        self.changed.wait_timeout(process, limit).unwrap_or_else(PoisonError::into_inner).0
    }

    /// Wakes the threads that wait for a change.
    pub fn notify(&self) {
        self.changed.notify_all();
    }

    /// Records the crash, and ends this generation.
    pub fn crash(&self, process: &mut VppProcess, OutOfBounds(reason): OutOfBounds) {
        process.crash_reason.get_or_insert(reason);
        self.disconnect_all(process);
    }

    /// Closes all connections. The listening sockets close with their threads, which the caller wakes.
    pub fn disconnect_all(&self, process: &mut VppProcess) {
        process.identity.generation += 1;
        for connection in process.connections() {
            connection.close();
        }
        self.notify();
    }

    /// Wakes the accepting thread.
    pub fn wake_listener(&self) {
        _ = UnixStream::connect(&self.api_path);
    }
}

/// Removes a stale socket at `path`.
pub(super) fn clear(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Binds the socket at `path`, and replaces an existing one.
pub(super) fn bind(path: &Path) -> io::Result<UnixListener> {
    clear(path)?;
    UnixListener::bind(path)
}

/// Accepts connections until `generation` ends.
pub(super) fn accept(shared: &Arc<SharedProcess>, listener: &UnixListener, generation: u32) {
    for stream in listener.incoming() {
        let mut process = shared.lock();
        while process.identity.generation == generation && process.faults.pause_accept {
            process = shared.wait(process);
        }
        if process.identity.generation != generation {
            return;
        }
        let Ok(stream) = stream else { continue };
        let connection =
            Arc::new(SocketConnection { stream, writing: Mutex::new(()), closing: AtomicBool::new(false) });
        let slot = process.register(Arc::<SocketConnection>::clone(&connection));
        let shared = Arc::clone(shared);
        thread::spawn(move || {
            serve(&shared, &connection, slot, generation);
            connection.close();
            let mut process = shared.lock();
            if process.identity.generation == generation {
                process.unregister(slot);
            }
            drop(process);
            shared.notify();
        });
    }
}

/// Serves one connection until it ends.
fn serve(shared: &SharedProcess, connection: &SocketConnection, slot: usize, generation: u32) {
    let mut splitter = FrameSplitter::default();
    let mut buffer = vec![0; 64 << 10];
    loop {
        let Ok(read @ 1..) = (&connection.stream).read(&mut buffer) else { return };
        splitter.read_buffer().extend(&buffer[..read]);
        let mut out = ReplyQueue::default();
        loop {
            // VPP would wait forever for the rest of this frame.
            let Ok(payload) = splitter.next_payload() else { return };
            let Some(payload) = payload else { break };
            if handle(shared, slot, generation, payload, &mut out).is_none() {
                return;
            }
        }
        for (connection, bytes) in out.0 {
            connection.write(&bytes);
        }
    }
}

/// Handles one message. `None` closes the connection.
fn handle(
    shared: &SharedProcess,
    slot: usize,
    generation: u32,
    payload: &[u8],
    out: &mut ReplyQueue,
) -> Option<()> {
    let mut process = shared.lock();
    while process.identity.generation == generation && process.faults.hang {
        process = shared.wait(process);
    }
    if process.identity.generation != generation {
        return None;
    }
    if process.faults.drop_replies {
        return Some(());
    }
    let result = process.handle(slot, payload, out);
    if let Err(crash) = result {
        shared.crash(&mut process, crash);
        drop(process);
        shared.wake_listener();
        return None;
    }
    let drop_now = process.faults.drop_after.as_mut().is_some_and(|left| {
        *left = left.saturating_sub(1);
        *left == 0
    });
    if drop_now {
        process.faults.drop_after = None;
    }
    let delay = process.faults.delay;
    drop(process);
    shared.notify();
    if drop_now {
        return None;
    }
    if !delay.is_zero() {
        thread::sleep(delay);
    }
    Some(())
}
