//! The body of an HTTP/1.1 answer, decoded as it arrives.

/// How much of chunk sizes, extensions and trailers is borne, in bytes, so that a server cannot send them for ever.
const MAX_OVERHEAD: usize = 64 * 1024;

/// How a body is delimited (RFC 9112 section 6.3).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum BodyFraming {
    /// By its length in bytes.
    Length(u64),
    /// In chunks.
    Chunked,
    /// By the end of the connection.
    UntilClose,
}

/// A body that is being received.
#[derive(Debug)]
pub struct BodyDecoder {
    bytes: Vec<u8>,
    wanted: usize,
    /// Bytes that have been decoded.
    seen: u64,
    state: DecodeState,
    overhead: usize,
}

#[derive(Clone, Copy, Debug)]
enum DecodeState {
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
    /// At the beginning of a line after the last chunk.
    TrailerStart,
    /// Within such a line.
    Trailer,
    /// Within the end of the line that ends it all.
    LastEnd,
    /// Nothing is to come.
    Whole,
    /// Chunks that are malformed, which matters no more.
    Broken,
}

impl BodyDecoder {
    /// A body of which the first `wanted` bytes are of interest.
    pub fn new(framing: BodyFraming, wanted: usize) -> Self {
        let state = match framing {
            BodyFraming::Length(0) => DecodeState::Whole,
            BodyFraming::Length(length) => DecodeState::Plain(length),
            BodyFraming::UntilClose => DecodeState::UntilClose,
            BodyFraming::Chunked => DecodeState::Size(None),
        };
        Self { bytes: Vec::new(), wanted, seen: 0, state, overhead: 0 }
    }

    /// The part of interest, as far as it has come.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether all that is of interest has come.
    pub fn is_enough(&self) -> bool {
        self.bytes.len() >= self.wanted
            || matches!(
                self.state,
                DecodeState::Whole
                    | DecodeState::TrailerStart
                    | DecodeState::Trailer
                    | DecodeState::LastEnd
                    | DecodeState::Broken
            )
    }

    /// Whether all of it has come, trailers included: what comes now belongs to something else.
    pub fn is_whole(&self) -> bool {
        matches!(self.state, DecodeState::Whole)
    }

    /// Whether its end is not to be awaited: it is none that can be told, or more than `most` bytes away from the
    /// beginning.
    pub fn is_beyond(&self, most: usize) -> bool {
        let ahead = match self.state {
            DecodeState::UntilClose | DecodeState::Broken => return true,
            DecodeState::Plain(left) | DecodeState::Chunk(left) => left,
            _ => 0,
        };
        self.seen.saturating_add(ahead) > most as u64
    }

    /// Whether the body is whole if nothing more comes.
    pub fn may_end_here(&self) -> bool {
        matches!(self.state, DecodeState::UntilClose | DecodeState::Whole)
    }

