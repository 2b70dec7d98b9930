//! The Internet checksum.

/// Returns the Internet checksum (RFC 1071) of an even number of bytes.
///
/// A packet that contains its own checksum sums up to 0:
///
/// ```
/// use maglevd_prober::probe::checksum::internet_checksum;
///
/// let mut packet = [8, 0, 0, 0, 0xab, 0xcd, 0, 1];
/// let sum = internet_checksum(&packet);
/// packet[2..4].copy_from_slice(&sum.to_be_bytes());
/// assert_eq!(internet_checksum(&packet), 0);
/// ```
pub fn internet_checksum(bytes: &[u8]) -> u16 {
    let sum: u32 = bytes.chunks_exact(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !((folded & 0xffff) + (folded >> 16)) as u16
}
