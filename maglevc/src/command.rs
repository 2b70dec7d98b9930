//! Commands: the user's words, parsed by the grammar.

use std::time::Duration;

use maglev_proto::v1::{EventKind, LogLevel};

use crate::choose::{ChoiceError, choose, list};
use crate::grammar::{
    COMMANDS, EVENT_KINDS, GrammarNode, LEVELS, NameKind, NextNodes, Token, ValueKind, Verb,
};
use crate::{foreign, time};

/// A complete command.
#[derive(Clone, Debug)]
pub struct Command {
    /// The action.
    pub verb: Verb,
    steps: Vec<ParsedWord>,
}

/// A partly parsed command.
#[derive(Clone, Debug)]
pub struct PartialCommand {
    steps: Vec<ParsedWord>,
    then: &'static NextNodes,
    run: Option<(Verb, &'static [GrammarNode], &'static str)>,
}

#[derive(Clone, Debug)]
struct ParsedWord {
    node: &'static GrammarNode,
    given: String,
    value: Argument,
}

/// A parsed word.
#[derive(Clone, Copy, Debug)]
enum Argument {
    Text,
    Number(u32),
    Duration(Duration),
}

/// An error in a command.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CommandError {
    /// Index of the wrong word; the number of words if one is missing.
    pub word: usize,
    /// One line of text.
    pub text: String,
}

/// Parses a command.
///
/// # Errors
/// Returns the wrong word and the possible ones.
pub fn parse<S: AsRef<str>>(words: &[S]) -> Result<Command, CommandError> {
    let mut walk = PartialCommand::new();
    for word in words {
        walk.take(word.as_ref()).map_err(|mistake| with_translation(mistake, words))?;
    }
    walk.finish()
}

/// Names the command here for the words of another program, also where `help` comes before them.
fn with_translation<S: AsRef<str>>(mistake: CommandError, words: &[S]) -> CommandError {
    let (words, wrong) = match (words, mistake.word) {
        ([first, topic @ ..], 1..) if first.as_ref() == "help" => (topic, mistake.word - 1),
        _ => (words, mistake.word),
    };
    let Some(here) = foreign::translate(words, wrong) else { return mistake };
    let given: Vec<&str> = words.iter().map(AsRef::as_ref).collect();
    CommandError { text: format!("unknown command `{}`; here it is: {here}", given.join(" ")), ..mistake }
}

impl Default for PartialCommand {
    fn default() -> Self {
        Self::new()
    }
}

impl PartialCommand {
    /// Creates an empty command.
    pub fn new() -> Self {
        static START: NextNodes = NextNodes::One(COMMANDS);
        Self { steps: Vec::new(), then: &START, run: None }
    }

    /// Returns the nodes that may come next. They are optional if the command is complete.
    pub fn expected(&self) -> Vec<&'static GrammarNode> {
        let options = self.run.map(|(_, options, _)| options).unwrap_or_default();
        let unused = options.iter().filter(|option| !self.has(option));
        match self.then {
            NextNodes::One(nodes) => nodes.iter().collect(),
            NextNodes::Maybe(nodes) => nodes.iter().chain(unused).collect(),
            NextNodes::Nothing | NextNodes::Run(..) => unused.collect(),
        }
    }

    /// Returns the help of the command, if it is complete.
    pub fn whole(&self) -> Option<&'static str> {
        let (_, _, help) = self.run?;
        (!matches!(self.then, NextNodes::One(_))).then_some(help)
    }

    /// Returns the name of this kind, if given so far.
    pub fn name(&self, kind: NameKind) -> Option<&str> {
        self.steps.iter().find(|step| step.node.token == Token::Name(kind)).map(|step| step.given.as_str())
    }

    /// Parses the next word.
    ///
    /// # Errors
    /// Returns a mistake if the word is invalid here.
    pub fn take(&mut self, word: &str) -> Result<(), CommandError> {
        let step = self.understand(word).map_err(|problem| self.mistake(&problem))?;
        let node = step.node;
        self.steps.push(step);
        self.then = &node.then;
        if let NextNodes::Run(verb, options) = node.then {
            self.run = Some((verb, options, node.help));
        }
        Ok(())
    }

    fn understand(&self, word: &str) -> Result<ParsedWord, String> {
        let expected = self.expected();
        let keys: Vec<&str> = expected.iter().filter_map(|node| node.token.word()).collect();
        let unclear = match choose(word, &keys) {
            Ok(index) => {
                let is_it = |node: &&&'static GrammarNode| node.token == Token::Word(keys[index]);
                let node = expected.iter().find(is_it).ok_or_else(|| self.superfluous(word))?;
                return Ok(ParsedWord { node, given: word.into(), value: Argument::Text });
            }
            Err(unclear) => unclear,
        };
        if let Some(node) = expected.iter().find(|node| node.token.word().is_none()) {
            return Ok(ParsedWord { node, given: word.into(), value: value(node.token, word)? });
        }
        Err(match unclear {
            _ if expected.is_empty() => self.superfluous(word),
            ChoiceError::Ambiguous(several) => format!("`{word}` is ambiguous: {}", list(&several)),
            ChoiceError::Unknown(near) if near.is_empty() => {
                format!("unknown word `{word}`, expected one of: {}{}", list(&keys), self.hint())
            }
            ChoiceError::Unknown(near) => format!("unknown word `{word}`, did you mean: {}", list(&near)),
        })
    }

    fn superfluous(&self, word: &str) -> String {
        format!("there is nothing to do with `{word}`{}", self.hint())
    }

    /// Returns a hint for a likely mistake after a text.
    fn hint(&self) -> &'static str {
        match self.steps.last() {
            Some(step) if step.node.token == Token::Value(ValueKind::Text) => {
                " (a text of several words wants quotes)"
            }
            _ => "",
        }
    }

    /// Completes the command.
    ///
    /// # Errors
    /// Returns a mistake if it is incomplete.
    pub fn finish(self) -> Result<Command, CommandError> {
        match self.run {
            Some((verb, ..)) if self.whole().is_some() => Ok(Command { verb, steps: self.steps }),
            _ => Err(self.mistake(&self.missing())),
        }
    }

    fn missing(&self) -> String {
        let expected = self.expected();
        let words: Vec<&str> = expected.iter().filter_map(|node| node.token.word()).collect();
        match expected.as_slice() {
            [one] => match one.token {
                Token::Word(word) => format!("`{word}` is missing"),
                Token::Name(kind) => format!("the name of a {} is missing", kind.noun()),
                Token::Value(value) => format!("{} is missing", article(value)),
            },
            _ => format!("what? One of: {}", list(&words)),
        }
    }

    fn mistake(&self, problem: &str) -> CommandError {
        let context: Vec<&str> = self.steps.iter().map(ParsedWord::spelt).collect();
        let context = if context.is_empty() { String::new() } else { format!("{}: ", context.join(" ")) };
        CommandError { word: self.steps.len(), text: format!("{context}{problem}") }
    }

    fn has(&self, node: &GrammarNode) -> bool {
        self.steps.iter().any(|step| std::ptr::eq(step.node, node))
    }
}

