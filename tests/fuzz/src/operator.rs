//! Commands of operators, and requests of API clients.

use std::fmt::Debug;
use std::time::Duration;

use maglev_proto::v1;
use maglevc::command::{self, PartialCommand};
use maglevc::{line, time};
use prost::Message;

use crate::FuzzTarget;

pub const COMMAND: FuzzTarget =
    FuzzTarget { name: "command", longest: 4096, memory: 16 << 20, seeds, run: run_command };

pub const REQUEST: FuzzTarget =
    FuzzTarget { name: "request", longest: 4096, memory: 4 << 20, seeds: request_seeds, run: run_request };

fn run_command(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    for typed in text.lines() {
        let split = line::split(typed);
        for word in &split.words {
            assert!(typed.is_char_boundary(word.start));
            let again = line::split(&line::quoted(&word.text));
            assert_eq!(again.words.len(), 1);
            assert_eq!(again.words[0].text, word.text, "quoting is undone by splitting");
            if let Some(duration) = time::parse_duration(&word.text) {
                assert_eq!(time::parse_duration(&time::written(duration)), Some(duration));
                assert!(duration >= Duration::from_secs(1));
            }
        }
        assert!(split.open.is_none_or(|at| typed[at..].starts_with(['"', '\''])));
        let words: Vec<&str> = split.words.iter().map(|word| word.text.as_str()).collect();
        parse_words(&words);
    }
}

fn parse_words(words: &[&str]) {
    let mut walk = PartialCommand::default();
    let walked = words.iter().position(|word| {
        let _ = walk.expected();
        walk.take(word).is_err()
    });
    match command::parse(words) {
        Ok(_) => assert!(walked.is_none() && walk.whole().is_some()),
        Err(mistake) => {
            assert_eq!(mistake.word, walked.unwrap_or(words.len()));
            assert!(!mistake.text.is_empty());
        }
    }
}

/// Input: the type of request, and the request.
fn run_request(input: &[u8]) {
    let Some((kind, bytes)) = input.split_first() else { return };
    match kind % 6 {
        0 => assert_round_trip::<v1::WatchEventsRequest>(bytes),
        1 => assert_round_trip::<v1::SetFrontendPoolBackendWeightRequest>(bytes),
        2 => assert_round_trip::<v1::DisableBackendRequest>(bytes),
        3 => assert_round_trip::<v1::SyncLbStateRequest>(bytes),
        4 => assert_round_trip::<v1::ExplainBackendRequest>(bytes),
        _ => assert_round_trip::<v1::GetFrontendRequest>(bytes),
    }
    if let Ok(v1::OverrideMetadata { reason, lifetime }) = v1::OverrideMetadata::decode(bytes) {
        let by = maglevd::grpc::overrides::requester(
            "nobody".into(),
            Some(v1::OverrideMetadata { reason, lifetime }),
        );
        assert!(by.is_ok() || lifetime.is_some());
    }
    if let Ok(request) = v1::WatchEventsRequest::decode(bytes) {
        let choice = maglevd::grpc::event_stream::EventFilter::try_from(&request);
        assert!(choice.is_ok() || !request.kinds.is_empty());
    }
}

fn assert_round_trip<M: Message + Debug + Default + PartialEq>(bytes: &[u8]) {
    let Ok(message) = M::decode(bytes) else { return };
    assert_eq!(M::decode(message.encode_to_vec().as_slice()).expect("what was written is read"), message);
}

fn seeds() -> Vec<Vec<u8>> {
    let lines = "show frontends web\nset backend nginx0 disable reason \"disk swap\" for 2h30m\n\
        set frontend web pool primary backend nginx0 weight 10\nsh ba\n\
        watch events level debug kinds log,backend # all\nexplain backend 'nginx 0'\nconfig check\nsync vpp lb state";
    lines.lines().map(|line| line.as_bytes().to_vec()).collect()
}

fn request_seeds() -> Vec<Vec<u8>> {
    let metadata =
        v1::OverrideMetadata { reason: "disk".into(), lifetime: Duration::from_secs(7200).try_into().ok() };
    let watch = v1::WatchEventsRequest { kinds: vec![1, 2, 3], log_level: 2 };
    let named = v1::DisableBackendRequest { name: "nginx0".into(), metadata: Some(metadata.clone()) };
    vec![
        [&[0][..], &watch.encode_to_vec()].concat(),
        [&[2][..], &named.encode_to_vec()].concat(),
        [&[5][..], &metadata.encode_to_vec()].concat(),
    ]
}
