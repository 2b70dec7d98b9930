//! The grammar of commands: a tree of words, names and values. How a command is understood, the list of commands, the help
//! at the cursor and every kind of completion follow from it.

use maglev_proto::v1::{EventKind, LogLevel};

mod tree;

pub use tree::COMMANDS;

/// A place in a command, and what may follow it.
#[derive(Debug)]
pub struct Node {
    /// What may stand here.
    pub token: Token,
    /// What it means, or for a command what it does; in a few words.
    pub help: &'static str,
    /// What follows.
    pub then: Then,
}

/// What may stand in one place of a command.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Token {
    /// This word, which may be shortened.
    Word(&'static str),
    /// A name that the server knows, which may be shortened.
    Name(Kind),
    /// A value.
    Value(Value),
}

/// What a name is of.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Kind {
    /// A frontend.
    Frontend,
    /// A pool of the frontend that was named before.
    Pool,
    /// A backend of the pool that was named before.
    Member,
    /// A backend.
    Backend,
    /// A healthcheck.
    Healthcheck,
}

/// What a value is of.
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

/// What follows a place in a command.
#[derive(Debug)]
pub enum Then {
    /// One of these.
    One(&'static [Node]),
    /// Nothing, or one of these.
    Maybe(&'static [Node]),
    /// Nothing.
    Nothing,
    /// Here the command is whole. Any of these may follow, each once and in any order.
    Run(Verb, &'static [Node]),
}

/// What a command does.
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
    /// Shows everything in which operators have overridden the configuration.
    ShowOverrides,
    /// Shows the VPP that is connected.
    ShowVppInfo,
    /// Shows what VPP's load balancer has.
    ShowVppLbState,
    /// Shows how much traffic VPP's load balancer has seen.
    ShowVppLbCounters,
    /// Does something to a backend.
    SetBackend(Order),
    /// Gives a backend of a pool another weight.
    SetWeight,
    /// Gives it back the configured one.
    UnsetWeight,
    /// Says why a backend is as it is.
    ExplainBackend,
    /// Says why a frontend is as it is.
    ExplainFrontend,
    /// Compares everything with VPP.
    SyncVppLbState,
    /// Shows what happens.
    WatchEvents,
    /// Says what is wrong with the configuration file.
    ConfigCheck,
    /// Puts the configuration file in force.
    ConfigReload,
    /// Lists the commands.
    Help,
    /// Leaves the shell.
    Quit,
}

/// What can be done to a backend.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Order {
    /// Its probes stop.
    Pause,
    /// It is probed again.
    Resume,
    /// It is taken out.
    Disable,
    /// It is put in.
    Enable,
}

/// The kinds of events that can be chosen, by their words.
pub const EVENT_KINDS: &[(&str, EventKind)] = &[
    ("log", EventKind::Log),
    ("backend", EventKind::Backend),
    ("frontend", EventKind::Frontend),
    ("vpp", EventKind::Vpp),
    ("operator", EventKind::Operator),
];

/// The severities of log records, by their words.
pub const LEVELS: &[(&str, LogLevel)] = &[
    ("error", LogLevel::Error),
    ("warn", LogLevel::Warn),
    ("info", LogLevel::Info),
    ("debug", LogLevel::Debug),
    ("trace", LogLevel::Trace),
];

impl Token {
    /// How it is written in a usage.
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

    /// The word, if it is one.
    pub const fn word(self) -> Option<&'static str> {
        match self {
            Self::Word(word) => Some(word),
            Self::Name(_) | Self::Value(_) => None,
        }
    }
}

impl Kind {
    /// What it is called.
    pub const fn noun(self) -> &'static str {
        match self {
            Self::Frontend => "frontend",
            Self::Pool => "pool",
            Self::Member | Self::Backend => "backend",
            Self::Healthcheck => "healthcheck",
        }
    }
}
