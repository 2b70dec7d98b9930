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
    group("show", "Show the current state", SHOW),
    group(
        "explain",
        "Explain a state",
        &[
            group(
                "backend",
                "Explain the state and the weights of a backend",
                &[name(
                    NameKind::Backend,
                    "Explain the state and the weights of this backend",
                    NextNodes::Run(Verb::ExplainBackend, &[]),
                )],
            ),
            group(
                "frontend",
                "Explain the state, the pool and the weights of a frontend",
                &[name(
                    NameKind::Frontend,
                    "Explain the state, the pool and the weights of this frontend",
                    NextNodes::Run(Verb::ExplainFrontend, &[]),
                )],
            ),
        ],
    ),
    group(
        "watch",
        "Watch events",
        &[GrammarNode {
            token: Token::Word("events"),
            help: "Show the current state, then events; without a kind, all but the log",
            then: NextNodes::Run(Verb::WatchEvents, EVENTS),
        }],
    ),
    group(
        "set",
        "Override the configuration",
        &[
            group(
                "backend",
                "Pause, resume, disable or enable a backend",
                &[name(NameKind::Backend, "The backend", NextNodes::One(ORDERS))],
            ),
            group(
                "frontend",
                "Override the weight of a pool member",
                &[member!(&[group(
                    "weight",
                    "The new weight",
                    &[GrammarNode {
                        token: Token::Value(ValueKind::Weight),
                        help: "Override the configured weight: 0 to 100, 0 drains",
                        then: NextNodes::Run(Verb::SetWeight, NOTE),
                    }]
                )],)],
            ),
        ],
    ),
    group(
        "unset",
        "Remove a weight override",
        &[group(
            "frontend",
            "Restore the configured weight of a pool member",
            &[member!(&[command("weight", "Restore the configured weight", Verb::UnsetWeight, &[],)])],
        )],
    ),
    group(
        "sync",
        "Reconcile VPP",
        &[group(
            "vpp",
            "Reconcile VPP",
            &[group(
                "lb",
                "Reconcile VPP",
                &[command(
                    "state",
                    "Compare VPP with the desired state, and revert differences",
                    Verb::SyncVppLbState,
                    &[
                        option("dry-run", "Show the plan without executing it"),
                        option("fresh", "Read VPP again, rather than share a recent reading"),
                    ],
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
                "Check the file, or show the plan of a reload",
                Verb::ConfigCheck,
                &[
                    option("plan", "Also show the plan of a reload"),
                    option("fresh", "With `plan`, read VPP again, rather than share a recent reading"),
                ],
            ),
            command(
                "reload",
                "Reload the file",
                Verb::ConfigReload,
                &[option("keep-overrides", "Refuse if an override would lose its object")],
            ),
        ],
    ),
    command(
        "help",
        "All commands, or those with this first word",
        Verb::Help,
        &[value(ValueKind::Topic, "The first word, such as show")],
    ),
    command("quit", "Leave the shell", Verb::Quit, &[]),
    command("exit", "Leave the shell", Verb::Quit, &[]),
];

const SHOW: &[GrammarNode] = &[
    command("version", "The versions of maglevd and maglevc", Verb::ShowVersion, &[]),
    command(
        "frontends",
        "All frontends, or one with its pools",
        Verb::ShowFrontends,
        &[name(NameKind::Frontend, "This frontend, with its pools", NextNodes::Nothing)],
    ),
    command(
        "backends",
        "All backends, or one with its transitions",
        Verb::ShowBackends,
        &[name(NameKind::Backend, "This backend, with its transitions", NextNodes::Nothing)],
    ),
    command(
        "healthchecks",
        "All healthchecks, or the details of one",
        Verb::ShowHealthchecks,
        &[name(NameKind::Healthcheck, "The details of this healthcheck", NextNodes::Nothing)],
    ),
    command("overrides", "Overrides of backends and weights", Verb::ShowOverrides, &[]),
    group(
        "vpp",
        "VPP and its load balancer",
        &[
            command("info", "The connected VPP", Verb::ShowVppInfo, &[]),
            group(
                "lb",
                "VPP's load balancer",
                &[
                    command("state", "VIPs and servers in VPP, with their shares", Verb::ShowVppLbState, &[]),
                    command("counters", "Traffic counters", Verb::ShowVppLbCounters, &[]),
                ],
            ),
        ],
    ),
];

const ORDERS: &[GrammarNode] = &[
    command(
        "pause",
        "Stop its probes: no new flows, existing ones stay",
        Verb::SetBackend(BackendAction::Pause),
        NOTE,
    ),
    command("resume", "Undo pause", Verb::SetBackend(BackendAction::Resume), &[]),
    command(
        "disable",
        "Take it out of service, and flush its flows",
        Verb::SetBackend(BackendAction::Disable),
        NOTE,
    ),
    command(
        "enable",
        "Undo disable, or enable a backend that the configuration disables",
        Verb::SetBackend(BackendAction::Enable),
        NOTE,
    ),
];

const NOTE: &[GrammarNode] = &[
    group("reason", "Reason for the override", &[value(ValueKind::Text, "Quote several words")]),
    group(
        "for",
        "Time after which it expires",
        &[value(ValueKind::Duration, "Such as 30s, 10m, 2h, 1d or 1h30m")],
    ),
];

const EVENTS: &[GrammarNode] = &[
    group("num", "Stop after this number", &[value(ValueKind::Count, "Number of events")]),
    GrammarNode {
        token: Token::Word("log"),
        help: "maglevd's log",
        then: NextNodes::Maybe(&[group(
            "level",
            "Minimum severity; default `info`",
            &[
                option("error", "Failures"),
                option("warn", "Conditions that need attention"),
                option("info", "Normal events"),
                option("debug", "Details"),
                option("trace", "Every step"),
            ],
        )]),
    },
    option("backend", "Backends and the prober"),
    option("frontend", "Frontends"),
    option("vpp", "VPP and its changes"),
    option("operator", "Operators' actions: the audit trail"),
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
