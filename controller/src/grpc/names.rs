//! Conversion of enums to the API's, value by value.

use maglev_core::dataplane::Encap;
use maglev_core::event::AuditAction;
use maglev_core::failover::FrontendState;
use maglev_core::health::{BackendAction, Health};
use maglev_core::overrides::OverrideKind;
use maglev_ipc::OutcomeCode;
use maglev_proto::v1;
use tracing::Level;

/// Converts a backend's state.
pub const fn backend_state(health: Health) -> v1::BackendState {
    match health {
        Health::Unknown => v1::BackendState::Unknown,
        Health::Up => v1::BackendState::Up,
        Health::Down => v1::BackendState::Down,
        Health::Paused => v1::BackendState::Paused,
        Health::Disabled => v1::BackendState::Disabled,
        Health::Removed => v1::BackendState::Removed,
    }
}

/// Converts the kind of an override.
pub const fn override_kind(says: OverrideKind) -> v1::OverrideKind {
    match says {
        OverrideKind::Paused => v1::OverrideKind::Paused,
        OverrideKind::Disabled => v1::OverrideKind::Disabled,
        OverrideKind::Enabled => v1::OverrideKind::Enabled,
        OverrideKind::Weight(_) => v1::OverrideKind::Weight,
    }
}

/// Converts a frontend's state.
pub const fn frontend_state(state: FrontendState) -> v1::FrontendState {
    match state {
        FrontendState::Unknown => v1::FrontendState::Unknown,
        FrontendState::Up => v1::FrontendState::Up,
        FrontendState::Down => v1::FrontendState::Down,
        FrontendState::Removed => v1::FrontendState::Removed,
    }
}

/// Converts a kind of probe from the configuration's word.
pub fn probe_type(kind: &str) -> v1::ProbeType {
    match kind {
        "icmp" => v1::ProbeType::Icmp,
        "tcp" => v1::ProbeType::Tcp,
        "http" => v1::ProbeType::Http,
        "https" => v1::ProbeType::Https,
        "static" => v1::ProbeType::Static,
        _ => v1::ProbeType::Unspecified,
    }
}

/// Converts an outcome code.
pub const fn code(code: OutcomeCode) -> v1::Code {
    match code {
        OutcomeCode::L4Ok => v1::Code::L4ok,
        OutcomeCode::L4Tout => v1::Code::L4tout,
        OutcomeCode::L4Con => v1::Code::L4con,
        OutcomeCode::L6Ok => v1::Code::L6ok,
        OutcomeCode::L6Tout => v1::Code::L6tout,
        OutcomeCode::L6Rsp => v1::Code::L6rsp,
        OutcomeCode::L7Ok => v1::Code::L7ok,
        OutcomeCode::L7Tout => v1::Code::L7tout,
        OutcomeCode::L7Rsp => v1::Code::L7rsp,
        OutcomeCode::L7Sts => v1::Code::L7sts,
        OutcomeCode::Static => v1::Code::Static,
        OutcomeCode::Local => v1::Code::Local,
    }
}

/// Converts an operator's action.
pub const fn action(action: BackendAction) -> v1::Action {
    match action {
        BackendAction::Pause => v1::Action::Pause,
        BackendAction::Resume => v1::Action::Resume,
        BackendAction::Disable => v1::Action::Disable,
        BackendAction::Enable => v1::Action::Enable,
    }
}

/// Converts an entry of the audit trail's action.
pub const fn audit_action(action: AuditAction) -> v1::AuditAction {
    match action {
        AuditAction::Pause => v1::AuditAction::Pause,
        AuditAction::Resume => v1::AuditAction::Resume,
        AuditAction::Disable => v1::AuditAction::Disable,
        AuditAction::Enable => v1::AuditAction::Enable,
        AuditAction::SetWeight => v1::AuditAction::SetWeight,
        AuditAction::UnsetWeight => v1::AuditAction::UnsetWeight,
        AuditAction::Sync => v1::AuditAction::Sync,
        AuditAction::Reload => v1::AuditAction::Reload,
    }
}

/// Converts an encapsulation.
pub const fn encap(encap: Encap) -> v1::Encap {
    match encap {
        Encap::Gre4 => v1::Encap::Gre4,
        Encap::Gre6 => v1::Encap::Gre6,
        Encap::L3dsr => v1::Encap::L3dsr,
        Encap::Nat4 => v1::Encap::Nat4,
        Encap::Nat6 => v1::Encap::Nat6,
    }
}

/// Converts the severity of a log record.
pub fn log_level(level: Level) -> v1::LogLevel {
    match level {
        Level::ERROR => v1::LogLevel::Error,
        Level::WARN => v1::LogLevel::Warn,
        Level::INFO => v1::LogLevel::Info,
        Level::DEBUG => v1::LogLevel::Debug,
        Level::TRACE => v1::LogLevel::Trace,
    }
}
