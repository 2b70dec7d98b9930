//! A prober for `maglevd` whose outcomes a test scripts.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use maglev_ipc::link::Error;
use maglev_ipc::message::{HEARTBEAT_INTERVAL, MAX_BATCH};
use maglev_ipc::{
    CheckId, Outcome, OutcomeCode, OutcomeDetail, ProberLink, ProberStats, ToController, ToProber, VERSION,
};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket};
use nix::time::{ClockId, clock_gettime};

use super::shared_value::Shared;

/// A prober that sends no probes. Ended on drop.
pub struct Prober {
    state: Arc<Shared<State>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct State {
    /// Link to the current controller.
    link: Option<Arc<ProberLink>>,
    /// Checks by target, possibly incomplete while a set is being received.
    checks: BTreeMap<IpAddr, CheckId>,
    /// True if the set is complete.
    in_force: bool,
    seq: u64,
    ended: bool,
}

impl Prober {
    /// Listens at `socket`.
    ///
    /// # Panics
    /// If that fails.
    #[must_use]
    pub fn listen(path: &Path) -> Self {
        let listener =
            socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None).unwrap();
        bind(listener.as_raw_fd(), &UnixAddr::new(path).unwrap()).unwrap();
        listen(&listener, Backlog::new(1).unwrap()).unwrap();
        let listener = UnixListener::from(listener);
        let state = Arc::new(Shared::new(State::default()));
        let served = Arc::clone(&state);
        Self { state, thread: Some(thread::spawn(move || serve(&listener, &served))) }
    }

    /// Waits until a controller has set checks for `count` targets.
    ///
    /// # Panics
    /// On timeout.
    pub fn until_asked(&self, count: usize) {
        let asked = self.state.wait_for(|s| (s.in_force && s.checks.len() == count).then_some(()));
        let seen = || self.state.look(|state| (state.in_force, state.checks.len()));
        assert!(asked.is_some(), "{count} targets were to be probed; (in force, targets): {:?}", seen());
    }

    /// Reports one outcome with `code` for each target, in order.
    ///
    /// # Panics
    /// If a target has no check or no controller is connected.
    pub fn say(&self, targets: impl IntoIterator<Item = IpAddr>, code: Code) {
        let (link, outcomes) = self.state.change(|state| {
            let link = state.link.clone().expect("there is no controller");
            let outcome = |target| state.outcome(target, code);
            (link, targets.into_iter().map(outcome).collect::<Vec<_>>())
        });
        for batch in outcomes.chunks(MAX_BATCH) {
            send(&link, &ToController::Outcomes(batch.to_vec()));
        }
    }
}

impl State {
    fn outcome(&mut self, target: IpAddr, code: OutcomeCode) -> Outcome {
        self.seq += 1;
        let now = Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC).unwrap());
        Outcome {
            check: *self.checks.get(&target).unwrap_or_else(|| panic!("{target} is not to be probed")),
            seq: self.seq,
            started: now.as_nanos() as u64,
            duration: Duration::from_micros(100),
            code,
            detail: OutcomeDetail::None,
            timeout: None,
            not_after: None,
        }
    }
}

impl Drop for Prober {
    fn drop(&mut self) {
        self.state.change(|state| state.ended = true);
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has already failed the test.
            _ = thread.join();
        }
    }
}

/// Poll interval in milliseconds, and so the maximum delay of shutdown.
const GLANCE: u8 = 50;

/// Serves controllers in turn.
fn serve(listener: &UnixListener, state: &Shared<State>) {
    while !state.look(|state| state.ended) {
        if is_ready(listener, PollFlags::POLLIN)
            && let Ok((controller, _)) = listener.accept()
        {
            greet(controller.into(), state);
            state.change(|state| *state = State { seq: state.seq, ended: state.ended, ..State::default() });
        }
    }
}

/// Serves one controller until it disconnects.
fn greet(controller: OwnedFd, state: &Shared<State>) {
    let link = Arc::new(ProberLink::new(controller.try_clone().unwrap()).unwrap());
    let mut ears = ProberLink::new(controller).unwrap();
    send(&link, &ToController::Hello { version: VERSION, release: "lab".to_owned(), instance: 1 });
    state.change(|state| state.link = Some(Arc::clone(&link)));
    let mut beat = Instant::now();
    while !state.look(|state| state.ended) {
        if beat.elapsed() > HEARTBEAT_INTERVAL {
            beat = Instant::now();
            send(&link, &ToController::Heartbeat(ProberStats::default()));
        }
        match ears.receive() {
            Ok(message) => obey(&link, state, message),
            Err(Error::WouldBlock) => _ = is_ready(&ears, PollFlags::POLLIN),
            Err(_) => return,
        }
    }
}

fn obey(link: &ProberLink, state: &Shared<State>, message: ToProber) {
    match message {
        ToProber::Begin { .. } => state.change(|state| {
            state.checks.clear();
            state.in_force = false;
        }),
        ToProber::Checks(checks) => state.change(|state| {
            state.checks.extend(checks.into_iter().map(|(id, _, check)| (check.target, id)));
        }),
        ToProber::Amend { .. } => state.change(|state| state.in_force = false),
        ToProber::Drop(ids) => state.change(|state| state.checks.retain(|_, id| !ids.contains(id))),
        ToProber::Commit { generation } => {
            send(link, &ToController::Committed { generation });
            state.change(|state| state.in_force = true);
        }
        ToProber::Hello { .. }
        | ToProber::Bundle { .. }
        | ToProber::SetIntervals(_)
        | ToProber::Heartbeat => {}
    }
}

/// Sends a message, waiting while the socket is full. Ignores a lost controller.
fn send(link: &ProberLink, message: &ToController) {
    while let Err(Error::WouldBlock) = link.send(message) {
        is_ready(link, PollFlags::POLLOUT);
    }
}

/// True if the descriptor becomes ready within the poll interval.
fn is_ready(what: &impl AsFd, how: PollFlags) -> bool {
    let mut fds = [PollFd::new(what.as_fd(), how)];
    poll(&mut fds, PollTimeout::from(GLANCE)).is_ok_and(|ready| ready > 0)
}
