//! `maglevd-prober` sends health probes and streams their outcomes to `maglevd`, which makes all decisions.
//!
//! It is the only part of vpp-maglev that reads bytes from backends, and it does so without privilege. `main` opens what
//! needs privilege, drops privilege, enters the sandbox, and only then accepts connections.

use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{ExitCode, exit};

use anyhow::{Context, bail};
use clap::Parser;
use maglev_notify::{NotifyState, ServiceNotifier};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use tracing::{info, warn};

use maglevd_prober::args::{Args, LogEncoding, SandboxMode};
use maglevd_prober::engine::{ControllerEndpoint, Engine, EngineConfig, Exit};
use maglevd_prober::netns::{self, NamespaceWatch};
use maglevd_prober::probe::half_open::SynProber;
use maglevd_prober::probe::icmp::IcmpProber;
use maglevd_prober::probe::ports::ReservedPorts;
use maglevd_prober::probe::tls;
use maglevd_prober::set::ProbeLimits;
use maglevd_prober::{listen, privilege, random};

/// Descriptors that are not available to connections: raw sockets, reserved ports, the link and its successor, epoll,
/// signals, logs.
const RESERVED_DESCRIPTORS: u64 = 64;

fn main() -> ExitCode {
    let args = Args::try_parse().unwrap_or_else(|error| exit_for(&error));
    init_logging(&args);
    match run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("maglevd-prober: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Prints help, the version or an error, and exits. An error is one line, as a `maglevd` that starts probers shows the last one.
fn exit_for(error: &clap::Error) -> ! {
    if error.use_stderr() {
        let text = error.to_string();
        let paragraph =
            text.lines().take_while(|line| !line.is_empty()).map(str::trim).collect::<Vec<_>>().join(" ");
        eprintln!("maglevd-prober: {}", paragraph.trim_start_matches("error: "));
        exit(error.exit_code());
    }
    error.exit()
}

fn run(args: Args) -> anyhow::Result<()> {
    maglev_sandbox::close_inherited().context("inherited descriptors")?;
    // Before anything else, so that no thread is created with signals unblocked.
    let signals = block_signals().context("signals")?;
    let descriptors = raise_descriptor_limit().context("RLIMIT_NOFILE")?;
    let namespace = args.netns.as_deref().map(enter_namespace).transpose()?;
    let ports =
        ReservedPorts::reserve().inspect_err(|error| warn!(%error, "no ports for half-open probes")).ok();
    let icmp_prober = IcmpProber::open(ports.as_ref()).context("raw sockets")?;
    let syn_prober = SynProber::open(ports).context("raw sockets")?;
    for (socket, family) in icmp_prober.sockets().iter().zip(["IPv4", "IPv6"]) {
        if let Err(reason) = socket {
            warn!("no ICMP over {family}: {reason}");
        }
    }
    let configs = load_system_roots();
    let endpoint = open_endpoint(&args)?;
    let seed = u64::from_ne_bytes(random::bytes().context("randomness")?);
    let notifier = service_notifier();
    privilege::drop_all().context("privilege")?;

    let mut engine = Engine::new(EngineConfig {
        endpoint,
        icmp_prober,
        syn_prober,
        configs,
        signals,
        limits: ProbeLimits {
            targets: args.targets,
            max_checks: args.max_checks,
            max_rate: args.max_rate,
            max_rate_per_address: args.max_rate_per_address,
        },
        max_connections: descriptors.saturating_sub(RESERVED_DESCRIPTORS),
        orphan_timeout: args.orphan_timeout,
        namespace,
        notifier: notifier.clone(),
        seed,
    })?;
    match args.sandbox {
        SandboxMode::On => info!("sandbox: {}", maglev_sandbox::prober::enter().context("sandbox")?),
        SandboxMode::Off => warn!("sandbox: off, by --sandbox"),
    }
    info!(version = env!("CARGO_PKG_VERSION"), "ready");
    notify(&notifier, NotifyState::Ready);
    match engine.run().context("epoll")? {
        Exit::Signal => info!("received signal, exiting"),
        Exit::OrphanTimeout => info!("no controller for {:?}, exiting", args.orphan_timeout),
        Exit::ControllerExited => info!("controller exited, exiting"),
        Exit::NamespaceReplaced => {
            let name = args.netns.unwrap_or_default();
            bail!(
                "network namespace {name} was deleted and made anew, exiting: start again to probe from the new one"
            );
        }
    }
    notify(&notifier, NotifyState::Stopping);
    Ok(())
}

/// Returns the notifier of systemd. Without systemd, or after an error, it is inactive.
fn service_notifier() -> ServiceNotifier {
    let notifier = ServiceNotifier::from_env();
    notifier.inspect_err(|error| warn!(%error, "cannot open a socket to systemd")).unwrap_or_default()
}

fn notify(notifier: &ServiceNotifier, state: NotifyState<'_>) {
    if let Err(error) = notifier.notify_once(&[state]) {
        warn!(%error, "cannot notify systemd");
    }
}

fn open_endpoint(args: &Args) -> anyhow::Result<ControllerEndpoint> {
    if args.stdin {
        let socket = io::stdin().as_fd().try_clone_to_owned().context("standard input")?;
        return Ok(ControllerEndpoint::Inherited(socket));
    }
    let listener = match &args.socket {
        Some(path) => listen::bind_path(path).with_context(|| path.display().to_string())?,
        None => {
            listen::from_systemd()?.context("no socket: use --socket, or start by a systemd socket unit")?
        }
    };
    let users = listen::allowed_users(&listener);
    Ok(ControllerEndpoint::Listener(listener, users))
}

fn init_logging(args: &Args) {
    let builder = tracing_subscriber::fmt().with_writer(io::stderr).with_max_level(args.log_level);
    let builder = builder.with_target(false).with_ansi(io::stderr().is_terminal());
    // The journal adds its own timestamps.
    let is_journal = std::env::var_os("JOURNAL_STREAM").is_some();
    match (args.log_format, is_journal) {
        (LogEncoding::Text, false) => builder.init(),
        (LogEncoding::Text, true) => builder.without_time().init(),
        (LogEncoding::Json, false) => builder.json().init(),
        (LogEncoding::Json, true) => builder.json().without_time().init(),
    }
}

fn block_signals() -> nix::Result<SignalFd> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTERM);
    signals.add(Signal::SIGINT);
    signals.thread_block()?;
    SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
}

/// Raises the soft limit to the hard limit, and returns it.
fn raise_descriptor_limit() -> nix::Result<u64> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    Ok(hard)
}

/// Enters a network namespace. Returns a watch on its name, which begins before, so that no change goes unnoticed.
fn enter_namespace(name: &str) -> anyhow::Result<NamespaceWatch> {
    let watch = NamespaceWatch::new(Path::new(netns::NAMES), name);
    let watch = watch.with_context(|| format!("network namespace {name}: {}", netns::NAMES))?;
    netns::enter(name).with_context(|| format!("network namespace {name}"))?;
    Ok(watch)
}

fn load_system_roots() -> tls::TlsConfigs {
    let found = rustls_native_certs::load_native_certs();
    for error in found.errors {
        warn!(%error, "cannot read a root certificate of this host");
    }
    tls::TlsConfigs::new(found.certs)
}
