//! What operators ask for.

use alloc::collections::BTreeSet;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use super::frontends::Slot;
use super::{Ctx, Output, State};
use crate::Name;
use crate::event::{Audit, AuditAction, Kind};
use crate::health::{ActionRejected, BackendAction, Health, Transition};
use crate::overrides::{LIFETIMES, MAX, MAX_REASON, MAX_WHO, Override, OverrideKind, OverrideMeta, sanitize};
use crate::time::{Now, WallTime};

/// What an operator can ask for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum OperatorCommand {
    /// Do this to a backend.
    Backend {
        /// Its name.
        name: Name,
        /// What.
        action: BackendAction,
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

/// Who asks, and what is to be remembered of it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Requester {
    /// Who.
    pub who: String,
    /// Why; at most [`MAX_REASON`] bytes.
    pub reason: String,
    /// For how long, within [`LIFETIMES`]; `None` is until it is undone.
    pub lifetime: Option<Duration>,
}

impl Requester {
    fn meta(&self, now: WallTime) -> Result<OverrideMeta, OperateError> {
        if self.reason.len() > MAX_REASON {
            let most = alloc::format!("reason: at most {MAX_REASON} bytes are allowed");
            return Err(OperateError::Invalid(most));
        }
        if self.reason.chars().any(char::is_control) {
            return Err(OperateError::Invalid("reason: control characters are not allowed".into()));
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

/// Why a command was not carried out.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum OperateError {
    /// There is no such thing.
    NotFound(String),
    /// A value lies outside its bounds.
    Invalid(String),
    /// It cannot be done to it as it is.
    Rejected(String),
}

impl State {
    /// Carries out what an operator asks for, and appends to `out` what follows from it.
    ///
    /// # Errors
    /// It cannot be done; nothing has changed.
    pub fn operate(
        &mut self,
        command: &OperatorCommand,
        by: &Requester,
        now: Now,
        out: &mut Vec<Output>,
    ) -> Result<(), OperateError> {
        let ctx = &mut Ctx { now, out };
        let meta = Arc::new(by.meta(now.wall)?);
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
            let left = self.undone_by(name, action).ok_or_else(none)?;
            self.forget(&left, &meta.who, ctx);
            return Ok(());
        };
        let from = self.backends[index].tracker.health();
        if (action, from) == (BackendAction::Resume, Health::Disabled)
            && let Some(pause) = self.undone_by(name, action)
        {
            // The configuration has disabled what is paused: the pause can still be called off.
            self.forget(&pause, &meta.who, ctx);
            return Ok(());
        }
        let added = self.added_by(name, action, meta);
        self.check_room(added.as_ref())?;
        let transition =
            self.backends[index].tracker.operate(action, ctx.now.wall).map_err(|ActionRejected(why)| {
                OperateError::Rejected(alloc::format!("backend `{name}`: {why}"))
            })?;
        self.replace_wishes(name, action, from);
        ctx.event(Kind::Operator(Audit {
            subject: alloc::format!("backend {name}"),
            from: from.to_string(),
            to: self.backends[index].tracker.health().to_string(),
            reason: meta.reason.clone(),
            expires: added.as_ref().and(meta.expires),
            ..Audit::of(meta.who.clone(), action.into())
        }));
        self.add(added, ctx);
        let moves = transition.map(|transition| (index, transition));
        self.follow(moves.into_iter().collect(), BTreeSet::new(), ctx);
        Ok(())
    }

    /// The override that an action leaves behind. What the configuration says too is none: a later one may say otherwise.
    fn added_by(&self, name: &Name, action: BackendAction, meta: &Arc<OverrideMeta>) -> Option<Override> {
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

    /// The override that an action calls off.
    fn undone_by(&self, name: &Name, action: BackendAction) -> Option<Override> {
        self.overrides.of_backend(name).find(|left| match action {
            BackendAction::Resume => left.kind == OverrideKind::Paused,
            BackendAction::Enable => left.kind != OverrideKind::Paused,
            BackendAction::Pause | BackendAction::Disable => false,
        })
    }

    /// Takes away what an action that is being carried out calls off.
    fn replace_wishes(&mut self, name: &Name, action: BackendAction, from: Health) {
        let put_in = action == BackendAction::Enable && from == Health::Disabled;
        for left in self.overrides.of_backend(name).collect::<Vec<_>>() {
            let called_off = match left.kind {
                OverrideKind::Paused => action == BackendAction::Resume || put_in,
                OverrideKind::Disabled | OverrideKind::Enabled | OverrideKind::Weight(_) => {
                    action == BackendAction::Enable
                }
            };
            if called_off {
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
            let left = self.weight_override(path).filter(|_| weight.is_none());
            self.forget(&left.ok_or(OperateError::NotFound(missing))?, &meta.who, ctx);
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
        if let (None, Some(left)) = (weight, self.weight_override(path)) {
            Arc::make_mut(&mut self.overrides).remove(&left);
        }
        let from = self.shown_weight(path);
        let Some(index) = self.weigh(path, weight) else { return Ok(()) };
        let to = self.shown_weight(path);
        ctx.event(Kind::Operator(Audit {
            subject: subject(path),
            from: from.unwrap_or_default(),
            to: to.unwrap_or_default(),
            reason: meta.reason.clone(),
            expires: added.as_ref().and(meta.expires),
            ..Audit::of(
                meta.who.clone(),
                if weight.is_some() { AuditAction::SetWeight } else { AuditAction::UnsetWeight },
            )
        }));
        self.add(added, ctx);
        self.refresh(index, ctx);
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

    fn weight_override(&self, path: [&Name; 3]) -> Option<Override> {
        let [frontend, pool, backend] = path.map(Arc::clone);
        let key = (Arc::clone(&frontend), Arc::clone(&pool), Arc::clone(&backend));
        let (weight, meta) = self.overrides.weights.get(&key)?;
        let (slot, meta) = (Some((frontend, pool)), Arc::clone(meta));
        Some(Override { backend, slot, kind: OverrideKind::Weight(*weight), meta })
    }

    /// Gives a backend of a pool a weight, or the configured one. The frontend, if there is such a thing.
    pub(super) fn weigh(&mut self, path: [&Name; 3], weight: Option<u8>) -> Option<usize> {
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

    /// The index of a frontend, and of a slot in it.
    fn slot(&self, [frontend, pool, backend]: [&Name; 3]) -> Option<(usize, usize)> {
        let index = self.frontends.search(|f| f.name.cmp(frontend))?;
        let frontend = &self.frontends[index];
        let is_it = |slot: &Slot| {
            frontend.config.pools[slot.pool].name == *pool && self.backends[slot.backend].name == *backend
        };
        Some((index, frontend.slots.iter().position(is_it)?))
    }

    pub(super) fn backend(&self, name: &Name) -> Option<usize> {
        self.backends.search(|b| b.name.cmp(name))
    }

    /// Whether there is room for one more, or it takes the place of another.
    fn check_room(&self, added: Option<&Override>) -> Result<(), OperateError> {
        let Some(added) = added.filter(|_| self.overrides.len() >= MAX) else { return Ok(()) };
        if self.overrides.replaces(added) {
            return Ok(());
        }
        let full = alloc::format!("there are {MAX} overrides already, which is the most; undo some first");
        Err(OperateError::Rejected(full))
    }

    fn add(&mut self, added: Option<Override>, ctx: &Ctx) {
        let Some(added) = added else { return };
        let expires = added.meta.expires;
        Arc::make_mut(&mut self.overrides).insert(added);
        if let Some(expires) = expires {
            self.watch_expiry(expires, ctx);
        }
    }

    /// Takes away an override from which nothing follows now.
    fn forget(&mut self, left: &Override, who: &str, ctx: &mut Ctx) {
        Arc::make_mut(&mut self.overrides).remove(left);
        let held = self.held(left);
        ctx.event(Kind::Operator(undoing(left, who, held.clone(), held)));
    }

    /// What is so now of what an override is about: a backend's state, or a weight.
    pub(super) fn held(&self, of: &Override) -> Option<String> {
        match &of.slot {
            Some((frontend, pool)) => self.shown_weight([frontend, pool, &of.backend]),
            None => self.backend(&of.backend).map(|index| self.backends[index].tracker.health().to_string()),
        }
    }

    /// Draws the consequences of what has become of backends and, for the frontends of `touched`, of weights.
    pub(super) fn follow(
        &mut self,
        moves: Vec<(usize, Transition)>,
        mut touched: BTreeSet<usize>,
        ctx: &mut Ctx,
    ) {
        for (index, _) in &moves {
            if self.backends[*index].tracker.health() == Health::Unknown {
                self.renew_check(*index);
            }
        }
        self.amend_checks(Vec::new(), moves.iter().map(|(index, _)| *index), ctx);
        self.look(ctx);
        for (index, transition) in moves {
            self.tell(index, Some(transition), ctx);
            touched.extend(&self.backends[index].frontends);
        }
        for frontend in touched {
            self.refresh(frontend, ctx);
        }
    }
}

/// The line of the audit trail for an override that is undone. `from` and `to` are what its backend or weight was and is;
/// if there was none, it is the override itself that is no more.
pub(super) fn undoing(left: &Override, who: &str, from: Option<String>, to: Option<String>) -> Audit {
    let (what, subject, said) = match (left.kind, &left.slot) {
        (OverrideKind::Weight(weight), Some((frontend, pool))) => {
            (AuditAction::UnsetWeight, subject([frontend, pool, &left.backend]), weight.to_string())
        }
        (kind, _) => {
            let what = match kind {
                OverrideKind::Paused => AuditAction::Resume,
                OverrideKind::Enabled => AuditAction::Disable,
                OverrideKind::Disabled | OverrideKind::Weight(_) => AuditAction::Enable,
            };
            (what, alloc::format!("backend {}", left.backend), kind.as_str().to_string())
        }
    };
    let (from, to) = (from.unwrap_or(said), to.unwrap_or_default());
    Audit { subject, from, to, ..Audit::of(who.to_string(), what) }
}

fn subject([frontend, pool, backend]: [&Name; 3]) -> String {
    alloc::format!("frontend {frontend} pool {pool} backend {backend}")
}
