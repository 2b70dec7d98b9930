//! The terminal: colour, width, and protection from control characters.

use std::borrow::Cow;
use std::fmt::Write;
use std::io::IsTerminal;
use std::os::fd::AsFd;

use clap::ValueEnum;
use rustix::termios::tcgetwinsize;

/// Use of colour.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub enum ColorChoice {
    /// On a terminal, unless NO_COLOR is set
    #[default]
    #[value(alias = "true")]
    Auto,
    /// Always
    Always,
    /// Never
    #[value(alias = "false")]
    Never,
}

/// Style of a text.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TextStyle {
    /// No style.
    Plain,
    /// A heading.
    Heading,
    /// Healthy.
    Good,
    /// Requires attention.
    Bad,
    /// Neither healthy nor failed.
    Odd,
}

/// Properties of an output: its colour support and width.
#[derive(Clone, Copy, Debug)]
pub struct Screen {
    color: bool,
    width: Option<usize>,
}

impl Screen {
    /// Creates a screen for an output, without a bound on its lines.
    pub fn new(choice: ColorChoice, terminal: bool) -> Self {
        let wanted = || {
            std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
                && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
        };
        let color = match choice {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => terminal && wanted(),
        };
        Self { color, width: None }
    }

    /// Creates a screen for this output with its current width.
    pub fn of(choice: ColorChoice, output: &(impl AsFd + IsTerminal)) -> Self {
        let width = tcgetwinsize(output).ok().map(|size| usize::from(size.ws_col));
        Self::new(choice, output.is_terminal()).fit(width.filter(|width| *width > 0))
    }

    /// Returns the screen with this width.
    pub const fn fit(self, width: Option<usize>) -> Self {
        Self { width, ..self }
    }

    /// Returns the bound on lines.
    pub const fn width(self) -> Option<usize> {
        self.width
    }

    /// Applies `style` to `text`.
    pub fn apply(self, style: TextStyle, text: &str) -> String {
        let code = match style {
            TextStyle::Plain => return text.into(),
            TextStyle::Heading => "1",
            TextStyle::Good => "32",
            TextStyle::Bad => "31",
            TextStyle::Odd => "33",
        };
        if self.color { format!("\x1b[{code}m{text}\x1b[0m") } else { text.into() }
    }

    /// Formats an error message.
    pub fn error(self, message: &str) -> String {
        self.apply(TextStyle::Bad, &printable(message))
    }
}

/// Returns the style of a backend's or a frontend's state.
pub fn of_state(state: &str) -> TextStyle {
    match state {
        "up" => TextStyle::Good,
        "down" => TextStyle::Bad,
        _ => TextStyle::Odd,
    }
}

/// Escapes characters in `text` that a reader cannot see: probed servers wrote some of it.
pub fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(is_unprintable) {
        return text.into();
    }
    let mut clean = String::with_capacity(text.len());
    for c in text.chars() {
        if is_unprintable(c) {
            // Writing to a string cannot fail.
            let _ = write!(clean, "{}", c.escape_default());
        } else {
            clean.push(c);
        }
    }
    clean.into()
}

/// Returns true for control characters, for those that set the direction of text (bidi), and for those without width.
/// `maglevd` permits none of them; other servers might.
fn is_unprintable(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{180e}' | '\u{3164}' | '\u{feff}' | '\u{ffa0}'
            | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invisible_characters_are_escaped() {
        assert_eq!(printable("ok"), "ok");
        assert_eq!(printable("größer, 磁盘"), "größer, 磁盘");
        for hidden in ["\x1b[2J", "a\u{202e}b", "a\u{2066}b", "a\u{200b}b", "a\u{feff}b"] {
            assert!(
                printable(hidden).is_ascii() && !printable(hidden).contains(is_unprintable),
                "{hidden:?}"
            );
        }
    }

    #[test]
    fn unprintable_characters_are_those_of_maglevd() {
        let differs = |c: &char| is_unprintable(*c) != maglev_ipc::text::is_unprintable(*c);
        assert_eq!(('\0'..=char::MAX).find(differs), None);
    }

    #[test]
    fn colour_follows_choice_and_terminal() {
        assert_eq!(Screen::new(ColorChoice::Always, false).apply(TextStyle::Good, "up"), "\x1b[32mup\x1b[0m");
        assert_eq!(Screen::new(ColorChoice::Never, true).apply(TextStyle::Good, "up"), "up");
        assert_eq!(Screen::new(ColorChoice::Auto, false).apply(TextStyle::Good, "up"), "up");
        assert_eq!(Screen::new(ColorChoice::Always, true).apply(TextStyle::Plain, "up"), "up");
    }

    #[test]
    fn control_characters_are_escaped() {
        assert_eq!(printable("a\x1b[2Jb\nc"), "a\\u{1b}[2Jb\\nc");
        assert_eq!(printable("grün"), "grün");
    }
}
