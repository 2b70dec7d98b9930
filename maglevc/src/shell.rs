//! The shell: interactive, or a batch of commands from a pipe.

use std::cell::RefCell;
use std::io::{self, BufRead};
use std::process::ExitCode;
use std::rc::Rc;

use maglev_proto::v1::GetVersionRequest;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tonic::Code;
use unicode_width::UnicodeWidthStr;

use crate::command::{self, Command};
use crate::failure::Failure;
use crate::grammar::Verb;
use crate::keys::{self, ShellKeyboard};
use crate::line::{self, SplitLine};
use crate::names::NameCache;
use crate::screen::printable;
use crate::session::{self, Session};
use crate::suggest::{Suggestions, suggest};
use crate::{OutputFormat, VERSION, help};

mod editor;
mod history;

use editor::{KeyRequest, LineEditor, PROMPT, RequestKind, UserInput};

/// Mark at the start of files that some editors write.
const BYTE_ORDER_MARK: char = '\u{feff}';

/// Number of names in the help at the cursor.
const MAX_NAMES: usize = 20;

/// Result of running a line.
enum RunStatus {
    Done,
    Failed,
    /// Ctrl-C ended it.
    Interrupted,
    Quit,
}

/// Runs an interactive shell.
pub fn interactive(runtime: Runtime, session: Session) -> ExitCode {
    keys::guard();
    // From here on, Ctrl-C ends a command and not the shell. If this fails, it ends the shell.
    let _handled = runtime.block_on(async { signal(SignalKind::interrupt()) });
    let runtime = Rc::new(runtime);
    let names = Rc::new(RefCell::new(NameCache::new(session.server.clone())));
    let mut editor = match LineEditor::new(Rc::clone(&runtime), Rc::clone(&names)) {
        Ok(editor) => editor,
        Err(error) => {
            session.complain(&Failure::new(Code::Internal, format!("cannot use this terminal: {error}")));
            return ExitCode::FAILURE;
        }
    };
    let shell = Shell { runtime, session, names, keyboard: ShellKeyboard::take() };
    shell.greet();
    match shell.run_all(&mut editor) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let failure = Failure::new(Code::Internal, format!("cannot read from this terminal: {error}"));
            shell.session.complain(&failure);
            ExitCode::FAILURE
        }
    }
}

