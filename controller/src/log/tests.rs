use std::io::Write;
use std::sync::{Arc, Mutex};

use maglev_core::event::{Audit, AuditAction};
use maglev_core::time::WallTime;
use tracing::level_filters::LevelFilter;
use tracing::{Level, debug, trace};

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

impl Paper {
    fn take(&self) -> String {
        String::from_utf8(std::mem::take(&mut *self.0.lock().unwrap())).unwrap()
    }
}

fn filter(level: &str) -> tracing_subscriber::filter::Targets {
    level.parse::<LogFilter>().unwrap().filter()
}

fn written(level: &str, format: LineFormat, style: LineStyle, log: impl FnOnce()) -> String {
    let paper = Paper::default();
    let lines = lines(format, style, paper.clone()).with_filter(filter(level));
    tracing::subscriber::with_default(tracing_subscriber::registry().with(lines), log);
    paper.take()
}

/// Returns the lines in the journal's style, which has no time.
pub fn logged(level: &str, log: impl FnOnce()) -> String {
    written(level, LineFormat::Text, LineStyle::Journal, log)
}

#[test]
fn events_have_stable_fields() {
    assert_eq!(
        logged("info", || event(&fixture::nginx0_down())),
        "<4> WARN maglevd::log: backend changed state event=backend backend=nginx0 address=2001:db8:1::10 from=up \
         to=down code=\"L4CON\" detail=\"connection refused\"\n"
    );
    let audit = Audit {
        subject: "backend web3".into(),
        from: "up".into(),
        to: "disabled".into(),
        reason: "disk swap".into(),
        expires: Some(fixture::wall(0)),
        ..Audit::of("alice (uid 1000)".into(), AuditAction::Disable)
    };
    let audit = Event { at: WallTime(0), kind: Kind::Operator(audit) };
    assert_eq!(
        logged("info", || event(&audit)),
        "<6> INFO maglevd::log: audit event=operator actor=\"alice (uid 1000)\" action=\"disable\" subject=\"backend web3\" \
         from=\"up\" to=\"disabled\" reason=\"disk swap\" expires=\"2026-11-22T12:00:00Z\"\n"
    );
    let reloaded = Event { at: WallTime(0), kind: Kind::Reloaded };
    assert_eq!(
        logged("info", || event(&reloaded)),
        "<6> INFO maglevd::log: configuration in force event=reload\n"
    );
    assert_eq!(logged("warn", || event(&reloaded)), "");
}

#[test]
fn json_has_the_same_fields() {
    let plain = written("info", LineFormat::Json, LineStyle::Plain, || event(&fixture::nginx0_down()));
    assert!(plain.starts_with("{\"timestamp\":\"20"), "{plain}");
    assert!(
        plain.ends_with(
            "Z\",\"level\":\"WARN\",\"message\":\"backend changed state\",\"event\":\"backend\",\
             \"backend\":\"nginx0\",\"address\":\"2001:db8:1::10\",\"from\":\"up\",\"to\":\"down\",\
             \"code\":\"L4CON\",\"detail\":\"connection refused\",\"target\":\"maglevd::log\"}\n"
        ),
        "{plain}"
    );
    let journal = written("info", LineFormat::Json, LineStyle::Journal, || warn!("w"));
    assert!(journal.starts_with("<4>{\"timestamp\":"), "{journal}");
}

#[test]
fn journal_gets_priorities_terminal_gets_colors() {
    let all = || {
        error!("e");
        warn!("w");
        info!("i");
        debug!("d");
        trace!("t");
        // A newline in a value must not start a journal record of its own.
        info!(reason = %"one\n<0>two", "cut");
    };
    let priorities: Vec<_> = logged("trace", all).lines().map(|line| line[..3].to_owned()).collect();
    assert_eq!(priorities, ["<3>", "<4>", "<6>", "<7>", "<7>", "<6>", "<6>"]);
    let plain = written("info", LineFormat::Text, LineStyle::Plain, || warn!("w"));
    assert!(plain.starts_with("20") && plain.ends_with("Z  WARN maglevd::log::tests: w\n"), "{plain}");
    assert!(written("info", LineFormat::Text, LineStyle::Color, || warn!("w")).contains("\u{1b}[33m"));
}

#[test]
fn plain_level_applies_to_this_program() {
    let both = || {
        debug!("ours");
        debug!(target: "h2::codec", "theirs");
        warn!(target: "h2::codec", "their trouble");
    };
    assert_eq!(
        logged("debug", both),
        "<7>DEBUG maglevd::log::tests: ours\n<4> WARN h2::codec: their trouble\n"
    );
    assert_eq!(logged("error", both), "");
    assert_eq!(logged("warn,h2=debug", both).lines().count(), 2);
}

#[test]
fn subscribers_have_separate_levels() {
    let (subscribe, paper) = (LogBroadcast::default(), Paper::default());
    let lines = lines(LineFormat::Text, LineStyle::Journal, paper.clone()).with_filter(filter("warn"));
    tracing::subscriber::with_default(
        tracing_subscriber::registry().with(lines).with(subscribe.layer()),
        || {
            let log = || {
                debug!(n = 1, "deep");
                debug!(target: "h2", "not ours");
                info!("shallow");
                error!("wrong");
            };
            let heard = |records: &mut LogSubscription| {
                std::iter::from_fn(|| records.receiver().try_recv().ok())
                    .map(|record| record.message.clone())
                    .collect::<Vec<_>>()
            };
            let on_stderr = "<3>ERROR maglevd::log::tests: wrong\n";
            log();
            assert_eq!(paper.take(), on_stderr);

            let mut debug = subscribe.records(Level::DEBUG);
            log();
            assert_eq!(
                (heard(&mut debug), paper.take()),
                (vec!["deep".into(), "shallow".into(), "wrong".into()], on_stderr.into())
            );

            let mut info = subscribe.records(Level::INFO);
            drop(debug);
            log();
            assert_eq!(
                (heard(&mut info), paper.take()),
                (vec!["shallow".into(), "wrong".into()], on_stderr.into())
            );
        },
    );
}

#[test]
fn unrequested_records_are_never_built() {
    let (subscribe, paper) = (LogBroadcast::default(), Paper::default());
    let lines = lines(LineFormat::Text, LineStyle::Journal, paper).with_filter(filter("warn"));
    let subscriber = tracing_subscriber::registry().with(lines).with(subscribe.layer());
    assert_eq!(subscriber.max_level_hint(), Some(LevelFilter::WARN));
    let records = subscribe.records(Level::DEBUG);
    assert_eq!(subscriber.max_level_hint(), Some(LevelFilter::DEBUG));
    drop(records);
    assert_eq!(subscriber.max_level_hint(), Some(LevelFilter::WARN));

    tracing::subscriber::with_default(subscriber, || {
        let looked = || {
            let mut looked = false;
            let mut look = || {
                looked = true;
                1
            };
            debug!(n = look(), "deep");
            looked
        };
        assert!(!looked());
        let records = subscribe.records(Level::DEBUG);
        assert!(looked());
        drop(records);
        assert!(!looked());
    });
}

#[test]
fn record_fields_keep_their_order() {
    let subscribe = LogBroadcast::default();
    tracing::subscriber::with_default(tracing_subscriber::registry().with(subscribe.layer()), || {
        let mut records = subscribe.records(Level::INFO);
        info!(b = 1, a = "x", "words");
        let record = records.receiver().try_recv().unwrap();
        assert_eq!(
            (record.message.as_str(), &record.fields[..]),
            ("words", &[("b", "1".into()), ("a", "x".into())][..])
        );
    });
}
