//! A prober for `maglevd` whose outcomes a test scripts.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use maglev_ipc::message::{HEARTBEAT_INTERVAL, MAX_BATCH};
use maglev_ipc::{
    CheckId, Outcome, OutcomeCode, OutcomeDetail, ProberStats, ToController, ToProber, VERSION,
};
use maglev_ipc_link::{Error, ProberSocket};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket};
use nix::time::{ClockId, clock_gettime};

use super::shared_value::SharedValue;

/// A prober that sends no probes. Ended on drop.
pub struct ScriptedProber {
    state: Arc<SharedValue<ProberState>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct ProberState {
    /// Link to the current controller.
    link: Option<Arc<ProberSocket>>,
    /// Checks by target, possibly incomplete while a set is being received.
    checks: BTreeMap<IpAddr, CheckId>,
    /// True if the set is complete.
    in_force: bool,
    seq: u64,
    ended: bool,
}

impl ScriptedProber {
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
        let state = Arc::new(SharedValue::new(ProberState::default()));
        let served = Arc::clone(&state);
        Self { state, thread: Some(thread::spawn(move || serve(&listener, &served))) }
    }

    /// Waits until a controller has set checks for `count` targets.
    ///
    /// # Panics
    /// On timeout.
    pub fn until_checks(&self, count: usize) {
        let asked = self.state.wait_for(|s| (s.in_force && s.checks.len() == count).then_some(()));
        let seen = || self.state.read(|state| (state.in_force, state.checks.len()));
        assert!(asked.is_some(), "no checks for {count} targets; (in force, targets): {:?}", seen());
    }

    /// Reports one outcome with `code` for each target, in order.
    ///
    /// # Panics
    /// If a target has no check or no controller is connected.
    pub fn report(&self, targets: impl IntoIterator<Item = IpAddr>, code: OutcomeCode) {
        let (link, outcomes) = self.state.update(|state| {
            let link = state.link.clone().expect("no controller is connected");
            let outcome = |target| state.outcome(target, code);
            (link, targets.into_iter().map(outcome).collect::<Vec<_>>())
        });
        for batch in outcomes.chunks(MAX_BATCH) {
            send(&link, &ToController::Outcomes(batch.to_vec()));
        }
    }
}

impl ProberState {
    fn outcome(&mut self, target: IpAddr, code: OutcomeCode) -> Outcome {
        self.seq += 1;
        let now = Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC).unwrap());
        Outcome {
            check: *self.checks.get(&target).unwrap_or_else(|| panic!("{target} has no check")),
            seq: self.seq,
            started: now.as_nanos() as u64,
            duration: Duration::from_micros(100),
            code,
            detail: OutcomeDetail::None,
            timeout: None,
            not_after: None,
            has_no_route: false,
        }
    }
}

impl Drop for ScriptedProber {
    fn drop(&mut self) {
        self.state.update(|state| state.ended = true);
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has already failed the test.
            _ = thread.join();
        }
    }
}

/// Poll interval in milliseconds, and so the maximum delay of shutdown.
const POLL_MS: u8 = 50;

/// Serves controllers in turn.
fn serve(listener: &UnixListener, state: &SharedValue<ProberState>) {
    while !state.read(|state| state.ended) {
        if is_ready(listener, PollFlags::POLLIN)
            && let Ok((controller, _)) = listener.accept()
        {
            serve_controller(controller.into(), state);
            state.update(|state| {
                *state = ProberState { seq: state.seq, ended: state.ended, ..ProberState::default() }
            });
        }
    }
}

/// Serves one controller until it disconnects.
fn serve_controller(controller: OwnedFd, state: &SharedValue<ProberState>) {
    let link = Arc::new(ProberSocket::new(controller.try_clone().unwrap()).unwrap());
    let mut receiver = ProberSocket::new(controller).unwrap();
    send(&link, &ToController::Hello { version: VERSION, release: "lab".to_owned(), instance: 1 });
    state.update(|state| state.link = Some(Arc::clone(&link)));
    let mut beat = Instant::now();
    while !state.read(|state| state.ended) {
        if beat.elapsed() > HEARTBEAT_INTERVAL {
            beat = Instant::now();
            send(&link, &ToController::Heartbeat(ProberStats::default()));
        }
        match receiver.receive() {
            Ok(message) => apply(&link, state, message),
            Err(Error::WouldBlock) => _ = is_ready(&receiver, PollFlags::POLLIN),
            Err(_) => return,
        }
    }
}

fn apply(link: &ProberSocket, state: &SharedValue<ProberState>, message: ToProber) {
    match message {
        ToProber::Begin { .. } => state.update(|state| {
            state.checks.clear();
            state.in_force = false;
        }),
        ToProber::Checks(checks) => state.update(|state| {
            state.checks.extend(checks.into_iter().map(|(id, _, check)| (check.target, id)));
        }),
        ToProber::Amend { .. } => state.update(|state| state.in_force = false),
        ToProber::Drop(ids) => state.update(|state| state.checks.retain(|_, id| !ids.contains(id))),
        ToProber::Commit { generation } => {
            send(link, &ToController::Committed { generation });
            state.update(|state| state.in_force = true);
        }
        ToProber::Hello { .. }
        | ToProber::Bundle { .. }
        | ToProber::SetIntervals(_)
        | ToProber::Heartbeat => {}
    }
}

/// Sends a message, waiting while the socket is full. Ignores a lost controller.
fn send(link: &ProberSocket, message: &ToController) {
    while let Err(Error::WouldBlock) = link.send(message) {
        is_ready(link, PollFlags::POLLOUT);
    }
}

/// True if the descriptor becomes ready within the poll interval.
fn is_ready(what: &impl AsFd, how: PollFlags) -> bool {
    let mut fds = [PollFd::new(what.as_fd(), how)];
    poll(&mut fds, PollTimeout::from(POLL_MS)).is_ok_and(|ready| ready > 0)
}
