//! What operators override outlives `maglevd`, however it ends, and whatever becomes of the disk.

use std::fs;
use std::process::Command;

use maglev_lab::maglevd::{Maglevd, Setup};
use maglev_proto::v1::{
    BackendState, DisableBackendRequest, EnableBackendRequest, ListOverridesRequest, ListOverridesResponse,
    Note, OverrideKind, PauseBackendRequest, SetFrontendPoolBackendWeightRequest,
};
use nix::sys::signal::Signal;
use nix::unistd::geteuid;

use crate::{BACKENDS, Stage, VIP};

fn note(reason: &str, seconds: Option<i64>) -> Option<Note> {
    let lifetime = seconds.map(|seconds| maglev_proto::Duration { seconds, nanos: 0 });
    Some(Note { reason: reason.to_owned(), lifetime })
}

/// Takes a backend out; what the answer says of the disk.
fn disable(maglevd: &Maglevd, name: &str, note: Option<Note>) -> String {
    let mut client = maglevd.client.clone();
    let request = DisableBackendRequest { name: name.to_owned(), note };
    let answer = maglevd.wait(client.disable_backend(request)).unwrap().into_inner();
    assert_eq!(answer.backend.unwrap().state(), BackendState::Disabled);
    answer.unkept
}

fn pause(maglevd: &Maglevd, name: &str) {
    let mut client = maglevd.client.clone();
    let request = PauseBackendRequest { name: name.to_owned(), note: None };
    maglevd.wait(client.pause_backend(request)).unwrap();
}

fn weight(backend: &str, weight: u32) -> SetFrontendPoolBackendWeightRequest {
    let (frontend, pool, backend) = ("web".to_owned(), "first".to_owned(), backend.to_owned());
    SetFrontendPoolBackendWeightRequest { frontend, pool, backend, weight, note: None }
}

fn weigh(maglevd: &Maglevd, backend: &str, to: u32) {
    let mut client = maglevd.client.clone();
    maglevd.wait(client.set_frontend_pool_backend_weight(weight(backend, to))).unwrap();
}

fn listed(maglevd: &Maglevd) -> ListOverridesResponse {
    let mut client = maglevd.client.clone();
    maglevd.wait(client.list_overrides(ListOverridesRequest {})).unwrap().into_inner()
}

#[test]
fn what_was_answered_is_not_forgotten_by_a_kill() {
    let stage = Stage::new();
    let mut maglevd = stage.settled();
    weigh(&maglevd, "b", 100);
    stage.observer().until([(VIP, stage.weights(10, 10, 0))]);
    pause(&maglevd, "c");
    assert_eq!(disable(&maglevd, "a", note("disk swap", Some(3600))), "");
    let before = listed(&maglevd);
    stage.observer().until([(VIP, stage.weights(0, 10, 0))]);
    maglevd.process.kill();

    let written = stage.observer().writes().len();
    let mut maglevd = stage.setup(&stage.config()).start();
    maglevd.until_up(&["b"]);
    maglevd.until_vpp(true);
    assert_eq!(
        (maglevd.backend("a").state(), maglevd.backend("c").state()),
        (BackendState::Disabled, BackendState::Paused)
    );
    assert_eq!(listed(&maglevd), before);
    assert_eq!(before.overrides.len(), 3);
    // A write that it does make proves that it had the chance to make others.
    let mut client = maglevd.client.clone();
    let request = EnableBackendRequest { name: "a".to_owned(), note: None };
    maglevd.wait(client.enable_backend(request)).unwrap();
    stage.observer().until([(VIP, stage.weights(10, 10, 0))]);
    let writes = stage.observer().writes().split_off(written);
    if stage.vpp.sim().is_some() {
        assert_eq!(writes.len(), 1, "{writes:#?}");
    }
}

/// `maglevd` is killed again and again while an operator gives one command after the other: what was answered holds.
#[test]
fn no_kill_at_any_moment_takes_back_an_answer() {
    const ANSWERS: u32 = 4;
    let stage = Stage::new();
    let setup = || Setup::new(&stage.place, &stage.config().text());
    let mut maglevd = setup().start();
    for round in 0..8 {
        let answered = 10 * round + ANSWERS;
        (10 * round + 1..=answered).for_each(|weight| weigh(&maglevd, "a", weight));
        // One that is on its way, and perhaps arrives.
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
fn whoever_dies_before_vpp_heard_of_it_tells_vpp_in_the_next_life() {
    let stage = Stage::new();
    let mut maglevd = stage.settled();
    maglevd.process.kill();
    let file = r#"{"version": 1, "overrides": [{"kind": "disabled", "backend": "a", "at": "2026-11-22T12:00:00Z"}]}"#;
    fs::create_dir_all(stage.place.path("state")).unwrap();
    stage.place.write("state/overrides.json", file);
    let written = stage.observer().writes().len();
    let _maglevd = stage.setup(&stage.config()).start();
    stage.observer().until([(VIP, stage.weights(0, 5, 0))]);
    let writes = stage.observer().writes().split_off(written);
    if stage.vpp.sim().is_some() {
        assert_eq!(writes.len(), 1, "{writes:#?}");
        assert!(writes[0].contains("is_flush: true"), "{writes:#?}");
    }
}

#[test]
fn an_override_ends_when_its_time_is_over() {
    let stage = Stage::new();
    let mut maglevd = stage.settled();
    disable(&maglevd, "a", note("reboot", Some(1)));
    maglevd.until_backend("a", BackendState::Disabled);
    maglevd.until_backend("a", BackendState::Up);
    assert_eq!(listed(&maglevd), ListOverridesResponse::default());
    let line = maglevd.process.line(0, "who=\"expiry\"");
    assert!(line.contains("what=\"enable\" subject=\"backend a\""), "{line}");

    // And while nobody looks.
    maglevd.process.kill();
    let file = r#"{"version": 1, "overrides": [
      {"kind": "paused", "backend": "b", "at": "2026-01-01T00:00:00Z", "expires": "2026-01-02T00:00:00Z"}]}"#;
    stage.place.write("state/overrides.json", file);
    let mut maglevd = stage.setup(&stage.config()).start();
    maglevd.until_up(&BACKENDS);
    assert_eq!(listed(&maglevd), ListOverridesResponse::default());
}

