//! Overrides survive every kind of exit of `maglevd`, and disk faults.

use std::fs;

use maglev_lab::fixtures::SmallDisk;
use maglev_lab::maglevd::{Maglevd, MaglevdSetup};
use maglev_proto::v1::{
    BackendState, DisableBackendRequest, EnableBackendRequest, ListOverridesRequest, ListOverridesResponse,
    OverrideKind, OverrideMetadata, PauseBackendRequest, SetFrontendPoolBackendWeightRequest,
};
use nix::sys::signal::Signal;
use nix::unistd::geteuid;

use crate::{BACKENDS, VIP, WebFixture};

fn metadata(reason: &str, seconds: Option<i64>) -> Option<OverrideMetadata> {
    let lifetime = seconds.map(|seconds| maglev_proto::Duration { seconds, nanos: 0 });
    Some(OverrideMetadata { reason: reason.to_owned(), lifetime })
}

/// Disables a backend and returns the answer's persist error.
fn disable(maglevd: &Maglevd, name: &str, metadata: Option<OverrideMetadata>) -> String {
    let mut client = maglevd.client.clone();
    let request = DisableBackendRequest { name: name.to_owned(), metadata };
    let answer = maglevd.wait(client.disable_backend(request)).unwrap().into_inner();
    assert_eq!(answer.backend.unwrap().state(), BackendState::Disabled);
    answer.persist_error
}

fn pause(maglevd: &Maglevd, name: &str) {
    let mut client = maglevd.client.clone();
    let request = PauseBackendRequest { name: name.to_owned(), metadata: None };
    maglevd.wait(client.pause_backend(request)).unwrap();
}

fn weight(backend: &str, weight: u32) -> SetFrontendPoolBackendWeightRequest {
    let (frontend, pool, backend) = ("web".to_owned(), "first".to_owned(), backend.to_owned());
    SetFrontendPoolBackendWeightRequest { frontend, pool, backend, weight, metadata: None }
}

fn set_weight(maglevd: &Maglevd, backend: &str, to: u32) {
    let mut client = maglevd.client.clone();
    maglevd.wait(client.set_frontend_pool_backend_weight(weight(backend, to))).unwrap();
}

fn listed(maglevd: &Maglevd) -> ListOverridesResponse {
    let mut client = maglevd.client.clone();
    maglevd.wait(client.list_overrides(ListOverridesRequest {})).unwrap().into_inner()
}

#[test]
fn acknowledged_overrides_survive_sigkill() {
    let fixture = WebFixture::new();
    let mut maglevd = fixture.settled();
    set_weight(&maglevd, "b", 100);
    fixture.observer().until([(VIP, fixture.weights(20, 20, 0))]);
    pause(&maglevd, "c");
    assert_eq!(disable(&maglevd, "a", metadata("disk swap", Some(3600))), "");
    let before = listed(&maglevd);
    fixture.observer().until([(VIP, fixture.weights(0, 20, 0))]);
    maglevd.process.kill();

    let written = fixture.observer().writes().len();
    let mut maglevd = fixture.setup(fixture.config()).start();
    maglevd.until_up(&["b"]);
    maglevd.until_vpp(true);
    assert_eq!(
        (maglevd.backend("a").state(), maglevd.backend("c").state()),
        (BackendState::Disabled, BackendState::Paused)
    );
    assert_eq!(listed(&maglevd), before);
    assert_eq!(before.overrides.len(), 3);
    // This write proves that `maglevd` had the opportunity to write more.
    let mut client = maglevd.client.clone();
    let request = EnableBackendRequest { name: "a".to_owned(), metadata: None };
    maglevd.wait(client.enable_backend(request)).unwrap();
    fixture.observer().until([(VIP, fixture.weights(20, 20, 0))]);
    let writes = fixture.observer().writes().split_off(written);
    if fixture.vpp.sim().is_some() {
        assert_eq!(writes.len(), 1, "{writes:#?}");
    }
}

