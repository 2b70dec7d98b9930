//! Watching events, over as many connections as it takes.

use std::io::{self, Write};
use std::ops::ControlFlow;
use std::time::Duration;

use maglev_proto::v1::watch_events_response::Event;
use maglev_proto::v1::{
    BackendEvent, ConfEvent, DriftEvent, FrontendEvent, LogEvent, LogLevel, ShadowEvent, SyncEvent,
    SyncFailureEvent, WatchEventsRequest, WatchEventsResponse,
};
use tonic::{Code, Streaming};

use crate::Output;
use crate::client::{Client, Server};
use crate::command::Watch;
use crate::style::{Paint, Style, of_state, printable};
use crate::{json, time, words};

/// How long to wait before the server is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Prints events until there have been as many as wanted. A server that goes away is waited for; one that was never
/// there is not.
///
/// # Errors
/// The server cannot be reached at first, or refuses; or the output is closed.
pub async fn run(server: &Server, watch: &Watch, output: Output, paint: Paint) -> anyhow::Result<()> {
    let mut printer = Printer { left: watch.count, output, paint };
    let mut client = server.connect().await?;
    loop {
        match follow(&mut client, watch, &mut printer).await? {
            ControlFlow::Break(()) => return Ok(()),
            ControlFlow::Continue(status) if is_passing(status.code()) => {
                eprintln!("{}; waiting for it", printable(&server.failed(&status).to_string()));
            }
            ControlFlow::Continue(status) => return Err(server.failed(&status)),
        }
        client = reconnect(server).await;
    }
}

async fn reconnect(server: &Server) -> Client {
    loop {
        tokio::time::sleep(RETRY).await;
        if let Ok(client) = server.connect().await {
            eprintln!("connected to maglevd at {server} again");
            return client;
        }
    }
}

/// Whether it may be otherwise after a while.
const fn is_passing(code: Code) -> bool {
    matches!(code, Code::Unavailable | Code::Unknown | Code::Cancelled | Code::Internal)
}