    /// Takes what has arrived. Returns how much of it belongs to the body.
    ///
    /// # Errors
    /// The chunks are malformed before all that is of interest has come.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<usize, &'static str> {
        let mut left = bytes;
        while let Some((first, rest)) = left.split_first() {
            left = match self.state {
                DecodeState::Whole => break,
                DecodeState::Broken => &[],
                DecodeState::UntilClose => self.keep(left, u64::MAX).1,
                DecodeState::Plain(length) => {
                    let (taken, rest) = self.keep(left, length);
                    self.state =
                        if taken == length { DecodeState::Whole } else { DecodeState::Plain(length - taken) };
                    rest
                }
                DecodeState::Chunk(length) => {
                    let (taken, rest) = self.keep(left, length);
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
                    Err(why) if !self.is_enough() => return Err(why),
                    Err(_) => {
                        self.state = DecodeState::Broken;
                        &[]
                    }
                },
            };
        }
        Ok(bytes.len() - left.len())
    }

    /// What follows one byte of what is around the chunks.
    fn step(&mut self, byte: u8) -> Result<DecodeState, &'static str> {
        if self.overhead == MAX_OVERHEAD {
            return Err("chunks carry too little");
        }
        self.overhead += 1;
        Ok(match (self.state, byte) {
            (DecodeState::Size(size), b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                let digit = u64::from(char::from(byte).to_digit(16).unwrap_or_default());
                let size = size.unwrap_or_default().checked_mul(16).ok_or("a chunk's size is too large")?;
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
            (DecodeState::TrailerStart, b'\r') => DecodeState::LastEnd,
            (DecodeState::TrailerStart | DecodeState::LastEnd, b'\n') => DecodeState::Whole,
            (DecodeState::TrailerStart | DecodeState::Trailer, _) => DecodeState::Trailer,
            _ => return Err("malformed chunk"),
        })
    }

    /// Keeps what is wanted of the next `most` bytes. Returns how many those were, and the rest.
    fn keep<'a>(&mut self, bytes: &'a [u8], most: u64) -> (u64, &'a [u8]) {
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        let (taken, rest) = bytes.split_at(bytes.len().min(most));
        let room = self.wanted - self.bytes.len();
        self.bytes.extend_from_slice(&taken[..taken.len().min(room)]);
        self.seen += taken.len() as u64;
        (taken.len() as u64, rest)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// How far off an end is still awaited.
    const MOST: usize = 200;

    /// What is known of a body of which the first 100 bytes are wanted, after bytes that came in pieces of the given
    /// size: the bytes, whether those are enough, how many belonged to the body if it is whole, and what is wrong.
    fn decode(
        framing: BodyFraming,
        bytes: &[u8],
        piece: usize,
    ) -> (Vec<u8>, bool, Option<usize>, &'static str) {
        let mut body = BodyDecoder::new(framing, 100);
        let mut taken = 0;
        for piece in bytes.chunks(piece) {
            match body.feed(piece) {
                Ok(length) => taken += length,
                Err(why) => return (body.bytes, false, None, why),
            }
        }
        let whole = body.is_whole().then_some(taken);
        assert!(whole.is_none() || body.is_enough(), "{bytes:?}");
        let fault = if body.is_beyond(MOST) { "beyond" } else { "" };
        (body.bytes.clone(), body.is_enough(), whole, fault)
    }

    #[test]
    fn chunks_are_put_together() {
        let bytes = b"5\r\nhello\r\n1;name=value\r\n,\r\n6 \r\n world\r\n0\r\n\r\n";
        for piece in 1..=bytes.len() {
            let expected = (b"hello, world".to_vec(), true, Some(bytes.len()), "");
            assert_eq!(decode(BodyFraming::Chunked, bytes, piece), expected, "{piece}");
        }
    }

    #[test]
    fn the_last_chunk_is_enough_and_the_trailers_end_it() {
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
    fn malformed_chunks_are_refused() {
        for bytes in [&b"\r\n"[..], b"x", b";", b"5\r\nhello!", b"11111111111111111\r\n", b"-1\r\n"] {
            assert_ne!(decode(BodyFraming::Chunked, bytes, 1).3, "", "{bytes:?}");
        }
    }

    #[test]
    fn what_is_malformed_after_enough_only_hides_the_end() {
        let hundred = "x".repeat(100);
        for bytes in [format!("64\r\n{hundred}!"), "0\r\n\rx".to_owned()] {
            let (_, enough, whole, fault) = decode(BodyFraming::Chunked, bytes.as_bytes(), 7);
            assert_eq!((enough, whole, fault), (true, None, "beyond"), "{bytes}");
        }
    }

    #[test]
    fn endless_extensions_are_refused() {
        let bytes = [&b"5;"[..], &vec![b'x'; MAX_OVERHEAD]].concat();
        assert_eq!(decode(BodyFraming::Chunked, &bytes, 1000).3, "chunks carry too little");
    }

    #[test]
    fn a_length_ends_the_body() {
        assert_eq!(decode(BodyFraming::Length(3), b"abcdef", 2), (b"abc".to_vec(), true, Some(3), ""));
        assert_eq!(decode(BodyFraming::Length(0), b"x", 1), (Vec::new(), true, Some(0), ""));
        assert_eq!(decode(BodyFraming::Length(9), b"abc", 2), (b"abc".to_vec(), false, None, ""));
    }

    #[test]
    fn no_more_is_kept_than_is_wanted() {
        for framing in [BodyFraming::UntilClose, BodyFraming::Length(u64::MAX), BodyFraming::Length(1000)] {
            let (bytes, enough, _, _) = decode(framing, &[b'x'; 1000], 64);
            assert_eq!((bytes.len(), enough), (100, true));
        }
    }

    #[test]
    fn an_end_that_is_far_off_is_not_awaited() {
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
        fn pieces_make_no_difference(text in "[0-9a-f\r\n;x]{0,40}", piece in 1usize..40) {
            let whole = decode(BodyFraming::Chunked, text.as_bytes(), 1000);
            prop_assert_eq!(whole, decode(BodyFraming::Chunked, text.as_bytes(), piece));
        }
    }
}
