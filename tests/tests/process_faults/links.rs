//! Peers of a link that never reply or never stop sending.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use maglev_ipc::message::MAX_BATCH;
use maglev_ipc::{CheckId, Outcome, OutcomeCode, OutcomeDetail, ToController, VERSION};
use maglev_ipc_link::codec;
use maglev_lab::fake_peer::FakeProber;
use maglev_proto::v1::BackendState;
use maglev_vppsim::VppInspection;

use crate::fixtures::{
    BACKENDS, ProcessFixture, Recovery, assert_nothing_went_down, memory, open_descriptors, until,
    until_at_most_open,
};

fn clients(vpp: &VppInspection<'_>) -> usize {
    vpp.clients()
}

#[test]
fn mute_vpp_is_retried_without_leaks() {
    let fixture = ProcessFixture::new();
    let mut maglevd = fixture.settled();
    let (written, open) = (fixture.writes(), open_descriptors(maglevd.process.pid()).len());
    fixture.sim().set_faults(|faults| faults.drop_replies = true);
    maglevd.until_vpp(false);
    fixture.servers.http[0].answer(503);
    maglevd.until_backend("a", BackendState::Down);
    // Each connection attempt repetitions out in turn.
    for _ in 0..3 {
        for there in [0, 1] {
            until("connections", || fixture.sim().inspect(clients), |&now| now == there);
        }
    }
    assert!(open_descriptors(maglevd.process.pid()).len() <= open + 1);
    let mut recovery = Recovery::new();
    recovery.time(|| {
        fixture.sim().set_faults(|faults| faults.drop_replies = false);
        fixture.until_weights(0, 10, 0);
    });
    until_at_most_open(&maglevd.process, open);
    assert_eq!(fixture.writes().len(), written.len() + 1, "{:#?}", fixture.writes());
    recovery.print("VPP accepts and does not answer");
}

/// Allowed memory growth: about ten thousand messages are queued before reading pauses.
const MAX_GROWTH: u64 = 128 << 20;

#[test]
fn outcome_flood_does_not_starve_api() {
    let mut fixture = ProcessFixture::new();
    let mut maglevd = fixture.settled();
    let written = fixture.writes();
    fixture.prober.kill();
    maglevd.until_prober(false);
    let fake_prober = FakeProber::listen(&fixture.dir.path("prober.sock"));
    let peer = fake_prober.accept();
    peer.send(&ToController::Hello { version: VERSION, release: "9.9.9".to_owned(), instance: 1 });
    maglevd.until_prober(true);
    let before = memory(&maglevd.process);
    // Failures of a check that was never requested.
    let outcome = Outcome {
        check: CheckId(u32::MAX),
        seq: 1,
        started: 1,
        duration: std::time::Duration::ZERO,
        code: OutcomeCode::L4Con,
        detail: OutcomeDetail::None,
        timeout: None,
        not_after: None,
        has_no_route: false,
    };
    let batch = codec::encode(&ToController::Outcomes(vec![outcome; MAX_BATCH])).unwrap();
    let ended = Arc::new(AtomicBool::new(false));
    let flood = {
        let ended = Arc::clone(&ended);
        thread::spawn(move || {
            let mut sent = 0_u64;
            while !ended.load(Ordering::Relaxed) {
                peer.send_bytes(&batch);
                sent += MAX_BATCH as u64;
            }
            sent
        })
    };
    for _ in 0..20 {
        assert!(BACKENDS.map(|name| maglevd.backend(name).state()).iter().all(|s| *s == BackendState::Up));
    }
    assert_eq!(fixture.scrape().value("maglev_prober_connected", &[]), 1.0);
    ended.store(true, Ordering::Relaxed);
    println!("{} unrequested outcomes", flood.join().unwrap());
    let now = memory(&maglevd.process);
    assert!(now < before + MAX_GROWTH, "{before} bytes have become {now}");
    drop(fake_prober);
    let mut recovery = Recovery::new();
    recovery.time(|| {
        fixture.prober = fixture.dir.prober(None, &[]);
        maglevd.until_prober(false);
        maglevd.until_prober(true);
        until(
            "fresh outcomes",
            || BACKENDS.map(|name| maglevd.backend(name).stale),
            |stale| *stale == [false; 3],
        );
    });
    assert_nothing_went_down(&maglevd.process);
    fixture.assert_no_writes_since(&written, &mut maglevd);
    recovery.print("outcome flood from the prober");
}
