//! Suggestions at the cursor, for TAB, `?` and the completion of the user's shell.

use crate::command::{CommandError, PartialCommand};
use crate::grammar::Token;
use crate::names::NameCache;

/// A suggestion.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Suggestion {
    /// The keyword or name; for a value, its placeholder.
    pub text: String,
    /// Its meaning.
    pub help: String,
    /// True if it can be inserted as it is.
    pub literal: bool,
}

/// All suggestions at the cursor.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Suggestions {
    /// The suggestions.
    pub all: Vec<Suggestion>,
    /// Help of the command, if it could end here.
    pub whole: Option<&'static str>,
}

/// Returns the suggestions after the words `before` that begin with `begun`.
///
/// # Errors
/// Returns the mistake in `before`.
pub async fn suggest<S: AsRef<str>>(
    before: &[S],
    begun: &str,
    names: &mut NameCache,
) -> Result<Suggestions, CommandError> {
    let mut walk = PartialCommand::new();
    for word in before {
        walk.take(word.as_ref())?;
    }
    let mut all = Vec::new();
    for node in walk.expected() {
        let text = node.token.usage().into();
        match node.token {
            Token::Word(word) if word.starts_with(begun) => {
                all.push(Suggestion { text, help: node.help.into(), literal: true });
            }
            Token::Word(_) => {}
            Token::Value(_) => all.push(Suggestion { text, help: node.help.into(), literal: false }),
            Token::Name(kind) => {
                let known = names.of(kind, &walk).await;
                let fit = known.into_iter().filter(|known| known.name.starts_with(begun));
                all.push(Suggestion { text, help: node.help.into(), literal: false });
                all.extend(fit.map(|name| Suggestion { text: name.name, help: name.about, literal: true }));
            }
        }
    }
    Ok(Suggestions { all, whole: walk.whole().filter(|_| begun.is_empty()) })
}
