//! What operators want.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::Arc;

use super::{Output, State, Turn};
use crate::Name;
use crate::health::{Action, Health, Refused};
use crate::time::Now;

/// What an operator can ask for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Command {
    /// Do this to a backend.
    Backend {
        /// Its name.
        name: Name,
        /// What.
        action: Action,
    },
    /// Give a backend of a pool another weight; `None` gives back the configured one.
    Weight {
        /// The frontend.
        frontend: Name,
        /// The pool.
        pool: Name,
        /// The backend.
        backend: Name,
        /// 0…100.
        weight: Option<u8>,
    },
}

/// Why a command was not carried out.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum OperateError {
    /// There is no such thing.
    NotFound(String),
    /// A value lies outside its bounds.
    Invalid(String),
    /// It cannot be done to it as it is.
    Refused(String),
}

/// The wishes of operators that outlive a reload.
#[derive(Clone, Debug, Default)]
pub(super) struct Overrides {
    /// Backends that are to be enabled, or not, whatever the configuration says.
    pub enabled: BTreeMap<Name, bool>,
    /// By frontend, pool and backend.
    pub weights: BTreeMap<(Name, Name, Name), u8>,
}

impl State {
    /// Carries out what an operator asks for, and appends to `out` what follows from it.
    ///
    /// # Errors
    /// It cannot be done; nothing has changed.
    pub fn operate(
        &mut self,
        command: &Command,
        now: Now,
        out: &mut alloc::vec::Vec<Output>,
    ) -> Result<(), OperateError> {
        let turn = &mut Turn { now, out };
        match command {
            Command::Backend { name, action } => self.operate_backend(name, *action, turn),
            Command::Weight { frontend, pool, backend, weight } => {
                self.operate_weight([frontend, pool, backend], *weight, turn)
            }
        }
    }

    fn operate_backend(&mut self, name: &Name, action: Action, turn: &mut Turn) -> Result<(), OperateError> {
        let index = self
            .backends
            .binary_search_by(|b| b.name.cmp(name))
            .map_err(|_| OperateError::NotFound(alloc::format!("backend {name}: no such backend")))?;
        let transition = self.backends[index]
            .tracker
            .operate(action, turn.now.wall)
            .map_err(|Refused(why)| OperateError::Refused(alloc::format!("backend {name}: {why}")))?;
        let wishes = &mut self.overrides.enabled;
        match action {
            Action::Disable => _ = wishes.insert(Arc::clone(name), false),
            // What the configuration says too is no override: a later one may say otherwise.
            Action::Enable if self.config.backends.get(name).is_some_and(|b| b.enabled) => {
                _ = wishes.remove(name);
            }
            Action::Enable => _ = wishes.insert(Arc::clone(name), true),
            Action::Pause | Action::Resume => {}
        }
        if transition.is_none() {
            return Ok(());
        }
        if self.backends[index].tracker.health() == Health::Unknown {
            self.renew_check(index);
        }
        self.send_checks(turn);
        self.moved(index, transition, turn);
        Ok(())
    }

    fn operate_weight(
        &mut self,
        path: [&Name; 3],
        weight: Option<u8>,
        turn: &mut Turn,
    ) -> Result<(), OperateError> {
        let [frontend, pool, backend] = path;
        let not_found =
            |what: &str, name: &Name| OperateError::NotFound(alloc::format!("{what} {name}: no such {what}"));
        let index = self
            .frontends
            .binary_search_by(|f| f.name.cmp(frontend))
            .map_err(|_| not_found("frontend", frontend))?;
        let config = &self.frontends[index].config;
        let at = config.pools.iter().position(|p| p.name == *pool).ok_or_else(|| not_found("pool", pool))?;
        let configured =
            *config.pools[at].backends.get(backend).ok_or_else(|| not_found("backend", backend))?;
        if weight.is_some_and(|w| w > 100) {
            return Err(OperateError::Invalid("weight: 0 to 100 are allowed".into()));
        }
        let key = path.map(Arc::clone).into();
        match weight {
            Some(weight) => _ = self.overrides.weights.insert(key, weight),
            None => _ = self.overrides.weights.remove(&key),
        }
        let of_backend = |b: usize| self.backends[b].name == *backend;
        if let Some(slot) =
            self.frontends[index].slots.iter_mut().find(|s| s.pool == at && of_backend(s.backend))
        {
            slot.weight = weight.unwrap_or(configured);
            slot.overridden = weight.is_some();
        }
        self.refresh(index, turn);
        Ok(())
    }
}
