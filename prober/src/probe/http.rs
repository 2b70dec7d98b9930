//! HTTP/1.1 as far as a probe needs it (RFC 9112): one `GET`, and a judgement on the answer. Nothing here touches a
//! socket, and whatever arrives, no more is kept than [`MAX_HEAD`] and [`MAX_BODY`].

use maglev_ipc::{Code, Detail, Http, Refusal};
use regex_lite::{Regex, RegexBuilder};

use super::Verdict;
use super::body::{Body, Framing};

/// The longest head of an answer, interim answers included, in bytes.
pub const MAX_HEAD: usize = 16 * 1024;
/// How much of the body the regular expression sees, in bytes.
pub const MAX_BODY: usize = 64 * 1024;
/// The most headers in one head.
const MAX_HEADERS: usize = 64;
/// The largest compiled regular expression, in bytes: it bounds the time that one match takes.
const MAX_COMPILED: usize = 32 * 1024;
/// How every answer begins.
const MAGIC: &[u8] = b"HTTP/1.";

/// What is asked and what passes.
#[derive(Debug)]
pub struct Request {
    /// The request, as it goes over the wire.
    pub bytes: Box<[u8]>,
    http: Http,
    body: Option<Regex>,
}

impl Request {
    /// Puts the request into words.
    ///
    /// # Errors
    /// The regular expression does not compile.
    pub fn compile(http: &Http) -> Result<Self, Refusal> {
        let body = http.body.as_deref().map(compile_regexp).transpose()?;
        let bytes = format!(
            "GET {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: vpp-maglev/{}\r\nAccept: */*\r\nConnection: close\r\n\r\n",
            http.path,
            http.host,
            env!("CARGO_PKG_VERSION"),
        );
        Ok(Self { bytes: bytes.into_bytes().into(), http: http.clone(), body })
    }
}

fn compile_regexp(pattern: &str) -> Result<Regex, Refusal> {
    let regexp = RegexBuilder::new(pattern).size_limit(MAX_COMPILED).build();
    regexp.map_err(|error| Refusal::Invalid(format!("response-regexp: {error}")))
}

/// An answer that is being received.
#[derive(Debug, Default)]
pub struct Answer {
    head: Vec<u8>,
    /// Bytes of `head` in which no end of a head was found.
    searched: usize,
    /// Bytes of interim answers, which are no longer in `head`.
    interim: usize,
    /// The status of the final answer, once its body is awaited.
    status: u16,
    body: Option<Body>,
}

impl Answer {
    /// Takes what has arrived. Returns the verdict once it is certain.
    pub fn feed(&mut self, request: &Request, bytes: &[u8]) -> Option<Verdict> {
        if self.body.is_some() {
            return self.feed_body(request, bytes);
        }
        let room = MAX_HEAD.saturating_sub(self.interim + self.head.len());
        let (fits, rest) = bytes.split_at(bytes.len().min(room));
        self.head.extend_from_slice(fits);
        if let Some(verdict) = self.read_heads(request) {
            return Some(verdict);
        }
        if self.body.is_none() {
            return (fits.len() == room).then(|| malformed("the head is too long"));
        }
        let begin = std::mem::take(&mut self.head);
        self.feed_body(request, &begin).or_else(|| self.feed_body(request, rest))
    }

    /// The verdict when the other end closes.
    pub fn finish(&mut self, request: &Request) -> Verdict {
        match &self.body {
            Some(body) if body.may_end_here() => judge_body(request, self.status, body),
            Some(_) => malformed("connection closed within the body"),
            None if self.head.is_empty() && self.interim == 0 => {
                malformed("connection closed before an answer")
            }
            None => malformed("connection closed within the head"),
        }
    }

    /// What has not come yet.
    pub fn waiting_for(&self) -> &'static str {
        match &self.body {
            Some(_) => "no whole body",
            None if self.head.is_empty() => "no answer",
            None => "no whole head",
        }
    }

    /// Reads every whole head there is, until one is final. What follows it stays in `self.head`.
    fn read_heads(&mut self, request: &Request) -> Option<Verdict> {
        loop {
            let known = self.head.len().min(MAGIC.len());
            if self.head[..known] != MAGIC[..known] {
                return Some(malformed("not an HTTP answer"));
            }
            let end = self.find_end()?;
            let (status, framing) = match parse(&self.head[..end]) {
                Ok(parsed) => parsed,
                Err(verdict) => return Some(verdict),
            };
            self.head.drain(..end);
            self.searched = 0;
            // An interim answer (RFC 9110 section 15.2). After 101 no HTTP follows, so it counts as final.
            if (100..200).contains(&status) && status != 101 {
                self.interim += end;
                continue;
            }
            if !request.http.passes(status) {
                return Some(Verdict::new(Code::L7Sts, Detail::Status(status)));
            }
            if request.body.is_none() {
                return Some(Verdict::new(Code::L7Ok, Detail::Status(status)));
            }
            self.status = status;
            self.body = Some(Body::new(framing, MAX_BODY));
            return None;
        }
    }

    /// Where the first head ends. Each byte is looked at once, however few arrive at a time.
    fn find_end(&mut self) -> Option<usize> {
        let from = self.searched.saturating_sub(3);
        let tail = &self.head[from..];
        let newline = |at: &usize| {
            let before = &tail[..*at];
            tail[*at] == b'\n' && (before.ends_with(b"\n") || before.ends_with(b"\n\r"))
        };
        let end = (0..tail.len()).find(newline).map(|at| from + at + 1);
        self.searched = self.head.len();
        end
    }

    fn feed_body(&mut self, request: &Request, bytes: &[u8]) -> Option<Verdict> {
        let body = self.body.as_mut()?;
        match body.feed(bytes) {
            Ok(false) => None,
            Ok(true) => Some(judge_body(request, self.status, body)),
            Err(why) => Some(malformed(why)),
        }
    }
}

/// The status, and how the body is delimited (RFC 9112 section 6.3).
fn parse(head: &[u8]) -> Result<(u16, Framing), Verdict> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    response.parse(head).map_err(|error| malformed(format!("not an HTTP answer: {error}")))?;
    let status = response.code.ok_or_else(|| malformed("not an HTTP answer"))?;
    let mut framing = if matches!(status, 204 | 304) { Framing::Length(0) } else { Framing::UntilClose };
    for header in response.headers.iter() {
        if header.name.eq_ignore_ascii_case("transfer-encoding") {
            let chunked = header.value.trim_ascii_end().to_ascii_lowercase().ends_with(b"chunked");
            return Ok((status, if chunked { Framing::Chunked } else { Framing::UntilClose }));
        }
        if header.name.eq_ignore_ascii_case("content-length") && !matches!(status, 204 | 304) {
            let length = std::str::from_utf8(header.value).ok().and_then(|v| v.trim().parse().ok());
            let length = Framing::Length(length.ok_or_else(|| malformed("content-length is no number"))?);
            if !matches!(framing, Framing::UntilClose) && framing != length {
                return Err(malformed("two different content-lengths"));
            }
            framing = length;
        }
    }
    Ok((status, framing))
}

fn judge_body(request: &Request, status: u16, body: &Body) -> Verdict {
    let text = String::from_utf8_lossy(body.bytes());
    match &request.body {
        Some(regexp) if !regexp.is_match(&text) => malformed("body does not match"),
        _ => Verdict::new(Code::L7Ok, Detail::Status(status)),
    }
}

fn malformed(why: impl Into<Detail>) -> Verdict {
    Verdict::new(Code::L7Rsp, why)
}

#[cfg(test)]
mod tests;
