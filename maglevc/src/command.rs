//! The words of a command, and what they mean.

use std::fmt::Write;

use maglev_proto::v1::{EventKind, LogLevel};

/// What a user can ask for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Command {
    /// The list of commands.
    Help,
    /// Something that there is.
    Show(What),
    /// Something that happens.
    Watch(Watch),
}

/// What can be shown. A name may be shortened, too.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum What {
    /// The versions of both programs.
    Version,
    /// Every frontend, or one.
    Frontends(Option<String>),
    /// Every backend, or one.
    Backends(Option<String>),
    /// Every healthcheck, or one.
    HealthChecks(Option<String>),
    /// The VPP that is connected.
    VppInfo,
    /// What VPP's load balancer has.
    VppLbState,
    /// How much traffic VPP's load balancer has seen.
    VppLbCounters,
    /// What a comparison with VPP does, or would do.
    Sync {
        /// Only say what it would do.
        dry_run: bool,
    },
    /// What is wrong with the configuration file.
    ConfigCheck {
        /// Say, too, what a reload would do to VPP.
        plan: bool,
    },
    /// Whether there was a reload.
    ConfigReload,
}

/// Which events to watch.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Watch {
    /// After how many to stop.
    pub count: Option<u64>,
    /// The kinds; none is all but the log.
    pub kinds: Vec<EventKind>,
    /// The least severe log records.
    pub level: LogLevel,
}

/// A word of a command, and what may follow it.
struct Node {
    word: &'static str,
    arguments: &'static str,
    help: &'static str,
    then: Then,
}

