use std::io::{ErrorKind, Read, Write};
use std::sync::mpsc::channel;

use maglev_ipc::HttpCheck;
use maglev_ipc::check::MAX_INTERVAL;

use super::*;

pub fn get(address: SocketAddr) -> Check {
    matching(address, None)
}

fn matching(address: SocketAddr, body: Option<&str>) -> Check {
    let body = body.map(Into::into);
    let http =
        HttpCheck { path: "/x".into(), host: "h".into(), codes: vec![(200, 299)], body, keep_alive: None };
    check(address.ip(), ProbeKind::Http { port: address.port(), http, tls: None })
}

fn l7(code: OutcomeCode, detail: &str) -> (OutcomeCode, String) {
    (code, detail.to_owned())
}

#[test]
fn request_is_plain_http() {
    let (sender, receiver) = channel();
    let address = serve(move |mut stream| {
        let mut request = vec![0; 4096];
        let length = stream.read(&mut request).unwrap();
        stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap();
        request.truncate(length);
        sender.send(String::from_utf8(request).unwrap()).unwrap();
    });
    assert_eq!(probe(get(address)), l7(OutcomeCode::L7Ok, "HTTP 204"));
    let release = env!("CARGO_PKG_VERSION");
    assert_eq!(
        receiver.recv().unwrap(),
        format!(
            "GET /x HTTP/1.1\r\nHost: h\r\nUser-Agent: vpp-maglev/{release}\r\n\
             Accept: */*\r\nAccept-Encoding: identity\r\nConnection: close\r\n\r\n"
        )
    );
}

#[test]
fn status_determines_verdict() {
    assert_eq!(probe(get(responding("HTTP/1.1 200 OK\r\n\r\n"))), l7(OutcomeCode::L7Ok, "HTTP 200"));
    assert_eq!(probe(get(responding("HTTP/1.0 503 No\r\n\r\n"))), l7(OutcomeCode::L7Sts, "HTTP 503"));
    let elsewhere = "HTTP/1.1 301 Moved\r\nLocation: http://127.0.0.1:1/\r\n\r\n";
    assert_eq!(probe(get(responding(elsewhere))), l7(OutcomeCode::L7Sts, "HTTP 301"));
}

#[test]
fn body_is_matched() {
    let answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nall\r\n5\r\n well\r\n0\r\n\r\n";
    assert_eq!(probe(matching(responding(answer), Some("^all w.ll$"))).0, OutcomeCode::L7Ok);
    assert_eq!(
        probe(matching(responding(answer), Some("ill"))),
        l7(OutcomeCode::L7Rsp, "body does not match: \"all well\"")
    );
}

#[test]
fn response_in_single_bytes_passes() {
    let address = serve(|mut stream| {
        stream.set_nodelay(true).unwrap();
        let _ = stream.read(&mut [0; 4096]);
        for byte in b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok" {
            if stream.write_all(&[*byte]).is_err() {
                return;
            }
        }
    });
    assert_eq!(probe(matching(address, Some("^ok$"))).0, OutcomeCode::L7Ok);
}

#[test]
fn silent_server_times_out() {
    let (_listener, address) = silent();
    assert_eq!(probe(with_short_timeout(get(address))), l7(OutcomeCode::L7Tout, "no answer"));
}

#[test]
fn dripping_server_times_out() {
    let address = serve(|mut stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nX:");
        // Keeps the connection open until the prober closes it.
        let _ = stream.read_to_end(&mut Vec::new());
    });
    assert_eq!(probe(with_short_timeout(get(address))), l7(OutcomeCode::L7Tout, "no whole head"));
}

#[test]
fn hostile_responses_fail() {
    let endless_head = [&b"HTTP/1.1 200 OK\r\n"[..], &b"a: b\r\n".repeat(100_000)].concat();
    let endless_interim = b"HTTP/1.1 100 Continue\r\n\r\n".repeat(100_000);
    let gigabytes = [&b"HTTP/1.1 200 OK\r\n\r\n"[..], &vec![b'x'; 10_000_000]].concat();
    let excerpt = format!("body does not match: \"{}…\"", "x".repeat(60));
    let tiny_chunks =
        [&b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"[..], &b"1\r\nx\r\n".repeat(100_000)]
            .concat();
    for (answer, expected) in [
        (Vec::new(), "connection closed before an answer"),
        (b"HTTP/1.1 200".to_vec(), "connection closed within the head"),
        (b"SSH-2.0-OpenSSH_9.2\r\n".to_vec(), "not an HTTP answer"),
        (vec![0; 100_000], "not an HTTP answer"),
        (endless_head, "the head is larger than 64 KiB"),
        (endless_interim, "the head is larger than 64 KiB"),
        (gigabytes, excerpt.as_str()),
        (tiny_chunks, "too much chunk overhead"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\no".to_vec(), "connection closed within the body"),
    ] {
        assert_eq!(probe(matching(responding(answer), Some("ok"))), l7(OutcomeCode::L7Rsp, expected));
    }
}

#[test]
fn reset_after_accept_fails() {
    let address = serve(|stream| {
        let socket = socket2::Socket::from(stream);
        socket.set_linger(Some(Duration::ZERO)).unwrap();
    });
    let (code, detail) = probe(get(address));
    assert_eq!((code, detail.as_str()), (OutcomeCode::L7Rsp, "connection reset"));
}

#[test]
fn closed_port_is_refused() {
    assert_eq!(probe(get(closed_port())), l7(OutcomeCode::L4Con, "connection refused"));
}

/// Returns the end of a connection as the server sees it that sends `body` after the verdict and then closes.
fn end_of_connection(head: &'static [u8], body: &'static [u8]) -> std::io::Result<usize> {
    let (judged, verdict) = channel::<()>();
    let (sender, end) = channel();
    let address = serve(move |mut stream| {
        assert!(super::keep_alive::request(&mut stream));
        stream.write_all(head).unwrap();
        verdict.recv().unwrap();
        let sent = stream.write_all(body).and_then(|()| stream.shutdown(std::net::Shutdown::Write));
        sender.send(sent.and_then(|()| stream.read(&mut [0]))).unwrap();
    });
    let (mut controller, _thread) = spawn();
    controller.greet();
    super::keep_alive::commit_at(&mut controller, MAX_INTERVAL, &[(1, get(address))]);
    assert_eq!(controller.outcome(1).code, OutcomeCode::L7Ok);
    judged.send(()).unwrap();
    end.recv_timeout(Duration::from_millis(STUCK_MS.into())).unwrap()
}

#[test]
fn small_response_ends_without_reset() {
    for head in [
        &b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"[..],
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.0 200 OK\r\n\r\n",
    ] {
        let body: &[u8] = if head.ends_with(b"chunked\r\n\r\n") { b"2\r\nok\r\n0\r\n\r\n" } else { b"ok" };
        assert_eq!(end_of_connection(head, body).unwrap(), 0, "{}", head.escape_ascii());
    }
}

#[test]
fn large_response_ends_by_reset() {
    let end = end_of_connection(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", &[b'x'; 100_000]);
    assert!(matches!(end.unwrap_err().kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe));
}