impl ParsedWord {
    /// Returns the text for errors: words in full, other arguments as given.
    fn spelt(&self) -> &str {
        self.node.token.word().unwrap_or(&self.given)
    }
}

impl Command {
    /// Returns the name of this kind, as given.
    pub fn name(&self, kind: NameKind) -> Option<&str> {
        self.steps.iter().find(|step| step.node.token == Token::Name(kind)).map(|step| step.given.as_str())
    }

    /// Returns the first word of the commands to list.
    pub fn topic(&self) -> Option<&str> {
        let is_topic = |step: &&ParsedWord| step.node.token == Token::Value(ValueKind::Topic);
        self.steps.iter().find(is_topic).map(|step| step.given.as_str())
    }

    /// Reports whether this word was given.
    pub fn has(&self, word: &str) -> bool {
        self.steps.iter().any(|step| step.node.token.word() == Some(word))
    }

    /// Returns the number after this word.
    pub fn number(&self, word: &str) -> Option<u32> {
        match self.after(word)?.value {
            Argument::Number(number) => Some(number),
            Argument::Text | Argument::Duration(_) => None,
        }
    }

    /// Returns the duration after this word.
    pub fn duration(&self, word: &str) -> Option<Duration> {
        match self.after(word)?.value {
            Argument::Duration(duration) => Some(duration),
            Argument::Text | Argument::Number(_) => None,
        }
    }

    /// Returns the text after this word.
    pub fn text(&self, word: &str) -> Option<&str> {
        self.after(word).map(|step| step.given.as_str())
    }

    /// Returns the chosen kinds of events.
    pub fn event_kinds(&self) -> Vec<EventKind> {
        EVENT_KINDS.iter().filter(|(word, _)| self.has(word)).map(|(_, kind)| *kind).collect()
    }

    /// Returns the chosen log level.
    pub fn level(&self) -> LogLevel {
        LEVELS.iter().find(|(word, _)| self.has(word)).map(|(_, level)| *level).unwrap_or_default()
    }

    fn after(&self, word: &str) -> Option<&ParsedWord> {
        let at = self.steps.iter().position(|step| step.node.token.word() == Some(word))?;
        self.steps.get(at + 1)
    }
}

fn value(token: Token, word: &str) -> Result<Argument, String> {
    let of = match token {
        Token::Name(kind) if word.is_empty() => {
            return Err(format!("an empty word names no {}", kind.noun()));
        }
        Token::Word(_) | Token::Name(_) => return Ok(Argument::Text),
        Token::Value(of) => of,
    };
    let number = || word.parse::<u32>().ok();
    let value = match of {
        ValueKind::Text => Some(Argument::Text),
        ValueKind::Topic => {
            let topics: Vec<&str> = COMMANDS.iter().filter_map(|node| node.token.word()).collect();
            choose(word, &topics).ok().map(|_| Argument::Text)
        }
        ValueKind::Count => number().filter(|number| *number > 0).map(Argument::Number),
        ValueKind::Weight => number().filter(|number| *number <= 100).map(Argument::Number),
        ValueKind::Duration => time::parse_duration(word).map(Argument::Duration),
    };
    value.ok_or_else(|| format!("`{word}` is not {}", article(of)))
}

const fn article(value: ValueKind) -> &'static str {
    match value {
        ValueKind::Count => "a number above 0",
        ValueKind::Weight => "a weight from 0 to 100",
        ValueKind::Duration => "a duration such as 30s, 10m, 2h, 1d or 1h30m",
        ValueKind::Text => "a text",
        ValueKind::Topic => "the first word of a command",
    }
}

#[cfg(test)]
mod tests;
