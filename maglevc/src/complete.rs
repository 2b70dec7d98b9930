//! Completion in the user's shell. The scripts in `completions/` call `maglevc __complete WORD...` with the words up
//! to the cursor. The output has one candidate per line, with a tab and its description.

use std::env;
use std::ffi::OsString;
use std::fmt::Write;

use clap::builder::PossibleValue;
use clap::{Arg, CommandFactory, FromArgMatches, ValueHint};

use crate::Cli;
use crate::names::NameCache;
use crate::session;
use crate::suggest::suggest;

/// Output that asks the shell to complete file names.
const FILES: &str = ":files";

/// Returns the words to complete, if this process was started for completion.
pub fn asked() -> Option<Vec<String>> {
    let mut arguments = env::args_os().skip(1);
    (arguments.next()? == "__complete").then(|| arguments.map(into_text).collect())
}

fn into_text(word: OsString) -> String {
    word.to_string_lossy().into_owned()
}

/// Prints the completions of the last of `words`. Prints nothing on errors and on a slow server.
pub async fn run(words: Vec<String>) {
    // Completion has no place for errors.
    let _ = session::write(&candidates(&words).await);
}

async fn candidates(words: &[String]) -> String {
    let Some((begun, before)) = words.split_last() else { return String::new() };
    let flags = !before.iter().any(|word| word == "--");
    if flags {
        if let Some(flag) = before.last().and_then(|word| valued_flag(word)) {
            return values(&flag, "", begun);
        }
        if let Some((name, value)) = begun.split_once('=') {
            let flag = valued_flag(name);
            return flag.map(|flag| values(&flag, &format!("{name}="), value)).unwrap_or_default();
        }
        if begun.starts_with('-') {
            return flag_names(begun);
        }
    }
    in_command(before, begun).await
}

async fn in_command(before: &[String], begun: &str) -> String {
    let words = ["maglevc"].into_iter().chain(before.iter().map(String::as_str));
    let matches = Cli::command().ignore_errors(true).try_get_matches_from(words);
    let Some(cli) = matches.ok().and_then(|matches| Cli::from_arg_matches(&matches).ok()) else {
        return String::new();
    };
    let mut names = NameCache::new(cli.server());
    let suggestions = suggest(&cli.command, begun, &mut names).await.unwrap_or_default();
    let literal = suggestions.all.into_iter().filter(|one| one.literal);
    literal.map(|one| line(&one.text, &one.help)).collect()
}

/// Returns the flag that this word is, if it takes a value.
fn valued_flag(word: &str) -> Option<Arg> {
    let long = word.strip_prefix("--")?;
    let mut command = Cli::command();
    command.build();
    let mut flags = command.get_arguments();
    flags.find(|flag| flag.get_long() == Some(long) && flag.get_action().takes_values()).cloned()
}

fn values(flag: &Arg, prefix: &str, begun: &str) -> String {
    if matches!(flag.get_value_hint(), ValueHint::FilePath | ValueHint::AnyPath | ValueHint::DirPath) {
        return format!("{FILES}\n");
    }
    let about = |value: &PossibleValue| value.get_help().map(ToString::to_string).unwrap_or_default();
    let fit = flag.get_possible_values().into_iter().filter(|value| value.get_name().starts_with(begun));
    fit.map(|value| line(&format!("{prefix}{}", value.get_name()), &about(&value))).collect()
}

fn flag_names(begun: &str) -> String {
    let mut command = Cli::command();
    command.build();
    let mut lines = String::new();
    for flag in command.get_arguments() {
        let Some(long) = flag.get_long().map(|long| format!("--{long}")) else { continue };
        if long.starts_with(begun) {
            lines += &line(&long, &flag.get_help().map(ToString::to_string).unwrap_or_default());
        }
    }
    lines
}

fn line(candidate: &str, about: &str) -> String {
    let mut line = candidate.to_owned();
    if let Some(about) = about.lines().next() {
        // Writing to a string cannot fail.
        let _ = write!(line, "\t{about}");
    }
    line + "\n"
}
