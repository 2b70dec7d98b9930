//! HTTP/1.1 as far as a probe needs it (RFC 9112): one `GET`, and a verdict on the response. No IO. At most [`MAX_HEAD`] and
//! [`MAX_BODY`] bytes are kept.

mod head;

use std::num::NonZeroU32;

use maglev_ipc::{HttpCheck, OutcomeCode, OutcomeDetail, RejectReason, regexp};
use regex_lite::Regex;

use super::body::BodyDecoder;
use crate::verdict::Verdict;
use head::ResponseHead;

/// Maximum size of a response head, including interim responses, in bytes.
pub const MAX_HEAD: usize = 16 * 1024;
/// Size of the part of the body that the regular expression sees, in bytes.
pub const MAX_BODY: usize = 64 * 1024;
/// First bytes of every response.
const MAGIC: &[u8] = b"HTTP/1.";

/// A request, and the criteria for its response.
#[derive(Debug)]
pub struct HttpRequest {
    /// The encoded request.
    pub bytes: Box<[u8]>,
    http: HttpCheck,
    body: Option<Regex>,
}

impl HttpRequest {
    /// Encodes the request and compiles the regular expression.
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
            // Keep-alive is the default of HTTP/1.1.
            if http.keep_alive.is_some() { "" } else { "Connection: close\r\n" },
        );
        Ok(Self { bytes: bytes.into_bytes().into(), http: http.clone(), body })
    }

    /// Returns the number of requests per connection, if connections are kept.
    pub const fn keep_alive_requests(&self) -> Option<NonZeroU32> {
        self.http.keep_alive
    }
}

fn compile_regexp(pattern: &str) -> Result<Regex, RejectReason> {
    regexp::compile(pattern).map_err(|why| RejectReason::Invalid(format!("response-regexp: {why}")))
}

/// A response that is being received. After the verdict it is read up to its end, where the next response will begin.
#[derive(Debug, Default)]
pub struct HttpResponse {
    /// True if a byte has arrived.
    has_begun: bool,
    /// True if there has been a verdict.
    is_judged: bool,
    /// True if the connection can take another request after this response, as far as is known.
    is_persistent: bool,
    /// The part of an incomplete head that has arrived.
    head: Vec<u8>,
    /// Number of bytes of `head` that contain no end of a head.
    searched: usize,
    /// Number of bytes of interim responses.
    interim: usize,
    /// Status of the final response.
    status: u16,
    body: Option<BodyDecoder>,
}

/// Availability of the connection for another request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reuse {
    /// The response is complete: the next one begins here.
    Ready,
    /// The end of the response is outstanding.
    Pending,
    /// The connection cannot be reused.
    No,
}

impl HttpResponse {
    /// Handles received bytes. Returns the verdict once, as soon as it is certain.
    pub fn feed(&mut self, request: &HttpRequest, bytes: &[u8]) -> Option<Verdict> {
        self.has_begun |= !bytes.is_empty();
        if self.body.is_some() || self.is_judged {
            return self.feed_body(request, bytes);
        }
        let room = MAX_HEAD.saturating_sub(self.interim + self.head.len());
        let (fits, rest) = bytes.split_at(bytes.len().min(room));
        // A head that arrives in one piece, as most do, is parsed without a copy.
        let mut partial = std::mem::take(&mut self.head);
        if !partial.is_empty() {
            partial.extend_from_slice(fits);
        }
        let heads = if partial.is_empty() { fits } else { &partial };
        match self.parse_heads(request, heads) {
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
            Ok((None, _)) if fits.len() == room => self.fail(invalid_response("the head is too long")),
            Ok((None, unparsed)) => {
                let parsed = heads.len() - unparsed.len();
                if partial.is_empty() {
                    partial.extend_from_slice(&fits[parsed..]);
                } else {
                    partial.drain(..parsed);
                }
                self.head = partial;
                None
            }
        }
    }

    /// Handles the end of the connection. Returns the verdict, if there was none before.
    pub fn finish(&mut self, request: &HttpRequest) -> Option<Verdict> {
        self.is_persistent = false;
        if self.is_judged {
            return None;
        }
        self.is_judged = true;
        Some(match &self.body {
            Some(body) if body.may_end_here() => judge_body(request, self.status, body),
            Some(_) => invalid_response("connection closed within the body"),
            None if self.has_begun => invalid_response("connection closed within the head"),
            None => invalid_response("connection closed before an answer"),
        })
    }

