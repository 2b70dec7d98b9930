//! A running dataplane for tests: the simulator, or the real VPP in `VPP_BIN`.
//!
//! `VPP_PLUGIN_PATH` overrides VPP's plugin directory. `LD_LIBRARY_PATH` is passed on.

use std::env;
use std::fs;
use std::io::{self, Error};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use maglev_vppsim::VppSimulator;

/// Timeout for VPP to open its socket or to exit.
const PATIENCE: Duration = Duration::from_secs(20);
/// Plugin under test.
const LB_PLUGIN: &str = "lb_plugin.so";

/// A running dataplane, initially empty. Ended on drop.
pub struct Vpp {
    kind: VppKind,
    dir: TempDir,
}

enum VppKind {
    Simulated(VppSimulator),
    /// A real VPP and its program; `None` between [`Vpp::kill`] and [`Vpp::boot`].
    Real(Option<RealVpp>, PathBuf),
}

impl Vpp {
    /// Starts the real VPP in `VPP_BIN`, or else the simulator.
    ///
    /// # Errors
    /// If it does not start.
    pub fn start() -> io::Result<Self> {
        match RealVpp::binary() {
            Some(binary) => Self::real(&binary),
            None => Self::simulated(),
        }
    }

    /// Starts the simulator.
    ///
    /// # Errors
    /// If it does not start.
    pub fn simulated() -> io::Result<Self> {
        let dir = tempfile::tempdir()?;
        Ok(Self { kind: VppKind::Simulated(VppSimulator::start(dir.path())?), dir })
    }

    /// Starts `binary`.
    ///
    /// # Errors
    /// If it does not start.
    pub fn real(binary: &Path) -> io::Result<Self> {
        Self::real_with(binary, &[LB_PLUGIN])
    }

    /// Starts `binary` with only these plugins.
    ///
    /// # Errors
    /// If it does not start.
    pub fn real_with(binary: &Path, plugins: &[&str]) -> io::Result<Self> {
        let dir = tempfile::tempdir()?;
        let vpp = RealVpp::start(binary, dir.path(), plugins)?;
        Ok(Self { kind: VppKind::Real(Some(vpp), binary.to_owned()), dir })
    }

    /// Returns the path of the API socket.
    #[must_use]
    pub fn api_socket(&self) -> PathBuf {
        self.dir.path().join("api.sock")
    }

    /// Returns the path of the stats socket.
    #[must_use]
    pub fn stats_socket(&self) -> PathBuf {
        self.dir.path().join("stats.sock")
    }

    /// Returns the simulator, or `None` for a real VPP.
    #[must_use]
    pub const fn sim(&self) -> Option<&VppSimulator> {
        match &self.kind {
            VppKind::Simulated(sim) => Some(sim),
            VppKind::Real(..) => None,
        }
    }
}

/// Faults of either kind.
impl Vpp {
    /// Ends VPP like a crash: connections break, and none succeed until [`Self::boot`].
    pub fn kill(&mut self) {
        match &mut self.kind {
            VppKind::Simulated(sim) => sim.kill(),
            VppKind::Real(vpp, _) => {
                if let Some(mut vpp) = vpp.take() {
                    // The process may have exited already.
                    _ = vpp.process.kill();
                }
            }
        }
    }

    /// Starts an empty VPP after [`Self::kill`].
    ///
    /// # Errors
    /// If it does not start.
    pub fn boot(&mut self) -> io::Result<()> {
        match &mut self.kind {
            VppKind::Simulated(sim) => sim.boot(),
            VppKind::Real(vpp, binary) => {
                *vpp = Some(RealVpp::start(binary, self.dir.path(), &[LB_PLUGIN])?);
                Ok(())
            }
        }
    }

    /// Suspends or resumes VPP.
    pub fn hang(&self, hang: bool) {
        match &self.kind {
            VppKind::Simulated(sim) => sim.set_faults(|faults| faults.hang = hang),
            VppKind::Real(vpp, _) => {
                if let Some(vpp) = vpp {
                    vpp.signal(if hang { Signal::SIGSTOP } else { Signal::SIGCONT });
                }
            }
        }
    }
}

/// A real VPP without interfaces and privileges, with the lb plugin at most.
pub struct RealVpp {
    process: Child,
    /// Prefix of its shared memory files, which VPP does not remove.
    segment: String,
}

impl RealVpp {
    /// Returns the program in `VPP_BIN`.
    #[must_use]
    pub fn binary() -> Option<PathBuf> {
        env::var_os("VPP_BIN").filter(|path| !path.is_empty()).map(PathBuf::from)
    }

    fn start(binary: &Path, dir: &Path, plugins: &[&str]) -> io::Result<Self> {
        static STARTED: AtomicU32 = AtomicU32::new(0);
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let segment = format!("maglev-test-{}-{number}", std::process::id());
        let config = dir.join("startup.conf");
        fs::write(&config, startup_conf(dir, &segment, plugins))?;
        let process = Command::new(binary)
            .arg("-c")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(dir.join("stderr.log"))?)
            .spawn()?;
        let mut vpp = Self { process, segment };
        vpp.wait_for(&dir.join("api.sock"))?;
        Ok(vpp)
    }

    /// Sends a signal. The process may have exited already.
    fn signal(&self, signal: Signal) {
        if let Ok(pid) = i32::try_from(self.process.id()) {
            _ = kill(Pid::from_raw(pid), signal);
        }
    }

    fn wait_for(&mut self, socket: &Path) -> io::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while UnixStream::connect(socket).is_err() {
            if let Some(status) = self.process.try_wait()? {
                return Err(Error::other(format!("VPP has ended: {status}")));
            }
            if Instant::now() > deadline {
                return Err(Error::new(io::ErrorKind::TimedOut, "VPP does not open its socket"));
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

impl Drop for RealVpp {
    fn drop(&mut self) {
        self.signal(Signal::SIGTERM);
        let deadline = Instant::now() + PATIENCE;
        while matches!(self.process.try_wait(), Ok(None)) && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(10));
        }
        _ = self.process.kill();
        _ = self.process.wait();
        for file in ["global_vm", "vpe-api"] {
            _ = fs::remove_file(format!("/dev/shm/{}-{file}", self.segment));
        }
    }
}

fn startup_conf(dir: &Path, segment: &str, plugins: &[&str]) -> String {
    let dir = dir.display();
    let enabled: String = plugins.iter().map(|plugin| format!("plugin {plugin} {{ enable }} ")).collect();
    let plugin_path = env::var("VPP_PLUGIN_PATH").map_or(String::new(), |path| format!("path {path}"));
    format!(
        "unix {{ nodaemon nosyslog nobanner log {dir}/vpp.log runtime-dir {dir} cli-listen {dir}/cli.sock }}
api-segment {{ prefix {segment} }}
socksvr {{ socket-name {dir}/api.sock }}
statseg {{ socket-name {dir}/stats.sock size 64m page-size 4k }}
memory {{ main-heap-size 512m main-heap-page-size 4k }}
buffers {{ buffers-per-numa 8192 page-size 4k }}
cpu {{ }}
plugins {{ {plugin_path} plugin default {{ disable }} {enabled}}}
"
    )
}
