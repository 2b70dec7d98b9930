//! HTTP responses of backends. The verdict does not depend on how the bytes are split.

use std::num::NonZeroU32;

use maglev_ipc::check::HttpCheck;
use maglev_ipc::regexp::RegexpSet;
use maglevd_prober::probe::body::{BodyDecoder, BodyFraming};
use maglevd_prober::probe::http::{HttpRequest, HttpResponse, MAX_HEAD, Reuse};
use maglevd_prober::verdict::Verdict;

use crate::FuzzTarget;
use crate::input_parts::{InputParts, of_parts, pieces};

/// Twice the kept bytes, because a vector doubles as it grows, three times, and some for the regular expression.
pub const HTTP: FuzzTarget =
    FuzzTarget { name: "http", longest: 96 << 10, memory: 6 * MAX_HEAD + (1 << 20), seeds, run };

pub const BODY: FuzzTarget =
    FuzzTarget { name: "http-body", longest: 8 << 10, memory: 256 << 10, seeds: body_seeds, run: run_body };

/// Input: the options; the cuts of the response; the response.
fn run(input: &[u8]) {
    let mut input = InputParts(input);
    let options = input.byte();
    let cuts = input.part();
    let answer = input.0;
    let body = match options & 3 {
        0 => None,
        1 => Some("ok"),
        2 => Some("^(a|b)*c$"),
        _ => Some(r"[\w]+ \d{2,5}$"),
    };
    let codes = if options & 4 == 0 { vec![(200, 299)] } else { vec![(100, 599)] };
    let keep_alive = if options & 8 == 0 { None } else { NonZeroU32::new(10) };
    let http =
        HttpCheck { path: "/".into(), host: "h".into(), codes, body: body.map(str::to_owned), keep_alive };
    let request = HttpRequest::compile(&http, &mut RegexpSet::new(1)).expect("our own expression");
    let whole = verdict(&request, [answer]);
    let cut = verdict(&request, pieces(answer, cuts));
    assert_eq!(whole, cut, "in pieces");
    // A large response in single bytes would take a second.
    if answer.len() <= 4096 {
        assert_eq!(whole, verdict(&request, answer.chunks(1)), "byte by byte");
    }
}

/// Returns the verdict, and the state of a kept connection.
fn verdict<'a>(
    request: &HttpRequest,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> (Verdict, Option<Reuse>) {
    let mut answer = HttpResponse::default();
    let mut verdict = None;
    for piece in pieces {
        assert!(!answer.missing_part().is_empty());
        if let Some(given) = answer.feed(request, piece) {
            assert_eq!(verdict.replace(given), None, "one verdict for one answer");
        }
    }
    let rest = verdict.is_some().then(|| answer.reuse());
    let last = answer.finish();
    assert_eq!(last.is_some(), verdict.is_none());
    (verdict.or(last).expect("one of them"), rest)
}

/// Input: the framing of the body; the cuts; the body.
fn run_body(input: &[u8]) {
    const WANTED: usize = 1000;
    let mut input = InputParts(input);
    let framing = match input.byte() {
        0 => BodyFraming::UntilClose,
        1 => BodyFraming::Chunked,
        length => BodyFraming::Length(u64::from(length) << (length % 8)),
    };
    let cuts = input.part();
    let read = |pieces: &mut dyn Iterator<Item = &[u8]>| {
        let mut body = BodyDecoder::new(framing, WANTED);
        let mut taken = Vec::new();
        let fed: Result<usize, _> =
            pieces.map(|piece| body.feed(piece, |bytes| taken.extend_from_slice(bytes))).sum();
        assert!(taken.len() <= WANTED);
        (fed, taken, body.has_wanted(), body.is_complete(), body.may_end_here())
    };
    let whole = read(&mut [input.0].into_iter());
    assert_eq!(whole, read(&mut pieces(input.0, cuts).into_iter()));
    assert_eq!(whole, read(&mut input.0.chunks(1)));
    if let (BodyFraming::UntilClose | BodyFraming::Length(_), (Ok(_), bytes, ..)) = (framing, &whole) {
        assert!(input.0.starts_with(bytes));
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let answers: [&[u8]; 10] = [
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.0 200 OK\n\nok",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;x=y\r\no\r\n1\r\nk\r\n0\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\nab",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nLocation: http://h/\r\nSet-Cookie: a=b\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
    ];
    let seed =
        |(options, answer): (u8, &&[u8])| [&[options][..], &of_parts([[1, 5, 9, 20]]), answer].concat();
    (0..).zip(&answers).map(seed).chain((0..).zip(&answers).map(|(o, a)| seed((o | 4, a)))).collect()
}

fn body_seeds() -> Vec<Vec<u8>> {
    let bodies: [(u8, &[u8]); 4] = [
        (0, b"until the end"),
        (1, b"5\r\nhello\r\n7;x=y\r\n, system\r\n0\r\n\r\n"),
        (1, b"A\n0123456789\nfffffffff"),
        (5, b"0123456789"),
    ];
    bodies.map(|(framing, body)| [&[framing][..], &of_parts([[1, 2, 3]]), body].concat()).to_vec()
}
