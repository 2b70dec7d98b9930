use proptest::prelude::*;

use super::*;

fn http(body: Option<&str>) -> HttpCheck {
    let body = body.map(Into::into);
    HttpCheck { path: "/".into(), host: "h".into(), codes: vec![(200, 204)], body, keep_alive: None }
}

fn compile(http: &HttpCheck) -> Result<HttpRequest, RejectReason> {
    HttpRequest::compile(http, &mut RegexpSet::new(1))
}

fn request(body: Option<&str>) -> HttpRequest {
    compile(&http(body)).unwrap()
}

/// Feeds bytes in pieces of a size, and then the end of the connection.
fn judge(request: &HttpRequest, bytes: &[u8], piece: usize) -> (Verdict, HttpResponse) {
    let mut answer = HttpResponse::default();
    for piece in bytes.chunks(piece) {
        if let Some(verdict) = answer.feed(request, piece) {
            return (verdict, answer);
        }
    }
    (answer.finish().unwrap(), answer)
}

fn expect(body: Option<&str>, bytes: &str, code: OutcomeCode, detail: &str) {
    let request = request(body);
    for piece in [1, 2, 3, 7, 10_000] {
        let (verdict, _) = judge(&request, bytes.as_bytes(), piece);
        assert_eq!(
            (verdict.code, verdict.detail.to_string().as_str()),
            (code, detail),
            "{bytes:?} by {piece}"
        );
    }
}

#[test]
fn interim_responses_are_skipped() {
    let interim = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n";
    expect(None, &format!("{interim}HTTP/1.1 200 OK\r\n\r\n"), OutcomeCode::L7Ok, "HTTP 200");
    expect(None, interim, OutcomeCode::L7Rsp, "connection closed before a final answer");
    expect(None, "HTTP/1.1 101 Switching Protocols\r\n\r\n", OutcomeCode::L7Sts, "HTTP 101");
}

#[test]
fn bare_newlines_end_heads() {
    expect(None, "HTTP/1.1 200 OK\nX: y\n\n", OutcomeCode::L7Ok, "HTTP 200");
}

#[test]
fn non_http_is_detected_by_first_bytes() {
    for bytes in ["x", "HTTP/2 200\r\n\r\n", "<html>", "\0", "ICY 200 OK\r\n\r\n", " HTTP/1.1 200 OK\r\n\r\n"]
    {
        expect(None, bytes, OutcomeCode::L7Rsp, "not an HTTP answer");
    }
    for bytes in ["HTTP/1.1 99999 x\r\n\r\n", "HTTP/1.1 2\r\n\r\n", "HTTP/1.1 200 OK\r\n: x\r\n\r\n"] {
        let (verdict, _) = judge(&request(None), bytes.as_bytes(), 1);
        assert_eq!(verdict.code, OutcomeCode::L7Rsp, "{bytes:?}");
    }
}

#[test]
fn head_determines_end_of_body() {
    let ok = |head: &str, body: &str| format!("HTTP/1.1 200 OK\r\n{head}\r\n{body}");
    let all = Some("^good$");
    expect(all, &ok("Content-Length: 4\r\n", "good, bad"), OutcomeCode::L7Ok, "HTTP 200");
    expect(all, &ok("", "good"), OutcomeCode::L7Ok, "HTTP 200");
    expect(
        all,
        &ok("Content-Length: 5\r\n", "good"),
        OutcomeCode::L7Rsp,
        "connection closed within the body",
    );
    expect(
        all,
        &ok("Transfer-Encoding: Chunked\r\n", "4\r\ngood\r\n0\r\n\r\n"),
        OutcomeCode::L7Ok,
        "HTTP 200",
    );
    expect(
        all,
        &ok("Transfer-Encoding: chunked\r\n", "4\r\ngood"),
        OutcomeCode::L7Rsp,
        "connection closed within the body",
    );
    expect(all, &ok("Content-Length: x\r\n", "good"), OutcomeCode::L7Rsp, "content-length is no number");
    let twice = "Content-Length: 4\r\nContent-Length: 5\r\n";
    expect(all, &ok(twice, "good"), OutcomeCode::L7Rsp, "two different content-lengths");
    expect(Some("^$"), "HTTP/1.1 204 No\r\nContent-Length: 5\r\n\r\n", OutcomeCode::L7Ok, "HTTP 204");
}

