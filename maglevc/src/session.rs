//! Running commands: asking the server, and writing what it says.

use std::io::{self, Write};
use std::time::SystemTime;

use crate::client::Server;
use crate::command::Command;
use crate::failure::Failure;
use crate::grammar::Verb;
use crate::screen::{ColorChoice, Screen};
use crate::show::Shown;
use crate::{Output, json, show, text, watch};

/// Whom to ask, and how to write the answers.
#[derive(Clone, Debug)]
pub struct Session {
    /// The daemon.
    pub server: Server,
    /// Text or JSON.
    pub output: Output,
    /// When to use colour.
    pub color: ColorChoice,
}

impl Session {
    /// Runs a command and writes what it shows. Whether it shows what was asked for: a configuration that is no good is shown,
    /// too.
    ///
    /// # Errors
    /// What is to be said to the user instead.
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

    /// Tells the user what is wrong.
    pub fn complain(&self, failure: &Failure) {
        eprintln!("{}", failure.render(self.output, self.errors()));
    }

    /// The standard output, as it is now.
    pub fn screen(&self) -> Screen {
        Screen::of(self.color, &io::stdout())
    }

    /// The standard error, as it is now.
    pub fn errors(&self) -> Screen {
        Screen::of(self.color, &io::stderr())
    }
}

/// What is shown, as it is written.
pub fn render(shown: &Shown, now: SystemTime, output: Output, screen: Screen) -> String {
    match output {
        Output::Text => text::render(shown, now, screen),
        Output::Json => json::pretty(&json::render(shown)),
    }
}

/// Writes to the standard output. Whoever no longer reads it has had enough, as `head` has.
///
/// # Errors
/// It cannot be written.
pub fn write(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written.map_err(|error| Failure::unwritten(&error)),
    }
}