#[test]
fn who_is_asked_to_end_writes_down_everything() {
    let stage = Stage::new();
    let mut maglevd = stage.settled();
    disable(&maglevd, "a", None);
    maglevd.process.signal(Signal::SIGTERM);
    assert_eq!(maglevd.process.end().code(), Some(0));
    let maglevd = stage.setup(&stage.config()).start();
    assert_eq!(maglevd.backend("a").state(), BackendState::Disabled);
}

#[test]
fn a_corrupt_file_is_no_reason_to_end() {
    let stage = Stage::new();
    fs::create_dir(stage.place.path("state")).unwrap();
    stage.place.write("state/overrides.json", "{\"version\": 1, \"overr");
    let maglevd = stage.settled();
    maglevd.process.line(0, "the overrides make no sense");
    let names = || -> Vec<_> {
        fs::read_dir(stage.place.path("state"))
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect()
    };
    assert!(names().len() == 1 && names()[0].starts_with("overrides.json.corrupt-"), "{:?}", names());
    assert_eq!(disable(&maglevd, "a", None), "");
    assert_eq!(names().len(), 2, "{:?}", names());
}

#[test]
fn without_a_folder_the_answer_says_what_that_means() {
    let stage = Stage::new();
    let mut maglevd = stage.setup(&stage.config()).flag("--state-dir", "").start();
    maglevd.until_up(&BACKENDS);
    let unkept = disable(&maglevd, "a", None);
    assert!(unkept.contains("--state-dir"), "{unkept}");
    assert_eq!(listed(&maglevd).unkept, unkept);
}

/// A file system of 64 kB that can be filled, and be made read-only. It goes when dropped.
struct Small<'a>(&'a Stage);

impl<'a> Small<'a> {
    fn new(stage: &'a Stage) -> Self {
        let folder = stage.place.path("state");
        fs::create_dir(&folder).unwrap();
        run(Command::new("mount").args(["-t", "tmpfs", "-o", "size=64k", "none"]).arg(&folder));
        Self(stage)
    }

    fn remount(&self, how: &str) {
        run(Command::new("mount").args(["-o", &format!("remount,{how}")]).arg(self.0.place.path("state")));
    }
}

impl Drop for Small<'_> {
    fn drop(&mut self) {
        run(Command::new("umount").arg("--lazy").arg(self.0.place.path("state")));
    }
}

fn run(command: &mut Command) {
    assert!(command.status().unwrap().success(), "{command:?}");
}

#[test]
fn a_full_or_read_only_disk_stops_no_operator_and_loses_nothing() {
    if !geteuid().is_root() {
        println!("SKIP a_full_or_read_only_disk_stops_no_operator_and_loses_nothing: needs root");
        return;
    }
    let stage = Stage::new();
    let small = Small::new(&stage);
    let file = || fs::read_to_string(stage.place.path("state/overrides.json")).unwrap();
    let mut maglevd = stage.settled();
    assert_eq!(disable(&maglevd, "a", None), "");
    let before = file();
    // Whatever fits.
    let ballast = stage.place.path("state/ballast");
    let full = (0..).map(|n| fs::write(format!("{}{n}", ballast.display()), [0; 4096])).find_map(Result::err);
    assert_eq!(full.unwrap().kind(), std::io::ErrorKind::StorageFull);

    let unkept = disable(&maglevd, "b", note("the disk is full", None));
    assert!(unkept.contains("No space left on device"), "{unkept}");
    stage.observer().until([(VIP, stage.weights(0, 0, 1))]);
    assert_eq!((file(), listed(&maglevd).unkept), (before.clone(), unkept));
    maglevd.process.line(0, "cannot be written down");
    fs::remove_file(format!("{}0", ballast.display())).unwrap();
    maglevd.process.line(0, "written down again");
    assert!(file().contains("the disk is full"));
    assert_eq!(listed(&maglevd).unkept, "");

    small.remount("ro");
    let before = file();
    let unkept = disable(&maglevd, "c", None);
    assert!(unkept.contains("Read-only file system"), "{unkept}");
    stage.observer().until([(VIP, stage.weights(0, 0, 0))]);
    assert_eq!(file(), before);
    // What is there is read all the same.
    maglevd.process.kill();
    let maglevd = stage.setup(&stage.config()).start();
    let names: Vec<_> =
        listed(&maglevd).overrides.into_iter().map(|o| (o.backend.clone(), o.kind())).collect();
    assert_eq!(names, [("a".to_owned(), OverrideKind::Disabled), ("b".to_owned(), OverrideKind::Disabled)]);
    small.remount("rw");
    assert_eq!(disable(&maglevd, "c", None), "");
}
