use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::super::disk::SystemDisk;
use super::*;

/// 2026-11-22T12:00:00Z plus half a second.
const AT: WallTime = WallTime(1_795_348_800_500_000_000);

fn meta(reason: &str, expires: Option<WallTime>) -> Arc<OverrideMeta> {
    Arc::new(OverrideMeta { who: "alice (uid 1000)".into(), at: AT, reason: reason.into(), expires })
}

fn of(backend: &str, kind: OverrideKind, meta: Arc<OverrideMeta>) -> Override {
    let slot = matches!(kind, OverrideKind::Weight(_)).then(|| ("web".into(), "primary".into()));
    Override { backend: backend.into(), slot, kind, meta }
}

fn some() -> Overrides {
    let mut overrides = Overrides::default();
    for one in [
        of(
            "nginx0",
            OverrideKind::Disabled,
            meta("disk \"swap\" \\ ünï", Some(WallTime(AT.0 + 7_200_000_000_001))),
        ),
        of("nginx1", OverrideKind::Enabled, meta("", None)),
        of("nginx1", OverrideKind::Paused, meta("", None)),
        of("nginx2", OverrideKind::Weight(0), meta("", None)),
        of("nginx3", OverrideKind::Weight(100), meta("", None)),
    ] {
        overrides.insert(one);
    }
    overrides
}

/// Directory of a store under test.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn holding(bytes: &[u8]) -> Self {
        let place = Self::new();
        fs::write(place.file(), bytes).unwrap();
        place
    }

    fn file(&self) -> PathBuf {
        self.0.path().join(NAME)
    }

    fn open(&self) -> (OverrideStore<SystemDisk>, Overrides) {
        OverrideStore::open(SystemDisk::default(), self.0.path().to_owned()).unwrap()
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.0.path()).unwrap();
        let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.retain(|name| name != "lock");
        names.sort();
        names
    }

    fn persisted(&self) -> Overrides {
        parse(&fs::read(self.file()).unwrap()).unwrap()
    }

    /// Returns the contents of the only file whose name begins with `overrides.json.LABEL-`.
    fn quarantine(&self, label: &str) -> Vec<u8> {
        let names = self.names();
        let found: Vec<_> =
            names.iter().filter(|name| name.starts_with(&format!("{NAME}.{label}-"))).collect();
        assert_eq!(found.len(), 1, "{names:?}");
        fs::read(self.0.path().join(found[0])).unwrap()
    }
}

#[test]
fn written_overrides_parse_back() {
    let place = Place::new();
    let (mut store, none) = place.open();
    assert!(none.is_empty());
    store.save(&some()).unwrap();
    assert_eq!(place.names(), [NAME]);
    assert_eq!(fs::metadata(place.file()).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(place.persisted(), some());
    store.save(&Overrides::default()).unwrap();
    drop(store);
    assert!(place.open().1.is_empty());
}

#[test]
fn file_has_one_override_per_line() {
    let text = render(&some());
    let expected = r#"{
"version": 1,
"overrides": [
  {"kind":"disabled","backend":"nginx0","who":"alice (uid 1000)","at":"2026-11-22T12:00:00.500Z","reason":"disk \"swap\" \\ ünï","expires":"2026-11-22T14:00:00.500000001Z"},
  {"kind":"enabled","backend":"nginx1","who":"alice (uid 1000)","at":"2026-11-22T12:00:00.500Z"},
  {"kind":"paused","backend":"nginx1","who":"alice (uid 1000)","at":"2026-11-22T12:00:00.500Z"},
  {"kind":"weight","backend":"nginx2","frontend":"web","pool":"primary","weight":0,"who":"alice (uid 1000)","at":"2026-11-22T12:00:00.500Z"},
  {"kind":"weight","backend":"nginx3","frontend":"web","pool":"primary","weight":100,"who":"alice (uid 1000)","at":"2026-11-22T12:00:00.500Z"}
]
}
"#;
    assert_eq!(text, expected);
}

#[test]
fn truncated_file_is_corrupt() {
    let text = render(&some());
    for end in 0..text.trim_end().len() {
        assert!(
            matches!(parse(&text.as_bytes()[..end]), Err(FileError::Corrupt(_))),
            "{}",
            &text[..end.min(40)]
        );
    }
}