#[test]
fn bytes_outside_utf8_are_matched() {
    let request = request(Some("o.k"));
    let (verdict, _) = judge(&request, b"HTTP/1.1 200 OK\r\n\r\n\xff\xfeo\xffk", 5);
    assert_eq!(verdict.code, OutcomeCode::L7Ok);
}

/// Returns the verdict on a body that goes on.
fn judge_beginning(body: &str, head: &str, bytes: &str) -> Option<String> {
    let verdict = HttpResponse::default()
        .feed(&request(Some(body)), format!("HTTP/1.1 200 OK\r\n{head}\r\n{bytes}").as_bytes());
    verdict.map(|verdict| verdict.detail.to_string())
}

#[test]
fn match_ends_the_probe_before_the_body_ends() {
    let passed = Some("HTTP 200".to_owned());
    assert_eq!(judge_beginning("ok", "", "ok"), passed);
    assert_eq!(judge_beginning("^ok", "Content-Length: 100000\r\n", "ok"), passed);
    assert_eq!(judge_beginning("ok", "Transfer-Encoding: chunked\r\n", "2\r\nok"), passed);
    assert_eq!(judge_beginning("ok", "Transfer-Encoding: identity\r\nContent-Length: 2\r\n", "ok"), passed);
    for (pattern, body) in [("ok$", "ok"), ("never", "ok"), ("^ok", "not ok")] {
        assert_eq!(judge_beginning(pattern, "Content-Length: 100000\r\n", body), None, "{pattern}");
    }
}

#[test]
fn mismatch_shows_the_beginning_of_the_body() {
    let mismatch = |head: &str, body: &str, detail: &str| {
        let answer = format!("HTTP/1.1 200 OK\r\n{head}\r\n{body}");
        expect(Some("never"), &answer, OutcomeCode::L7Rsp, &format!("body does not match: {detail}"));
    };
    mismatch("", "<html>\n  all is\twell\r\n</html>", "\"<html> all is well </html>\"");
    mismatch("", &"x".repeat(100_000), &format!("\"{}…\"", "x".repeat(60)));
    mismatch("Content-Length: 0\r\n", "", "it is empty");
    mismatch("Content-Encoding: gzip\r\n", "\x1f", "it is compressed (gzip)");
    mismatch("Content-Encoding: identity\r\n", "ok", "\"ok\"");
    mismatch(
        "Content-Encoding: a\tb234567890123456789\r\n",
        "x",
        "it is compressed (a\\tb23456789012345678)",
    );
}

#[test]
fn repeated_equal_lengths_are_one() {
    for lengths in
        ["Content-Length: 2, 2", "Content-Length: 2\r\nContent-Length: 2 ,02", "Content-Length:2,2,2"]
    {
        let answer = format!("HTTP/1.1 200 OK\r\n{lengths}\r\n\r\nok, and more");
        expect(Some("^ok$"), &answer, OutcomeCode::L7Ok, "HTTP 200");
    }
    for (lengths, why) in [
        ("2, 3", "two different content-lengths"),
        ("2,", "content-length is no number"),
        (",2", "content-length is no number"),
        ("", "content-length is no number"),
        ("99999999999999999999", "content-length is no number"),
    ] {
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {lengths}\r\n\r\nok");
        expect(None, &answer, OutcomeCode::L7Rsp, why);
    }
}

#[test]
fn exceeded_limit_of_head_is_named() {
    let lines = |count: usize| format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(count));
    let large = |size: usize| format!("HTTP/1.1 200 OK\r\nA: {}\r\n\r\n", "x".repeat(size - 24));
    for (answer, code, detail) in [
        (lines(256), OutcomeCode::L7Ok, "HTTP 200"),
        (lines(257), OutcomeCode::L7Rsp, "more than 256 header lines"),
        (large(MAX_HEAD), OutcomeCode::L7Ok, "HTTP 200"),
        (large(MAX_HEAD + 1), OutcomeCode::L7Rsp, "the head is larger than 64 KiB"),
    ] {
        let (verdict, _) = judge(&request(None), answer.as_bytes(), 10_000);
        assert_eq!((verdict.code, verdict.detail.to_string().as_str()), (code, detail));
    }
}

