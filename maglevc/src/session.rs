//! Runs commands and writes their results.

use std::io::{self, Write};
use std::time::SystemTime;

use crate::client::ServerAddress;
use crate::command::Command;
use crate::failure::Failure;
use crate::grammar::Verb;
use crate::result::CommandResult;
use crate::screen::{ColorChoice, Screen};
use crate::{OutputFormat, json, show, text, watch};

/// The server and the output options.
#[derive(Clone, Debug)]
pub struct Session {
    /// The daemon.
    pub server: ServerAddress,
    /// Text or JSON.
    pub output: OutputFormat,
    /// Use of colour.
    pub color: ColorChoice,
}

impl Session {
    /// Runs a command and writes its result. Returns false for a failure that is shown as a result, such as an invalid
    /// configuration.
    ///
    /// # Errors
    /// Returns the failure to report to the user.
    pub async fn run(&self, command: &Command) -> Result<bool, Failure> {
        match command.verb {
            Verb::Quit => Ok(true),
            Verb::WatchEvents => {
                watch::run(&self.server, command, self.output, self.screen()).await?;
                Ok(true)
            }
            _ => {
                let shown = show::ask(&self.server, command).await?;
                write(&render(&shown, SystemTime::now(), self.output, self.screen()))?;
                Ok(!shown.is_failure())
            }
        }
    }

    /// Reports a failure to the user.
    pub fn complain(&self, failure: &Failure) {
        eprintln!("{}", failure.render(self.output, self.errors()));
    }

    /// Returns the current standard output.
    pub fn screen(&self) -> Screen {
        Screen::of(self.color, &io::stdout())
    }

    /// Returns the current standard error.
    pub fn errors(&self) -> Screen {
        Screen::of(self.color, &io::stderr())
    }
}

/// Formats a result.
pub fn render(shown: &CommandResult, now: SystemTime, output: OutputFormat, screen: Screen) -> String {
    match output {
        OutputFormat::Text => text::render(shown, now, screen),
        OutputFormat::Json => json::pretty(&json::render(shown)),
    }
}

/// Writes to standard output. A closed pipe is no error.
///
/// # Errors
/// Returns a failure if the text cannot be written.
pub fn write(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written.map_err(|error| Failure::unwritten(&error)),
    }
}
