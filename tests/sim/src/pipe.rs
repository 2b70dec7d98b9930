//! Links between the processes. Each direction is a queue of chunks. They arrive in order and late, and may be split.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use fastrand::Rng;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use super::process::{ClosableEnd, SimProcess};

/// Maximum latency without faults.
pub const NORMAL_LATENCY: Duration = Duration::from_millis(1);

/// Conditions of all pipes of one kind. Faults change them at any time.
#[derive(Debug)]
pub struct LinkConditions(Mutex<Impairment>);

/// The impairment of a link, as netem has it.
#[derive(Clone, Copy, Debug)]
pub struct Impairment {
    /// Maximum latency of each chunk.
    pub latency: Duration,
    /// Nothing arrives before, as if the reader were stopped.
    pub stalled_until: Instant,
}

impl LinkConditions {
    /// Returns normal conditions.
    pub fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(Impairment { latency: NORMAL_LATENCY, stalled_until: Instant::now() })))
    }

    /// Changes the conditions.
    pub fn set(&self, change: impl FnOnce(&mut Impairment)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn now(&self) -> Impairment {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One direction of a link.
#[derive(Debug)]
pub struct SimPipe {
    conditions: Arc<LinkConditions>,
    /// Maximum number of bytes or messages in flight; 0 is unlimited.
    capacity: usize,
    state: Mutex<PipeState>,
}

#[derive(Debug)]
struct PipeState {
    rng: Rng,
    /// Chunks in flight, with their arrival times.
    queue: VecDeque<(Instant, Vec<u8>)>,
    /// Number of bytes or messages in flight, as in `capacity`.
    in_flight: usize,
    closed: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl PipeState {
    fn wake(&mut self) {
        for waker in [self.reader.take(), self.writer.take()].into_iter().flatten() {
            waker.wake();
        }
    }
}

impl ClosableEnd for SimPipe {
    fn close(&self) {
        self.close();
    }
}

impl SimPipe {
    /// Returns a pipe with these conditions.
    pub fn new(conditions: &Arc<LinkConditions>, capacity: usize, seed: u64) -> Arc<Self> {
        let state = PipeState {
            rng: Rng::with_seed(seed),
            queue: VecDeque::new(),
            in_flight: 0,
            closed: false,
            reader: None,
            writer: None,
        };
        Arc::new(Self { conditions: Arc::clone(conditions), capacity, state: Mutex::new(state) })
    }

    /// Closes the pipe. Chunks in flight arrive before the end of file.
    pub fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.wake();
    }

    /// Cuts the pipe. Chunks in flight are lost.
    pub fn cut(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.queue.clear();
        state.wake();
    }

    /// Sends a whole message, if there is room.
    pub fn send(&self, piece: Vec<u8>) -> io::Result<()> {
        let mut state = self.lock();
        if state.closed {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        if self.capacity > 0 && state.in_flight >= self.capacity {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        state.in_flight += 1;
        self.enqueue(&mut state, piece);
        Ok(())
    }

    /// Receives a whole message, if one has arrived. An empty one is the end of file.
    pub fn receive(&self) -> io::Result<Vec<u8>> {
        let mut state = self.lock();
        match state.queue.front() {
            None if state.closed => Ok(Vec::new()),
            Some((due, _)) if self.arrival_time(*due) <= Instant::now() => {
                let (_, piece) = state.queue.pop_front().unwrap_or_else(|| (Instant::now(), Vec::new()));
                state.in_flight -= 1;
                if let Some(writer) = state.writer.take() {
                    writer.wake();
                }
                Ok(piece)
            }
            _ => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    /// Waits for a message or the end of file.
    pub async fn readable(&self) {
        let mut sleep = None;
        poll_fn(|context| self.poll_readable(context, &mut sleep)).await;
    }

    /// Waits for room or the end of file.
    pub async fn writable(&self) {
        poll_fn(|context| {
            let mut state = self.lock();
            if state.closed || state.in_flight < self.capacity {
                return Poll::Ready(());
            }
            state.writer = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    fn poll_readable(&self, context: &mut Context<'_>, sleep: &mut Option<Pin<Box<Sleep>>>) -> Poll<()> {
        loop {
            let mut state = self.lock();
            let due = match state.queue.front() {
                None if state.closed => return Poll::Ready(()),
                None => {
                    state.reader = Some(context.waker().clone());
                    return Poll::Pending;
                }
                Some((due, _)) => self.arrival_time(*due),
            };
            if due <= Instant::now() {
                return Poll::Ready(());
            }
            // A cut must wake the reader.
            state.reader = Some(context.waker().clone());
            drop(state);
            let sleep = sleep.get_or_insert_with(|| Box::pin(sleep_until(due)));
            if sleep.deadline() != due {
                sleep.as_mut().reset(due);
            }
            ready!(sleep.as_mut().poll(context));
        }
    }

    fn arrival_time(&self, due: Instant) -> Instant {
        due.max(self.conditions.now().stalled_until)
    }

    fn enqueue(&self, state: &mut PipeState, piece: Vec<u8>) {
        let most = self.conditions.now().latency.as_micros() as u64;
        // Most chunks arrive at once.
        let late = if state.rng.u8(..4) == 0 { state.rng.u64(0..=most) } else { 0 };
        let earliest = state.queue.back().map_or_else(Instant::now, |(due, _)| (*due).max(Instant::now()));
        state.queue.push_back((earliest.max(Instant::now() + Duration::from_micros(late)), piece));
        if let Some(reader) = state.reader.take() {
            reader.wake();
        }
    }

    fn lock(&self) -> MutexGuard<'_, PipeState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The reading end of a stream.
#[derive(Debug)]
pub struct PipeReader {
    pipe: Arc<SimPipe>,
    sleep: Option<Pin<Box<Sleep>>>,
}

/// The writing end of a stream.
#[derive(Debug)]
pub struct PipeWriter {
    pipe: Arc<SimPipe>,
    process: Arc<SimProcess>,
}

impl PipeReader {
    /// Returns the reading end of this pipe.
    pub fn new(pipe: &Arc<SimPipe>) -> Self {
        Self { pipe: Arc::clone(pipe), sleep: None }
    }
}

impl PipeWriter {
    /// Returns the writing end that belongs to `process`.
    pub fn new(pipe: &Arc<SimPipe>, process: &Arc<SimProcess>) -> Self {
        process.close_on_exit(Arc::<SimPipe>::clone(pipe));
        Self { pipe: Arc::clone(pipe), process: Arc::clone(process) }
    }
}

impl Drop for PipeReader {
    fn drop(&mut self) {
        self.pipe.cut();
    }
}

impl Drop for PipeWriter {
    fn drop(&mut self) {
        self.pipe.close();
    }
}

impl AsyncRead for PipeReader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        ready!(this.pipe.poll_readable(context, &mut this.sleep));
        let mut state = this.pipe.lock();
        let PipeState { rng, queue, in_flight, writer, .. } = &mut *state;
        let Some((_, piece)) = queue.front_mut() else { return Poll::Ready(Ok(())) };
        // The reader may get a chunk in parts.
        let whole = piece.len().min(into.remaining());
        let some = if rng.u8(..8) == 0 { rng.usize(1..=whole.max(1)).min(whole) } else { whole };
        into.put_slice(&piece[..some]);
        piece.drain(..some);
        if piece.is_empty() {
            queue.pop_front();
        }
        *in_flight = in_flight.saturating_sub(some);
        if let Some(writer) = writer.take() {
            writer.wake();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for PipeWriter {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let pipe = &self.pipe;
        let mut state = pipe.lock();
        if state.closed {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let room =
            if pipe.capacity == 0 { usize::MAX } else { pipe.capacity.saturating_sub(state.in_flight) };
        if room == 0 {
            state.writer = Some(context.waker().clone());
            return Poll::Pending;
        }
        let whole = bytes.len().min(room);
        let some = if state.rng.u8(..8) == 0 { state.rng.usize(1..=whole.max(1)) } else { whole };
        drop(state);
        if !self.process.take_effect() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let mut state = pipe.lock();
        state.in_flight += some;
        pipe.enqueue(&mut state, bytes[..some].to_vec());
        Poll::Ready(Ok(some))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.pipe.close();
        Poll::Ready(Ok(()))
    }
}
