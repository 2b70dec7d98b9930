//! A full, read-only or failing disk, and foreign overrides files.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use fastrand::Rng;
use maglev_lab::fixtures::{SmallDisk, run};
use maglev_lab::maglevd::Maglevd;
use maglev_lab::process::Process;
use maglev_lab::skip;
use maglev_proto::v1::{BackendState, DisableBackendRequest, ListOverridesRequest};

use crate::fixtures::{BACKENDS, ProcessFixture, Recovery, names, repetitions, until};

/// Disables a backend and returns the answer's persist error.
fn disable(maglevd: &Maglevd, name: &str) -> String {
    let mut client = maglevd.client.clone();
    let request = DisableBackendRequest { name: name.to_owned(), metadata: None };
    let answer = maglevd.wait(client.disable_backend(request)).unwrap().into_inner();
    assert_eq!(answer.backend.unwrap().state(), BackendState::Disabled);
    answer.persist_error
}

#[test]
fn failing_disk_at_start_is_reported_later_saved() {
    let name = "failing_disk_at_start_is_reported_later_saved";
    if skip(name, &["mount"]) {
        return;
    }
    let mut recovery = Recovery::new();
    for read_only in [false, true] {
        let fixture = ProcessFixture::new();
        let small = SmallDisk::mount(fixture.dir.path("state"));
        let mut maglevd = fixture.settled();
        assert_eq!(disable(&maglevd, "c"), "");
        maglevd.process.kill();
        let before = fs::read(small.path("overrides.json")).unwrap();
        let ballast = small.fill();
        if read_only {
            small.remount("ro");
        }

        // Existing overrides apply, and new ones are reported as not persisted.
        let mut maglevd = fixture.start();
        maglevd.until_up(&["a", "b"]);
        assert_eq!(maglevd.backend("c").state(), BackendState::Disabled);
        assert_eq!(fixture.scrape().value("maglev_overrides_unsaved", &[]), 0.0);
        let persist_error = disable(&maglevd, "b");
        let why = if read_only { "Read-only file system" } else { "No space left on device" };
        assert!(persist_error.contains(why), "{persist_error}");
        fixture.until_weights(20, 0, 0);
        assert_eq!(fixture.scrape().value("maglev_overrides_unsaved", &[]), 1.0);
        assert!(fixture.scrape().value("maglev_overrides_save_total", &["result=\"failure\""]) >= 1.0);
        assert_eq!(fs::read(small.path("overrides.json")).unwrap(), before);

        recovery.time(|| {
            if read_only {
                small.remount("rw");
            }
            ballast.iter().for_each(|path| fs::remove_file(path).unwrap());
            maglevd.process.line(0, "overrides persisted again");
        });
        assert_eq!(fixture.scrape().value("maglev_overrides_unsaved", &[]), 0.0);
        assert_eq!(
            names(&small.path("")),
            ["lock", "overrides.json", "owned-vips.json"].map(str::to_owned).into()
        );
        maglevd.process.kill();
        assert_eq!(fixture.start().backend("b").state(), BackendState::Disabled);
    }
    recovery.print("disk full or read-only");
}

#[test]
fn failed_fsync_is_reported_as_unsaved() {
    if skip("failed_fsync_is_reported_as_unsaved", &["strace"]) {
        return;
    }
    let fixture = ProcessFixture::new();
    let maglevd = fixture.settled();
    assert_eq!(disable(&maglevd, "c"), "");
    let before = fs::read(fixture.dir.path("state/overrides.json")).unwrap();
    for (call, error, words) in [
        ("fsync", "EIO", "Input/output error"),
        ("fsync", "ENOSPC", "No space left on device"),
        ("write", "EDQUOT", "Disk quota exceeded"),
    ] {
        let path = fixture.dir.path("state/overrides.json.new");
        let mut command = Command::new("strace");
        command.args(["-f", "-o", "/dev/null", "-e", &format!("inject={call}:error={error}")]);
        if call == "write" {
            command.arg("-P").arg(path);
        }
        let strace = Process::spawn("strace", command.args(["-p", &maglevd.process.pid().to_string()]));
        strace.line(0, "attached");
        let persist_error = disable(&maglevd, "b");
        assert!(persist_error.contains(words), "{call} {error}: {persist_error}");
        assert_eq!(fs::read(fixture.dir.path("state/overrides.json")).unwrap(), before);
        let position = maglevd.process.line_count();
        drop(strace);
        maglevd.process.line(position, "overrides persisted again");
        assert!(maglevd.maglevc(&["set", "backend", "b", "enable"]).status.success());
        until(
            "the file to be as it was",
            || fs::read(fixture.dir.path("state/overrides.json")).unwrap(),
            |now| *now == before,
        );
    }
}

