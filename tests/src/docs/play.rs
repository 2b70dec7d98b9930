//! Runs the terminal sessions of a page.

use std::time::{Duration, Instant};
use std::{env, fs, thread};

use super::documented_host::DocumentedHost;
use super::page::{self, Fence, Page, PagePart};
use super::terminal::{Command, CommandOutput, commands};

/// Marker of the parts that need a machine without the package.
const BARE: &str = "bare";

/// Timeout for repeating read-only commands.
const PATIENCE: Duration = Duration::from_secs(20);
/// Timeout where repetition is unlikely to help: when pages are rewritten, and after a first difference.
const SHORT_PATIENCE: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(100);

/// Splits a page into the parts for a prepared machine and those for a bare one.
#[must_use]
pub fn split_sessions(page: &Page) -> (&[PagePart], &[PagePart]) {
    let bare = page.parts.iter().position(|part| matches!(part, PagePart::Scene(scene) if scene == BARE));
    match bare {
        Some(at) => (&page.parts[..at], &page.parts[at + 1..]),
        None => (&page.parts, &[]),
    }
}

/// True if there is a session to run.
#[must_use]
pub fn has_sessions(parts: &[PagePart]) -> bool {
    parts.iter().any(|part| matches!(part, PagePart::Fence(fence) if fence.language == "console"))
}

/// Runs sessions and returns the differences, or writes the actual output into the page if requested.
#[must_use]
pub fn run_sessions(page: &Page, parts: &[PagePart], host: &mut DocumentedHost) -> Vec<String> {
    let rewrites = env::var_os("MAGLEV_REWRITE").is_some_and(|value| value == "1");
    let (mut differences, mut changed) = (Vec::new(), Vec::new());
    for part in parts {
        match part {
            PagePart::Scene(scene) => host.scene(scene),
            PagePart::Fence(fence) if fence.language == "console" => {
                let in_vain = rewrites || !differences.is_empty();
                let (body, found) = run_block(host, fence, if in_vain { SHORT_PATIENCE } else { PATIENCE });
                if !found.is_empty() {
                    changed.push((fence, body));
                }
                let at = format!("{}:{}", page.name, fence.line);
                differences.extend(found.into_iter().map(|difference| format!("{at}: {difference}")));
            }
            PagePart::Heading { .. } | PagePart::Table(_) | PagePart::Fence(_) => {}
        }
    }
    if rewrites {
        rewrite(page, &changed);
        differences.clear();
    }
    differences
}

/// Runs the commands of a block. Returns the block with actual output, and the differences.
fn run_block(host: &DocumentedHost, fence: &Fence, patience: Duration) -> (String, Vec<String>) {
    let (mut body, mut differences) = (String::new(), Vec::new());
    for command in commands(&fence.body) {
        let printed = run(host, &command, patience);
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

/// Runs a command, repeating it until its output matches the page.
fn run(host: &DocumentedHost, command: &Command, patience: Duration) -> CommandOutput {
    if command.interrupted {
        return host.interrupt(&command.script, |printed| command.expects(printed), patience);
    }
    let deadline = Instant::now() + patience;
    loop {
        let printed = host.run(&command.script);
        if command.expects(&printed) || !command.only_looks() || Instant::now() > deadline {
            return printed;
        }
        thread::sleep(PAUSE);
    }
}

/// Replaces blocks, last first, so that earlier ranges stay valid.
fn rewrite(page: &Page, blocks: &[(&Fence, String)]) {
    let mut text = page::read(&page.name);
    for (fence, body) in blocks.iter().rev() {
        text.replace_range(fence.range.clone(), body);
    }
    fs::write(page::path(&page.name), text).unwrap();
}
