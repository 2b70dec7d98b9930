//! The endpoint.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use http::header::{ALLOW, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::time::timeout;
use tracing::debug;

use super::Metrics;
use crate::handle::Handle;
use crate::listen::{self, Connection, Listener};

/// How many connections each listener has at most. Each can hold a whole scrape in memory.
const MAX_CONNECTIONS: usize = 8;

/// How long a client may take to ask.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a connection lasts at most: one question and its answer.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(30);

const TEXT_FORMAT: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
const PLAIN: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD");

/// Serves `/metrics` on `listeners` until `shutdown` is there.
pub async fn serve(
    listeners: Vec<Listener>,
    handle: Handle,
    metrics: Arc<Metrics>,
    shutdown: impl Future<Output = ()>,
) {
    let mut connections = listen::accept(listeners, MAX_CONNECTIONS);
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let connection = tokio::select! {
            () = &mut shutdown => return,
            connection = connections.next() => connection,
        };
        match connection {
            Some(Ok(connection)) => {
                tokio::spawn(timeout(CONNECTION_TIMEOUT, talk(connection, handle.clone(), metrics.clone())));
            }
            Some(Err(_)) => {}
            // There is nothing to listen on.
            None => return shutdown.await,
        }
    }
}

async fn talk(connection: Connection, handle: Handle, metrics: Arc<Metrics>) {
    let Connection { stream, permit: _place } = connection;
    let service = service_fn(move |request| answer(request, handle.clone(), metrics.clone()));
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = served.await {
        debug!(%error, "a client of the metrics has failed");
    }
}

async fn answer<B>(
    request: Request<B>,
    handle: Handle,
    metrics: Arc<Metrics>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    if request.uri().path() != "/metrics" {
        return Ok(plain(StatusCode::NOT_FOUND, "the metrics are at /metrics\n"));
    }
    Ok(match *request.method() {
        Method::GET => scrape(&handle, metrics).await,
        Method::HEAD => with_type(StatusCode::OK, TEXT_FORMAT, Bytes::new()),
        _ => {
            let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
            response.headers_mut().insert(ALLOW, METHODS);
            response
        }
    })
}

async fn scrape(handle: &Handle, metrics: Arc<Metrics>) -> Response<Full<Bytes>> {
    let Ok(view) = handle.view().await else {
        return plain(StatusCode::SERVICE_UNAVAILABLE, "maglevd is shutting down\n");
    };
    // At 10,000 backends this takes milliseconds, which no probe's outcome shall wait for.
    let counters = handle.counters();
    match tokio::task::spawn_blocking(move || metrics.render(&view, counters.as_deref())).await {
        Ok(text) => with_type(StatusCode::OK, TEXT_FORMAT, text.into()),
        Err(_) => plain(StatusCode::INTERNAL_SERVER_ERROR, "the metrics cannot be rendered\n"),
    }
}

fn plain(status: StatusCode, words: &'static str) -> Response<Full<Bytes>> {
    with_type(status, PLAIN, Bytes::from_static(words.as_bytes()))
}

fn with_type(status: StatusCode, content_type: HeaderValue, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}
