//! The grammar of commands: a tree of words, names and values. Parsing, the list of commands, the help at the cursor
//! and every kind of completion use it.

use maglev_proto::v1::{EventKind, LogLevel};

mod tree;

pub use tree::COMMANDS;

/// A position in a command.
#[derive(Debug)]
pub struct Node {
    /// The accepted token.
    pub token: Token,
    /// Short help: the meaning of the token, or the action of the command.
    pub help: &'static str,
    /// The following positions.
    pub then: Then,
}

/// A token of a command.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Token {
    /// A keyword, which may be abbreviated.
    Word(&'static str),
    /// A name that the server knows, which may be abbreviated.
    Name(Kind),
    /// A value.
    Value(Value),
}

/// Kind of a name.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Kind {
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
pub enum Value {
    /// A number above 0.
    Count,
    /// A weight.
    Weight,
    /// A duration.
    Duration,
    /// Any text.
    Text,
}

/// Continuation after a node.
#[derive(Debug)]
pub enum Then {
    /// One of these must follow.
    One(&'static [Node]),
    /// One of these may follow.
    Maybe(&'static [Node]),
    /// The end.
    Nothing,
    /// The command is complete. Any of these may follow, each once and in any order.
    Run(Verb, &'static [Node]),
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
    SetBackend(Order),
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
pub enum Order {
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
            Self::Name(Kind::Frontend) => "FRONTEND",
            Self::Name(Kind::Pool) => "POOL",
            Self::Name(Kind::Member | Kind::Backend) => "BACKEND",
            Self::Name(Kind::Healthcheck) => "HEALTHCHECK",
            Self::Value(Value::Count) => "N",
            Self::Value(Value::Weight) => "WEIGHT",
            Self::Value(Value::Duration) => "DURATION",
            Self::Value(Value::Text) => "TEXT",
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

impl Kind {
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