/// `maglevd` is killed repeatedly while an operator sends commands. Every acknowledged command must survive.
#[test]
fn sigkill_never_loses_acknowledged_override() {
    const ANSWERS: u32 = 4;
    let fixture = WebFixture::new();
    let setup = || MaglevdSetup::new(&fixture.dir, &fixture.config().to_string());
    let mut maglevd = setup().start();
    for round in 0..8 {
        let answered = 10 * round + ANSWERS;
        (10 * round + 1..=answered).for_each(|weight| set_weight(&maglevd, "a", weight));
        // One command is in flight and may or may not be applied.
        let (mut client, request) = (maglevd.client.clone(), weight("a", answered + 1));
        let under_way = maglevd.spawn(async move { client.set_frontend_pool_backend_weight(request).await });
        maglevd.process.kill();
        drop(under_way);
        maglevd = setup().start();
        let found = maglevd.frontend("web").pools[0].backends[0].weight;
        assert!([answered, answered + 1].contains(&found), "{found} after {answered}");
    }
}

#[test]
fn persisted_disable_is_applied_after_restart() {
    let fixture = WebFixture::new();
    let mut maglevd = fixture.settled();
    maglevd.process.kill();
    let file = r#"{"version": 1, "overrides": [{"kind": "disabled", "backend": "a", "at": "2026-11-22T12:00:00Z"}]}"#;
    fs::create_dir_all(fixture.dir.path("state")).unwrap();
    fixture.dir.write("state/overrides.json", file);
    let written = fixture.observer().writes().len();
    let _maglevd = fixture.setup(fixture.config()).start();
    fixture.observer().until([(VIP, fixture.weights(0, 10, 0))]);
    let writes = fixture.observer().writes().split_off(written);
    if fixture.vpp.sim().is_some() {
        assert_eq!(writes.len(), 1, "{writes:#?}");
        assert!(writes[0].contains("is_flush: true"), "{writes:#?}");
    }
}

#[test]
fn override_expires_on_time() {
    let fixture = WebFixture::new();
    let mut maglevd = fixture.settled();
    disable(&maglevd, "a", metadata("reboot", Some(1)));
    maglevd.until_backend("a", BackendState::Disabled);
    maglevd.until_backend("a", BackendState::Up);
    assert_eq!(listed(&maglevd), ListOverridesResponse::default());
    let line = maglevd.process.line(0, "actor=\"expiry\"");
    assert!(line.contains("action=\"enable\" subject=\"backend a\""), "{line}");

    // An override also expires while `maglevd` is down.
    maglevd.process.kill();
    let file = r#"{"version": 1, "overrides": [
      {"kind": "paused", "backend": "b", "at": "2026-01-01T00:00:00Z", "expires": "2026-01-02T00:00:00Z"}]}"#;
    fixture.dir.write("state/overrides.json", file);
    let mut maglevd = fixture.setup(fixture.config()).start();
    maglevd.until_up(&BACKENDS);
    assert_eq!(listed(&maglevd), ListOverridesResponse::default());
}

#[test]
fn sigterm_persists_overrides() {
    let fixture = WebFixture::new();
    let mut maglevd = fixture.settled();
    disable(&maglevd, "a", None);
    maglevd.process.signal(Signal::SIGTERM);
    assert_eq!(maglevd.process.end().code(), Some(0));
    let maglevd = fixture.setup(fixture.config()).start();
    assert_eq!(maglevd.backend("a").state(), BackendState::Disabled);
}

#[test]
fn corrupt_overrides_file_is_set_aside() {
    let fixture = WebFixture::new();
    fs::create_dir(fixture.dir.path("state")).unwrap();
    fixture.dir.write("state/overrides.json", "{\"version\": 1, \"overr");
    let maglevd = fixture.settled();
    maglevd.process.line(0, "invalid overrides file");
    let names = || -> Vec<_> {
        fs::read_dir(fixture.dir.path("state"))
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.starts_with("overrides"))
            .collect()
    };
    assert!(names().len() == 1 && names()[0].starts_with("overrides.json.corrupt-"), "{:?}", names());
    assert_eq!(disable(&maglevd, "a", None), "");
    assert_eq!(names().len(), 2, "{:?}", names());
}

