//! The body of an HTTP/1.1 answer, decoded as it arrives.

/// How much of chunk sizes, extensions and trailers is borne, in bytes, so that a server cannot send them for ever.
const MAX_OVERHEAD: usize = 64 * 1024;

/// How a body is delimited (RFC 9112 section 6.3).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Framing {
    /// By its length in bytes.
    Length(u64),
    /// In chunks.
    Chunked,
    /// By the end of the connection.
    UntilClose,
}

/// A body that is being received.
#[derive(Debug)]
pub struct Body {
    bytes: Vec<u8>,
    wanted: usize,
    state: State,
    overhead: usize,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// So many bytes are to come.
    Plain(u64),
    UntilClose,
    /// Within the digits of a chunk's size, of which some may have come.
    Size(Option<u64>),
    /// Between a chunk's size and the end of the line.
    Extension(u64),
    /// So many bytes of the chunk are to come.
    Chunk(u64),
    /// Between a chunk and the next size.
    ChunkEnd,
}

impl Body {
    /// A body of which the first `wanted` bytes are of interest.
    pub fn new(framing: Framing, wanted: usize) -> Self {
        let state = match framing {
            Framing::Length(length) => State::Plain(length),
            Framing::UntilClose => State::UntilClose,
            Framing::Chunked => State::Size(None),
        };
        Self { bytes: Vec::new(), wanted, state, overhead: 0 }
    }

    /// What has been decoded.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether the body is whole if nothing more comes.
    pub fn may_end_here(&self) -> bool {
        matches!(self.state, State::UntilClose | State::Plain(0))
    }

    /// Takes what has arrived. Returns whether there is no need for more.
    ///
    /// # Errors
    /// The chunks are malformed.
    pub fn feed(&mut self, mut bytes: &[u8]) -> Result<bool, &'static str> {
        loop {
            if self.bytes.len() >= self.wanted || matches!(self.state, State::Plain(0)) {
                return Ok(true);
            }
            let Some((first, rest)) = bytes.split_first() else { return Ok(false) };
            bytes = match self.state {
                State::UntilClose => self.keep(bytes, u64::MAX).1,
                State::Plain(left) => {
                    let (taken, rest) = self.keep(bytes, left);
                    self.state = State::Plain(left - taken);
                    rest
                }
                State::Chunk(left) => {
                    let (taken, rest) = self.keep(bytes, left);
                    self.state = if left == taken { State::ChunkEnd } else { State::Chunk(left - taken) };
                    rest
                }
                State::Size(_) | State::Extension(_) | State::ChunkEnd => {
                    if self.overhead == MAX_OVERHEAD {
                        return Err("chunks carry too little");
                    }
                    self.overhead += 1;
                    if self.step(*first)? {
                        return Ok(true);
                    }
                    rest
                }
            };
        }
    }

    /// One byte of what is around the chunks. Returns whether the last chunk was announced: no trailer is read.
    fn step(&mut self, byte: u8) -> Result<bool, &'static str> {
        self.state = match (self.state, byte) {
            (State::Size(size), b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                let digit = u64::from(char::from(byte).to_digit(16).unwrap_or_default());
                let size = size.unwrap_or_default().checked_mul(16).ok_or("a chunk's size is too large")?;
                State::Size(Some(size | digit))
            }
            (State::Size(Some(0)) | State::Extension(0), b'\n') => return Ok(true),
            (State::Size(Some(size)) | State::Extension(size), b'\n') => State::Chunk(size),
            (State::Size(Some(size)), b';' | b' ' | b'\t' | b'\r') | (State::Extension(size), _) => {
                State::Extension(size)
            }
            (State::ChunkEnd, b'\r') => State::ChunkEnd,
            (State::ChunkEnd, b'\n') => State::Size(None),
            _ => return Err("malformed chunk"),
        };
        Ok(false)
    }

    /// Keeps what is wanted of the next `most` bytes. Returns how many those were, and the rest.
    fn keep<'a>(&mut self, bytes: &'a [u8], most: u64) -> (u64, &'a [u8]) {
        let room = self.wanted - self.bytes.len();
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        let (taken, rest) = bytes.split_at(bytes.len().min(most).min(room));
        self.bytes.extend_from_slice(taken);
        (taken.len() as u64, rest)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Feeds `bytes` in pieces of the given size.
    fn decode(framing: Framing, bytes: &[u8], piece: usize) -> (Result<bool, &'static str>, Body) {
        let mut body = Body::new(framing, 100);
        for piece in bytes.chunks(piece) {
            match body.feed(piece) {
                Ok(false) => {}
                decided => return (decided, body),
            }
        }
        (Ok(false), body)
    }

    #[test]
    fn chunks_are_put_together() {
        let bytes = b"5\r\nhello\r\n1;name=value\r\n,\r\n6 \r\n world\r\n0\r\n\r\n";
        for piece in 1..=bytes.len() {
            let (decided, body) = decode(Framing::Chunked, bytes, piece);
            assert_eq!((decided, body.bytes()), (Ok(true), &b"hello, world"[..]), "{piece}");
        }
    }

    #[test]
    fn malformed_chunks_are_refused() {
        for bytes in [&b"\r\n"[..], b"x", b";", b"5\r\nhello!", b"11111111111111111\r\n", b"-1\r\n"] {
            assert!(decode(Framing::Chunked, bytes, 1).0.is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn endless_extensions_are_refused() {
        let bytes = [&b"5;"[..], &vec![b'x'; MAX_OVERHEAD]].concat();
        assert!(decode(Framing::Chunked, &bytes, 1000).0.is_err());
    }

    #[test]
    fn a_length_ends_the_body() {
        let (decided, body) = decode(Framing::Length(3), b"abcdef", 2);
        assert_eq!((decided, body.bytes()), (Ok(true), &b"abc"[..]));
        assert_eq!(decode(Framing::Length(0), b"x", 1).0, Ok(true));
        let (decided, body) = decode(Framing::Length(9), b"abc", 2);
        assert_eq!((decided, body.may_end_here()), (Ok(false), false));
    }

    #[test]
    fn no_more_is_kept_than_is_wanted() {
        for framing in [Framing::UntilClose, Framing::Length(u64::MAX)] {
            let (decided, body) = decode(framing, &[b'x'; 1000], 64);
            assert_eq!((decided, body.bytes().len()), (Ok(true), 100));
        }
    }

    proptest! {
        #[test]
        fn arbitrary_chunks_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), piece in 1usize..50) {
            let (_, body) = decode(Framing::Chunked, &bytes, piece);
            prop_assert!(body.bytes().len() <= 100);
        }

        #[test]
        fn pieces_make_no_difference(text in "[0-9a-f\r\n;x]{0,40}", piece in 1usize..40) {
            let (whole, a) = decode(Framing::Chunked, text.as_bytes(), 1000);
            let (pieces, b) = decode(Framing::Chunked, text.as_bytes(), piece);
            prop_assert_eq!((whole, a.bytes()), (pieces, b.bytes()));
        }
    }
}
