//! JSON output. The names are an interface: a release may add names, and the changelog lists each one that changes.
//!
//! Times are RFC 3339 in UTC, durations are seconds, and absent values are null.

use std::time::Duration;

use maglev_proto::v1::{
    Backend, ConfigFault, ConfigProblem, DerivedTimeout, Frontend, GetLbStateResponse, GetVersionResponse,
    GetVppInfoResponse, Healthcheck, HttpParams, LbConf, LbServer, LbVip, Outcome, Override, Plan, Pool,
    PoolBackend, Reason, TlsParams, Transition, Vip, VipPlan, transition,
};
use maglev_proto::{Duration as ProtoDuration, Timestamp};
use serde_json::{Value, json};

use crate::result::CommandResult;
use crate::result::{ActionResult, WeightResult};
use crate::{BUILD_DATE, COMMIT, VERSION, help, words};

mod counters;
mod events;

pub use events::event;

/// Renders a result: an object, or for a list an object with that list.
pub fn render(shown: &CommandResult) -> Value {
    match shown {
        CommandResult::Help(topic) => help::commands_json(topic.as_deref()),
        CommandResult::Version(daemon) => version(daemon),
        CommandResult::Frontends(all) => json!({ "frontends": list(all, frontend) }),
        CommandResult::Frontend(one) => frontend(one),
        CommandResult::Backends(all) => json!({ "backends": list(all, backend) }),
        CommandResult::Backend(one) => backend_in_full(one),
        CommandResult::Healthchecks(all) => json!({ "healthchecks": list(all, healthcheck) }),
        CommandResult::Healthcheck(one) => healthcheck(one),
        CommandResult::Overrides(all) => {
            json!({ "overrides": list(&all.overrides, overriding), "persist_error": given(&all.persist_error) })
        }
        CommandResult::VppInfo(info) => vpp_info(info),
        CommandResult::VppLbState(state) => lb_state(state),
        CommandResult::VppLbCounters(found) => counters::render(found),
        CommandResult::Action(done) => action_result(done),
        CommandResult::Weight(done) => weight_result(done),
        CommandResult::Explained(reasons) => json!({ "reasons": list(reasons, reason) }),
        CommandResult::Synced { plan: planned, dry_run } => {
            json!({ "plan": plan(planned), "dry_run": dry_run })
        }
        CommandResult::Checked(answer) => {
            json!({ "fault": answer.fault.as_ref().map(fault), "plan": answer.plan.as_ref().map(plan) })
        }
        CommandResult::Reloaded(answer) => {
            let wrong = answer.fault.as_ref().map(fault);
            json!({ "reloaded": wrong.is_none(), "fault": wrong, "warnings": answer.warnings })
        }
    }
}

/// Formats `value` on several lines.
pub fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}

fn list<T>(all: &[T], one: fn(&T) -> Value) -> Value {
    all.iter().map(one).collect()
}

fn version(daemon: &GetVersionResponse) -> Value {
    let program = |version: &str, commit: &str, built: &str| json!({ "version": version, "commit": given(commit), "build_date": given(built) });
    json!({
        "maglevd": program(&daemon.version, &daemon.commit, &daemon.build_date),
        "maglevc": program(VERSION, COMMIT.unwrap_or_default(), BUILD_DATE.unwrap_or_default()),
    })
}

fn frontend(one: &Frontend) -> Value {
    json!({
        "name": one.name,
        "description": one.description,
        "vip": one.vip.as_ref().map(vip),
        "state": words::frontend_state(one.state()),
        "since": time(one.since.as_ref()),
        "active_pool": given(&one.active_pool),
        "startup_done": one.startup_done,
        "src_ip_sticky": one.src_ip_sticky,
        "flush_on_down": one.flush_on_down,
        "encap": words::encap(one.encap()),
        "table_length": one.table_length,
        "weights_exceed_table": one.weights_exceed_table,
        "warnings": one.warnings,
        "pools": list(&one.pools, pool),
    })
}

fn pool(one: &Pool) -> Value {
    json!({ "name": one.name, "backends": list(&one.backends, pool_backend) })
}

fn pool_backend(one: &PoolBackend) -> Value {
    json!({
        "name": one.name,
        "address": one.address,
        "state": words::backend_state(one.state()),
        "weight": one.weight,
        "overridden": one.overridden,
        "configured_weight": one.configured_weight,
        "rounded_weight": one.rounded_weight,
        "effective_weight": one.effective_weight,
        "vpp_weight": one.vpp_weight,
        "vpp_buckets": one.vpp_buckets,
    })
}

