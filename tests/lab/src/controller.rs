//! A controller of a prober, scripted by a test.

use std::net::IpAddr;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

use maglev_ipc::message::HEARTBEAT_INTERVAL;
use maglev_ipc::{
    Check, CheckId, ConnectMode, HttpCheck, Outcome, ProbeKind, ProbeTimeout, ProberStats, TlsHandshake,
    TlsVerify, ToController, ToProber, VERSION,
};
use maglev_ipc_link::{ControllerSocket, Error, batch_checks};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::PATIENCE;

/// Interval between probes of one check.
const INTERVAL: Duration = Duration::from_millis(20);
/// ProbeTimeout of probes that are expected to time out. All others use a generous one.
pub const SHORT: ProbeTimeout = ProbeTimeout::Fixed(Duration::from_millis(300));
/// Generous timeout; see [`SHORT`].
const LONG: ProbeTimeout = ProbeTimeout::Fixed(Duration::from_secs(30));

/// A controller with an established session.
pub struct TestController {
    link: ControllerSocket,
    generation: u32,
    last_heartbeat: Instant,
}

impl TestController {
    /// Connects to the prober at `socket`.
    ///
    /// # Panics
    /// If the prober rejects the session.
    #[must_use]
    pub fn connect(socket: &Path) -> Self {
        let link = ControllerSocket::connect(socket).unwrap();
        let mut controller = Self { link, generation: 0, last_heartbeat: Instant::now() };
        controller.send(&ToProber::Hello { version: VERSION, release: "lab".to_owned() });
        controller.receive_until("the hello", |message| {
            matches!(message, ToController::Hello { .. }).then_some(())
        });
        controller
    }

    /// Returns the first outcome of `check`, such as `L7STS HTTP 503`.
    pub fn verdict(&mut self, check: Check) -> String {
        self.outcomes(check, 1).remove(0)
    }

    /// Returns the first `count` outcomes of `check`.
    pub fn outcomes(&mut self, check: Check, count: usize) -> Vec<String> {
        let mut seen = Vec::new();
        let id = self.replace(check, &[]);
        self.receive_until("outcomes", |message| {
            if let ToController::Outcomes(outcomes) = message {
                seen.extend(
                    outcomes
                        .iter()
                        .filter(|outcome| outcome.check == id && is_prompt(outcome))
                        .map(outcome_text),
                );
            }
            (seen.len() >= count).then_some(())
        });
        seen.truncate(count);
        seen
    }

    /// Returns at least `count` more outcomes of the current check.
    pub fn more(&mut self, count: usize) -> Vec<String> {
        let (id, mut seen) = (CheckId(self.generation), Vec::new());
        self.receive_until("more outcomes", |message| {
            if let ToController::Outcomes(outcomes) = message {
                seen.extend(
                    outcomes
                        .iter()
                        .filter(|outcome| outcome.check == id && is_prompt(outcome))
                        .map(outcome_text),
                );
            }
            (seen.len() >= count).then_some(())
        });
        seen
    }

    /// Same as [`Self::verdict`], with TLS verified against `roots`, in PEM.
    pub fn verdict_with_roots(&mut self, check: Check, roots: &str) -> String {
        let id = self.replace(check, roots.as_bytes());
        self.receive_until("an outcome", |message| match message {
            ToController::Outcomes(outcomes) => {
                outcomes.iter().find(|outcome| outcome.check == id && is_prompt(outcome)).map(outcome_text)
            }
            _ => None,
        })
    }

    /// Waits until the prober's counters satisfy `wanted`, and returns them.
    pub fn stats(&mut self, wanted: impl Fn(&ProberStats) -> bool) -> ProberStats {
        self.receive_until("counters", |message| match message {
            ToController::Heartbeat(stats) if wanted(stats) => Some(*stats),
            _ => None,
        })
    }

    /// Returns the start times of the first probes of `checks` in nanoseconds, ascending.
    pub fn first_starts(&mut self, interval: Duration, checks: impl Iterator<Item = Check>) -> Vec<u64> {
        let mut starts = self.firsts(interval, checks, |outcome| outcome.started);
        starts.sort_unstable();
        starts
    }

    /// Returns the first outcomes of `checks` in arbitrary order.
    pub fn first_verdicts(&mut self, interval: Duration, checks: impl Iterator<Item = Check>) -> Vec<String> {
        self.firsts(interval, checks, outcome_text)
    }

    fn firsts<T>(
        &mut self,
        interval: Duration,
        checks: impl Iterator<Item = Check>,
        told: impl Fn(&Outcome) -> T,
    ) -> Vec<T> {
        self.generation += 1;
        let generation = self.generation.into();
        self.send(&ToProber::Begin { generation });
        let checks: Vec<_> =
            (1..).map(CheckId).zip(checks).map(|(id, check)| (id, interval.into(), check)).collect();
        let count = checks.len();
        batch_checks(checks).for_each(|message| self.send(&message));
        self.send(&ToProber::Commit { generation });
        let mut firsts = Vec::new();
        self.receive_until("an outcome of each check", |message| {
            if let ToController::Outcomes(outcomes) = message {
                firsts.extend(outcomes.iter().filter(|outcome| outcome.seq == 1).map(&told));
            }
            (firsts.len() == count).then_some(())
        });
        firsts
    }

