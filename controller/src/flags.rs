//! Command line. Each flag has an environment variable, and takes precedence over it.

use std::env;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{CommandFactory, Parser, ValueEnum};

use crate::listen::ListenAddresses;
use crate::log::{LineFormat, LogFilter};
use crate::metrics::HostNames;
use crate::version;

/// Program of the prober.
const PROBER_PROGRAM: &str = "maglevd-prober";

/// Decides health and failover for VPP's Maglev load balancer, and programs VPP accordingly.
///
/// SIGHUP reloads the configuration; on any error the running one stays in force. SIGTERM stops maglevd and leaves
/// VPP unchanged. Sockets that systemd passes by the names `grpc` and `metrics` replace the addresses given here.
#[derive(Debug, Parser)]
#[command(name = "maglevd", version = version::VERSION, long_version = version::long(), arg_required_else_help = false)]
pub struct Flags {
    /// Configuration file
    #[arg(long, env = "MAGLEV_CONFIG", value_name = "FILE", default_value = "/etc/vpp-maglev/maglev.yaml")]
    pub config: PathBuf,

    /// TCP addresses of the gRPC server; `:9090` is every address, empty is off
    #[arg(
        long,
        env = "MAGLEV_GRPC_ADDR",
        value_name = "ADDR,...",
        default_value = "[::1]:9090,127.0.0.1:9090"
    )]
    pub grpc_addr: ListenAddresses,

    /// Unix socket of the gRPC server, of mode 0660; empty is off [default: /run/vpp-maglev/maglevd.sock, if this user may
    /// create it]
    #[arg(long, env = "MAGLEV_GRPC_SOCKET", value_name = "PATH", value_parser = path_or_off())]
    pub grpc_socket: Option<PathBuf>,

    /// TCP addresses of the Prometheus endpoint /metrics; empty is off
    #[arg(long, env = "MAGLEV_METRICS_ADDR", value_name = "ADDR,...", default_value = ":9091")]
    pub metrics_addr: ListenAddresses,

    /// Names by which clients may reach the Prometheus endpoint, beside addresses and `localhost`
    #[arg(
        long,
        env = "MAGLEV_METRICS_HOSTS",
        value_name = "NAME,...",
        default_value = "",
        hide_default_value = true
    )]
    pub metrics_hosts: HostNames,

    /// VPP's API socket; empty leaves VPP unmanaged
    #[arg(
        long,
        env = "MAGLEV_VPP_API_ADDR",
        value_name = "PATH",
        default_value = "/run/vpp/api.sock",
        value_parser = path_or_off()
    )]
    pub vpp_api_addr: PathBuf,

    /// VPP's stats socket, for its start time and traffic counters; empty is off
    #[arg(
        long,
        env = "MAGLEV_VPP_STATS_ADDR",
        value_name = "PATH",
        default_value = "/run/vpp/stats.sock",
        value_parser = path_or_off()
    )]
    pub vpp_stats_addr: PathBuf,

    /// The prober's socket; `spawn` or `spawn:PATH` starts the prober as a child [default: /run/vpp-maglev/prober.sock if
    /// it exists, or else spawn]
    #[arg(long, env = "MAGLEV_PROBER", value_name = "PATH|spawn")]
    pub prober: Option<String>,

    /// Arguments of a prober that `spawn` starts, such as "--targets default,127.0.0.1", separated by blanks
    #[arg(
        long,
        env = "MAGLEVD_PROBER_ARGS",
        value_name = "ARGS",
        default_value = "",
        hide_default_value = true,
        allow_hyphen_values = true
    )]
    pub prober_args: String,

    /// Directory of operators' overrides; empty does not persist them [default: $STATE_DIRECTORY, or else
    /// /var/lib/vpp-maglev]
    #[arg(long, env = "MAGLEV_STATE_DIR", value_name = "DIR", value_parser = path_or_off())]
    pub state_dir: Option<PathBuf>,

    /// `error`, `warn`, `info`, `debug`, `trace` or `off`, or a list of those and TARGET=LEVEL
    #[arg(long, env = "MAGLEV_LOG_LEVEL", value_name = "LEVEL", default_value = "info")]
    pub log_level: LogFilter,

    /// Format of log lines
    #[arg(long, env = "MAGLEV_LOG_FORMAT", value_name = "FORMAT", value_enum, default_value = "text")]
    pub log_format: LineFormat,

    /// Serve gRPC reflection, for clients such as grpcurl
    #[arg(long, env = "MAGLEV_REFLECTION", value_name = "BOOL", action = clap::ArgAction::Set, default_value_t = true)]
    pub reflection: bool,

    /// Enter the sandbox of a seccomp filter and Landlock; `off` is for debugging
    #[arg(long, env = "MAGLEV_SANDBOX", value_name = "on|off", value_enum, default_value = "on")]
    pub sandbox: OnOff,

    /// Start probers for the maglevd at the other end of standard input, and do nothing else
    #[arg(long, hide = true)]
    pub spawner: bool,

    /// Check the configuration and exit: 0 valid, 1 unreadable or unparsable, 2 invalid
    #[arg(long)]
    pub check: bool,
}

