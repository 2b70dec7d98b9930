//! `maglevd` as a process, with a client of its API.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use maglev_proto::v1::maglev_client::MaglevClient;
use maglev_proto::v1::watch_events_response::Event;
use maglev_proto::v1::{
    Backend, BackendState, EventKind, Frontend, GetBackendRequest, GetFrontendRequest, MassFailureResult,
    Transition, WatchEventsRequest, WatchEventsResponse,
};
use nix::sys::signal::Signal;
use tokio::runtime::{self, Runtime};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tonic::Streaming;
use tonic::transport::{Channel, Endpoint};

use super::PATIENCE;
use super::process::Process;
use super::test_dir::{LOOPBACK_TOO, TestDir};
use crate::dataplane::Vpp;
use crate::programs::program;

/// Number of recent events that a failing test prints.
const TAIL: usize = 40;

/// A running `maglevd`. Killed on drop.
pub struct Maglevd {
    /// Process.
    pub process: Process,
    /// Client of its API.
    pub client: MaglevClient<Channel>,
    socket: PathBuf,
    events: Streaming<WatchEventsResponse>,
    backends: BTreeMap<String, BackendState>,
    prober: Option<bool>,
    vpp: Option<bool>,
    mass_failures: Vec<MassFailureResult>,
    local_faults: Vec<bool>,
    recent: VecDeque<WatchEventsResponse>,
    runtime: Runtime,
}

/// Flags and environment of a `maglevd` to start.
pub struct MaglevdSetup<'a> {
    dir: &'a TestDir,
    flags: BTreeMap<&'static str, String>,
    environment: BTreeMap<&'static str, String>,
    program: PathBuf,
    wrapper: Vec<String>,
}

impl<'a> MaglevdSetup<'a> {
    /// Prepares a start with `config` and the prober at `prober.sock` in `dir`, without VPP and without TCP addresses.
    ///
    /// # Panics
    /// If that fails.
    #[must_use]
    pub fn new(dir: &'a TestDir, config: &str) -> Self {
        let (flags, environment) = (BTreeMap::new(), BTreeMap::new());
        Self { dir, flags, environment, program: program("maglevd").unwrap(), wrapper: Vec::new() }
            .flag("--config", dir.write("maglev.yaml", config).display())
            .flag("--grpc-addr", "")
            .flag("--grpc-socket", dir.path("maglevd.sock").display())
            .flag("--metrics-addr", "")
            .flag("--vpp-api-addr", "")
            .flag("--vpp-stats-addr", "")
            .flag("--prober", dir.path("prober.sock").display())
            .flag("--prober-args", format!("--targets {LOOPBACK_TOO}"))
            .flag("--state-dir", dir.path("state").display())
    }

    /// Sets the VPP to program.
    #[must_use]
    pub fn vpp(self, vpp: &Vpp) -> Self {
        let (api, stats) = (vpp.api_socket(), vpp.stats_socket());
        self.flag("--vpp-api-addr", api.display()).flag("--vpp-stats-addr", stats.display())
    }

    /// Sets a flag, replacing an earlier value.
    #[must_use]
    pub fn flag(mut self, name: &'static str, value: impl ToString) -> Self {
        self.flags.insert(name, value.to_string());
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, name: &'static str, value: impl ToString) -> Self {
        self.environment.insert(name, value.to_string());
        self
    }

    /// Sets the program.
    #[must_use]
    pub fn program(self, path: PathBuf) -> Self {
        Self { program: path, ..self }
    }

    /// Starts through these words, which must execute it.
    #[must_use]
    pub fn wrapped(self, wrapper: &[&str]) -> Self {
        Self { wrapper: wrapper.iter().map(|word| (*word).to_owned()).collect(), ..self }
    }

    /// Starts it and waits until its API answers.
    #[must_use]
    pub fn start(self) -> Maglevd {
        let process = self.spawn();
        process.line(0, "maglevd starts");
        Maglevd::attach(process, self.dir.path("maglevd.sock"))
    }

    /// Starts it through `command`, to which the flags are added, and waits until its API answers.
    #[must_use]
    pub fn start_as(self, command: &mut Command) -> Maglevd {
        let process = self.spawn_as(command);
        process.line(0, "maglevd starts");
        Maglevd::attach(process, self.dir.path("maglevd.sock"))
    }

    /// Starts it, expects it to exit, and returns exit status and log.
    #[must_use]
    pub fn start_failing(self) -> (ExitStatus, Vec<String>) {
        let mut process = self.spawn();
        let status = process.end();
        (status, process.lines(0))
    }

    /// Starts it through `command`, to which the flags are added.
    #[must_use]
    pub fn spawn_as(&self, command: &mut Command) -> Process {
        let flags = self.flags.iter().map(|(name, value)| format!("{name}={value}"));
        Process::spawn("maglevd", command.args(flags).envs(&self.environment))
    }

    fn spawn(&self) -> Process {
        let mut command = match self.wrapper.split_first() {
            Some((first, rest)) => {
                let mut command = Command::new(first);
                command.args(rest).arg(&self.program);
                command
            }
            None => Command::new(&self.program),
        };
        self.spawn_as(&mut command)
    }
}