/// Corrupts a good file.
type Corruption = fn(&Path, &[u8]);

#[test]
fn corrupt_overrides_file_does_not_prevent_start() {
    let fixture = ProcessFixture::new();
    let mut maglevd = fixture.settled();
    assert_eq!(disable(&maglevd, "c"), "");
    maglevd.process.kill();
    let directory = fixture.dir.path("state");
    let path = directory.join("overrides.json");
    let good = fs::read(&path).unwrap();
    let strange: [(&str, Corruption); 7] = [
        ("of a later release", |path, good| {
            fs::write(path, String::from_utf8(good.to_vec()).unwrap().replace("1,", "99,")).unwrap();
        }),
        ("a directory", |path, _| fs::create_dir(path).unwrap()),
        ("a pipe", |path, _| run(Command::new("mkfifo").arg(path))),
        ("a link to nowhere", |path, _| symlink("nowhere", path).unwrap()),
        ("a link to itself", |path, _| symlink(path, path).unwrap()),
        ("endless", |path, _| fs::File::create(path).unwrap().set_len(1 << 40).unwrap()),
        ("foreign", |path, _| fs::write(path, "{\"hosts\": [1, 2, 3]}").unwrap()),
    ];
    for (what, spoil) in strange {
        start_with_corrupt_file(&fixture, what, |path| spoil(path, &good));
    }
    let (mut random, mutations) = (Rng::with_seed(7), repetitions("MUTATIONS", 10));
    for number in 0..mutations {
        let mut bytes = good.clone();
        if number % 2 == 0 {
            bytes.truncate(random.usize(..good.len()));
        } else {
            let at = random.usize(..good.len());
            bytes[at] ^= random.u8(1..);
        }
        let what = String::from_utf8_lossy(&bytes).into_owned();
        start_with_corrupt_file(&fixture, &what, |path| fs::write(path, &bytes).unwrap());
    }
}

/// Starts `maglevd` with a corrupt overrides file. It starts without overrides, or with those that the file still contains. New
/// overrides must be persisted.
fn start_with_corrupt_file(fixture: &ProcessFixture, what: &str, spoil: impl FnOnce(&Path)) {
    let directory = fixture.dir.path("state");
    fs::remove_dir_all(&directory).unwrap();
    fs::create_dir(&directory).unwrap();
    spoil(&directory.join("overrides.json"));
    let mut maglevd = fixture.setup(&fixture.config()).start();
    maglevd.until_vpp(true);
    let mut client = maglevd.client.clone();
    let listed = maglevd.wait(client.list_overrides(ListOverridesRequest {})).unwrap().into_inner();
    if listed.overrides.is_empty() {
        maglevd.until_up(&BACKENDS);
        let is_reported = || maglevd.process.lines(0).iter().any(|line| line.contains("ERROR"));
        // A missing file, or one without overrides, is not an error.
        let is_harmless = what == "a link to nowhere" || what.contains("\"overrides\": [\n]");
        assert!(is_reported() || is_harmless, "{what}: {:#?}", maglevd.process.lines(0));
    }
    assert_eq!(disable(&maglevd, "b"), "", "{what}");
    maglevd.process.kill();
    let maglevd = fixture.setup(&fixture.config()).start();
    assert_eq!(maglevd.backend("b").state(), BackendState::Disabled, "{what}");
}