/// Socket of the gRPC server, unless a flag names another.
pub const DEFAULT_GRPC_SOCKET: &str = "/run/vpp-maglev/maglevd.sock";

/// Socket of the installed prober.
const DEFAULT_PROBER_SOCKET: &str = "/run/vpp-maglev/prober.sock";

impl Flags {
    /// Parses a command line, in which Go's notation of flags is accepted too: `-config FILE`, `-reflection=false`.
    ///
    /// # Errors
    /// The command line is invalid, or asks for the help or the version.
    pub fn from_arguments(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        let mut command = Self::command();
        command.build();
        let is_flag = |name: &str| command.get_arguments().any(|flag| flag.get_long() == Some(name));
        let double_dash = |argument: OsString| {
            let option = argument.to_str().and_then(|text| text.strip_prefix('-'));
            match option.filter(|text| text.split('=').next().is_some_and(is_flag)) {
                // Go's flags that are true or false have no further argument.
                Some("reflection") => "--reflection=true".into(),
                Some(text) => format!("--{text}").into(),
                None => argument,
            }
        };
        Self::try_parse_from(arguments.into_iter().map(double_dash))
    }

    /// Reports whether VPP is to be programmed.
    #[must_use]
    pub fn uses_vpp(&self) -> bool {
        !self.vpp_api_addr.as_os_str().is_empty()
    }

    /// Returns the address of the prober for network namespace `netns`. Where no prober is installed as a service, a
    /// `maglevd` that is started by hand starts its own.
    #[must_use]
    pub fn prober(&self, netns: Option<&str>) -> ProberAddress {
        if let Some(text) = &self.prober {
            return ProberAddress::parse(text);
        }
        let socket = Path::new(DEFAULT_PROBER_SOCKET);
        default_prober(socket, socket.exists() || socket_for_netns(socket, netns).exists())
    }

    /// Returns the directory of overrides and of owned VIPs; empty is none. systemd names the one that it created.
    #[must_use]
    pub fn state_dir(&self) -> PathBuf {
        let default = || default_state_dir(env::var_os("STATE_DIRECTORY").unwrap_or_default().as_bytes());
        self.state_dir.clone().unwrap_or_else(default)
    }
}

/// Takes the first of a colon-separated list, which a unit with several directories has.
fn default_state_dir(directories: &[u8]) -> PathBuf {
    match directories.split(|byte| *byte == b':').next() {
        None | Some(b"") => "/var/lib/vpp-maglev".into(),
        Some(first) => OsStr::from_bytes(first).into(),
    }
}

fn default_prober(socket: &Path, exists: bool) -> ProberAddress {
    if exists { ProberAddress::Socket(socket.to_owned()) } else { ProberAddress::Spawn(installed_prober()) }
}

/// Returns the socket of the prober in a network namespace: `prober@NAME.sock` next to `prober.sock`.
#[must_use]
pub fn socket_for_netns(path: &Path, netns: Option<&str>) -> PathBuf {
    let Some(netns) = netns else { return path.to_owned() };
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!("{stem}@{netns}.sock"))
}

/// Address of the prober.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ProberAddress {
    /// Unix socket.
    Socket(PathBuf),
    /// Program to start as a child.
    Spawn(PathBuf),
}

impl ProberAddress {
    /// Parses the value of `--prober`: a path, `spawn`, or `spawn:PATH`.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        match text.strip_prefix("spawn") {
            Some("") => Self::Spawn(installed_prober()),
            Some(path) if path.starts_with(':') => Self::Spawn(path[1..].into()),
            _ => Self::Socket(text.into()),
        }
    }
}

