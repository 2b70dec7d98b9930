//! Standard error of a child prober: forwarded, with the last line kept as the reason of its exit.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::process::ChildStderr;
use std::time::Instant;

use maglev_ipc::text::is_unprintable;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// Maximum length of the kept line.
const MAX_LINE: usize = 1024;

/// Output of a child, until it has closed it.
#[derive(Debug)]
pub struct ProberOutput {
    pipe: Option<ChildStderr>,
    /// Beginning of the unfinished line.
    line: Vec<u8>,
    last: Vec<u8>,
}

impl ProberOutput {
    pub const fn new(pipe: Option<ChildStderr>) -> Self {
        Self { pipe, line: Vec::new(), last: Vec::new() }
    }

    /// Returns the descriptor to wait for; `None` once the child has closed it.
    pub fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.pipe.as_ref().map(AsFd::as_fd)
    }

    /// Forwards available bytes. Blocks if there are none.
    pub fn forward(&mut self) {
        let Some(pipe) = &mut self.pipe else { return };
        let mut bytes = [0; 4096];
        match pipe.read(&mut bytes) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Ok(0) | Err(_) => self.pipe = None,
            Ok(length) => {
                // Without a reader of maglevd's own lines, there is none of these.
                let _ = io::stderr().write_all(&bytes[..length]);
                self.record(&bytes[..length]);
            }
        }
    }

    /// Forwards output until the child closes it, or until `end`: a child may write without an end.
    pub fn forward_all(&mut self, end: Instant) {
        while let Some(descriptor) = self.descriptor() {
            let left = end.saturating_duration_since(Instant::now());
            let mut polled = [PollFd::new(descriptor, PollFlags::POLLIN)];
            match poll(&mut polled, PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO)) {
                Ok(0) => return,
                Ok(_) => self.forward(),
                Err(_) => {}
            }
            if left.is_zero() {
                return;
            }
        }
    }

    /// Returns the last line; empty if there was none.
    pub fn last_line(&self) -> &[u8] {
        if self.line.is_empty() { &self.last } else { &self.line }
    }

    fn record(&mut self, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let text = piece.strip_suffix(b"\n").unwrap_or(piece);
            let room = MAX_LINE.saturating_sub(self.line.len());
            self.line.extend_from_slice(&text[..text.len().min(room)]);
            // Rust's hint after a panic is no reason.
            if piece.ends_with(b"\n") && !self.line.starts_with(b"note: ") && !self.line.is_empty() {
                std::mem::swap(&mut self.last, &mut self.line);
            }
            if piece.ends_with(b"\n") {
                self.line.clear();
            }
        }
    }
}

/// Extracts the reason from a line: of a record in JSON its message, of text what follows the program's name. The line is a
/// prober's, so control and invisible characters are replaced.
pub fn reason(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    let json: Option<serde_json::Value> = serde_json::from_str(&text).ok();
    let message = json.as_ref().and_then(|json| json.get("fields")?.get("message")?.as_str());
    let text = message.unwrap_or(text.strip_prefix("maglevd-prober: ").unwrap_or(&text));
    text.trim().chars().map(|c| if is_unprintable(c) { ' ' } else { c }).take(MAX_LINE).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn last(bytes: &[u8]) -> String {
        let mut output = ProberOutput::new(None);
        bytes.chunks(3).for_each(|chunk| output.record(chunk));
        reason(output.last_line())
    }

    #[test]
    fn last_line_is_the_reason() {
        for (bytes, expected) in [
            ("", ""),
            ("one\nmaglevd-prober: raw sockets: no\n", "raw sockets: no"),
            ("one\n\nunfinished", "unfinished"),
            ("panicked\nnote: run with RUST_BACKTRACE=1\n", "panicked"),
            ("{\"fields\":{\"message\":\"no\\u001b room\"}}\n", "no  room"),
        ] {
            assert_eq!(last(bytes.as_bytes()), expected, "{bytes:?}");
        }
        let long = "x".repeat(100_000);
        assert_eq!(last(long.as_bytes()).len(), MAX_LINE);
    }
}
