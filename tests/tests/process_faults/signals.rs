//! Sequences of signals, and reloads that overtake one another.

use std::fmt::Write;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;

use maglev_lab::maglevd::MaglevdSetup;
use maglev_lab::programs::program;
use maglev_lab::test_dir::TestDir;
use maglev_lab::{PATIENCE, many_frontends::ManyFrontends};
use maglev_proto::v1::BackendState;
use maglev_vppsim::VipView;
use nix::sys::signal::Signal;

use crate::fixtures::{BACKENDS, ProcessFixture, Recovery, assert_nothing_went_down, until};

#[test]
fn last_of_many_reloads_wins() {
    let fixture = ProcessFixture::new();
    let mut maglevd = fixture.settled();
    let good = fixture.config();
    for round in 1..=1000_u32 {
        // Every other one is invalid.
        let weight = 50 + round / 20;
        let config = good.replace("b: { weight: 50 }", &format!("b: {{ weight: {weight} }}"));
        let config = if round % 2 == 0 { config } else { config.replace("rise: 2", "rise: 0") };
        let new = fixture.dir.write("maglev.yaml.new", config);
        std::fs::rename(new, fixture.dir.path("maglev.yaml")).unwrap();
        maglevd.process.signal(Signal::SIGHUP);
        maglevd.process.signal(Signal::SIGPIPE);
    }
    let mut recovery = Recovery::new();
    recovery.time(|| fixture.until_weights(20, 20, 0));
    let reloads = || {
        let scrape = fixture.scrape();
        ["success", "failure"].map(|result| {
            scrape.find("maglev_config_reload_total", &[&format!("result=\"{result}\"")]).unwrap_or_default()
        })
    };
    let seen = reloads();
    println!("1000 SIGHUP: {} reloads succeeded, {} failed", seen[0], seen[1]);
    assert!((1.0..=1000.0).contains(&seen[0]));
    assert_nothing_went_down(&maglevd.process);
    fixture.servers.http[0].answer(503);
    maglevd.until_backend("a", BackendState::Down);
    fixture.until_weights(0, 20, 0);
    recovery.print("1000 SIGHUP");
}

#[test]
fn early_sighup_is_served_after_start() {
    let fixture = ProcessFixture::new();
    let mut maglevd = fixture.settled();
    let written = fixture.writes();
    for _ in 0..5 {
        maglevd.process.kill();
        let mut command = Command::new(program("maglevd").unwrap());
        let process = fixture.setup(&fixture.config()).spawn_as(&mut command);
        process.line(0, "maglevd starts");
        for _ in 0..200 {
            process.signal(Signal::SIGHUP);
        }
        process.line(0, "reloading");
        drop(process);
        maglevd = fixture.start();
        maglevd.until_up(&BACKENDS);
    }
    fixture.assert_no_writes_since(&written, &mut maglevd);
}

#[test]
fn sigterm_during_start_exits_cleanly() {
    let fixture = ProcessFixture::new();
    for signal in [Signal::SIGTERM, Signal::SIGINT].repeat(5) {
        let mut command = Command::new(program("maglevd").unwrap());
        let mut process = fixture.setup(&fixture.config()).spawn_as(&mut command);
        process.line(0, "maglevd starts");
        process.signal(signal);
        assert_eq!(process.end().code(), Some(0));
        process.line(0, "maglevd stopping");
    }
}

#[test]
fn sigterm_while_filling_vpp_exits_cleanly() {
    let mut fixture = ProcessFixture::new();
    let mut maglevd = fixture.settled();
    let mut recovery = Recovery::new();
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        fixture.vpp.kill();
        maglevd.until_vpp(false);
        fixture.sim().clear_calls();
        fixture.vpp.boot().unwrap();
        // VPP is partly filled.
        assert!(fixture.sim().wait_for(PATIENCE, |vpp| vpp.count("lb_add_del_vip_v2") > 0));
        fixture.vpp.hang(true);
        maglevd.process.signal(signal);
        assert_eq!(maglevd.process.end().code(), Some(0));
        fixture.vpp.hang(false);
        maglevd = recovery.time(|| {
            let maglevd = fixture.start();
            fixture.until_weights(20, 10, 0);
            maglevd
        });
        maglevd.until_up(&BACKENDS);
    }
    assert_nothing_went_down(&maglevd.process);
    recovery.print("SIGTERM while VPP is filled");
}

