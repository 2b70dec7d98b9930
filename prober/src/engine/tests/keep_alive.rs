use std::io::{Read, Write};
use std::num::NonZeroU32;
use std::sync::mpsc::{Receiver, Sender, channel};

use maglev_ipc::HttpCheck;

use super::*;

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

fn keeping(address: SocketAddr, every: u32) -> Check {
    let mut check = super::http::get(address);
    if let ProbeKind::Http { http, .. } = &mut check.probe {
        http.keep_alive = NonZeroU32::new(every);
    }
    check
}

/// The same, of an answer that never passes. What is usual is known from passes alone, so such a check is never in doubt:
/// however slow this host is, no probe starts, and needs a connection of its own, while another is in flight.
fn undoubted(address: SocketAddr, every: u32) -> Check {
    let mut check = keeping(address, every);
    if let ProbeKind::Http { http, .. } = &mut check.probe {
        http.codes = vec![(204, 204)];
    }
    check
}

/// Waits for a whole request. Returns whether there was one.
fn request(stream: &mut TcpStream) -> bool {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            _ => return false,
        }
    }
    true
}

/// A server that does so with every request, given its number on its connection, until `answer` is false. Whenever a
/// connection has ended, it tells how many requests there were on it.
fn server(
    answer: impl Fn(&mut TcpStream, usize) -> bool + Clone + Send + 'static,
) -> (SocketAddr, Receiver<usize>) {
    let (sender, counts) = channel();
    let address = serve(move |stream| {
        let (answer, sender) = (answer.clone(), sender.clone());
        std::thread::spawn(move || converse(stream, &answer, &sender));
    });
    (address, counts)
}

fn converse(mut stream: TcpStream, answer: &impl Fn(&mut TcpStream, usize) -> bool, counts: &Sender<usize>) {
    let mut count = 0;
    while request(&mut stream) {
        count += 1;
        if !answer(&mut stream, count) {
            break;
        }
    }
    drop(stream);
    // The test may be over.
    let _ = counts.send(count);
}

