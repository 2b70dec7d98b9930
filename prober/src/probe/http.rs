//! HTTP/1.1 as far as a probe needs it (RFC 9112): one `GET`, and a verdict on the response. No IO. At most [`MAX_HEAD`] bytes
//! of an incomplete head are kept, and of a body only an excerpt.

mod body_match;
mod head;

use std::num::NonZeroU32;
use std::sync::Arc;

use maglev_ipc::regexp::{BodyRegexp, RegexpSet};
use maglev_ipc::{HttpCheck, OutcomeCode, OutcomeDetail, RejectReason};

use super::body::BodyDecoder;
use crate::verdict::Verdict;
use body_match::BodyMatch;
use head::ResponseHead;

/// Maximum size of a response head, including interim responses, in bytes.
pub const MAX_HEAD: usize = 64 * 1024;
/// Size of the part of the body that the regular expression sees, in bytes.
pub const MAX_BODY: usize = 64 * 1024;
/// Detail of a response whose head exceeds [`MAX_HEAD`].
const HEAD_TOO_LONG: &str = "the head is larger than 64 KiB";
/// First bytes of every response.
const MAGIC: &[u8] = b"HTTP/1.";

/// A request, and the criteria for its response.
#[derive(Debug)]
pub struct HttpRequest {
    /// The encoded request.
    pub bytes: Box<[u8]>,
    http: HttpCheck,
    body: Option<Arc<BodyRegexp>>,
}

impl HttpRequest {
    /// Encodes the request and compiles the regular expression.
    ///
    /// # Errors
    /// The regular expression does not compile.
    pub fn compile(http: &HttpCheck, regexps: &mut RegexpSet) -> Result<Self, RejectReason> {
        let body = http.body.as_deref().map(|pattern| regexps.compile(pattern)).transpose();
        let body = body.map_err(|why| RejectReason::Invalid(format!("response-regexp: {why}")))?;
        let bytes = format!(
            "GET {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: vpp-maglev/{}\r\nAccept: */*\r\nAccept-Encoding: identity\r\n{}\r\n",
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
    /// Match of the body, until there is a verdict.
    body_match: Option<BodyMatch>,
    /// True if the server has closed the connection.
    has_ended: bool,
}

/// Availability of the connection for another request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reuse {
    /// The response is complete: the next one begins here.
    Ready,
    /// The end of the response is outstanding.
    Pending,
    /// The connection cannot be reused. The server is to close it, and little is left to read.
    Closing,
    /// The connection cannot be reused, and is closed at once.
    No,
}

impl HttpResponse {
    /// Handles received bytes. Returns the verdict once, as soon as it is certain.
    pub fn feed(&mut self, request: &HttpRequest, bytes: &[u8]) -> Option<Verdict> {
        self.has_begun |= !bytes.is_empty();
        if self.body.is_some() || self.is_judged {
            return self.feed_body(bytes);
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
                self.feed_body(body);
                self.feed_body(rest);
                Some(verdict)
            }
            Ok((None, body)) if self.body.is_some() => {
                let verdict = self.feed_body(body);
                let later = self.feed_body(rest);
                verdict.or(later)
            }
            Ok((None, _)) if fits.len() == room => self.fail(invalid_response(HEAD_TOO_LONG)),
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
    pub fn finish(&mut self) -> Option<Verdict> {
        self.is_persistent = false;
        self.has_ended = true;
        if self.is_judged {
            return None;
        }
        self.is_judged = true;
        Some(match &self.body {
            Some(body) if body.may_end_here() => self.judge_body(),
            Some(_) => invalid_response("connection closed within the body"),
            None if !self.has_begun => invalid_response("connection closed before an answer"),
            None if self.head.is_empty() => invalid_response("connection closed before a final answer"),
            None => invalid_response("connection closed within the head"),
        })
    }

    /// Returns true if a byte has arrived.
    pub const fn has_begun(&self) -> bool {
        self.has_begun
    }

    /// Describes the missing part, for a timeout.
    pub fn missing_part(&self) -> &'static str {
        match &self.body {
            Some(body) if body.has_open_end() => {
                "no end of the body: it has no length, and the connection stays open"
            }
            Some(_) => "no whole body",
            None if !self.head.is_empty() => "no whole head",
            None if self.interim > 0 => "no final answer",
            None => "no answer",
        }
    }

    /// Returns true if there has been a verdict.
    pub const fn is_judged(&self) -> bool {
        self.is_judged
    }

    /// Returns true if the server has ended the response by closing the connection.
    pub const fn has_ended(&self) -> bool {
        self.has_ended
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
            Some(body) if !self.has_ended && !body.is_longer_than(MAX_BODY) => Reuse::Closing,
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
            return Ok((self.begin_body(request, head), bytes));
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

    fn begin_body(&mut self, request: &HttpRequest, head: ResponseHead) -> Option<Verdict> {
        let status = OutcomeDetail::Status(head.status);
        let verdict = match &request.body {
            _ if !request.http.passes(head.status) => Some(Verdict::new(OutcomeCode::L7Sts, status)),
            None => Some(Verdict::new(OutcomeCode::L7Ok, status)),
            Some(regexp) => {
                self.body_match = Some(BodyMatch::new(regexp.clone(), head.coding));
                None
            }
        };
        self.status = head.status;
        self.is_judged = verdict.is_some();
        self.is_persistent = head.is_persistent && request.keep_alive_requests().is_some();
        self.body = Some(BodyDecoder::new(head.framing, if self.is_judged { 0 } else { MAX_BODY }));
        verdict
    }

    fn feed_body(&mut self, bytes: &[u8]) -> Option<Verdict> {
        let Self { body: Some(body), body_match, .. } = self else { return None };
        let fed = body.feed(bytes, |bytes| {
            if let Some(body_match) = body_match {
                body_match.feed(bytes);
            }
        });
        // Bytes after the body answer no request, so the connection is out of step.
        self.is_persistent &= fed == Ok(bytes.len());
        let has_wanted = body.has_wanted();
        let is_certain = body_match.as_ref().is_some_and(BodyMatch::is_certain);
        if self.is_judged {
            return None;
        }
        match fed {
            _ if is_certain => {}
            Err(why) => return self.fail(invalid_response(why)),
            Ok(_) if has_wanted => {}
            Ok(_) => return None,
        }
        self.is_judged = true;
        Some(self.judge_body())
    }

    /// Returns the verdict on a body that ends here. The rest of it is not matched.
    fn judge_body(&mut self) -> Verdict {
        match self.body_match.take().and_then(|body_match| body_match.mismatch()) {
            Some(why) => invalid_response(why),
            None => Verdict::new(OutcomeCode::L7Ok, OutcomeDetail::Status(self.status)),
        }
    }

    fn fail(&mut self, verdict: Verdict) -> Option<Verdict> {
        self.is_judged = true;
        self.is_persistent = false;
        Some(verdict)
    }
}

fn invalid_response(why: impl Into<OutcomeDetail>) -> Verdict {
    Verdict::new(OutcomeCode::L7Rsp, why)
}

#[cfg(test)]
mod tests;
