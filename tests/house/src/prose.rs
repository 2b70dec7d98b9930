//! Figures about the language of comments, documents and names.
//!
//! They are indicators: a sentence may match a pattern and be plain. Each figure has a ceiling in `tests/prose.rs`.

use std::collections::BTreeSet;

use regex_lite::Regex;

/// Words that must not open a doc comment: they announce a clause where a verb or a noun belongs.
const OPENERS: &str = "what|whether|how|why|who|whom|whose|when|that|as|where|which|whoever|whatever";
const NOUN_CLAUSE: &str = r"(?i)\b(?:what|whatever) (?:is|was|are|were|comes|came|has|had|follows|followed|there|it|they|he|she|we|you|somebody|nobody|others|remains|remained|belongs|happens|happened|becomes|became)\b";
const PRONOUN: &str = r"(?i)\b(?:whoever|whatever|whichever|nobody|somebody)\b";
const TOLD: &str = r"(?i)\b(?:told|tells|heard|hears|untold|unheard)\b";
const WORD: &str = r"[A-Za-z']+";

/// Patterns per thousand words of one body of text.
#[derive(Clone, Copy, Debug, Default)]
pub struct Density {
    /// Clauses such as "what is left" in the place of a noun.
    pub noun_clauses: f64,
    /// `whoever`, `nobody` and their like.
    pub pronouns: f64,
    /// Programs that tell and hear.
    pub told: f64,
}

impl Density {
    /// Counts in `text`, which has no code in it.
    ///
    /// # Panics
    /// Never: the patterns are constant.
    #[must_use]
    pub fn of(text: &str) -> Self {
        let words = count(WORD, text).max(1);
        #[expect(clippy::cast_precision_loss, reason = "words of a repository are fewer than 2^52")]
        let density = |pattern| 1000.0 * count(pattern, text) as f64 / words as f64;
        Self { noun_clauses: density(NOUN_CLAUSE), pronouns: density(PRONOUN), told: density(TOLD) }
    }
}

/// Comments of Rust sources.
#[derive(Debug, Default)]
pub struct Comments {
    /// All of them, without code in backticks.
    pub text: String,
    /// First lines of doc comments that begin with a word.
    pub summaries: usize,
    /// Those of them that begin with a word such as "Whether", each with its file and line.
    pub openers: Vec<String>,
}

impl Comments {
    /// Adds the comments of one file.
    pub fn add(&mut self, file: &str, source: &str) {
        let opener = pattern(&format!("(?i)^[`*\"(]*(?:{OPENERS})\\b"));
        let word = pattern("^[`*\"(]*[A-Za-z']");
        let mut before = "";
        for (index, line) in source.lines().enumerate() {
            let line = line.trim_start();
            let mark =
                ["///", "//!", "//"].into_iter().find(|mark| line.starts_with(mark)).unwrap_or_default();
            if !mark.is_empty() {
                let text = line[mark.len()..].trim();
                self.text.push_str(text);
                self.text.push('\n');
                if mark != "//" && mark != before && word.is_match(text) {
                    self.summaries += 1;
                    if opener.is_match(text) {
                        self.openers.push(format!("{file}:{}: {text}", index + 1));
                    }
                }
            }
            before = mark;
        }
    }

    /// The density of patterns in all comments.
    #[must_use]
    pub fn density(&self) -> Density {
        Density::of(&without_code(&self.text))
    }
}

/// Returns Markdown without blocks and spans of code.
#[must_use]
pub fn without_code(text: &str) -> String {
    let blocks = pattern("(?s)```.*?```").replace_all(text, " ");
    pattern("`[^`]*`").replace_all(&blocks, " ").into_owned()
}

/// Names of types that `source` declares, tests included.
#[must_use]
pub fn type_names(source: &str) -> BTreeSet<String> {
    captures(r"(?m)^\s*(?:pub(?:\([^)]*\))? )?(?:struct|enum|trait|type) ([A-Z]\w+)", source).collect()
}

/// Reports true if the name is one word, such as `Held` or `Ipv4`.
#[must_use]
pub fn is_single_word(name: &str) -> bool {
    count("[A-Z][a-z0-9]*", name) == 1
}

/// Names of test functions that `source` declares.
#[must_use]
pub fn test_names(source: &str) -> Vec<String> {
    let test = r"#\[(?:tokio::)?test[^\]]*\]\s*(?:#\[[^\]]*\]\s*)*(?:async )?fn (\w+)";
    captures(test, source).collect()
}

fn captures(of: &str, text: &str) -> impl Iterator<Item = String> {
    let found: Vec<String> =
        pattern(of).captures_iter(text).filter_map(|found| Some(found.get(1)?.as_str().to_owned())).collect();
    found.into_iter()
}

fn count(of: &str, text: &str) -> usize {
    pattern(of).find_iter(text).count()
}

#[expect(clippy::expect_used, reason = "all patterns are constants of this file")]
fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("constant pattern")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn openers_count_once_per_comment() {
        let mut comments = Comments::default();
        comments.add(
            "a.rs",
            "/// Whether it is.\n/// How it is.\nfn a() {}\n/// Returns it.\n//! `When` done.\n// Why not\n",
        );
        assert_eq!((comments.summaries, comments.openers.len()), (3, 2));
        assert!(comments.openers[0].starts_with("a.rs:1: "), "{:?}", comments.openers);
    }

    #[test]
    fn code_is_not_prose() {
        let text = without_code("a `nobody` b\n```\nwhat is\n```\nnobody");
        assert_eq!(text.split_whitespace().collect::<Vec<_>>(), ["a", "b", "nobody"]);
        assert!((Density::of(&text).pronouns - 1000.0 / 3.0).abs() < 0.01);
    }

    #[test]
    fn names_are_found() {
        assert_eq!(type_names("pub(crate) struct One;\n  enum TwoWords {}").len(), 2);
        assert!(is_single_word("Held") && !is_single_word("ScheduledCheck"));
        assert_eq!(
            test_names("#[test]\n#[ignore]\nfn a_b() {}\n#[tokio::test]\nasync fn c() {}"),
            ["a_b", "c"]
        );
    }
}
