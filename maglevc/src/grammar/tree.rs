//! The tree of all commands.

use super::{Kind, Node, Order, Then, Token, Value, Verb};

/// Expands to the path to a pool member. A macro, as a function cannot build static nodes.
macro_rules! member {
    ($then:expr $(,)?) => {
        name(
            Kind::Frontend,
            "The frontend",
            Then::One(&[group(
                "pool",
                "One of its pools",
                &[name(
                    Kind::Pool,
                    "The pool",
                    Then::One(&[group(
                        "backend",
                        "One of its backends",
                        &[name(Kind::Member, "The backend", Then::One($then))],
                    )]),
                )],
            )]),
        )
    };
}

/// Every command.
pub static COMMANDS: &[Node] = &[
    group("show", "What there is", SHOW),
    group(
        "explain",
        "Why it is so",
        &[
            group(
                "backend",
                "Why a backend has its state and its weights",
                &[name(
                    Kind::Backend,
                    "Why this backend has its state and its weights",
                    Then::Run(Verb::ExplainBackend, &[]),
                )],
            ),
            group(
                "frontend",
                "Why a frontend has its state, its pool and its weights",
                &[name(
                    Kind::Frontend,
                    "Why this frontend has its state, its pool and its weights",
                    Then::Run(Verb::ExplainFrontend, &[]),
                )],
            ),
        ],
    ),
    group(
        "watch",
        "What happens",
        &[Node {
            token: Token::Word("events"),
            help: "What is so now, then what happens; all but the log if no kind is named",
            then: Then::Run(Verb::WatchEvents, EVENTS),
        }],
    ),
    group(
        "set",
        "Override the configuration, until it is undone",
        &[
            group(
                "backend",
                "Pause, resume, disable or enable a backend",
                &[name(Kind::Backend, "The backend", Then::One(ORDERS))],
            ),
            group(
                "frontend",
                "Give a backend of a pool another weight",
                &[member!(&[group(
                    "weight",
                    "The new weight",
                    &[Node {
                        token: Token::Value(Value::Weight),
                        help: "Another weight than the configured one: 0 to 100, 0 drains",
                        then: Then::Run(Verb::SetWeight, NOTE),
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

const SHOW: &[Node] = &[
    command("version", "The versions of maglevd and maglevc", Verb::ShowVersion, &[]),
    command(
        "frontends",
        "Every frontend, or one with its pools",
        Verb::ShowFrontends,
        &[name(Kind::Frontend, "This frontend, with its pools", Then::Nothing)],
    ),
    command(
        "backends",
        "Every backend, or one with its transitions",
        Verb::ShowBackends,
        &[name(Kind::Backend, "This backend, with its transitions", Then::Nothing)],
    ),
    command(
        "healthchecks",
        "Every healthcheck, or one in full",
        Verb::ShowHealthchecks,
        &[name(Kind::Healthcheck, "This healthcheck, in full", Then::Nothing)],
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

const ORDERS: &[Node] = &[
    command("pause", "Stop its probes: no new flows, the others stay", Verb::SetBackend(Order::Pause), NOTE),
    command("resume", "Undo pause", Verb::SetBackend(Order::Resume), &[]),
    command("disable", "Take it out, and flush its flows", Verb::SetBackend(Order::Disable), NOTE),
    command(
        "enable",
        "Undo disable, or put in what the configuration has disabled",
        Verb::SetBackend(Order::Enable),
        NOTE,
    ),
];

const NOTE: &[Node] = &[
    group(
        "reason",
        "Why, for whoever finds it at night",
        &[value(Value::Text, "Quoted, if it is several words")],
    ),
    group(
        "for",
        "After how long it is undone by itself",
        &[value(Value::Duration, "Such as 30s, 10m, 2h, 1d or 1h30m")],
    ),
];

const EVENTS: &[Node] = &[
    group("num", "Stop after so many", &[value(Value::Count, "How many events")]),
    Node {
        token: Token::Word("log"),
        help: "maglevd's log",
        then: Then::Maybe(&[group(
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

const fn group(word: &'static str, help: &'static str, nodes: &'static [Node]) -> Node {
    Node { token: Token::Word(word), help, then: Then::One(nodes) }
}

const fn command(word: &'static str, help: &'static str, verb: Verb, options: &'static [Node]) -> Node {
    Node { token: Token::Word(word), help, then: Then::Run(verb, options) }
}

const fn option(word: &'static str, help: &'static str) -> Node {
    Node { token: Token::Word(word), help, then: Then::Nothing }
}

const fn name(kind: Kind, help: &'static str, then: Then) -> Node {
    Node { token: Token::Name(kind), help, then }
}

const fn value(value: Value, help: &'static str) -> Node {
    Node { token: Token::Value(value), help, then: Then::Nothing }
}
