//! Commands, options, variables and make targets mentioned in the documentation exist.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use maglev_tests::docs::manual::Manual;
use maglev_tests::docs::page;
use maglev_tests::docs::terminal;

use crate::flags::{PROGRAMS, of_help};
use crate::grammar::commands;

const MANUALS: [&str; 4] = ["maglev.yaml.5", "maglevc.1", "maglevd-prober.8", "maglevd.8"];

/// Characters that end a command in a line.
const ENDS: [char; 9] = ['|', ';', '#', ')', '(', '<', '>', '`', '&'];

/// Variables that belong to packaging, build and tests error_for of a flag.
const NON_FLAG_VARIABLES: [&str; 7] =
    ["BUILD_DATE", "COMMIT", "DEB", "FUZZ", "FUZZ_SEEDS", "REWRITE", "ROOTFS"];

/// A line or phrase of a page or manual that may be a command.
struct CommandPhrase {
    at: String,
    text: String,
    /// True within a sentence, where commands may be abbreviated.
    is_inline: bool,
}

fn phrases() -> Vec<CommandPhrase> {
    let mut phrases = Vec::new();
    for page in page::all() {
        for fence in ["sh", "console", "text", ""].iter().flat_map(|language| page.fences(language)) {
            let at = format!("{}:{}", page.name, fence.line);
            let lines: Vec<_> = match fence.language.as_str() {
                "console" => {
                    terminal::commands(&fence.body).into_iter().map(|command| command.script).collect()
                }
                _ => fence.body.lines().map(|line| line.trim_start_matches("$ ").to_owned()).collect(),
            };
            phrases.extend(lines.into_iter().map(|text| CommandPhrase {
                at: at.clone(),
                text,
                is_inline: false,
            }));
        }
        let inline =
            page.codes.into_iter().map(|text| CommandPhrase { at: page.name.clone(), text, is_inline: true });
        phrases.extend(inline);
    }
    for name in MANUALS {
        for display in Manual::read(&format!("docs/man/{name}")).displays() {
            let lines = display.lines().map(|line| line.trim_start_matches(['$', '#', ' ']).to_owned());
            phrases.extend(lines.map(|text| CommandPhrase { at: name.to_owned(), text, is_inline: false }));
        }
    }
    phrases
}

/// Returns the arguments of each mention of a program. A path is reduced to its last component.
fn uses<'a>(phrase: &'a str, program: &str) -> Vec<Vec<&'a str>> {
    let mut uses = Vec::new();
    for command in phrase.split(ENDS) {
        let words: Vec<_> = command.split_whitespace().collect();
        let is_it = |word: &&str| word.rsplit('/').next() == Some(program);
        uses.extend(words.iter().position(is_it).map(|at| words[at + 1..].to_vec()));
    }
    uses
}

#[test]
fn mentioned_options_exist() {
    let known: BTreeMap<_, _> = PROGRAMS.map(|program| (program, of_help(program))).into();
    let mut found = 0;
    for CommandPhrase { at, text: phrase, .. } in phrases() {
        for (program, flags) in &known {
            for word in uses(&phrase, program).into_iter().flatten() {
                let name = word.trim_matches(['[', ']', ',']).split('=').next().unwrap_or_default();
                if name.starts_with("--") {
                    assert!(flags.contains_key(name), "{at}: {program} has no {name}: {phrase}");
                    found += 1;
                }
            }
        }
    }
    assert!(found > 5, "{found}");
}

#[test]
fn mentioned_commands_exist() {
    let usages: Vec<_> = commands().iter().map(|usage| parse(usage)).collect();
    let mut found = 0;
    for CommandPhrase { at, text: phrase, is_inline } in phrases() {
        for words in uses(&phrase, "maglevc") {
            let Some(words) = command(&words) else { continue };
            let is_one = usages.iter().any(|usage| matches(usage, &words, !is_inline));
            assert!(is_one, "{at}: maglevc has no such command: {phrase}");
            found += 1;
        }
    }
    assert!(found > 10, "{found}");
}

/// Returns the words of a command without options, or `None` for an incomplete or deliberately wrong command.
fn command(words: &[&str]) -> Option<Vec<String>> {
    let mut rest = words.iter();
    let mut command = Vec::new();
    let mut quoted = false;
    while let Some(word) = rest.next() {
        if quoted {
            quoted = !word.ends_with('"');
        } else if word.starts_with("--") {
            if !word.contains('=') {
                rest.next();
            }
        } else {
            quoted = word.starts_with('"') && !word[1..].ends_with('"');
            command.push((*word).to_owned());
        }
    }
    let begins = command.first()?.starts_with(|c: char| c.is_ascii_lowercase());
    let is_whole = !command.iter().any(|word| word.contains('…') || word == "bakcends");
    (begins && is_whole && !command[0].ends_with(['.', ','])).then_some(command)
}

