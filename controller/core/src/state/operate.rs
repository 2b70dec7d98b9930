//! Operators' commands: they become overrides, transitions and weights.

use alloc::collections::BTreeSet;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use maglev_ipc::text::is_unprintable;

use super::frontends::FrontendSlot;
use super::{Ctx, Output, State};
use crate::Name;
use crate::event::{Audit, AuditAction, Kind};
use crate::health::{ActionRejected, BackendAction, Health, Transition};
use crate::overrides::{LIFETIMES, MAX, MAX_REASON, MAX_WHO, Override, OverrideKind, OverrideMeta, sanitize};
use crate::time::{Now, WallTime};

/// A command of an operator.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum OperatorCommand {
    /// Apply an action to a backend.
    Backend {
        /// Name of the backend.
        name: Name,
        /// The action.
        action: BackendAction,
    },
    /// Set the weight of a backend in a pool; `None` restores the configured one.
    Weight {
        /// The frontend.
        frontend: Name,
        /// The pool.
        pool: Name,
        /// The backend.
        backend: Name,
        /// 0 to 100.
        weight: Option<u8>,
    },
}

/// Requester of a command, with the data stored in its override.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Requester {
    /// Name of the requester.
    pub who: String,
    /// Reason; at most [`MAX_REASON`] bytes.
    pub reason: String,
    /// Lifetime of the override, within [`LIFETIMES`]; `None` for no expiry.
    pub lifetime: Option<Duration>,
}

impl Requester {
    fn meta(&self, now: WallTime) -> Result<OverrideMeta, OperateError> {
        if self.reason.len() > MAX_REASON {
            let most = alloc::format!("reason: at most {MAX_REASON} bytes are allowed");
            return Err(OperateError::Invalid(most));
        }
        if self.reason.contains(is_unprintable) {
            return Err(OperateError::Invalid(
                "reason: control and invisible characters are not allowed".into(),
            ));
        }
        if self.lifetime.is_some_and(|lifetime| !LIFETIMES.contains(&lifetime)) {
            return Err(OperateError::Invalid("lifetime: 1 second to 365 days are allowed".into()));
        }
        Ok(OverrideMeta {
            who: sanitize(&self.who, MAX_WHO),
            at: now,
            reason: self.reason.clone(),
            expires: self.lifetime.map(|lifetime| now + lifetime),
        })
    }
}

/// Failure of a command. The state is unchanged.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum OperateError {
    /// The named object does not exist.
    NotFound(String),
    /// A value is out of bounds.
    Invalid(String),
    /// The object's state does not allow the command.
    Rejected(String),
}

impl State {
    /// Executes an operator's command, and appends the resulting requests to `out`.
    ///
    /// # Errors
    /// The command cannot be executed; nothing has changed.
    pub fn operate(
        &mut self,
        command: &OperatorCommand,
        requester: &Requester,
        now: Now,
        out: &mut Vec<Output>,
    ) -> Result<(), OperateError> {
        let ctx = &mut Ctx { now, out };
        let meta = Arc::new(requester.meta(now.wall)?);
        match command {
            OperatorCommand::Backend { name, action } => self.operate_backend(name, *action, &meta, ctx),
            OperatorCommand::Weight { frontend, pool, backend, weight } => {
                self.operate_weight([frontend, pool, backend], *weight, &meta, ctx)
            }
        }
    }

    fn operate_backend(
        &mut self,
        name: &Name,
        action: BackendAction,
        meta: &Arc<OverrideMeta>,
        ctx: &mut Ctx,
    ) -> Result<(), OperateError> {
        let Some(index) = self.backend(name) else {
            let none = || OperateError::NotFound(alloc::format!("no backend is named `{name}`"));
            let left = self.removed_by(name, action).ok_or_else(none)?;
            self.drop_override(&left, &meta.who, ctx);
            return Ok(());
        };
        let from = self.backends[index].tracker.health();
        if (action, from) == (BackendAction::Resume, Health::Disabled)
            && let Some(pause) = self.removed_by(name, action)
        {
            // The configuration has disabled a paused backend: resume removes the pause.
            self.drop_override(&pause, &meta.who, ctx);
            return Ok(());
        }
        let added = self.created_by(name, action, meta);
        self.check_room(added.as_ref())?;
        let transition = self.backends[index].tracker.operate(action, ctx.now.wall).map_err(
            |ActionRejected(reason)| OperateError::Rejected(alloc::format!("backend `{name}`: {reason}")),
        )?;
        self.clear_superseded(name, action, from);
        ctx.event(Kind::Operator(Audit {
            subject: alloc::format!("backend {name}"),
            from: from.to_string(),
            to: self.backends[index].tracker.health().to_string(),
            reason: meta.reason.clone(),
            expires: added.as_ref().and(meta.expires),
            ..Audit::of(meta.who.clone(), action.into())
        }));
        self.add_override(added, ctx);
        let transitions = transition.map(|transition| (index, transition));
        self.apply_operations(transitions.into_iter().collect(), BTreeSet::new(), ctx);
        Ok(())
    }

