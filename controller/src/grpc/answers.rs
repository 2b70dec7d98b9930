//! Memory budget of calls in progress, and of answers that clients have not taken yet.
//!
//! HTTP/2 lets a client open a call and never take its answer. An answer is therefore encoded at once, and its bytes are
//! counted until they are sent. Lists are encoded once for all concurrent callers, and their bytes count once. Beyond
//! the budget, the owner of the most bytes loses the connection with the longest untaken answer.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http_body_util::BodyExt;
use hyper::body::Frame;
use tokio::time::{Instant, interval};
use tonic::Status;
use tonic::body::Body;

use crate::connection_limit::{ApiConnection, ConnectionOwner};

/// Size of the pieces in which an answer is sent. The library keeps one piece beyond what the client takes.
const CHUNK: usize = 32 << 10;

/// Estimated memory of a call, in bytes, beside its answer.
const CALL_BYTES: usize = 16 << 10;

/// Maximum number of bytes of a connection's untaken answers. One answer may have more.
const CONNECTION_BYTES: usize = 8 << 20;

/// Budget of all calls and answers, in bytes.
const TOTAL_BYTES: usize = 64 << 20;

/// Maximum time for which a client takes nothing of an answer.
const STALL_TIMEOUT: Duration = Duration::from_secs(10);

/// Interval of searches for stalled answers.
const STALL_CHECK: Duration = Duration::from_secs(1);

/// Encoded answer in a response's extensions, which replaces the body: a prefix and a message, shared with other calls.
#[derive(Clone)]
pub struct EncodedAnswer(pub Bytes);

/// Budget of all calls. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct AnswerBudget(Arc<Mutex<HeldCalls>>);

#[derive(Debug, Default)]
struct HeldCalls {
    next: u64,
    calls: BTreeMap<u64, HeldCall>,
    /// Length and number of holders of each answer, by its address: equal answers share memory.
    answers: BTreeMap<usize, (usize, usize)>,
    /// Bytes of all answers.
    answer_bytes: usize,
}

#[derive(Debug)]
struct HeldCall {
    connection: Arc<ApiConnection>,
    /// Untaken answer.
    answer: Option<HeldBytes>,
    /// Time at which the client last took something.
    since: Instant,
}

/// Bytes that wait for a client.
#[derive(Clone, Copy, Debug)]
pub struct HeldBytes {
    /// Their address, by which shared bytes are counted once.
    pub address: usize,
    /// Their length.
    pub length: usize,
    /// True if the connection ends once the client has taken nothing for too long.
    pub expires: bool,
}

/// Call in progress, counted until the last clone is dropped.
#[derive(Clone, Debug)]
pub struct CallHold(Arc<HoldEntry>);

#[derive(Debug)]
struct HoldEntry {
    budget: AnswerBudget,
    number: u64,
}

impl AnswerBudget {
    /// Counts a call of `connection`.
    #[must_use]
    pub fn begin(&self, connection: &Arc<ApiConnection>) -> CallHold {
        let mut held = self.lock();
        let number = held.next;
        held.next += 1;
        let call = HeldCall { connection: Arc::clone(connection), answer: None, since: Instant::now() };
        held.calls.insert(number, call);
        held.evict_beyond_total(number);
        drop(held);
        CallHold(Arc::new(HoldEntry { budget: self.clone(), number }))
    }

    /// Ends connections whose clients take nothing of an answer for too long.
    pub async fn expire_stalled(self) -> Infallible {
        let mut ticks = interval(STALL_CHECK);
        loop {
            ticks.tick().await;
            let mut held = self.lock();
            while let Some(stalled) = held.stalled() {
                held.evict(&stalled);
            }
        }
    }

    /// Ignores poisoning: no holder leaves a partial update.
    fn lock(&self) -> MutexGuard<'_, HeldCalls> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl HeldCalls {
    /// Counts an answer that a client has yet to take.
    fn hold(&mut self, number: u64, bytes: HeldBytes) -> Result<(), Status> {
        let HeldBytes { address, length, .. } = bytes;
        self.release(number);
        // The connection may have been evicted meanwhile.
        let Some(connection) = self.calls.get(&number).map(|call| Arc::clone(&call.connection)) else {
            return Err(Status::unavailable("the connection ends"));
        };
        let others = self.calls.values().filter(|call| Arc::ptr_eq(&call.connection, &connection));
        let others: usize = others.map(HeldCall::answer_bytes).sum();
        if others > 0 && others + length > CONNECTION_BYTES {
            let limit = CONNECTION_BYTES >> 20;
            let why = format!("this connection has {limit} MiB of answers to take before more calls");
            return Err(Status::resource_exhausted(why));
        }
        if let Some(call) = self.calls.get_mut(&number) {
            (call.answer, call.since) = (Some(bytes), Instant::now());
        }
        let (_, holders) = self.answers.entry(address).or_insert((length, 0));
        *holders += 1;
        if *holders == 1 {
            self.answer_bytes += length;
        }
        self.evict_beyond_total(number);
        Ok(())
    }

