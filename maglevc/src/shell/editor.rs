//! The line editor: rustyline with completion and help.

use std::cell::RefCell;
use std::mem;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};

use rustyline::completion::{Completer, Pair};
use rustyline::config::BellStyle;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::FileHistory;
use rustyline::validate::Validator;
use rustyline::{
    Cmd, CompletionType, ConditionalEventHandler, Config, Context, Event, EventContext, EventHandler, Helper,
    KeyEvent, RepeatCount,
};
use tokio::runtime::Runtime;

use super::history;
use crate::line::{self, quoted};
use crate::names::NameCache;
use crate::suggest::suggest;

/// The prompt.
pub const PROMPT: &str = "maglev> ";

/// Result of reading a line.
pub enum UserInput {
    /// A line, or the lines of a pasted block.
    Lines(Vec<String>),
    /// A request about an unfinished line, which starts again afterwards.
    Request(KeyRequest),
    /// End of input.
    End,
}

/// A key that ends the line without running it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KeyRequest {
    /// The meaning of the key.
    pub kind: RequestKind,
    /// The line, without the key.
    pub line: String,
    /// The cursor in the line, in bytes.
    pub at: usize,
}

/// Meaning of a key that ends the line.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RequestKind {
    /// `?`: help at the cursor.
    Help,
    /// Ctrl-C: discards the line. rustyline's own interrupt would also discard the keys after it.
    Cancel,
    /// Ctrl-Z: suspends the process. rustyline's own would leave the terminal without echo.
    Suspend,
}

/// The line editor. It keeps the keys that arrive before it reads the next line.
pub struct LineEditor {
    editor: rustyline::Editor<WordCompleter, FileHistory>,
    config: Config,
    requested: RequestedKey,
    history: Option<PathBuf>,
}

/// The request of the last key, shared with its handlers.
type RequestedKey = Arc<Mutex<Option<KeyRequest>>>;

impl LineEditor {
    /// Creates an editor with completion.
    ///
    /// # Errors
    /// Fails if the terminal cannot be used.
    pub fn new(runtime: Rc<Runtime>, names: Rc<RefCell<NameCache>>) -> rustyline::Result<Self> {
        let config = Config::builder()
            .max_history_size(history::MAX_LINES)?
            .history_ignore_dups(true)?
            .history_ignore_space(true)
            .completion_type(CompletionType::List)
            .completion_show_all_if_ambiguous(true)
            .bell_style(BellStyle::None)
            .build();
        let requested = RequestedKey::default();
        let completer = WordCompleter { runtime, names };
        let mut editor = build(&config, FileHistory::with_config(&config), completer, &requested)?;
        let history = history::file();
        if let Some(file) = &history {
            // There may be no history yet.
            let _ = editor.load_history(file);
        }
        Ok(Self { editor, config, requested, history })
    }

    /// Discards the keys that were read and not used yet.
    ///
    /// # Errors
    /// Fails if the terminal cannot be used.
    pub fn forget_typed_ahead(&mut self) -> rustyline::Result<()> {
        let Some(completer) = self.editor.helper().cloned() else { return Ok(()) };
        let history = mem::replace(self.editor.history_mut(), FileHistory::with_config(&self.config));
        self.editor = build(&self.config, history, completer, &self.requested)?;
        Ok(())
    }

    /// Reads a line. Starts with a saved line and cursor position, if given.
    ///
    /// # Errors
    /// Fails if the terminal cannot be read.
    pub fn read(&mut self, kept: Option<(String, usize)>) -> rustyline::Result<UserInput> {
        let (line, at) = kept.unwrap_or_default();
        self.take_request();
        match self.editor.readline_with_initial(PROMPT, line.split_at(at)) {
            Ok(line) => Ok(match self.take_request().filter(|request| request.line == line) {
                Some(request) => UserInput::Request(request),
                None => UserInput::Lines(self.remembered(&line)),
            }),
            Err(ReadlineError::Interrupted) => Ok(UserInput::Lines(Vec::new())),
            Err(ReadlineError::Eof) => Ok(UserInput::End),
            Err(error) => Err(error),
        }
    }

    fn take_request(&self) -> Option<KeyRequest> {
        self.requested.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Splits a pasted block into its lines, and adds each to the history.
    fn remembered(&mut self, block: &str) -> Vec<String> {
        let lines: Vec<String> = block.lines().map(String::from).collect();
        lines.iter().for_each(|line| self.remember(line));
        lines
    }

    /// Appends to the history immediately, so that a later crash loses nothing. Ignores write errors.
    fn remember(&mut self, line: &str) {
        let added = self.editor.add_history_entry(line).unwrap_or_default();
        if let Some(file) = self.history.as_ref().filter(|_| added) {
            let _ = self.editor.append_history(file);
        }
    }
}

fn build(
    config: &Config,
    history: FileHistory,
    completer: WordCompleter,
    requested: &RequestedKey,
) -> rustyline::Result<rustyline::Editor<WordCompleter, FileHistory>> {
    let mut editor = rustyline::Editor::with_history(config.clone(), history)?;
    editor.set_helper(Some(completer));
    for (key, kind) in [
        (KeyEvent::from('?'), RequestKind::Help),
        (KeyEvent::ctrl('C'), RequestKind::Cancel),
        (KeyEvent::ctrl('Z'), RequestKind::Suspend),
    ] {
        let handler = RequestHandler { kind, requested: Arc::clone(requested) };
        editor.bind_sequence(key, EventHandler::Conditional(Box::new(handler)));
    }
    Ok(editor)
}

/// Handler of a key that ends the line. Within quotes `?` is a character.
struct RequestHandler {
    kind: RequestKind,
    requested: RequestedKey,
}

impl ConditionalEventHandler for RequestHandler {
    fn handle(&self, _: &Event, _: RepeatCount, _: bool, context: &EventContext<'_>) -> Option<Cmd> {
        let typed = context.line().get(..context.pos())?;
        if self.kind == RequestKind::Help && line::split(line::last(typed)).open.is_some() {
            return None;
        }
        let request = KeyRequest { kind: self.kind, line: context.line().into(), at: context.pos() };
        *self.requested.lock().unwrap_or_else(PoisonError::into_inner) = Some(request);
        Some(Cmd::AcceptLine)
    }
}

/// The completer.
#[derive(Clone)]
struct WordCompleter {
    runtime: Rc<Runtime>,
    names: Rc<RefCell<NameCache>>,
}

impl Completer for WordCompleter {
    type Candidate = Pair;

    fn complete(&self, line: &str, at: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<Pair>)> {
        let typed = line::last(line.get(..at).unwrap_or(line));
        let split = line::split(typed);
        let mut words = split.words;
        let begun = if split.unfinished { words.pop() } else { None };
        let (begun, start) =
            begun.map_or((String::new(), at), |word| (word.text, at - typed.len() + word.start));
        let before: Vec<String> = words.into_iter().map(|word| word.text).collect();
        let mut names = self.names.borrow_mut();
        let suggested = self.runtime.block_on(suggest(&before, &begun, &mut names)).unwrap_or_default();
        let literal = suggested.all.into_iter().filter(|one| one.literal);
        let pair = |text: String| Pair { replacement: quoted(&text) + " ", display: text };
        Ok((start, literal.map(|one| pair(one.text)).collect()))
    }
}

impl Helper for WordCompleter {}
impl Highlighter for WordCompleter {}
impl Hinter for WordCompleter {
    type Hint = String;
}
impl Validator for WordCompleter {}
