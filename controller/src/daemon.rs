//! Daemon: start-up sequence, signals and shutdown.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use maglev_core::config::Config;
use maglev_core::overrides::Overrides;
use maglev_core::ownership::OwnedVips;
use maglev_notify::{NotifyState, ServiceNotifier};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, Signal};
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::access::AccessControl;
use crate::flags::{DEFAULT_GRPC_SOCKET, Flags, OnOff, ProberAddress};
use crate::grpc::ApiServer;
use crate::handle::Handle;
use crate::listen::{self, InheritedSockets, Listener};
use crate::metrics::{self, HostNames, Metrics};
use crate::overrides::{self, OverrideStore};
use crate::ownership::OwnershipStore;
use crate::prober::ProberConnector;
use crate::reload::{Reloader, warn_about};
use crate::service_manager::DriverStatus;
use crate::spawner::ProberSpawner;
use crate::task_thread::{TaskThread, build_runtime};
use crate::tasks::{self, Environment, TaskConfig};
use crate::{clock, config, grpc, log, ownership, privilege, root, version};

/// Requested limit of descriptors: some thousand connections, and the rest.
const MAX_DESCRIPTORS: u64 = 65_536;

/// Maximum number of threads for blocking work of TCP clients, and of users of the unix socket. Further work waits.
const CLIENT_THREADS: usize = 16;

/// Maximum number of threads for blocking work of the driver, the links and the writers.
const DECISION_THREADS: usize = 64;

/// Maximum time for tasks to end.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// Everything prepared while there is one thread: the sandbox confines only the calling thread and its children.
struct PreparedDaemon {
    config: Arc<Config>,
    access: AccessControl,
    metrics: Arc<Metrics>,
    grpc_listeners: Vec<Listener>,
    metrics_listeners: Vec<Listener>,
    log_broadcast: log::LogBroadcast,
    prober: ProberConnector,
    store: Option<OverrideStore<overrides::SystemDisk>>,
    overrides: Arc<Overrides>,
    ownership: Option<OwnershipStore<overrides::SystemDisk>>,
    owned_vips: OwnedVips,
}

/// Runs `maglevd` until a signal ends it.
///
/// # Errors
/// Start-up failure: an invalid configuration ([`config::LoadError`]) or an unusable address.
pub fn run(flags: &Flags) -> anyhow::Result<()> {
    // Block signals until handlers exist: by default SIGHUP would kill the process, and PID 1 of a container would
    // ignore it.
    handled_signals().thread_block()?;
    let ready = prepare(flags)?;
    confine(flags, matches!(ready.prober, ProberConnector::Spawner(_)))?;
    // Two workers and few threads for work that blocks: TCP clients get no more. Decisions and the unix socket have threads of
    // their own.
    let runtime = build_runtime(Builder::new_multi_thread().worker_threads(2), CLIENT_THREADS)?;
    let result = runtime.block_on(serve(flags, ready));
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}

fn prepare(flags: &Flags) -> anyhow::Result<PreparedDaemon> {
    let loaded = config::load(&flags.config)?;
    raise_descriptor_limit();
    let log_broadcast = log::init(&flags.log_level, flags.log_format);
    let (grpc_listeners, metrics_listeners) = listeners(flags)?;
    info!(version = version::VERSION, config = %flags.config.display(), "maglevd starts");
    warn_about(&loaded);
    let address = flags.prober(loaded.config.netns.as_deref());
    let prober = match &address {
        ProberAddress::Socket(path) => ProberConnector::Socket(path.clone()),
        ProberAddress::Spawn(program) => {
            ProberConnector::Spawner(Arc::new(ProberSpawner::begin(program, flags)?))
        }
    };
    root::leave(flags, &address)?;
    let (store, overrides) = overrides::open(overrides::SystemDisk::default(), flags.state_dir())?;
    // Without VPP, the file of a run with VPP stays as it is.
    let directory = if flags.uses_vpp() { flags.state_dir() } else { PathBuf::new() };
    let (ownership, owned_vips) = ownership::open(overrides::SystemDisk::default(), directory);
    let metrics = Arc::new(Metrics::new()?);
    metrics.record_load(clock::now());
    let access = AccessControl::new(&loaded, Arc::clone(&metrics));
    let config = Arc::new(loaded.config);
    Ok(PreparedDaemon {
        config,
        access,
        metrics,
        grpc_listeners,
        metrics_listeners,
        log_broadcast,
        prober,
        store,
        overrides,
        ownership,
        owned_vips,
    })
}

