//! Rules for single values.

use alloc::format;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::ops::RangeInclusive;
use core::time::Duration;

use maglev_ipc::check::{self, MAX_CODE_RANGES, MAX_PATH, is_token, target_allowed};
use maglev_time::TextDuration;

use super::super::file::Address;
use super::Scope;

/// Longest name.
const MAX_NAME: usize = 64;

/// Checks an optional value.
pub fn optional<T, U>(value: Option<T>, check: impl FnOnce(T) -> Option<U>) -> Option<Option<U>> {
    match value {
        None => Some(None),
        Some(value) => check(value).map(Some),
    }
}

/// Reports whether `text` needs no quoting in a prompt, a path or a label.
pub fn is_name(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.:".contains(&b);
    (1..=MAX_NAME).contains(&text.len())
        && text.bytes().all(plain)
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
}

pub fn name(scope: &mut Scope<'_>, name: &str) -> Option<()> {
    if is_name(name) {
        return Some(());
    }
    scope.refuse(format!(
        "not a name: 1 to {MAX_NAME} letters, digits, and - _ . : after the first, are allowed"
    ))
}

pub fn integer(
    scope: &mut Scope<'_>,
    value: Option<i64>,
    default: u32,
    bounds: RangeInclusive<u32>,
) -> Option<u32> {
    let Some(value) = value else { return Some(default) };
    match u32::try_from(value) {
        Ok(inside) if bounds.contains(&inside) => Some(inside),
        _ => scope.refuse(format!("{value} is not within {} to {}", bounds.start(), bounds.end())),
    }
}

pub fn power_of_two(scope: &mut Scope<'_>, value: i64, bounds: RangeInclusive<u32>) -> Option<u32> {
    match u32::try_from(value) {
        Ok(inside) if bounds.contains(&inside) && inside.is_power_of_two() => Some(inside),
        _ => scope.refuse(format!(
            "{value} is not a power of two within {} to {}",
            bounds.start(),
            bounds.end()
        )),
    }
}

pub fn span(
    scope: &mut Scope<'_>,
    value: Option<TextDuration>,
    default: Duration,
    bounds: RangeInclusive<Duration>,
) -> Option<Duration> {
    let TextDuration(value) = value.unwrap_or(TextDuration(default));
    let (shortest, longest) = (TextDuration(*bounds.start()), TextDuration(*bounds.end()));
    if bounds.contains(&value) {
        return Some(value);
    }
    let value = TextDuration(value);
    if longest.0 == Duration::MAX {
        return scope.refuse(format!("{value} is less than {shortest}"));
    }
    scope.refuse(format!("{value} is not within {shortest} to {longest}"))
}

pub fn port(scope: &mut Scope<'_>, port: i64) -> Option<u16> {
    match u16::try_from(port) {
        Ok(port) if port != 0 => Some(port),
        _ => scope.refuse(format!("{port} is not within 1 to {}", u16::MAX)),
    }
}

/// Accepts the address of exactly one host, as VPP understands it.
pub fn address(scope: &mut Scope<'_>, Address(address): Address) -> Option<IpAddr> {
    match address_allowed(address) {
        Ok(()) => Some(address),
        Err(why) => scope.refuse(format!("{address} cannot be used: it is {why}")),
    }
}

pub fn required_address(scope: &mut Scope<'_>, value: Option<Address>) -> Option<IpAddr> {
    match value {
        Some(value) => address(scope, value),
        None => scope.refuse("required"),
    }
}

pub fn ipv4(scope: &mut Scope<'_>, value: Address) -> Option<Ipv4Addr> {
    match address(scope, value)? {
        IpAddr::V4(v4) => Some(v4),
        IpAddr::V6(v6) => scope.refuse(format!("{v6} is not an IPv4 address")),
    }
}

pub fn ipv6(scope: &mut Scope<'_>, value: Address) -> Option<Ipv6Addr> {
    match address(scope, value)? {
        IpAddr::V6(v6) => Some(v6),
        IpAddr::V4(v4) => scope.refuse(format!("{v4} is not an IPv6 address")),
    }
}

fn address_allowed(address: IpAddr) -> Result<(), &'static str> {
    target_allowed(address)?;
    let IpAddr::V6(v6) = address else { return Ok(()) };
    if v6.to_bits() >> 32 == 0 {
        return Err("an IPv6 address that VPP takes for an IPv4 one (its first 96 bits are 0)");
    }
    Ok(())
}

pub fn path(scope: &mut Scope<'_>, path: &str) -> Option<()> {
    if !path.starts_with('/') {
        return scope.refuse(format!("{path:?} does not start with /"));
    }
    if !is_token(path, MAX_PATH) {
        return scope.refuse(format!("must be at most {MAX_PATH} printable ASCII characters without blanks"));
    }
    if path.contains('#') {
        return scope.refuse(format!("{path:?} has a fragment: write %23 for `#`"));
    }
    Some(())
}

/// Checks a `Host` header: a name or an address, with an optional port.
pub fn host(scope: &mut Scope<'_>, host: &str) -> Option<()> {
    if is_host(host) {
        return Some(());
    }
    let message =
        format!("{host:?} is not a host name or an address (IPv6 in brackets), with or without :port");
    scope.refuse(message)
}

/// Checks a name in a certificate: a host name or an address.
pub fn server_name(scope: &mut Scope<'_>, name: &str) -> Option<()> {
    if check::server_name(name).is_some() {
        return Some(());
    }
    scope.refuse(format!("{name:?} is neither a host name nor an address"))
}

fn is_host(host: &str) -> bool {
    let is_port = |port: &str| port.parse::<u16>().is_ok_and(|p| p != 0) && !port.starts_with('+');
    let (known, port) = match host.strip_prefix('[') {
        Some(bracketed) => {
            let Some((address, after)) = bracketed.split_once(']') else { return false };
            let port = if after.is_empty() { None } else { Some(after.strip_prefix(':').unwrap_or("")) };
            (address.parse::<Ipv6Addr>().is_ok(), port)
        }
        None => {
            let (name, port) = host.split_once(':').map_or((host, None), |(name, port)| (name, Some(port)));
            (is_dns_name(name) || name.parse::<Ipv4Addr>().is_ok(), port)
        }
    };
    known && port.is_none_or(is_port)
}

/// Checks a DNS name by the rules of TLS libraries: labels of letters, digits, `-` and `_`, the last of them not a
/// number.
fn is_dns_name(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(plain)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let last_is_number = name.rsplit('.').next().is_some_and(|l| l.bytes().all(|b| b.is_ascii_digit()));
    name.len() <= 253 && name.split('.').all(is_label) && !last_is_number
}

/// Parses a list of status codes and ranges, such as `200,204,300-399`.
pub fn codes(scope: &mut Scope<'_>, list: &str) -> Option<Vec<(u16, u16)>> {
    let mut ranges = Vec::new();
    for item in list.split(',').map(str::trim) {
        let (low, high) = item.split_once('-').unwrap_or((item, item));
        match (code(low), code(high)) {
            (Some(low), Some(high)) if low <= high => ranges.push((low, high)),
            _ => {
                return scope.refuse(format!(
                    "{item:?} is neither a status code (100 to 599) nor a range like 200-299"
                ));
            }
        }
    }
    if ranges.len() > MAX_CODE_RANGES {
        return scope.refuse(format!("more than {MAX_CODE_RANGES} codes and ranges"));
    }
    Some(ranges)
}

fn code(text: &str) -> Option<u16> {
    let three_digits = text.len() == 3 && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|code| three_digits && (100..=599).contains(code))
}
