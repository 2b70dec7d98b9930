//! Random operations.

use std::time::Duration;

use maglev_core::health::BackendAction;
use maglev_ipc::OutcomeCode;
use proptest::prelude::*;

use crate::shape::{BACKENDS, ConfigMutation, mutations, weights};
use crate::vpp::ExternalEdit;

/// An operation on the core or its environment.
#[derive(Clone, Debug)]
pub enum CoreOp {
    ProberUp {
        keeps_history: bool,
    },
    ProberDown,
    Probed {
        backend: usize,
        code: OutcomeCode,
        times: u8,
    },
    StaleOutcome(usize),
    StrangeOutcome,
    /// Time passes, with every tick that the core asks for.
    Wait(Duration),
    /// Time passes, with one tick at its end.
    Jump(Duration),
    Reload(ConfigMutation),
    /// `maglevd` restarts.
    Restart,
    /// An operator's action, and its lifetime in seconds.
    Operate(usize, BackendAction, Option<u64>),
    Weight(usize, usize, usize, Option<u8>, Option<u64>),
    VppUp,
    VppDown,
    VppRestart,
    Edit(ExternalEdit),
    Refuse(u8),
    /// VPP processes one request, or the core gets one answer.
    Work(usize),
    /// VPP processes all requests, and the core gets all answers.
    Drain,
}

/// Returns operations that create or remove overrides.
pub fn overrides(lifetime: impl Strategy<Value = Option<u64>> + Clone) -> impl Strategy<Value = CoreOp> {
    let backend = 0..BACKENDS;
    let action = prop::sample::select(vec![
        BackendAction::Pause,
        BackendAction::Resume,
        BackendAction::Disable,
        BackendAction::Enable,
    ]);
    let weight = prop::option::of(weights());
    prop_oneof![
        2 => (backend.clone(), action, lifetime.clone()).prop_map(|(b, action, l)| CoreOp::Operate(b, action, l)),
        1 => (0..4usize, 0..3usize, backend, weight, lifetime)
            .prop_map(|(f, p, b, w, l)| CoreOp::Weight(f, p, b, w, l)),
    ]
}

pub fn ops() -> impl Strategy<Value = CoreOp> {
    let backend = 0..BACKENDS;
    let code = prop_oneof![4 => Just(OutcomeCode::L7Ok), 4 => Just(OutcomeCode::L4Tout), 1 => Just(OutcomeCode::Local)];
    let time = (0..8000u64).prop_map(Duration::from_millis);
    prop_oneof![
        3 => any::<bool>().prop_map(|keeps_history| CoreOp::ProberUp { keeps_history }),
        1 => Just(CoreOp::ProberDown),
        10 => (backend.clone(), code, 1..5u8).prop_map(|(backend, code, times)| CoreOp::Probed { backend, code, times }),
        1 => backend.prop_map(CoreOp::StaleOutcome),
        1 => Just(CoreOp::StrangeOutcome),
        4 => time.clone().prop_map(CoreOp::Wait),
        1 => time.prop_map(CoreOp::Jump),
        4 => mutations().prop_map(CoreOp::Reload),
        1 => Just(CoreOp::Restart),
        6 => overrides(prop::option::of(1..20u64)),
        4 => Just(CoreOp::VppUp),
        1 => Just(CoreOp::VppDown),
        1 => Just(CoreOp::VppRestart),
        2 => edits().prop_map(CoreOp::Edit),
        1 => (0..4u8).prop_map(CoreOp::Refuse),
        8 => any::<usize>().prop_map(CoreOp::Work),
        6 => Just(CoreOp::Drain),
    ]
}

fn edits() -> impl Strategy<Value = ExternalEdit> {
    let index = 0..8usize;
    prop_oneof![
        (index.clone(), index.clone(), 0..20u8).prop_map(|(v, s, w)| ExternalEdit::Weight(v, s, w)),
        (index.clone(), index.clone()).prop_map(|(v, s)| ExternalEdit::RemoveServer(v, s)),
        index.clone().prop_map(ExternalEdit::AddServer),
        index.clone().prop_map(ExternalEdit::RemoveVip),
        index.clone().prop_map(ExternalEdit::Remake),
        (index, any::<bool>()).prop_map(|(v, elsewhere)| ExternalEdit::Foreign(v, elsewhere)),
        Just(ExternalEdit::RemoveForeign),
        Just(ExternalEdit::Conf),
    ]
}

impl CoreOp {
    /// Reports whether only the core changes VPP, and VPP accepts its steps.
    pub fn is_gentle(&self) -> bool {
        !matches!(self, Self::Edit(_) | Self::Refuse(_) | Self::Restart)
    }
}
