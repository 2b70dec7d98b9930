use maglev_proto::v1::{GetLbStateResponse, LbVip};

use super::*;
use crate::fixture;
use crate::screen::ColorChoice;

fn shown(shown: &CommandResult) -> String {
    render(shown, fixture::now(), Screen::new(ColorChoice::Never, false))
}

#[test]
fn backend_list() {
    assert_eq!(
        shown(&CommandResult::Backends(vec![fixture::nginx0(), fixture::sorry()])),
        "\
name    address     healthcheck  state       counter  since   last
nginx0  192.0.2.10  nginx        down            1/4  10m0s   L4CON connection refused
sorry   192.0.2.11  -            up (stale)      1/1  10m30s  -
"
    );
}

#[test]
fn empty_list_has_a_message() {
    assert_eq!(shown(&CommandResult::Frontends(Vec::new())), "the configuration has no frontends\n");
    assert_eq!(shown(&CommandResult::Backends(Vec::new())), "the configuration has no backends\n");
    assert_eq!(shown(&CommandResult::Healthchecks(Vec::new())), "the configuration has no healthchecks\n");
}

#[test]
fn backend_details() {
    assert_eq!(
        shown(&CommandResult::Backend(Box::new(fixture::nginx0()))),
        "\
name         nginx0
address      192.0.2.10
healthcheck  nginx
type         https
state        down
since        2026-11-22T12:00:30Z (10m0s)
enabled      yes
counter      1/4 (rise 2, fall 3)
timeout      auto: now 83ms (50ms to 1s)
last         L4CON connection refused
probed       10s ago, in 300us
certificate  expires 2026-12-02T12:00:00Z (in 9d23h)
issuer       expires 2026-12-01T12:00:00Z (in 8d23h)

when                  age    from  to    why
2026-11-22T12:00:30Z  10m0s  up    down  L4CON connection refused
"
    );
}

#[test]
fn rejected_backend_shows_reason() {
    let refused = Backend { rejection: "too many checks".into(), ..fixture::nginx0() };
    assert!(shown(&CommandResult::Backends(vec![refused])).contains("not probed: too many checks"));
}

#[test]
fn frontend_list() {
    let held = Frontend {
        name: "shop".into(),
        startup_done: false,
        weights_exceed_table: false,
        warnings: Vec::new(),
        ..fixture::web()
    };
    let plain = Frontend { name: "wiki".into(), startup_done: true, ..held.clone() };
    assert_eq!(
        shown(&CommandResult::Frontends(vec![held, fixture::web(), plain])),
        "\
name  vip                state  pool      since   note
shop  192.0.2.80 tcp/80  up     fallback  10m30s  startup hold
web   192.0.2.80 tcp/80  up     fallback  10m30s  weights exceed table, 1 warning
wiki  192.0.2.80 tcp/80  up     fallback  10m30s  -
"
    );
}

#[test]
fn frontend_details() {
    assert_eq!(
        shown(&CommandResult::Frontend(Box::new(fixture::web()))),
        "\
name           web
description    the web site
vip            192.0.2.80 tcp/80
state          up
since          2026-11-22T12:00:00Z (10m30s)
active pool    fallback
encapsulation  gre4
src-ip-sticky  no
flush-on-down  yes
table length   1024
weights        in VPP exceed the table length: the shares are distorted
warning        192.0.2.80 is an address of VPP's own

pool      backend  address     state    weight  effective  in-vpp  buckets
primary   nginx0   192.0.2.10  down        100          0       0        0
fallback  sorry    192.0.2.11  up     50 (100)         50       -        -

(N) is configured: `show overrides` shows who set another, and the reason
"
    );
}

#[test]
fn vpp_state() {
    let stranger = LbVip {
        frontend: String::new(),
        table_length: None,
        src_ip_sticky: None,
        servers: Vec::new(),
        failure: "VNET_API_ERROR_NO_SUCH_ENTRY".into(),
        ..fixture::lb_vip()
    };
    let older = LbVip { desired_table_length: Some(16_384), servers: Vec::new(), ..fixture::lb_vip() };
    let long = LbVip { table_length: None, ..older.clone() };
    let vips = vec![fixture::lb_vip(), stranger, older, long];
    let state = GetLbStateResponse { conf: Some(fixture::conf()), vips };
    assert_eq!(
        shown(&CommandResult::VppLbState(state)),
        "\
ipv4-src-address         192.0.2.1
ipv6-src-address         -
sticky-buckets-per-core  65536
flow-timeout             40s

192.0.2.80 tcp/80: frontend web, gre4, table length 1024, src-ip-sticky
  server      backend  weight  buckets  share
  192.0.2.10  nginx0        2      683  66.7%
  192.0.2.11  -             1      341  33.3%

192.0.2.80 tcp/80: of no frontend, gre4
  the newest change failed: VNET_API_ERROR_NO_SUCH_ENTRY
  no servers

192.0.2.80 tcp/80: frontend web, gre4, table length 1024 (other table: 16384 if created now), src-ip-sticky
  no servers

192.0.2.80 tcp/80: frontend web, gre4, other table (length 16384 if created now), src-ip-sticky
  no servers
"
    );
}