    /// Returns the override that an action creates. An action that agrees with the configuration creates none, so that a
    /// later configuration decides.
    fn created_by(&self, name: &Name, action: BackendAction, meta: &Arc<OverrideMeta>) -> Option<Override> {
        let kind = match action {
            BackendAction::Pause => OverrideKind::Paused,
            BackendAction::Disable => OverrideKind::Disabled,
            BackendAction::Enable if !self.config.backends.get(name).is_some_and(|b| b.enabled) => {
                OverrideKind::Enabled
            }
            BackendAction::Enable | BackendAction::Resume => return None,
        };
        Some(Override { backend: Arc::clone(name), slot: None, kind, meta: Arc::clone(meta) })
    }

    /// Returns the override that an action removes.
    fn removed_by(&self, name: &Name, action: BackendAction) -> Option<Override> {
        self.overrides.of_backend(name).find(|left| match action {
            BackendAction::Resume => left.kind == OverrideKind::Paused,
            BackendAction::Enable => left.kind != OverrideKind::Paused,
            BackendAction::Pause | BackendAction::Disable => false,
        })
    }

    /// Removes the overrides that an action supersedes.
    fn clear_superseded(&mut self, name: &Name, action: BackendAction, from: Health) {
        let put_in = action == BackendAction::Enable && from == Health::Disabled;
        for left in self.overrides.of_backend(name).collect::<Vec<_>>() {
            let is_superseded = match left.kind {
                OverrideKind::Paused => action == BackendAction::Resume || put_in,
                OverrideKind::Disabled | OverrideKind::Enabled | OverrideKind::Weight(_) => {
                    action == BackendAction::Enable
                }
            };
            if is_superseded {
                Arc::make_mut(&mut self.overrides).remove(&left);
            }
        }
    }

    fn operate_weight(
        &mut self,
        path: [&Name; 3],
        weight: Option<u8>,
        meta: &Arc<OverrideMeta>,
        ctx: &mut Ctx,
    ) -> Result<(), OperateError> {
        let [frontend, pool, backend] = path;
        if let Err(missing) = self.find_slot(path) {
            let left = self.override_weight(path).filter(|_| weight.is_none());
            self.drop_override(&left.ok_or(OperateError::NotFound(missing))?, &meta.who, ctx);
            return Ok(());
        }
        if weight.is_some_and(|w| w > 100) {
            return Err(OperateError::Invalid("weight: 0 to 100 are allowed".into()));
        }
        let slot = Some((Arc::clone(frontend), Arc::clone(pool)));
        let added = weight.map(|weight| Override {
            backend: Arc::clone(backend),
            slot,
            kind: OverrideKind::Weight(weight),
            meta: Arc::clone(meta),
        });
        self.check_room(added.as_ref())?;
        if let (None, Some(left)) = (weight, self.override_weight(path)) {
            Arc::make_mut(&mut self.overrides).remove(&left);
        }
        let from = self.shown_weight(path);
        let Some(index) = self.set_weight(path, weight) else { return Ok(()) };
        let to = self.shown_weight(path);
        let action = if weight.is_some() { AuditAction::SetWeight } else { AuditAction::UnsetWeight };
        ctx.event(Kind::Operator(Audit {
            subject: slot_subject(path),
            from: from.unwrap_or_default(),
            to: to.unwrap_or_default(),
            reason: meta.reason.clone(),
            expires: added.as_ref().and(meta.expires),
            ..Audit::of(meta.who.clone(), action)
        }));
        self.add_override(added, ctx);
        self.refresh_frontend(index, ctx);
        Ok(())
    }

    fn find_slot(&self, [frontend, pool, backend]: [&Name; 3]) -> Result<(), String> {
        let found = self.config.frontends.get(frontend);
        let found = found.ok_or_else(|| alloc::format!("no frontend is named `{frontend}`"))?;
        let found = found.pools.iter().find(|p| p.name == *pool);
        let found =
            found.ok_or_else(|| alloc::format!("no pool of frontend `{frontend}` is named `{pool}`"))?;
        match found.backends.contains_key(backend) {
            true => Ok(()),
            false => Err(alloc::format!(
                "no backend of pool `{pool}` of frontend `{frontend}` is named `{backend}`"
            )),
        }
    }

    fn override_weight(&self, path: [&Name; 3]) -> Option<Override> {
        let [frontend, pool, backend] = path.map(Arc::clone);
        let key = (Arc::clone(&frontend), Arc::clone(&pool), Arc::clone(&backend));
        let (weight, meta) = self.overrides.weights.get(&key)?;
        let (slot, meta) = (Some((frontend, pool)), Arc::clone(meta));
        Some(Override { backend, slot, kind: OverrideKind::Weight(*weight), meta })
    }

