//! What the demo runs: VPP, servers, the daemons, and the folder that holds their sockets, configuration and logs.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, io, thread};

use anyhow::{Context, bail};
use maglev_proto::v1::maglev_client::MaglevClient;
use maglev_vpp::{Client, Options};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;
use tokio::time::sleep;
use tonic::transport::{Channel, Endpoint};

use super::server::Server;
use maglev_lab::dataplane::{RealVpp, Vpp};
use maglev_lab::programs::program;

/// How long a daemon may take to start, or to end.
const PATIENCE: Duration = Duration::from_secs(10);

/// How many lines of a log say why something failed.
const LAST_WORDS: usize = 20;

/// The servers, as in [`configuration`]: name, address and pool.
pub const SERVERS: [(&str, Ipv4Addr, &str); 3] = [
    ("web1", Ipv4Addr::new(127, 0, 1, 1), "primary"),
    ("web2", Ipv4Addr::new(127, 0, 1, 2), "primary"),
    ("spare", Ipv4Addr::new(127, 0, 1, 3), "fallback"),
];

/// Everything that runs. It ends when dropped, the daemons first.
pub struct Stage {
    maglevd: Daemon,
    /// The demo's own connection to VPP.
    pub vpp: Client,
    vpp_process: Vpp,
    /// In the order of [`SERVERS`].
    pub servers: [Server; 3],
    /// Where maglevd's metrics are.
    pub metrics: SocketAddr,
    folder: TempDir,
}

impl Stage {
    /// Starts VPP, the servers and the daemons.
    ///
    /// # Errors
    /// One of them does not start.
    pub async fn set() -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("maglev-demo-").tempdir()?;
        let (vpp_process, vpp) = start_vpp().await?;
        let port = free_port(&SERVERS.map(|(_, address, _)| address))?;
        let metrics = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port(&[Ipv4Addr::LOCALHOST])?));
        fs::write(folder.path().join("maglev.yaml"), configuration(port))?;

        let mut servers = SERVERS.map(|(name, address, _)| {
            Server::new((address, port).into(), folder.path().join(format!("{name}.sick")))
        });
        for server in &mut servers {
            server.start().await.with_context(|| server.address.to_string())?;
        }

        let flags = [
            ("--config", folder.path().join("maglev.yaml")),
            ("--grpc-addr", PathBuf::new()),
            ("--grpc-socket", folder.path().join("maglevd.sock")),
            ("--metrics-addr", metrics.to_string().into()),
            ("--vpp-api-addr", vpp_process.api_socket()),
            ("--vpp-stats-addr", vpp_process.stats_socket()),
            ("--state-dir", folder.path().join("state")),
            ("--prober", format!("spawn:{}", program("maglevd-prober")?.display()).into()),
        ];
        let maglevd = Daemon::start(&program("maglevd")?, &flags, folder.path().join("maglevd.log"))?;
        Ok(Self { maglevd, vpp, vpp_process, servers, metrics, folder })
    }

    /// Where everything is.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Whether VPP is not one.
    #[must_use]
    pub const fn vpp_is_simulated(&self) -> bool {
        self.vpp_process.sim().is_some()
    }

    /// The process id of maglevd.
    #[must_use]
    pub fn maglevd(&self) -> u32 {
        self.maglevd.process.id()
    }

    /// The end of maglevd's log.
    #[must_use]
    pub fn last_words(&self) -> String {
        self.maglevd.last_words()
    }

    /// Connects to maglevd as soon as it listens.
    ///
    /// # Errors
    /// It ends, or does not listen.
    pub async fn connect(&mut self) -> anyhow::Result<MaglevClient<Channel>> {
        let endpoint =
            Endpoint::from_shared(format!("unix:{}", self.folder().join("maglevd.sock").display()))?;
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

/// A child process that is asked to end when dropped, and made to if it does not.
struct Daemon {
    process: Child,
    log: PathBuf,
}

impl Daemon {
    fn start(program: &Path, flags: &[(&str, PathBuf)], log: PathBuf) -> anyhow::Result<Self> {
        let file = File::create(&log)?;
        let mut command = Command::new(program);
        for (flag, value) in flags {
            command.arg(flag).arg(value);
        }
        // Ctrl-C is the demo's to hear, and to end the others in order.
        command.process_group(0);
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let process = command.spawn().with_context(|| program.display().to_string())?;
        Ok(Self { process, log })
    }

    /// Fails if it has ended.
    fn check(&mut self) -> anyhow::Result<()> {
        if let Some(status) = self.process.try_wait()? {
            bail!("maglevd has ended, {status}:\n{}", self.last_words());
        }
        Ok(())
    }

    fn last_words(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(LAST_WORDS)..].join("\n")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Failures mean that it has ended already.
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

/// The VPP of this machine if it will do, else the simulator.
async fn start_vpp() -> anyhow::Result<(Vpp, Client)> {
    if let Some(binary) = RealVpp::binary().or_else(|| in_path("vpp")) {
        match connect(Vpp::real(&binary)).await {
            Ok(found) => return Ok(found),
            Err(why) => println!("{} will not do: {why:#}", binary.display()),
        }
    }
    connect(Vpp::simulated()).await
}

async fn connect(started: io::Result<Vpp>) -> anyhow::Result<(Vpp, Client)> {
    let vpp = started?;
    let client = Client::connect(vpp.api_socket(), "maglev-demo", Options::default()).await?;
    Ok((vpp, client))
}

fn in_path(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
}

/// A port that is free on all those addresses.
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
