//! The log: where it goes, what core events look like in it, and how subscribers of the API hear it.

use std::fmt;
use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use maglev_core::event::{Event, FrontendState, Kind};
use maglev_core::health::{Cause, Health};
use maglev_core::time::Wall;
use maglev_proto::Timestamp;
use tokio::sync::broadcast;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Level, Subscriber, error, info, warn};
use tracing_subscriber::filter::{EnvFilter, ParseError};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

#[cfg(test)]
mod tests;

/// How many records a subscriber may lag behind before it loses the oldest.
const BACKLOG: usize = 1024;

/// What the targets of this program's own records start with.
const OWN: &str = "maglev";

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, clap::ValueEnum)]
pub enum Format {
    /// For people, and for the journal.
    #[default]
    Text,
    /// One object per line.
    Json,
}

/// A log record, for subscribers.
#[derive(Clone, Debug)]
pub struct Record {
    /// When it was written.
    pub at: SystemTime,
    /// How severe it is.
    pub level: Level,
    /// The part of the program that wrote it.
    pub target: &'static str,
    /// What it says.
    pub message: String,
    /// Its fields, in the order in which they were written.
    pub fields: Vec<(&'static str, String)>,
}

/// Where subscribers get the log.
#[derive(Clone, Debug)]
pub struct Tap(broadcast::Sender<Arc<Record>>);

impl Default for Tap {
    fn default() -> Self {
        Self(broadcast::channel(BACKLOG).0)
    }
}

impl Tap {
    /// What is logged from now on. A receiver that lags too far loses the oldest, and is told.
    #[must_use]
    pub fn records(&self) -> broadcast::Receiver<Arc<Record>> {
        self.0.subscribe()
    }
}

/// Starts logging to standard error. `level` is `error`, `warn`, `info`, `debug` or `trace`, or a list of directives
/// as `tracing_subscriber::EnvFilter` has them.
///
/// # Errors
/// `level` is neither.
pub fn init(level: &str, format: Format) -> Result<Tap, ParseError> {
    let tap = Tap::default();
    let registry = tracing_subscriber::registry().with(filter(level)?).with(tap.clone());
    let stderr = tracing_subscriber::fmt::layer().with_writer(io::stderr);
    // The journal puts its own time on each line.
    let journal = std::env::var_os("JOURNAL_STREAM").is_some();
    let color =
        io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    match format {
        Format::Json => registry.with(stderr.json().flatten_event(true)).init(),
        Format::Text if journal => registry.with(stderr.with_ansi(false).without_time()).init(),
        Format::Text => registry.with(stderr.with_ansi(color)).init(),
    }
    Ok(tap)
}

/// A plain level is about this program; its libraries have nothing to say below a warning.
fn filter(level: &str) -> Result<EnvFilter, ParseError> {
    match level.trim().parse::<LevelFilter>() {
        Ok(own) => EnvFilter::try_new(format!("{},{OWN}={own}", own.min(LevelFilter::WARN))),
        Err(_) => EnvFilter::try_new(level),
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Tap {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        // What the gRPC libraries log while they send a record would itself be a record to send, and so on for ever.
        if self.0.receiver_count() == 0 || !metadata.target().starts_with(OWN) {
            return;
        }
        let mut fields = Fields::default();
        event.record(&mut fields);
        let record = Record {
            at: SystemTime::now(),
            level: *metadata.level(),
            target: metadata.target(),
            message: fields.message,
            fields: fields.others,
        };
        // The last subscriber may just have left.
        let _ = self.0.send(Arc::new(record));
    }
}

#[derive(Default)]
struct Fields {
    message: String,
    others: Vec<(&'static str, String)>,
}

impl Fields {
    fn put(&mut self, field: &Field, value: String) {
        match field.name() {
            "message" => self.message = value,
            name => self.others.push((name, value)),
        }
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}"));
    }
}

/// Logs what happened in the core. The names of the fields are an interface: people search their logs by them.
pub fn event(event: &Event) {
    match &event.kind {
        Kind::Backend { name, address, transition } => {
            let (from, to) = (transition.from, transition.to);
            let (code, detail, operator) = match &transition.cause {
                Cause::Outcome { code, detail } => (Some(code.as_str()), Some(detail.to_string()), None),
                Cause::Operator(action) => (None, None, Some(action.as_str())),
                Cause::Config => (None, None, None),
            };
            let detail = detail.filter(|detail| !detail.is_empty());
            if to == Health::Down {
                warn!(backend = %name, %address, %from, %to, code, detail, operator, "backend changed state");
            } else {
                info!(backend = %name, %address, %from, %to, code, detail, operator, "backend changed state");
            }
        }
        Kind::Frontend { name, from, to, active_pool } => {
            let pool = active_pool.as_deref();
            if *to == FrontendState::Down {
                warn!(frontend = %name, %from, %to, pool, "frontend changed state");
            } else {
                info!(frontend = %name, %from, %to, pool, "frontend changed state");
            }
        }
        Kind::Refused { name, why } => warn!(backend = %name, why, "the prober refuses to probe"),
        // The links tell themselves: they know to whom, and why no longer.
        Kind::Prober { .. } | Kind::Vpp { .. } => {}
        Kind::Synced { vip, counts } if counts.vip_added > 0 && counts.vip_removed > 0 => {
            warn!(vip = shown(vip), servers = counts.as_added, "VIP made anew in VPP: its flows are broken");
        }
        Kind::Synced { vip, counts } => info!(
            vip = shown(vip),
            vip_added = counts.vip_added,
            vip_removed = counts.vip_removed,
            as_added = counts.as_added,
            as_removed = counts.as_removed,
            as_weight_updated = counts.as_weight_updated,
            "VIP changed in VPP"
        ),
        Kind::StepFailed { vip, step, error } => {
            error!(vip = shown(vip), step = shown(step), error, "VIP not changed in VPP");
        }
        Kind::Drift { vip } => warn!(vip = shown(vip), "VIP changed by somebody else; it is mended"),
        Kind::Shadowed { vip, shadowed: true } => {
            warn!(vip = shown(vip), "VPP has this address on an interface: the VIP gets no traffic");
        }
        Kind::Shadowed { vip, shadowed: false } => {
            info!(vip = shown(vip), "VPP no longer has this address on an interface");
        }
        Kind::ConfSent { error: None } => info!("VPP's global settings sent"),
        Kind::ConfSent { error: Some(error) } => error!(error, "VPP refused the global settings"),
        Kind::Reloaded => info!("configuration in force"),
        Kind::Operator(audit) => info!(
            who = audit.who,
            what = audit.what.as_str(),
            subject = audit.subject,
            from = audit.from,
            to = audit.to,
            reason = audit.reason,
            expires = audit.expires.map(shown_time),
            "audit"
        ),
    }
}

/// In UTC, as RFC 3339 has it.
fn shown_time(at: Wall) -> String {
    Timestamp::from(SystemTime::UNIX_EPOCH + Duration::from_nanos(at.0)).to_string()
}

/// As a value of one piece: what holds blanks is quoted in the log.
fn shown(value: &impl fmt::Display) -> String {
    value.to_string()
}