fn always(bytes: &'static [u8]) -> impl Fn(&mut TcpStream, usize) -> bool + Clone + Send + 'static {
    move |stream, _| stream.write_all(bytes).is_ok()
}

/// The codes of the first probes of a check.
fn verdicts(check: Check, count: usize) -> Vec<(OutcomeCode, String)> {
    let (mut controller, _thread) = spawn();
    controller.greet();
    assert_eq!(controller.commit(1, &[(1, check)]), []);
    let mut found = Vec::new();
    while found.len() < count {
        found.extend(controller.outcomes().into_iter().map(|o| (o.code, o.detail.to_string())));
    }
    found.truncate(count);
    found
}

fn assert_all_pass(check: Check, count: usize) {
    assert_eq!(verdicts(check, count), vec![(OutcomeCode::L7Ok, "HTTP 200".to_owned()); count]);
}

/// All are answered, as [`undoubted`] has it.
fn assert_all_answered(check: Check, count: usize) {
    assert_eq!(verdicts(check, count), vec![(OutcomeCode::L7Sts, "HTTP 200".to_owned()); count]);
}

/// The first of what a server tells.
fn take(counts: &Receiver<usize>, count: usize) -> Vec<usize> {
    let stuck = Duration::from_millis(STUCK.into());
    (0..count).map(|_| counts.recv_timeout(stuck).expect("no connection has ended")).collect()
}

/// Sends a set with an interval of its own.
fn commit_at(controller: &mut Controller, interval: Duration, checks: &[(u32, Check)]) {
    controller.send(&ToProber::Begin { generation: 1 });
    controller.send_checks(interval, checks);
    controller.send(&ToProber::Commit { generation: 1 });
    assert_eq!(controller.until_committed(1), []);
}

#[test]
fn one_connection_serves_as_many_probes_as_the_check_says() {
    for answer in [
        OK,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nA: b\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    ] {
        let (address, counts) = server(always(answer));
        assert_all_answered(undoubted(address, 5), 21);
        assert_eq!(take(&counts, 4), [5; 4]);
    }
}

#[test]
fn a_kept_connection_is_not_announced_to_be_closed() {
    let (sender, receiver) = channel();
    let address = serve(move |mut stream| {
        let mut request = vec![0; 4096];
        let length = stream.read(&mut request).unwrap();
        sender.send(String::from_utf8_lossy(&request[..length]).into_owned()).unwrap();
    });
    probe(keeping(address, 5));
    let request = receiver.recv().unwrap().to_ascii_lowercase();
    assert!(request.ends_with("accept: */*\r\n\r\n") && !request.contains("connection"), "{request}");
}

#[test]
fn what_does_not_let_the_next_answer_be_told_from_this_one_ends_the_connection() {
    for answer in [
        &b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"[..],
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok, and more",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\nok",
    ] {
        let (address, counts) = server(always(answer));
        assert_all_pass(keeping(address, 5), 4);
        assert_eq!(take(&counts, 3), [1; 3]);
    }
}

#[test]
fn bytes_that_nobody_asked_for_between_two_probes_end_the_connection() {
    let (address, counts) = server(|stream, _| {
        stream.set_nodelay(true).unwrap();
        // The probe has its verdict by the first write, and may or may not have seen the second by then.
        stream.write_all(OK).is_ok() && stream.write_all(OK).is_ok()
    });
    let (mut controller, _thread) = spawn();
    controller.greet();
    assert_eq!(controller.commit(1, &[(1, keeping(address, 1000))]), []);
    assert_eq!(controller.outcome(1).code, OutcomeCode::L7Ok);
    assert_eq!(take(&counts, 1)[0], 1);
}

#[test]
fn a_connection_that_the_server_closes_between_two_probes_is_no_failure() {
    let (address, counts) = server(|stream, count| stream.write_all(OK).is_ok() && count < 3);
    assert_all_answered(undoubted(address, 1000), 10);
    assert_eq!(take(&counts, 3), [3; 3]);
}

#[test]
fn a_connection_that_the_server_closes_as_the_request_comes_is_no_failure() {
    let close = |_: &mut TcpStream| {};
    let reset = |stream: &mut TcpStream| {
        socket2::SockRef::from(&*stream).set_linger(Some(Duration::ZERO)).unwrap();
    };
    let tell = |stream: &mut TcpStream| {
        stream.write_all(b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n\r\n").unwrap();
    };
    for end in [close as fn(&mut TcpStream), reset, tell] {
        let (address, counts) = server(move |stream, count| {
            if count == 3 {
                end(stream);
                return false;
            }
            stream.write_all(OK).is_ok()
        });
        assert_all_answered(undoubted(address, 1000), 10);
        assert_eq!(take(&counts, 4), [3; 4]);
    }
}

#[test]
fn probes_that_were_begun_again_are_counted() {
    let (address, _counts) = server(|stream, count| count < 3 && stream.write_all(OK).is_ok());
    let (mut controller, _thread) = spawn();
    controller.greet();
    controller.commit(1, &[(1, keeping(address, 1000))]);
    let stats = controller.stats(|stats| stats.connections_retried > 0);
    assert!(stats.connections_retried <= stats.probes, "{stats:?}");
}

#[test]
fn a_fresh_connection_that_the_server_closes_is_a_failure() {
    let (address, _counts) = server(|_, _| false);
    let expected = (OutcomeCode::L7Rsp, "connection closed before an answer".to_owned());
    assert_eq!(verdicts(keeping(address, 1000), 3), [expected.clone(), expected.clone(), expected]);
    let (address, _counts) =
        server(|stream, _| stream.write_all(b"HTTP/1.1 408 Request Timeout\r\n\r\n").is_ok());
    assert_eq!(probe(keeping(address, 1000)), (OutcomeCode::L7Sts, "HTTP 408".to_owned()));
}

#[test]
fn an_answer_that_has_begun_is_an_answer() {
    let (address, _counts) = server(|stream, count| {
        let _ = stream.write_all(if count == 1 { OK } else { b"HTTP/1.1 2" });
        count == 1
    });
    let found = verdicts(keeping(address, 1000), 4);
    let codes: Vec<_> = found.iter().map(|(code, _)| *code).collect();
    assert_eq!(
        codes,
        [OutcomeCode::L7Ok, OutcomeCode::L7Rsp, OutcomeCode::L7Ok, OutcomeCode::L7Rsp],
        "{found:?}"
    );
}

#[test]
fn a_body_that_comes_after_the_verdict_is_awaited_until_the_next_probe() {
    let (verdict, is_told) = channel();
    let is_told = std::sync::Arc::new(std::sync::Mutex::new(is_told));
    let (address, counts) = server(move |stream, count| {
        let sent = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n").is_ok();
        // The first answer's body follows its verdict; that of the second never comes.
        count > 1 || (sent && is_told.lock().unwrap().recv().is_ok() && stream.write_all(b"ok").is_ok())
    });
    let (mut controller, _thread) = spawn();
    controller.greet();
    commit_at(&mut controller, Duration::from_millis(200), &[(1, keeping(address, 1000))]);
    for _ in 0..4 {
        assert_eq!(controller.outcome(1).code, OutcomeCode::L7Ok);
        verdict.send(()).unwrap();
    }
    assert_eq!(take(&counts, 1)[0], 2);
}

#[test]
fn a_listener_that_is_gone_is_noticed_by_the_next_fresh_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        drop(listener);
        converse(stream, &always(OK), &channel().0);
    });
    let mut found = verdicts(undoubted(address, 5), 7);
    assert_eq!(found.split_off(5), vec![(OutcomeCode::L4Con, "connection refused".to_owned()); 2]);
    assert_eq!(found, vec![(OutcomeCode::L7Sts, "HTTP 200".to_owned()); 5]);
}