/// Drops privilege and enters the sandbox. No unconfined code reads external input after this.
fn confine(flags: &Flags, spawns: bool) -> anyhow::Result<()> {
    privilege::drop_all().context("privilege")?;
    let state_dir = flags.state_dir();
    let state_dir = (!state_dir.as_os_str().is_empty()).then_some(state_dir.as_path());
    match flags.sandbox {
        OnOff::On => log_sandbox(maglev_sandbox::controller::enter(state_dir).context("sandbox")?, spawns),
        OnOff::Off => warn!("sandbox: off, as --sandbox says"),
    }
    Ok(())
}

/// Logs the sandbox in force. Without Landlock, only file permissions separate `maglevd` from the spawner's files in /proc and
/// from other files of its user, so this is a warning where it spawns.
fn log_sandbox(report: maglev_sandbox::SandboxReport, spawns: bool) {
    if report.landlock.is_none() && spawns {
        warn!(
            "sandbox: {report}: only file permissions bound its writes; enable Landlock, or use the unit of systemd"
        );
    } else {
        info!("sandbox: {report}");
    }
}

async fn serve(flags: &Flags, ready: PreparedDaemon) -> anyhow::Result<()> {
    let PreparedDaemon {
        config,
        access,
        metrics,
        grpc_listeners,
        metrics_listeners,
        log_broadcast,
        prober: way,
        store,
        overrides,
        ownership,
        owned_vips,
    } = ready;
    if !grpc_listeners.is_empty() {
        metrics.enable_call_metrics(&grpc::descriptors(flags.reflection))?;
    }
    let notifier = service_notifier();
    let (stop, tasks) = (CancellationToken::new(), JoinSet::new());
    let begin = TaskConfig {
        config,
        overrides,
        owned_vips,
        metrics: Arc::clone(&metrics),
        stats: flags.vpp_stats_addr.clone(),
        driver_status: DriverStatus::new(notifier.clone()),
    };
    let vpp = flags.uses_vpp().then(|| flags.vpp_api_addr.clone());
    let outside = Environment { clock: clock::SystemClock, prober: way, vpp, store, ownership };
    let (handle, decisions) = TaskThread::start("decisions", DECISION_THREADS, |tasks| {
        tasks::start(begin, outside, tasks, stop.clone())
    })?;
    let mut running = ServerTasks { stop, tasks, threads: vec![decisions] };
    let path = flags.config.clone();
    let reloader = Reloader::new(path, handle.clone(), Arc::clone(&metrics), access);
    let api = ApiServer {
        handle: handle.clone(),
        log: log_broadcast,
        reloader: reloader.clone(),
        metrics: Arc::clone(&metrics),
        reflection: flags.reflection,
        connection_limit: grpc::limit_per_listener(grpc_listeners.len()),
    };
    running.serve_api(grpc_listeners, &api)?;
    running.serve_metrics(metrics_listeners, &handle, metrics, flags.metrics_hosts.clone());

    let signals = SignalHandlers::new()?;
    // A snapshot proves that the driver's loop runs.
    let _ = handle.snapshot().await;
    notify(&notifier, &[NotifyState::Ready]);
    signals.wait_for_signals(&reloader, &handle, &notifier).await;

    notify(&notifier, &[NotifyState::Stopping]);
    info!("maglevd stopping; VPP is left unchanged");
    running.end().await;
    Ok(())
}

/// Running tasks.
struct ServerTasks {
    stop: CancellationToken,
    tasks: JoinSet<()>,
    threads: Vec<TaskThread>,
}

impl ServerTasks {
    /// Serves the unix socket on a thread of its own: no TCP client delays an operator on this host.
    fn serve_api(&mut self, listeners: Vec<Listener>, api: &ApiServer) -> anyhow::Result<()> {
        let (unix, tcp): (Vec<_>, Vec<_>) =
            listeners.into_iter().partition(|listener| matches!(listener, Listener::Unix(_)));
        let serve =
            |listeners| log_failure(api.clone().serve(listeners, self.stop.clone().cancelled_owned()));
        let (_, operators) =
            TaskThread::start("operators", CLIENT_THREADS, |tasks| tasks.spawn(serve(unix)))?;
        self.tasks.spawn(serve(tcp));
        self.threads.push(operators);
        Ok(())
    }

