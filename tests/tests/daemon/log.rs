//! The log: what goes to standard error, and what to subscribers.

use maglev_lab::maglevd::Setup;
use maglev_lab::place::Place;
use maglev_proto::v1::watch_events_response::Event;
use maglev_proto::v1::{EventKind, LogLevel, WatchEventsRequest};

use crate::Stage;

/// One whose level is a warning, but for the line that says that it starts.
const QUIET: &str = "warn,maglevd::daemon=info";

#[test]
fn a_subscriber_hears_more_than_standard_error_has() {
    let place = Place::new();
    // There is no prober, which is worth a warning once, and then a debugging record each time that it is tried again.
    let maglevd = Setup::new(&place, "maglev: {}").flag("--log-level", QUIET).start();
    maglevd.process.line(0, "no prober; it is tried again");
    let request =
        WatchEventsRequest { kinds: vec![EventKind::Log.into()], log_level: LogLevel::Debug.into() };
    let mut client = maglevd.client.clone();
    let mut records = maglevd.wait(client.watch_events(request)).unwrap().into_inner();
    loop {
        let response = maglevd.wait(records.message()).unwrap().unwrap();
        let Some(Event::Log(record)) = response.event else { panic!("{response:?} is no record") };
        if record.level() == LogLevel::Debug && record.message == "no prober" {
            break;
        }
    }
    let lines = maglevd.process.lines(0);
    assert!(!lines.iter().any(|line| line.contains("DEBUG")), "{lines:#?}");
}

#[test]
fn what_comes_and_goes_is_named_in_the_log_as_in_the_api() {
    let stage = Stage::new();
    let mut maglevd = stage.settled();
    let Stage { mut prober, vpp, .. } = stage;
    prober.kill();
    maglevd.until_prober(false);
    drop(vpp);
    maglevd.until_vpp(false);
    for words in [
        "INFO maglevd::prober::hearing: prober connected event=prober ",
        "WARN maglevd::prober: prober lost; health stays as it is event=prober ",
        "INFO maglevd::vpp: VPP connected event=vpp ",
        "WARN maglevd::vpp: VPP lost; it forwards as it was last told event=vpp ",
        "INFO maglevd::log: backend changed state event=backend backend=a ",
        "INFO maglevd::log: frontend changed state event=frontend frontend=web ",
        "INFO maglevd::log: VIP changed in VPP event=sync vip=",
    ] {
        maglevd.process.line(0, words);
    }
}
