use proptest::prelude::*;

use super::*;

fn request(body: Option<&str>) -> Request {
    let http =
        Http { path: "/".into(), host: "h".into(), codes: vec![(200, 204)], body: body.map(Into::into) };
    Request::compile(&http).unwrap()
}

/// What comes of bytes that arrive in pieces of the given size, and then the end.
fn judge(request: &Request, bytes: &[u8], piece: usize) -> (Verdict, Answer) {
    let mut answer = Answer::default();
    for piece in bytes.chunks(piece) {
        if let Some(verdict) = answer.feed(request, piece) {
            return (verdict, answer);
        }
    }
    (answer.finish(request), answer)
}

fn expect(body: Option<&str>, bytes: &str, code: Code, detail: &str) {
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
fn interim_answers_are_passed_over() {
    let interim = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n";
    expect(None, &format!("{interim}HTTP/1.1 200 OK\r\n\r\n"), Code::L7Ok, "HTTP 200");
    expect(None, interim, Code::L7Rsp, "connection closed within the head");
    expect(None, "HTTP/1.1 101 Switching Protocols\r\n\r\n", Code::L7Sts, "HTTP 101");
}

#[test]
fn heads_may_end_in_bare_newlines() {
    expect(None, "HTTP/1.1 200 OK\nX: y\n\n", Code::L7Ok, "HTTP 200");
}

#[test]
fn what_is_not_http_is_known_by_its_first_bytes() {
    for bytes in ["x", "HTTP/2 200\r\n\r\n", "<html>", "\0", "ICY 200 OK\r\n\r\n", " HTTP/1.1 200 OK\r\n\r\n"]
    {
        expect(None, bytes, Code::L7Rsp, "not an HTTP answer");
    }
    for bytes in ["HTTP/1.1 99999 x\r\n\r\n", "HTTP/1.1 2\r\n\r\n", "HTTP/1.1 200 OK\r\n: x\r\n\r\n"] {
        let (verdict, _) = judge(&request(None), bytes.as_bytes(), 1);
        assert_eq!(verdict.code, Code::L7Rsp, "{bytes:?}");
    }
}

#[test]
fn the_body_ends_where_the_head_says() {
    let ok = |head: &str, body: &str| format!("HTTP/1.1 200 OK\r\n{head}\r\n{body}");
    let all = Some("^good$");
    expect(all, &ok("Content-Length: 4\r\n", "good, bad"), Code::L7Ok, "HTTP 200");
    expect(all, &ok("", "good"), Code::L7Ok, "HTTP 200");
    expect(all, &ok("Content-Length: 5\r\n", "good"), Code::L7Rsp, "connection closed within the body");
    expect(all, &ok("Transfer-Encoding: Chunked\r\n", "4\r\ngood\r\n0\r\n\r\n"), Code::L7Ok, "HTTP 200");
    expect(
        all,
        &ok("Transfer-Encoding: chunked\r\n", "4\r\ngood"),
        Code::L7Rsp,
        "connection closed within the body",
    );
    expect(all, &ok("Content-Length: x\r\n", "good"), Code::L7Rsp, "content-length is no number");
    let twice = "Content-Length: 4\r\nContent-Length: 5\r\n";
    expect(all, &ok(twice, "good"), Code::L7Rsp, "two different content-lengths");
    expect(Some("^$"), "HTTP/1.1 204 No\r\nContent-Length: 5\r\n\r\n", Code::L7Ok, "HTTP 204");
}

#[test]
fn bytes_that_are_no_text_match_as_far_as_they_are() {
    let request = request(Some("o.k"));
    let (verdict, _) = judge(&request, b"HTTP/1.1 200 OK\r\n\r\n\xff\xfeo\xffk", 5);
    assert_eq!(verdict.code, Code::L7Ok);
}

#[test]
fn a_regular_expression_has_bounds() {
    for pattern in ["(", "a{1000}{1000}"] {
        let http = Http { path: "/".into(), host: "h".into(), codes: vec![], body: Some(pattern.into()) };
        assert!(matches!(Request::compile(&http), Err(Refusal::Invalid(_))), "{pattern}");
    }
}

proptest! {
    #[test]
    fn whatever_comes_memory_is_bounded(
        bytes in proptest::collection::vec(any::<u8>(), 0..500),
        start in prop_oneof![Just(""), Just("HTTP/1.1 200 OK\r\n"), Just("HTTP/1.1 200 OK\r\n\r\n"),
            Just("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")],
        piece in 1usize..60,
    ) {
        let request = request(Some("x"));
        let bytes = [start.as_bytes(), &bytes].concat();
        let (verdict, answer) = judge(&request, &bytes, piece);
        prop_assert!(answer.head.len() <= MAX_HEAD);
        prop_assert!(answer.body.is_none_or(|body| body.bytes().len() <= MAX_BODY));
        prop_assert_eq!(judge(&request, &bytes, 10_000).0, verdict);
    }
}
