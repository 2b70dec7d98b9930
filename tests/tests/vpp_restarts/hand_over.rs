//! A prober that keeps running hands over its history.

use std::time::Instant;

use maglev_lab::dataplane::Vpp;
use maglev_lab::servers::Farm;
use maglev_lab::maglevd::Setup;
use maglev_lab::test_dir::Place;

use crate::until_in_control;

const SERVERS: u8 = 100;

#[test]
fn handover_needs_no_new_probe() {
    let (vpp, place, farm) = (Vpp::start().unwrap(), Place::new(), Farm::new(SERVERS));
    let _prober = place.prober(None, &[]);
    let start = || Setup::new(&place, &config(&farm)).vpp(&vpp).start();
    let mut first = start();
    let visits = || farm.sites.iter().map(|site| site.visits().len()).sum::<usize>();
    until_in_control(&first);
    assert_eq!(visits(), usize::from(SERVERS));

    first.process.kill();
    let began = Instant::now();
    let second = start();
    until_in_control(&second);
    println!("{SERVERS} backends: in control {:?} after its start", began.elapsed());
    assert_eq!(visits(), usize::from(SERVERS));
}

/// The interval is so long that no server is probed twice.
fn config(farm: &Farm) -> String {
    let backends = |line: fn(u8, &Farm) -> String| (0..SERVERS).map(|n| line(n, farm)).collect::<String>();
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
        farm.port(),
        backends(|n, farm| format!("    s{n}: {{ address: {}, healthcheck: site }}\n", farm.address(n))),
        backends(|n, _| format!("            s{n}: {{}}\n")),
    )
}