    /// Forgets the answer of a call.
    fn release(&mut self, number: u64) {
        let Some(bytes) = self.calls.get_mut(&number).and_then(|call| call.answer.take()) else { return };
        if let Some((length, holders)) = self.answers.get_mut(&bytes.address) {
            *holders -= 1;
            if *holders == 0 {
                self.answer_bytes -= *length;
                self.answers.remove(&bytes.address);
            }
        }
    }

    fn remove(&mut self, number: u64) {
        self.release(number);
        self.calls.remove(&number);
    }

    /// Ends connections until the budget holds, but for the call `newcomer`.
    fn evict_beyond_total(&mut self, newcomer: u64) {
        while self.answer_bytes + self.calls.len() * CALL_BYTES > TOTAL_BYTES {
            let Some(victim) = self.eviction_victim(newcomer) else { return };
            self.evict(&victim);
        }
    }

    /// Picks the call of the heaviest owner with the longest untaken answer.
    fn eviction_victim(&self, newcomer: u64) -> Option<Arc<ApiConnection>> {
        let mut weights: BTreeMap<ConnectionOwner, usize> = BTreeMap::new();
        for call in self.calls.values() {
            *weights.entry(call.connection.owner()).or_default() += CALL_BYTES + call.answer_bytes();
        }
        let key = |call: &HeldCall| {
            let weight = weights.get(&call.connection.owner()).copied();
            (weight, call.answer.is_some(), call.since.elapsed())
        };
        let candidates = self.calls.iter().filter(|(number, _)| **number != newcomer);
        candidates.max_by_key(|(_, call)| key(call)).map(|(_, call)| Arc::clone(&call.connection))
    }

    fn stalled(&self) -> Option<Arc<ApiConnection>> {
        let expires = |call: &HeldCall| call.answer.is_some_and(|bytes| bytes.expires);
        let is_stalled = |call: &&HeldCall| expires(call) && call.since.elapsed() >= STALL_TIMEOUT;
        self.calls.values().find(is_stalled).map(|call| Arc::clone(&call.connection))
    }

    /// Ends a connection, and counts its calls no longer.
    fn evict(&mut self, connection: &Arc<ApiConnection>) {
        connection.evict();
        let of_it = self.calls.iter().filter(|(_, call)| Arc::ptr_eq(&call.connection, connection));
        let numbers: Vec<_> = of_it.map(|(number, _)| *number).collect();
        for number in numbers {
            self.remove(number);
        }
    }
}

impl HeldCall {
    fn answer_bytes(&self) -> usize {
        self.answer.map_or(0, |bytes| bytes.length)
    }
}

impl CallHold {
    /// Counts bytes until the client has taken them.
    ///
    /// # Errors
    /// RESOURCE_EXHAUSTED if the connection has too many untaken bytes.
    pub fn hold(&self, bytes: HeldBytes) -> Result<(), Status> {
        self.0.budget.lock().hold(self.0.number, bytes)
    }

    /// Records that the client takes bytes.
    pub fn progress(&self) {
        if let Some(call) = self.0.budget.lock().calls.get_mut(&self.0.number) {
            call.since = Instant::now();
        }
    }

    /// Forgets the answer, which the client has taken.
    pub fn release(&self) {
        self.0.budget.lock().release(self.0.number);
    }

    /// Encodes the answer of a unary call, and counts it until the client has taken it.
    pub async fn answer(self, response: http::Response<Body>) -> http::Response<Body> {
        if Status::from_header_map(response.headers()).is_some() {
            return response;
        }
        let (mut parts, body) = response.into_parts();
        let collected = match body.collect().await {
            Ok(collected) => collected,
            Err(status) => return status.into_http(),
        };
        let trailers = collected.trailers().cloned();
        let encoded = parts.extensions.remove::<EncodedAnswer>();
        let data = encoded.map_or_else(|| collected.to_bytes(), |EncodedAnswer(bytes)| bytes);
        let bytes = HeldBytes { address: data.as_ptr().addr(), length: data.len(), expires: true };
        if let Err(status) = self.hold(bytes) {
            return status.into_http();
        }
        http::Response::from_parts(parts, Body::new(AnswerBody { data, trailers, hold: Some(self) }))
    }
}

impl Drop for HoldEntry {
    fn drop(&mut self) {
        self.budget.lock().remove(self.number);
    }
}

/// Answer that is sent in pieces, as the client takes them.
struct AnswerBody {
    data: Bytes,
    trailers: Option<HeaderMap>,
    hold: Option<CallHold>,
}

impl hyper::body::Body for AnswerBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if !self.data.is_empty() {
            if let Some(hold) = &self.hold {
                hold.progress();
            }
            let length = self.data.len().min(CHUNK);
            return Poll::Ready(Some(Ok(Frame::data(self.data.split_to(length)))));
        }
        let trailers = self.trailers.take();
        if trailers.is_none() {
            self.hold = None;
        }
        Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.data.is_empty() && self.trailers.is_none()
    }
}

#[cfg(test)]
mod tests;
