//! The prober: its scheduler, protocol and outbox are real. The loop around them is simulated, with probe results in place of
//! sockets.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use maglev_ipc::message::{HEARTBEAT_INTERVAL, PEER_TIMEOUT};
use maglev_ipc::{OutcomeCode, ToController, ToProber, VERSION};
use maglev_ipc_link as link;
use maglev_ipc_link::codec;
use maglevd::prober::{ConnectProber, LinkError, MessageTransport};
use maglevd_prober::clock::{Nanos, nanos};
use maglevd_prober::outbox::Outbox;
use maglevd_prober::probe::{ProbePlan, tls};
use maglevd_prober::probe_id::ProbeId;
use maglevd_prober::protocol::{ControllerProtocol, ControllerRequest};
use maglevd_prober::scheduler::{Scheduler, StartResult};
use maglevd_prober::set::{ProbeLimits, ReceivedSet};
use maglevd_prober::targets::Targets;
use maglevd_prober::verdict::Verdict;
use tokio::sync::mpsc;
use tokio::time::sleep_until;

use super::pipe::SimPipe;
use super::process::SimProcess;
use super::rejected_checks::SentChecks;
use super::running::{LinkPipes, RunningProber};
use super::servers::ProbeResult;
use super::simulation::Simulation;

/// Maximum rate of probes per second in the package's unit.
const RATE: u32 = 100_000;
/// Maximum number of messages in flight, as in a socket's buffer.
const ROOM: usize = 128;

impl RunningProber {
    /// Starts a prober.
    pub fn start(sim: &Arc<Simulation>) -> Self {
        let process = SimProcess::new();
        let (endpoint, new_links) = mpsc::unbounded_channel();
        let limits = ProbeLimits {
            targets: Targets::DEFAULT,
            max_checks: sim.with(|world| world.host.max_checks),
            max_rate: RATE,
            max_rate_per_address: 200,
        };
        let prober = SimProber {
            sim: Arc::clone(sim),
            process: Arc::clone(&process),
            new_links,
            session: None,
            scheduler: Scheduler::new(sim.next_seed(), limits.starts(), sim.nanos()),
            limits,
            configs: tls::TlsConfigs::new([]),
            answers: BTreeMap::new(),
            answer_count: 0,
            instance: sim.next_seed(),
            next_beat: sim.nanos(),
        };
        Self { process, endpoint, task: tokio::spawn(prober.run()) }
    }

    /// Kills it.
    pub fn kill(&self) {
        self.process.kill();
        self.task.abort();
    }
}

/// `maglevd`'s way to connect to the running prober.
#[derive(Debug)]
pub struct SimProberConnector {
    /// The simulation.
    pub sim: Arc<Simulation>,
    /// The connecting process.
    pub process: Arc<SimProcess>,
}

impl ConnectProber for SimProberConnector {
    type Transport = SimTransport;

    async fn connect(&self, _: Option<&str>) -> Result<SimTransport, LinkError> {
        let nobody = || {
            let source = link::Error::Io(io::ErrorKind::ConnectionRefused.into());
            LinkError::Connect { path: "prober.sock".into(), source }
        };
        let (to_prober, from_prober) = self.sim.prober_conditions();
        let pipes = LinkPipes {
            to: SimPipe::new(&to_prober, ROOM, self.sim.next_seed()),
            from: SimPipe::new(&from_prober, ROOM, self.sim.next_seed()),
        };
        let endpoint = self.sim.with(|world| world.prober.as_ref().map(|prober| prober.endpoint.clone()));
        endpoint.ok_or_else(nobody)?.send(pipes.clone()).map_err(|_| nobody())?;
        self.process.close_on_exit(Arc::<SimPipe>::clone(&pipes.to));
        self.sim.with(|world| world.prober_link = Some((Arc::clone(&pipes.to), Arc::clone(&pipes.from))));
        Ok(SimTransport { pipes, process: Arc::clone(&self.process) })
    }
}

/// `maglevd`'s end of a link.
#[derive(Debug)]
pub struct SimTransport {
    pipes: LinkPipes,
    process: Arc<SimProcess>,
}

