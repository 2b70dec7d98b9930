//! The line editor: rustyline with completion and help.

use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

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

/// Value for no position.
const NOWHERE: usize = usize::MAX;

/// Result of reading a line.
pub enum UserInput {
    /// A line.
    Line(String),
    /// `?` at a position of a line, in bytes. The line does not contain it.
    Question {
        /// The line.
        line: String,
        /// The position.
        at: usize,
    },
    /// A cancelled line.
    Nothing,
    /// End of input.
    End,
}

/// The line editor.
pub struct LineEditor {
    editor: rustyline::Editor<WordCompleter, FileHistory>,
    question: Arc<AtomicUsize>,
    history: Option<PathBuf>,
}

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
        let mut editor = rustyline::Editor::with_config(config)?;
        let question = Arc::new(AtomicUsize::new(NOWHERE));
        editor.set_helper(Some(WordCompleter { runtime, names }));
        let asks = EventHandler::Conditional(Box::new(HelpRequest(Arc::clone(&question))));
        editor.bind_sequence(KeyEvent::from('?'), asks);
        let history = history::file();
        if let Some(file) = &history {
            // There may be no history yet.
            let _ = editor.load_history(file);
        }
        Ok(Self { editor, question, history })
    }

    /// Reads a line. Starts with a saved line and cursor position, if given.
    ///
    /// # Errors
    /// Fails if the terminal cannot be read.
    pub fn read(&mut self, kept: Option<(String, usize)>) -> rustyline::Result<UserInput> {
        let (line, at) = kept.unwrap_or_default();
        self.question.store(NOWHERE, Ordering::Relaxed);
        match self.editor.readline_with_initial(PROMPT, line.split_at(at)) {
            Ok(line) => Ok(match self.question.load(Ordering::Relaxed) {
                NOWHERE => {
                    self.remember(&line);
                    UserInput::Line(line)
                }
                at => UserInput::Question { at: at.min(line.len()), line },
            }),
            Err(ReadlineError::Interrupted) => Ok(UserInput::Nothing),
            Err(ReadlineError::Eof) => Ok(UserInput::End),
            Err(error) => Err(error),
        }
    }

    /// Appends to the history immediately, so that a later crash loses nothing. Ignores write errors.
    fn remember(&mut self, line: &str) {
        let added = self.editor.add_history_entry(line).unwrap_or_default();
        if let Some(file) = self.history.as_ref().filter(|_| added) {
            let _ = self.editor.append_history(file);
        }
    }
}

/// Handler of `?`: it ends the line, which starts again below the help. Within quotes `?` is a character.
struct HelpRequest(Arc<AtomicUsize>);

impl ConditionalEventHandler for HelpRequest {
    fn handle(&self, _: &Event, _: RepeatCount, _: bool, context: &EventContext<'_>) -> Option<Cmd> {
        let typed = context.line().get(..context.pos())?;
        if line::split(typed).open.is_some() {
            return None;
        }
        self.0.store(context.pos(), Ordering::Relaxed);
        Some(Cmd::AcceptLine)
    }
}

/// The completer.
struct WordCompleter {
    runtime: Rc<Runtime>,
    names: Rc<RefCell<NameCache>>,
}

impl Completer for WordCompleter {
    type Candidate = Pair;

    fn complete(&self, line: &str, at: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<Pair>)> {
        let split = line::split(line.get(..at).unwrap_or(line));
        let mut words = split.words;
        let begun = if split.unfinished { words.pop() } else { None };
        let (begun, start) = begun.map_or((String::new(), at), |word| (word.text, word.start));
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