#[test]
fn invalid_contents_are_corrupt() {
    let good =
        r#"{"version": 1, "overrides": [{"kind": "paused", "backend": "a", "at": "2026-11-22T12:00:00Z"}]}"#;
    assert_eq!(parse(good.as_bytes()).unwrap().len(), 1);
    for (part, wrong, why) in [
        ("\"paused\"", "\"stopped\"", "unknown kind `stopped`"),
        ("\"paused\"", "\"weight\"", "`weight` is missing"),
        ("\"paused\"", "\"weight\", \"weight\": 101", "weight 101 is not within 0 to 100"),
        ("\"paused\"", "\"weight\", \"weight\": 256", "expected u8"),
        ("\"paused\"", "\"weight\", \"weight\": 7", "a weight needs `frontend` and `pool`"),
        ("\"paused\"", "\"paused\", \"weight\": 7", "`paused` takes no `weight`"),
        ("\"paused\"", "\"paused\", \"pool\": \"p\"", "`paused` takes no `frontend` and no `pool`"),
        ("\"paused\"", "\"paused\", \"expries\": \"\"", "unknown field `expries`"),
        ("2026-11-22T12:00:00Z", "noon", "invalid time `noon`"),
        ("2026-11-22T12:00:00Z", "1969-12-31T23:59:59Z", "invalid time"),
        ("2026-11-22T12:00:00Z", "9999-12-31T23:59:59Z", "invalid time"),
        ("\"version\": 1", "\"version\": 0", "unknown version 0"),
        ("\"version\": 1", "\"vision\": 1", "missing field `version`"),
        (", \"overrides\"", ", \"rest\": 1, \"overrides\"", "unknown field `rest`"),
    ] {
        assert!(good.contains(part), "{part}");
        match parse(good.replace(part, wrong).as_bytes()) {
            Err(FileError::Corrupt(said)) => assert!(said.contains(why), "{wrong}: {said}"),
            other => panic!("{wrong}: {other:?}"),
        }
    }
    let deep = "[".repeat(1 << 20);
    assert!(matches!(parse(deep.as_bytes()), Err(FileError::Corrupt(_))));
}

#[test]
fn corrupt_file_is_moved_aside_to_free_name() {
    let place = Place::new();
    for (times, text) in [(1, "garbage"), (2, "more garbage"), (3, "")] {
        fs::write(place.file(), text).unwrap();
        let (mut store, overrides) = place.open();
        assert!(overrides.is_empty());
        assert_eq!(place.names().len(), times, "{:?}", place.names());
        assert!(!place.file().exists());
        store.save(&Overrides::default()).unwrap();
        fs::remove_file(place.file()).unwrap();
    }
    let all: Vec<_> =
        place.names().iter().map(|n| fs::read_to_string(place.0.path().join(n)).unwrap()).collect();
    for text in ["garbage", "more garbage", ""] {
        assert!(all.iter().any(|found| found == text), "{all:?}");
    }
}

#[test]
fn newer_file_stays_until_next_write() {
    let later = br#"{"version": 2, "wishes": {}}"#;
    let place = Place::holding(later);
    let (mut store, overrides) = place.open();
    assert!(overrides.is_empty());
    assert_eq!((place.names(), fs::read(place.file()).unwrap()), (vec![NAME.into()], later.to_vec()));
    store.save(&some()).unwrap();
    assert_eq!((place.persisted(), place.quarantine("version-2")), (some(), later.to_vec()));
}

#[test]
fn unreadable_file_is_kept() {
    let place = Place::new();
    fs::create_dir(place.file()).unwrap();
    fs::write(place.file().join("precious"), "x").unwrap();
    let (mut store, overrides) = place.open();
    assert!(overrides.is_empty() && place.file().is_dir());
    store.save(&some()).unwrap();
    assert_eq!(place.persisted(), some());
    assert_eq!(place.names().len(), 2, "{:?}", place.names());
}