#[test]
fn a_time_out_ends_the_connection() {
    let (address, counts) = server(|stream, count| count == 2 || stream.write_all(OK).is_ok());
    let (mut controller, _thread) = spawn();
    controller.greet();
    let timeout = ProbeTimeout::Fixed(Duration::from_millis(200));
    assert_eq!(controller.commit(1, &[(1, Check { timeout, ..keeping(address, 1000) })]), []);
    // On a slow host, what is answered may time out as well.
    let mut codes = Vec::new();
    while !codes.windows(3).any(|codes| codes == [OutcomeCode::L7Ok, OutcomeCode::L7Tout, OutcomeCode::L7Ok])
    {
        codes.extend(controller.outcomes().into_iter().map(|outcome| outcome.code));
    }
    assert!(codes.iter().all(|code| matches!(code, OutcomeCode::L7Ok | OutcomeCode::L7Tout)), "{codes:?}");
    // The third request would be answered.
    while take(&counts, 1)[0] < 2 {}
    assert!(counts.try_iter().all(|count| count <= 2));
}

#[test]
fn a_check_that_leaves_takes_its_connection_along() {
    let (address, counts) = server(always(OK));
    let (mut controller, _thread) = spawn();
    controller.greet();
    controller.commit(1, &[(1, keeping(address, 1000)), (2, keeping(address, 999))]);
    controller.outcome(1);
    controller.outcome(2);
    controller.commit(2, &[(3, keeping(address, 999))]);
    // The other one goes on as it was, and is no way for this one to end with the engine.
    let has_ended = (0..300).any(|_| {
        controller.outcome(3);
        counts.try_recv().is_ok()
    });
    assert!(has_ended && counts.try_recv().is_err());
}

#[test]
fn idle_connections_make_room_for_others() {
    let (address, counts) = server(always(OK));
    let (mut controller, _thread) = spawn();
    controller.greet();
    // More than the engine may have open.
    let checks: Vec<_> = (1..=150)
        .map(|id| {
            let mut check = keeping(address, 1000);
            if let ProbeKind::Http { http: HttpCheck { path, .. }, .. } = &mut check.probe {
                *path = format!("/{id}");
            }
            (id, check)
        })
        .collect();
    // Slowly, so that what is too much is not what is in flight.
    commit_at(&mut controller, Duration::from_secs(1), &checks);
    let mut seen = std::collections::HashSet::new();
    while seen.len() < 150 {
        for outcome in controller.outcomes() {
            assert_eq!(outcome.code, OutcomeCode::L7Ok, "{outcome:?}");
            seen.insert(outcome.check);
        }
    }
    take(&counts, 1);
}