    /// Returns true if a byte has arrived.
    pub const fn has_begun(&self) -> bool {
        self.has_begun
    }

    /// Describes the missing part, for a timeout.
    pub fn missing_part(&self) -> &'static str {
        match &self.body {
            Some(_) => "no whole body",
            None if self.head.is_empty() => "no answer",
            None => "no whole head",
        }
    }

    /// Returns true if there has been a verdict.
    pub const fn is_judged(&self) -> bool {
        self.is_judged
    }

    /// Returns the availability of the connection, after the verdict.
    pub fn reuse(&self) -> Reuse {
        match &self.body {
            Some(body) if self.is_persistent && !body.ends_beyond(MAX_BODY) => {
                if body.is_complete() {
                    Reuse::Ready
                } else {
                    Reuse::Pending
                }
            }
            _ => Reuse::No,
        }
    }

    /// Parses complete heads up to a final one. Returns the verdict, if the head suffices for one, and the bytes after the
    /// last complete head.
    fn parse_heads<'a>(
        &mut self,
        request: &HttpRequest,
        mut bytes: &'a [u8],
    ) -> Result<(Option<Verdict>, &'a [u8]), Verdict> {
        loop {
            let known = bytes.len().min(MAGIC.len());
            if bytes[..known] != MAGIC[..known] {
                return Err(invalid_response("not an HTTP answer"));
            }
            let Some(end) = self.find_head_end(bytes) else { return Ok((None, bytes)) };
            let head = head::parse(&bytes[..end]).map_err(invalid_response)?;
            bytes = &bytes[end..];
            // An interim response (RFC 9110 section 15.2). No HTTP follows 101, so it counts as final.
            if (100..200).contains(&head.status) && head.status != 101 {
                self.interim += end;
                self.searched = 0;
                continue;
            }
            return Ok((self.begin_body(request, &head), bytes));
        }
    }

    /// Returns the end of the first head. Searches each byte once, for any sizes of the pieces.
    fn find_head_end(&mut self, bytes: &[u8]) -> Option<usize> {
        let from = self.searched.saturating_sub(3);
        let tail = &bytes[from..];
        let is_empty_line = |at: &usize| {
            let before = &tail[..*at];
            tail[*at] == b'\n' && (before.ends_with(b"\n") || before.ends_with(b"\n\r"))
        };
        let end = (0..tail.len()).find(is_empty_line).map(|at| from + at + 1);
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
        self.is_judged = verdict.is_some();
        self.is_persistent = head.is_persistent && request.keep_alive_requests().is_some();
        if !self.is_judged || self.is_persistent {
            self.body = Some(BodyDecoder::new(head.framing, if self.is_judged { 0 } else { MAX_BODY }));
        }
        verdict
    }

    fn feed_body(&mut self, request: &HttpRequest, bytes: &[u8]) -> Option<Verdict> {
        let body = self.body.as_mut()?;
        match body.feed(bytes) {
            // Bytes after the body answer no request, so the connection is out of step.
            Ok(taken) => self.is_persistent &= taken == bytes.len(),
            Err(why) if !self.is_judged => return self.fail(invalid_response(why)),
            Err(_) => return None,
        }
        if self.is_judged || !body.has_wanted() {
            return None;
        }
        self.is_judged = true;
        Some(judge_body(request, self.status, body))
    }

    fn fail(&mut self, verdict: Verdict) -> Option<Verdict> {
        self.is_judged = true;
        self.is_persistent = false;
        Some(verdict)
    }
}

fn judge_body(request: &HttpRequest, status: u16, body: &BodyDecoder) -> Verdict {
    let text = String::from_utf8_lossy(body.bytes());
    match &request.body {
        Some(regexp) if !regexp.is_match(&text) => invalid_response("body does not match"),
        _ => Verdict::new(OutcomeCode::L7Ok, OutcomeDetail::Status(status)),
    }
}

fn invalid_response(why: impl Into<OutcomeDetail>) -> Verdict {
    Verdict::new(OutcomeCode::L7Rsp, why)
}

#[cfg(test)]
mod tests;
