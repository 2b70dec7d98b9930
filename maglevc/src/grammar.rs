//! The grammar of commands: a tree of words, names and values. Parsing, the list of commands, the help at the cursor
//! and every kind of completion use it.

use maglev_proto::v1::{EventKind, LogLevel};

mod tree;

pub use tree::COMMANDS;

/// A position in a command.
#[derive(Debug)]
pub struct GrammarNode {
    /// The accepted token.
    pub token: Token,
    /// Short help: the meaning of the token, or the action of the command.
    pub help: &'static str,
    /// The following positions.
    pub then: NextNodes,
}

/// A token of a command.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Token {
    /// A keyword, which may be abbreviated.
    Word(&'static str),
    /// A name that the server knows. Commands that change nothing accept a unique prefix.
    Name(NameKind),
    /// A value.
    Value(ValueKind),
}

/// Kind of a name.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum NameKind {
    /// A frontend.
    Frontend,
    /// A pool of the preceding frontend.
    Pool,
    /// A backend of the preceding pool.
    Member,
    /// A backend.
    Backend,
    /// A healthcheck.
    Healthcheck,
}

/// Kind of a value.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ValueKind {
    /// A number above 0.
    Count,
    /// A weight.
    Weight,
    /// A duration.
    Duration,
    /// Any text.
    Text,
    /// The first word of a command.
    Topic,
}

/// Continuation after a node.
#[derive(Debug)]
pub enum NextNodes {
    /// One of these must follow.
    One(&'static [GrammarNode]),
    /// One of these may follow.
    Maybe(&'static [GrammarNode]),
    /// The end.
    Nothing,
    /// The command is complete. Any of these may follow, each once and in any order.
    Run(Verb, &'static [GrammarNode]),
}

/// Action of a command.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Verb {
    /// Shows the versions of both programs.
    ShowVersion,
    /// Shows every frontend, or one.
    ShowFrontends,
    /// Shows every backend, or one.
    ShowBackends,
    /// Shows every healthcheck, or one.
    ShowHealthchecks,
    /// Shows all overrides.
    ShowOverrides,
    /// Shows the connected VPP.
    ShowVppInfo,
    /// Shows the state of VPP's load balancer.
    ShowVppLbState,
    /// Shows the traffic of VPP's load balancer.
    ShowVppLbCounters,
    /// Performs an action on a backend.
    SetBackend(BackendAction),
    /// Overrides the weight of a pool member.
    SetWeight,
    /// Restores the configured weight of a pool member.
    UnsetWeight,
    /// Explains the state of a backend.
    ExplainBackend,
    /// Explains the state of a frontend.
    ExplainFrontend,
    /// Reconciles VPP.
    SyncVppLbState,
    /// Streams events.
    WatchEvents,
    /// Checks the configuration file.
    ConfigCheck,
    /// Reloads the configuration file.
    ConfigReload,
    /// Lists the commands.
    Help,
    /// Leaves the shell.
    Quit,
}

/// Action on a backend.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum BackendAction {
    /// Stops its probes.
    Pause,
    /// Probes it again.
    Resume,
    /// Takes it out of service.
    Disable,
    /// Puts it into service.
    Enable,
}

/// Kinds of events, by keyword.
pub const EVENT_KINDS: &[(&str, EventKind)] = &[
    ("log", EventKind::Log),
    ("backend", EventKind::Backend),
    ("frontend", EventKind::Frontend),
    ("vpp", EventKind::Vpp),
    ("operator", EventKind::Operator),
];

/// Log levels, by keyword.
pub const LEVELS: &[(&str, LogLevel)] = &[
    ("error", LogLevel::Error),
    ("warn", LogLevel::Warn),
    ("info", LogLevel::Info),
    ("debug", LogLevel::Debug),
    ("trace", LogLevel::Trace),
];

impl Token {
    /// Returns the token in a usage line.
    pub const fn usage(self) -> &'static str {
        match self {
            Self::Word(word) => word,
            Self::Name(NameKind::Frontend) => "FRONTEND",
            Self::Name(NameKind::Pool) => "POOL",
            Self::Name(NameKind::Member | NameKind::Backend) => "BACKEND",
            Self::Name(NameKind::Healthcheck) => "HEALTHCHECK",
            Self::Value(ValueKind::Count) => "N",
            Self::Value(ValueKind::Weight) => "WEIGHT",
            Self::Value(ValueKind::Duration) => "DURATION",
            Self::Value(ValueKind::Text) => "TEXT",
            Self::Value(ValueKind::Topic) => "COMMAND",
        }
    }

    /// Returns the keyword, if the token is one.
    pub const fn word(self) -> Option<&'static str> {
        match self {
            Self::Word(word) => Some(word),
            Self::Name(_) | Self::Value(_) => None,
        }
    }
}

impl NameKind {
    /// Returns the noun for this kind.
    pub const fn noun(self) -> &'static str {
        match self {
            Self::Frontend => "frontend",
            Self::Pool => "pool",
            Self::Member | Self::Backend => "backend",
            Self::Healthcheck => "healthcheck",
        }
    }
}
