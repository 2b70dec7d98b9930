//! `maglevc`: the command line of vpp-maglev.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::time::SystemTime;

use clap::{Parser, ValueEnum};

mod client;
mod command;
#[cfg(test)]
mod fixture;
mod json;
mod show;
mod style;
mod table;
mod text;
mod time;
mod watch;
mod words;

use client::Server;
use style::{ColorChoice, Paint};

/// Shows what vpp-maglev's daemon is doing.
#[derive(Debug, Parser)]
#[command(version = version(), after_help = command::help())]
struct Cli {
    /// The daemon: HOST:PORT, https://HOST:PORT or unix:PATH [default: the daemon's unix socket if there is one, else 127.0.0.1:9090]
    #[arg(long, env = "MAGLEV_SERVER", value_name = "ADDR")]
    server: Option<Server>,

    #[command(flatten)]
    tls: client::Tls,

    /// When to use colour
    #[arg(long, value_enum, default_value_t, value_name = "WHEN")]
    color: ColorChoice,

    /// What to print
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    output: Output,

    /// What to do; every word may be shortened, as in `sh ba nginx0`
    command: Vec<String>,
}

/// What to print.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
enum Output {
    /// Tables, for people
    #[default]
    Text,
    /// JSON, for programs
    Json,
}

const VERSION: &str = env!("CARGO_PKG_VERSION");
const COMMIT: Option<&str> = option_env!("MAGLEV_COMMIT");
const BUILD_DATE: Option<&str> = option_env!("MAGLEV_BUILD_DATE");

/// The release, and as much of its origin as the build has told.
fn version() -> String {
    match (COMMIT, BUILD_DATE) {
        (Some(commit), Some(date)) => format!("{VERSION} (commit {commit}, built {date})"),
        (Some(commit), None) => format!("{VERSION} (commit {commit})"),
        (None, Some(date)) => format!("{VERSION} (built {date})"),
        (None, None) => VERSION.into(),
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    let color = cli.color;
    match run(cli).await {
        Ok(code) => code,
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            let paint = Paint::new(color, io::stderr().is_terminal());
            eprintln!("{}", paint.error(&format!("{error:#}")));
            ExitCode::FAILURE
        }
    }
}

async fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let paint = Paint::new(cli.color, io::stdout().is_terminal());
    let command = command::parse(&cli.command).map_err(anyhow::Error::msg)?;
    let server = cli.server.filter(Server::is_given).unwrap_or_default().with(cli.tls);
    let (out, code) = match command {
        command::Command::Help => (command::help(), ExitCode::SUCCESS),
        command::Command::Watch(watch) => {
            watch::run(&server, &watch, cli.output, paint).await?;
            return Ok(ExitCode::SUCCESS);
        }
        command::Command::Show(what) => {
            let shown = show::ask(&server, what).await?;
            let out = match cli.output {
                Output::Text => text::render(&shown, SystemTime::now(), paint),
                Output::Json => json::pretty(&json::render(&shown)),
            };
            (out, if shown.is_failure() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
        }
    };
    io::stdout().lock().write_all(out.as_bytes())?;
    Ok(code)
}

/// Whoever reads our output has had enough, as `head` does.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
