//! Logging: format and destination, the text of core events, and subscriptions over the API.

use std::fmt;
use std::fs::File;
use std::io::{self, IsTerminal};
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, SystemTime};

use maglev_core::event::{Audit, Event, Kind, LocalFaultsChange, MassFailureResult};
use maglev_core::failover::FrontendState;
use maglev_core::health::{Health, Transition, TransitionCause};
use maglev_core::plan::StepCounts;
use maglev_core::time::WallTime;
use maglev_proto::Timestamp;
use tracing::{Subscriber, error, info, warn};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

mod event_log;
mod filter;
mod journal;
mod subscribe;
#[cfg(test)]
mod tests;

pub use event_log::EventLog;
pub use filter::LogFilter;
pub use subscribe::{LogBroadcast, LogRecord, LogSubscription};

use journal::JournalFormat;

/// Prefix of the targets of this program's records.
const OWN_TARGET: &str = "maglev";

/// Format of log lines.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, clap::ValueEnum)]
pub enum LineFormat {
    /// Text, for people and the journal.
    #[default]
    Text,
    /// JSON, one object per line.
    Json,
}

impl LineFormat {
    /// Returns the value of `--log-format`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
        }
    }
}

/// Starts logging to standard error.
pub fn init(level: &LogFilter, format: LineFormat) -> LogBroadcast {
    let subscribe = LogBroadcast::default();
    let style = if is_journal_stream() {
        LineStyle::Journal
    } else if io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
    {
        LineStyle::Color
    } else {
        LineStyle::Plain
    };
    let lines = lines(format, style, io::stderr).with_filter(level.filter());
    tracing_subscriber::registry().with(lines).with(subscribe.layer()).init();
    subscribe
}

/// Returns the line of an error that ends the program, in the form of the other lines of `--log-format json`. It is written
/// whatever the level, and before there is a log.
#[must_use]
pub fn json_error(message: &str) -> String {
    let mut timestamp = String::new();
    // Writing to a string cannot fail.
    let _ = tracing_subscriber::fmt::time::SystemTime.format_time(&mut Writer::new(&mut timestamp));
    let record = serde_json::json!({
        "timestamp": timestamp, "level": "ERROR", "message": message, "target": "maglevd",
    });
    record.to_string()
}

/// Destination of the lines.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum LineStyle {
    /// File or pipe.
    Plain,
    /// Terminal.
    Color,
    /// systemd's journal, which adds its own time.
    Journal,
}

fn lines<S>(
    format: LineFormat,
    style: LineStyle,
    writer: impl for<'w> MakeWriter<'w> + Send + Sync + 'static,
) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let lines = tracing_subscriber::fmt::layer().with_writer(writer);
    match (format, style) {
        (LineFormat::Json, LineStyle::Journal) => {
            lines.json().flatten_event(true).map_event_format(JournalFormat).boxed()
        }
        (LineFormat::Json, LineStyle::Plain | LineStyle::Color) => lines.json().flatten_event(true).boxed(),
        (LineFormat::Text, LineStyle::Journal) => {
            lines.with_ansi(false).without_time().map_event_format(JournalFormat).boxed()
        }
        (LineFormat::Text, LineStyle::Plain | LineStyle::Color) => {
            lines.with_ansi(style == LineStyle::Color).boxed()
        }
    }
}

/// Returns true if standard error is the journal stream of this unit. Children and redirections inherit
/// `JOURNAL_STREAM`, so the descriptor's device and inode must match.
fn is_journal_stream() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else { return false };
    let stderr = io::stderr().as_fd().try_clone_to_owned().and_then(|stderr| File::from(stderr).metadata());
    stderr.is_ok_and(|stderr| stream == format!("{}:{}", stderr.dev(), stderr.ino()))
}

