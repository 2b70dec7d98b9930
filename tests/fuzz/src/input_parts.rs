//! Inputs with several parts.

/// A reader of the parts of an input. An exhausted one returns zeroes and empty parts.
#[derive(Debug)]
pub struct InputParts<'a>(pub &'a [u8]);

impl<'a> InputParts<'a> {
    /// Returns the next byte.
    pub fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    /// Returns the next part: two bytes of length, and at most this many bytes.
    pub fn part(&mut self) -> &'a [u8] {
        let length = usize::from(u16::from_be_bytes([self.byte(), self.byte()]));
        let (part, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        part
    }

    /// Returns all remaining parts.
    pub fn parts(mut self) -> impl Iterator<Item = &'a [u8]> {
        std::iter::from_fn(move || (!self.0.is_empty()).then(|| self.part()))
    }
}

/// Encodes parts as an input.
pub fn of_parts<P: AsRef<[u8]>>(parts: impl IntoIterator<Item = P>) -> Vec<u8> {
    let mut input = Vec::new();
    for part in parts {
        let part = part.as_ref();
        input.extend(u16::try_from(part.len()).expect("a seed is small").to_be_bytes());
        input.extend(part);
    }
    input
}

/// Splits `bytes` into pieces of the lengths in `cuts`. The last piece is the rest.
pub fn pieces<'a>(bytes: &'a [u8], cuts: &[u8]) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    let mut rest = bytes;
    for cut in cuts {
        let (piece, after) = rest.split_at(usize::from(*cut).min(rest.len()));
        pieces.push(piece);
        rest = after;
    }
    pieces.push(rest);
    pieces
}
