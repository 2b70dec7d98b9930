//! How each kind of check is probed: one file per kind, and what they have in common.

pub mod body;
pub mod checksum;
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

use maglev_ipc::{Check, ConnectMode, ProbeKind, RejectReason};

/// All that can be worked out about a check ahead of its probes, and what one probe leaves to the next.
#[derive(Debug)]
pub enum ProbePlan {
    /// An echo request.
    Icmp {
        /// The last one that was answered.
        answered: Option<icmp::EchoRequest>,
    },
    /// For everything over TCP.
    Stream(Box<stream::StreamPlan>),
    /// For half-open probes, and how they are made over the kernel's sockets where there are none of ours.
    HalfOpen(half_open::SynPlan, Box<stream::StreamPlan>),
}

impl ProbePlan {
    /// Works it out.
    ///
    /// # Errors
    /// The check cannot be probed.
    pub fn compile(check: &Check, configs: &mut tls::TlsConfigs) -> Result<Self, RejectReason> {
        tcp::reachable(check.target)?;
        match check.probe {
            ProbeKind::Icmp => Ok(Self::Icmp { answered: None }),
            ProbeKind::Tcp { mode: ConnectMode::HalfOpen, .. } => {
                let stream = stream::StreamPlan::compile(check, configs)?;
                let (to, from) = stream.addresses();
                Ok(Self::HalfOpen(half_open::SynPlan::new(to, from), Box::new(stream)))
            }
            ProbeKind::Tcp { mode: ConnectMode::Full, .. } | ProbeKind::Http { .. } => {
                Ok(Self::Stream(Box::new(stream::StreamPlan::compile(check, configs)?)))
            }
        }
    }

    /// How it is probed over a connection.
    pub fn stream(&self) -> Option<&stream::StreamPlan> {
        match self {
            Self::Icmp { .. } => None,
            Self::Stream(plan) | Self::HalfOpen(_, plan) => Some(plan),
        }
    }
}

/// A probe under way.
#[derive(Debug)]
pub enum InFlightProbe {
    /// The echo request.
    Icmp(icmp::EchoRequest),
    /// The connection.
    Stream(stream::ProbeStream),
    /// The number of the SYN.
    HalfOpen(u32),
}
