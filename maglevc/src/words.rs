//! The API's values in the words that users know from the configuration.

use maglev_proto::v1::{
    Action, AuditAction, BackendState, Code, CodeRange, Encap, FrontendState, LogLevel, MassFailureResult,
    Override, OverrideKind, ProbeType, TcpMode, TlsVerify, Transition, Verdict, Vip, transition,
};

/// A backend's state.
pub fn backend_state(state: BackendState) -> String {
    word(state.as_str_name(), "BACKEND_STATE_")
}

/// A frontend's state.
pub fn frontend_state(state: FrontendState) -> String {
    word(state.as_str_name(), "FRONTEND_STATE_")
}

/// A kind of probe.
pub fn probe_type(kind: ProbeType) -> String {
    word(kind.as_str_name(), "PROBE_TYPE_")
}

/// What an override says.
pub fn override_kind(kind: OverrideKind) -> String {
    word(kind.as_str_name(), "OVERRIDE_KIND_")
}

/// What an override says, with the weight if it is one.
pub fn overriding(one: &Override) -> String {
    let kind = override_kind(one.kind());
    one.weight.map_or_else(|| kind.clone(), |weight| format!("{kind} {weight}"))
}

/// An encapsulation.
pub fn encap(encap: Encap) -> String {
    word(encap.as_str_name(), "ENCAP_")
}

/// An operator's wish.
pub fn action(action: Action) -> String {
    word(action.as_str_name(), "ACTION_")
}

/// The severity of a log record.
pub fn log_level(level: LogLevel) -> String {
    word(level.as_str_name(), "LOG_LEVEL_")
}

/// Returns the name of a mass failure's stage.
pub fn mass_failure_result(result: MassFailureResult) -> String {
    word(result.as_str_name(), "MASS_FAILURE_RESULT_")
}

/// Returns the name of an audited action.
pub fn audit_action(action: AuditAction) -> String {
    word(action.as_str_name(), "AUDIT_ACTION_")
}

/// How far a connection goes.
pub fn tcp_mode(mode: TcpMode) -> String {
    word(mode.as_str_name(), "TCP_MODE_").replace('_', "-")
}

/// What a certificate is held against.
pub fn tls_verify(verify: TlsVerify) -> String {
    word(verify.as_str_name(), "TLS_VERIFY_").replace('_', "-")
}

/// A verdict's code, which is in capitals everywhere.
pub fn code(code: Code) -> String {
    code.as_str_name().trim_start_matches("CODE_").into()
}

/// A verdict, such as `L4CON connection refused`.
pub fn verdict(verdict: &Verdict) -> String {
    format!("{} {}", code(verdict.code()), verdict.detail).trim_end().into()
}

/// Why a backend changed its state; empty if it never did.
pub fn cause(transition: &Transition) -> String {
    match &transition.cause {
        Some(transition::Cause::Verdict(why)) => verdict(why),
        Some(transition::Cause::Action(wish)) => {
            format!("operator: {}", action(Action::try_from(*wish).unwrap_or_default()))
        }
        Some(transition::Cause::Config(_)) => "configuration".into(),
        None => String::new(),
    }
}

/// Status codes, as in `200,300-399`.
pub fn codes(ranges: &[CodeRange]) -> String {
    let range = |range: &CodeRange| {
        if range.first == range.last {
            range.first.to_string()
        } else {
            format!("{}-{}", range.first, range.last)
        }
    };
    ranges.iter().map(range).collect::<Vec<_>>().join(",")
}

/// A VIP, such as `192.0.2.1 tcp/80`.
pub fn vip(vip: Option<&Vip>) -> String {
    match vip {
        None => String::new(),
        Some(vip) if vip.protocol == "any" => vip.prefix.clone(),
        Some(vip) => format!("{} {}/{}", vip.prefix, vip.protocol, vip.port),
    }
}

fn word(name: &str, prefix: &str) -> String {
    name.trim_start_matches(prefix).to_lowercase()
}