impl Drop for SimTransport {
    fn drop(&mut self) {
        self.pipes.to.close();
        self.pipes.from.cut();
    }
}

fn link_error(error: io::Error) -> link::Error {
    match error.kind() {
        io::ErrorKind::WouldBlock => link::Error::WouldBlock,
        io::ErrorKind::BrokenPipe => link::Error::Closed,
        _ => link::Error::Io(error),
    }
}

impl MessageTransport for SimTransport {
    fn send(&self, message: &ToProber) -> Result<(), link::Error> {
        if !self.process.take_effect() {
            return Err(link::Error::Closed);
        }
        self.pipes.to.send(codec::encode(message)?).map_err(link_error)
    }

    fn receive(&mut self) -> Result<ToController, link::Error> {
        let bytes = self.pipes.from.receive().map_err(link_error)?;
        if bytes.is_empty() { Err(link::Error::Closed) } else { Ok(codec::decode(&bytes)?) }
    }

    async fn readable(&self) -> io::Result<()> {
        self.pipes.from.readable().await;
        Ok(())
    }

    async fn writable(&self) -> io::Result<()> {
        self.pipes.to.writable().await;
        Ok(())
    }
}

/// The state of the prober's loop.
struct SimProber {
    sim: Arc<Simulation>,
    process: Arc<SimProcess>,
    new_links: mpsc::UnboundedReceiver<LinkPipes>,
    session: Option<ProberSession>,
    limits: ProbeLimits,
    scheduler: Scheduler<ProbePlan, ()>,
    configs: tls::TlsConfigs,
    /// Pending results by arrival time.
    answers: BTreeMap<(Nanos, u64), (ProbeId, OutcomeCode)>,
    answer_count: u64,
    instance: u64,
    next_beat: Nanos,
}

struct ProberSession {
    pipes: LinkPipes,
    protocol: ControllerProtocol,
    sent_checks: SentChecks,
    outbox: Outbox,
    heard: Nanos,
    committed: bool,
}

impl Drop for ProberSession {
    fn drop(&mut self) {
        self.pipes.from.close();
        self.pipes.to.cut();
    }
}

impl SimProber {
    async fn run(mut self) {
        while !self.process.has_exited() {
            let now = self.sim.nanos();
            let answer = self.answers.first_key_value().map_or(Nanos::MAX, |((at, _), _)| *at);
            let planned = self.next(now).min(answer);
            let pipes = self.session.as_ref().map(|session| session.pipes.clone());
            tokio::select! {
                biased;
                Some(link) = self.new_links.recv() => self.accept_session(link),
                () = readable(pipes.as_ref()) => {}
                () = writable(self.session.as_ref()) => {}
                () = sleep_until(self.sim.instant(planned)) => {}
            }
            let frozen = self.sim.with(|world| world.prober_frozen_until);
            sleep_until(frozen).await;
            self.run_iteration(planned);
        }
    }

    /// Returns the time of the next work without input.
    fn next(&self, now: Nanos) -> Nanos {
        self.scheduler.next_wakeup(now).min(self.next_beat)
    }

    fn run_iteration(&mut self, planned: Nanos) {
        let now = self.sim.nanos();
        self.scheduler.begin_iteration(planned, now, 0);
        while let Some(entry) = self.answers.first_entry().filter(|entry| entry.key().0 <= now) {
            let (key, code) = entry.remove();
            // A duplicate answer counts once.
            for _ in 0..1 + usize::from(self.sim.one_in(16)) {
                self.scheduler.finish_probe(key, Verdict::from_code(code), now);
            }
        }
        self.scheduler.process_timers(now, |_, (), _| Verdict::from_code(OutcomeCode::L4Tout));
        self.start_probes(now);
        for report in self.scheduler.take_reports() {
            if let Some(session) = self.session.as_mut().filter(|session| session.committed) {
                session.outbox.push_outcome(report);
            }
        }
        if now >= self.next_beat {
            self.next_beat = now + nanos(HEARTBEAT_INTERVAL);
            if let Some(session) = self.session.as_mut().filter(|session| !session.outbox.has_backlog()) {
                session.outbox.push_message(ToController::Heartbeat(*self.scheduler.stats()));
            }
        }
        if self.exchange_messages(now).is_none() {
            self.session = None;
        }
    }