/// Element of a usage.
#[derive(Debug)]
enum UsagePart {
    /// One of several keywords.
    Word(Vec<String>),
    /// Any value.
    Value,
    /// Optional part.
    Maybe(Vec<UsagePart>),
}

fn parse(usage: &str) -> Vec<UsagePart> {
    let spaced = usage.replace('[', "[ ").replace(']', " ]");
    parts(&mut spaced.split_whitespace())
}

fn parts<'a>(words: &mut impl Iterator<Item = &'a str>) -> Vec<UsagePart> {
    let mut found = Vec::new();
    while let Some(word) = words.next() {
        match word {
            "[" => found.push(UsagePart::Maybe(parts(words))),
            "]" => break,
            word if word.chars().all(|c| c.is_ascii_uppercase()) => found.push(UsagePart::Value),
            word => found.push(UsagePart::Word(word.split('|').map(str::to_owned).collect())),
        }
    }
    found
}

/// True if a command matches the usage, or is a prefix of it when it need not be whole. Optional parts may come in any order.
fn matches(usage: &[UsagePart], words: &[String], whole: bool) -> bool {
    left(usage, words, whole).is_some_and(<[String]>::is_empty)
}

/// Returns the words that remain after a usage has consumed its part.
fn left<'a>(usage: &[UsagePart], words: &'a [String], whole: bool) -> Option<&'a [String]> {
    let mut words = words;
    let mut optional = Vec::new();
    for part in usage {
        if let UsagePart::Maybe(parts) = part {
            optional.push(parts);
            continue;
        }
        let Some((first, rest)) = words.split_first() else { return (!whole).then_some(words) };
        match part {
            // Every keyword may be abbreviated.
            UsagePart::Word(several) if !several.iter().any(|word| word.starts_with(first.as_str())) => {
                return None;
            }
            _ => words = rest,
        }
    }
    loop {
        let taken = optional.iter().enumerate().find_map(|(at, parts)| {
            Some((at, left(parts, words, whole).filter(|rest| rest.len() < words.len())?))
        });
        let Some((at, rest)) = taken else { return Some(words) };
        optional.remove(at);
        words = rest;
    }
}

#[test]
fn command_matcher_rejects_invalid_commands() {
    let usages: Vec<_> = commands().iter().map(|usage| parse(usage)).collect();
    for (line, is_one) in [
        ("show frontends", true),
        ("sh ba nginx0", true),
        ("show frontends web", true),
        ("show frontends web more", false),
        ("set backend a pause for 2h reason \"disk swap\"", true),
        ("set backend a pause for", false),
        ("set backend a", false),
        ("watch events num 3 log level warn vpp", true),
        ("watch events log level loud", false),
        ("shew frontends", false),
        ("--output json config check plan", true),
    ] {
        let words = command(&line.split(' ').collect::<Vec<_>>()).unwrap();
        assert_eq!(usages.iter().any(|usage| matches(usage, &words, true)), is_one, "{line}");
    }
}

#[test]
fn mentioned_variables_exist() {
    let mut known: BTreeSet<_> =
        PROGRAMS.into_iter().flat_map(of_help).filter_map(|(_, flag)| flag.variable).collect();
    known.extend(NON_FLAG_VARIABLES.map(|name| format!("MAGLEV_{name}")));
    let files = ["Dockerfile", "compose.yaml", "debian/etc/default/vpp-maglev"].map(str::to_owned);
    let manuals = MANUALS.map(|name| format!("docs/man/{name}"));
    let texts = files.into_iter().chain(manuals).map(|name| (page::read(&name), name));
    for (text, name) in texts.chain(page::all().into_iter().map(|page| (page.text, page.name))) {
        for mention in text.split("MAGLEV_").skip(1) {
            let end = mention.find(|c: char| !c.is_ascii_uppercase() && c != '_').unwrap_or(mention.len());
            let variable = format!("MAGLEV_{}", &mention[..end]);
            assert!(end == 0 || known.contains(&variable), "{name}: unknown variable {variable}");
        }
    }
}

#[test]
fn mentioned_make_targets_exist() {
    let makefile = page::read("Makefile");
    let targets: BTreeSet<_> =
        makefile.lines().filter_map(|line| line.split_once(": ")).map(|(name, _)| name).collect();
    let mut found = BTreeSet::new();
    for CommandPhrase { at, text: phrase, .. } in phrases() {
        let Some(target) = phrase.strip_prefix("make ").and_then(|rest| rest.split_whitespace().next())
        else {
            continue;
        };
        assert!(targets.contains(target), "{at}: make has no {target}");
        found.insert(target.to_owned());
    }
    assert!(found.len() > 5, "{found:?}");
}
