//! What came of a probe.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::check::CheckId;

/// What came of one probe.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Outcome {
    /// The check that it belongs to.
    pub check: CheckId,
    /// Counts the check's probes from 1, for as long as the prober keeps the check.
    pub seq: u64,
    /// When the probe started, in nanoseconds of `CLOCK_MONOTONIC`.
    pub started: u64,
    /// From the start to the verdict.
    pub duration: Duration,
    /// The verdict.
    pub code: OutcomeCode,
    /// What a person would ask next.
    pub detail: OutcomeDetail,
    /// What the next probe is given, if the check's time-out is derived.
    pub timeout: Option<Duration>,
    /// Until when the certificate is valid that the server has shown in this probe, in seconds since the Unix epoch.
    /// `None` if it has shown none, as where a connection was kept or a session resumed.
    pub not_after: Option<u64>,
}

/// The verdict on one probe, named by the layer that gave it, as HAProxy names its own.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub enum OutcomeCode {
    /// The connection was made.
    L4Ok,
    /// No answer in time to the connection attempt or the echo request.
    L4Tout,
    /// The connection was refused, or the network said that it cannot be made.
    L4Con,
    /// The TLS handshake was completed.
    L6Ok,
    /// The TLS handshake was not completed in time.
    L6Tout,
    /// The TLS handshake failed.
    L6Rsp,
    /// The answer was right.
    L7Ok,
    /// No whole answer in time.
    L7Tout,
    /// The answer was not of the protocol, or its body did not match.
    L7Rsp,
    /// The answer's status does not pass.
    L7Sts,
    /// Nothing was probed: the backend has no healthcheck.
    Static,
    /// No verdict: the fault is this host's own.
    Local,
}

impl OutcomeCode {
    /// Every code, in the order of their numbers.
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

    /// Whether the backend passed; `None` when the probe says nothing about it.
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

    /// The code as users see it.
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

    /// The layer that gave the verdict: `L4`, `L6`, `L7`, or empty where no layer did.
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

/// The longest text in a [`OutcomeDetail`], in bytes; both ends cut what is longer.
pub const MAX_DETAIL: usize = 200;

/// What a person would ask after the code.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub enum OutcomeDetail {
    /// The code says it all.
    #[default]
    None,
    /// The status of the HTTP answer.
    Status(u16),
    /// In words, such as `connection refused`.
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
    /// As it may be kept and shown, whoever wrote it.
    #[must_use]
    pub fn sanitized(self) -> Self {
        match self {
            Self::Text(text) => text.into_owned().into(),
            Self::None | Self::Status(_) => self,
        }
    }
}

/// `text` as it may stand in a log or on a terminal: without control characters, and of at most `most` bytes.
#[must_use]
pub fn sanitize(text: &str, most: usize) -> String {
    let mut sanitize: String = text.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
    sanitize.truncate(sanitize.floor_char_boundary(most));
    sanitize
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

/// What the prober remembers of a check, and hands to a controller that comes back.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct VerdictHistory {
    /// The newest outcome with a verdict. Its `check` names the check; its certificate is the newest that was shown.
    pub last: Outcome,
    /// The newest verdicts, the newest in bit 0; a set bit is a pass.
    pub bits: u64,
    /// How many bits of `bits` are verdicts, at most 64.
    pub len: u8,
}

/// What the prober counts over its life.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct ProberStats {
    /// Probes started.
    pub probes: u64,
    /// Outcomes that were thrown away because the controller did not read.
    pub outcomes_dropped: u64,
    /// Probes put off because `--max-rate` was reached.
    pub delayed_by_rate: u64,
    /// ICMP packets that came twice.
    pub duplicates: u64,
    /// ICMP packets that came after their probe had ended, or that answer no probe of ours.
    pub unmatched: u64,
    /// ICMP packets that name a probe of ours but do not carry its cookie, or come from another address.
    pub spoofed: u64,
    /// ICMP packets that do not parse.
    pub malformed: u64,
    /// Packets that raw sockets had no room for, so that answers are lost.
    pub lost_to_overflow: u64,
    /// Probes put off because this host had stopped the prober when they were due.
    pub delayed_by_stall: u64,
    /// How late probes started.
    pub lateness: LatenessHistogram,
    /// Probes begun again on a fresh connection, as the server had closed the one that was kept.
    pub connections_retried: u64,
    /// TLS sessions resumed.
    pub tls_resumptions: u64,
    /// Half-open probes made over the kernel's sockets, as there was no raw one.
    pub half_open_fallbacks: u64,
}

/// How long after they were due probes started, as a histogram.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct LatenessHistogram {
    /// How many were late by no more than each of [`LatenessHistogram::BOUNDS`], but by more than the one before; the last are
    /// those beyond all of them.
    pub counts: [u64; LatenessHistogram::BOUNDS.len() + 1],
    /// All of it together, in nanoseconds.
    pub sum_ns: u64,
}

impl LatenessHistogram {
    /// The upper bounds, in nanoseconds. The prober's timers have a grain of 1 ms.
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

    /// A probe started so many nanoseconds late.
    pub fn record(&mut self, late: u64) {
        self.counts[Self::BOUNDS.partition_point(|bound| *bound < late)] += 1;
        self.sum_ns = self.sum_ns.saturating_add(late);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_is_tame() {
        assert_eq!(sanitize("al\nice\u{1b}[31m", 200), "al?ice?[31m");
        assert_eq!(sanitize("ééé", 5), "éé");
        assert_eq!(OutcomeDetail::from("a\nb".to_owned()), "a?b".into());
        assert_eq!(
            OutcomeDetail::Text("x\r".repeat(MAX_DETAIL).into()).sanitized(),
            "x?".repeat(MAX_DETAIL / 2).into()
        );
    }

    #[test]
    fn lateness_up_to_a_bound_belongs_to_its_bucket() {
        let mut lateness = LatenessHistogram::default();
        for late in [0, 1_000_000, 1_000_001, 1_000_000_000, u64::MAX] {
            lateness.record(late);
        }
        assert_eq!(lateness.counts, [2, 1, 0, 0, 0, 0, 0, 0, 1, 1]);
        assert_eq!(lateness.sum_ns, u64::MAX);
    }
}