fn backend(one: &Backend) -> Value {
    json!({
        "name": one.name,
        "address": one.address,
        "healthcheck": given(&one.healthcheck),
        "type": words::probe_type(one.r#type()),
        "enabled": one.enabled,
        "state": words::backend_state(one.state()),
        "since": time(one.since.as_ref()),
        "counter": one.counter,
        "rise": one.rise,
        "fall": one.fall,
        "stale": one.stale,
        "rejection": given(&one.rejection),
        "derived_timeout": one.derived_timeout.as_ref().map(derived_timeout),
        "last": one.last.as_ref().map(outcome),
        "certificate_expires": time(one.certificate_expires.as_ref()),
        "certificate_chain_expires": time(one.certificate_chain_expires.as_ref()),
        "overrides": list(&one.overrides, overriding),
    })
}

fn backend_in_full(one: &Backend) -> Value {
    let mut object = backend(one);
    object["transitions"] = list(&one.transitions, transition);
    object
}

fn overriding(one: &Override) -> Value {
    json!({
        "kind": words::override_kind(one.kind()),
        "backend": one.backend,
        "frontend": given(&one.frontend),
        "pool": given(&one.pool),
        "weight": one.weight,
        "actor": one.actor,
        "at": time(one.at.as_ref()),
        "reason": given(&one.reason),
        "expires": time(one.expires.as_ref()),
        "dangling": one.dangling,
    })
}

fn action_result(done: &ActionResult) -> Value {
    let before = done.before.as_ref();
    json!({
        "was": before.map(|before| words::backend_state(before.state())),
        "backend": done.after.as_ref().map(backend_in_full),
        "persist_error": given(&done.persist_error),
    })
}

fn weight_result(done: &WeightResult) -> Value {
    json!({
        "frontend": done.frontend,
        "pool": done.pool,
        "was": done.before.as_ref().map(|before| before.weight),
        "backend": done.after.as_ref().map(pool_backend),
        "persist_error": given(&done.persist_error),
    })
}

fn reason(one: &Reason) -> Value {
    json!({ "topic": one.topic, "text": one.text })
}

fn derived_timeout(one: &DerivedTimeout) -> Value {
    json!({
        "now_seconds": seconds(one.now.as_ref()),
        "min_seconds": seconds(one.min.as_ref()),
        "max_seconds": seconds(one.max.as_ref()),
    })
}

fn outcome(one: &Outcome) -> Value {
    let verdict = one.verdict.clone().unwrap_or_default();
    json!({
        "at": time(one.at.as_ref()),
        "duration_seconds": seconds(one.duration.as_ref()),
        "code": words::code(verdict.code()),
        "detail": given(&verdict.detail),
    })
}

fn transition(one: &Transition) -> Value {
    let verdict = match &one.cause {
        Some(transition::Cause::Verdict(verdict)) => Some(verdict),
        _ => None,
    };
    json!({
        "from": words::backend_state(one.from()),
        "to": words::backend_state(one.to()),
        "at": time(one.at.as_ref()),
        "code": verdict.map(|verdict| words::code(verdict.code())),
        "detail": verdict.and_then(|verdict| given(&verdict.detail)),
        "cause": given(&words::cause(one)),
    })
}

fn healthcheck(one: &Healthcheck) -> Value {
    json!({
        "name": one.name,
        "type": words::probe_type(one.r#type()),
        "port": (one.port != 0).then_some(one.port),
        "interval_seconds": seconds(one.interval.as_ref()),
        "fast_interval_seconds": seconds(one.fast_interval.as_ref()),
        "down_interval_seconds": seconds(one.down_interval.as_ref()),
        "timeout_seconds": seconds(one.timeout.as_ref()),
        "timeout_min_seconds": seconds(one.timeout_min.as_ref()),
        "rise": one.rise,
        "fall": one.fall,
        "probe_ipv4_src": given(&one.probe_ipv4_src),
        "probe_ipv6_src": given(&one.probe_ipv6_src),
        "tcp": one.tcp.as_ref().map(|tcp| json!({ "mode": words::tcp_mode(tcp.mode()) })),
        "http": one.http.as_ref().map(http_params),
        "tls": one.tls.as_ref().map(tls_params),
    })
}

fn http_params(http: &HttpParams) -> Value {
    json!({
        "path": http.path,
        "host": given(&http.host),
        "response_code": words::codes(&http.response_codes),
        "response_regexp": given(&http.response_regexp),
        "keep_alive": http.keep_alive_requests.is_some(),
        "keep_alive_requests": http.keep_alive_requests,
    })
}

fn tls_params(tls: &TlsParams) -> Value {
    json!({ "server_name": given(&tls.server_name), "verify": words::tls_verify(tls.verify()) })
}

fn vpp_info(info: &GetVppInfoResponse) -> Value {
    json!({
        "version": info.version,
        "build_date": info.build_date,
        "pid": info.pid,
        "boot_time": time(info.boot_time.as_ref()),
        "connected_since": time(info.connected_since.as_ref()),
    })
}

fn lb_state(state: &GetLbStateResponse) -> Value {
    json!({ "conf": state.conf.as_ref().map(lb_conf), "vips": list(&state.vips, lb_vip) })
}

fn lb_conf(conf: &LbConf) -> Value {
    json!({
        "ipv4_src_address": given(&conf.ipv4_src_address),
        "ipv6_src_address": given(&conf.ipv6_src_address),
        "sticky_buckets_per_core": conf.sticky_buckets_per_core,
        "flow_timeout_seconds": seconds(conf.flow_timeout.as_ref()),
    })
}

fn lb_vip(one: &LbVip) -> Value {
    json!({
        "vip": one.vip.as_ref().map(vip),
        "frontend": given(&one.frontend),
        "encap": words::encap(one.encap()),
        "table_length": one.table_length,
        "desired_table_length": one.desired_table_length,
        "src_ip_sticky": one.src_ip_sticky,
        "failure": given(&one.failure),
        "servers": list(&one.servers, lb_server),
    })
}

fn lb_server(one: &LbServer) -> Value {
    json!({
        "address": one.address,
        "backend": given(&one.backend),
        "weight": one.weight,
        "buckets": one.buckets,
    })
}

fn vip(vip: &Vip) -> Value {
    json!({ "prefix": vip.prefix, "protocol": vip.protocol, "port": (vip.port != 0).then_some(vip.port) })
}

fn plan(plan: &Plan) -> Value {
    let vip_plan = |planned: &VipPlan| {
        json!({
            "vip": planned.vip.as_ref().map(vip),
            "frontend": given(&planned.frontend),
            "steps": planned.steps,
            "new_flows_moved": planned.new_flows_moved,
            "flows_flushed": planned.flows_flushed,
            "recreates_vip": planned.recreates_vip,
        })
    };
    json!({
        "updates_global_conf": plan.updates_global_conf,
        "vips": plan.vips.iter().map(vip_plan).collect::<Value>(),
        "notes": plan.notes,
        "reading_age_seconds": seconds(plan.reading_age.as_ref()),
    })
}

fn fault(fault: &ConfigFault) -> Value {
    let problem = |problem: &ConfigProblem| json!({ "path": problem.path, "message": problem.message });
    json!({
        "parse_error": given(&fault.parse_error),
        "problems": fault.problems.iter().map(problem).collect::<Value>(),
    })
}

fn given(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

fn time(at: Option<&Timestamp>) -> Option<String> {
    at.map(Timestamp::to_string)
}

pub fn seconds(duration: Option<&ProtoDuration>) -> Option<f64> {
    Duration::try_from(*duration?).ok().map(|duration| duration.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    #[test]
    fn field_order_is_stable() {
        assert_eq!(
            render(&CommandResult::Backend(Box::new(fixture::nginx0()))).to_string(),
            concat!(
                r#"{"name":"nginx0","address":"192.0.2.10","healthcheck":"nginx","type":"https","enabled":true,"#,
                r#""state":"down","since":"2026-11-22T12:00:30Z","counter":1,"rise":2,"fall":3,"stale":false,"#,
                r#""rejection":null,"derived_timeout":{"now_seconds":0.083,"min_seconds":0.05,"max_seconds":1.0},"#,
                r#""last":{"at":"2026-11-22T12:10:20Z","duration_seconds":0.0003,"#,
                r#""code":"L4CON","detail":"connection refused"},"certificate_expires":"2026-12-02T12:00:00Z","certificate_chain_expires":"2026-12-01T12:00:00Z","overrides":[],"transitions":[{"from":"up","to":"down","#,
                r#""at":"2026-11-22T12:00:30Z","code":"L4CON","detail":"connection refused","#,
                r#""cause":"L4CON connection refused"}]}"#
            )
        );
    }

    #[test]
    fn lists_are_named_and_absent_is_null() {
        let frontends = render(&CommandResult::Frontends(vec![fixture::web()]));
        let sorry = &frontends["frontends"][0]["pools"][1]["backends"][0];
        assert_eq!((&sorry["overridden"], &sorry["vpp_weight"]), (&json!(true), &Value::Null));
        let backends = render(&CommandResult::Backends(vec![fixture::sorry()]));
        assert_eq!(backends["backends"][0]["healthcheck"], Value::Null);
        assert_eq!(backends["backends"][0].get("transitions"), None);
    }
}