#[test]
fn timeout_names_the_missing_part() {
    let missing = |bytes: &str| {
        let mut answer = HttpResponse::default();
        assert_eq!(answer.feed(&request(Some("never")), bytes.as_bytes()), None);
        answer.missing_part()
    };
    assert_eq!(missing(""), "no answer");
    assert_eq!(missing("HTTP/1.1 100 Continue\r\n\r\n"), "no final answer");
    assert_eq!(missing("HTTP/1.1 200 OK\r\n"), "no whole head");
    assert_eq!(missing("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok"), "no whole body");
    let open = "no end of the body: it has no length, and the connection stays open";
    assert_eq!(missing("HTTP/1.1 200 OK\r\n\r\nok"), open);
    assert_eq!(
        missing("HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\nContent-Length: 2\r\n\r\nok"),
        open
    );
}

#[test]
fn regular_expression_size_is_bounded() {
    for pattern in ["(", "a{1000}{1000}"] {
        assert!(matches!(compile(&http(Some(pattern))), Err(RejectReason::Invalid(_))), "{pattern}");
    }
}

proptest! {
    #[test]
    fn memory_is_bounded_for_any_response(
        bytes in proptest::collection::vec(any::<u8>(), 0..500),
        start in prop_oneof![Just(""), Just("HTTP/1.1 200 OK\r\n"), Just("HTTP/1.1 200 OK\r\n\r\n"),
            Just("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")],
        piece in 1usize..60,
    ) {
        let request = request(Some("x"));
        let bytes = [start.as_bytes(), &bytes].concat();
        let (verdict, answer) = judge(&request, &bytes, piece);
        prop_assert!(answer.head.len() <= MAX_HEAD);
        prop_assert_eq!(judge(&request, &bytes, 10_000).0, verdict);
    }
}

/// Returns the connection's availability after a response to a check with keep-alive, for any sizes of the pieces.
fn reuse_after(body: Option<&str>, bytes: &str) -> Reuse {
    let request = compile(&HttpCheck { keep_alive: NonZeroU32::new(10), ..http(body) }).unwrap();
    let results = [1, 2, 3, 7, 100_000].map(|piece| {
        let mut answer = HttpResponse::default();
        for piece in bytes.as_bytes().chunks(piece) {
            answer.feed(&request, piece);
        }
        assert!(answer.is_judged(), "{bytes:?}");
        answer.reuse()
    });
    assert!(results.iter().all(|reuse| *reuse == results[0]), "{bytes:?}: {results:?}");
    results[0]
}

#[test]
fn reuse_follows_framing_and_connection_header() {
    let length =
        |length: usize| format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{}", "x".repeat(length));
    for (answer, expected) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", Reuse::Ready),
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", Reuse::Ready),
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok", Reuse::Ready),
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\nok", Reuse::Ready),
        ("HTTP/1.1 503 No\r\nContent-Length: 2\r\n\r\nno", Reuse::Ready),
        ("HTTP/1.1 204 No Content\r\n\r\n", Reuse::Ready),
        ("HTTP/1.1 204 No Content\r\nContent-Length: 7\r\n\r\n", Reuse::Ready),
        ("HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n", Reuse::Ready),
        ("HTTP/1.1 100 Go\r\n\r\nHTTP/1.1 103 Hints\r\n\r\nHTTP/1.1 204 No\r\n\r\n", Reuse::Ready),
        ("HTTP/1.1 100 Go\r\nConnection: close\r\n\r\nHTTP/1.1 204 No\r\n\r\n", Reuse::Ready),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", Reuse::Ready),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked \r\n\r\n2\r\nok\r\n0\r\nA: b\r\n\r\n", Reuse::Ready),
        (&length(MAX_BODY), Reuse::Ready),
        // Incomplete.
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", Reuse::Pending),
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no", Reuse::Pending),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", Reuse::Pending),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n", Reuse::Pending),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nA: b\r\n", Reuse::Pending),
        // Closes, by a header or by its framing.
        ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", Reuse::Closing),
        ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: x, CLOSE\r\n\r\n", Reuse::Closing),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: x\r\nConnection: close\r\n\r\n",
            Reuse::Closing,
        ),
        ("HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", Reuse::Closing),
        ("HTTP/1.0 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n", Reuse::Closing),
        ("HTTP/1.1 200 OK\r\n\r\n", Reuse::Closing),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", Reuse::Closing),
        ("HTTP/1.1 101 Switching Protocols\r\nContent-Length: 0\r\n\r\n", Reuse::Closing),
        // Ambiguous framing.
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            Reuse::Closing,
        ),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", Reuse::Closing),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            Reuse::Closing,
        ),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", Reuse::Closing),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nz\r\n", Reuse::No),
        ("HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok", Reuse::No),
        // Unrequested bytes after the response.
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok\r\n", Reuse::Closing),
        ("HTTP/1.1 204 No\r\n\r\nHTTP/1.1 204 No\r\n\r\n", Reuse::Closing),
        ("HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n\r\nok", Reuse::Closing),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nx", Reuse::Closing),
        // Too long to wait for.
        (&length(MAX_BODY + 1), Reuse::No),
        ("HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551615\r\n\r\n", Reuse::No),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10001\r\n", Reuse::No),
    ] {
        assert_eq!(reuse_after(None, answer), expected, "{answer:.120}");
    }
}