enum Then {
    /// One of these words.
    Words(&'static [Node]),
    /// The arguments.
    Run(fn(&mut Words<'_>) -> Result<Command, String>),
}

const COMMANDS: &[Node] = &[
    group("show", SHOW),
    group(
        "watch",
        &[Node {
            word: "events",
            arguments: "[num N] [log [level L]] [backend] [frontend] [vpp]",
            help: "What is so now, then what happens; all but the log if no kind is named",
            then: Then::Run(watch),
        }],
    ),
    group(
        "sync",
        &[group(
            "vpp",
            &[group(
                "lb",
                &[Node {
                    word: "state",
                    arguments: "[dry-run]",
                    help: "Compare everything with what VPP has, and mend it",
                    then: Then::Run(|words| {
                        Ok(Command::Show(What::Sync { dry_run: words.option("dry-run")? }))
                    }),
                }],
            )],
        )],
    ),
    group(
        "config",
        &[
            Node {
                word: "check",
                arguments: "[plan]",
                help: "What is wrong with the file; what a reload would do",
                then: Then::Run(|words| Ok(Command::Show(What::ConfigCheck { plan: words.option("plan")? }))),
            },
            leaf("reload", "Put the file in force", |_| Ok(Command::Show(What::ConfigReload))),
        ],
    ),
    leaf("help", "This list", |_| Ok(Command::Help)),
];

const SHOW: &[Node] = &[
    leaf("version", "The versions of maglevd and maglevc", |_| Ok(Command::Show(What::Version))),
    named("frontends", "Every frontend, or one with its pools", |words| {
        Ok(Command::Show(What::Frontends(words.next())))
    }),
    named("backends", "Every backend, or one with its transitions", |words| {
        Ok(Command::Show(What::Backends(words.next())))
    }),
    named("healthchecks", "Every healthcheck, or one in full", |words| {
        Ok(Command::Show(What::HealthChecks(words.next())))
    }),
    group(
        "vpp",
        &[
            leaf("info", "The VPP that is connected", |_| Ok(Command::Show(What::VppInfo))),
            group(
                "lb",
                &[
                    leaf("state", "What VPP's load balancer has, with shares", |_| {
                        Ok(Command::Show(What::VppLbState))
                    }),
                    leaf("counters", "How much traffic it has seen", |_| {
                        Ok(Command::Show(What::VppLbCounters))
                    }),
                ],
            ),
        ],
    ),
];

const EVENT_KINDS: &[(&str, EventKind)] = &[
    ("backend", EventKind::Backend),
    ("frontend", EventKind::Frontend),
    ("vpp", EventKind::Vpp),
    ("log", EventKind::Log),
];

const LEVELS: &[(&str, LogLevel)] = &[
    ("error", LogLevel::Error),
    ("warn", LogLevel::Warn),
    ("info", LogLevel::Info),
    ("debug", LogLevel::Debug),
    ("trace", LogLevel::Trace),
];

/// How many candidates an error names.
const MAX_NAMES: usize = 8;

const fn group(word: &'static str, words: &'static [Node]) -> Node {
    Node { word, arguments: "", help: "", then: Then::Words(words) }
}

const fn leaf(
    word: &'static str,
    help: &'static str,
    run: fn(&mut Words<'_>) -> Result<Command, String>,
) -> Node {
    Node { word, arguments: "", help, then: Then::Run(run) }
}

const fn named(
    word: &'static str,
    help: &'static str,
    run: fn(&mut Words<'_>) -> Result<Command, String>,
) -> Node {
    Node { word, arguments: "[NAME]", help, then: Then::Run(run) }
}

/// What `words` mean.
///
/// # Errors
/// One line that names the word at fault and what it could have been.
pub fn parse(words: &[String]) -> Result<Command, String> {
    if words.is_empty() {
        return Ok(Command::Help);
    }
    let mut words = Words { words, understood: Vec::new() };
    let mut nodes = COMMANDS;
    loop {
        let keys: Vec<&str> = nodes.iter().map(|node| node.word).collect();
        let node = &nodes[words.keyword(&keys)?];
        match node.then {
            Then::Words(next) => nodes = next,
            Then::Run(run) => {
                let command = run(&mut words)?;
                return words.end().map(|()| command);
            }
        }
    }
}

/// The list of commands.
pub fn help() -> String {
    let mut usages = Vec::new();
    collect(COMMANDS, "", &mut usages);
    let width = usages.iter().map(|(usage, _)| usage.len()).filter(|len| *len <= 32).max().unwrap_or(0);
    let mut text = String::from("Commands:\n");
    for (usage, help) in usages {
        // Writing to a string cannot fail.
        let _ = if usage.len() <= width {
            writeln!(text, "  {usage:width$}  {help}")
        } else {
            writeln!(text, "  {usage}\n  {:width$}  {help}", "")
        };
    }
    text
}

fn collect(nodes: &[Node], before: &str, usages: &mut Vec<(String, &'static str)>) {
    for node in nodes {
        let usage = format!("{before}{}", node.word);
        match node.then {
            Then::Words(next) => collect(next, &format!("{usage} "), usages),
            Then::Run(_) => usages.push((format!("{usage} {}", node.arguments).trim_end().into(), node.help)),
        }
    }
}

fn watch(words: &mut Words<'_>) -> Result<Command, String> {
    let mut watch = Watch::default();
    let keys: Vec<&str> = EVENT_KINDS.iter().map(|(word, _)| *word).chain(["num"]).collect();
    while !words.is_empty() {
        match EVENT_KINDS.get(words.keyword(&keys)?) {
            None => watch.count = Some(words.number()?),
            Some((_, kind)) => {
                watch.kinds.push(*kind);
                if *kind == EventKind::Log && words.take("level") {
                    let levels: Vec<&str> = LEVELS.iter().map(|(word, _)| *word).collect();
                    watch.level = LEVELS[words.keyword(&levels)?].1;
                }
            }
        }
    }
    Ok(Command::Watch(watch))
}

/// The words of a command that are still to be understood.
struct Words<'a> {
    words: &'a [String],
    understood: Vec<&'a str>,
}

impl Words<'_> {
    fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    fn next(&mut self) -> Option<String> {
        let (word, rest) = self.words.split_first()?;
        self.words = rest;
        self.understood.push(word);
        Some(word.clone())
    }

    /// Takes the next word if it is `key`, perhaps shortened.
    fn take(&mut self, key: &str) -> bool {
        self.words.first().is_some_and(|word| !word.is_empty() && key.starts_with(word.as_str()))
            && self.next().is_some()
    }

    /// Whether the next word is `key`, perhaps shortened; there may be none.
    fn option(&mut self, key: &'static str) -> Result<bool, String> {
        if self.is_empty() {
            return Ok(false);
        }
        self.keyword(&[key]).map(|_| true)
    }

    /// Which of `keys` the next word is, perhaps shortened.
    fn keyword(&mut self, keys: &[&'static str]) -> Result<usize, String> {
        let context = self.context();
        let word = self.next().ok_or_else(|| format!("{context}what? One of: {}", keys.join(", ")))?;
        let index = choose(&word, keys).map_err(|mistake| format!("{context}{mistake}"))?;
        if let Some(last) = self.understood.last_mut() {
            *last = keys[index];
        }
        Ok(index)
    }

    fn number(&mut self) -> Result<u64, String> {
        let context = self.context();
        let word = self.next().ok_or_else(|| format!("{context}a number is missing"))?;
        word.parse()
            .ok()
            .filter(|n| *n > 0)
            .ok_or_else(|| format!("{context}`{word}` is not a number above 0"))
    }

    fn end(&self) -> Result<(), String> {
        let context = self.context();
        self.words
            .first()
            .map_or(Ok(()), |word| Err(format!("{context}there is nothing to do with `{word}`")))
    }

    fn context(&self) -> String {
        if self.understood.is_empty() { String::new() } else { format!("{}: ", self.understood.join(" ")) }
    }
}

/// Which of `candidates` is meant by `word`: the one that it is, or else the only one that it begins.
///
/// # Errors
/// What `word` could have been.
pub fn choose<S: AsRef<str>>(word: &str, candidates: &[S]) -> Result<usize, String> {
    if let Some(exact) = candidates.iter().position(|candidate| candidate.as_ref() == word) {
        return Ok(exact);
    }
    let begun = |index: &usize| !word.is_empty() && candidates[*index].as_ref().starts_with(word);
    let found: Vec<usize> = (0..candidates.len()).filter(begun).collect();
    match found.as_slice() {
        [only] => Ok(*only),
        [] => Err(format!("unknown word `{word}`, expected one of: {}", list(candidates))),
        several => {
            let several: Vec<&S> = several.iter().map(|index| &candidates[*index]).collect();
            Err(format!("`{word}` is ambiguous: {}", list(&several)))
        }
    }
}

/// `names` on one line, which ten thousand would not be.
fn list<S: AsRef<str>>(names: &[S]) -> String {
    let mut line = names.iter().take(MAX_NAMES).map(AsRef::as_ref).collect::<Vec<_>>().join(", ");
    if names.len() > MAX_NAMES {
        // Writing to a string cannot fail.
        let _ = write!(line, " and {} more", names.len() - MAX_NAMES);
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(line: &str) -> Result<Command, String> {
        parse(&line.split_whitespace().map(String::from).collect::<Vec<_>>())
    }

    #[test]
    fn words_may_be_shortened() {
        let nginx0 = Ok(Command::Show(What::Backends(Some("nginx0".into()))));
        assert_eq!(said("show backends nginx0"), nginx0);
        assert_eq!(said("sh ba nginx0"), nginx0);
        assert_eq!(said("sh v l s"), Err("show: `v` is ambiguous: version, vpp".into()));
        assert_eq!(said("sh vp l s"), Ok(Command::Show(What::VppLbState)));
        assert_eq!(said(""), Ok(Command::Help));
    }

    #[test]
    fn the_whole_word_wins() {
        assert_eq!(choose("web", &["web", "web2"]), Ok(0));
        assert_eq!(choose("we", &["web", "web2"]), Err("`we` is ambiguous: web, web2".into()));
    }

    #[test]
    fn an_error_stays_on_its_line() {
        let names: Vec<String> = (0..10).map(|i| format!("n{i}")).collect();
        let error = choose("n", &names).unwrap_err();
        assert_eq!(error, "`n` is ambiguous: n0, n1, n2, n3, n4, n5, n6, n7 and 2 more");
    }

    #[test]
    fn mistakes_are_pointed_out() {
        let cases = [
            ("shw", "unknown word `shw`, expected one of: show, watch, sync, config, help"),
            ("sync vpp lb state now", "sync vpp lb state: unknown word `now`, expected one of: dry-run"),
            ("show", "show: what? One of: version, frontends, backends, healthchecks, vpp"),
            ("sh vpp lb", "show vpp lb: what? One of: state, counters"),
            ("show version now", "show version: there is nothing to do with `now`"),
            ("show backends a b", "show backends a: there is nothing to do with `b`"),
            ("watch events num", "watch events num: a number is missing"),
            ("watch events num 0", "watch events num: `0` is not a number above 0"),
            (
                "w e log level loud",
                "watch events log level: unknown word `loud`, expected one of: error, warn, info, debug, trace",
            ),
        ];
        for (line, mistake) in cases {
            assert_eq!(said(line), Err(mistake.into()), "{line}");
        }
    }

    #[test]
    fn events_are_chosen_in_any_order() {
        let watch = Watch {
            count: Some(5),
            kinds: vec![EventKind::Log, EventKind::Vpp, EventKind::Backend],
            level: LogLevel::Debug,
        };
        assert_eq!(said("watch events log level debug vpp num 5 backend"), Ok(Command::Watch(watch.clone())));
        assert_eq!(said("w e l l d v n 5 b"), Ok(Command::Watch(watch)));
    }

    #[test]
    fn help_names_every_command() {
        assert_eq!(
            help(),
            "\
Commands:
  show version                 The versions of maglevd and maglevc
  show frontends [NAME]        Every frontend, or one with its pools
  show backends [NAME]         Every backend, or one with its transitions
  show healthchecks [NAME]     Every healthcheck, or one in full
  show vpp info                The VPP that is connected
  show vpp lb state            What VPP's load balancer has, with shares
  show vpp lb counters         How much traffic it has seen
  watch events [num N] [log [level L]] [backend] [frontend] [vpp]
                               What is so now, then what happens; all but the log if no kind is named
  sync vpp lb state [dry-run]  Compare everything with what VPP has, and mend it
  config check [plan]          What is wrong with the file; what a reload would do
  config reload                Put the file in force
  help                         This list
"
        );
    }
}
