//! Incremental decoder of HTTP/1.1 response bodies.

/// Maximum total size of chunk sizes, extensions and trailers, in bytes: a server must not send them endlessly.
const MAX_OVERHEAD: usize = 64 * 1024;

/// Framing of a body (RFC 9112 section 6.3).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum BodyFraming {
    /// `Content-Length`, in bytes.
    Length(u64),
    /// Chunked coding.
    Chunked,
    /// Ends with the connection.
    UntilClose,
}

/// A body that is being received.
#[derive(Debug)]
pub struct BodyDecoder {
    /// Number of bytes that matter.
    wanted: usize,
    /// Number of decoded bytes.
    decoded: u64,
    state: DecodeState,
    /// Number of bytes around chunks so far.
    overhead: usize,
}

#[derive(Clone, Copy, Debug)]
enum DecodeState {
    /// Number of remaining bytes.
    Plain(u64),
    UntilClose,
    /// Within the digits of a chunk size, with its value so far.
    Size(Option<u64>),
    /// After a chunk size, before the end of its line.
    Extension(u64),
    /// Number of remaining bytes of the chunk.
    Chunk(u64),
    /// After a chunk, before the next size.
    ChunkEnd,
    /// At the beginning of a trailer line.
    TrailerStart,
    /// Within a trailer line.
    Trailer,
    /// Within the empty line that ends the body.
    FinalLine,
    /// Complete.
    Complete,
    /// Malformed after all wanted bytes: the end is unknown.
    Broken,
}

impl BodyDecoder {
    /// Returns a decoder of a body of which the first `wanted` bytes matter.
    pub fn new(framing: BodyFraming, wanted: usize) -> Self {
        let state = match framing {
            BodyFraming::Length(0) => DecodeState::Complete,
            BodyFraming::Length(length) => DecodeState::Plain(length),
            BodyFraming::UntilClose => DecodeState::UntilClose,
            BodyFraming::Chunked => DecodeState::Size(None),
        };
        Self { wanted, decoded: 0, state, overhead: 0 }
    }

    /// Returns true if all wanted bytes have arrived.
    pub fn has_wanted(&self) -> bool {
        self.decoded >= self.wanted as u64
            || matches!(
                self.state,
                DecodeState::Complete
                    | DecodeState::TrailerStart
                    | DecodeState::Trailer
                    | DecodeState::FinalLine
                    | DecodeState::Broken
            )
    }

    /// Returns true if the body is complete, including trailers.
    pub fn is_complete(&self) -> bool {
        matches!(self.state, DecodeState::Complete)
    }

    /// Returns true if the body ends with the connection, and has no other end.
    pub fn has_open_end(&self) -> bool {
        matches!(self.state, DecodeState::UntilClose)
    }

    /// Returns true if more than `limit` bytes have been or will be decoded, or the body is malformed.
    pub fn is_longer_than(&self, limit: usize) -> bool {
        let ahead = match self.state {
            DecodeState::Broken => return true,
            DecodeState::Plain(left) | DecodeState::Chunk(left) => left,
            _ => 0,
        };
        self.decoded.saturating_add(ahead) > limit as u64
    }

    /// Returns true if the end is unknown, or more than `limit` bytes from the beginning.
    pub fn ends_beyond(&self, limit: usize) -> bool {
        self.has_open_end() || self.is_longer_than(limit)
    }

    /// Returns true if the body is complete when the connection ends now.
    pub fn may_end_here(&self) -> bool {
        matches!(self.state, DecodeState::UntilClose | DecodeState::Complete)
    }

