//! HTTP/1.1 as far as a probe needs it (RFC 9112): one `GET`, and a judgement on the answer. Nothing here touches a
//! socket, and whatever arrives, no more is kept than [`MAX_HEAD`] and [`MAX_BODY`].

mod head;

use std::num::NonZeroU32;

use maglev_ipc::{HttpCheck, OutcomeCode, OutcomeDetail, RejectReason};
use regex_lite::{Regex, RegexBuilder};

use super::body::BodyDecoder;
use crate::verdict::Verdict;
use head::ResponseHead;

/// The longest head of an answer, interim answers included, in bytes.
pub const MAX_HEAD: usize = 16 * 1024;
/// How much of the body the regular expression sees, in bytes.
pub const MAX_BODY: usize = 64 * 1024;
/// The largest compiled regular expression, in bytes: it bounds the time that one match takes.
const MAX_COMPILED: usize = 32 * 1024;
/// How every answer begins.
const MAGIC: &[u8] = b"HTTP/1.";

/// What is asked and what passes.
#[derive(Debug)]
pub struct HttpRequest {
    /// The request, as it goes over the wire.
    pub bytes: Box<[u8]>,
    http: HttpCheck,
    body: Option<Regex>,
}

impl HttpRequest {
    /// Puts the request into words.
    ///
    /// # Errors
    /// The regular expression does not compile.
    pub fn compile(http: &HttpCheck) -> Result<Self, RejectReason> {
        let body = http.body.as_deref().map(compile_regexp).transpose()?;
        let bytes = format!(
            "GET {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: vpp-maglev/{}\r\nAccept: */*\r\n{}\r\n",
            http.path,
            http.host,
            env!("CARGO_PKG_VERSION"),
            // Who does not say so is understood to keep the connection.
            if http.keep_alive.is_some() { "" } else { "Connection: close\r\n" },
        );
        Ok(Self { bytes: bytes.into_bytes().into(), http: http.clone(), body })
    }

    /// Every how many requests the connection is a fresh one, if connections are kept.
    pub const fn fresh_every(&self) -> Option<NonZeroU32> {
        self.http.keep_alive
    }
}

fn compile_regexp(pattern: &str) -> Result<Regex, RejectReason> {
    let regexp = RegexBuilder::new(pattern).size_limit(MAX_COMPILED).build();
    regexp.map_err(|error| RejectReason::Invalid(format!("response-regexp: {error}")))
}

/// An answer that is being received. It is read on after the verdict, to where the next answer will begin.
#[derive(Debug, Default)]
pub struct HttpResponse {
    /// Whether anything has come.
    begun: bool,
    /// Whether there has been a verdict.
    judged: bool,
    /// Whether the connection can take another request after this answer, as far as is known.
    persists: bool,
    /// What has come of a head that is not whole.
    head: Vec<u8>,
    /// Bytes of `head` in which no end of a head was found.
    searched: usize,
    /// Bytes of interim answers.
    interim: usize,
    /// The status of the final answer, once its head is there.
    status: u16,
    body: Option<BodyDecoder>,
}

/// What is to be expected after the verdict.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reuse {
    /// Nothing: the next answer begins here.
    Ready,
    /// The end of this answer.
    Pending,
    /// Nothing that could be told from the next answer.
    No,
}

impl HttpResponse {
    /// Takes what has arrived. Returns the verdict once, when it is certain.
    pub fn feed(&mut self, request: &HttpRequest, bytes: &[u8]) -> Option<Verdict> {
        self.begun |= !bytes.is_empty();
        if self.body.is_some() || self.judged {
            return self.feed_body(request, bytes);
        }
        let room = MAX_HEAD.saturating_sub(self.interim + self.head.len());
        let (fits, rest) = bytes.split_at(bytes.len().min(room));
        // A head that comes in one piece, as most do, is read where it lies.
        let mut held = std::mem::take(&mut self.head);
        if !held.is_empty() {
            held.extend_from_slice(fits);
        }
        let heads = if held.is_empty() { fits } else { &held };
        match self.read_heads(request, heads) {
            Err(verdict) => self.fail(verdict),
            Ok((Some(verdict), body)) => {
                self.feed_body(request, body);
                self.feed_body(request, rest);
                Some(verdict)
            }
            Ok((None, body)) if self.body.is_some() => {
                let verdict = self.feed_body(request, body);
                let later = self.feed_body(request, rest);
                verdict.or(later)
            }
            Ok((None, _)) if fits.len() == room => self.fail(malformed("the head is too long")),
            Ok((None, partial)) => {
                let read = heads.len() - partial.len();
                if held.is_empty() {
                    held.extend_from_slice(&fits[read..]);
                } else {
                    held.drain(..read);
                }
                self.head = held;
                None
            }
        }
    }

