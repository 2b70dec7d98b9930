//! Transport of gRPC connections: the peer, the opening deadline and eviction.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::sync::WaitForCancellationFutureOwned;
use tonic::transport::server::Connected;

use crate::access::Peer;
use crate::connection_limit::{ApiConnection, ConnectionGuard};

/// Length of the HTTP/2 client preface (RFC 9113 §3.4).
const PREFACE: usize = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".len();

/// Byte stream, with or without TLS.
pub trait Bytes: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Bytes for T {}

/// Connection that ends if its client does not speak HTTP/2 in time, or if it is evicted.
pub struct ClientTransport {
    bytes: Box<dyn Bytes>,
    /// Bytes of the preface still expected, with their deadline.
    opening: Option<(usize, Pin<Box<Sleep>>)>,
    evicted: Pin<Box<WaitForCancellationFutureOwned>>,
    caller: ApiCaller,
    _taken: ConnectionGuard,
}

/// Peer and connection of a call.
#[derive(Clone, Debug)]
pub struct ApiCaller {
    /// Peer.
    pub peer: Arc<Peer>,
    /// Description of the peer.
    pub name: Arc<str>,
    /// Entry in the connection limit.
    pub connection: Arc<ApiConnection>,
}

impl ClientTransport {
    /// Creates a connection of `peer` that must start HTTP/2 by `deadline`.
    pub fn new(
        bytes: Box<dyn Bytes>,
        peer: Peer,
        name: String,
        guard: ConnectionGuard,
        deadline: Instant,
    ) -> Self {
        let caller =
            ApiCaller { peer: peer.into(), name: name.into(), connection: Arc::clone(guard.connection()) };
        let evicted = Box::pin(guard.evicted().cancelled_owned());
        let opening = Some((PREFACE, Box::pin(sleep_until(deadline))));
        Self { bytes, opening, evicted, caller, _taken: guard }
    }
}

impl Connected for ClientTransport {
    type ConnectInfo = ApiCaller;

    fn connect_info(&self) -> ApiCaller {
        self.caller.clone()
    }
}

impl AsyncRead for ClientTransport {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.evicted.as_mut().poll(cx).is_ready() {
            // Report the end of the stream, as if the client had closed.
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        let read = Pin::new(&mut this.bytes).poll_read(cx, buf);
        let Some((wanted, deadline)) = &mut this.opening else { return read };
        match *wanted - (buf.filled().len() - before).min(*wanted) {
            0 => this.opening = None,
            left => {
                *wanted = left;
                if read.is_pending() {
                    ready!(deadline.as_mut().poll(cx));
                    return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
                }
            }
        }
        read
    }
}

impl AsyncWrite for ClientTransport {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.bytes).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.bytes).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.bytes.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.bytes).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.bytes).poll_shutdown(cx)
    }
}
