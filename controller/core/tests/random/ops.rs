//! What happens, at random.

use std::time::Duration;

use maglev_core::health::BackendAction;
use maglev_ipc::OutcomeCode;
use proptest::prelude::*;

use crate::shape::{BACKENDS, Mutation, mutations, weights};
use crate::vpp::Edit;

/// Something that happens to the core.
#[derive(Clone, Debug)]
pub enum Op {
    ProberUp {
        remembers: bool,
    },
    ProberDown,
    Probed {
        backend: usize,
        code: OutcomeCode,
        times: u8,
    },
    StaleOutcome(usize),
    StrangeOutcome,
    /// Time passes, and the core is woken whenever it wants to be.
    Wait(Duration),
    /// Time passes, and the core is woken only at its end.
    Jump(Duration),
    Reload(Mutation),
    /// `maglevd` starts again.
    Restart,
    /// An operator's wish, and for how many seconds.
    Operate(usize, BackendAction, Option<u64>),
    Weight(usize, usize, usize, Option<u8>, Option<u64>),
    VppUp,
    VppDown,
    VppRestart,
    Edit(Edit),
    Refuse(u8),
    /// VPP goes on with something that it was asked.
    Work(usize),
    /// VPP does all that it was asked.
    Drain,
}

/// Operators' wishes that outlive reloads and restarts.
pub fn overrides(lifetime: impl Strategy<Value = Option<u64>> + Clone) -> impl Strategy<Value = Op> {
    let backend = 0..BACKENDS;
    let action = prop::sample::select(vec![
        BackendAction::Pause,
        BackendAction::Resume,
        BackendAction::Disable,
        BackendAction::Enable,
    ]);
    let weight = prop::option::of(weights());
    prop_oneof![
        2 => (backend.clone(), action, lifetime.clone()).prop_map(|(b, action, l)| Op::Operate(b, action, l)),
        1 => (0..4usize, 0..3usize, backend, weight, lifetime)
            .prop_map(|(f, p, b, w, l)| Op::Weight(f, p, b, w, l)),
    ]
}

pub fn ops() -> impl Strategy<Value = Op> {
    let backend = 0..BACKENDS;
    let code = prop_oneof![4 => Just(OutcomeCode::L7Ok), 4 => Just(OutcomeCode::L4Tout), 1 => Just(OutcomeCode::Local)];
    let time = (0..8000u64).prop_map(Duration::from_millis);
    prop_oneof![
        3 => any::<bool>().prop_map(|remembers| Op::ProberUp { remembers }),
        1 => Just(Op::ProberDown),
        10 => (backend.clone(), code, 1..5u8).prop_map(|(backend, code, times)| Op::Probed { backend, code, times }),
        1 => backend.prop_map(Op::StaleOutcome),
        1 => Just(Op::StrangeOutcome),
        4 => time.clone().prop_map(Op::Wait),
        1 => time.prop_map(Op::Jump),
        4 => mutations().prop_map(Op::Reload),
        1 => Just(Op::Restart),
        6 => overrides(prop::option::of(1..20u64)),
        4 => Just(Op::VppUp),
        1 => Just(Op::VppDown),
        1 => Just(Op::VppRestart),
        2 => edits().prop_map(Op::Edit),
        1 => (0..4u8).prop_map(Op::Refuse),
        8 => any::<usize>().prop_map(Op::Work),
        6 => Just(Op::Drain),
    ]
}

fn edits() -> impl Strategy<Value = Edit> {
    let index = 0..8usize;
    prop_oneof![
        (index.clone(), index.clone(), 0..20u8).prop_map(|(v, s, w)| Edit::Weight(v, s, w)),
        (index.clone(), index.clone()).prop_map(|(v, s)| Edit::RemoveServer(v, s)),
        index.clone().prop_map(Edit::AddServer),
        index.clone().prop_map(Edit::RemoveVip),
        index.clone().prop_map(Edit::Remake),
        (index, any::<bool>()).prop_map(|(v, elsewhere)| Edit::Foreign(v, elsewhere)),
        Just(Edit::RemoveForeign),
        Just(Edit::Conf),
    ]
}

impl Op {
    /// Whether VPP is left to us.
    pub fn is_gentle(&self) -> bool {
        !matches!(self, Self::Edit(_) | Self::Refuse(_) | Self::Restart)
    }
}