    fn start_probes(&mut self, now: Nanos) {
        loop {
            let (sim, answers, answer_count) = (&self.sim, &mut self.answers, &mut self.answer_count);
            let more = self.scheduler.start_next(now, |key, check, _| match sim.start_probe(check) {
                ProbeResult::Answered(after, code) => {
                    *answer_count += 1;
                    answers.insert((now + nanos(after), *answer_count), (key, code));
                    StartResult::InFlight(())
                }
                ProbeResult::Lost => StartResult::InFlight(()),
                ProbeResult::NotSent | ProbeResult::NoRoute => {
                    let detail = Verdict::new(OutcomeCode::Local, "no route from this host");
                    StartResult::Finished(Verdict { has_no_route: true, ..detail })
                }
            });
            if !more {
                return;
            }
        }
    }

    fn accept_session(&mut self, pipes: LinkPipes) {
        self.process.close_on_exit(Arc::<SimPipe>::clone(&pipes.from));
        let hello = ToController::Hello {
            version: VERSION,
            release: "simulated".to_owned(),
            instance: self.instance,
        };
        let mut outbox = Outbox::default();
        outbox.push_message(hello);
        let heard = self.sim.nanos();
        let (protocol, sent_checks) = (ControllerProtocol::new(self.limits.clone()), SentChecks::default());
        self.sim.with(|world| {
            world.rejected_checks.reset_link();
            world.withdrawn_routes.reset();
        });
        self.session = Some(ProberSession { pipes, protocol, sent_checks, outbox, heard, committed: false });
    }

    /// Exchanges messages. Returns `None` if the link must close.
    fn exchange_messages(&mut self, now: Nanos) -> Option<()> {
        loop {
            let Some(session) = &mut self.session else { return Some(()) };
            if session.outbox.is_over_limit() {
                break;
            }
            let message = match session.pipes.to.receive() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => return None,
                Ok(bytes) if bytes.is_empty() => return None,
                Ok(bytes) => codec::decode::<ToProber>(&bytes).ok()?,
            };
            session.heard = now;
            session.sent_checks.record(&message);
            match session.protocol.handle(message, &mut self.configs) {
                Ok(None) => {}
                Ok(Some(ControllerRequest::ApplySet(set))) => self.apply_set(set, now),
                Ok(Some(ControllerRequest::SetIntervals(paces))) => self.scheduler.set_intervals(&paces, now),
                Err(violation) => {
                    self.sim.report_violation(&format!("maglevd violates the protocol: {violation}"));
                    return None;
                }
            }
        }
        let next = self.next(now);
        let session = self.session.as_mut()?;
        if now.saturating_sub(session.heard) > nanos(PEER_TIMEOUT) {
            return None;
        }
        let (process, from) = (&self.process, &session.pipes.from);
        let send = |message: &ToController| {
            if !process.take_effect() {
                return Err(link::Error::Closed);
            }
            from.send(codec::encode(message)?).map_err(link_error)
        };
        session.outbox.flush(now, next, send).ok()
    }

    fn apply_set(&mut self, set: ReceivedSet, now: Nanos) {
        if let Some(session) = &mut self.session {
            let is_first = !std::mem::replace(&mut session.committed, true);
            self.sim.with(|world| world.on_set_applied(&mut session.sent_checks, &set));
            set.apply(&mut self.scheduler, &mut session.outbox, is_first, now);
        }
    }
}

async fn readable(pipes: Option<&LinkPipes>) {
    match pipes {
        Some(pipes) => pipes.to.readable().await,
        None => std::future::pending().await,
    }
}

/// Waits for room for pending messages.
async fn writable(session: Option<&ProberSession>) {
    match session.filter(|session| session.outbox.has_backlog()) {
        Some(session) => session.pipes.from.writable().await,
        None => std::future::pending().await,
    }
}