/// Logs an event of the core. Field names are a stable interface, used in searches.
fn event(Event { kind, .. }: &Event) {
    let event = kind.name();
    match kind {
        Kind::Backend { name, address, transition } => log_transition(event, name, *address, transition),
        Kind::Frontend { name, from, to, active_pool } => {
            let pool = active_pool.as_deref();
            if *to == FrontendState::Down {
                warn!(%event, frontend = %name, %from, %to, pool, "frontend changed state");
            } else {
                info!(%event, frontend = %name, %from, %to, pool, "frontend changed state");
            }
        }
        Kind::MassFailure(stage) => log_mass_failure(event, stage),
        Kind::LocalFaults(LocalFaultsChange::Unobserved { name, fault }) => warn!(
            %event, active = true, backend = %name, %fault,
            "backend not observable: only local faults on the prober host, its state is stale"
        ),
        Kind::LocalFaults(LocalFaultsChange::Hidden { name, fault }) => warn!(
            %event, active = true, hidden = true, backend = %name, %fault,
            "backend hidden: only local faults while other backends answer, a failure would go unnoticed"
        ),
        Kind::LocalFaults(LocalFaultsChange::Cleared) => {
            info!(%event, active = false, "local faults cleared: every backend is observable again");
        }
        Kind::CheckRejected { name, reason } => {
            warn!(%event, backend = %name, reason, "prober rejects the check");
        }
        // The links log these with more detail.
        Kind::Prober { .. } | Kind::Vpp { .. } => {}
        Kind::Synced { vip, counts } => log_sync(event, &quoted(vip), counts),
        Kind::StepFailed { vip, step, error } => {
            error!(%event, vip = quoted(vip), step = quoted(step), error, "cannot change VIP in VPP");
        }
        Kind::Drift { vip: Some(vip), reverted: true } => {
            warn!(%event, vip = quoted(vip), "VIP changed by another client, reverting");
        }
        Kind::Drift { vip: Some(vip), reverted: false } => {
            info!(%event, vip = quoted(vip), "foreign VIP changed, leaving it");
        }
        Kind::Drift { vip: None, reverted: true } => {
            warn!(%event, "VPP's global settings changed by another client, reverting");
        }
        Kind::Drift { vip: None, reverted: false } => {
            info!(%event, "VPP's global settings changed by another client, leaving them");
        }
        Kind::AddressConflict { vip, conflicting: true } => {
            warn!(%event, vip = quoted(vip), "VPP has this address on an interface: the VIP gets no traffic");
        }
        Kind::AddressConflict { vip, conflicting: false } => {
            info!(%event, vip = quoted(vip), "VPP no longer has this address on an interface");
        }
        Kind::LbConf { error: None } => info!(%event, "VPP's global settings sent"),
        Kind::LbConf { error: Some(error) } => error!(%event, error, "VPP does not have the global settings"),
        Kind::Reloaded => info!(%event, "configuration in force"),
        Kind::Operator(audit) => log_audit(event, audit),
    }
}

fn log_transition(event: &str, name: &str, address: IpAddr, transition: &Transition) {
    let (from, to) = (transition.from, transition.to);
    let (code, detail, operator) = match &transition.cause {
        TransitionCause::Outcome { code, detail } => (Some(code.as_str()), Some(detail.to_string()), None),
        TransitionCause::Operator(action) => (None, None, Some(action.as_str())),
        TransitionCause::Config => (None, None, None),
    };
    let detail = detail.filter(|detail| !detail.is_empty());
    if to == Health::Down {
        warn!(%event, backend = %name, %address, %from, %to, code, detail, operator, "backend changed state");
    } else {
        info!(%event, backend = %name, %address, %from, %to, code, detail, operator, "backend changed state");
    }
}

fn log_mass_failure(event: &str, stage: &MassFailureResult) {
    let result = stage.as_str();
    match stage {
        MassFailureResult::Suspected { failing, total, hold } => warn!(
            %event, result, failing, total, ?hold,
            "all backends failed at once, possibly because of this host: deferring DOWN transitions"
        ),
        MassFailureResult::Dismissed => {
            info!(%event, result, "mass failure dismissed: later outcomes decide");
        }
        MassFailureResult::Confirmed => {
            warn!(%event, result, "mass failure confirmed: failed backends are down");
        }
    }
}

fn log_sync(event: &str, vip: &str, counts: &StepCounts) {
    if counts.vip_added > 0 && counts.vip_removed > 0 {
        warn!(%event, vip, servers = counts.as_added, "VIP recreated in VPP: its flows are broken");
        return;
    }
    info!(
        %event, vip,
        vip_added = counts.vip_added,
        vip_removed = counts.vip_removed,
        as_added = counts.as_added,
        as_removed = counts.as_removed,
        as_weight_updated = counts.as_weight_updated,
        "VIP changed in VPP"
    );
}

fn log_audit(event: &str, audit: &Audit) {
    info!(
        %event,
        actor = audit.actor,
        action = audit.action.as_str(),
        subject = audit.subject,
        from = audit.from,
        to = audit.to,
        reason = audit.reason,
        expires = audit.expires.map(format_time),
        "audit"
    );
}

/// Formats a time in UTC (RFC 3339).
fn format_time(at: WallTime) -> String {
    Timestamp::from(SystemTime::UNIX_EPOCH + Duration::from_nanos(at.0)).to_string()
}

/// Formats a value as one string, which the log quotes if it contains spaces.
fn quoted(value: &impl fmt::Display) -> String {
    value.to_string()
}
