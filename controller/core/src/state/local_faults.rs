//! Faults that this host knows to be its own: backends of which nothing else is heard.
//!
//! They are no verdict, so health stays as it was; but what was known a while ago need not be so any more. Once there has been
//! nothing else for as long as `fall` failures would have taken, a backend is stale. That is told when it happens to the first, and
//! when it is over for the last.

use maglev_ipc::Outcome;

use super::{Ctx, State};
use crate::event::{Kind, LocalFaultsChange};

impl State {
    /// Hears that a probe came to a fault of this host.
    pub(super) fn overlook(&mut self, index: usize, outcome: &Outcome, ctx: &mut Ctx) {
        let backend = &mut self.backends[index];
        let Some((_, healthcheck)) = &backend.healthcheck else { return };
        if backend.tracker.unseen() {
            return;
        }
        backend.tracker.lose_sight_after(healthcheck.interval * healthcheck.fall, outcome);
        if !backend.tracker.unseen() {
            return;
        }
        self.unseen += 1;
        if self.unseen == 1 {
            let (name, fault) = (self.backends[index].name.clone(), outcome.detail.clone());
            ctx.event(Kind::LocalFaults(LocalFaultsChange::Unobserved { name, fault }));
        }
    }

    /// There is a verdict on a backend of which there was none for long.
    pub(super) fn see(&mut self, ctx: &mut Ctx) {
        self.now_unseen(self.unseen.saturating_sub(1), ctx);
    }

    /// Looks who is unseen, after a change of what there is to be seen.
    pub(super) fn look(&mut self, ctx: &mut Ctx) {
        if self.unseen > 0 {
            self.now_unseen(self.backends.iter().filter(|backend| backend.tracker.unseen()).count(), ctx);
        }
    }

    fn now_unseen(&mut self, count: usize, ctx: &mut Ctx) {
        if self.unseen > 0 && count == 0 {
            ctx.event(Kind::LocalFaults(LocalFaultsChange::Cleared));
        }
        self.unseen = count;
    }
}
