//! Terminal sessions on a page: commands and their output.

use super::masks;

/// Placeholder for any lines.
const ANY: &str = "…";
/// Ctrl-C as a terminal displays it.
const INTERRUPT: &str = "^C";

/// A command with the output on the page.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Command {
    /// Command as a script.
    pub script: String,
    /// Lines of the page that contain the command.
    pub typed: Vec<String>,
    /// Expected lines.
    pub output: Vec<String>,
    /// True if Ctrl-C ends it after these lines.
    pub interrupted: bool,
}

/// Result of a command.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CommandOutput {
    /// Combined output.
    pub lines: Vec<String>,
    /// True if the command succeeded.
    pub succeeded: bool,
}

/// Parses the commands of a block.
///
/// # Panics
/// If the block does not begin with a command.
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
        // A blank line before the next command is formatting.
        while command.output.last().is_some_and(String::is_empty) {
            command.output.pop();
        }
    }
    commands
}

impl Command {
    /// True for read-only commands, which can be repeated until they show the expected output.
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

    /// True if the output matches the page, after masking. If the page omits lines, the command must succeed.
    #[must_use]
    pub fn expects(&self, printed: &CommandOutput) -> bool {
        if !printed.succeeded && self.output.iter().any(|line| line == ANY) {
            return false;
        }
        let wanted: Vec<_> = self.output.iter().map(|line| masks::mask(line)).collect();
        let found: Vec<_> = printed.lines.iter().map(|line| masks::mask(line)).collect();
        matches(&wanted, &found)
    }

    /// Returns the command as written on a page, with that output.
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
    fn continued_command_is_parsed_with_output() {
        let all = commands("$ cat <<END\n> a\n>\n> b\n> END\na\n\nb\n\n$ true\n$ watch\nx\n^C\n");
        assert_eq!(all[0].script, "cat <<END\na\n\nb\nEND");
        assert_eq!(all[0].output, ["a", "", "b"]);
        assert_eq!((all[1].output.len(), all[1].interrupted), (0, false));
        assert_eq!((all[2].output.as_slice(), all[2].interrupted), (&["x".to_owned()][..], true));
        assert_eq!(all[2].written(&["y".to_owned()]), "$ watch\ny\n^C\n");
    }

    #[test]
    fn output_is_compared_after_masking() {
        let command = only("$ a\nnginx0  up  10m30s\n…\nend\n");
        for (lines, is_it) in [
            (&["nginx0 up 2s", "end"][..], true),
            (&["nginx0    up  2s", "more", "and more", "end"], true),
            (&["nginx0 down 2s", "end"], false),
            (&["nginx0 up 2s", "end", "more"], false),
            (&["nginx0 up 2s"], false),
        ] {
            let lines: Vec<_> = lines.iter().map(|line| (*line).to_owned()).collect();
            let mut printed = CommandOutput { lines, succeeded: true };
            assert_eq!(command.expects(&printed), is_it, "{printed:?}");
            printed.succeeded = false;
            assert!(!command.expects(&printed));
        }
        let failed = CommandOutput { lines: vec!["no".to_owned()], succeeded: false };
        assert!(only("$ a\nno\n").expects(&failed));
    }

    #[test]
    fn read_only_commands_are_recognised() {
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
