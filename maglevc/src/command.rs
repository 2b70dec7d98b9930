//! Commands: the user's words, parsed by the grammar.

use std::time::Duration;

use maglev_proto::v1::{EventKind, LogLevel};

use crate::choose::{Unclear, choose, list};
use crate::grammar::{COMMANDS, EVENT_KINDS, Kind, LEVELS, Node, Then, Token, Value, Verb};
use crate::time;

/// A complete command.
#[derive(Clone, Debug)]
pub struct Command {
    /// The action.
    pub verb: Verb,
    steps: Vec<Step>,
}

/// A partly parsed command.
#[derive(Clone, Debug)]
pub struct Walk {
    steps: Vec<Step>,
    then: &'static Then,
    run: Option<(Verb, &'static [Node], &'static str)>,
}

#[derive(Clone, Debug)]
struct Step {
    node: &'static Node,
    given: String,
    value: Given,
}

/// A parsed word.
#[derive(Clone, Copy, Debug)]
enum Given {
    Text,
    Number(u32),
    Duration(Duration),
}

/// An error in a command.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Mistake {
    /// Index of the wrong word; the number of words if one is missing.
    pub word: usize,
    /// One line of text.
    pub text: String,
}

/// Parses a command.
///
/// # Errors
/// Returns the wrong word and the possible ones.
pub fn parse<S: AsRef<str>>(words: &[S]) -> Result<Command, Mistake> {
    let mut walk = Walk::new();
    for word in words {
        walk.take(word.as_ref())?;
    }
    walk.finish()
}

impl Default for Walk {
    fn default() -> Self {
        Self::new()
    }
}

impl Walk {
    /// Creates an empty command.
    pub fn new() -> Self {
        static START: Then = Then::One(COMMANDS);
        Self { steps: Vec::new(), then: &START, run: None }
    }

    /// Returns the nodes that may come next. They are optional if the command is complete.
    pub fn expected(&self) -> Vec<&'static Node> {
        let options = self.run.map(|(_, options, _)| options).unwrap_or_default();
        let unused = options.iter().filter(|option| !self.has(option));
        match self.then {
            Then::One(nodes) => nodes.iter().collect(),
            Then::Maybe(nodes) => nodes.iter().chain(unused).collect(),
            Then::Nothing | Then::Run(..) => unused.collect(),
        }
    }

    /// Returns the help of the command, if it is complete.
    pub fn whole(&self) -> Option<&'static str> {
        let (_, _, help) = self.run?;
        (!matches!(self.then, Then::One(_))).then_some(help)
    }

    /// Returns the name of this kind, if given so far.
    pub fn name(&self, kind: Kind) -> Option<&str> {
        self.steps.iter().find(|step| step.node.token == Token::Name(kind)).map(|step| step.given.as_str())
    }

    /// Parses the next word.
    ///
    /// # Errors
    /// Returns a mistake if the word is invalid here.
    pub fn take(&mut self, word: &str) -> Result<(), Mistake> {
        let step = self.understand(word).map_err(|problem| self.mistake(&problem))?;
        let node = step.node;
        self.steps.push(step);
        self.then = &node.then;
        if let Then::Run(verb, options) = node.then {
            self.run = Some((verb, options, node.help));
        }
        Ok(())
    }

    fn understand(&self, word: &str) -> Result<Step, String> {
        let expected = self.expected();
        let keys: Vec<&str> = expected.iter().filter_map(|node| node.token.word()).collect();
        let unclear = match choose(word, &keys) {
            Ok(index) => {
                let is_it = |node: &&&'static Node| node.token == Token::Word(keys[index]);
                let node = expected.iter().find(is_it).ok_or_else(|| self.superfluous(word))?;
                return Ok(Step { node, given: word.into(), value: Given::Text });
            }
            Err(unclear) => unclear,
        };
        if let Some(node) = expected.iter().find(|node| node.token.word().is_none()) {
            return Ok(Step { node, given: word.into(), value: value(node.token, word)? });
        }
        Err(match unclear {
            _ if expected.is_empty() => self.superfluous(word),
            Unclear::Ambiguous(several) => format!("`{word}` is ambiguous: {}", list(&several)),
            Unclear::Unknown(near) if near.is_empty() => {
                format!("unknown word `{word}`, expected one of: {}{}", list(&keys), self.hint())
            }
            Unclear::Unknown(near) => format!("unknown word `{word}`, did you mean: {}", list(&near)),
        })
    }

    fn superfluous(&self, word: &str) -> String {
        format!("there is nothing to do with `{word}`{}", self.hint())
    }

    /// Returns a hint for a likely mistake after a text.
    fn hint(&self) -> &'static str {
        match self.steps.last() {
            Some(step) if step.node.token == Token::Value(Value::Text) => {
                " (a text of several words wants quotes)"
            }
            _ => "",
        }
    }

    /// Completes the command.
    ///
    /// # Errors
    /// Returns a mistake if it is incomplete.
    pub fn finish(self) -> Result<Command, Mistake> {
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

    fn mistake(&self, problem: &str) -> Mistake {
        let context: Vec<&str> = self.steps.iter().map(Step::spelt).collect();
        let context = if context.is_empty() { String::new() } else { format!("{}: ", context.join(" ")) };
        Mistake { word: self.steps.len(), text: format!("{context}{problem}") }
    }

    fn has(&self, node: &Node) -> bool {
        self.steps.iter().any(|step| std::ptr::eq(step.node, node))
    }
}