/// Returns the program next to this one, or else the one in `PATH`.
fn installed_prober() -> PathBuf {
    let beside = env::current_exe().ok().map(|us| us.with_file_name(PROBER_PROGRAM));
    beside.filter(|path| path.exists()).unwrap_or_else(|| PROBER_PROGRAM.into())
}

/// Switch of a feature.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum OnOff {
    /// Enabled.
    On,
    /// Disabled.
    Off,
}

/// Returns a parser of paths that accepts an empty one, unlike clap's own.
fn path_or_off() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_line_is_consistent() {
        Flags::command().debug_assert();
    }

    fn parse(arguments: &[&str]) -> Result<Flags, clap::Error> {
        Flags::from_arguments(["maglevd"].iter().chain(arguments).map(OsString::from))
    }

    #[test]
    fn single_dash_of_go_is_accepted() {
        let flags = parse(&["-config", "a.yaml", "-grpc-addr=:9090", "-reflection=false", "-check"]).unwrap();
        assert_eq!((flags.config, flags.reflection, flags.check), ("a.yaml".into(), false, true));
        assert_eq!(flags.grpc_addr, ":9090".parse().unwrap());
        assert!(parse(&["-reflection", "-log-level", "debug"]).unwrap().reflection);
        let flags = parse(&["--config=b.yaml", "--reflection", "false"]).unwrap();
        assert_eq!((flags.config, flags.reflection), ("b.yaml".into(), false));
    }

    #[test]
    fn single_dash_without_such_flag_is_refused() {
        for wrong in ["-confg", "-c", "-", "-=x", "---check"] {
            assert!(parse(&[wrong]).is_err(), "{wrong}");
        }
        assert_eq!(parse(&["-V"]).unwrap_err().kind(), clap::error::ErrorKind::DisplayVersion);
        assert_eq!(parse(&["-help"]).unwrap_err().kind(), clap::error::ErrorKind::DisplayHelp);
    }

    #[test]
    fn prober_flag_is_socket_or_program() {
        assert_eq!(ProberAddress::parse("/run/p.sock"), ProberAddress::Socket("/run/p.sock".into()));
        assert_eq!(ProberAddress::parse("spawn:/opt/prober"), ProberAddress::Spawn("/opt/prober".into()));
        assert!(
            matches!(ProberAddress::parse("spawn"), ProberAddress::Spawn(path) if path.ends_with(PROBER_PROGRAM))
        );
        assert_eq!(ProberAddress::parse("spawned.sock"), ProberAddress::Socket("spawned.sock".into()));
    }

    #[test]
    fn missing_prober_socket_means_spawn() {
        let flags = Flags::try_parse_from(["maglevd", "--prober=/run/p.sock"]).unwrap();
        assert_eq!(flags.prober(None), ProberAddress::Socket("/run/p.sock".into()));
        let socket = Path::new("/run/vpp-maglev/prober.sock");
        assert_eq!(default_prober(socket, true), ProberAddress::Socket(socket.to_owned()));
        assert_eq!(default_prober(socket, false), ProberAddress::Spawn(installed_prober()));
    }

    #[test]
    fn state_dir_prefers_flag_over_systemd() {
        let flags = |flag: &str| Flags::try_parse_from(["maglevd", flag]).unwrap();
        assert_eq!(flags("--state-dir=").state_dir(), PathBuf::new());
        assert_eq!(flags("--state-dir=/x").state_dir(), PathBuf::from("/x"));
        for (directories, ours) in [("", "/var/lib/vpp-maglev"), ("/a", "/a"), ("/a:/b", "/a")] {
            assert_eq!(default_state_dir(directories.as_bytes()), PathBuf::from(ours));
        }
    }

    #[test]
    fn empty_address_disables_listener() {
        let flags = ["maglevd", "--grpc-addr=", "--grpc-socket=", "--vpp-api-addr=", "--vpp-stats-addr="];
        let flags = Flags::try_parse_from(flags).unwrap();
        assert_eq!(flags.grpc_socket, Some(PathBuf::new()));
        assert_eq!([flags.vpp_api_addr, flags.vpp_stats_addr], [const { PathBuf::new() }; 2]);
    }
}
