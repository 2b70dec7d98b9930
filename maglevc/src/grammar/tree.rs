//! The tree of all commands.

use super::{BackendAction, GrammarNode, NameKind, NextNodes, Token, ValueKind, Verb};

/// Expands to the path to a pool member. A macro, as a function cannot build static nodes.
macro_rules! member {
    ($then:expr $(,)?) => {
        name(
            NameKind::Frontend,
            "The frontend",
            NextNodes::One(&[group(
                "pool",
                "One of its pools",
                &[name(
                    NameKind::Pool,
                    "The pool",
                    NextNodes::One(&[group(
                        "backend",
                        "One of its backends",
                        &[name(NameKind::Member, "The backend", NextNodes::One($then))],
                    )]),
                )],
            )]),
        )
    };
}

/// Every command.
pub static COMMANDS: &[GrammarNode] = &[
    group("show", "What there is", SHOW),
    group(
        "explain",
        "Why it is so",
        &[
            group(
                "backend",
                "Why a backend has its state and its weights",
                &[name(
                    NameKind::Backend,
                    "Why this backend has its state and its weights",
                    NextNodes::Run(Verb::ExplainBackend, &[]),
                )],
            ),
            group(
                "frontend",
                "Why a frontend has its state, its pool and its weights",
                &[name(
                    NameKind::Frontend,
                    "Why this frontend has its state, its pool and its weights",
                    NextNodes::Run(Verb::ExplainFrontend, &[]),
                )],
            ),
        ],
    ),
    group(
        "watch",
        "What happens",
        &[GrammarNode {
            token: Token::Word("events"),
            help: "What is so now, then what happens; all but the log if no kind is named",
            then: NextNodes::Run(Verb::WatchEvents, EVENTS),
        }],
    ),
    group(
        "set",
        "Override the configuration, until it is undone",
        &[
            group(
                "backend",
                "Pause, resume, disable or enable a backend",
                &[name(NameKind::Backend, "The backend", NextNodes::One(ORDERS))],
            ),
            group(
                "frontend",
                "Give a backend of a pool another weight",
                &[member!(&[group(
                    "weight",
                    "The new weight",
                    &[GrammarNode {
                        token: Token::Value(ValueKind::Weight),
                        help: "Another weight than the configured one: 0 to 100, 0 drains",
                        then: NextNodes::Run(Verb::SetWeight, NOTE),
                    }]
                )],)],
            ),
        ],
    ),
    group(
        "unset",
        "Undo an override of a weight",
        &[group(
            "frontend",
            "Give a backend of a pool its configured weight",
            &[member!(&[command("weight", "The configured weight again", Verb::UnsetWeight, &[],)])],
        )],
    ),
    group(
        "sync",
        "Compare with VPP, and mend it",
        &[group(
            "vpp",
            "Compare with VPP, and mend it",
            &[group(
                "lb",
                "Compare with VPP, and mend it",
                &[command(
                    "state",
                    "Compare everything with what VPP has, and mend it",
                    Verb::SyncVppLbState,
                    &[option("dry-run", "Only say what would be done")],
                )],
            )],
        )],
    ),
    group(
        "config",
        "The configuration file",
        &[
            command(
                "check",
                "What is wrong with the file; what a reload would do",
                Verb::ConfigCheck,
                &[option("plan", "Say, too, what a reload would do to VPP")],
            ),
            command("reload", "Put the file in force", Verb::ConfigReload, &[]),
        ],
    ),
    command("help", "This list", Verb::Help, &[]),
    command("quit", "Leave the shell", Verb::Quit, &[]),
    command("exit", "Leave the shell", Verb::Quit, &[]),
];

const SHOW: &[GrammarNode] = &[
    command("version", "The versions of maglevd and maglevc", Verb::ShowVersion, &[]),
    command(
        "frontends",
        "Every frontend, or one with its pools",
        Verb::ShowFrontends,
        &[name(NameKind::Frontend, "This frontend, with its pools", NextNodes::Nothing)],
    ),
    command(
        "backends",
        "Every backend, or one with its transitions",
        Verb::ShowBackends,
        &[name(NameKind::Backend, "This backend, with its transitions", NextNodes::Nothing)],
    ),
    command(
        "healthchecks",
        "Every healthcheck, or one in full",
        Verb::ShowHealthchecks,
        &[name(NameKind::Healthcheck, "This healthcheck, in full", NextNodes::Nothing)],
    ),
    command(
        "overrides",
        "What operators have paused, disabled, enabled and weighted",
        Verb::ShowOverrides,
        &[],
    ),
    group(
        "vpp",
        "VPP and its load balancer",
        &[
            command("info", "The VPP that is connected", Verb::ShowVppInfo, &[]),
            group(
                "lb",
                "VPP's load balancer",
                &[
                    command("state", "What VPP's load balancer has, with shares", Verb::ShowVppLbState, &[]),
                    command("counters", "How much traffic it has seen", Verb::ShowVppLbCounters, &[]),
                ],
            ),
        ],
    ),
];

const ORDERS: &[GrammarNode] = &[
    command(
        "pause",
        "Stop its probes: no new flows, the others stay",
        Verb::SetBackend(BackendAction::Pause),
        NOTE,
    ),
    command("resume", "Undo pause", Verb::SetBackend(BackendAction::Resume), &[]),
    command("disable", "Take it out, and flush its flows", Verb::SetBackend(BackendAction::Disable), NOTE),
    command(
        "enable",
        "Undo disable, or put in what the configuration has disabled",
        Verb::SetBackend(BackendAction::Enable),
        NOTE,
    ),
];

const NOTE: &[GrammarNode] = &[
    group(
        "reason",
        "Why, for whoever finds it at night",
        &[value(ValueKind::Text, "Quoted, if it is several words")],
    ),
    group(
        "for",
        "After how long it is undone by itself",
        &[value(ValueKind::Duration, "Such as 30s, 10m, 2h, 1d or 1h30m")],
    ),
];

const EVENTS: &[GrammarNode] = &[
    group("num", "Stop after so many", &[value(ValueKind::Count, "How many events")]),
    GrammarNode {
        token: Token::Word("log"),
        help: "maglevd's log",
        then: NextNodes::Maybe(&[group(
            "level",
            "Leave out what is less severe; `info` if not said",
            &[
                option("error", "Something does not work"),
                option("warn", "Something wants to be looked at"),
                option("info", "Something happened"),
                option("debug", "How it happened"),
                option("trace", "Every step of it"),
            ],
        )]),
    },
    option("backend", "Backends and the prober"),
    option("frontend", "Frontends"),
    option("vpp", "VPP, and what is done to it"),
    option("operator", "What operators change: the audit trail"),
];

const fn group(word: &'static str, help: &'static str, nodes: &'static [GrammarNode]) -> GrammarNode {
    GrammarNode { token: Token::Word(word), help, then: NextNodes::One(nodes) }
}

const fn command(
    word: &'static str,
    help: &'static str,
    verb: Verb,
    options: &'static [GrammarNode],
) -> GrammarNode {
    GrammarNode { token: Token::Word(word), help, then: NextNodes::Run(verb, options) }
}

const fn option(word: &'static str, help: &'static str) -> GrammarNode {
    GrammarNode { token: Token::Word(word), help, then: NextNodes::Nothing }
}

const fn name(kind: NameKind, help: &'static str, then: NextNodes) -> GrammarNode {
    GrammarNode { token: Token::Name(kind), help, then }
}

const fn value(value: ValueKind, help: &'static str) -> GrammarNode {
    GrammarNode { token: Token::Value(value), help, then: NextNodes::Nothing }
}
