//! Tower layer that counts calls and messages of everything served.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use hyper::body::{Frame, SizeHint};
use tonic::body::Body;
use tonic::{Code, Status};
use tower::{Layer, Service};

use crate::metrics::{CallMetrics, CallTimer, MethodMetrics};

/// Header or trailer with the status.
const STATUS: &str = "grpc-status";

/// Length of a message prefix: a compression flag and the message length.
const PREFIX_LEN: usize = 5;

/// Layer that counts calls.
#[derive(Clone, Debug)]
pub struct MetricsLayer(pub Arc<CallMetrics>);

/// Service whose calls are counted.
#[derive(Clone, Debug)]
pub struct MetricsService<S> {
    inner: S,
    calls: Arc<CallMetrics>,
}

impl<S> Layer<S> for MetricsLayer {
    type Service = MetricsService<S>;

    fn layer(&self, inner: S) -> MetricsService<S> {
        MetricsService { inner, calls: Arc::clone(&self.0) }
    }
}

impl<S> Service<Request<Body>> for MetricsService<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let Some(call) = self.calls.start(request.uri().path()) else {
            return Box::pin(self.inner.call(request));
        };
        let method = Arc::clone(call.method());
        let response = self.inner.call(
            request.map(|body| Body::new(RequestBody { body, method, frames: MessageCounter::default() })),
        );
        // The future owns the call, so dropping it counts as a cancellation.
        Box::pin(async move { Ok(wrap_response(response.await?, call)) })
    }
}

fn wrap_response(response: Response<Body>, mut call: CallTimer) -> Response<Body> {
    // A call that fails before its first message has its status in the headers, and no body.
    if let Some(code) = code(response.headers()) {
        call.finish(code);
        return response;
    }
    response.map(|body| Body::new(ResponseBody { body, call, frames: MessageCounter::default() }))
}

fn code(headers: &HeaderMap) -> Option<Code> {
    headers.get(STATUS).map(|status| Code::from_bytes(status.as_bytes()))
}

/// Request body that counts messages.
struct RequestBody {
    body: Body,
    method: Arc<MethodMetrics>,
    frames: MessageCounter,
}

/// Response body that counts messages.
struct ResponseBody {
    body: Body,
    call: CallTimer,
    frames: MessageCounter,
}

type PolledFrame = Poll<Option<Result<Frame<Bytes>, Status>>>;

impl hyper::body::Body for RequestBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> PolledFrame {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(data) = frame.data_ref()
        {
            let messages = self.frames.count(data);
            self.method.count_received(messages);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl hyper::body::Body for ResponseBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> PolledFrame {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        match &polled {
            Poll::Pending => {}
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(data) = frame.data_ref() {
                    let messages = self.frames.count(data);
                    self.call.method().count_sent(messages);
                }
                if let Some(code) = frame.trailers_ref().and_then(code) {
                    self.call.finish(code);
                }
            }
            Poll::Ready(Some(Err(status))) => self.call.finish(status.code()),
            // A body without a status ends the call as Unknown, as the client sees it.
            Poll::Ready(None) => self.call.finish(Code::Unknown),
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Parser of message boundaries in a body.
#[derive(Debug, Default)]
struct MessageCounter {
    prefix: [u8; PREFIX_LEN],
    /// Bytes of the prefix read so far.
    prefix_len: usize,
    /// Bytes of the message still to come.
    remaining: usize,
}

impl MessageCounter {
    /// Advances over `data`, and returns the number of messages that end in it.
    fn count(&mut self, mut data: &[u8]) -> u64 {
        let mut complete = 0;
        while !data.is_empty() {
            if self.remaining > 0 {
                let passed = self.remaining.min(data.len());
                self.remaining -= passed;
                data = &data[passed..];
            } else {
                let passed = (PREFIX_LEN - self.prefix_len).min(data.len());
                self.prefix[self.prefix_len..][..passed].copy_from_slice(&data[..passed]);
                self.prefix_len += passed;
                data = &data[passed..];
                if self.prefix_len < PREFIX_LEN {
                    break;
                }
                self.prefix_len = 0;
                let [_, a, b, c, d] = self.prefix;
                self.remaining = u32::from_be_bytes([a, b, c, d]) as usize;
            }
            if self.remaining == 0 {
                complete += 1;
            }
        }
        complete
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_count_is_independent_of_chunks() {
        let body = [&[0, 0, 0, 0, 3][..], b"abc", &[0, 0, 0, 0, 0], &[1, 0, 0, 1, 0], &[7; 256]].concat();
        for size in 1..=body.len() {
            let mut frames = MessageCounter::default();
            let count: u64 = body.chunks(size).map(|chunk| frames.count(chunk)).sum();
            assert_eq!(count, 3, "in pieces of {size}");
        }
        assert_eq!(MessageCounter::default().count(&body[..body.len() - 1]), 2);
    }
}
