//! The prober: its scheduler, protocol and outbox are the real ones; around them, what the engine's loop does, with fates in
//! place of sockets.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use maglev_ipc::message::{HEARTBEAT_INTERVAL, PEER_TIMEOUT};
use maglev_ipc::{OutcomeCode, ToController, ToProber, VERSION, codec, link};
use maglevd::prober::{ConnectProber, LinkError, MessageTransport};
use maglevd_prober::clock::{Nanos, nanos};
use maglevd_prober::outbox::Outbox;
use maglevd_prober::probe::{ProbePlan, tls};
use maglevd_prober::probe_id::ProbeId;
use maglevd_prober::protocol::{ControllerRequest, InboundProtocol};
use maglevd_prober::scheduler::{Scheduler, StartResult};
use maglevd_prober::set::{CheckSet, ProbeLimits};
use maglevd_prober::verdict::Verdict;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::sleep_until;

use super::pipe::Pipe;
use super::process::Process;
use super::refusals::Ledger;
use super::site::Site;
use super::truth::Fate;

/// How many probes a second the package's unit allows.
const RATE: u32 = 100_000;
/// How many messages are on their way at most, as in the buffer of a socket.
const ROOM: usize = 128;

/// A prober that runs.
#[derive(Debug)]
pub struct Running {
    /// The process.
    pub process: Arc<Process>,
    door: mpsc::UnboundedSender<Ends>,
    /// The end of its loop.
    pub task: JoinHandle<()>,
}

/// Both directions of a link: to the prober, and from it.
#[derive(Clone, Debug)]
struct Ends {
    to: Arc<Pipe>,
    from: Arc<Pipe>,
}

impl Running {
    /// Starts one.
    pub fn start(site: &Arc<Site>) -> Self {
        let process = Process::new();
        let (door, visitors) = mpsc::unbounded_channel();
        let limits = ProbeLimits { max_checks: site.with(|world| world.host.max_checks), max_rate: RATE };
        let prober = Prober {
            site: Arc::clone(site),
            process: Arc::clone(&process),
            visitors,
            session: None,
            limits,
            scheduler: Scheduler::new(site.seed(), RATE, site.nanos()),
            configs: tls::TlsConfigs::new([]),
            answers: BTreeMap::new(),
            answered: 0,
            instance: site.seed(),
            next_beat: site.nanos(),
        };
        Self { process, door, task: tokio::spawn(prober.run()) }
    }

    /// Ends it without a word.
    pub fn kill(&self) {
        self.process.die();
        self.task.abort();
    }
}

/// How `maglevd` reaches the prober that runs, if one does.
#[derive(Debug)]
pub struct Way {
    /// Where everything is.
    pub site: Arc<Site>,
    /// Whose way it is.
    pub process: Arc<Process>,
}

impl ConnectProber for Way {
    type Transport = Wire;

    async fn connect(&self, _: Option<&str>) -> Result<Wire, LinkError> {
        let nobody = || {
            let source = link::Error::Io(io::ErrorKind::ConnectionRefused.into());
            LinkError::Connect { path: "prober.sock".into(), source }
        };
        let (to_prober, from_prober) = self.site.prober_weather();
        let ends = Ends {
            to: Pipe::new(&to_prober, ROOM, self.site.seed()),
            from: Pipe::new(&from_prober, ROOM, self.site.seed()),
        };
        let door = self.site.with(|world| world.prober.as_ref().map(|prober| prober.door.clone()));
        door.ok_or_else(nobody)?.send(ends.clone()).map_err(|_| nobody())?;
        self.process.holds(&ends.to);
        self.site.with(|world| world.prober_link = Some((Arc::clone(&ends.to), Arc::clone(&ends.from))));
        Ok(Wire { ends, process: Arc::clone(&self.process) })
    }
}

/// `maglevd`'s end of a link.
#[derive(Debug)]
pub struct Wire {
    ends: Ends,
    process: Arc<Process>,
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.ends.to.close();
        self.ends.from.cut();
    }
}

fn link_error(error: io::Error) -> link::Error {
    match error.kind() {
        io::ErrorKind::WouldBlock => link::Error::WouldBlock,
        io::ErrorKind::BrokenPipe => link::Error::Closed,
        _ => link::Error::Io(error),
    }
}

impl MessageTransport for Wire {
    fn send(&self, message: &ToProber) -> Result<(), link::Error> {
        if !self.process.effect() {
            return Err(link::Error::Closed);
        }
        self.ends.to.send(codec::encode(message)?).map_err(link_error)
    }

    fn receive(&mut self) -> Result<ToController, link::Error> {
        let bytes = self.ends.from.receive().map_err(link_error)?;
        if bytes.is_empty() { Err(link::Error::Closed) } else { Ok(codec::decode(&bytes)?) }
    }

    async fn readable(&self) -> io::Result<()> {
        self.ends.from.readable().await;
        Ok(())
    }

    async fn writable(&self) -> io::Result<()> {
        self.ends.to.writable().await;
        Ok(())
    }
}

/// What the engine is made of.
struct Prober {
    site: Arc<Site>,
    process: Arc<Process>,
    visitors: mpsc::UnboundedReceiver<Ends>,
    session: Option<Session>,
    limits: ProbeLimits,
    scheduler: Scheduler<ProbePlan, ()>,
    configs: tls::TlsConfigs,
    /// The answers on their way, by when they arrive.
    answers: BTreeMap<(Nanos, u64), (ProbeId, OutcomeCode)>,
    answered: u64,
    instance: u64,
    next_beat: Nanos,
}

