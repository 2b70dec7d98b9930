//! The client.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;

use crate::call::{Answer, Call, Many, One};
use crate::connection::Connection;
use crate::error::{Closed, Error};
use crate::flight::Flight;
use crate::frame;
use crate::handshake::{self, Ids};
use crate::message::{
    ControlPing, Dump, Head, MemclntKeepalive, MemclntKeepaliveReply, Message, Request, SockclntCreate,
    table_name,
};
use crate::observer::Observer;

/// How a [`Client`] treats VPP.
#[derive(Clone)]
pub struct Options {
    /// How long the handshake may take in all, and each call from the moment it is sent, or a dump from its last
    /// record: 3 s.
    pub timeout: Duration,
    /// How many calls VPP is given at once: 256. VPP itself has no limit, and queues answers without bound. The calls
    /// beyond wait here; there are never more of them than callers.
    pub in_flight: usize,
    /// Is told of each call.
    pub observer: Arc<dyn Observer>,
}

impl Default for Options {
    fn default() -> Self {
        Self { timeout: Duration::from_secs(3), in_flight: 256, observer: Arc::new(()) }
    }
}

/// A connection to one VPP. Clones share it; it closes when the last one is dropped and its calls are answered.
///
/// VPP does what it is asked in the order of the calls of [`Client::request`] and [`Client::dump`], whether or when
/// their futures are polled. A call whose future is dropped before its turn is not sent.
///
/// Whether VPP is alive is for the caller to find out, by a [`ControlPing`] now and then: one that is not answered
/// in time ends the connection.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
    calls: mpsc::UnboundedSender<Call>,
    closed: watch::Receiver<Option<Closed>>,
}

struct Shared {
    index: u32,
    ids: Ids,
    version: String,
    context: AtomicU32,
}

impl Client {
    /// Connects to the VPP whose API socket is at `path`, as `name` (63 bytes at most). Needs a tokio runtime, and
    /// leaves a task in it.
    ///
    /// # Errors
    /// [`Error::Connect`]; [`Error::Timeout`] when VPP accepts and does not answer; [`Error::Unsupported`] when it
    /// lacks a message of [`crate::message::NEEDED`]; [`Error::NoPlugin`] when it lacks all of the plugin's; [`Error::Lost`] when it hangs up or talks nonsense.
    pub async fn connect(path: impl AsRef<Path>, name: &str, options: Options) -> Result<Self, Error> {
        let path = path.as_ref();
        let failed = |error| Error::Connect { path: path.to_owned(), reason: Arc::new(error) };
        let connected = timeout(options.timeout, UnixStream::connect(path)).await;
        let stream = connected.map_err(|_| late(options.timeout))?.map_err(failed)?;
        Self::over(stream.into_split(), name, options).await
    }

    /// As [`Client::connect`], over a stream to VPP that is open already: what is read, and what is written.
    ///
    /// # Errors
    /// Those of [`Client::connect`], but [`Error::Connect`].
    pub async fn over<R, W>(stream: (R, W), name: &str, options: Options) -> Result<Self, Error>
    where
        R: AsyncRead + Send + Unpin + 'static,
        W: AsyncWrite + Send + Unpin + 'static,
    {
        let limit = options.timeout;
        let session = timeout(limit, handshake::open(stream, name)).await.map_err(|_| late(limit))??;

        let shared = Shared {
            index: session.index,
            ids: session.ids,
            version: session.version,
            context: AtomicU32::new(1),
        };
        let keepalive = (shared.id::<MemclntKeepalive>()?, shared.id::<MemclntKeepaliveReply>()?);
        let flight = Flight::new(limit, keepalive, options.observer);
        let (calls, queue) = mpsc::unbounded_channel();
        let connection =
            Connection::new(session.stream, session.splitter, queue, flight, options.in_flight.max(1));
        let (ended, closed) = watch::channel(None);
        tokio::spawn(async move { ended.send_replace(Some(connection.run().await)) });
        Ok(Self { shared: Arc::new(shared), calls, closed })
    }

