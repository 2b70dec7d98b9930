//! Scenarios as plain text: what the core is told, and what it does about it.
//!
//! A line that starts with `> ` is a command; the lines below it are what follows. `MAGLEV_REWRITE=1 cargo test` writes
//! the files anew, and the difference is the review. VPP is a model that does what it is asked, unless told to fail.

#![cfg(test)]
mod prober;
mod vpp;
mod words;
mod world;

use std::fmt::Write as _;
use std::{env, fs};

use world::World;

#[test]
fn transcripts() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/scenarios");
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|ext| ext == "txt"));
    files.sort();
    assert!(files.len() >= 10, "the scenarios are there");
    let mut wrong = Vec::new();
    for file in files {
        let transcript = fs::read_to_string(&file).unwrap();
        let replayed = replay(&transcript);
        if replayed == transcript {
            continue;
        }
        if env::var_os("MAGLEV_REWRITE").is_some() {
            fs::write(&file, &replayed).unwrap();
            continue;
        }
        wrong.push(format!("{}:\n{}", file.display(), first_difference(&transcript, &replayed)));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn first_difference(expected: &str, got: &str) -> String {
    let at = expected.lines().zip(got.lines()).position(|(a, b)| a != b);
    let at = at.unwrap_or_else(|| expected.lines().count().min(got.lines().count()));
    let show = |text: &str| text.lines().nth(at).unwrap_or("<end>").to_owned();
    format!("line {}\n  expected: {}\n  got:      {}", at + 1, show(expected), show(got))
}

/// Runs the commands of a transcript, and writes it anew.
fn replay(transcript: &str) -> String {
    let mut world = World::new();
    let mut text = String::new();
    for line in transcript.lines() {
        if let Some(command) = line.strip_prefix("> ") {
            writeln!(text, "{line}").unwrap();
            world.command(command);
            for line in world.said.drain(..) {
                writeln!(text, "  {line}").unwrap();
            }
        } else if !line.starts_with("  ") {
            writeln!(text, "{line}").unwrap();
        }
    }
    text
}
