//! A regular expression over a body that is being received, and the explanation if it does not match.

use std::sync::Arc;

use maglev_ipc::regexp::{BodyRegexp, MatchState};

/// Size of the beginning of a body that is kept for the explanation, in bytes.
const MAX_EXCERPT: usize = 128;
/// Longest excerpt in an explanation, in characters.
const EXCERPT_CHARS: usize = 60;

/// A match in progress.
#[derive(Debug)]
pub struct BodyMatch {
    regexp: Arc<BodyRegexp>,
    state: MatchState,
    excerpt: Vec<u8>,
    /// Compression of the body, according to the server.
    coding: Option<String>,
}

impl BodyMatch {
    /// Begins to match a body.
    pub fn new(regexp: Arc<BodyRegexp>, coding: Option<String>) -> Self {
        Self { state: regexp.begin(), regexp, excerpt: Vec::new(), coding }
    }

    /// Takes the next bytes.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.regexp.feed(&mut self.state, bytes);
        let room = MAX_EXCERPT - self.excerpt.len();
        self.excerpt.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    /// Returns true if the body matches, for any bytes that follow.
    pub fn is_certain(&self) -> bool {
        self.regexp.is_certain(self.state)
    }

    /// Returns the explanation if the body ends here and does not match.
    pub fn mismatch(&self) -> Option<String> {
        (!self.regexp.matches_at_end(self.state)).then(|| match (&self.coding, excerpt(&self.excerpt)) {
            (Some(coding), _) => format!("body does not match: it is compressed ({coding})"),
            (None, text) if text.is_empty() => "body does not match: it is empty".to_owned(),
            (None, text) => format!("body does not match: \"{text}\""),
        })
    }
}

/// Returns the beginning of a text in one line. Blanks and control characters become single blanks.
fn excerpt(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let words: Vec<_> =
        text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty()).collect();
    let line = words.join(" ");
    match line.char_indices().nth(EXCERPT_CHARS) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn excerpt_is_one_short_line() {
        assert_eq!(excerpt(b"\r\n<html>\n\x1b[31m  <b>down\0\n"), "<html> [31m <b>down");
        assert_eq!(excerpt(b" \n"), "");
        assert_eq!(excerpt(&[b'x'; 128]), format!("{}…", "x".repeat(60)));
        assert_eq!(excerpt("é".repeat(64).as_bytes()), format!("{}…", "é".repeat(60)));
        assert_eq!(excerpt(b"\xffok"), "\u{fffd}ok");
    }
}