#[test]
fn matched_body_is_read_to_its_end() {
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n";
    assert_eq!(reuse_after(Some("ok"), chunked), Reuse::Pending);
    assert_eq!(reuse_after(Some("ok"), &format!("{chunked}\r\n")), Reuse::Ready);
    assert_eq!(reuse_after(Some("ill"), &format!("{chunked}\r\n")), Reuse::Ready);
    assert_eq!(
        reuse_after(Some("ok"), "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok!"),
        Reuse::No
    );
}

#[test]
fn connection_without_keep_alive_awaits_its_end() {
    let mut answer = HttpResponse::default();
    answer.feed(&request(None), b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
    assert_eq!(answer.reuse(), Reuse::Closing);
    answer.finish();
    assert_eq!(answer.reuse(), Reuse::No);
}

#[test]
fn events_after_verdict_only_prevent_reuse() {
    let request = compile(&HttpCheck { keep_alive: NonZeroU32::new(10), ..http(None) }).unwrap();
    for end in [None, Some(b"HTTP/1.1 408 Too Late\r\n\r\n")] {
        let mut answer = HttpResponse::default();
        answer.feed(&request, b"HTTP/1.1 204 No Content\r\n\r\n").unwrap();
        assert_eq!(answer.reuse(), Reuse::Ready);
        let verdict = match end {
            None => answer.finish(),
            Some(bytes) => answer.feed(&request, bytes),
        };
        assert_eq!(verdict, None);
        assert!(!matches!(answer.reuse(), Reuse::Ready | Reuse::Pending));
    }
}

proptest! {
    #[test]
    fn splitting_a_response_changes_nothing(
        interim in prop_oneof![4 => Just(""), 1 => Just("HTTP/1.1 103 Hints\r\nLink: x\r\n\r\n")],
        start in prop_oneof![6 => Just("HTTP/1.1 200"), 1 => Just("HTTP/1.1 503"), 1 => Just("HTTP/1.1 204"),
            1 => Just("HTTP/1.0 200")],
        headers in proptest::collection::vec(prop_oneof![Just("Content-Length: 4\r\n"), Just("Content-Length: 5\r\n"),
            Just("Transfer-Encoding: chunked\r\n"), Just("Connection: close\r\n"), Just("X: y\r\n")], 0..3),
        body in prop_oneof!["[a-z]{0,9}", "[0-9a-f\r\n;x]{0,20}", Just("4\r\ngood\r\n0\r\n\r\n".to_owned()),
            Just("0\r\nA: b\r\n\r\n".to_owned())],
        matched in any::<bool>(),
        splits in proptest::collection::vec(1usize..40, 0..6),
    ) {
        let matched = matched.then_some("good");
        let request = compile(&HttpCheck { keep_alive: NonZeroU32::new(10), ..http(matched) }).unwrap();
        let bytes = format!("{interim}{start} Because\r\n{}\r\n{body}", headers.concat()).into_bytes();
        let outcome = |sizes: &mut dyn Iterator<Item = usize>| {
            let (mut answer, mut verdict, mut left) = (HttpResponse::default(), None, &bytes[..]);
            while !(left.is_empty() || answer.is_judged() && answer.reuse() == Reuse::No) {
                let (piece, rest) = left.split_at(left.len().min(sizes.next().unwrap_or(usize::MAX)));
                verdict = verdict.or(answer.feed(&request, piece));
                left = rest;
            }
            let rest = answer.is_judged().then(|| answer.reuse());
            (verdict.or(answer.finish()), rest)
        };
        prop_assert_eq!(outcome(&mut splits.into_iter()), outcome(&mut std::iter::empty()));
    }
}