    /// Replaces all checks by one and waits until it is in force. The set is emptied first, so that an equal check starts
    /// afresh.
    fn replace(&mut self, check: Check, roots: &[u8]) -> CheckId {
        self.commit(|_, _| ());
        self.commit(|controller, id| {
            if !roots.is_empty() {
                controller.send(&ToProber::Bundle { id: ROOTS, pem: roots.to_vec() });
            }
            controller.send(&ToProber::Checks(vec![(id, INTERVAL.into(), check)]));
        })
    }

    fn commit(&mut self, send_checks: impl FnOnce(&Self, CheckId)) -> CheckId {
        self.generation += 1;
        let (id, generation) = (CheckId(self.generation), self.generation.into());
        self.send(&ToProber::Begin { generation });
        send_checks(self, id);
        self.send(&ToProber::Commit { generation });
        self.receive_until("the commit", |message| match message {
            ToController::Committed { generation: committed } => (*committed == generation).then_some(()),
            ToController::Rejected { reason, .. } => panic!("the prober rejected the check: {reason}"),
            _ => None,
        });
        id
    }

    fn send(&self, message: &ToProber) {
        while let Err(error) = self.link.send(message) {
            assert!(matches!(error, Error::WouldBlock), "the link was lost: {error}");
            self.wait(PollFlags::POLLOUT);
        }
    }

    /// Receives messages until `find` returns a value.
    fn receive_until<T>(&mut self, what: &str, mut find: impl FnMut(&ToController) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        let mut last = None;
        while Instant::now() < deadline {
            if self.last_heartbeat.elapsed() > HEARTBEAT_INTERVAL {
                self.last_heartbeat = Instant::now();
                self.send(&ToProber::Heartbeat);
            }
            match self.link.receive() {
                Ok(message) => match find(&message) {
                    Some(found) => return found,
                    None => last = Some(message),
                },
                Err(Error::WouldBlock) => self.wait(PollFlags::POLLIN),
                Err(error) => panic!("link lost while waiting for {what}: {error}"),
            }
        }
        panic!("timed out waiting for {what}; last message: {last:?}")
    }

    fn wait(&self, event: PollFlags) {
        let mut fds = [PollFd::new(self.link.as_fd(), event)];
        poll(&mut fds, PollTimeout::from(100_u8)).unwrap();
    }
}

/// Id of the only bundle.
const ROOTS: u32 = 1;

/// The roots that [`TestController::verdict_with_roots`] sends.
pub const GIVEN_ROOTS: TlsVerify = TlsVerify::Bundle(ROOTS);

/// Returns a check with a generous timeout.
#[must_use]
pub const fn check(target: IpAddr, probe: ProbeKind) -> Check {
    Check { target, source: None, timeout: LONG, fast_interval: INTERVAL, probe }
}

/// Returns a TCP probe of `port`.
#[must_use]
pub const fn tcp(port: u16) -> ProbeKind {
    ProbeKind::Tcp { port, mode: ConnectMode::Full, tls: None }
}

/// Returns an HTTP probe of `path` that expects 200.
#[must_use]
pub fn http(port: u16, path: &str) -> ProbeKind {
    ProbeKind::Http { port, http: get(path), tls: None }
}

/// Returns an HTTPS probe of a server that must prove to be `name`.
#[must_use]
pub fn https(port: u16, name: &str, verify: TlsVerify) -> ProbeKind {
    let tls = TlsHandshake { server_name: name.to_owned(), verify };
    ProbeKind::Http { port, http: get("/"), tls: Some(tls) }
}

/// Returns a TLS handshake for `name`, without a request.
#[must_use]
pub fn tcp_tls(port: u16, name: &str, verify: TlsVerify) -> ProbeKind {
    let tls = TlsHandshake { server_name: name.to_owned(), verify };
    ProbeKind::Tcp { port, mode: ConnectMode::Full, tls: Some(tls) }
}

/// Returns a `GET` of `path` that expects 200.
#[must_use]
pub fn get(path: &str) -> HttpCheck {
    HttpCheck {
        path: path.to_owned(),
        host: "lab".to_owned(),
        codes: vec![(200, 200)],
        body: None,
        keep_alive: None,
    }
}

/// False for outcomes that report a stopped prober. A busy host may cause them in any test.
fn is_prompt(outcome: &Outcome) -> bool {
    outcome.detail.to_string() != "prober stalled on this host"
}

fn outcome_text(outcome: &Outcome) -> String {
    format!("{} {}", outcome.code, outcome.detail).trim_end().to_owned()
}
