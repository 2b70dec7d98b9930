//! Layout of values on VPP's socket: packed in declaration order, big-endian, without padding.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Bytes that do not decode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MalformedMessage {
    /// The bytes end early.
    #[error("{missing} bytes short")]
    Short {
        /// Number of missing bytes of the current field.
        missing: usize,
    },
    /// An address that is neither IPv4 nor IPv6.
    #[error("unknown address family {0}")]
    Family(u8),
}

/// Reads values from the front of a payload.
#[derive(Clone, Copy, Debug)]
pub struct WireReader<'a>(&'a [u8]);

impl<'a> WireReader<'a> {
    /// Creates a reader of `bytes`.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Returns the next `n` bytes.
    ///
    /// # Errors
    /// [`MalformedMessage::Short`] if fewer are left.
    pub fn slice(&mut self, n: usize) -> Result<&'a [u8], MalformedMessage> {
        let (head, rest) = self
            .0
            .split_at_checked(n)
            .ok_or(MalformedMessage::Short { missing: n.saturating_sub(self.0.len()) })?;
        self.0 = rest;
        Ok(head)
    }

    /// Returns the next `N` bytes.
    ///
    /// # Errors
    /// [`MalformedMessage::Short`] if fewer are left.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], MalformedMessage> {
        let (head, rest) = self
            .0
            .split_first_chunk()
            .ok_or(MalformedMessage::Short { missing: N.saturating_sub(self.0.len()) })?;
        self.0 = rest;
        Ok(*head)
    }
}

/// A value that has a layout on the wire.
pub trait WireField: Sized {
    /// Appends the value to `out`.
    fn put(&self, out: &mut Vec<u8>);

    /// Decodes a value.
    ///
    /// # Errors
    /// Too few bytes, or invalid ones.
    fn get(from: &mut WireReader<'_>) -> Result<Self, MalformedMessage>;
}

macro_rules! integers {
    ($($int:ty),*) => {$(
        impl WireField for $int {
            fn put(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_be_bytes());
            }

            fn get(from: &mut WireReader<'_>) -> Result<Self, MalformedMessage> {
                Ok(Self::from_be_bytes(from.array()?))
            }
        }
    )*};
}

integers!(u8, u16, u32, i32);

impl WireField for bool {
    fn put(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }

    fn get(from: &mut WireReader<'_>) -> Result<Self, MalformedMessage> {
        Ok(u8::get(from)? != 0)
    }
}

impl<const N: usize> WireField for [u8; N] {
    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self);
    }

    fn get(from: &mut WireReader<'_>) -> Result<Self, MalformedMessage> {
        from.array()
    }
}

impl WireField for Ipv4Addr {
    fn put(&self, out: &mut Vec<u8>) {
        self.octets().put(out);
    }

    fn get(from: &mut WireReader<'_>) -> Result<Self, MalformedMessage> {
        Ok(from.array::<4>()?.into())
    }
}

impl WireField for Ipv6Addr {
    fn put(&self, out: &mut Vec<u8>) {
        self.octets().put(out);
    }

    fn get(from: &mut WireReader<'_>) -> Result<Self, MalformedMessage> {
        Ok(from.array::<16>()?.into())
    }
}

/// `vl_api_address_t`: a family byte and 16 bytes, of which an IPv4 address takes the first four.
impl WireField for IpAddr {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::V4(address) => {
                out.push(0);
                address.put(out);
                [0; 12].put(out);
            }
            Self::V6(address) => {
                out.push(1);
                address.put(out);
            }
        }
    }

    fn get(from: &mut WireReader<'_>) -> Result<Self, MalformedMessage> {
        let family = u8::get(from)?;
        let bytes = from.array::<16>()?;
        match family {
            0 => Ok(Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3]).into()),
            1 => Ok(Ipv6Addr::from(bytes).into()),
            other => Err(MalformedMessage::Family(other)),
        }
    }
}

/// A string in a field of exactly `N` bytes, padded with NULs. Encoding truncates to `N - 1` bytes, as VPP does. Decoding
/// replaces invalid UTF-8.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FixedString<const N: usize>(pub String);

impl<const N: usize> WireField for FixedString<N> {
    fn put(&self, out: &mut Vec<u8>) {
        let mut field = [0; N];
        let text = self.0.as_bytes();
        let len = text.len().min(N.saturating_sub(1));
        field[..len].copy_from_slice(&text[..len]);
        field.put(out);
    }

    fn get(from: &mut WireReader<'_>) -> Result<Self, MalformedMessage> {
        let field = from.array::<N>()?;
        let text = field.split(|byte| *byte == 0).next().unwrap_or_default();
        Ok(Self(String::from_utf8_lossy(text).into_owned()))
    }
}

/// A string of any length, the last field of its message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VarString(pub String);

impl WireField for VarString {
    fn put(&self, out: &mut Vec<u8>) {
        // A frame is far smaller than 4 GiB, and so is its text.
        u32::try_from(self.0.len()).unwrap_or(u32::MAX).put(out);
        out.extend_from_slice(self.0.as_bytes());
    }

    fn get(from: &mut WireReader<'_>) -> Result<Self, MalformedMessage> {
        let len = u32::get(from)?;
        let bytes = from.slice(len as usize)?;
        Ok(Self(String::from_utf8_lossy(bytes).into_owned()))
    }
}

/// Decodes `count` values. Allocates as they are decoded, because `count` may be forged.
pub(crate) fn list<T: WireField>(
    from: &mut WireReader<'_>,
    count: usize,
) -> Result<Vec<T>, MalformedMessage> {
    (0..count).map(|_| T::get(from)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(value: &impl WireField) -> Vec<u8> {
        let mut out = Vec::new();
        value.put(&mut out);
        out
    }

    #[test]
    fn ipv4_uses_first_bytes_of_union() {
        let bytes = put(&IpAddr::from([203, 0, 113, 10]));
        assert_eq!(bytes, [[0, 203, 0, 113, 10].as_slice(), &[0; 12]].concat());
        assert_eq!(IpAddr::get(&mut WireReader::new(&bytes)), Ok(IpAddr::from([203, 0, 113, 10])));
    }

    #[test]
    fn unknown_family_is_malformed() {
        assert_eq!(IpAddr::get(&mut WireReader::new(&[2; 17])), Err(MalformedMessage::Family(2)));
    }

    #[test]
    fn name_keeps_its_terminator() {
        assert_eq!(put(&FixedString::<4>("abcdef".into())), b"abc\0");
        assert_eq!(FixedString::<4>::get(&mut WireReader::new(b"abcd")), Ok(FixedString("abcd".into())));
    }

    #[test]
    fn any_byte_but_zero_is_true() {
        assert_eq!(bool::get(&mut WireReader::new(&[7])), Ok(true));
    }

    #[test]
    fn text_beyond_frame_is_short() {
        let bytes = [0xff, 0xff, 0xff, 0xff, b'x'];
        assert_eq!(
            VarString::get(&mut WireReader::new(&bytes)),
            Err(MalformedMessage::Short { missing: 0xffff_fffe })
        );
    }
}
