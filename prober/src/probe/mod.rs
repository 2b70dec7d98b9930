//! How each kind of check is probed: one file per kind, and what they have in common.

pub mod body;
pub mod echo;
pub mod filter;
pub mod http;
pub mod icmp;
pub mod raw;
pub mod stream;
pub mod tcp;
pub mod tls;

use maglev_ipc::{Check, Code, Detail, Probe, Refusal};

/// What a probe came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// The verdict proper.
    pub code: Code,
    /// What a person would ask next.
    pub detail: Detail,
}

impl Verdict {
    /// A code that says it all.
    pub const fn of(code: Code) -> Self {
        Self { code, detail: Detail::None }
    }

    /// A code, and why.
    pub fn new(code: Code, detail: impl Into<Detail>) -> Self {
        Self { code, detail: detail.into() }
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
            Probe::Tcp { .. } | Probe::Http { .. } => {
                Ok(Self::Stream(Box::new(stream::Plan::compile(check, configs)?)))
            }
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
}
