//! Kinds of probes: one module per kind, and their common types.

pub mod body;
pub mod checksum;
pub mod drop_counter;
pub mod echo;
pub mod filter;
pub mod half_open;
pub mod http;
pub mod icmp;
pub mod missed;
pub mod ports;
pub mod raw;
pub mod routes;
pub mod segment;
pub mod stream;
pub mod tcp;
pub mod tls;

use maglev_ipc::regexp::RegexpSet;
use maglev_ipc::{Check, ConnectMode, ProbeKind, RejectReason};

use missed::MissedReplies;

/// Everything prepared for the probes of one check, and state from one probe to the next.
#[derive(Debug)]
pub enum ProbePlan {
    /// ICMP echo.
    Icmp(icmp::EchoPlan),
    /// A TCP connection, with TLS and HTTP if configured.
    Stream(Box<stream::StreamPlan>),
    /// A half-open probe, and the plan over kernel sockets if there is no raw socket.
    HalfOpen(half_open::SynPlan, Box<stream::StreamPlan>),
}

impl ProbePlan {
    /// Prepares the probes of a check.
    ///
    /// # Errors
    /// The check cannot be probed.
    pub fn compile(
        check: &Check,
        configs: &mut tls::TlsConfigs,
        regexps: &mut RegexpSet,
    ) -> Result<Self, RejectReason> {
        match check.probe {
            ProbeKind::Icmp => Ok(Self::Icmp(icmp::EchoPlan::default())),
            ProbeKind::Tcp { mode: ConnectMode::HalfOpen, .. } => {
                let stream = stream::StreamPlan::compile(check, configs, regexps)?;
                let (to, from) = stream.addresses();
                Ok(Self::HalfOpen(half_open::SynPlan::new(to, from), Box::new(stream)))
            }
            ProbeKind::Tcp { mode: ConnectMode::Full, .. } | ProbeKind::Http { .. } => {
                Ok(Self::Stream(Box::new(stream::StreamPlan::compile(check, configs, regexps)?)))
            }
        }
    }

    /// Records an answer, which ends a run of missed replies.
    pub const fn end_misses(&mut self) {
        match self {
            Self::Icmp(plan) => plan.missed = MissedReplies::NONE,
            Self::HalfOpen(plan, _) => plan.missed = MissedReplies::NONE,
            Self::Stream(_) => {}
        }
    }

    /// Returns the plan of probes over a connection.
    pub fn stream(&self) -> Option<&stream::StreamPlan> {
        match self {
            Self::Icmp(_) => None,
            Self::Stream(plan) | Self::HalfOpen(_, plan) => Some(plan),
        }
    }
}

/// A probe in flight.
#[derive(Debug)]
pub enum InFlightProbe {
    /// An echo request.
    Icmp(icmp::EchoRequest),
    /// A connection.
    Stream(stream::ProbeStream),
    /// A SYN, by its sequence number.
    HalfOpen(u32),
}

#[cfg(test)]
mod tests;