    /// Decodes received bytes, and passes the wanted ones to `take`. Returns the number of bytes that belong to the body.
    ///
    /// # Errors
    /// A chunk is malformed before all wanted bytes have arrived.
    pub fn feed(&mut self, bytes: &[u8], mut take: impl FnMut(&[u8])) -> Result<usize, &'static str> {
        let mut left = bytes;
        while let Some((first, rest)) = left.split_first() {
            left = match self.state {
                DecodeState::Complete => break,
                DecodeState::Broken => &[],
                DecodeState::UntilClose => self.consume(left, u64::MAX, &mut take).1,
                DecodeState::Plain(length) => {
                    let (taken, rest) = self.consume(left, length, &mut take);
                    self.state = if taken == length {
                        DecodeState::Complete
                    } else {
                        DecodeState::Plain(length - taken)
                    };
                    rest
                }
                DecodeState::Chunk(length) => {
                    let (taken, rest) = self.consume(left, length, &mut take);
                    self.state = if taken == length {
                        DecodeState::ChunkEnd
                    } else {
                        DecodeState::Chunk(length - taken)
                    };
                    rest
                }
                _ => match self.step(*first) {
                    Ok(state) => {
                        self.state = state;
                        rest
                    }
                    Err(why) => {
                        let had_wanted = self.has_wanted();
                        self.state = DecodeState::Broken;
                        if !had_wanted {
                            return Err(why);
                        }
                        &[]
                    }
                },
            };
        }
        Ok(bytes.len() - left.len())
    }

    /// Returns the state after one byte outside of chunk data.
    fn step(&mut self, byte: u8) -> Result<DecodeState, &'static str> {
        if self.overhead == MAX_OVERHEAD {
            return Err("too much chunk overhead");
        }
        self.overhead += 1;
        Ok(match (self.state, byte) {
            (DecodeState::Size(size), b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                let digit = u64::from(char::from(byte).to_digit(16).unwrap_or_default());
                let size = size.unwrap_or_default().checked_mul(16).ok_or("chunk size too large")?;
                DecodeState::Size(Some(size | digit))
            }
            (DecodeState::Size(Some(0)) | DecodeState::Extension(0) | DecodeState::Trailer, b'\n') => {
                DecodeState::TrailerStart
            }
            (DecodeState::Size(Some(size)) | DecodeState::Extension(size), b'\n') => DecodeState::Chunk(size),
            (DecodeState::Size(Some(size)), b';' | b' ' | b'\t' | b'\r')
            | (DecodeState::Extension(size), _) => DecodeState::Extension(size),
            (DecodeState::ChunkEnd, b'\r') => DecodeState::ChunkEnd,
            (DecodeState::ChunkEnd, b'\n') => DecodeState::Size(None),
            (DecodeState::TrailerStart, b'\r') => DecodeState::FinalLine,
            (DecodeState::TrailerStart | DecodeState::FinalLine, b'\n') => DecodeState::Complete,
            (DecodeState::TrailerStart | DecodeState::Trailer, _) => DecodeState::Trailer,
            _ => return Err("malformed chunk"),
        })
    }

    /// Consumes up to `limit` bytes, and takes the wanted ones. Returns the number of consumed bytes, and the rest.
    fn consume<'a>(&mut self, bytes: &'a [u8], limit: u64, take: &mut impl FnMut(&[u8])) -> (u64, &'a [u8]) {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let (taken, rest) = bytes.split_at(bytes.len().min(limit));
        let room = usize::try_from((self.wanted as u64).saturating_sub(self.decoded)).unwrap_or(usize::MAX);
        take(&taken[..taken.len().min(room)]);
        self.decoded += taken.len() as u64;
        (taken.len() as u64, rest)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Limit for [`BodyDecoder::ends_beyond`].
    const LIMIT: usize = 200;

    /// Decodes a body in pieces, with 100 wanted bytes. Returns the bytes, the `has_wanted` flag, the length of a complete
    /// body, and the error.
    fn decode(
        framing: BodyFraming,
        bytes: &[u8],
        piece: usize,
    ) -> (Vec<u8>, bool, Option<usize>, &'static str) {
        let mut body = BodyDecoder::new(framing, 100);
        let (mut kept, mut taken) = (Vec::new(), 0);
        for piece in bytes.chunks(piece) {
            match body.feed(piece, |bytes| kept.extend_from_slice(bytes)) {
                Ok(length) => taken += length,
                Err(why) => return (kept, false, None, why),
            }
        }
        let whole = body.is_complete().then_some(taken);
        assert!(whole.is_none() || body.has_wanted(), "{bytes:?}");
        let fault = if body.ends_beyond(LIMIT) { "beyond" } else { "" };
        (kept, body.has_wanted(), whole, fault)
    }

    #[test]
    fn chunks_are_joined() {
        let bytes = b"5\r\nhello\r\n1;name=value\r\n,\r\n6 \r\n world\r\n0\r\n\r\n";
        for piece in 1..=bytes.len() {
            let expected = (b"hello, world".to_vec(), true, Some(bytes.len()), "");
            assert_eq!(decode(BodyFraming::Chunked, bytes, piece), expected, "{piece}");
        }
    }

    #[test]
    fn trailers_complete_a_chunked_body() {
        for (bytes, whole) in [
            ("0\r\n", None),
            ("0\r\n\r", None),
            ("0\r\n\r\nx", Some(5)),
            ("0\n\nx", Some(3)),
            ("0;x\r\n\r\n", Some(7)),
            ("0\r\nA: b\r\n", None),
            ("0\r\nA: b\r\n\r\nx", Some(11)),
            ("0\r\nA: \r\r\n\r\nx", Some(11)),
        ] {
            for piece in [1, 2, 100] {
                let expected = (Vec::new(), true, whole, "");
                assert_eq!(decode(BodyFraming::Chunked, bytes.as_bytes(), piece), expected, "{bytes:?}");
            }
        }
    }

    #[test]
    fn malformed_chunks_are_rejected() {
        for bytes in [&b"\r\n"[..], b"x", b";", b"5\r\nhello!", b"11111111111111111\r\n", b"-1\r\n"] {
            assert_ne!(decode(BodyFraming::Chunked, bytes, 1).3, "", "{bytes:?}");
        }
    }

    #[test]
    fn late_malformed_chunk_hides_the_end() {
        let hundred = "x".repeat(100);
        for bytes in [format!("64\r\n{hundred}!"), "0\r\n\rx".to_owned()] {
            let (_, enough, whole, fault) = decode(BodyFraming::Chunked, bytes.as_bytes(), 7);
            assert_eq!((enough, whole, fault), (true, None, "beyond"), "{bytes}");
        }
    }

    #[test]
    fn endless_extensions_are_rejected() {
        let bytes = [&b"5;"[..], &vec![b'x'; MAX_OVERHEAD]].concat();
        assert_eq!(decode(BodyFraming::Chunked, &bytes, 1000).3, "too much chunk overhead");
    }

    #[test]
    fn content_length_ends_body() {
        assert_eq!(decode(BodyFraming::Length(3), b"abcdef", 2), (b"abc".to_vec(), true, Some(3), ""));
        assert_eq!(decode(BodyFraming::Length(0), b"x", 1), (Vec::new(), true, Some(0), ""));
        assert_eq!(decode(BodyFraming::Length(9), b"abc", 2), (b"abc".to_vec(), false, None, ""));
    }

    #[test]
    fn only_wanted_bytes_are_taken() {
        for framing in [BodyFraming::UntilClose, BodyFraming::Length(u64::MAX), BodyFraming::Length(1000)] {
            let (bytes, enough, _, _) = decode(framing, &[b'x'; 1000], 64);
            assert_eq!((bytes.len(), enough), (100, true));
        }
    }

    #[test]
    fn distant_end_is_beyond_limit() {
        for (framing, bytes, fault) in [
            (BodyFraming::Length(200), "", ""),
            (BodyFraming::Length(201), "", "beyond"),
            (BodyFraming::Length(u64::MAX), "x", "beyond"),
            (BodyFraming::UntilClose, "", "beyond"),
            (BodyFraming::Chunked, "", ""),
            (BodyFraming::Chunked, "c8\n", ""),
            (BodyFraming::Chunked, "c9\n", "beyond"),
            (BodyFraming::Chunked, "1\nx\nc7\n", ""),
            (BodyFraming::Chunked, "1\nx\nc8\n", "beyond"),
        ] {
            assert_eq!(decode(framing, bytes.as_bytes(), 100).3, fault, "{framing:?} {bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_chunks_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), piece in 1usize..50) {
            let (bytes, ..) = decode(BodyFraming::Chunked, &bytes, piece);
            prop_assert!(bytes.len() <= 100);
        }

        #[test]
        fn pieces_decode_like_the_whole(text in "[0-9a-f\r\n;x]{0,40}", piece in 1usize..40) {
            let whole = decode(BodyFraming::Chunked, text.as_bytes(), 1000);
            prop_assert_eq!(whole, decode(BodyFraming::Chunked, text.as_bytes(), piece));
        }
    }
}
