//! Results of probes, and the prober's counters.

use alloc::borrow::Cow;
use alloc::string::String;
use core::fmt;
use core::time::Duration;

use serde::{Deserialize, Serialize};

use crate::check::CheckId;
use crate::text::is_unprintable;

/// Result of one probe.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Outcome {
    /// The probed check.
    pub check: CheckId,
    /// Sequence number of the probe, from 1, for as long as the prober keeps the check.
    pub seq: u64,
    /// Start of the probe, in nanoseconds of `CLOCK_MONOTONIC`.
    pub started: u64,
    /// Time from the start to the verdict.
    pub duration: Duration,
    /// The verdict.
    pub code: OutcomeCode,
    /// Details for operators.
    pub detail: OutcomeDetail,
    /// Timeout of the next probe, if it is derived.
    pub timeout: Option<Duration>,
    /// Expiry of the certificates that the server sent in this probe. `None` without a certificate, as over a kept connection or
    /// in a resumed session.
    pub not_after: Option<CertificateExpiry>,
    /// True if this host's routes lead nowhere for this target: none, or one that rejects it. The code is
    /// [`Local`](OutcomeCode::Local), as the prober cannot know if the fault is this host's or the target's.
    pub has_no_route: bool,
}

/// Expiry (`notAfter`) of a server's certificates, in seconds since the Unix epoch.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct CertificateExpiry {
    /// Expiry of the server's own certificate.
    pub leaf: u64,
    /// Earliest expiry in the chain: of `leaf`, and of the issuers' certificates that the server sent and its verification
    /// used. Without verification, that of `leaf`.
    pub chain: u64,
}

/// The verdict on one probe, prefixed with the layer that gave it. The names are HAProxy's.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub enum OutcomeCode {
    /// Connected.
    L4Ok,
    /// Timeout of the connection or the echo request.
    L4Tout,
    /// Connection refused, or unreachable according to the network.
    L4Con,
    /// TLS handshake completed.
    L6Ok,
    /// Timeout of the TLS handshake.
    L6Tout,
    /// TLS handshake failed.
    L6Rsp,
    /// Response accepted.
    L7Ok,
    /// Timeout before a complete response.
    L7Tout,
    /// Response violates the protocol, or its body does not match.
    L7Rsp,
    /// Response status does not pass.
    L7Sts,
    /// Not probed: the backend has no healthcheck.
    Static,
    /// No verdict, because of a fault on the prober's host.
    Local,
}

impl OutcomeCode {
    /// All codes, in declaration order.
    pub const ALL: [Self; 12] = [
        Self::L4Ok,
        Self::L4Tout,
        Self::L4Con,
        Self::L6Ok,
        Self::L6Tout,
        Self::L6Rsp,
        Self::L7Ok,
        Self::L7Tout,
        Self::L7Rsp,
        Self::L7Sts,
        Self::Static,
        Self::Local,
    ];

    /// Returns true for a pass, false for a failure, and `None` for [`Local`](Self::Local).
    #[must_use]
    pub const fn passed(self) -> Option<bool> {
        match self {
            Self::L4Ok | Self::L6Ok | Self::L7Ok | Self::Static => Some(true),
            Self::L4Tout
            | Self::L4Con
            | Self::L6Tout
            | Self::L6Rsp
            | Self::L7Tout
            | Self::L7Rsp
            | Self::L7Sts => Some(false),
            Self::Local => None,
        }
    }

    /// Returns true if the target itself has answered, so that packets reach it and come back.
    #[must_use]
    pub const fn has_answer(self) -> bool {
        match self {
            Self::L4Ok
            | Self::L6Ok
            | Self::L6Tout
            | Self::L6Rsp
            | Self::L7Ok
            | Self::L7Tout
            | Self::L7Rsp
            | Self::L7Sts => true,
            // A router's rejection is an L4CON, too.
            Self::L4Tout | Self::L4Con | Self::Static | Self::Local => false,
        }
    }

    /// Returns the code as users see it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::L4Ok => "L4OK",
            Self::L4Tout => "L4TOUT",
            Self::L4Con => "L4CON",
            Self::L6Ok => "L6OK",
            Self::L6Tout => "L6TOUT",
            Self::L6Rsp => "L6RSP",
            Self::L7Ok => "L7OK",
            Self::L7Tout => "L7TOUT",
            Self::L7Rsp => "L7RSP",
            Self::L7Sts => "L7STS",
            Self::Static => "STATIC",
            Self::Local => "LOCAL",
        }
    }

    /// Returns the layer that gave the verdict: `L4`, `L6`, `L7` or the empty string.
    #[must_use]
    pub fn layer(self) -> &'static str {
        match self {
            Self::Static | Self::Local => "",
            _ => &self.as_str()[..2],
        }
    }
}

impl fmt::Display for OutcomeCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Longest text in an [`OutcomeDetail`], in bytes. Both ends truncate it.
pub const MAX_DETAIL: usize = 200;

/// Details of an outcome, beside its code.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub enum OutcomeDetail {
    /// None.
    #[default]
    None,
    /// Status of the HTTP response.
    Status(u16),
    /// A description, such as `connection refused`.
    Text(Cow<'static, str>),
}

