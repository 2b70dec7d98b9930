//! The head of an HTTP response: status, framing of the body, and persistence of the connection.

use std::mem::MaybeUninit;

use httparse::{Error, ParserConfig};

use super::super::body::BodyFraming;

/// Maximum number of header lines.
const MAX_HEADERS: usize = 256;
/// Longest name of a content coding that is shown, in bytes.
const MAX_CODING: usize = 20;

/// The part of a response head that a probe needs.
#[derive(Debug, Eq, PartialEq)]
pub struct ResponseHead {
    /// Status code.
    pub status: u16,
    /// Framing of the body.
    pub framing: BodyFraming,
    /// True if the connection can certainly take another request after this response (RFC 9112 section 9.3).
    pub is_persistent: bool,
    /// Compression of the body (`Content-Encoding`), if there is one.
    pub coding: Option<String>,
}

/// Parses a complete head (RFC 9112 sections 4, 6.3 and 9.3).
///
/// # Errors
/// The reason why it is invalid.
pub fn parse(head: &[u8]) -> Result<ResponseHead, String> {
    // Most heads have few lines, so the places of the others are not initialized.
    let mut headers = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let mut response = httparse::Response::new(&mut []);
    let parsed =
        ParserConfig::default().parse_response_with_uninit_headers(&mut response, head, &mut headers);
    parsed.map_err(|error| match error {
        Error::TooManyHeaders => format!("more than {MAX_HEADERS} header lines"),
        error => format!("not an HTTP answer: {error}"),
    })?;
    let (Some(status), Some(version)) = (response.code, response.version) else {
        return Err("not an HTTP answer".to_owned());
    };
    let mut length = None;
    let mut codings = None;
    let mut coding = None;
    // Another protocol follows 101.
    let mut is_persistent = version == 1 && status != 101;
    for header in response.headers.iter() {
        if header.name.eq_ignore_ascii_case("transfer-encoding") {
            // Several headers form one list, whose last coding frames the body.
            is_persistent &= codings.is_none();
            codings = Some(header.value);
        } else if header.name.eq_ignore_ascii_case("content-length") {
            length = Some(content_length(length, header.value)?);
        } else if header.name.eq_ignore_ascii_case("content-encoding") {
            coding = coding_name(header.value);
        } else if header.name.eq_ignore_ascii_case("connection") {
            is_persistent &= !list_contains(header.value, b"close");
        }
    }
    let framing = match (codings, length) {
        _ if matches!(status, 204 | 304) => BodyFraming::Length(0),
        (Some(codings), length) => {
            // Both headers at once are a means of response smuggling, and the end of an unrequested coding is uncertain.
            is_persistent &= length.is_none() && codings.trim_ascii().eq_ignore_ascii_case(b"chunked");
            let is_chunked = codings.trim_ascii_end().to_ascii_lowercase().ends_with(b"chunked");
            if is_chunked { BodyFraming::Chunked } else { BodyFraming::UntilClose }
        }
        (None, Some(length)) => BodyFraming::Length(length),
        (None, None) => BodyFraming::UntilClose,
    };
    is_persistent &= framing != BodyFraming::UntilClose;
    Ok(ResponseHead { status, framing, is_persistent, coding })
}

/// Returns the length of a body. Proxies may have repeated it, in several headers or in one list (RFC 9110 section 8.6).
fn content_length(mut known: Option<u64>, list: &[u8]) -> Result<u64, &'static str> {
    const NO_NUMBER: &str = "content-length is no number";
    for item in list.split(|byte| *byte == b',') {
        let value = decimal(item).ok_or(NO_NUMBER)?;
        if known.is_some_and(|known| known != value) {
            return Err("two different content-lengths");
        }
        known = Some(value);
    }
    known.ok_or(NO_NUMBER)
}

/// Returns the name of a compression.
fn coding_name(value: &[u8]) -> Option<String> {
    let value = value.trim_ascii();
    let name = &value[..value.len().min(MAX_CODING)];
    (!name.is_empty() && !name.eq_ignore_ascii_case(b"identity")).then(|| name.escape_ascii().to_string())
}

/// Parses a decimal number.
fn decimal(value: &[u8]) -> Option<u64> {
    let digits = value.trim_ascii();
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Returns true if a comma-separated list contains `token`.
fn list_contains(value: &[u8], token: &[u8]) -> bool {
    value.split(|byte| *byte == b',').any(|item| item.trim_ascii().eq_ignore_ascii_case(token))
}
