//! Inputs that are made of several parts.

/// Takes parts off the front of an input. One that has run out gives zeroes and nothing.
#[derive(Debug)]
pub struct Scraps<'a>(pub &'a [u8]);

impl<'a> Scraps<'a> {
    /// The next byte.
    pub fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    /// The next part: a length of two bytes, and as much of that as there is.
    pub fn part(&mut self) -> &'a [u8] {
        let length = usize::from(u16::from_be_bytes([self.byte(), self.byte()]));
        let (part, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        part
    }

    /// All parts that there are.
    pub fn parts(mut self) -> impl Iterator<Item = &'a [u8]> {
        std::iter::from_fn(move || (!self.0.is_empty()).then(|| self.part()))
    }
}

/// An input of these parts.
pub fn of_parts<P: AsRef<[u8]>>(parts: impl IntoIterator<Item = P>) -> Vec<u8> {
    let mut input = Vec::new();
    for part in parts {
        let part = part.as_ref();
        input.extend(u16::try_from(part.len()).expect("a seed is small").to_be_bytes());
        input.extend(part);
    }
    input
}

/// `bytes` in pieces, whose lengths `cuts` has: the last of them goes on to the end.
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
