//! Completion in the user's own shell: bash, zsh and fish, each in a terminal.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::fake::FakeDaemon;
use crate::terminal::Terminal;

const CTRL_U: &str = "\x15";

/// A shell that knows how to complete maglevc. None, with a line that says so, if it is not installed.
fn shell(program: &str, arguments: &[&str], test: &str, home: &Path) -> Option<Terminal> {
    let asked = Command::new(program).arg("--version").stdout(Stdio::null()).status();
    if asked.is_err() {
        println!("SKIP {test}: {program} is not installed");
        return None;
    }
    let mut terminal = Terminal::run(home, program, arguments);
    let scripts = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("completions");
    let scripts = scripts.display();
    terminal.press(&match program {
        "bash" => format!("PS1='> '; bind 'set enable-bracketed-paste off'; source {scripts}/maglevc.bash\r"),
        "zsh" => {
            format!(
                "PS1='> '; fpath=({scripts} $fpath); autoload -U compinit; compinit -u -d {}/zsh; clear\r",
                home.display()
            )
        }
        _ => format!("function fish_prompt; echo '> '; end; source {scripts}/maglevc.fish; clear\r"),
    });
    terminal.until_last(">");
    Some(terminal)
}

/// Types what is begun, and waits until TAB has made this of it.
fn completes(terminal: &mut Terminal, begun: &str, whole: &str) {
    terminal.press(CTRL_U);
    terminal.until_last(">");
    terminal.press(begun);
    terminal.until_last(&format!("> {}", begun.trim_end()));
    terminal.press("\t");
    terminal.until(whole, |lines| lines.iter().any(|line| *line == format!("> {whole}")));
}

/// Types what is begun, and waits until TAB has listed these.
fn lists(terminal: &mut Terminal, begun: &str, all: &[&str]) {
    terminal.press(CTRL_U);
    terminal.until_last(">");
    terminal.press(begun);
    terminal.until_last(&format!("> {}", begun.trim_end()));
    terminal.press("\t\t");
    let listed = |lines: &[String]| all.iter().all(|one| lines.iter().any(|line| line.contains(one)));
    terminal.until(&format!("{all:?}"), listed);
}

/// Checks common to all shells.
fn common(terminal: &mut Terminal, address: &str) {
    let before = format!("maglevc --server {address}");
    completes(terminal, &format!("{before} sh"), &format!("{before} show"));
    completes(terminal, &format!("{before} show backends sor"), &format!("{before} show backends sorry"));
    completes(terminal, &format!("{before} se f web pool fa"), &format!("{before} se f web pool fallback"));
    completes(terminal, "maglevc --ou", "maglevc --output");
    completes(terminal, "maglevc --output j", "maglevc --output json");
    completes(terminal, "maglevc --color=al", "maglevc --color=always");
    lists(terminal, &format!("{before} explain backend "), &["nginx0", "nginx1", "sorry"]);
}

#[test]
fn bash_completes() {
    let (fake, home) = (FakeDaemon::start(), tempfile::tempdir().unwrap());
    let arguments = ["--norc", "--noprofile", "-i"];
    let Some(mut terminal) = shell("bash", &arguments, "bash_completes", home.path()) else { return };
    common(&mut terminal, &fake.address());
    let before = format!("maglevc --server={}", fake.address());
    completes(
        &mut terminal,
        &format!("{before} show backends sor"),
        &format!("{before} show backends sorry"),
    );
}

#[test]
fn zsh_completes() {
    let (fake, home) = (FakeDaemon::start(), tempfile::tempdir().unwrap());
    let Some(mut terminal) = shell("zsh", &["-f", "-i"], "zsh_completes", home.path()) else { return };
    common(&mut terminal, &fake.address());
    lists(
        &mut terminal,
        &format!("maglevc --server {} show backends ", fake.address()),
        &["paused, 192.0.2.12"],
    );
}

#[test]
fn fish_completes() {
    let (fake, home) = (FakeDaemon::start(), tempfile::tempdir().unwrap());
    let Some(mut terminal) = shell("fish", &["--no-config", "-i"], "fish_completes", home.path()) else {
        return;
    };
    common(&mut terminal, &fake.address());
    lists(
        &mut terminal,
        &format!("maglevc --server {} show backends ", fake.address()),
        &["paused, 192.0.2.12"],
    );
}

/// Returns the output of `maglevc __complete`.
fn candidates(words: &[&str]) -> String {
    let output = Command::new(crate::terminal::MAGLEVC).arg("__complete").args(words).output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn completion_is_silent_without_server() {
    let mut fake = FakeDaemon::start();
    let server = fake.address();
    assert_eq!(candidates(&["--server", &server, "show", "backends", "sor"]), "sorry\tup, 192.0.2.11\n");
    for nothing in [
        &["--server", &server, "shwo", ""][..],
        &["--server", &server, "show", "backends", "x"],
        &["--server", &server, "show", "backends", "sorry", ""],
        &["--server", ""],
        &["--no-such-flag="],
        &["--", "--ou"],
        &[],
    ] {
        assert_eq!(candidates(nothing), "", "{nothing:?}");
    }
    fake.stop();
    assert_eq!(candidates(&["--server", &server, "show", "backends", ""]), "");
    assert_eq!(candidates(&["--server", &server, "show", "vpp", "i"]), "info\tThe connected VPP\n");
}
