//! The command line of vpp-maglev.
//!
//! `maglevc` calls the gRPC API of `maglevd`, and shows the replies as tables or as JSON. [`command::parse`] parses a
//! command by the tree in [`grammar`]; `session` runs it; `shell` is the interactive mode. It is a library so that the
//! fuzz tests can call its parsers. It has no stable API.

use std::env;
use std::ffi::OsString;
use std::io::{self, IsTerminal};
use std::process::ExitCode;

use clap::{CommandFactory, Parser, ValueEnum};
use tokio::runtime::{Builder, Runtime};

mod change;
mod choose;
mod client;
pub mod command;
mod complete;
mod failure;
#[cfg(test)]
mod fake;
mod fetch;
#[cfg(test)]
mod fixture;
mod foreign;
pub mod grammar;
mod help;
mod json;
mod keys;
pub mod line;
mod names;
mod natural;
mod result;
mod screen;
mod session;
mod shell;
mod show;
#[cfg(test)]
mod snapshots;
mod suggest;
mod table;
mod text;
pub mod time;
mod watch;
mod words;

use client::ServerAddress;
use failure::Failure;
use screen::ColorChoice;
use session::Session;

/// Shows and changes the state of maglevd.
#[derive(Debug, Parser)]
#[command(name = "maglevc", version = version(), after_help = help::commands(None))]
struct Cli {
    /// The daemon: HOST:PORT, https://HOST:PORT or unix:PATH [default: the daemon's unix socket if its directory
    /// exists, else 127.0.0.1:9090]
    #[arg(long, env = "MAGLEV_SERVER", value_name = "ADDR")]
    server: Option<ServerAddress>,

    #[command(flatten)]
    tls: client::TlsOptions,

    /// Use of colour
    #[arg(long, value_enum, default_value_t, value_name = "WHEN")]
    color: ColorChoice,

    /// Output format
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    output: OutputFormat,

    /// A command as one argument; several run in order, up to the first that fails
    #[arg(short = 'c', long = "command", value_name = "LINE", conflicts_with = "command")]
    lines: Vec<String>,

    /// The command; words may be abbreviated, as in `sh ba`, and names where nothing is changed. Without a command,
    /// maglevc starts a shell
    #[arg(allow_negative_numbers = true)]
    command: Vec<String>,
}

impl Cli {
    /// Returns the selected daemon with its TLS options.
    fn server(&self) -> ServerAddress {
        self.server.clone().filter(ServerAddress::is_given).unwrap_or_default().with(self.tls.clone())
    }
}

/// Output format.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
enum OutputFormat {
    /// Tables, for people
    #[default]
    Text,
    /// JSON, for programs
    Json,
}

const VERSION: &str = env!("CARGO_PKG_VERSION");
const COMMIT: Option<&str> = option_env!("MAGLEV_COMMIT");
const BUILD_DATE: Option<&str> = option_env!("MAGLEV_BUILD_DATE");

/// Returns the release, and the commit and date of the build if known.
fn version() -> String {
    match (COMMIT, BUILD_DATE) {
        (Some(commit), Some(date)) => format!("{VERSION} (commit {commit}, built {date})"),
        (Some(commit), None) => format!("{VERSION} (commit {commit})"),
        (None, Some(date)) => format!("{VERSION} (built {date})"),
        (None, None) => VERSION.into(),
    }
}

/// Runs the program.
#[must_use]
pub fn run() -> ExitCode {
    let runtime = match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("maglevc cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    if let Some(words) = complete::asked() {
        runtime.block_on(complete::run(words));
        return ExitCode::SUCCESS;
    }
    let cli = Cli::parse_from(with_double_dashes(env::args_os()));
    let session = Session { server: cli.server(), output: cli.output, color: cli.color };
    if !cli.lines.is_empty() {
        return shell::lines(&runtime, &session, &cli.lines);
    }
    if !cli.command.is_empty() {
        return once(&runtime, &session, &cli.command);
    }
    if io::stdin().is_terminal() {
        shell::interactive(runtime, session)
    } else {
        shell::batch(&runtime, &session)
    }
}

/// Gives the options of Go programs, `-server ADDR` and `-color=false`, a second dash.
fn with_double_dashes(arguments: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut command = Cli::command();
    command.build();
    let known = |name: &str| command.get_arguments().any(|flag| flag.get_long() == Some(name));
    let double = |argument: OsString| {
        let option = argument.to_str().and_then(|text| text.strip_prefix('-')).filter(|text| text.len() > 1);
        match option {
            // Go's options that are true or false have no further argument.
            Some("color") => "--color=auto".into(),
            Some(text) if known(text.split('=').next().unwrap_or(text)) => format!("--{text}").into(),
            Some(_) | None => argument,
        }
    };
    arguments.map(double).collect()
}

fn once(runtime: &Runtime, session: &Session, words: &[String]) -> ExitCode {
    // A line in quotes, as for vtysh and vppctl.
    if let [line] = words
        && line.contains(char::is_whitespace)
    {
        return shell::lines(runtime, session, words);
    }
    let ran = match command::parse(words) {
        Ok(command) => runtime.block_on(session.run(&command)),
        Err(mistake) => Err(Failure::mistaken(mistake)),
    };
    match ran {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(failure) => {
            session.complain(&failure);
            ExitCode::FAILURE
        }
    }
}
