use std::io::Write;
use std::sync::Mutex;

use maglev_core::event::{Audit, Deed};
use maglev_core::time::Wall;
use tracing_subscriber::fmt::MakeWriter;

use super::*;
use crate::fixture;

#[derive(Clone, Default)]
struct Paper(Arc<Mutex<Vec<u8>>>);

impl Write for Paper {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Paper {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

fn logged(level: &str, log: impl FnOnce()) -> String {
    let paper = Paper::default();
    let lines = tracing_subscriber::fmt::layer().with_writer(paper.clone()).with_ansi(false).without_time();
    let subscriber = tracing_subscriber::registry().with(filter(level).unwrap()).with(lines);
    tracing::subscriber::with_default(subscriber, log);
    let bytes = paper.0.lock().unwrap();
    String::from_utf8(bytes.clone()).unwrap()
}

#[test]
fn what_happens_has_stable_fields() {
    assert_eq!(
        logged("info", || event(&fixture::nginx0_down())),
        " WARN maglevd::log: backend changed state backend=nginx0 address=2001:db8:1::10 from=up to=down \
         code=\"L4CON\" detail=\"connection refused\"\n"
    );
    let audit = Audit {
        subject: "backend web3".into(),
        from: "up".into(),
        to: "disabled".into(),
        reason: "disk swap".into(),
        expires: Some(fixture::wall(0)),
        ..Audit::of("alice (uid 1000)".into(), Deed::Disable)
    };
    let audit = Event { at: Wall(0), kind: Kind::Operator(audit) };
    assert_eq!(
        logged("info", || event(&audit)),
        " INFO maglevd::log: audit who=\"alice (uid 1000)\" what=\"disable\" subject=\"backend web3\" \
         from=\"up\" to=\"disabled\" reason=\"disk swap\" expires=\"2026-11-22T12:00:00Z\"\n"
    );
    let reloaded = Event { at: Wall(0), kind: Kind::Reloaded };
    assert_eq!(logged("info", || event(&reloaded)), " INFO maglevd::log: configuration in force\n");
    assert_eq!(logged("warn", || event(&reloaded)), "");
}

#[test]
fn a_plain_level_is_about_this_program() {
    let both = || {
        tracing::debug!("ours");
        tracing::debug!(target: "h2::codec", "theirs");
        tracing::warn!(target: "h2::codec", "their trouble");
    };
    let lines = logged("debug", both);
    assert_eq!(lines, "DEBUG maglevd::log::tests: ours\n WARN h2::codec: their trouble\n");
    assert_eq!(logged("error", both), "");
    assert_eq!(logged("warn,h2=debug", both).lines().count(), 2);
    assert!(filter("maglevd=loud").is_err());
}

#[test]
fn records_are_made_only_for_somebody() {
    let tap = Tap::default();
    let subscriber = tracing_subscriber::registry().with(tap.clone());
    tracing::subscriber::with_default(subscriber, || {
        info!("nobody listens");
        let mut records = tap.records();
        info!(n = 1, "somebody does");
        let record = records.try_recv().unwrap();
        assert_eq!(
            (record.message.as_str(), &record.fields[..]),
            ("somebody does", &[("n", "1".into())][..])
        );
        assert!(records.try_recv().is_err());
    });
}
