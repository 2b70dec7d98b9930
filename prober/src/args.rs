//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use maglev_time::TextDuration;
use tracing::Level;

use crate::targets::Targets;

/// Version, commit and date of the build.
const VERSION: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    " (commit ",
    env!("MAGLEV_COMMIT"),
    ", built ",
    env!("MAGLEV_BUILD_DATE"),
    ")"
);

/// Sends the health probes of vpp-maglev and streams their outcomes to maglevd.
///
/// Holds CAP_NET_RAW only until its sockets are open. Started as root, it switches to user maglevd-prober, or to nobody.
#[derive(Debug, Parser)]
#[command(name = "maglevd-prober", version = VERSION, args_override_self = true)]
pub struct Args {
    /// Listen for the controller on this socket (default: the socket from systemd).
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// Use standard input, a SOCK_SEQPACKET socket, as the link to the controller; exit when it closes.
    #[arg(long, conflicts_with = "socket")]
    pub stdin: bool,
    /// Enter the network namespace /run/netns/NAME first (needs CAP_SYS_ADMIN).
    #[arg(long, value_name = "NAME", value_parser = netns)]
    pub netns: Option<String>,
    /// Exit after this time without a controller.
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = duration)]
    pub orphan_timeout: Duration,
    /// Networks of the only addresses to probe; `default` stands for all but loopback, link-local, and clouds' metadata.
    #[arg(long, value_name = "CIDR,...", default_value = "default")]
    pub targets: Targets,
    /// Maximum number of checks.
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub max_checks: u32,
    /// Maximum number of probes started per second.
    #[arg(long, value_name = "N", default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub max_rate: u32,
    /// Maximum number of probes of one address started per second.
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub max_rate_per_address: u32,
    /// Enter the sandbox (seccomp, Landlock) before the first probe; `off` is for debugging.
    #[arg(long, value_name = "on|off", default_value = "on")]
    pub sandbox: SandboxMode,
    /// Minimum log level: error, warn, info, debug or trace.
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    pub log_level: Level,
    /// Log format.
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub log_format: LogEncoding,
}

/// State of the sandbox.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum SandboxMode {
    /// Enabled.
    On,
    /// Disabled.
    Off,
}

/// Format of log lines.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum LogEncoding {
    /// Plain text.
    Text,
    /// One JSON object per line.
    Json,
}

/// Parses a duration such as `60s`, `500ms` or `1m30s`.
fn duration(text: &str) -> Result<Duration, String> {
    TextDuration::parse(text).map(|TextDuration(duration)| duration)
}

/// Parses the name of a network namespace, which is one path component.
fn netns(name: &str) -> Result<String, String> {
    match name {
        "" | "." | ".." => Err("invalid network namespace name".to_owned()),
        _ if name.contains('/') => Err("invalid network namespace name: contains a slash".to_owned()),
        _ => Ok(name.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn command_line_definition_is_valid() {
        Args::command().debug_assert();
        let args = Args::parse_from(["maglevd-prober"]);
        assert_eq!((args.orphan_timeout.as_secs(), args.max_checks, args.max_rate), (60, 100_000, 20_000));
    }

    #[test]
    fn durations_parse_or_fail() {
        for (text, milliseconds) in
            [("60s", 60_000), ("1m30s", 90_000), ("500ms", 500), ("0s", 0), ("2h", 7_200_000)]
        {
            assert_eq!(duration(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        for text in ["", "5", "s", "1x", "-1s", "1.s", "99999999999999999999s", "18446744073709551615h"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn netns_name_is_one_path_component() {
        assert!(netns("blue").is_ok());
        for name in ["", "..", "../x", "/etc/passwd"] {
            assert!(netns(name).is_err(), "{name}");
        }
    }
}