#[test]
fn unhandled_signal_kills_without_changes() {
    let fixture = ProcessFixture::new();
    let mut maglevd = fixture.settled();
    let written = fixture.writes();
    for signal in [Signal::SIGUSR1, Signal::SIGALRM, Signal::SIGABRT] {
        // Signals with a harmless default action.
        for harmless in [Signal::SIGWINCH, Signal::SIGCHLD, Signal::SIGURG, Signal::SIGCONT, Signal::SIGPIPE]
        {
            maglevd.process.signal(harmless);
        }
        assert_eq!(maglevd.backend("a").state(), BackendState::Up);
        maglevd.process.signal(signal);
        assert_eq!(maglevd.process.end().signal(), Some(signal as i32));
        maglevd = fixture.start();
        maglevd.until_up(&BACKENDS);
    }
    fixture.assert_no_writes_since(&written, &mut maglevd);
}

const MANY: ManyFrontends = ManyFrontends { frontends: 1000, backends: 10 };

/// Returns a configuration of ten thousand servers, with these weights for the first and last of each frontend.
fn many_servers(first: u8, last: u8) -> String {
    let mut text = "maglev:\n  vpp: { lb: { ipv4-src-address: 192.0.2.1 } }\n  backends:\n".to_owned();
    for (number, server) in MANY.servers().enumerate() {
        writeln!(text, "    s{number}: {{ address: {server} }}").unwrap();
    }
    text += "  frontends:\n";
    for frontend in 0..MANY.frontends {
        let weight = |backend: u8| match backend {
            0 => first,
            9 => last,
            _ => 100,
        };
        let server =
            |b: u8| format!("s{}: {{ weight: {} }}", u32::from(frontend) * 10 + u32::from(b), weight(b));
        let servers: Vec<_> = (0..MANY.backends).map(server).collect();
        let (vip, servers) = (ManyFrontends::vip(frontend), servers.join(", "));
        writeln!(
            text,
            "    f{frontend}: {{ address: {vip}, pools: [ {{ name: all, backends: {{ {servers} }} }} ] }}"
        )
        .unwrap();
    }
    text
}

/// True if every VIP has these weights for its first, its last and its other servers.
fn have_weights(vips: &[VipView], [first, last, others]: [u8; 3]) -> bool {
    vips.len() == usize::from(MANY.frontends)
        && vips.iter().all(|vip| {
            let weights = vip.weights();
            weights.len() == usize::from(MANY.backends)
                && weights.iter().all(|(address, weight)| {
                    *weight
                        == match address {
                            std::net::IpAddr::V4(v4) if v4.octets()[3] == 1 => first,
                            std::net::IpAddr::V4(v4) if v4.octets()[3] == MANY.backends => last,
                            _ => others,
                        }
                })
        })
}

#[test]
fn second_of_two_large_reloads_wins() {
    let (dir, vpp) = (TestDir::new(), maglev_lab::dataplane::Vpp::simulated().unwrap());
    let sim = vpp.sim().unwrap();
    let mut maglevd = MaglevdSetup::new(&dir, &many_servers(100, 100)).vpp(&vpp).start();
    until("all servers", || have_weights(&sim.vips(), [20, 20, 20]), |&so| so);
    let mut recovery = Recovery::new();
    for (first, second, wanted) in [((50, 100), (100, 50), [20, 10, 20]), ((20, 20), (50, 25), [10, 5, 20])] {
        dir.write("maglev.yaml", many_servers(first.0, first.1));
        let position = maglevd.process.line_count();
        maglevd.process.signal(Signal::SIGHUP);
        maglevd.process.line(position, "reloading");
        dir.write("maglev.yaml", many_servers(second.0, second.1));
        maglevd.process.signal(Signal::SIGHUP);
        recovery.time(|| until("the second", || have_weights(&sim.vips(), wanted), |&so| so));
    }
    // The state is final, not a step towards another.
    let is_content = || {
        let mut client = maglevd.client.clone();
        let request = maglev_proto::v1::SyncLbStateRequest { dry_run: true, fresh: false };
        let plan = maglevd.wait(client.sync_lb_state(request)).ok()?.into_inner();
        Some(plan.plan.is_none_or(|plan| !plan.updates_global_conf && plan.vips.is_empty()))
    };
    until("an empty plan", is_content, |content| *content == Some(true));
    assert!(have_weights(&sim.vips(), [10, 5, 20]));
    maglevd.process.kill();
    recovery.print("two reloads of 10,000 changes (from the second on)");
}
