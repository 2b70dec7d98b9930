//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use maglev_time::TextDuration;
use tracing::Level;

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
/// Holds CAP_NET_RAW only until its sockets are open. Started as root, it goes on as the user maglevd-prober, or as
/// nobody.
#[derive(Debug, Parser)]
#[command(name = "maglevd-prober", version = VERSION)]
pub struct Args {
    /// Listen for the controller on this socket; without it, on the one that systemd passes.
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// The controller is at the other end of standard input, a socket of type SOCK_SEQPACKET; end when it closes.
    #[arg(long, conflicts_with = "socket")]
    pub stdin: bool,
    /// Enter the network namespace /run/netns/NAME first (needs CAP_SYS_ADMIN).
    #[arg(long, value_name = "NAME", value_parser = netns)]
    pub netns: Option<String>,
    /// Go on probing for so long without a controller, then end.
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = duration)]
    pub orphan_timeout: Duration,
    /// Probe no more than so many checks.
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub max_checks: u32,
    /// StartResult no more than so many probes a second.
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub max_rate: u32,
    /// Whether to be confined by a seccomp filter and Landlock, from before the first probe; `off` is for finding faults.
    #[arg(long, value_name = "on|off", default_value = "on")]
    pub sandbox: Switch,
    /// Log what is at least so grave: error, warn, info, debug or trace.
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    pub log_level: Level,
    /// How to log.
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub log_format: LogFormat,
}

/// Whether something is done.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum Switch {
    /// It is.
    On,
    /// It is not.
    Off,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One object a line.
    Json,
}

/// Parses a duration such as `60s`, `500ms` or `1m30s`.
fn duration(text: &str) -> Result<Duration, String> {
    TextDuration::parse(text).map(|TextDuration(duration)| duration)
}

/// A name is one component of a path.
fn netns(name: &str) -> Result<String, String> {
    match name {
        "" | "." | ".." => Err("no name of a network namespace".to_owned()),
        _ if name.contains('/') => Err("the name of a network namespace has no slash".to_owned()),
        _ => Ok(name.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Args::command().debug_assert();
        let args = Args::parse_from(["maglevd-prober"]);
        assert_eq!((args.orphan_timeout.as_secs(), args.max_checks, args.max_rate), (60, 100_000, 100_000));
    }

    #[test]
    fn durations() {
        for (text, milliseconds) in
            [("60s", 60_000), ("1m30s", 90_000), ("500ms", 500), ("0s", 0), ("2h", 7_200_000)]
        {
            assert_eq!(duration(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        for text in ["", "5", "s", "1x", "-1s", "1.5s", "99999999999999999999s", "18446744073709551615h"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_namespace_is_a_name() {
        assert!(netns("blue").is_ok());
        for name in ["", "..", "../x", "/etc/passwd"] {
            assert!(netns(name).is_err(), "{name}");
        }
    }
}
