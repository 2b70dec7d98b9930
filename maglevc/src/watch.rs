//! Watches events, and reconnects.

use std::io::{self, Write};
use std::ops::ControlFlow;
use std::time::Duration;

use maglev_proto::v1::watch_events_response::Event;
use maglev_proto::v1::{
    AddressConflictEvent, BackendEvent, DriftEvent, FrontendEvent, LbConfEvent, LocalFaultsEvent, LogEvent,
    LogLevel, MassFailureEvent, MassFailureResult, OperatorEvent, SyncEvent, SyncFailureEvent,
    WatchEventsRequest, WatchEventsResponse,
};
use tonic::{Code, Streaming};

use crate::OutputFormat;
use crate::client::{Client, ServerAddress};
use crate::command::Command;
use crate::failure::Failure;
use crate::keys::{self, RawKeyboard};
use crate::screen::{Screen, TextStyle, of_state, printable};
use crate::{json, time, words};

/// Pause between attempts to reconnect.
const RETRY: Duration = Duration::from_secs(1);

/// Prints events until the requested number, a key, or a closed output. Reconnects after a lost connection, but not at
/// the start.
///
/// # Errors
/// Returns a failure if the first connection fails, the server refuses, or the output cannot be written.
pub async fn run(
    server: &ServerAddress,
    command: &Command,
    output: OutputFormat,
    screen: Screen,
) -> Result<(), Failure> {
    let mut printer = EventPrinter { left: command.number("num"), output, screen, out: io::stdout() };
    let client = server.connect().await.map_err(|error| Failure::unreachable(&error))?;
    let keys = RawKeyboard::take();
    if keys.is_some() {
        eprintln!("until any key is pressed:");
    } else if keys::is_waiting() {
        eprintln!("until Ctrl-C, as more is typed already:");
    }
    tokio::select! {
        ended = follow_on(server, client, command, &mut printer) => ended,
        () = keys::enough(keys.as_ref()) => Ok(()),
    }
}

async fn follow_on(
    server: &ServerAddress,
    mut client: Client,
    command: &Command,
    printer: &mut EventPrinter<impl Write>,
) -> Result<(), Failure> {
    loop {
        match follow(&mut client, command, printer).await? {
            ControlFlow::Break(()) => return Ok(()),
            ControlFlow::Continue(status) if is_passing(status.code()) => {
                eprintln!("{}; waiting for it", printable(&server.failure(&status).await.to_string()));
            }
            ControlFlow::Continue(status) => {
                return Err(server.failure(&status).await);
            }
        }
        client = reconnect(server).await;
    }
}

async fn reconnect(server: &ServerAddress) -> Client {
    loop {
        tokio::time::sleep(RETRY).await;
        if let Ok(client) = server.connect().await {
            eprintln!("connected to maglevd at {server} again");
            return client;
        }
    }
}

/// Reports whether an error is temporary.
const fn is_passing(code: Code) -> bool {
    matches!(code, Code::Unavailable | Code::Unknown | Code::Cancelled | Code::Internal)
}

