//! The client: it encodes calls, queues them, and waits for their replies.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;

use crate::call::{DumpReply, QueuedCall, ReplyResult, SingleReply};
use crate::connection::ConnectionTask;
use crate::error::{CloseReason, Error};
use crate::frame;
use crate::handshake::{self, MessageIds};
use crate::in_flight::CallsInFlight;
use crate::message::{
    ControlPing, DumpMessage, MemclntKeepalive, MemclntKeepaliveReply, Message, MessageHeader,
    RequestMessage, SockclntCreate, table_name,
};
use crate::observer::ApiObserver;

/// Limits and observer of a [`VppClient`].
#[derive(Clone)]
pub struct ClientOptions {
    /// Timeout of the handshake as a whole, and of each call after it was sent or, for a dump, after its last record.
    /// Default: 3 s.
    pub timeout: Duration,
    /// Largest number of calls in flight. VPP queues replies without a limit, so further calls wait here. Default: 256.
    pub in_flight: usize,
    /// Observer of all calls.
    pub observer: Arc<dyn ApiObserver>,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self { timeout: Duration::from_secs(3), in_flight: 256, observer: Arc::new(()) }
    }
}

/// A connection to one VPP. Clones share it. It closes after the last clone is dropped and its calls have ended.
///
/// VPP handles calls in the order in which [`VppClient::request`] and [`VppClient::dump`] were called, independent of the
/// polling of their futures. A call whose future is dropped before it is sent is discarded.
///
/// The caller must detect a dead VPP by periodic [`ControlPing`]s. One that times out ends the connection.
#[derive(Clone)]
pub struct VppClient {
    shared: Arc<SharedSession>,
    calls: mpsc::UnboundedSender<QueuedCall>,
    closed: watch::Receiver<Option<CloseReason>>,
}

struct SharedSession {
    index: u32,
    ids: MessageIds,
    version: String,
    context: AtomicU32,
}

impl VppClient {
    /// Connects to the API socket at `path`, with `name` (at most 63 bytes) as the client's name. Spawns a task on the current
    /// tokio runtime.
    ///
    /// # Errors
    /// [`Error::Connect`]; [`Error::Timeout`] if VPP does not reply; [`Error::Unsupported`] if it lacks one of
    /// [`crate::message::REQUIRED_MESSAGES`]; [`Error::NoPlugin`] if it lacks all of the plugin; [`Error::Lost`] if it closes
    /// the connection or violates the protocol.
    pub async fn connect(path: impl AsRef<Path>, name: &str, options: ClientOptions) -> Result<Self, Error> {
        let path = path.as_ref();
        let failed = |error| Error::Connect { path: path.to_owned(), reason: Arc::new(error) };
        let connected = timeout(options.timeout, UnixStream::connect(path)).await;
        let stream = connected.map_err(|_| handshake_timeout(options.timeout))?.map_err(failed)?;
        Self::from_stream(stream.into_split(), name, options).await
    }

    /// Does the same over an open stream to VPP, given as a reader and a writer.
    ///
    /// # Errors
    /// Those of [`VppClient::connect`], except [`Error::Connect`].
    pub async fn from_stream<R, W>(stream: (R, W), name: &str, options: ClientOptions) -> Result<Self, Error>
    where
        R: AsyncRead + Send + Unpin + 'static,
        W: AsyncWrite + Send + Unpin + 'static,
    {
        let limit = options.timeout;
        let handshake = handshake::open(stream, name, &*options.observer);
        let session = timeout(limit, handshake).await.map_err(|_| handshake_timeout(limit))??;

        let shared = SharedSession {
            index: session.index,
            ids: session.ids,
            version: session.version,
            context: AtomicU32::new(1),
        };
        let keepalive = (shared.id::<MemclntKeepalive>()?, shared.id::<MemclntKeepaliveReply>()?);
        let flight = CallsInFlight::new(limit, keepalive, options.observer);
        let (calls, queue) = mpsc::unbounded_channel();
        let connection =
            ConnectionTask::new(session.stream, session.splitter, queue, flight, options.in_flight.max(1));
        let (ended, closed) = watch::channel(None);
        tokio::spawn(async move { ended.send_replace(Some(connection.run().await)) });
        Ok(Self { shared: Arc::new(shared), calls, closed })
    }

