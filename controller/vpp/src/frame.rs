//! Frames: a header of 16 bytes, with only the length in use, and a payload.

use crate::message::{Message, MessageHeader};
use crate::wire::{MalformedMessage, WireField, WireReader};

/// Size of the header before each payload.
pub const HEADER: usize = 16;

/// Largest accepted payload. VPP has no limit. Its longest message, a description of its API, has about 1.2 MB.
pub const MAX_PAYLOAD: usize = 16 << 20;

/// Space reserved for one read from the socket.
const READ_SIZE: usize = 64 << 10;

/// A frame announces more than [`MAX_PAYLOAD`] bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("frame of {0} bytes is too large")]
pub struct FrameTooLarge(pub usize);

/// Appends the frame of `message` to `out`. `id` is the number of such messages in this VPP.
pub fn encode<M: Message>(out: &mut Vec<u8>, id: u16, head: MessageHeader, message: &M) {
    let start = out.len();
    out.resize(start + HEADER, 0);
    id.put(out);
    head.put::<M>(out);
    message.put(out);
    let length = u32::try_from(out.len() - start - HEADER).unwrap_or(u32::MAX);
    out[start + 8..start + 12].copy_from_slice(&length.to_be_bytes());
}

/// Returns the message number of `payload`.
///
/// # Errors
/// The payload is too short.
pub fn id(payload: &[u8]) -> Result<u16, MalformedMessage> {
    u16::get(&mut WireReader::new(payload))
}

/// Decodes `payload` as an `M`. Trailing bytes are ignored, because VPP's payloads may be longer than their message.
///
/// # Errors
/// The payload is too short, or malformed.
pub fn decode<M: Message>(payload: &[u8]) -> Result<(MessageHeader, M), MalformedMessage> {
    let mut from = WireReader::new(payload);
    u16::get(&mut from)?;
    let head = MessageHeader::get::<M>(&mut from)?;
    Ok((head, M::get(&mut from)?))
}

/// Splits a stream of bytes into payloads, independent of the sizes of the reads.
#[derive(Debug, Default)]
pub struct FrameSplitter {
    bytes: Vec<u8>,
    taken: usize,
}

impl FrameSplitter {
    /// Returns the buffer to which the caller appends bytes of the stream.
    pub fn read_buffer(&mut self) -> &mut Vec<u8> {
        self.bytes.drain(..self.taken);
        self.taken = 0;
        if self.bytes.capacity() - self.bytes.len() < READ_SIZE / 2 {
            self.bytes.reserve(READ_SIZE);
        }
        &mut self.bytes
    }

    /// Returns the next complete payload.
    ///
    /// # Errors
    /// The next frame is larger than [`MAX_PAYLOAD`]. The stream cannot be used any more.
    pub fn next_payload(&mut self) -> Result<Option<&[u8]>, FrameTooLarge> {
        let rest = &self.bytes[self.taken..];
        let Some((header, body)) = rest.split_first_chunk::<HEADER>() else { return Ok(None) };
        let length = u32::from_be_bytes([header[8], header[9], header[10], header[11]]) as usize;
        if length > MAX_PAYLOAD {
            return Err(FrameTooLarge(length));
        }
        let Some(payload) = body.get(..length) else { return Ok(None) };
        self.taken += HEADER + length;
        Ok(Some(payload))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::message::ControlPing;

    fn pings(n: u32) -> Vec<u8> {
        let mut out = Vec::new();
        for context in 0..n {
            encode(&mut out, 23, MessageHeader { client_index: 7, context }, &ControlPing {});
        }
        out
    }

    fn contexts(splitter: &mut FrameSplitter) -> Vec<u32> {
        std::iter::from_fn(|| {
            splitter.next_payload().unwrap().map(|payload| decode::<ControlPing>(payload).unwrap().0.context)
        })
        .collect()
    }

    #[test]
    fn merged_frames_are_split() {
        let mut splitter = FrameSplitter::default();
        splitter.read_buffer().extend(pings(3));
        assert_eq!(contexts(&mut splitter), [0, 1, 2]);
    }

    #[test]
    fn frames_are_assembled_from_single_bytes() {
        let mut splitter = FrameSplitter::default();
        let mut seen = Vec::new();
        for byte in pings(3) {
            splitter.read_buffer().push(byte);
            seen.extend(contexts(&mut splitter));
        }
        assert_eq!(seen, [0, 1, 2]);
    }

    #[test]
    fn oversized_frame_is_refused_at_its_header() {
        let mut splitter = FrameSplitter::default();
        splitter.read_buffer().extend([[0; 8], [0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0]].concat());
        assert_eq!(splitter.next_payload(), Err(FrameTooLarge(0x7fff_ffff)));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes: Vec<u8>, cut in 0usize..64) {
            let mut splitter = FrameSplitter::default();
            for piece in bytes.chunks(cut + 1) {
                splitter.read_buffer().extend(piece);
                while let Ok(Some(_)) = splitter.next_payload() {}
            }
        }
    }
}
