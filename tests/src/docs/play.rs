//! Plays the terminals of a page.

use std::time::{Duration, Instant};
use std::{env, fs, thread};

use super::page::{self, Fence, Page, Part};
use super::documented_host::Stage;
use super::terminal::{Command, Printed, commands};

/// From here on, nothing of ours is on the machine.
const BARE: &str = "bare";

/// How long what only looks is repeated.
const PATIENCE: Duration = Duration::from_secs(20);
/// The same where it is likely to be in vain: when pages are written, and once something was different.
const IMPATIENCE: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(100);

/// The parts of a page that are played on a stage that is set, and those on a bare one.
#[must_use]
pub fn acts(page: &Page) -> (&[Part], &[Part]) {
    let bare = page.parts.iter().position(|part| matches!(part, Part::Scene(scene) if scene == BARE));
    match bare {
        Some(at) => (&page.parts[..at], &page.parts[at + 1..]),
        None => (&page.parts, &[]),
    }
}

/// Whether there is something to be played.
#[must_use]
pub fn is_played(parts: &[Part]) -> bool {
    parts.iter().any(|part| matches!(part, Part::Fence(fence) if fence.language == "console"))
}

/// Plays parts of a page. Returns what was different, or, if it is to be so, writes it into the page.
#[must_use]
pub fn play(page: &Page, parts: &[Part], stage: &mut Stage) -> Vec<String> {
    let rewrites = env::var_os("MAGLEV_REWRITE").is_some_and(|value| value == "1");
    let (mut differences, mut changed) = (Vec::new(), Vec::new());
    for part in parts {
        match part {
            Part::Scene(scene) => stage.scene(scene),
            Part::Fence(fence) if fence.language == "console" => {
                let in_vain = rewrites || !differences.is_empty();
                let (body, found) = perform(stage, fence, if in_vain { IMPATIENCE } else { PATIENCE });
                if !found.is_empty() {
                    changed.push((fence, body));
                }
                let at = format!("{}:{}", page.name, fence.line);
                differences.extend(found.into_iter().map(|difference| format!("{at}: {difference}")));
            }
            Part::Heading { .. } | Part::Table(_) | Part::Fence(_) => {}
        }
    }
    if rewrites {
        rewrite(page, &changed);
        differences.clear();
    }
    differences
}

/// Runs the commands of a block. Returns it as it should be, and what was different.
fn perform(stage: &Stage, fence: &Fence, patience: Duration) -> (String, Vec<String>) {
    let (mut body, mut differences) = (String::new(), Vec::new());
    for command in commands(&fence.body) {
        let printed = run(stage, &command, patience);
        let wanted = command.written(&command.output);
        if command.expects(&printed) {
            body += &wanted;
        } else {
            let really = command.written(&printed.lines);
            differences.push(format!("the page has\n{wanted}and this is so:\n{really}"));
            body += &really;
        }
    }
    (body, differences)
}

/// What a command prints, as soon as it is what the page has.
fn run(stage: &Stage, command: &Command, patience: Duration) -> Printed {
    if command.interrupted {
        return stage.interrupt(&command.script, |printed| command.expects(printed), patience);
    }
    let deadline = Instant::now() + patience;
    loop {
        let printed = stage.run(&command.script);
        if command.expects(&printed) || !command.only_looks() || Instant::now() > deadline {
            return printed;
        }
        thread::sleep(PAUSE);
    }
}

/// Writes blocks anew. The last goes first, as the others stay where they are.
fn rewrite(page: &Page, blocks: &[(&Fence, String)]) {
    let mut text = page::read(&page.name);
    for (fence, body) in blocks.iter().rev() {
        text.replace_range(fence.range.clone(), body);
    }
    fs::write(page::path(&page.name), text).unwrap();
}
