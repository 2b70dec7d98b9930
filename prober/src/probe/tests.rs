//! A check that keeps its bounds can be probed, except for what this host lacks.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use maglev_ipc::regexp::RegexpSet;
use maglev_ipc::{HttpCheck, ProbeTimeout, TlsHandshake, TlsVerify, bundle, regexp};
use proptest::prelude::*;

use super::*;

const PEM: &[u8] = include_bytes!("../../../ipc/tests/self-signed.pem");

fn targets() -> impl Strategy<Value = IpAddr> {
    let mapped = any::<[u8; 4]>().prop_map(|v4| IpAddr::V6(std::net::Ipv4Addr::from(v4).to_ipv6_mapped()));
    let link_local = any::<u16>().prop_map(|last| Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, last).into());
    prop_oneof![4 => any::<IpAddr>(), 1 => mapped, 1 => link_local]
}

fn names() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z0-9_.-]{1,12}", any::<IpAddr>().prop_map(|address| address.to_string()), "\\PC{0,4}"]
}

fn checks() -> impl Strategy<Value = Check> {
    let body = proptest::option::of("[a-c.]{0,3}(\\{[0-9]{1,2},[0-9]{1,2}\\})?[(|)*+\\[\\]]{0,2}[a-c]{0,2}");
    (targets(), names(), body, 0..3_u8, any::<bool>()).prop_map(|(target, name, body, tls, half_open)| {
        let verify = [TlsVerify::Nothing, TlsVerify::System, TlsVerify::Bundle(1)][usize::from(tls)];
        let tls = (!name.is_empty()).then_some(TlsHandshake { server_name: name, verify });
        let http =
            HttpCheck { path: "/".into(), host: "h".into(), codes: vec![(200, 200)], body, keep_alive: None };
        let probe = match half_open {
            true => ProbeKind::Tcp { port: 1, mode: ConnectMode::HalfOpen, tls: None },
            false => ProbeKind::Http { port: 1, http, tls },
        };
        let second = Duration::from_secs(1);
        Check { target, source: None, timeout: ProbeTimeout::Fixed(second), fast_interval: second, probe }
    })
}

/// Returns true if the check of a configuration accepts the regular expression.
fn has_valid_regexp(check: &Check) -> bool {
    match &check.probe {
        ProbeKind::Http { http, .. } => http.body.as_deref().is_none_or(|body| regexp::compile(body).is_ok()),
        _ => true,
    }
}

proptest! {
    #[test]
    fn valid_check_compiles(check in checks()) {
        let mut configs = tls::TlsConfigs::new(bundle::certificates(PEM).unwrap());
        assert_eq!(configs.add_bundle(PEM), 1);
        let is_valid = check.validate().is_ok() && has_valid_regexp(&check);
        let plan = ProbePlan::compile(&check, &mut configs, &mut RegexpSet::new(1)).map(drop);
        prop_assert!(!is_valid || plan.is_ok(), "{plan:?}");
    }
}
