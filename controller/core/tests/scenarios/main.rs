//! Scenarios as plain text: commands, and the core's reactions.
//!
//! A line with `> ` is a command; the lines below it are the outputs. `MAGLEV_REWRITE=1 cargo test` regenerates the files, and
//! the difference is the review. The model of VPP accepts every request, unless a command makes it fail.

#![cfg(test)]
mod format;
mod prober;
mod vpp;
mod world;

use std::fmt::Write as _;
use std::{env, fs};

use maglev_core::overrides::{MAX, Override, OverrideKind, Overrides};
use maglev_core::ownership::OwnedVips;

use world::ScenarioWorld;

#[test]
fn transcripts() {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/scenarios");
    let mut files: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|ext| ext == "txt"));
    files.sort();
    assert!(files.len() >= 10, "the scenarios are missing");
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

/// A file may be full of dangling overrides: new ones are rejected, but each can be removed.
#[test]
fn full_overrides_reject_additions_only() {
    let mut world = ScenarioWorld::new();
    world.command("backend a1 192.0.2.1");
    world.command("backend a2 192.0.2.2");
    let paused = |backend: String| Override {
        backend: backend.into(),
        slot: None,
        kind: OverrideKind::Paused,
        meta: Default::default(),
    };
    let mut overrides = Overrides::default();
    (1..MAX).for_each(|n| overrides.insert(paused(format!("gone{n}"))));
    overrides.insert(paused("a1".into()));
    world.start_with(overrides.into(), OwnedVips::default());
    for (command, lines) in [
        ("operator pause a2", "the limit of 100000 overrides is reached"),
        ("operator pause a1", "alice: pause backend a1: paused -> paused"),
        ("operator disable a1", "alice: disable backend a1: paused -> disabled"),
        ("operator resume gone1", "alice: resume backend gone1: paused -> "),
        ("operator pause a2", "alice: pause backend a2: unknown -> paused"),
    ] {
        world.lines.clear();
        world.command(command);
        assert!(world.lines[0].contains(lines), "{command}: {:?}", world.lines);
    }
}

fn first_difference(expected: &str, got: &str) -> String {
    let at = expected.lines().zip(got.lines()).position(|(a, b)| a != b);
    let at = at.unwrap_or_else(|| expected.lines().count().min(got.lines().count()));
    let show = |text: &str| text.lines().nth(at).unwrap_or("<end>").to_owned();
    format!("line {}\n  expected: {}\n  got:      {}", at + 1, show(expected), show(got))
}

/// Runs the commands of a transcript, and returns the new transcript.
fn replay(transcript: &str) -> String {
    let mut world = ScenarioWorld::new();
    let mut text = String::new();
    for line in transcript.lines() {
        if let Some(command) = line.strip_prefix("> ") {
            writeln!(text, "{line}").unwrap();
            world.command(command);
            for line in world.lines.drain(..) {
                writeln!(text, "  {line}").unwrap();
            }
        } else if !line.starts_with("  ") {
            writeln!(text, "{line}").unwrap();
        }
    }
    text
}
