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
    pending: watch::Sender<PendingWrite>,
    persisted: watch::Receiver<PersistStatus>,
    task: tokio::task::JoinHandle<()>,
}

impl Daemon {
    fn new(directory: &Path) -> Self {
        let (store, overrides) = open(SystemDisk::default(), directory.to_owned()).unwrap();
        let (pending, receiver) = watch::channel((0, overrides));
        let (status, persisted) = watch::channel(PersistStatus::default());
        let metrics = Arc::new(Metrics::new().unwrap());
        let persister = Persister { store, pending: receiver, status, metrics };
        Self { pending, persisted, task: tokio::spawn(persister.run()) }
    }

    fn error(&self) -> String {
        self.persisted.borrow().error.clone()
    }

    fn want(&self, names: &[&str]) -> u64 {
        self.pending.send_modify(|(number, pending)| (*number, *pending) = (*number + 1, paused(names)));
        self.pending.borrow().0
    }

    async fn attempted(&mut self, number: u64) -> PersistStatus {
        self.persisted.wait_for(|persisted| persisted.attempted >= number).await.unwrap().clone()
    }
}

fn on_disk(directory: &Path) -> Arc<Overrides> {
    let bytes = fs::read(directory.join("overrides.json")).unwrap();
    Arc::new(file::parse(&bytes).unwrap())
}

#[tokio::test]
async fn reported_write_is_on_disk() {
    let directory = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::new(directory.path());
    for names in [&["a"][..], &["a", "b"], &[]] {
        let number = daemon.want(names);
        let persisted = daemon.attempted(number).await;
        assert_eq!((persisted.number, persisted.error.as_str()), (number, ""));
        assert_eq!(on_disk(directory.path()), paused(names));
    }
}

#[tokio::test]
async fn last_write_is_persisted_before_exit() {
    let directory = tempfile::tempdir().unwrap();
    let daemon = Daemon::new(directory.path());
    daemon.want(&["a"]);
    drop(daemon.pending);
    daemon.task.await.unwrap();
    assert_eq!(on_disk(directory.path()), paused(&["a"]));
}

#[tokio::test]
async fn unchanged_overrides_are_not_written() {
    let directory = tempfile::tempdir().unwrap();
    let daemon = Daemon::new(directory.path());
    drop(daemon.pending);
    daemon.task.await.unwrap();
    assert!(!directory.path().join("overrides.json").exists());
}

#[tokio::test]
async fn failed_write_is_reported_and_retried() {
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("not/there");
    let mut daemon = Daemon::new(&directory);
    let number = daemon.want(&["a"]);
    let persisted = daemon.attempted(number).await;
    assert!(persisted.number < number && persisted.error.contains("No such file"), "{persisted:?}");
    assert_eq!(daemon.error(), persisted.error);
    fs::create_dir(parent.path().join("not")).unwrap();
    daemon.persisted.wait_for(|persisted| persisted.number == number).await.unwrap();
    assert_eq!((on_disk(&directory), daemon.error()), (paused(&["a"]), String::new()));
}

#[tokio::test]
async fn failing_disk_does_not_prevent_exit() {
    let parent = tempfile::tempdir().unwrap();
    let daemon = Daemon::new(&parent.path().join("not/there"));
    daemon.want(&["a"]);
    drop(daemon.pending);
    daemon.task.await.unwrap();
}

#[tokio::test]
async fn without_directory_nothing_is_persisted() {
    let mut daemon = Daemon::new(Path::new(""));
    let number = daemon.want(&["a"]);
    assert_eq!(daemon.attempted(number).await.error, NOT_PERSISTED);
}

#[test]
fn sustained_writes_are_one_per_second() {
    const BURST: usize = 60;
    let start = Instant::now();
    let mut limiter = WriteLimiter::new(start);
    let mut now = start;
    let mut writes = Vec::new();
    for _ in 0..BURST + 100 {
        now = limiter.next(now);
        writes.push((now - start).as_secs());
    }
    assert_eq!(writes[BURST - 1], 0);
    assert_eq!(writes[BURST..], (1..=100).collect::<Vec<_>>());
    // A quiet minute restores the whole burst; a quiet hour restores no more.
    now += Duration::from_secs(3600);
    let burst = (0..BURST + 1).map(|_| limiter.next(now) - now).filter(Duration::is_zero).count();
    assert_eq!(burst, BURST);
}
