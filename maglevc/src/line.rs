//! Splits a line of the shell into words.

/// A word of a line.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LineWord {
    /// The text without quotes.
    pub text: String,
    /// Start in the line, in bytes.
    pub start: usize,
}

/// A split line.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct SplitLine {
    /// The words.
    pub words: Vec<LineWord>,
    /// Start of an unterminated quote.
    pub open: Option<usize>,
    /// True if the last word may continue: no blank follows it.
    pub unfinished: bool,
}

/// Splits a line at its blanks. Text within `"` or `'` is literal; within `"` a backslash escapes a `"` or a
/// backslash. `#` at the start of a word begins a comment.
pub fn split(line: &str) -> SplitLine {
    let mut split = SplitLine::default();
    let mut word: Option<LineWord> = None;
    let mut quote: Option<(char, usize)> = None;
    let mut chars = line.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        if quote.is_none() && c.is_whitespace() {
            split.words.extend(word.take());
            continue;
        }
        if word.is_none() && c == '#' {
            return split;
        }
        let text = &mut word.get_or_insert_with(|| LineWord { text: String::new(), start: at }).text;
        match (quote, c) {
            (None, '"' | '\'') => quote = Some((c, at)),
            (Some((open, _)), _) if open == c => quote = None,
            (Some(('"', _)), '\\') => {
                text.push(chars.next_if(|(_, c)| matches!(c, '"' | '\\')).map_or('\\', |(_, c)| c));
            }
            (None | Some(_), c) => text.push(c),
        }
    }
    split.unfinished = word.is_some();
    split.words.extend(word);
    split.open = quote.map(|(_, at)| at);
    split
}

/// Returns the last line of a block.
pub fn last(block: &str) -> &str {
    block.rsplit('\n').next().unwrap_or(block)
}

/// Quotes `text` to one word.
pub fn quoted(text: &str) -> String {
    let plain = |c: char| !c.is_whitespace() && !matches!(c, '"' | '\'' | '#' | '\\');
    if !text.is_empty() && text.chars().all(plain) {
        return text.into();
    }
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<(String, usize)> {
        split(line).words.into_iter().map(|word| (word.text, word.start)).collect()
    }

    fn word(text: &str, start: usize) -> (String, usize) {
        (text.into(), start)
    }

    #[test]
    fn blanks_separate_words() {
        assert_eq!(words("  show\tbackends  "), [word("show", 2), word("backends", 7)]);
        assert_eq!(words(" \t"), []);
        assert!(split("show").unfinished);
        assert!(!split("show ").unfinished);
        assert!(!split("").unfinished);
    }

    #[test]
    fn quotes_join_words() {
        assert_eq!(
            words(r#"reason "disk swap" now"#),
            [word("reason", 0), word("disk swap", 7), word("now", 19)]
        );
        assert_eq!(words(r#"'a "b" \' c"#), [word(r#"a "b" \"#, 0), word("c", 10)]);
        assert_eq!(words(r#""a \"b\" \\ \n""#), [word(r#"a "b" \ \n"#, 0)]);
        assert_eq!(words(r#"a"b c"d "" "#), [word("ab cd", 0), word("", 8)]);
    }

    #[test]
    fn open_quote_is_located() {
        assert_eq!(split("a 'b c").open, Some(2));
        assert_eq!(split("a \"it's\"").open, None);
        assert_eq!(split("a \"it's").open, Some(2));
    }

    #[test]
    fn comments_are_skipped() {
        assert_eq!(words("# nothing"), []);
        assert_eq!(words("show # this"), [word("show", 0)]);
        assert_eq!(words("a#b '#c'"), [word("a#b", 0), word("#c", 4)]);
    }

    #[test]
    fn last_line_follows_last_break() {
        assert_eq!([last("a"), last("a\nb c"), last("a\n"), last("")], ["a", "b c", "", ""]);
    }

    #[test]
    fn quoted_text_splits_back() {
        for text in ["plain", "two words", "", "it's", r#"say "hi" \ #"#, "größe"] {
            assert_eq!(words(&quoted(text)), [word(text, 0)], "{text}");
        }
    }
}