#[test]
fn fifo_does_not_block() {
    let place = Place::new();
    nix::unistd::mkfifo(&place.file(), nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(place.open().1.is_empty());
}

#[test]
fn unknown_names_are_accepted() {
    let text = render(&some()).replace("nginx0", "whoever").replace("\"web\"", "\"\"");
    assert_eq!(parse(text.as_bytes()).unwrap().len(), some().len());
}

#[test]
fn operator_text_is_sanitized() {
    let line = |who: &str| {
        format!(
            r#"{{"version":1,"overrides":[{{"kind":"paused","backend":"a","who":"{who}","at":"2026-11-22T12:00:00Z","reason":"{who}"}}]}}"#
        )
    };
    let long = "\\u001b".to_owned() + &"x".repeat(1000);
    let persisted = parse(line(&long).as_bytes()).unwrap();
    let meta = persisted.list().next().unwrap().meta;
    assert_eq!((meta.who.len(), meta.reason.len()), (MAX_WHO, MAX_REASON));
    assert!(meta.who.starts_with("?x"));
}

/// Crash between writing the new file and renaming it.
#[test]
fn partial_new_file_is_ignored() {
    let place = Place::new();
    let (mut store, _) = place.open();
    store.save(&some()).unwrap();
    fs::write(place.0.path().join(format!("{NAME}.new")), "{\"version\": 1, \"overr").unwrap();
    drop(store);
    let (mut store, overrides) = place.open();
    assert_eq!(overrides, some());
    store.save(&Overrides::default()).unwrap();
    assert_eq!((place.names(), place.persisted()), (vec![NAME.to_owned()], Overrides::default()));
}

#[test]
fn new_file_does_not_follow_symlink() {
    let place = Place::new();
    let elsewhere = tempfile::NamedTempFile::new().unwrap();
    std::os::unix::fs::symlink(elsewhere.path(), place.0.path().join(format!("{NAME}.new"))).unwrap();
    place.open().0.save(&some()).unwrap();
    assert_eq!((fs::read(elsewhere.path()).unwrap(), place.persisted()), (vec![], some()));
}

#[test]
fn directory_is_created_without_parents() {
    let place = Place::new();
    let (mut store, _) = OverrideStore::open(SystemDisk::default(), place.0.path().join("state")).unwrap();
    store.save(&some()).unwrap();
    assert_eq!(fs::metadata(place.0.path().join("state")).unwrap().permissions().mode() & 0o777, 0o750);
    let (mut store, overrides) =
        OverrideStore::open(SystemDisk::default(), place.0.path().join("no/such")).unwrap();
    assert!(overrides.is_empty());
    assert_eq!(store.save(&some()).unwrap_err().kind(), io::ErrorKind::NotFound);
    assert!(!place.0.path().join("no").exists());
}

#[test]
fn second_store_of_directory_is_refused() {
    let place = Place::new();
    let (first, _) = place.open();
    let again = || OverrideStore::open(SystemDisk::default(), place.0.path().to_owned());
    let error = again().unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ResourceBusy);
    let message = error.to_string();
    assert!(message.starts_with(&place.0.path().display().to_string()), "{message}");
    assert!(message.contains("another maglevd uses this state directory"), "{message}");
    drop(first);
    again().unwrap();
}

#[test]
fn recreated_directory_is_locked_and_written() {
    let place = Place::new();
    let state = place.0.path().join("state");
    let open = || OverrideStore::open(SystemDisk::default(), state.clone());
    let (mut store, _) = open().unwrap();
    store.save(&some()).unwrap();
    fs::rename(&state, place.0.path().join("old")).unwrap();
    store.save(&some()).unwrap();
    assert_eq!(parse(&fs::read(state.join(NAME)).unwrap()).unwrap(), some());
    assert_eq!(open().unwrap_err().kind(), io::ErrorKind::ResourceBusy);

    // In the time of the move, another process took the new directory.
    fs::rename(&state, place.0.path().join("older")).unwrap();
    let (_other, _) = open().unwrap();
    assert_eq!(store.save(&some()).unwrap_err().kind(), io::ErrorKind::ResourceBusy);
    assert!(!state.join(NAME).exists());
}

/// The maximum number of overrides of maximum length.
#[test]
fn largest_file_parses() {
    let name = |n: usize| "n".repeat(60) + &format!("{n:04}");
    let quotes = |bytes| "\"".repeat(bytes);
    let longest = OverrideMeta {
        who: quotes(MAX_WHO),
        at: AT,
        reason: quotes(MAX_REASON),
        expires: Some(WallTime(AT.0 + 1)),
    };
    let slot = Some((name(1).into(), name(2).into()));
    let line = FileEntry::of(&Override {
        backend: name(3).into(),
        slot,
        kind: OverrideKind::Weight(100),
        meta: longest.into(),
    });
    let bytes = serde_json::to_string(&line).unwrap().len() + 4;
    assert!((bytes * MAX) as u64 + 100 < MAX_FILE, "{bytes}");
}

#[test]
fn quarantine_never_overwrites() {
    let place = Place::holding(b"garbage");
    let (mut store, _) = place.open();
    let first = place.names();
    // The second one has the same or the next second in its name.
    fs::write(place.file(), "garbage too").unwrap();
    store.quarantine = Some(Quarantine::Corrupt);
    store.move_aside().unwrap();
    assert_eq!(place.names().len(), 2, "{first:?} {:?}", place.names());
    assert_eq!(fs::read_to_string(place.0.path().join(&first[0])).unwrap(), "garbage");
}
