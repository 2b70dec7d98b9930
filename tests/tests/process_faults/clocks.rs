//! Wrong clocks. Only displayed repetitions and the expiry of overrides follow the wall clock.

use std::fs;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use maglev_lab::maglevd::{Maglevd, MaglevdSetup};
use maglev_lab::skip;
use maglev_proto::v1::{
    BackendState, DisableBackendRequest, OverrideMetadata, SetFrontendPoolBackendWeightRequest,
};

use crate::fixtures::{BACKENDS, ProcessFixture, assert_nothing_went_down};

const DAY: i64 = 86_400;
const YEAR: i64 = 365 * DAY;

/// A wall clock that can be set, for one process.
struct FakeClock {
    library: PathBuf,
    file: PathBuf,
}

impl FakeClock {
    /// Returns a correct clock, or `None` if test `name` must be skipped.
    fn new(name: &str, fixture: &ProcessFixture) -> Option<Self> {
        let directories = fs::read_dir("/usr/lib").into_iter().flatten().flatten().map(|entry| entry.path());
        let library = directories
            .map(|directory| directory.join("faketime/libfaketime.so.1"))
            .find(|path| path.is_file());
        if library.is_none() {
            println!("SKIP {name}: needs libfaketime");
        }
        let clock = Self { library: library?, file: fixture.dir.path("clock") };
        clock.set(0);
        Some(clock)
    }

    /// Sets the clock `ahead` seconds ahead.
    fn set(&self, ahead: i64) {
        let new = self.file.with_extension("new");
        fs::write(&new, format!("{ahead:+}\n")).unwrap();
        fs::rename(new, &self.file).unwrap();
    }

    fn apply_to<'a>(&self, setup: MaglevdSetup<'a>) -> MaglevdSetup<'a> {
        setup
            .env("LD_PRELOAD", self.library.display())
            .env("FAKETIME_TIMESTAMP_FILE", self.file.display())
            .env("FAKETIME_NO_CACHE", 1)
            .env("DONT_FAKE_MONOTONIC", 1)
    }
}

/// Returns the time of a backend's last change in seconds since 1970.
fn changed(maglevd: &Maglevd, name: &str) -> i64 {
    maglevd.backend(name).since.unwrap().seconds
}

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs().cast_signed()
}

#[test]
fn wall_clock_steps_change_only_timestamps() {
    let fixture = ProcessFixture::new();
    let name = "wall_clock_steps_change_only_timestamps";
    let Some(clock) = FakeClock::new(name, &fixture) else { return };
    let mut maglevd = clock.apply_to(fixture.setup(&fixture.config())).start();
    maglevd.until_up(&BACKENDS);
    fixture.until_weights(20, 10, 0);
    let written = fixture.writes();
    let since = changed(&maglevd, "a");
    for (number, ahead) in [YEAR, -YEAR, 0].into_iter().enumerate() {
        clock.set(ahead);
        fixture.servers.http[1].answer(503);
        maglevd.until_backend("b", BackendState::Down);
        fixture.until_weights(20, 0, 0);
        assert!((changed(&maglevd, "b") - now() - ahead).abs() < DAY, "{:#?}", maglevd.backend("b"));
        fixture.servers.http[1].answer(200);
        maglevd.until_backend("b", BackendState::Up);
        fixture.until_weights(20, 10, 0);
        assert_eq!(fixture.writes().len(), written.len() + 2 * (number + 1));
    }
    assert_eq!(changed(&maglevd, "a"), since);
    assert_eq!(maglevd.backend("b").transitions.len(), 5);
    let lost = |line: &String| line.contains("prober lost") || line.contains("VPP lost");
    assert_eq!(maglevd.process.lines(0).into_iter().find(lost), None);
}

#[test]
fn override_expiry_follows_wall_clock() {
    let fixture = ProcessFixture::new();
    let Some(clock) = FakeClock::new("override_expiry_follows_wall_clock", &fixture) else {
        return;
    };
    let mut maglevd = clock.apply_to(fixture.setup(&fixture.config())).start();
    maglevd.until_up(&BACKENDS);
    let metadata = |seconds| {
        let lifetime = Some(maglev_proto::Duration { seconds, nanos: 0 });
        Some(OverrideMetadata { reason: String::new(), lifetime })
    };
    let mut client = maglevd.client.clone();
    let request = DisableBackendRequest { name: "b".to_owned(), metadata: metadata(3600) };
    maglevd.wait(client.disable_backend(request)).unwrap();
    // A step back does not end an override.
    clock.set(-YEAR);
    let set_weight = |maglevd: &Maglevd, weight, seconds| {
        let (frontend, pool, backend) = ("web".to_owned(), "last".to_owned(), "c".to_owned());
        let metadata = metadata(seconds);
        let request = SetFrontendPoolBackendWeightRequest { frontend, pool, backend, weight, metadata };
        let mut client = maglevd.client.clone();
        maglevd.wait(client.set_frontend_pool_backend_weight(request)).unwrap();
    };
    set_weight(&maglevd, 20, DAY);
    assert_eq!(maglevd.backend("b").state(), BackendState::Disabled);
    // A step forward ends it within a minute, or earlier if another override expires first.
    set_weight(&maglevd, 30, 1);
    clock.set(YEAR);
    maglevd.until_backend("b", BackendState::Up);
    maglevd.process.line(0, "actor=\"expiry\"");
    assert_nothing_went_down(&maglevd.process);
}

/// A mass failure is pending for a time that both daemons measure.
#[test]
fn differing_monotonic_clocks_do_not_matter() {
    if skip("differing_monotonic_clocks_do_not_matter", &["unshare"]) {
        return;
    }
    for ahead in ["31536000", "-60"] {
        let fixture = ProcessFixture::new();
        let (monotonic, boottime) = (format!("--monotonic={ahead}"), format!("--boottime={ahead}"));
        let wrapper = ["unshare", "--time", &monotonic, &boottime, "--fork", "--kill-child"];
        let mut maglevd = fixture.setup(&fixture.config()).wrapped(&wrapper).start();
        maglevd.until_up(&BACKENDS);
        fixture.until_weights(20, 10, 0);
        let written = fixture.writes();
        fixture.servers.http.iter().for_each(|site| site.answer(503));
        for name in BACKENDS {
            maglevd.until_backend(name, BackendState::Down);
        }
        fixture.until_weights(0, 0, 0);
        fixture.servers.http.iter().for_each(|site| site.answer(200));
        maglevd.until_up(&BACKENDS);
        fixture.until_weights(20, 10, 0);
        assert!(fixture.writes().len() > written.len());
        assert_eq!(fixture.scrape().value("maglev_mass_failures_total", &["result=\"confirmed\""]), 1.0);
    }
}