/// Runs lines from the arguments up to the first that fails.
pub fn lines(runtime: &Runtime, session: &Session, lines: &[String]) -> ExitCode {
    for line in lines {
        match batch_line(runtime, session, line) {
            Ok(RunStatus::Done) => {}
            Ok(RunStatus::Quit) => break,
            Ok(RunStatus::Failed | RunStatus::Interrupted) => return ExitCode::FAILURE,
            Err(failure) => {
                session.complain(&failure);
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}

/// Runs a batch of commands, one per line. Stops at the first failure, as later commands may depend on it.
pub fn batch(runtime: &Runtime, session: &Session) -> ExitCode {
    for (index, line) in io::stdin().lock().lines().enumerate() {
        let ran = line
            .map_err(|error| Failure::new(Code::InvalidArgument, format!("cannot read: {error}")))
            .and_then(|line| batch_line(runtime, session, line.trim_start_matches(BYTE_ORDER_MARK)));
        match ran {
            Ok(RunStatus::Done) => {}
            Ok(RunStatus::Quit) => break,
            Ok(RunStatus::Failed | RunStatus::Interrupted) => return ExitCode::FAILURE,
            Err(failure) => {
                session.complain(&failure.at_line(index + 1));
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}

fn batch_line(runtime: &Runtime, session: &Session, line: &str) -> Result<RunStatus, Failure> {
    let Some(command) = understand(line).map_err(|wrong| wrong.failure)? else { return Ok(RunStatus::Done) };
    if command.verb == Verb::Quit {
        return Ok(RunStatus::Quit);
    }
    let well = runtime.block_on(session.run(&command))?;
    Ok(if well { RunStatus::Done } else { RunStatus::Failed })
}

/// An invalid line.
struct LineError {
    failure: Failure,
    /// Position in bytes.
    at: usize,
}

/// Parses a line; `None` if it has no command.
fn understand(line: &str) -> Result<Option<Command>, LineError> {
    let SplitLine { words, open, .. } = line::split(line);
    if let Some(at) = open {
        let failure = Failure::new(Code::InvalidArgument, "this quote is never closed");
        return Err(LineError { failure, at });
    }
    if words.is_empty() {
        return Ok(None);
    }
    let texts: Vec<&str> = words.iter().map(|word| word.text.as_str()).collect();
    match command::parse(&texts) {
        Ok(command) => Ok(Some(command)),
        Err(mistake) => {
            let at = words.get(mistake.word).map_or(line.trim_end().len() + 1, |word| word.start);
            Err(LineError { failure: Failure::mistaken(mistake), at })
        }
    }
}

struct Shell {
    runtime: Rc<Runtime>,
    session: Session,
    names: Rc<RefCell<NameCache>>,
    keyboard: ShellKeyboard,
}

impl Shell {
    /// Runs lines until the user leaves.
    fn run_all(&self, editor: &mut LineEditor) -> rustyline::Result<()> {
        let mut kept = None;
        loop {
            self.keyboard.enter();
            let read = editor.read(kept.take().or_else(keys::take_unused))?;
            match read {
                UserInput::Lines(lines) => match self.run_block(&lines) {
                    RunStatus::Quit => return Ok(()),
                    // The terminal has discarded what it had, as with any program.
                    RunStatus::Interrupted => editor.forget_typed_ahead()?,
                    RunStatus::Done | RunStatus::Failed => {}
                },
                UserInput::Request(KeyRequest { kind, line, at }) => {
                    match kind {
                        RequestKind::Cancel => continue,
                        RequestKind::Help => self.help(line::last(line.get(..at).unwrap_or(&line))),
                        RequestKind::Suspend => self.keyboard.suspend(),
                    }
                    kept = Some((line, at));
                }
                UserInput::End => return Ok(()),
            }
        }
    }

    /// Runs a line, or the lines of a pasted block up to the first failure.
    fn run_block(&self, lines: &[String]) -> RunStatus {
        let [first, more @ ..] = lines else { return RunStatus::Done };
        if more.is_empty() {
            return self.run(first);
        }
        let mut left = lines.iter().filter(|line| !line.trim().is_empty());
        while let Some(line) = left.next() {
            println!("{PROMPT}{}", printable(line));
            let status = self.run(line);
            if matches!(status, RunStatus::Done) {
                continue;
            }
            let after = left.count();
            if after > 0 && !matches!(status, RunStatus::Quit) {
                let text = format!("stopped: the last {after} of the pasted lines did not run");
                self.session.complain(&Failure::new(Code::Aborted, text));
            }
            return status;
        }
        RunStatus::Done
    }

    fn greet(&self) {
        if self.session.output == OutputFormat::Json {
            return;
        }
        let asked = async {
            let server = &self.session.server;
            let mut client = server.connect().await.map_err(|error| Failure::unreachable(&error))?;
            let answer = client.get_version(GetVersionRequest {}).await;
            match answer {
                Ok(answer) => Ok(answer),
                Err(status) => Err(server.failure(&status).await),
            }
        };
        match self.unless_interrupted(asked) {
            Ok(daemon) => {
                let daemon = daemon.into_inner().version;
                println!("maglevc {VERSION}, maglevd {daemon} at {}; ? for help", self.session.server);
            }
            Err(failure) => self.session.complain(&failure),
        }
    }

    fn run(&self, line: &str) -> RunStatus {
        let command = match understand(line) {
            Ok(None) => return RunStatus::Done,
            Ok(Some(command)) => command,
            Err(wrong) => {
                self.point(line, wrong.at);
                self.session.complain(&wrong.failure);
                return RunStatus::Failed;
            }
        };
        if command.verb == Verb::Quit {
            return RunStatus::Quit;
        }
        let ran = self.unless_interrupted(self.session.run(&command));
        if matches!(
            command.verb,
            Verb::SetBackend(_) | Verb::SetWeight | Verb::UnsetWeight | Verb::ConfigReload
        ) {
            self.names.borrow_mut().forget();
        }
        match ran {
            Ok(true) => RunStatus::Done,
            Ok(false) => RunStatus::Failed,
            Err(failure) => {
                self.session.complain(&failure);
                if failure.is_interrupt() { RunStatus::Interrupted } else { RunStatus::Failed }
            }
        }
    }

    /// Runs a future until Ctrl-C, which does not end the shell.
    fn unless_interrupted<T>(&self, run: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        self.runtime.block_on(async {
            // Install the Ctrl-C handler first.
            tokio::select! {
                biased;
                Ok(()) = tokio::signal::ctrl_c() => Err(Failure::interrupt()),
                ended = run => ended,
            }
        })
    }

    /// Marks a position of the typed line.
    fn point(&self, line: &str, at: usize) {
        let errors = self.session.errors();
        // A missing word is marked behind the line.
        let behind = usize::from(at > line.len());
        let column = PROMPT.len() + line.get(..at).unwrap_or(line).width() + behind;
        // A wrapped line has no position to mark.
        if self.session.output == OutputFormat::Text && errors.width().is_some_and(|width| column < width) {
            eprintln!("{}{}", " ".repeat(column), errors.error("^"));
        }
    }

    /// Shows the help at the cursor.
    fn help(&self, typed: &str) {
        let screen = self.session.screen();
        let mut names = self.names.borrow_mut();
        let (before, begun) = at_cursor(typed);
        let suggested = self.unless_interrupted(async {
            suggest(&before, &begun, &mut names).await.map_err(Failure::mistaken)
        });
        let written = match suggested {
            Ok(suggestions) => session::write(&help::at_cursor(&rows(suggestions), screen)),
            Err(failure) => Err(failure),
        };
        if let Err(failure) = written {
            self.session.complain(&failure);
        }
    }
}

/// Returns the complete words before the cursor, and the word at the cursor.
fn at_cursor(typed: &str) -> (Vec<String>, String) {
    let SplitLine { words, unfinished, .. } = line::split(typed);
    let mut words: Vec<String> = words.into_iter().map(|word| word.text).collect();
    let begun = if unfinished { words.pop() } else { None };
    (words, begun.unwrap_or_default())
}

fn rows(suggestions: Suggestions) -> Vec<(String, String)> {
    let more = suggestions.all.len().saturating_sub(MAX_NAMES);
    let shown = suggestions.all.into_iter().take(MAX_NAMES);
    let mut rows: Vec<(String, String)> = shown.map(|one| (one.text, one.help)).collect();
    if more > 0 {
        rows.push(("…".into(), format!("and {more} more")));
    }
    rows.extend(suggestions.whole.map(|help| ("<Enter>".into(), help.into())));
    rows
}