/// Prints the events of one connection. Continues with the status that ended it.
async fn follow(
    client: &mut Client,
    command: &Command,
    printer: &mut EventPrinter<impl Write>,
) -> Result<ControlFlow<(), tonic::Status>, Failure> {
    let kinds = command.event_kinds().into_iter().map(i32::from).collect();
    let request = WatchEventsRequest { kinds, log_level: command.level().into() };
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

struct EventPrinter<W> {
    left: Option<u32>,
    output: OutputFormat,
    screen: Screen,
    out: W,
}

impl<W: Write> EventPrinter<W> {
    fn print(&mut self, event: &WatchEventsResponse) -> Result<ControlFlow<()>, Failure> {
        let line = match self.output {
            OutputFormat::Json => json::event(event).to_string(),
            OutputFormat::Text => line(event, self.screen),
        };
        match writeln!(self.out, "{line}").and_then(|()| self.out.flush()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(ControlFlow::Break(())),
            written => written.map_err(|error| Failure::unwritten(&error))?,
        }
        self.left = self.left.map(|left| left.saturating_sub(1));
        Ok(if self.left == Some(0) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    }
}

/// Formats an event as one line. A replay says `is`.
pub fn line(event: &WatchEventsResponse, screen: Screen) -> String {
    let at = time::millisecond(event.at.as_ref());
    let told = match &event.event {
        None => "an event that this maglevc does not know".into(),
        Some(Event::Backend(backend)) => backend_line(backend, event.replay, screen),
        Some(Event::Frontend(frontend)) => frontend_line(frontend, event.replay, screen),
        Some(Event::Prober(prober)) => connection_line("prober", prober.connected, event.replay, screen),
        Some(Event::MassFailure(failure)) => mass_failure_line(failure, screen),
        Some(Event::LocalFaults(faults)) => local_faults_line(faults, screen),
        Some(Event::Vpp(vpp)) => connection_line("vpp", vpp.connected, event.replay, screen),
        Some(Event::Sync(sync)) => sync_line(sync),
        Some(Event::SyncFailure(failure)) => failure_line(failure, screen),
        Some(Event::CheckRejected(rejected)) => {
            let error = screen.error(&format!("check rejected by the prober: {}", rejected.reason));
            format!("backend {} {error}", printable(&rejected.name))
        }
        Some(Event::Drift(drift)) => drift_line(drift),
        Some(Event::AddressConflict(conflict)) => address_conflict_line(conflict, screen),
        Some(Event::LbConf(conf)) => lb_conf_line(conf, screen),
        Some(Event::Operator(order)) => operator_line(order),
        Some(Event::Reload(_)) => "config reloaded".into(),
        Some(Event::Log(log)) => log_line(log, screen),
        Some(Event::Dropped(dropped)) => {
            screen.error(&format!("dropped {} events: read too slowly", dropped.count))
        }
    };
    format!("{at} {told}")
}

fn backend_line(backend: &BackendEvent, replay: bool, screen: Screen) -> String {
    let moved = backend.transition.clone().unwrap_or_default();
    let change =
        change(&words::backend_state(moved.from()), &words::backend_state(moved.to()), replay, screen);
    let why = match words::cause(&moved) {
        why if why.is_empty() => why,
        why => format!(": {why}"),
    };
    format!("backend {} {change}{}", printable(&backend.name), printable(&why))
}

fn frontend_line(frontend: &FrontendEvent, replay: bool, screen: Screen) -> String {
    let (from, to) = (words::frontend_state(frontend.from()), words::frontend_state(frontend.to()));
    let pool = match frontend.active_pool.as_str() {
        "" => String::new(),
        pool => format!(", pool {pool}"),
    };
    format!(
        "frontend {} {}{}",
        printable(&frontend.name),
        change(&from, &to, replay, screen),
        printable(&pool)
    )
}

/// Formats a change of state: `is up` in a replay, `down -> up`, or `stays up` if another field changed.
fn change(from: &str, to: &str, replay: bool, screen: Screen) -> String {
    let after = screen.apply(of_state(to), to);
    match (replay, from == to) {
        (true, _) => format!("is {after}"),
        (false, true) => format!("stays {after}"),
        (false, false) => format!("{} -> {after}", screen.apply(of_state(from), from)),
    }
}

fn connection_line(what: &str, connected: bool, replay: bool, screen: Screen) -> String {
    let (style, word) = match (connected, replay) {
        (true, true) => (TextStyle::Good, "is connected"),
        (true, false) => (TextStyle::Good, "connected"),
        (false, true) => (TextStyle::Bad, "is not connected"),
        (false, false) => (TextStyle::Bad, "lost"),
    };
    format!("{what} {}", screen.apply(style, word))
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

fn failure_line(failure: &SyncFailureEvent, screen: Screen) -> String {
    let step = if failure.step.is_empty() { "read" } else { &failure.step };
    let vip = words::vip(failure.vip.as_ref());
    format!("vpp {}: {}", printable(&vip), screen.error(&format!("{step} failed: {}", failure.error)))
}

fn mass_failure_line(failure: &MassFailureEvent, screen: Screen) -> String {
    match failure.result() {
        MassFailureResult::Suspected => {
            let hold = time::duration(failure.hold.as_ref());
            let text = format!(
                "{} of {} backends failed at once, possibly because of this host: none goes down for {hold}",
                failure.failing, failure.total
            );
            format!("prober {}", screen.apply(TextStyle::Odd, &text))
        }
        MassFailureResult::Confirmed => {
            format!("prober {}", screen.error("mass failure confirmed: failed backends are down"))
        }
        MassFailureResult::Dismissed | MassFailureResult::Unspecified => {
            "prober mass failure dismissed: later outcomes decide".into()
        }
    }
}

fn local_faults_line(faults: &LocalFaultsEvent, screen: Screen) -> String {
    if !faults.active {
        return "prober local faults cleared: every backend is observable again".into();
    }
    let meanwhile = if faults.hidden { " while other backends answer" } else { "" };
    let text =
        format!("{} has only local faults{meanwhile} ({}): its state is stale", faults.name, faults.fault);
    format!("prober {}", screen.apply(TextStyle::Odd, &printable(&text)))
}

fn drift_line(drift: &DriftEvent) -> String {
    let fate = match drift.reverted {
        Some(true) => "; reverting",
        Some(false) => "; left alone",
        None => "",
    };
    let what = drift.vip.as_ref().map_or("global settings".into(), |vip| words::vip(Some(vip)));
    format!("vpp {}: changed by another client{fate}", printable(&what))
}

fn address_conflict_line(conflict: &AddressConflictEvent, screen: Screen) -> String {
    let told = if conflict.conflicting {
        screen.apply(TextStyle::Odd, "VPP has this address on an interface: the VIP gets no traffic")
    } else {
        "VPP no longer has this address on an interface".into()
    };
    format!("vpp {}: {told}", printable(&words::vip(conflict.vip.as_ref())))
}

fn lb_conf_line(conf: &LbConfEvent, screen: Screen) -> String {
    match conf.error.as_str() {
        "" => "vpp global settings sent".into(),
        error => format!("vpp {}", screen.error(&format!("global settings failed: {error}"))),
    }
}

fn operator_line(order: &OperatorEvent) -> String {
    let action = words::audit_action(order.action()).replace('_', " ");
    let mut told = format!("operator {}: {} {}", order.actor, action, order.subject).trim_end().to_owned();
    match (order.from.as_str(), order.to.as_str()) {
        ("", "") => {}
        ("", to) => told += &format!(", {to}"),
        (from, to) if from == to => told += &format!(", stays {to}"),
        (from, to) => told += &format!(", {from} -> {to}"),
    }
    if order.expires.is_some() {
        told += &format!(", until {}", time::second(order.expires.as_ref()));
    }
    if !order.reason.is_empty() {
        told += &format!(": {}", order.reason);
    }
    printable(&told).into_owned()
}

fn log_line(log: &LogEvent, screen: Screen) -> String {
    let style = match log.level() {
        LogLevel::Error => TextStyle::Bad,
        LogLevel::Warn => TextStyle::Odd,
        _ => TextStyle::Plain,
    };
    let level = screen.apply(style, &words::log_level(log.level()));
    let fields: String = log.fields.iter().map(|field| format!(" {}={}", field.name, field.value)).collect();
    format!("log {level} {}{}", printable(&log.message), printable(&fields))
}

#[cfg(test)]
mod tests {
    use maglev_proto::v1::{AuditAction, DroppedEvent, FrontendState, LogField, ProberEvent, ReloadEvent};

    use super::*;
    use crate::fake::FakeDaemon;
    use crate::fixture;
    use crate::screen::ColorChoice;

    fn told(replay: bool, event: Event) -> String {
        let event = WatchEventsResponse { at: Some(fixture::at(30)), replay, event: Some(event) };
        let line = line(&event, Screen::new(ColorChoice::Never, false));
        line.strip_prefix("2026-11-22T12:00:30.000Z ").unwrap().into()
    }

    #[test]
    fn replay_and_change_differ() {
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
    fn num_limits_printed_events() {
        let fake = FakeDaemon::start();
        let Ok(server) = fake.address().parse::<ServerAddress>();
        let command = crate::command::parse(&["watch", "events", "num", "4", "backend", "operator"]).unwrap();
        let screen = Screen::new(ColorChoice::Never, false);
        let watching = std::thread::spawn(move || {
            let mut printer = EventPrinter {
                left: command.number("num"),
                output: OutputFormat::Text,
                screen,
                out: Vec::new(),
            };
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let ended = runtime.block_on(async {
                let client = server.connect().await.unwrap();
                follow_on(&server, client, &command, &mut printer).await
            });
            (ended, String::from_utf8(printer.out).unwrap())
        });
        while !watching.is_finished() {
            fake.tell(Event::Reload(ReloadEvent {}));
            std::thread::yield_now();
        }
        let (ended, printed) = watching.join().unwrap();
        assert_eq!(ended, Ok(()));
        assert_eq!(
            printed,
            "\
2026-11-22T12:00:00.000Z prober is connected
2026-11-22T12:00:00.000Z backend nginx0 is down: L4CON connection refused
2026-11-22T12:00:00.000Z frontend web is up, pool fallback
2026-11-22T12:01:00.000Z config reloaded
"
        );
    }

    #[test]
    fn every_event_has_a_line() {
        assert_eq!(told(true, Event::Prober(ProberEvent { connected: false })), "prober is not connected");
        assert_eq!(told(false, Event::Prober(ProberEvent { connected: false })), "prober lost");
        let wait = Some(Duration::from_millis(300).try_into().unwrap());
        let result =
            |result: MassFailureResult| MassFailureEvent { result: result.into(), ..Default::default() };
        let suspected =
            MassFailureEvent { failing: 10, total: 10, hold: wait, ..result(MassFailureResult::Suspected) };
        assert_eq!(
            told(false, Event::MassFailure(suspected)),
            "prober 10 of 10 backends failed at once, possibly because of this host: none goes down for 300ms"
        );
        let stage = |stage| told(false, Event::MassFailure(result(stage)));
        assert_eq!(
            stage(MassFailureResult::Dismissed),
            "prober mass failure dismissed: later outcomes decide"
        );
        assert_eq!(
            stage(MassFailureResult::Confirmed),
            "prober mass failure confirmed: failed backends are down"
        );
        let faulty = |hidden| {
            let (name, fault) = ("nginx0".into(), "out of\u{1b} ports".into());
            told(false, Event::LocalFaults(LocalFaultsEvent { active: true, name, fault, hidden }))
        };
        assert_eq!(
            faulty(false),
            r"prober nginx0 has only local faults (out of\u{1b} ports): its state is stale"
        );
        assert_eq!(
            faulty(true),
            r"prober nginx0 has only local faults while other backends answer (out of\u{1b} ports): its state is stale"
        );
        assert_eq!(
            told(false, Event::LocalFaults(LocalFaultsEvent::default())),
            "prober local faults cleared: every backend is observable again"
        );
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
        let drift = |reverted| told(false, Event::Drift(DriftEvent { vip: Some(fixture::vip()), reverted }));
        assert_eq!(drift(None), "vpp 192.0.2.80 tcp/80: changed by another client");
        assert_eq!(drift(Some(true)), "vpp 192.0.2.80 tcp/80: changed by another client; reverting");
        assert_eq!(drift(Some(false)), "vpp 192.0.2.80 tcp/80: changed by another client; left alone");
        let settings = told(false, Event::Drift(DriftEvent { vip: None, reverted: Some(true) }));
        assert_eq!(settings, "vpp global settings: changed by another client; reverting");
        let order = OperatorEvent {
            actor: "alice (uid 1000)".into(),
            action: AuditAction::Disable.into(),
            subject: "backend web3".into(),
            from: "up".into(),
            to: "disabled".into(),
            reason: "disk swap".into(),
            expires: Some(fixture::at(7_200)),
        };
        assert_eq!(
            told(false, Event::Operator(order.clone())),
            "operator alice (uid 1000): disable backend web3, up -> disabled, until 2026-11-22T14:00:00Z: disk swap"
        );
        let again = OperatorEvent { from: "disabled".into(), expires: None, ..order };
        assert_eq!(
            told(false, Event::Operator(again)),
            "operator alice (uid 1000): disable backend web3, stays disabled: disk swap"
        );
        let reload = OperatorEvent {
            actor: "bob".into(),
            action: AuditAction::Reload.into(),
            ..OperatorEvent::default()
        };
        assert_eq!(told(false, Event::Operator(reload)), "operator bob: reload");
        assert_eq!(told(false, Event::Reload(ReloadEvent {})), "config reloaded");
        assert_eq!(
            told(false, Event::Dropped(DroppedEvent { count: 7 })),
            "dropped 7 events: read too slowly"
        );
        let log = LogEvent {
            level: LogLevel::Warn.into(),
            target: "maglevd".into(),
            message: "odd".into(),
            fields: vec![LogField { name: "detail".into(), value: "a\x1b[2J".into() }],
        };
        assert_eq!(told(false, Event::Log(log)), "log warn odd detail=a\\u{1b}[2J");
    }
}
