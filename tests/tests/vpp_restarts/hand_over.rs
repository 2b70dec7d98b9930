//! A prober that keeps running hands over its history.

use std::time::Instant;

use maglev_lab::dataplane::Vpp;
use maglev_lab::maglevd::MaglevdSetup;
use maglev_lab::servers::Servers;
use maglev_lab::test_dir::TestDir;

use crate::until_in_control;

const SERVERS: u8 = 100;

#[test]
fn handover_needs_no_new_probe() {
    let (vpp, dir, servers) = (Vpp::start().unwrap(), TestDir::new(), Servers::new(SERVERS));
    let _prober = dir.prober(None, &[]);
    let start = || MaglevdSetup::new(&dir, &config(&servers)).vpp(&vpp).start();
    let mut first = start();
    let requests = || servers.http.iter().map(|site| site.requests().len()).sum::<usize>();
    until_in_control(&first);
    assert_eq!(requests(), usize::from(SERVERS));

    first.process.kill();
    let began = Instant::now();
    let second = start();
    until_in_control(&second);
    println!("{SERVERS} backends: in control {:?} after its start", began.elapsed());
    assert_eq!(requests(), usize::from(SERVERS));
}

/// The interval is so long that no server is probed twice.
fn config(servers: &Servers) -> String {
    let backends =
        |line: fn(u8, &Servers) -> String| (0..SERVERS).map(|n| line(n, servers)).collect::<String>();
    format!(
        "maglev:
  vpp: {{ lb: {{ ipv4-src-address: 192.0.2.1 }} }}
  healthchecks:
    site: {{ type: http, port: {}, interval: 1h }}
  backends:
{}  frontends:
    web:
      address: 203.0.113.80
      pools:
        - name: all
          backends:
{}",
        servers.port(),
        backends(|n, servers| format!(
            "    s{n}: {{ address: {}, healthcheck: site }}\n",
            servers.address(n)
        )),
        backends(|n, _| format!("            s{n}: {{}}\n")),
    )
}