impl From<&'static str> for OutcomeDetail {
    fn from(text: &'static str) -> Self {
        Self::Text(Cow::Borrowed(text))
    }
}

impl From<String> for OutcomeDetail {
    fn from(text: String) -> Self {
        Self::Text(Cow::Owned(sanitize(&text, MAX_DETAIL)))
    }
}

impl OutcomeDetail {
    /// Sanitizes the text, which may come from a backend.
    #[must_use]
    pub fn sanitized(self) -> Self {
        match self {
            Self::Text(text) => text.into_owned().into(),
            Self::None | Self::Status(_) => self,
        }
    }
}

/// Makes `text` safe for logs and terminals: replaces control, bidi and invisible characters, and truncates it to at most `max` bytes.
#[must_use]
pub fn sanitize(text: &str, max: usize) -> String {
    let mut sanitized: String = text.chars().map(|c| if is_unprintable(c) { '?' } else { c }).collect();
    sanitized.truncate(sanitized.floor_char_boundary(max));
    sanitized
}

impl fmt::Display for OutcomeDetail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => Ok(()),
            Self::Status(status) => write!(f, "HTTP {status}"),
            Self::Text(text) => f.write_str(text),
        }
    }
}

/// Verdicts of a check that the prober keeps for a controller that reconnects.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct VerdictHistory {
    /// Newest outcome with a verdict. Its `not_after` is that of the newest certificate.
    pub last: Outcome,
    /// Newest verdicts, the newest in bit 0. A set bit is a pass.
    pub bits: u64,
    /// Number of valid bits, at most 64.
    pub len: u8,
}

/// Counters of the prober since its start.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct ProberStats {
    /// Started probes.
    pub probes: u64,
    /// Outcomes dropped because the controller did not read.
    pub outcomes_dropped: u64,
    /// Probes delayed by `--max-rate`.
    pub delayed_by_rate: u64,
    /// Duplicate ICMP replies.
    pub duplicates: u64,
    /// ICMP packets that match no probe in flight.
    pub unmatched: u64,
    /// ICMP packets that name a probe but lack its cookie, or come from another address.
    pub spoofed: u64,
    /// Malformed ICMP packets.
    pub malformed: u64,
    /// Packets lost to full receive buffers of raw sockets (`SO_RXQ_OVFL`).
    pub lost_to_overflow: u64,
    /// Probes delayed because the host had stopped the prober when they were due.
    pub delayed_by_stall: u64,
    /// Delays of the starts of probes.
    pub lateness: LatenessHistogram,
    /// Probes retried on a fresh connection because the server had closed the kept one.
    pub connections_retried: u64,
    /// Resumed TLS sessions.
    pub tls_resumptions: u64,
    /// Half-open probes made with the kernel's sockets, for lack of a raw one.
    pub half_open_fallbacks: u64,
}

/// Histogram of the delays between due time and start of probes.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct LatenessHistogram {
    /// Number of delays per bucket: above the previous bound of [`LatenessHistogram::BOUNDS`], up to its own. The last bucket
    /// has no upper bound.
    pub counts: [u64; LatenessHistogram::BOUNDS.len() + 1],
    /// Sum of all delays, in nanoseconds.
    pub sum_ns: u64,
}

impl LatenessHistogram {
    /// Upper bounds of the buckets, in nanoseconds. The prober's timers have a resolution of 1 ms.
    pub const BOUNDS: [u64; 9] = [
        1_000_000,
        2_500_000,
        5_000_000,
        10_000_000,
        25_000_000,
        50_000_000,
        100_000_000,
        250_000_000,
        1_000_000_000,
    ];

    /// Records a delay in nanoseconds.
    pub fn record(&mut self, late: u64) {
        self.counts[Self::BOUNDS.partition_point(|bound| *bound < late)] += 1;
        self.sum_ns = self.sum_ns.saturating_add(late);
    }
}

#[cfg(test)]
mod tests {
    use alloc::borrow::ToOwned;

    use super::*;

    #[test]
    fn text_is_sanitized_and_truncated() {
        assert_eq!(sanitize("al\nice\u{1b}[31m", 200), "al?ice?[31m");
        assert_eq!(sanitize("ééé", 5), "éé");
        assert_eq!(OutcomeDetail::from("a\nb".to_owned()), "a?b".into());
        assert_eq!(
            OutcomeDetail::Text("x\r".repeat(MAX_DETAIL).into()).sanitized(),
            "x?".repeat(MAX_DETAIL / 2).into()
        );
    }

    #[test]
    fn delay_equal_to_bound_is_inside() {
        let mut lateness = LatenessHistogram::default();
        for late in [0, 1_000_000, 1_000_001, 1_000_000_000, u64::MAX] {
            lateness.record(late);
        }
        assert_eq!(lateness.counts, [2, 1, 0, 0, 0, 0, 0, 0, 1, 1]);
        assert_eq!(lateness.sum_ns, u64::MAX);
    }
}
