//! The API socket: one thread accepts, and one per connection reads and answers.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use maglev_vpp::frame::Splitter;

use super::plugin::Crash;
use super::world::{Line, Outbox, World};

/// What all threads share.
pub(super) struct Shared {
    world: Mutex<World>,
    changed: Condvar,
    pub api_path: PathBuf,
    pub stats_path: PathBuf,
}

/// A client's connection.
struct Wire {
    stream: UnixStream,
    /// Held while writing: answers may come from another client's thread.
    writing: Mutex<()>,
    closing: AtomicBool,
}

impl Line for Wire {
    fn write(&self, bytes: &[u8]) {
        let _turn = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        // A client that has gone away is noticed by the thread that reads.
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

impl Shared {
    pub fn new(world: World, api_path: PathBuf, stats_path: PathBuf) -> Self {
        Self { world: Mutex::new(world), changed: Condvar::new(), api_path, stats_path }
    }

    pub fn lock(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn wait<'a>(&self, world: MutexGuard<'a, World>) -> MutexGuard<'a, World> {
        self.changed.wait(world).unwrap_or_else(PoisonError::into_inner)
    }

    pub fn wait_timeout<'a>(
        &self,
        world: MutexGuard<'a, World>,
        limit: std::time::Duration,
    ) -> MutexGuard<'a, World> {
        self.changed.wait_timeout(world, limit).unwrap_or_else(PoisonError::into_inner).0
    }

    /// Something happened that a thread may wait for.
    pub fn notify(&self) {
        self.changed.notify_all();
    }

    /// The end of this VPP's life.
    pub fn crash(&self, world: &mut World, Crash(reason): Crash) {
        world.crashed.get_or_insert(reason);
        self.end_life(world);
    }

    /// Drops every connection. The listening sockets go with their threads, which the caller wakes.
    pub fn end_life(&self, world: &mut World) {
        world.birth.life += 1;
        for line in world.lines() {
            line.close();
        }
        self.notify();
    }

    /// Makes the thread that accepts look around.
    pub fn wake_acceptor(&self) {
        _ = UnixStream::connect(&self.api_path);
    }
}

/// Removes the socket that an earlier life left at `path`.
pub(super) fn clear(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Binds the socket at `path`, whatever was there before.
pub(super) fn bind(path: &Path) -> io::Result<UnixListener> {
    clear(path)?;
    UnixListener::bind(path)
}

/// Accepts connections for as long as `life` lasts.
pub(super) fn accept(shared: &Arc<Shared>, listener: &UnixListener, life: u32) {
    for stream in listener.incoming() {
        let mut world = shared.lock();
        while world.birth.life == life && world.faults.pause_accept {
            world = shared.wait(world);
        }
        if world.birth.life != life {
            return;
        }
        let Ok(stream) = stream else { continue };
        let line = Arc::new(Wire { stream, writing: Mutex::new(()), closing: AtomicBool::new(false) });
        let slot = world.register(Arc::<Wire>::clone(&line));
        let shared = Arc::clone(shared);
        thread::spawn(move || {
            serve(&shared, &line, slot, life);
            line.close();
            let mut world = shared.lock();
            if world.birth.life == life {
                world.unregister(slot);
            }
            drop(world);
            shared.notify();
        });
    }
}

/// Serves one connection until it ends.
fn serve(shared: &Shared, line: &Wire, slot: usize, life: u32) {
    let mut splitter = Splitter::default();
    let mut buffer = vec![0; 64 << 10];
    loop {
        let Ok(read @ 1..) = (&line.stream).read(&mut buffer) else { return };
        splitter.space().extend(&buffer[..read]);
        let mut out = Outbox::default();
        loop {
            // A frame that VPP would wait for in vain.
            let Ok(payload) = splitter.payload() else { return };
            let Some(payload) = payload else { break };
            if handle(shared, slot, life, payload, &mut out).is_none() {
                return;
            }
        }
        for (line, bytes) in out.0 {
            line.write(&bytes);
        }
    }
}

/// Handles one message. `None`: the connection is to be dropped.
fn handle(shared: &Shared, slot: usize, life: u32, payload: &[u8], out: &mut Outbox) -> Option<()> {
    let mut world = shared.lock();
    while world.birth.life == life && world.faults.hang {
        world = shared.wait(world);
    }
    if world.birth.life != life {
        return None;
    }
    if world.faults.mute {
        return Some(());
    }
    let result = world.handle(slot, payload, out);
    if let Err(crash) = result {
        shared.crash(&mut world, crash);
        drop(world);
        shared.wake_acceptor();
        return None;
    }
    let drop_now = world.faults.drop_after.as_mut().is_some_and(|left| {
        *left = left.saturating_sub(1);
        *left == 0
    });
    if drop_now {
        world.faults.drop_after = None;
    }
    let delay = world.faults.delay;
    drop(world);
    shared.notify();
    if drop_now {
        return None;
    }
    if !delay.is_zero() {
        thread::sleep(delay);
    }
    Some(())
}
