//! Why things are as they are: the inputs behind a state and a weight, in a few lines for people.
//!
//! Nothing here decides. Each line is worked out from what the decisions are made from, at the moment of the question.

use alloc::string::String;
use alloc::vec::Vec;

use super::backends::Backend;
use super::frontends::Frontend;
use super::sync::ConfJob;
use super::{State, Timer};
use crate::time::{Now, WallTime};

mod backend;
mod frontend;
mod hold;
mod operator;
mod standing;
#[cfg(test)]
mod tests;
mod vpp;
mod words;

use standing::Standing;

/// One line of an explanation.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ExplanationLine {
    /// What it is about.
    pub topic: Topic,
    /// The line, without a full stop.
    pub text: String,
}

/// What a line of an explanation is about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Topic {
    /// What it is, and since when.
    State,
    /// What its probes say.
    Probes,
    /// The rise/fall counter.
    Counter,
    /// What operators want.
    Operator,
    /// The prober as a whole, or its refusal.
    Prober,
    /// A warm-up.
    Startup,
    /// Which pool serves.
    Pool,
    /// A weight that follows from health and failover.
    Weight,
    /// What VPP has.
    Vpp,
    /// Something that an operator should look at.
    Warning,
}

impl Topic {
    /// The topic in one word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::State => "state",
            Self::Probes => "probes",
            Self::Counter => "counter",
            Self::Operator => "operator",
            Self::Prober => "prober",
            Self::Startup => "startup",
            Self::Pool => "pool",
            Self::Weight => "weight",
            Self::Vpp => "vpp",
            Self::Warning => "warning",
        }
    }
}

impl State {
    /// Why a backend has the state and the weights that it has: the conclusion first. `None` if there is no such
    /// backend.
    #[must_use]
    pub fn explain_backend(&self, name: &str, now: Now) -> Option<Vec<ExplanationLine>> {
        let index = self.backends.search(|b| (*b.name).cmp(name))?;
        let mut explanation = Explanation::new(self, now);
        explanation.backend(index);
        Some(explanation.reasons)
    }

    /// Why a frontend has the state, the active pool and the weights that it has: the conclusion first. `None` if
    /// there is no such frontend.
    #[must_use]
    pub fn explain_frontend(&self, name: &str, now: Now) -> Option<Vec<ExplanationLine>> {
        let index = self.frontends.search(|f| (*f.name).cmp(name))?;
        let mut explanation = Explanation::new(self, now);
        explanation.frontend(&self.frontends[index]);
        Some(explanation.reasons)
    }
}

/// An explanation that is being written.
struct Explanation<'a> {
    state: &'a State,
    now: Now,
    reasons: Vec<ExplanationLine>,
}

impl<'a> Explanation<'a> {
    const fn new(state: &'a State, now: Now) -> Self {
        Self { state, now, reasons: Vec::new() }
    }

    fn say(&mut self, topic: Topic, text: impl Into<String>) {
        self.reasons.push(ExplanationLine { topic, text: text.into() });
    }

    fn say_if(&mut self, topic: Topic, text: Option<String>) {
        self.reasons.extend(text.map(|text| ExplanationLine { topic, text }));
    }

    fn standing(&self, frontend: &'a Frontend) -> Standing<'a> {
        Standing::new(self.state, frontend, self.now)
    }

    fn backend_of(&self, index: usize) -> &'a Backend {
        &self.state.backends[index]
    }

    /// How long something has been so.
    fn age(&self, since: WallTime) -> words::Age {
        words::age(since, self.now)
    }

    /// What concerns every frontend alike: VPP as a whole.
    fn vpp_at_large(&mut self) {
        let sync = &self.state.sync;
        let since = self.age(sync.since);
        match (sync.enabled, &sync.info, sync.current) {
            (false, ..) => self.say(Topic::Vpp, "VPP is not used: nothing is programmed"),
            (true, None, _) => self.say(
                Topic::Vpp,
                alloc::format!(
                    "not connected for {since}{}: what VPP has stays, and is read before it is changed",
                    words::in_brackets(sync.fault.as_deref())
                ),
            ),
            (true, Some(_), false) => {
                self.say(
                    Topic::Vpp,
                    alloc::format!("connected for {since}; what VPP has is still being read"),
                );
            }
            (true, Some(_), true) => {}
        }
        if let (ConfJob::Waiting, Some(word)) = (sync.conf, &sync.conf_refusal) {
            let again = self.state.next_try(Timer::RetryConf, self.now);
            self.say(
                Topic::Warning,
                alloc::format!(
                    "VPP refuses the global settings (source addresses, flow table): {word}{again}"
                ),
            );
        }
    }
}