struct Session {
    ends: Ends,
    protocol: InboundProtocol,
    ledger: Ledger,
    outbox: Outbox,
    heard: Nanos,
    committed: bool,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.ends.from.close();
        self.ends.to.cut();
    }
}

impl Prober {
    async fn run(mut self) {
        while !self.process.is_dead() {
            let now = self.site.nanos();
            let answer = self.answers.first_key_value().map_or(Nanos::MAX, |((at, _), _)| *at);
            let planned = self.next(now).min(answer);
            let ends = self.session.as_ref().map(|session| session.ends.clone());
            tokio::select! {
                biased;
                Some(visitor) = self.visitors.recv() => self.welcome(visitor),
                () = readable(ends.as_ref()) => {}
                () = writable(self.session.as_ref()) => {}
                () = sleep_until(self.site.instant(planned)) => {}
            }
            let frozen = self.site.with(|world| world.prober_frozen);
            sleep_until(frozen).await;
            self.turn(planned);
        }
    }

    /// When there is something to do, if nothing is heard before.
    fn next(&self, now: Nanos) -> Nanos {
        self.scheduler.next_wakeup(now).min(self.next_beat)
    }

    fn turn(&mut self, planned: Nanos) {
        let now = self.site.nanos();
        self.scheduler.begin_iteration(planned, now);
        while let Some(entry) = self.answers.first_entry().filter(|entry| entry.key().0 <= now) {
            let (key, code) = entry.remove();
            // An answer that comes twice is one.
            for _ in 0..1 + usize::from(self.site.chance(16)) {
                self.scheduler.finish_probe(key, Verdict::from_code(code), now);
            }
        }
        self.scheduler.process_timers(now, |_, (), _| Verdict::from_code(OutcomeCode::L4Tout));
        self.launch(now);
        for report in self.scheduler.take_reports() {
            if let Some(session) = self.session.as_mut().filter(|session| session.committed) {
                session.outbox.outcome(report);
            }
        }
        if now >= self.next_beat {
            self.next_beat = now + nanos(HEARTBEAT_INTERVAL);
            if let Some(session) = self.session.as_mut().filter(|session| !session.outbox.is_behind()) {
                session.outbox.message(ToController::Heartbeat(*self.scheduler.stats()));
            }
        }
        if self.converse(now).is_none() {
            self.session = None;
        }
    }

    fn launch(&mut self, now: Nanos) {
        loop {
            let (site, answers, answered) = (&self.site, &mut self.answers, &mut self.answered);
            let more = self.scheduler.start_next(now, |key, check, _| match site.probe(check) {
                Fate::Ends(after, code) => {
                    *answered += 1;
                    answers.insert((now + nanos(after), *answered), (key, code));
                    StartResult::InFlight(())
                }
                Fate::Lost => StartResult::InFlight(()),
                Fate::Local => StartResult::Finished(Verdict::new(OutcomeCode::Local, "out of descriptors")),
            });
            if !more {
                return;
            }
        }
    }

    fn welcome(&mut self, ends: Ends) {
        self.process.holds(&ends.from);
        let hello = ToController::Hello {
            version: VERSION,
            release: "simulated".to_owned(),
            instance: self.instance,
        };
        let mut outbox = Outbox::default();
        outbox.message(hello);
        let heard = self.site.nanos();
        let (protocol, ledger) = (InboundProtocol::new(self.limits), Ledger::default());
        self.site.with(|world| world.refusals.link());
        self.session = Some(Session { ends, protocol, ledger, outbox, heard, committed: false });
    }

    /// Listens and speaks; `None` when the link is to end.
    fn converse(&mut self, now: Nanos) -> Option<()> {
        loop {
            let Some(session) = &mut self.session else { return Some(()) };
            if session.outbox.is_clogged() {
                break;
            }
            let message = match session.ends.to.receive() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => return None,
                Ok(bytes) if bytes.is_empty() => return None,
                Ok(bytes) => codec::decode::<ToProber>(&bytes).ok()?,
            };
            session.heard = now;
            session.ledger.hear(&message);
            match session.protocol.handle(message, &mut self.configs) {
                Ok(None) => {}
                Ok(Some(ControllerRequest::ApplySet(set))) => self.put(set, now),
                Ok(Some(ControllerRequest::SetIntervals(paces))) => self.scheduler.set_intervals(&paces, now),
                Err(violation) => {
                    self.site.violated(&format!("maglevd does not keep to the protocol: {violation}"));
                    return None;
                }
            }
        }
        let next = self.next(now);
        let session = self.session.as_mut()?;
        if now.saturating_sub(session.heard) > nanos(PEER_TIMEOUT) {
            return None;
        }
        let (process, from) = (&self.process, &session.ends.from);
        let send = |message: &ToController| {
            if !process.effect() {
                return Err(link::Error::Closed);
            }
            from.send(codec::encode(message)?).map_err(link_error)
        };
        session.outbox.flush(now, next, send).ok()
    }

    fn put(&mut self, set: CheckSet, now: Nanos) {
        if let Some(session) = &mut self.session {
            let is_first = !std::mem::replace(&mut session.committed, true);
            self.site.with(|world| world.committed(&mut session.ledger, &set));
            set.apply(&mut self.scheduler, &mut session.outbox, is_first, now);
        }
    }
}

async fn readable(ends: Option<&Ends>) {
    match ends {
        Some(ends) => ends.to.readable().await,
        None => std::future::pending().await,
    }
}

/// Room for what could not be sent.
async fn writable(session: Option<&Session>) {
    match session.filter(|session| session.outbox.is_behind()) {
        Some(session) => session.ends.from.writable().await,
        None => std::future::pending().await,
    }
}
