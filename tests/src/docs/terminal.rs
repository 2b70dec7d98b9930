//! A terminal, as it is written on a page: what is typed, and what comes of it.

use super::masks;

/// Stands for any lines.
const ANY: &str = "…";
/// Stands for Ctrl-C, as a terminal shows it.
const INTERRUPT: &str = "^C";

/// A command, and its output as the page has it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Command {
    /// What is typed, as a script.
    pub script: String,
    /// The lines of the page that it stands in.
    pub typed: Vec<String>,
    /// The lines that are to come.
    pub output: Vec<String>,
    /// Whether it is ended by Ctrl-C once they have come.
    pub interrupted: bool,
}

/// What became of a command.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Printed {
    /// On either output.
    pub lines: Vec<String>,
    /// Whether it says that it did what it is for.
    pub succeeded: bool,
}

/// The commands of a block of code.
///
/// # Panics
/// It does not begin with one.
#[must_use]
pub fn commands(body: &str) -> Vec<Command> {
    let mut commands: Vec<Command> = Vec::new();
    for line in body.lines() {
        if let Some(script) = line.strip_prefix("$ ") {
            let (script, typed) = (script.to_owned(), vec![line.to_owned()]);
            commands.push(Command { script, typed, output: Vec::new(), interrupted: false });
            continue;
        }
        let last = commands.last_mut().unwrap_or_else(|| panic!("output without a command:\n{body}"));
        match line.strip_prefix('>').filter(|rest| rest.is_empty() || rest.starts_with(' ')) {
            Some(rest) if last.output.is_empty() => {
                last.script += "\n";
                last.script += rest.strip_prefix(' ').unwrap_or_default();
                last.typed.push(line.to_owned());
            }
            _ if line == INTERRUPT => last.interrupted = true,
            _ => last.output.push(line.to_owned()),
        }
    }
    for command in &mut commands {
        // A blank line before the next command is for the eye.
        while command.output.last().is_some_and(String::is_empty) {
            command.output.pop();
        }
    }
    commands
}

impl Command {
    /// Whether it changes nothing, so that it can be repeated until it shows what is to be seen.
    #[must_use]
    pub fn only_looks(&self) -> bool {
        let mut words = self.script.split_whitespace().filter(|word| !word.starts_with('-'));
        let looks = match (words.next(), words.next()) {
            (Some("maglevc"), Some("json" | "text")) => matches!(words.next(), Some("show" | "explain")),
            (Some("maglevc"), Some("config")) => words.next() == Some("check"),
            (Some("maglevc"), Some("show" | "explain"))
            | (Some("systemctl"), Some("status" | "is-active"))
            | (Some("journalctl" | "curl"), _) => true,
            _ => false,
        };
        looks && !self.interrupted
    }

    /// Whether what was printed is what the page has, but for what is different each time. Where the page does not tell all, the
    /// command has to succeed.
    #[must_use]
    pub fn expects(&self, printed: &Printed) -> bool {
        if !printed.succeeded && self.output.iter().any(|line| line == ANY) {
            return false;
        }
        let wanted: Vec<_> = self.output.iter().map(|line| masks::mask(line)).collect();
        let found: Vec<_> = printed.lines.iter().map(|line| masks::mask(line)).collect();
        matches(&wanted, &found)
    }

    /// How it stands on a page, with that output.
    #[must_use]
    pub fn written(&self, output: &[String]) -> String {
        let interrupt = self.interrupted.then(|| INTERRUPT.to_owned());
        self.typed.iter().chain(output).chain(&interrupt).map(|line| format!("{line}\n")).collect()
    }
}

fn matches(wanted: &[String], found: &[String]) -> bool {
    let Some((first, rest)) = wanted.split_first() else { return found.is_empty() };
    if first == ANY {
        return (0..=found.len()).any(|skipped| matches(rest, &found[skipped..]));
    }
    found.first() == Some(first) && matches(rest, &found[1..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn only(body: &str) -> Command {
        let [only] = commands(body).try_into().unwrap();
        only
    }

    #[test]
    fn a_command_goes_on_after_a_sign_and_ends_with_its_output() {
        let all = commands("$ cat <<END\n> a\n>\n> b\n> END\na\n\nb\n\n$ true\n$ watch\nx\n^C\n");
        assert_eq!(all[0].script, "cat <<END\na\n\nb\nEND");
        assert_eq!(all[0].output, ["a", "", "b"]);
        assert_eq!((all[1].output.len(), all[1].interrupted), (0, false));
        assert_eq!((all[2].output.as_slice(), all[2].interrupted), (&["x".to_owned()][..], true));
        assert_eq!(all[2].written(&["y".to_owned()]), "$ watch\ny\n^C\n");
    }

    #[test]
    fn output_is_compared_but_for_what_is_different_each_time() {
        let command = only("$ a\nnginx0  up  10m30s\n…\nend\n");
        for (lines, is_it) in [
            (&["nginx0 up 2s", "end"][..], true),
            (&["nginx0    up  2s", "more", "and more", "end"], true),
            (&["nginx0 down 2s", "end"], false),
            (&["nginx0 up 2s", "end", "more"], false),
            (&["nginx0 up 2s"], false),
        ] {
            let lines: Vec<_> = lines.iter().map(|line| (*line).to_owned()).collect();
            let mut printed = Printed { lines, succeeded: true };
            assert_eq!(command.expects(&printed), is_it, "{printed:?}");
            printed.succeeded = false;
            assert!(!command.expects(&printed));
        }
        let failed = Printed { lines: vec!["no".to_owned()], succeeded: false };
        assert!(only("$ a\nno\n").expects(&failed));
    }

    #[test]
    fn what_only_looks_is_known() {
        for (script, looks) in [
            ("maglevc show frontends", true),
            ("maglevc --output json show frontends", true),
            ("maglevc config check plan", true),
            ("maglevc config reload", false),
            ("maglevc set backend a pause", false),
            ("curl -s http://localhost:9091/metrics | grep up", true),
        ] {
            assert_eq!(only(&format!("$ {script}\n")).only_looks(), looks, "{script}");
        }
    }
}
