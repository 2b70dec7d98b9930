use std::fs;
use std::path::Path;

use maglev_core::overrides::{Override, OverrideKind, OverrideMeta};

use super::*;

fn paused(names: &[&str]) -> Arc<Overrides> {
    let mut overrides = Overrides::default();
    for name in names {
        let meta = Arc::new(OverrideMeta { who: "alice".into(), ..OverrideMeta::default() });
        overrides.insert(Override { backend: (*name).into(), slot: None, kind: OverrideKind::Paused, meta });
    }
    Arc::new(overrides)
}

/// Surroundings of a persister under test.
struct Daemon {
    wanted: watch::Sender<PendingWrite>,
    persisted: watch::Receiver<PersistStatus>,
    task: tokio::task::JoinHandle<()>,
}

impl Daemon {
    fn new(folder: &Path) -> Self {
        let (store, overrides) = open(SystemDisk, folder.to_owned());
        let (wanted, receiver) = watch::channel((0, overrides));
        let (status, persisted) = watch::channel(PersistStatus::default());
        let metrics = Arc::new(Metrics::new().unwrap());
        let persister = Persister { store, wanted: receiver, status, metrics };
        Self { wanted, persisted, task: tokio::spawn(persister.run()) }
    }

    fn error(&self) -> String {
        self.persisted.borrow().error.clone()
    }

    fn want(&self, names: &[&str]) -> u64 {
        self.wanted.send_modify(|(number, wanted)| (*number, *wanted) = (*number + 1, paused(names)));
        self.wanted.borrow().0
    }

    async fn attempted(&mut self, number: u64) -> PersistStatus {
        self.persisted.wait_for(|persisted| persisted.attempted >= number).await.unwrap().clone()
    }
}

fn on_disk(folder: &Path) -> Arc<Overrides> {
    open(SystemDisk, folder.to_owned()).1
}

#[tokio::test]
async fn what_is_wanted_is_on_disk_when_that_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::new(folder.path());
    for names in [&["a"][..], &["a", "b"], &[]] {
        let number = daemon.want(names);
        let persisted = daemon.attempted(number).await;
        assert_eq!((persisted.number, persisted.error.as_str()), (number, ""));
        assert_eq!(on_disk(folder.path()), paused(names));
    }
}

#[tokio::test]
async fn the_end_does_not_come_before_the_last_wish_is_on_disk() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = Daemon::new(folder.path());
    daemon.want(&["a"]);
    drop(daemon.wanted);
    daemon.task.await.unwrap();
    assert_eq!(on_disk(folder.path()), paused(&["a"]));
}

#[tokio::test]
async fn nothing_is_written_when_nothing_is_new() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = Daemon::new(folder.path());
    drop(daemon.wanted);
    daemon.task.await.unwrap();
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn what_cannot_be_written_is_told_and_written_later() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("not/there");
    let mut daemon = Daemon::new(&folder);
    let number = daemon.want(&["a"]);
    let persisted = daemon.attempted(number).await;
    assert!(persisted.number < number && persisted.error.contains("No such file"), "{persisted:?}");
    assert_eq!(daemon.error(), persisted.error);
    fs::create_dir(parent.path().join("not")).unwrap();
    daemon.persisted.wait_for(|persisted| persisted.number == number).await.unwrap();
    assert_eq!((on_disk(&folder), daemon.error()), (paused(&["a"]), String::new()));
}

#[tokio::test]
async fn the_end_comes_also_if_nothing_can_be_written() {
    let parent = tempfile::tempdir().unwrap();
    let daemon = Daemon::new(&parent.path().join("not/there"));
    daemon.want(&["a"]);
    drop(daemon.wanted);
    daemon.task.await.unwrap();
}

#[tokio::test]
async fn without_a_folder_it_is_said_that_nothing_is_kept() {
    let mut daemon = Daemon::new(Path::new(""));
    let number = daemon.want(&["a"]);
    assert_eq!(daemon.attempted(number).await.error, NOT_PERSISTED);
}

#[test]
fn in_the_long_run_there_is_one_write_a_second() {
    let start = Instant::now();
    let mut pace = Pace::new(start);
    let mut now = start;
    let mut writes = Vec::new();
    for _ in 0..BURST + 100 {
        now = pace.next(now);
        writes.push((now - start).as_secs());
    }
    assert_eq!(writes[BURST as usize - 1], 0);
    assert_eq!(writes[BURST as usize..], (1..=100).collect::<Vec<_>>());
    // A quiet minute restores the whole burst; a quiet hour restores no more.
    now += Duration::from_secs(3600);
    let burst = (0..BURST + 1).map(|_| pace.next(now) - now).filter(Duration::is_zero).count();
    assert_eq!(burst, BURST as usize);
}