    /// Returns VPP's version, such as `26.10-release`.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.shared.version
    }

    /// Sends a request and returns its reply.
    ///
    /// # Errors
    /// [`Error::Refused`] if VPP replies with an error; [`Error::Timeout`]; [`Error::Lost`]; [`Error::Hazard`], without sending,
    /// if the request is out of bounds.
    pub fn request<R: RequestMessage>(
        &self,
        request: &R,
    ) -> impl Future<Output = Result<R::Reply, Error>> + Send + use<R> {
        let waiting = self.enqueue_request(request);
        let closed = self.closed.clone();
        async move { await_reply(waiting?, closed).await }
    }

    /// Sends a dump and returns its records.
    ///
    /// # Errors
    /// [`Error::Lost`], also after a timeout or more than a million records.
    pub fn dump<D: DumpMessage>(
        &self,
        dump: &D,
    ) -> impl Future<Output = Result<Vec<D::Details>, Error>> + Send + use<D> {
        let waiting = self.enqueue_dump(dump);
        let closed = self.closed.clone();
        async move { await_reply(waiting?, closed).await }
    }

    /// Waits for the end of the connection and returns its reason.
    pub async fn closed(&self) -> CloseReason {
        close_reason(self.closed.clone()).await
    }

    fn enqueue_request<R: RequestMessage>(
        &self,
        request: &R,
    ) -> Result<oneshot::Receiver<ReplyResult<R::Reply>>, Error> {
        if let Some(why) = request.hazard() {
            return Err(Error::Hazard { message: R::NAME, why });
        }
        let (caller, waiting) = oneshot::channel();
        let receiver = SingleReply::<R> { reply_id: self.shared.id::<R::Reply>()?, caller: Some(caller) };
        let mut call = QueuedCall {
            message: R::NAME,
            context: self.shared.next_context(),
            frames: Vec::new(),
            names: Vec::new(),
            must_reply: R::NAME == ControlPing::NAME,
            receiver: Box::new(receiver),
        };
        self.shared.encode(&mut call, request)?;
        self.enqueue(call);
        Ok(waiting)
    }

    /// Queues a dump and a ping under one context. Their replies have different message numbers.
    fn enqueue_dump<D: DumpMessage>(
        &self,
        dump: &D,
    ) -> Result<oneshot::Receiver<ReplyResult<Vec<D::Details>>>, Error> {
        let (caller, waiting) = oneshot::channel();
        let receiver = DumpReply::<D> {
            details_id: self.shared.id::<D::Details>()?,
            end_id: self.shared.id::<<ControlPing as RequestMessage>::Reply>()?,
            records: Vec::new(),
            caller: Some(caller),
        };
        let mut call = QueuedCall {
            message: D::NAME,
            context: self.shared.next_context(),
            frames: Vec::new(),
            names: Vec::new(),
            must_reply: true,
            receiver: Box::new(receiver),
        };
        self.shared.encode(&mut call, dump)?;
        self.shared.encode(&mut call, &ControlPing {})?;
        self.enqueue(call);
        Ok(waiting)
    }

    /// If the connection has ended, the call is dropped. Its caller then gets the reason from `closed`.
    fn enqueue(&self, call: QueuedCall) {
        _ = self.calls.send(call);
    }
}

impl SharedSession {
    fn next_context(&self) -> u32 {
        self.context.fetch_add(1, Ordering::Relaxed)
    }

    fn id<M: Message>(&self) -> Result<u16, Error> {
        self.ids.of::<M>().ok_or_else(|| Error::Unsupported {
            missing: vec![table_name((M::NAME, M::CRC))],
            version: self.version.clone(),
        })
    }

    fn encode<M: Message>(&self, call: &mut QueuedCall, message: &M) -> Result<(), Error> {
        let head = MessageHeader { client_index: self.index, context: call.context };
        frame::encode(&mut call.frames, self.id::<M>()?, head, message);
        call.names.push(M::NAME);
        Ok(())
    }
}

impl fmt::Debug for VppClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VppClient").field("version", &self.shared.version).finish_non_exhaustive()
    }
}

const fn handshake_timeout(limit: Duration) -> Error {
    Error::Timeout { message: SockclntCreate::NAME, limit }
}

async fn await_reply<T>(
    waiting: oneshot::Receiver<ReplyResult<T>>,
    closed: watch::Receiver<Option<CloseReason>>,
) -> Result<T, Error> {
    match waiting.await {
        Ok(result) => result,
        Err(_) => Err(Error::Lost(close_reason(closed).await)),
    }
}

async fn close_reason(mut closed: watch::Receiver<Option<CloseReason>>) -> CloseReason {
    match closed.wait_for(Option::is_some).await {
        Ok(reason) => reason.clone().unwrap_or(CloseReason::ClientDropped),
        // The runtime shut down and dropped the task.
        Err(_) => CloseReason::ClientDropped,
    }
}
