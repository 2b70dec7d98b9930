//! Explanations: the inputs of a decision, as a few lines for people.
//!
//! Nothing here decides or is stored. Each line is computed on request from the inputs of the decisions.

use alloc::string::String;
use alloc::vec::Vec;

use super::backends::BackendEntry;
use super::frontends::FrontendEntry;
use super::{State, Timer};
use crate::time::{Now, WallTime};

mod backend;
mod context;
mod format;
mod frontend;
mod hold;
mod operator;
#[cfg(test)]
mod tests;
mod vpp;

use context::FrontendContext;
pub(super) use format::{list, until};

/// One line of an explanation.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ExplanationLine {
    /// Topic of the line.
    pub topic: Topic,
    /// Text, without a full stop.
    pub text: String,
}

/// Topic of a line.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Topic {
    /// The state, its age and its cause.
    State,
    /// Probes and their outcomes.
    Probes,
    /// The rise/fall counter.
    Counter,
    /// Overrides.
    Operator,
    /// The prober as a whole, or its rejection of the check.
    Prober,
    /// A startup hold.
    Startup,
    /// The role of a pool.
    Pool,
    /// An effective weight.
    Weight,
    /// The VIP in VPP.
    Vpp,
    /// A warning.
    Warning,
}

impl Topic {
    /// Returns the topic in one word.
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
    /// Explains a backend's state and weights, the conclusion first. Returns `None` if the backend does not exist.
    #[must_use]
    pub fn explain_backend(&self, name: &str, now: Now) -> Option<Vec<ExplanationLine>> {
        let index = self.backends.search(|b| (*b.name).cmp(name))?;
        let mut explanation = Explanation::new(self, now);
        explanation.backend(index);
        Some(explanation.reasons)
    }

    /// Explains a frontend's state, active pool and weights, the conclusion first. Returns `None` if the frontend does not
    /// exist.
    #[must_use]
    pub fn explain_frontend(&self, name: &str, now: Now) -> Option<Vec<ExplanationLine>> {
        let index = self.frontends.search(|f| (*f.name).cmp(name))?;
        let mut explanation = Explanation::new(self, now);
        explanation.frontend(&self.frontends[index]);
        Some(explanation.reasons)
    }
}

/// An explanation under construction.
struct Explanation<'a> {
    state: &'a State,
    now: Now,
    reasons: Vec<ExplanationLine>,
}

impl<'a> Explanation<'a> {
    const fn new(state: &'a State, now: Now) -> Self {
        Self { state, now, reasons: Vec::new() }
    }

    fn add(&mut self, topic: Topic, text: impl Into<String>) {
        self.reasons.push(ExplanationLine { topic, text: text.into() });
    }

    fn add_if(&mut self, topic: Topic, text: Option<String>) {
        self.reasons.extend(text.map(|text| ExplanationLine { topic, text }));
    }

    fn context(&self, frontend: &'a FrontendEntry) -> FrontendContext<'a> {
        FrontendContext::new(self.state, frontend, self.now)
    }

    fn backend_of(&self, index: usize) -> &'a BackendEntry {
        &self.state.backends[index]
    }

    /// Returns the time since `since`.
    fn age(&self, since: WallTime) -> format::Age {
        format::age(since, self.now)
    }

    /// Adds the lines about VPP as a whole.
    fn vpp_overview(&mut self) {
        let vpp = &self.state.vpp;
        let since = self.age(vpp.since());
        match (vpp.is_enabled(), vpp.info(), self.state.observed.is_fresh()) {
            (false, ..) => self.add(Topic::Vpp, "VPP is not used: nothing is programmed"),
            (true, None, _) => self.add(
                Topic::Vpp,
                alloc::format!(
                    "not connected for {since}{}: what VPP has stays, and is read before it is changed",
                    format::in_brackets(vpp.fault())
                ),
            ),
            (true, Some(_), false) => {
                self.add(
                    Topic::Vpp,
                    alloc::format!("connected for {since}; what VPP has is still being read"),
                );
            }
            (true, Some(_), true) => {}
        }
        if let Some(word) = self.state.conf_job.awaited_rejection() {
            let again = self.state.next_retry(Timer::RetryConf, self.now);
            self.add(
                Topic::Warning,
                alloc::format!(
                    "VPP rejects the global settings (source addresses, flow table): {word}{again}"
                ),
            );
        }
    }
}