    /// VPP's version, e.g. `26.10-release`.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.shared.version
    }

    /// Asks VPP for something.
    ///
    /// # Errors
    /// [`Error::Refused`] when VPP answers with an error; [`Error::Timeout`]; [`Error::Lost`]; [`Error::Hazard`],
    /// without a word to VPP, when VPP would not survive the request.
    pub fn request<R: Request>(
        &self,
        request: &R,
    ) -> impl Future<Output = Result<R::Reply, Error>> + Send + use<R> {
        let waiting = self.enqueue_request(request);
        let closed = self.closed.clone();
        async move { answer(waiting?, closed).await }
    }

    /// Asks VPP for a list.
    ///
    /// # Errors
    /// [`Error::Lost`], also when VPP falls silent or the list has more than a million records.
    pub fn dump<D: Dump>(
        &self,
        dump: &D,
    ) -> impl Future<Output = Result<Vec<D::Details>, Error>> + Send + use<D> {
        let waiting = self.enqueue_dump(dump);
        let closed = self.closed.clone();
        async move { answer(waiting?, closed).await }
    }

    /// Waits for the end of the connection, and says why it ended.
    pub async fn closed(&self) -> Closed {
        reason(self.closed.clone()).await
    }

    fn enqueue_request<R: Request>(&self, request: &R) -> Result<oneshot::Receiver<Answer<R::Reply>>, Error> {
        if let Some(why) = request.hazard() {
            return Err(Error::Hazard { message: R::NAME, why });
        }
        let (caller, waiting) = oneshot::channel();
        let answers = One::<R> { reply_id: self.shared.id::<R::Reply>()?, caller: Some(caller) };
        let mut call = Call {
            message: R::NAME,
            context: self.shared.next_context(),
            frames: Vec::new(),
            vital: R::NAME == ControlPing::NAME,
            answers: Box::new(answers),
        };
        self.shared.encode(&mut call, request)?;
        self.enqueue(call);
        Ok(waiting)
    }

    /// The ping shares the dump's context: their answers differ in their numbers.
    fn enqueue_dump<D: Dump>(&self, dump: &D) -> Result<oneshot::Receiver<Answer<Vec<D::Details>>>, Error> {
        let (caller, waiting) = oneshot::channel();
        let answers = Many::<D> {
            details_id: self.shared.id::<D::Details>()?,
            end_id: self.shared.id::<<ControlPing as Request>::Reply>()?,
            records: Vec::new(),
            caller: Some(caller),
        };
        let mut call = Call {
            message: D::NAME,
            context: self.shared.next_context(),
            frames: Vec::new(),
            vital: true,
            answers: Box::new(answers),
        };
        self.shared.encode(&mut call, dump)?;
        self.shared.encode(&mut call, &ControlPing {})?;
        self.enqueue(call);
        Ok(waiting)
    }

    /// When the connection has ended the call is dropped, and its caller learns the reason from `closed`.
    fn enqueue(&self, call: Call) {
        _ = self.calls.send(call);
    }
}

impl Shared {
    fn next_context(&self) -> u32 {
        self.context.fetch_add(1, Ordering::Relaxed)
    }

    fn id<M: Message>(&self) -> Result<u16, Error> {
        self.ids.of::<M>().ok_or_else(|| Error::Unsupported {
            missing: vec![table_name((M::NAME, M::CRC))],
            version: self.version.clone(),
        })
    }

    fn encode<M: Message>(&self, call: &mut Call, message: &M) -> Result<(), Error> {
        let head = Head { client_index: self.index, context: call.context };
        frame::encode(&mut call.frames, self.id::<M>()?, head, message);
        Ok(())
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("version", &self.shared.version).finish_non_exhaustive()
    }
}

const fn late(limit: Duration) -> Error {
    Error::Timeout { message: SockclntCreate::NAME, limit }
}

async fn answer<T>(
    waiting: oneshot::Receiver<Answer<T>>,
    closed: watch::Receiver<Option<Closed>>,
) -> Result<T, Error> {
    match waiting.await {
        Ok(answer) => answer,
        Err(_) => Err(Error::Lost(reason(closed).await)),
    }
}

async fn reason(mut closed: watch::Receiver<Option<Closed>>) -> Closed {
    match closed.wait_for(Option::is_some).await {
        Ok(reason) => reason.clone().unwrap_or(Closed::Released),
        // The runtime went down and took the task with it.
        Err(_) => Closed::Released,
    }
}