    /// Sets the weight of a slot; `None` restores the configured one. Returns the index of the frontend, if the slot exists.
    pub(super) fn set_weight(&mut self, path: [&Name; 3], weight: Option<u8>) -> Option<usize> {
        let (index, at) = self.slot(path)?;
        let frontend = &mut self.frontends[index];
        let slot = &mut frontend.slots[at];
        let configured = *frontend.config.pools[slot.pool].backends.get(path[2])?;
        slot.weight = weight.unwrap_or(configured);
        slot.overridden = weight.is_some();
        Some(index)
    }

    fn shown_weight(&self, path: [&Name; 3]) -> Option<String> {
        self.slot(path).map(|(index, at)| self.frontends[index].slots[at].weight.to_string())
    }

    /// Returns the index of a frontend, and of a slot in it.
    fn slot(&self, [frontend, pool, backend]: [&Name; 3]) -> Option<(usize, usize)> {
        let index = self.frontends.search(|f| f.name.cmp(frontend))?;
        let frontend = &self.frontends[index];
        let matches = |slot: &FrontendSlot| {
            frontend.config.pools[slot.pool].name == *pool && self.backends[slot.backend].name == *backend
        };
        Some((index, frontend.slots.iter().position(matches)?))
    }

    pub(super) fn backend(&self, name: &Name) -> Option<usize> {
        self.backends.search(|b| b.name.cmp(name))
    }

    /// Checks that there is room for one more override, or that it replaces another.
    fn check_room(&self, added: Option<&Override>) -> Result<(), OperateError> {
        let Some(added) = added.filter(|_| self.overrides.len() >= MAX) else { return Ok(()) };
        if self.overrides.replaces(added) {
            return Ok(());
        }
        let full = alloc::format!("the limit of {MAX} overrides is reached; remove some first");
        Err(OperateError::Rejected(full))
    }

    fn add_override(&mut self, added: Option<Override>, ctx: &Ctx) {
        let Some(added) = added else { return };
        let expires = added.meta.expires;
        Arc::make_mut(&mut self.overrides).insert(added);
        if let Some(expires) = expires {
            self.schedule_expiry(expires, ctx);
        }
    }

    /// Removes an override that has no effect at present.
    fn drop_override(&mut self, left: &Override, who: &str, ctx: &mut Ctx) {
        Arc::make_mut(&mut self.overrides).remove(left);
        let value = self.current_value(left);
        ctx.event(Kind::Operator(audit_removal(left, who, value.clone(), value)));
    }

    /// Returns the current value of the overridden item: a backend's state, or a weight.
    pub(super) fn current_value(&self, of: &Override) -> Option<String> {
        match &of.slot {
            Some((frontend, pool)) => self.shown_weight([frontend, pool, &of.backend]),
            None => self.backend(&of.backend).map(|index| self.backends[index].tracker.health().to_string()),
        }
    }

    /// Applies the consequences of backends' transitions, and of changed weights in the frontends of `touched`.
    pub(super) fn apply_operations(
        &mut self,
        transitions: Vec<(usize, Transition)>,
        mut touched: BTreeSet<usize>,
        ctx: &mut Ctx,
    ) {
        for (index, _) in &transitions {
            if self.backends[*index].tracker.health() == Health::Unknown {
                self.renew_check(*index);
            }
        }
        self.amend_check_set(Vec::new(), transitions.iter().map(|(index, _)| *index), ctx);
        self.recount_unobserved(ctx);
        for (index, transition) in transitions {
            self.publish_transition(index, Some(transition), ctx);
            touched.extend(&self.backends[index].frontends);
        }
        for frontend in touched {
            self.refresh_frontend(frontend, ctx);
        }
    }
}

/// Returns the audit entry of a removed override. `from` and `to` are the values of its item before and after; if the item
/// does not exist, the entry shows the override itself.
pub(super) fn audit_removal(left: &Override, who: &str, from: Option<String>, to: Option<String>) -> Audit {
    let (action, subject, value) = match (left.kind, &left.slot) {
        (OverrideKind::Weight(weight), Some((frontend, pool))) => {
            (AuditAction::UnsetWeight, slot_subject([frontend, pool, &left.backend]), weight.to_string())
        }
        (kind, _) => {
            let action = match kind {
                OverrideKind::Paused => AuditAction::Resume,
                OverrideKind::Enabled => AuditAction::Disable,
                OverrideKind::Disabled | OverrideKind::Weight(_) => AuditAction::Enable,
            };
            (action, alloc::format!("backend {}", left.backend), kind.as_str().to_string())
        }
    };
    let (from, to) = (from.unwrap_or(value), to.unwrap_or_default());
    Audit { subject, from, to, ..Audit::of(who.to_string(), action) }
}

/// Returns the subject of a weight in the audit trail.
pub(super) fn slot_subject([frontend, pool, backend]: [&Name; 3]) -> String {
    alloc::format!("frontend {frontend} pool {pool} backend {backend}")
}
