//! The head of an answer: its status, where its body ends, and whether the connection outlives it.

use super::super::body::BodyFraming;

/// The most headers in one head.
const MAX_HEADERS: usize = 64;

/// What a probe wants to know of a head.
#[derive(Debug, Eq, PartialEq)]
pub struct ResponseHead {
    /// The status.
    pub status: u16,
    /// How the body is delimited.
    pub framing: BodyFraming,
    /// Whether the connection can take another request after this answer (RFC 9112 section 9.3), in doubt not.
    pub persists: bool,
}

/// Reads a whole head (RFC 9112 sections 4, 6.3 and 9.3).
///
/// # Errors
/// It is none, and why.
pub fn parse(head: &[u8]) -> Result<ResponseHead, String> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    response.parse(head).map_err(|error| format!("not an HTTP answer: {error}"))?;
    let (Some(status), Some(version)) = (response.code, response.version) else {
        return Err("not an HTTP answer".to_owned());
    };
    let mut length = None;
    let mut codings = None;
    // After 101 comes another protocol.
    let mut persists = version == 1 && status != 101;
    for header in response.headers.iter() {
        if header.name.eq_ignore_ascii_case("transfer-encoding") {
            // Two headers are one list, of which the last coding delimits the body.
            persists &= codings.is_none();
            codings = Some(header.value);
        } else if header.name.eq_ignore_ascii_case("content-length") {
            let value = decimal(header.value).ok_or("content-length is no number")?;
            if length.is_some_and(|length| length != value) {
                return Err("two different content-lengths".to_owned());
            }
            length = Some(value);
        } else if header.name.eq_ignore_ascii_case("connection") {
            persists &= !lists(header.value, b"close");
        }
    }
    let framing = match (codings, length) {
        _ if matches!(status, 204 | 304) => BodyFraming::Length(0),
        (Some(codings), length) => {
            // Both at once is how answers are smuggled, and of codings that nobody asked for the end is uncertain.
            persists &= length.is_none() && codings.trim_ascii().eq_ignore_ascii_case(b"chunked");
            let is_chunked = codings.trim_ascii_end().to_ascii_lowercase().ends_with(b"chunked");
            if is_chunked { BodyFraming::Chunked } else { BodyFraming::UntilClose }
        }
        (None, Some(length)) => BodyFraming::Length(length),
        (None, None) => BodyFraming::UntilClose,
    };
    persists &= framing != BodyFraming::UntilClose;
    Ok(ResponseHead { status, framing, persists })
}

/// The number that the digits of `value` are.
fn decimal(value: &[u8]) -> Option<u64> {
    let digits = value.trim_ascii();
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Whether `token` is in a list that is separated by commas.
fn lists(value: &[u8], token: &[u8]) -> bool {
    value.split(|byte| *byte == b',').any(|item| item.trim_ascii().eq_ignore_ascii_case(token))
}