    fn serve_metrics(
        &mut self,
        listeners: Vec<Listener>,
        handle: &Handle,
        metrics: Arc<Metrics>,
        hosts: HostNames,
    ) {
        let stopped = self.stop.clone().cancelled_owned();
        self.tasks.spawn(metrics::serve(listeners, handle.clone(), metrics, hosts, stopped));
    }

    async fn end(mut self) {
        self.stop.cancel();
        let ended = async {
            while self.tasks.join_next().await.is_some() {}
            for thread in self.threads {
                thread.join().await;
            }
        };
        if tokio::time::timeout(STOP_TIMEOUT, ended).await.is_err() {
            error!("tasks did not end in time");
        }
    }
}

/// Raises the descriptor limit to one per client. systemd and shells set a low soft limit for programs that use
/// `select`. If this fails, the connection limit is lower.
fn raise_descriptor_limit() {
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard.min(MAX_DESCRIPTORS), hard);
    }
}

/// Returns the listeners for gRPC and metrics. Sockets from systemd take precedence over flags.
fn listeners(flags: &Flags) -> anyhow::Result<(Vec<Listener>, Vec<Listener>)> {
    let InheritedSockets { grpc, metrics } = InheritedSockets::take()?;
    let grpc = if grpc.is_empty() { bind_grpc(flags)? } else { grpc };
    let metrics = if metrics.is_empty() { flags.metrics_addr.bind()? } else { metrics };
    Ok((grpc, metrics))
}

/// Returns the notifier of the service manager. Without one, or after an error, it is inactive.
fn service_notifier() -> ServiceNotifier {
    let notifier = ServiceNotifier::from_env();
    notifier
        .inspect_err(|error| warn!(%error, "cannot open a socket to the service manager"))
        .unwrap_or_default()
}

fn notify(notifier: &ServiceNotifier, states: &[NotifyState<'_>]) {
    if let Err(error) = notifier.notify_once(states) {
        warn!(%error, "cannot notify the service manager");
    }
}

/// Reloads the configuration, and notifies the service manager of the start and the end.
async fn reload(reloader: &Reloader, handle: &Handle, notifier: &ServiceNotifier) {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify(notifier, &[NotifyState::Reloading, now]),
        Err(error) => warn!(%error, "cannot read the clock"),
    }
    // The reloader has logged any error.
    let _ = reloader.reload("SIGHUP".into(), false).await;
    // Requests are handled in order, so this one completes after the reload.
    let _ = handle.snapshot().await;
    notify(notifier, &[NotifyState::Ready]);
}

fn bind_grpc(flags: &Flags) -> anyhow::Result<Vec<Listener>> {
    let mut listeners = flags.grpc_addr.bind()?;
    let default = Path::new(DEFAULT_GRPC_SOCKET);
    let socket = flags.grpc_socket.as_deref().unwrap_or(default);
    if socket.as_os_str().is_empty() {
        return Ok(listeners);
    }
    create_socket_dir(socket);
    match listen::bind_unix(socket) {
        Ok(listener) => listeners.push(listener),
        // An ordinary user may have no directory in /run, and has asked for none.
        Err(error) if error.is_place_missing() && flags.grpc_socket.is_none() && !listeners.is_empty() => {
            warn!("{error}: only TCP serves gRPC; --grpc-socket names another path");
        }
        Err(error) => return Err(error.into()),
    }
    Ok(listeners)
}

/// Creates the parent directory of a socket, as systemd would. If this fails, binding reports the error.
fn create_socket_dir(socket: &Path) {
    if let Some(directory) = socket.parent() {
        let _ = fs::create_dir(directory);
    }
}

async fn log_failure<E: std::error::Error>(task: impl Future<Output = Result<(), E>>) {
    if let Err(error) = task.await {
        error!(%error, "server failed");
    }
}

fn handled_signals() -> SigSet {
    SigSet::from_iter([Signal::SIGHUP, Signal::SIGTERM, Signal::SIGINT])
}

/// Handlers of the signals.
struct SignalHandlers {
    hangup: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl SignalHandlers {
    fn new() -> anyhow::Result<Self> {
        let signals = Self {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        };
        handled_signals().thread_unblock()?;
        Ok(signals)
    }

    /// Reloads on SIGHUP until SIGTERM or SIGINT.
    async fn wait_for_signals(mut self, reloader: &Reloader, handle: &Handle, notifier: &ServiceNotifier) {
        loop {
            tokio::select! {
                _ = self.hangup.recv() => reload(reloader, handle, notifier).await,
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
            }
        }
    }
}