#[test]
fn missing_state_dir_is_reported_in_answer() {
    let fixture = WebFixture::new();
    let mut maglevd = fixture.setup(fixture.config()).flag("--state-dir", "").start();
    maglevd.until_up(&BACKENDS);
    let persist_error = disable(&maglevd, "a", None);
    assert!(persist_error.contains("--state-dir"), "{persist_error}");
    assert_eq!(listed(&maglevd).persist_error, persist_error);
}

#[test]
fn full_or_readonly_disk_keeps_overrides() {
    if !geteuid().is_root() {
        println!("SKIP full_or_readonly_disk_keeps_overrides: needs root");
        return;
    }
    let fixture = WebFixture::new();
    let small = SmallDisk::mount(fixture.dir.path("state"));
    let file = || fs::read_to_string(fixture.dir.path("state/overrides.json")).unwrap();
    let mut maglevd = fixture.settled();
    assert_eq!(disable(&maglevd, "a", None), "");
    let before = file();
    let ballast = small.fill();

    let persist_error = disable(&maglevd, "b", metadata("the disk is full", None));
    assert!(persist_error.contains("No space left on device"), "{persist_error}");
    fixture.observer().until([(VIP, fixture.weights(0, 0, 10))]);
    assert_eq!((file(), listed(&maglevd).persist_error), (before.clone(), persist_error));
    maglevd.process.line(0, "cannot persist the overrides");
    fs::remove_file(&ballast[0]).unwrap();
    maglevd.process.line(0, "overrides persisted again");
    assert!(file().contains("the disk is full"));
    assert_eq!(listed(&maglevd).persist_error, "");

    small.remount("ro");
    let before = file();
    let persist_error = disable(&maglevd, "c", None);
    assert!(persist_error.contains("Read-only file system"), "{persist_error}");
    fixture.observer().until([(VIP, fixture.weights(0, 0, 0))]);
    assert_eq!(file(), before);
    // A read-only file is still read at start.
    maglevd.process.kill();
    let maglevd = fixture.setup(fixture.config()).start();
    let names: Vec<_> =
        listed(&maglevd).overrides.into_iter().map(|o| (o.backend.clone(), o.kind())).collect();
    assert_eq!(names, [("a".to_owned(), OverrideKind::Disabled), ("b".to_owned(), OverrideKind::Disabled)]);
    small.remount("rw");
    assert_eq!(disable(&maglevd, "c", None), "");
}

#[test]
fn second_maglevd_of_state_dir_is_refused() {
    let fixture = WebFixture::new();
    let mut maglevd = fixture.settled();
    let second = || {
        let socket = fixture.dir.path("second.sock");
        MaglevdSetup::new(&fixture.dir, &fixture.config().to_string()).flag("--grpc-socket", socket.display())
    };
    let (status, lines) = second().start_failing();
    assert_eq!(status.code(), Some(1), "{lines:?}");
    let last = lines.last().unwrap();
    assert!(last.contains("/state: another maglevd uses this state directory"), "{last}");
    // The lock ends with its process, however that ends.
    maglevd.process.kill();
    second()
        .spawn_as(&mut std::process::Command::new(maglev_lab::programs::program("maglevd").unwrap()))
        .line(0, "maglevd starts");
}

/// As a restore from a backup does.
#[test]
fn recreated_state_dir_needs_restart() {
    let fixture = WebFixture::new();
    let maglevd = fixture.settled();
    assert_eq!(disable(&maglevd, "a", None), "");
    let (state, old) = (fixture.dir.path("state"), fixture.dir.path("old"));
    fs::rename(&state, &old).unwrap();
    for _ in 0..2 {
        let persist_error = disable(&maglevd, "b", None);
        assert!(persist_error.starts_with(&state.display().to_string()), "{persist_error}");
        assert!(
            persist_error.contains("sandbox permits") && persist_error.contains("restart"),
            "{persist_error}"
        );
        let _ = fs::create_dir(&state);
    }
    fs::remove_dir(&state).unwrap();
    fs::rename(&old, &state).unwrap();
    maglevd.process.line(0, "overrides persisted again");
    assert_eq!(listed(&maglevd).persist_error, "");
}
