//! Metrics endpoint over HTTP.

use std::convert::Infallible;
use std::future::Future;
use std::io::{self, Write};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::StreamExt;
use http::header::{ALLOW, CONTENT_ENCODING, CONTENT_TYPE, VARY};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tracing::debug;

use super::host_names::HostNames;
use super::render_cache::RenderCache;
use super::text::ExpositionFormat;
use super::{Metrics, accept};
use crate::handle::Handle;
use crate::listen::{self, AcceptedConnection, ClientStream, Listener};

/// Maximum number of connections per listener.
const MAX_CONNECTIONS: usize = 32;

/// Maximum size of a request, in bytes.
const MAX_REQUEST: usize = 16 * 1024;

/// Maximum time for a client to send its request.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);

/// Maximum duration of a connection: one request and its response.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(30);

const TEXT_FORMAT: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
const OPEN_METRICS: HeaderValue =
    HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
const PLAIN: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD");
const GZIP: HeaderValue = HeaderValue::from_static("gzip");
const NEGOTIATED: HeaderValue = HeaderValue::from_static("accept, accept-encoding");

/// State of the endpoint.
struct MetricsEndpoint {
    handle: Handle,
    metrics: Arc<Metrics>,
    hosts: HostNames,
    /// Serializes rendering: concurrent scrapes cost one thread and the memory of one.
    permit: Arc<Semaphore>,
    render_cache: Arc<RenderCache>,
}

/// Serves `/metrics` on `listeners` until `shutdown` completes. `hosts` are further names of this server.
pub async fn serve(
    listeners: Vec<Listener>,
    handle: Handle,
    metrics: Arc<Metrics>,
    hosts: HostNames,
    shutdown: impl Future<Output = ()>,
) {
    let endpoint = Arc::new(MetricsEndpoint {
        handle,
        metrics,
        hosts,
        permit: Arc::new(Semaphore::new(1)),
        render_cache: Arc::default(),
    });
    let mut connections = listen::accept(listeners, MAX_CONNECTIONS);
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let connection = tokio::select! {
            () = &mut shutdown => return,
            connection = connections.next() => connection,
        };
        match connection {
            Some(connection) => {
                tokio::spawn(timeout(
                    CONNECTION_TIMEOUT,
                    serve_connection(connection, Arc::clone(&endpoint)),
                ));
            }
            // There are no listeners.
            None => return shutdown.await,
        }
    }
}

async fn serve_connection(connection: AcceptedConnection, endpoint: Arc<MetricsEndpoint>) {
    let AcceptedConnection { stream, guard } = connection;
    let evicted = guard.evicted();
    // Browsers, which a foreign name might have led here, do not use unix sockets.
    let checks_host = matches!(stream, ClientStream::Tcp(_));
    // A connection with a request is evicted after those without.
    let under_way = OnceLock::new();
    let service = service_fn(|request| {
        under_way.get_or_init(|| guard.connection().call());
        respond(request, Arc::clone(&endpoint), checks_host)
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(MAX_REQUEST)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        served = served => if let Err(error) = served {
            debug!(%error, "metrics connection failed");
        },
        () = evicted.cancelled() => {}
    }
}

async fn respond<B>(
    request: Request<B>,
    endpoint: Arc<MetricsEndpoint>,
    checks_host: bool,
) -> Result<Response<Full<Bytes>>, Infallible> {
    if checks_host && !endpoint.hosts.admits(&request) {
        let words = "this name is not known here: use an address, or add the name to --metrics-hosts\n";
        return Ok(text_response(StatusCode::MISDIRECTED_REQUEST, words));
    }
    if request.uri().path() != "/metrics" {
        return Ok(text_response(StatusCode::NOT_FOUND, "the metrics are at /metrics\n"));
    }
    Ok(match *request.method() {
        // hyper sends only the headers in response to HEAD.
        Method::GET | Method::HEAD => {
            let (preferred_format, accepts_gzip) =
                (accept::preferred_format(request.headers()), accept::accepts_gzip(request.headers()));
            endpoint.scrape(preferred_format, accepts_gzip).await
        }
        _ => {
            let mut response = text_response(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
            response.headers_mut().insert(ALLOW, METHODS);
            response
        }
    })
}

impl MetricsEndpoint {
    async fn scrape(&self, preferred_format: ExpositionFormat, accepts_gzip: bool) -> Response<Full<Bytes>> {
        const GONE: &str = "maglevd is shutting down\n";
        let Ok(permit) = Arc::clone(&self.permit).acquire_owned().await else {
            return text_response(StatusCode::SERVICE_UNAVAILABLE, GONE);
        };
        let body = match self.render_cache.find((preferred_format, accepts_gzip)) {
            Some(body) => body,
            None => {
                let Ok(snapshot) = self.handle.snapshot().await else {
                    return text_response(StatusCode::SERVICE_UNAVAILABLE, GONE);
                };
                let (metrics, counters) = (Arc::clone(&self.metrics), self.handle.counters());
                let render_cache = Arc::clone(&self.render_cache);
                // At 10,000 backends this takes milliseconds, which must not delay probe outcomes. It keeps its
                // permit after the client disconnects.
                let rendered = tokio::task::spawn_blocking(move || {
                    let _turn = permit;
                    let text = metrics.render(&snapshot.view(), counters.as_deref(), preferred_format);
                    let body = if accepts_gzip { compress(&text)? } else { text.into_bytes() };
                    io::Result::Ok(render_cache.add((preferred_format, accepts_gzip), body))
                });
                let Ok(Ok(body)) = rendered.await else {
                    return text_response(
                        StatusCode::INTERNAL_SERVER_ERROR,
                        "the metrics cannot be rendered\n",
                    );
                };
                body
            }
        };
        let content_type = match preferred_format {
            ExpositionFormat::Text => TEXT_FORMAT,
            ExpositionFormat::OpenMetrics => OPEN_METRICS,
        };
        let mut response = with_type(StatusCode::OK, content_type, body);
        response.headers_mut().insert(VARY, NEGOTIATED);
        if accepts_gzip {
            response.headers_mut().insert(CONTENT_ENCODING, GZIP);
        }
        response
    }
}

/// Compresses at the fastest level, to about a twentieth. Better levels cost more than they save.
pub(super) fn compress(text: &str) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(text.len() / 16), Compression::fast());
    encoder.write_all(text.as_bytes())?;
    encoder.finish()
}

fn text_response(status: StatusCode, words: &'static str) -> Response<Full<Bytes>> {
    with_type(status, PLAIN, Bytes::from_static(words.as_bytes()))
}

fn with_type(status: StatusCode, content_type: HeaderValue, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}
