//! What could stand at the cursor. TAB, `?` and the completion of the user's own shell all show this.

use crate::command::{Mistake, Walk};
use crate::grammar::Token;
use crate::names::Names;

/// One thing that could stand at the cursor.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Suggestion {
    /// The word or the name; for a value, what it is of.
    pub text: String,
    /// What it means.
    pub help: String,
    /// Whether it can be put in as it is.
    pub literal: bool,
}

/// Everything that could stand at the cursor.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Suggestions {
    /// What could be there.
    pub all: Vec<Suggestion>,
    /// If the command could end there, what it would do.
    pub whole: Option<&'static str>,
}

/// What could follow the words `before`, where it begins with `begun`.
///
/// # Errors
/// What is wrong with `before`.
pub async fn suggest<S: AsRef<str>>(
    before: &[S],
    begun: &str,
    names: &mut Names,
) -> Result<Suggestions, Mistake> {
    let mut walk = Walk::new();
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