impl Maglevd {
    /// Connects to the API of `process` at `socket`.
    ///
    /// # Panics
    /// If that fails.
    #[must_use]
    pub fn attach(process: Process, socket: PathBuf) -> Self {
        let runtime = runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let kinds = [EventKind::Backend, EventKind::Frontend, EventKind::Vpp].map(|kind| kind as i32);
        let request = WatchEventsRequest { kinds: kinds.to_vec(), ..WatchEventsRequest::default() };
        let (client, events) = runtime.block_on(async {
            let endpoint = Endpoint::from_shared(format!("unix:{}", socket.display())).unwrap();
            let mut client = MaglevClient::new(endpoint.connect().await.unwrap());
            let events = client.watch_events(request).await.unwrap().into_inner();
            (client, events)
        });
        Self {
            process,
            client,
            socket,
            events,
            backends: BTreeMap::new(),
            prober: None,
            vpp: None,
            mass_failures: Vec::new(),
            local_faults: Vec::new(),
            recent: VecDeque::new(),
            runtime,
        }
    }

    /// Returns the path of its API socket.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Waits for a call of [`Self::client`].
    pub fn wait<T>(&self, call: impl Future<Output = T>) -> T {
        self.runtime.block_on(async { timeout(PATIENCE, call).await.unwrap() })
    }

    /// Starts a call of [`Self::client`] in the background.
    pub fn spawn<T: Send + 'static>(&self, call: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
        self.runtime.spawn(call)
    }

    /// Waits until backend `name` is in `state`.
    pub fn until_backend(&mut self, name: &str, state: BackendState) {
        while self.backends.get(name) != Some(&state) {
            self.next(&format!("{name} to be {}", state.as_str_name()));
        }
    }

    /// Waits until all of `names` are up.
    pub fn until_up(&mut self, names: &[&str]) {
        for name in names {
            self.until_backend(name, BackendState::Up);
        }
    }

    /// Waits until the prober is connected or disconnected.
    pub fn until_prober(&mut self, connected: bool) {
        while self.prober != Some(connected) {
            self.next(&format!("the prober to be connected: {connected}"));
        }
    }

    /// Waits until VPP is connected or disconnected.
    pub fn until_vpp(&mut self, connected: bool) {
        while self.vpp != Some(connected) {
            self.next(&format!("VPP to be connected: {connected}"));
        }
    }

    /// Waits for that many changes of VIPs in VPP.
    pub fn until_synced(&mut self, vips: u16) {
        for done in 0..vips {
            self.until(&format!("{vips} VIPs in VPP, of which {done} are"), |event| {
                matches!(event, Event::Sync(_))
            });
        }
    }

    /// Waits for these `mass_failure` events.
    ///
    /// # Panics
    /// Panics if others arrive.
    pub fn until_mass_failures(&mut self, stages: &[MassFailureResult]) {
        while self.mass_failures.len() < stages.len() {
            self.next(&format!("the mass failures {stages:?} after {:?}", self.mass_failures));
        }
        assert_eq!(self.mass_failures, stages);
    }

    /// Waits for these `local_faults` events, each by its field `active`.
    ///
    /// # Panics
    /// Panics if others arrive.
    pub fn until_local_faults(&mut self, active: &[bool]) {
        while self.local_faults.len() < active.len() {
            self.next(&format!("the local faults {active:?} after {:?}", self.local_faults));
        }
        assert_eq!(self.local_faults, active);
    }

    /// Waits for a matching event among those that no earlier wait has consumed.
    pub fn until(&mut self, what: &str, is_it: impl Fn(&Event) -> bool) {
        while !self.next(what).is_some_and(|event| is_it(&event)) {}
    }

    /// Returns a backend's current state.
    ///
    /// # Panics
    /// If it does not exist.
    pub fn backend(&self, name: &str) -> Backend {
        let mut client = self.client.clone();
        let reply = self.wait(client.get_backend(GetBackendRequest { name: name.to_owned() }));
        reply.unwrap().into_inner().backend.unwrap()
    }

    /// Returns a frontend's current state.
    ///
    /// # Panics
    /// If it does not exist.
    pub fn frontend(&self, name: &str) -> Frontend {
        let mut client = self.client.clone();
        let reply = self.wait(client.get_frontend(GetFrontendRequest { name: name.to_owned() }));
        reply.unwrap().into_inner().frontend.unwrap()
    }

    /// Replaces the configuration file and reloads.
    pub fn reload(&mut self, dir: &TestDir, config: &str) {
        dir.write("maglev.yaml", config);
        self.process.signal(Signal::SIGHUP);
        self.until("the new configuration", |event| matches!(event, Event::Reload(_)));
    }

    /// Runs `maglevc` against it.
    ///
    /// # Panics
    /// If `maglevc` is not built.
    #[must_use]
    pub fn maglevc(&self, words: &[&str]) -> std::process::Output {
        let server = format!("unix:{}", self.socket.display());
        let mut command = Command::new(program("maglevc").unwrap());
        command.args(["--server", &server]).args(words).output().unwrap()
    }

    fn next(&mut self, what: &str) -> Option<Event> {
        let next = self.runtime.block_on(async { timeout(PATIENCE, self.events.message()).await });
        let Ok(Ok(Some(response))) = next else {
            panic!("timed out waiting for {what}; received {next:?} after {:#?}", self.recent);
        };
        match &response.event {
            Some(Event::Backend(event)) => {
                let to = event.transition.as_ref().map(Transition::to);
                self.backends.extend(to.map(|state| (event.name.clone(), state)));
            }
            Some(Event::Prober(event)) => self.prober = Some(event.connected),
            Some(Event::Vpp(event)) => self.vpp = Some(event.connected),
            Some(Event::MassFailure(event)) => self.mass_failures.push(event.result()),
            // Each hidden backend has an event as well.
            Some(Event::LocalFaults(event)) if !event.hidden => self.local_faults.push(event.active),
            _ => {}
        }
        if self.recent.len() == TAIL {
            self.recent.pop_front();
        }
        self.recent.push_back(response.clone());
        response.event
    }
}