    /// The other end has closed. Returns the verdict, if there was none before.
    pub fn finish(&mut self, request: &HttpRequest) -> Option<Verdict> {
        self.persists = false;
        if self.judged {
            return None;
        }
        self.judged = true;
        Some(match &self.body {
            Some(body) if body.may_end_here() => judge_body(request, self.status, body),
            Some(_) => malformed("connection closed within the body"),
            None if self.begun => malformed("connection closed within the head"),
            None => malformed("connection closed before an answer"),
        })
    }

    /// Whether anything of it has come.
    pub const fn has_begun(&self) -> bool {
        self.begun
    }

    /// What has not come yet.
    pub fn waiting_for(&self) -> &'static str {
        match &self.body {
            Some(_) => "no whole body",
            None if self.head.is_empty() => "no answer",
            None => "no whole head",
        }
    }

    /// Whether there has been a verdict.
    pub const fn is_judged(&self) -> bool {
        self.judged
    }

    /// Where the answer stands after the verdict.
    pub fn reuse(&self) -> Reuse {
        match &self.body {
            Some(body) if self.persists && !body.is_beyond(MAX_BODY) => {
                if body.is_whole() {
                    Reuse::Ready
                } else {
                    Reuse::Pending
                }
            }
            _ => Reuse::No,
        }
    }

    /// Reads every whole head there is, until one is final. Returns the verdict, if the head is enough for one, and what
    /// follows the last whole head.
    fn read_heads<'a>(
        &mut self,
        request: &HttpRequest,
        mut bytes: &'a [u8],
    ) -> Result<(Option<Verdict>, &'a [u8]), Verdict> {
        loop {
            let known = bytes.len().min(MAGIC.len());
            if bytes[..known] != MAGIC[..known] {
                return Err(malformed("not an HTTP answer"));
            }
            let Some(end) = self.find_end(bytes) else { return Ok((None, bytes)) };
            let head = head::parse(&bytes[..end]).map_err(malformed)?;
            bytes = &bytes[end..];
            // An interim answer (RFC 9110 section 15.2). After 101 no HTTP follows, so it counts as final.
            if (100..200).contains(&head.status) && head.status != 101 {
                self.interim += end;
                self.searched = 0;
                continue;
            }
            return Ok((self.begin_body(request, &head), bytes));
        }
    }

    /// Where the first head ends. Each byte is looked at once, however few arrive at a time.
    fn find_end(&mut self, bytes: &[u8]) -> Option<usize> {
        let from = self.searched.saturating_sub(3);
        let tail = &bytes[from..];
        let newline = |at: &usize| {
            let before = &tail[..*at];
            tail[*at] == b'\n' && (before.ends_with(b"\n") || before.ends_with(b"\n\r"))
        };
        let end = (0..tail.len()).find(newline).map(|at| from + at + 1);
        self.searched = bytes.len();
        end
    }

    fn begin_body(&mut self, request: &HttpRequest, head: &ResponseHead) -> Option<Verdict> {
        let status = OutcomeDetail::Status(head.status);
        let verdict = match &request.body {
            _ if !request.http.passes(head.status) => Some(Verdict::new(OutcomeCode::L7Sts, status)),
            None => Some(Verdict::new(OutcomeCode::L7Ok, status)),
            Some(_) => None,
        };
        self.status = head.status;
        self.judged = verdict.is_some();
        self.persists = head.persists && request.fresh_every().is_some();
        if !self.judged || self.persists {
            self.body = Some(BodyDecoder::new(head.framing, if self.judged { 0 } else { MAX_BODY }));
        }
        verdict
    }

    fn feed_body(&mut self, request: &HttpRequest, bytes: &[u8]) -> Option<Verdict> {
        let body = self.body.as_mut()?;
        match body.feed(bytes) {
            // What nobody has asked for is no beginning of the next answer.
            Ok(taken) => self.persists &= taken == bytes.len(),
            Err(why) if !self.judged => return self.fail(malformed(why)),
            Err(_) => return None,
        }
        if self.judged || !body.is_enough() {
            return None;
        }
        self.judged = true;
        Some(judge_body(request, self.status, body))
    }

    fn fail(&mut self, verdict: Verdict) -> Option<Verdict> {
        self.judged = true;
        self.persists = false;
        Some(verdict)
    }
}

fn judge_body(request: &HttpRequest, status: u16, body: &BodyDecoder) -> Verdict {
    let text = String::from_utf8_lossy(body.bytes());
    match &request.body {
        Some(regexp) if !regexp.is_match(&text) => malformed("body does not match"),
        _ => Verdict::new(OutcomeCode::L7Ok, OutcomeDetail::Status(status)),
    }
}

fn malformed(why: impl Into<OutcomeDetail>) -> Verdict {
    Verdict::new(OutcomeCode::L7Rsp, why)
}

#[cfg(test)]
mod tests;