impl Step {
    /// Returns the text for errors: words in full, other arguments as given.
    fn spelt(&self) -> &str {
        self.node.token.word().unwrap_or(&self.given)
    }
}

impl Command {
    /// Returns the name of this kind, as given.
    pub fn name(&self, kind: Kind) -> Option<&str> {
        self.steps.iter().find(|step| step.node.token == Token::Name(kind)).map(|step| step.given.as_str())
    }

    /// Reports whether this word was given.
    pub fn has(&self, word: &str) -> bool {
        self.steps.iter().any(|step| step.node.token.word() == Some(word))
    }

    /// Returns the number after this word.
    pub fn number(&self, word: &str) -> Option<u32> {
        match self.after(word)?.value {
            Given::Number(number) => Some(number),
            Given::Text | Given::Duration(_) => None,
        }
    }

    /// Returns the duration after this word.
    pub fn duration(&self, word: &str) -> Option<Duration> {
        match self.after(word)?.value {
            Given::Duration(duration) => Some(duration),
            Given::Text | Given::Number(_) => None,
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

    fn after(&self, word: &str) -> Option<&Step> {
        let at = self.steps.iter().position(|step| step.node.token.word() == Some(word))?;
        self.steps.get(at + 1)
    }
}

fn value(token: Token, word: &str) -> Result<Given, String> {
    let of = match token {
        Token::Name(kind) if word.is_empty() => {
            return Err(format!("an empty word names no {}", kind.noun()));
        }
        Token::Word(_) | Token::Name(_) => return Ok(Given::Text),
        Token::Value(of) => of,
    };
    let number = || word.parse::<u32>().ok();
    let value = match of {
        Value::Text => Some(Given::Text),
        Value::Count => number().filter(|number| *number > 0).map(Given::Number),
        Value::Weight => number().filter(|number| *number <= 100).map(Given::Number),
        Value::Duration => time::parse_duration(word).map(Given::Duration),
    };
    value.ok_or_else(|| format!("`{word}` is not {}", article(of)))
}

const fn article(value: Value) -> &'static str {
    match value {
        Value::Count => "a number above 0",
        Value::Weight => "a weight from 0 to 100",
        Value::Duration => "a duration such as 30s, 10m, 2h, 1d or 1h30m",
        Value::Text => "a text",
    }
}

#[cfg(test)]
mod tests;