/// Prints one connection's events. Continues with the status that ended it.
async fn follow(
    client: &mut Client,
    watch: &Watch,
    printer: &mut Printer,
) -> anyhow::Result<ControlFlow<(), tonic::Status>> {
    let kinds = watch.kinds.iter().map(|kind| i32::from(*kind)).collect();
    let request = WatchEventsRequest { kinds, log_level: watch.level.into() };
    let mut events: Streaming<WatchEventsResponse> = match client.watch_events(request).await {
        Ok(response) => response.into_inner(),
        Err(status) => return Ok(ControlFlow::Continue(status)),
    };
    loop {
        match events.message().await {
            Ok(Some(event)) => {
                if printer.print(&event)?.is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
            Ok(None) => return Ok(ControlFlow::Continue(tonic::Status::unavailable("the stream has ended"))),
            Err(status) => return Ok(ControlFlow::Continue(status)),
        }
    }
}

struct Printer {
    left: Option<u64>,
    output: Output,
    paint: Paint,
}

impl Printer {
    fn print(&mut self, event: &WatchEventsResponse) -> anyhow::Result<ControlFlow<()>> {
        let line = match self.output {
            Output::Json => json::event(event).to_string(),
            Output::Text => line(event, self.paint),
        };
        writeln!(io::stdout().lock(), "{line}")?;
        self.left = self.left.map(|left| left.saturating_sub(1));
        Ok(if self.left == Some(0) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    }
}

/// An event on one line. A replay says what `is`, an event what changed.
pub fn line(event: &WatchEventsResponse, paint: Paint) -> String {
    let at = time::millisecond(event.at.as_ref());
    let told = match &event.event {
        None => "an event that this maglevc does not know".into(),
        Some(Event::Backend(backend)) => backend_line(backend, event.replay, paint),
        Some(Event::Frontend(frontend)) => frontend_line(frontend, event.replay, paint),
        Some(Event::Prober(prober)) => connection_line("prober", prober.connected, event.replay, paint),
        Some(Event::Vpp(vpp)) => connection_line("vpp", vpp.connected, event.replay, paint),
        Some(Event::Sync(sync)) => sync_line(sync),
        Some(Event::SyncFailure(failure)) => failure_line(failure, paint),
        Some(Event::Refused(refused)) => {
            let why = paint.error(&format!("the prober refuses: {}", refused.why));
            format!("backend {} {why}", printable(&refused.name))
        }
        Some(Event::Drift(drift)) => drift_line(drift),
        Some(Event::Shadow(shadow)) => shadow_line(shadow, paint),
        Some(Event::Conf(conf)) => conf_line(conf, paint),
        Some(Event::Operator(order)) => format!("{} {}", printable(&order.who), printable(&order.what)),
        Some(Event::Reload(_)) => "config reloaded".into(),
        Some(Event::Log(log)) => log_line(log, paint),
        Some(Event::Lost(lost)) => paint.error(&format!("lost {} events: read too slowly", lost.count)),
    };
    format!("{at} {told}")
}

fn backend_line(backend: &BackendEvent, replay: bool, paint: Paint) -> String {
    let moved = backend.transition.clone().unwrap_or_default();
    let change =
        change(&words::backend_state(moved.from()), &words::backend_state(moved.to()), replay, paint);
    let why = match words::cause(&moved) {
        why if why.is_empty() => why,
        why => format!(": {why}"),
    };
    format!("backend {} {change}{}", printable(&backend.name), printable(&why))
}

fn frontend_line(frontend: &FrontendEvent, replay: bool, paint: Paint) -> String {
    let (from, to) = (words::frontend_state(frontend.from()), words::frontend_state(frontend.to()));
    let pool = match frontend.active_pool.as_str() {
        "" => String::new(),
        pool => format!(", pool {pool}"),
    };
    format!(
        "frontend {} {}{}",
        printable(&frontend.name),
        change(&from, &to, replay, paint),
        printable(&pool)
    )
}

/// `is up` in a replay, `down -> up` when it changed, `stays up` when it was something else that changed.
fn change(from: &str, to: &str, replay: bool, paint: Paint) -> String {
    let after = paint.apply(of_state(to), to);
    match (replay, from == to) {
        (true, _) => format!("is {after}"),
        (false, true) => format!("stays {after}"),
        (false, false) => format!("{} -> {after}", paint.apply(of_state(from), from)),
    }
}

fn connection_line(what: &str, connected: bool, replay: bool, paint: Paint) -> String {
    let (style, word) = match (connected, replay) {
        (true, true) => (Style::Good, "is connected"),
        (true, false) => (Style::Good, "connected"),
        (false, true) => (Style::Bad, "is not connected"),
        (false, false) => (Style::Bad, "lost"),
    };
    format!("{what} {}", paint.apply(style, word))
}

fn sync_line(sync: &SyncEvent) -> String {
    let counts = [
        (sync.vip_added, "vip added"),
        (sync.vip_removed, "vip removed"),
        (sync.as_added, "as added"),
        (sync.as_removed, "as removed"),
        (sync.as_weight_updated, "as weight updated"),
    ];
    let done: Vec<String> =
        counts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{what} {n}")).collect();
    format!("vpp {}: {}", printable(&words::vip(sync.vip.as_ref())), done.join(", "))
}

fn failure_line(failure: &SyncFailureEvent, paint: Paint) -> String {
    let step = if failure.step.is_empty() { "read" } else { &failure.step };
    let vip = words::vip(failure.vip.as_ref());
    format!("vpp {}: {}", printable(&vip), paint.error(&format!("{step} failed: {}", failure.error)))
}

fn drift_line(drift: &DriftEvent) -> String {
    format!("vpp {}: changed by somebody else", printable(&words::vip(drift.vip.as_ref())))
}

fn shadow_line(shadow: &ShadowEvent, paint: Paint) -> String {
    let told = if shadow.shadowed {
        paint.apply(Style::Odd, "VPP has this address on an interface: the VIP gets no traffic")
    } else {
        "VPP no longer has this address on an interface".into()
    };
    format!("vpp {}: {told}", printable(&words::vip(shadow.vip.as_ref())))
}

fn conf_line(conf: &ConfEvent, paint: Paint) -> String {
    match conf.error.as_str() {
        "" => "vpp global settings sent".into(),
        error => format!("vpp {}", paint.error(&format!("global settings failed: {error}"))),
    }
}

fn log_line(log: &LogEvent, paint: Paint) -> String {
    let style = match log.level() {
        LogLevel::Error => Style::Bad,
        LogLevel::Warn => Style::Odd,
        _ => Style::Plain,
    };
    let level = paint.apply(style, &words::log_level(log.level()));
    let fields: String = log.fields.iter().map(|field| format!(" {}={}", field.name, field.value)).collect();
    format!("log {level} {}{}", printable(&log.message), printable(&fields))
}

#[cfg(test)]
mod tests {
    use maglev_proto::v1::{FrontendState, LogField, LostEvent, ProberEvent, ReloadEvent};

    use super::*;
    use crate::fixture;
    use crate::style::ColorChoice;

    fn told(replay: bool, event: Event) -> String {
        let event = WatchEventsResponse { at: Some(fixture::at(30)), replay, event: Some(event) };
        let line = line(&event, Paint::new(ColorChoice::Never, false));
        line.strip_prefix("2026-11-22T12:00:30.000Z ").unwrap().into()
    }

    #[test]
    fn a_replay_says_what_is_and_an_event_what_changed() {
        let transition = Some(fixture::went_down());
        let nginx0 = || {
            Event::Backend(BackendEvent {
                name: "nginx0".into(),
                address: "192.0.2.10".into(),
                transition: transition.clone(),
            })
        };
        assert_eq!(told(true, nginx0()), "backend nginx0 is down: L4CON connection refused");
        assert_eq!(told(false, nginx0()), "backend nginx0 up -> down: L4CON connection refused");

        let web = |from: FrontendState| {
            Event::Frontend(FrontendEvent {
                name: "web".into(),
                from: from.into(),
                to: FrontendState::Up.into(),
                active_pool: "fallback".into(),
            })
        };
        assert_eq!(told(false, web(FrontendState::Down)), "frontend web down -> up, pool fallback");
        assert_eq!(told(false, web(FrontendState::Up)), "frontend web stays up, pool fallback");
    }

    #[test]
    fn every_kind_has_its_line() {
        assert_eq!(told(true, Event::Prober(ProberEvent { connected: false })), "prober is not connected");
        assert_eq!(told(false, Event::Prober(ProberEvent { connected: false })), "prober lost");
        let sync = SyncEvent {
            vip: Some(fixture::vip()),
            as_added: 3,
            as_weight_updated: 1,
            ..SyncEvent::default()
        };
        assert_eq!(told(false, Event::Sync(sync)), "vpp 192.0.2.80 tcp/80: as added 3, as weight updated 1");
        let failure = SyncFailureEvent {
            vip: Some(fixture::vip()),
            step: "remove vip".into(),
            error: "NO_SUCH_ENTRY".into(),
        };
        assert_eq!(
            told(false, Event::SyncFailure(failure)),
            "vpp 192.0.2.80 tcp/80: remove vip failed: NO_SUCH_ENTRY"
        );
        assert_eq!(told(false, Event::Reload(ReloadEvent {})), "config reloaded");
        assert_eq!(told(false, Event::Lost(LostEvent { count: 7 })), "lost 7 events: read too slowly");
        let log = LogEvent {
            level: LogLevel::Warn.into(),
            target: "maglevd".into(),
            message: "odd".into(),
            fields: vec![LogField { name: "detail".into(), value: "a\x1b[2J".into() }],
        };
        assert_eq!(told(false, Event::Log(log)), "log warn odd detail=a\\u{1b}[2J");
    }
}
