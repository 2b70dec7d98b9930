//! Names of the API's values, as in the configuration.

use maglev_proto::v1::{
    Action, AuditAction, BackendState, Code, CodeRange, Encap, FrontendState, LogLevel, MassFailureResult,
    Override, OverrideKind, ProbeType, TcpMode, TlsVerify, Transition, Verdict, Vip, transition,
};

/// Returns the name of a backend's state.
pub fn backend_state(state: BackendState) -> String {
    word(state.as_str_name(), "BACKEND_STATE_")
}

/// Returns the name of a frontend's state.
pub fn frontend_state(state: FrontendState) -> String {
    word(state.as_str_name(), "FRONTEND_STATE_")
}

/// Returns the name of a kind of probe.
pub fn probe_type(kind: ProbeType) -> String {
    word(kind.as_str_name(), "PROBE_TYPE_")
}

/// Returns the name of a kind of override.
pub fn override_kind(kind: OverrideKind) -> String {
    word(kind.as_str_name(), "OVERRIDE_KIND_")
}

/// Formats an override's kind, with its weight.
pub fn overriding(one: &Override) -> String {
    let kind = override_kind(one.kind());
    one.weight.map_or_else(|| kind.clone(), |weight| format!("{kind} {weight}"))
}

/// Returns the name of an encapsulation.
pub fn encap(encap: Encap) -> String {
    word(encap.as_str_name(), "ENCAP_")
}

/// Returns the name of an operator's action.
pub fn action(action: Action) -> String {
    word(action.as_str_name(), "ACTION_")
}

/// Returns the name of a log level.
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

/// Returns the name of a TCP healthcheck's mode.
pub fn tcp_mode(mode: TcpMode) -> String {
    word(mode.as_str_name(), "TCP_MODE_").replace('_', "-")
}

/// Returns the name of a TLS verification mode.
pub fn tls_verify(verify: TlsVerify) -> String {
    word(verify.as_str_name(), "TLS_VERIFY_").replace('_', "-")
}

/// Returns an outcome code, in capitals.
pub fn code(code: Code) -> String {
    code.as_str_name().trim_start_matches("CODE_").into()
}

/// Formats a verdict, such as `L4CON connection refused`.
pub fn verdict(verdict: &Verdict) -> String {
    format!("{} {}", code(verdict.code()), verdict.detail).trim_end().into()
}

/// Formats the cause of a transition; empty for none.
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

/// Formats status codes, such as `200,300-399`.
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

/// Formats a VIP, such as `192.0.2.1 tcp/80`.
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
