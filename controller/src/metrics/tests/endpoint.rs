//! The endpoint over a unix socket.

use std::io::Read;

use flate2::read::GzDecoder;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::oneshot;

use super::*;
use crate::listen::bind_unix;

/// Returns the headers and the body of the response to a request.
async fn response_to(request: &str) -> (String, Vec<u8>) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("metrics.sock");
    let listener = bind_unix(&path).unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let metrics = Arc::new(Metrics::new().unwrap());
    let shutdown = async { drop(stopped.await) };
    let (handle, hosts) = (fixture::owner(fixture::view()), HostNames::default());
    let server = tokio::spawn(serve(vec![listener], handle, metrics, hosts, shutdown));
    let mut client = UnixStream::connect(&path).await.unwrap();
    client.write_all(format!("{request}\r\nHost: x\r\n\r\n").as_bytes()).await.unwrap();
    let mut respond = Vec::new();
    // The server may close the connection before it has read the whole request.
    let _ = client.read_to_end(&mut respond).await;
    drop(stop);
    server.await.unwrap();
    let end = respond.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap();
    let body = respond.split_off(end + 4);
    (String::from_utf8(respond).unwrap(), body)
}

fn text(body: &[u8]) -> &str {
    std::str::from_utf8(body).unwrap()
}

#[tokio::test]
async fn get_and_head_succeed() {
    let (head, body) = response_to("GET /metrics HTTP/1.1").await;
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(head.contains("content-type: text/plain; version=0.0.4; charset=utf-8\r\n"), "{head}");
    assert!(head.contains("vary: accept, accept-encoding\r\n"), "{head}");
    assert!(text(&body).contains("\nmaglev_vpp_connected 1\n"));

    let (head, body) = response_to("HEAD /metrics HTTP/1.1").await;
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && body.is_empty(), "{head}");
}

#[tokio::test]
async fn open_metrics_and_gzip_are_negotiated() {
    let (head, body) =
        response_to("GET /metrics HTTP/1.1\r\nAccept: application/openmetrics-text; version=1.0.0").await;
    assert!(head.contains("content-type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n"));
    assert!(text(&body).ends_with("\n# EOF\n"));

    let (head, body) = response_to("GET /metrics HTTP/1.1\r\nAccept-Encoding: gzip").await;
    assert!(head.contains("content-encoding: gzip\r\n"), "{head}");
    assert!(head.contains(&format!("content-length: {}\r\n", body.len())), "{head}");
    let mut unpacked = String::new();
    GzDecoder::new(&*body).read_to_string(&mut unpacked).unwrap();
    assert!(unpacked.contains("\nmaglev_vpp_connected 1\n"));
}

#[tokio::test]
async fn other_paths_point_to_metrics() {
    let (head, body) = response_to("GET / HTTP/1.1").await;
    assert!(head.starts_with("HTTP/1.1 404 Not Found\r\n"), "{head}");
    assert_eq!(text(&body), "the metrics are at /metrics\n");

    let (head, _) = response_to("POST /metrics HTTP/1.1").await;
    assert!(head.starts_with("HTTP/1.1 405 Method Not Allowed\r\n"), "{head}");
    assert!(head.contains("allow: GET, HEAD\r\n"));
}

#[tokio::test]
async fn large_request_is_refused() {
    let (head, _) = response_to(&format!("GET /metrics HTTP/1.1\r\nX: {}", "x".repeat(64 * 1024))).await;
    assert!(head.starts_with("HTTP/1.1 431 "), "{head}");
}
