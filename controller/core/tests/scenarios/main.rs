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

use maglev_core::overrides::{MAX, Override, OverrideKind, Overrides};

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

/// Some file may be full of what left the configuration long ago: nothing is added, but everything can be undone.
#[test]
fn there_are_not_more_overrides_than_there_may_be() {
    let mut world = World::new();
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
    world.start_with(overrides.into());
    for (command, said) in [
        ("operator pause a2", "there are 100000 overrides already"),
        ("operator pause a1", "alice: pause backend a1: paused -> paused"),
        ("operator disable a1", "alice: disable backend a1: paused -> disabled"),
        ("operator resume gone1", "alice: resume backend gone1: paused -> "),
        ("operator pause a2", "alice: pause backend a2: unknown -> paused"),
    ] {
        world.said.clear();
        world.command(command);
        assert!(world.said[0].contains(said), "{command}: {:?}", world.said);
    }
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
