//! How each kind of check is probed: one file per kind, and what they have in common.

pub mod body;
pub mod echo;
pub mod filter;
pub mod half_open;
pub mod http;
pub mod icmp;
pub mod ports;
pub mod raw;
pub mod routes;
pub mod segment;
pub mod stream;
pub mod tcp;
pub mod tls;

use maglev_ipc::{Check, Code, Detail, Mode, Probe, Refusal};

/// What a probe came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// The verdict proper.
    pub code: Code,
    /// What a person would ask next.
    pub detail: Detail,
    /// Until when the server's certificate is valid, in seconds since the Unix epoch, if it has shown one.
    pub not_after: Option<u64>,
    /// The probe did without what a connection costs at first: it had a kept one, or resumed a TLS session.
    pub is_short: bool,
}

impl Verdict {
    /// A code that says it all.
    pub const fn of(code: Code) -> Self {
        Self { code, detail: Detail::None, not_after: None, is_short: false }
    }

    /// A code, and why.
    pub fn new(code: Code, detail: impl Into<Detail>) -> Self {
        Self { code, detail: detail.into(), not_after: None, is_short: false }
    }
}

/// All that can be worked out about a check ahead of its probes, and what one probe leaves to the next.
#[derive(Debug)]
pub enum Plan {
    /// An echo request.
    Icmp {
        /// The last one that was answered.
        answered: Option<icmp::Ping>,
    },
    /// For everything over TCP.
    Stream(Box<stream::Plan>),
    /// For half-open probes, and how they are made over the kernel's sockets where there are none of ours.
    HalfOpen(half_open::Plan, Box<stream::Plan>),
}

impl Plan {
    /// Works it out.
    ///
    /// # Errors
    /// The check cannot be probed.
    pub fn compile(check: &Check, configs: &mut tls::Configs) -> Result<Self, Refusal> {
        tcp::reachable(check.target)?;
        match check.probe {
            Probe::Icmp => Ok(Self::Icmp { answered: None }),
            Probe::Tcp { mode: Mode::HalfOpen, .. } => {
                let stream = stream::Plan::compile(check, configs)?;
                let (to, from) = stream.ends();
                Ok(Self::HalfOpen(half_open::Plan::new(to, from), Box::new(stream)))
            }
            Probe::Tcp { mode: Mode::Full, .. } | Probe::Http { .. } => {
                Ok(Self::Stream(Box::new(stream::Plan::compile(check, configs)?)))
            }
        }
    }

    /// How it is probed over a connection.
    pub fn stream(&self) -> Option<&stream::Plan> {
        match self {
            Self::Icmp { .. } => None,
            Self::Stream(plan) | Self::HalfOpen(_, plan) => Some(plan),
        }
    }
}

/// A probe under way.
#[derive(Debug)]
pub enum Flight {
    /// The echo request.
    Icmp(icmp::Ping),
    /// The connection.
    Stream(stream::Stream),
    /// The number of the SYN.
    HalfOpen(u32),
}
