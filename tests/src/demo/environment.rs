//! Environment of the demo: VPP, servers, daemons, and a directory with sockets, configuration and logs.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, io, thread};

use anyhow::{Context, bail};
use maglev_proto::v1::maglev_client::MaglevClient;
use maglev_vpp::{ClientOptions, VppClient};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;
use tokio::time::sleep;
use tonic::transport::{Channel, Endpoint};

use super::server::DemoServer;
use maglev_lab::dataplane::{RealVpp, Vpp};
use maglev_lab::programs::program;

/// Timeout for a daemon to start or exit.
const PATIENCE: Duration = Duration::from_secs(10);

/// Number of log lines in an error.
const LOG_TAIL: usize = 20;

/// Servers of [`configuration`]: name, address and pool.
pub const SERVERS: [(&str, Ipv4Addr, &str); 3] = [
    ("web1", Ipv4Addr::new(127, 0, 1, 1), "primary"),
    ("web2", Ipv4Addr::new(127, 0, 1, 2), "primary"),
    ("spare", Ipv4Addr::new(127, 0, 1, 3), "fallback"),
];

/// All programs of the demo. Ended on drop, the daemons first.
pub struct DemoEnvironment {
    maglevd: DemoDaemon,
    /// The demo's own connection to VPP.
    pub vpp: VppClient,
    vpp_process: Vpp,
    /// In the order of [`SERVERS`].
    pub servers: [DemoServer; 3],
    /// Address of maglevd's metrics.
    pub metrics: SocketAddr,
    directory: TempDir,
}

impl DemoEnvironment {
    /// Starts VPP, the servers and the daemons.
    ///
    /// # Errors
    /// If one of them does not start.
    pub async fn start() -> anyhow::Result<Self> {
        let directory = tempfile::Builder::new().prefix("maglev-demo-").tempdir()?;
        let (vpp_process, vpp) = start_vpp().await?;
        let port = free_port(&SERVERS.map(|(_, address, _)| address))?;
        let metrics = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port(&[Ipv4Addr::LOCALHOST])?));
        fs::write(directory.path().join("maglev.yaml"), configuration(port))?;

        let mut servers = SERVERS.map(|(name, address, _)| {
            DemoServer::new((address, port).into(), directory.path().join(format!("{name}.failing")))
        });
        for server in &mut servers {
            server.start().await.with_context(|| server.address.to_string())?;
        }

        let flags = [
            ("--config", directory.path().join("maglev.yaml")),
            ("--grpc-addr", PathBuf::new()),
            ("--grpc-socket", directory.path().join("maglevd.sock")),
            ("--metrics-addr", metrics.to_string().into()),
            ("--vpp-api-addr", vpp_process.api_socket()),
            ("--vpp-stats-addr", vpp_process.stats_socket()),
            ("--state-dir", directory.path().join("state")),
            ("--prober", format!("spawn:{}", program("maglevd-prober")?.display()).into()),
            ("--prober-args", "--targets 127.0.1.0/24".into()),
        ];
        let maglevd = DemoDaemon::start(&program("maglevd")?, &flags, directory.path().join("maglevd.log"))?;
        Ok(Self { maglevd, vpp, vpp_process, servers, metrics, directory })
    }

    /// Returns the working directory.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// True if VPP is the simulator.
    #[must_use]
    pub const fn vpp_is_simulated(&self) -> bool {
        self.vpp_process.sim().is_some()
    }

    /// Returns the process id of maglevd.
    #[must_use]
    pub fn maglevd(&self) -> u32 {
        self.maglevd.process.id()
    }

    /// Returns the end of maglevd's log.
    #[must_use]
    pub fn log_tail(&self) -> String {
        self.maglevd.log_tail()
    }

    /// Connects to maglevd once it listens.
    ///
    /// # Errors
    /// If it exits or does not listen.
    pub async fn connect(&mut self) -> anyhow::Result<MaglevClient<Channel>> {
        let endpoint =
            Endpoint::from_shared(format!("unix:{}", self.directory().join("maglevd.sock").display()))?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            match endpoint.connect().await {
                Ok(channel) => return Ok(MaglevClient::new(channel)),
                Err(error) if Instant::now() > deadline => {
                    return Err(error).context("maglevd does not listen");
                }
                Err(_) => self.maglevd.check()?,
            }
            sleep(Duration::from_millis(20)).await;
        }
    }
}

/// A child process, terminated on drop, and killed if that fails.
struct DemoDaemon {
    process: Child,
    log: PathBuf,
}

impl DemoDaemon {
    fn start(program: &Path, flags: &[(&str, PathBuf)], log: PathBuf) -> anyhow::Result<Self> {
        let file = File::create(&log)?;
        let mut command = Command::new(program);
        for (flag, value) in flags {
            command.arg(flag).arg(value);
        }
        // Its own process group, so that Ctrl-C reaches only the demo, which ends the others in order.
        command.process_group(0);
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let process = command.spawn().with_context(|| program.display().to_string())?;
        Ok(Self { process, log })
    }

    /// Fails if the process has exited.
    fn check(&mut self) -> anyhow::Result<()> {
        if let Some(status) = self.process.try_wait()? {
            bail!("maglevd has ended, {status}:\n{}", self.log_tail());
        }
        Ok(())
    }

    fn log_tail(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(LOG_TAIL)..].join("\n")
    }
}

impl Drop for DemoDaemon {
    fn drop(&mut self) {
        // Errors mean that the process has exited.
        if let Ok(pid) = i32::try_from(self.process.id()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        let deadline = Instant::now() + PATIENCE;
        while matches!(self.process.try_wait(), Ok(None)) && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(10));
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Starts the VPP of this machine if it is suitable, or else the simulator.
async fn start_vpp() -> anyhow::Result<(Vpp, VppClient)> {
    if let Some(binary) = RealVpp::binary().or_else(|| in_path("vpp")) {
        match connect(Vpp::real(&binary)).await {
            Ok(found) => return Ok(found),
            Err(cause) => println!("{} is unsuitable: {cause:#}", binary.display()),
        }
    }
    connect(Vpp::simulated()).await
}

async fn connect(started: io::Result<Vpp>) -> anyhow::Result<(Vpp, VppClient)> {
    let vpp = started?;
    let client = VppClient::connect(vpp.api_socket(), "maglev-demo", ClientOptions::default()).await?;
    Ok((vpp, client))
}

fn in_path(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|directory| directory.join(program)).find(|file| file.is_file())
}

/// Returns a port that is free on all these addresses.
fn free_port(addresses: &[Ipv4Addr]) -> anyhow::Result<u16> {
    for _ in 0..100 {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        if addresses.iter().all(|&address| TcpListener::bind((address, port)).is_ok()) {
            return Ok(port);
        }
    }
    bail!("no port is free on all of {addresses:?}");
}

fn configuration(port: u16) -> String {
    format!(
        "maglev:
  vpp:
    lb: {{ ipv4-src-address: 192.0.2.1 }}
  healthchecks:
    web: {{ type: http, port: {port}, interval: 200ms, timeout: 1s, rise: 2, fall: 3 }}
  backends:
    web1: {{ address: 127.0.1.1, healthcheck: web }}
    web2: {{ address: 127.0.1.2, healthcheck: web }}
    spare: {{ address: 127.0.1.3, healthcheck: web }}
  frontends:
    web:
      address: 192.0.2.80
      protocol: tcp
      port: 80
      pools:
        - {{ name: primary, backends: {{ web1: {{ weight: 100 }}, web2: {{ weight: 50 }} }} }}
        - {{ name: fallback, backends: {{ spare: {{ weight: 100 }} }} }}
"
    )
}
