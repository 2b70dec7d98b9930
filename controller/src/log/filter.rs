//! Value of `--log-level`: a level, or a list of levels by target.

use std::str::FromStr;

use tracing::Level;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;

use super::OWN_TARGET;

/// Target of the prober that `maglevd` starts.
const PROBER_TARGET: &str = "maglevd_prober";

/// Parsed `--log-level`. Unlike `EnvFilter`, it takes no word for a target that may be a misspelt level.
#[derive(Clone, Debug)]
pub struct LogFilter(Targets);

impl LogFilter {
    /// Returns the filter of the log lines.
    #[must_use]
    pub fn filter(&self) -> Targets {
        self.0.clone()
    }

    /// Returns the level of a spawned prober, by the name that its `--log-level` takes.
    #[must_use]
    pub fn of_prober(&self) -> &'static str {
        let levels =
            [(Level::TRACE, "trace"), (Level::DEBUG, "debug"), (Level::INFO, "info"), (Level::WARN, "warn")];
        let logged = levels.into_iter().find(|(level, _)| self.0.would_enable(PROBER_TARGET, level));
        logged.map_or("error", |(_, name)| name)
    }
}

impl FromStr for LogFilter {
    type Err = String;

    /// Parses a comma-separated list of `LEVEL` and `TARGET=LEVEL`. A level without a target applies to this program;
    /// libraries log from `warn` on.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut targets = Targets::new();
        for directive in text.split(',').map(str::trim) {
            targets = match directive.split_once('=') {
                Some((target, name)) if is_target(target) => targets.with_target(target, level(name)?),
                Some((target, _)) => return Err(format!("`{target}` is no target, such as maglevd::grpc")),
                None => {
                    let own = level(directive)?;
                    targets.with_default(own.min(LevelFilter::WARN)).with_target(OWN_TARGET, own)
                }
            };
        }
        Ok(Self(targets))
    }
}

fn level(name: &str) -> Result<LevelFilter, String> {
    match name.to_ascii_lowercase().as_str() {
        "off" => Ok(LevelFilter::OFF),
        "error" => Ok(LevelFilter::ERROR),
        "warn" => Ok(LevelFilter::WARN),
        "info" => Ok(LevelFilter::INFO),
        "debug" => Ok(LevelFilter::DEBUG),
        "trace" => Ok(LevelFilter::TRACE),
        _ => Err(format!("`{name}` is no level: use error, warn, info, debug, trace or off")),
    }
}

fn is_target(text: &str) -> bool {
    let is_path = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b':' | b'-');
    !text.is_empty() && text.bytes().all(is_path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<LogFilter, String> {
        text.parse()
    }

    #[test]
    fn word_that_is_no_level_is_refused() {
        for (text, part) in [
            ("", "``"),
            ("warning", "`warning`"),
            ("verbose", "`verbose`"),
            ("3", "`3`"),
            ("info,", "``"),
            ("info,maglevd", "`maglevd`"),
            ("maglevd=loud", "`loud`"),
            ("=debug", "`` is no target"),
            ("maglevd[span]=debug", "`maglevd[span]` is no target"),
        ] {
            assert!(parse(text).unwrap_err().starts_with(part), "{text}");
        }
        for text in ["info", "WARN", " debug", "off", "warn, maglevd::grpc=debug", "h2=trace,error"] {
            parse(text).unwrap();
        }
    }

    #[test]
    fn prober_gets_its_own_level() {
        for (text, level) in [
            ("info", "info"),
            ("debug", "debug"),
            ("warn,maglevd::grpc=debug", "warn"),
            ("warn,maglevd_prober=trace", "trace"),
            ("h2=debug", "error"),
            ("off", "error"),
        ] {
            assert_eq!(parse(text).unwrap().of_prober(), level, "{text}");
        }
    }
}
