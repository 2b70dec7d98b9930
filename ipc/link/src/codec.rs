//! Bytes from messages and back. bincode is known here only.

use bincode::Options;
use serde::{Serialize, de::DeserializeOwned};

/// The largest message in bytes. One message is one packet of the socket.
pub const MAX: usize = 64 * 1024;

/// A message that does not fit, or bytes that are no message.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// More than [`MAX`] bytes.
    #[error("{0} bytes are more than a message may hold")]
    TooLarge(usize),
    /// bincode's own words.
    #[error(transparent)]
    Codec(#[from] bincode::Error),
}

/// The bytes of `message`.
///
/// # Errors
/// The message is larger than [`MAX`].
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, Error> {
    let bytes = options().serialize(message)?;
    if bytes.len() > MAX { Err(Error::TooLarge(bytes.len())) } else { Ok(bytes) }
}

/// How many bytes `part` takes in a message.
pub(crate) fn size<T: Serialize>(part: &T) -> usize {
    // An error is one that no message holds.
    options().serialized_size(part).map_or(usize::MAX, |size| usize::try_from(size).unwrap_or(usize::MAX))
}

/// The message in `bytes`, which must hold it and nothing else. However long the sequences that the bytes claim to
/// hold, serde sets aside at most 1 MiB ahead of what it has read.
///
/// # Errors
/// The bytes are no such message, or more than [`MAX`].
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    if bytes.len() > MAX {
        return Err(Error::TooLarge(bytes.len()));
    }
    Ok(options().deserialize(bytes)?)
}

fn options() -> impl Options {
    bincode::DefaultOptions::new().with_limit(MAX as u64).reject_trailing_bytes()
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::check::{MAX_CODE_RANGES, MAX_NAME, MAX_PATH, MAX_REGEXP};
    use crate::message::MAX_BATCH;
    use crate::outcome::{MAX_DETAIL, VerdictHistory};
    use crate::{
        Check, CheckId, ConnectMode, HttpCheck, Outcome, OutcomeCode, ProbeKind, ProbeTimeout, Schedule,
        TlsHandshake, TlsVerify, ToController, ToProber,
    };

    fn largest_outcome() -> Outcome {
        Outcome {
            check: CheckId(u32::MAX),
            seq: u64::MAX,
            started: u64::MAX,
            duration: Duration::MAX,
            code: OutcomeCode::Local,
            detail: "x".repeat(MAX_DETAIL).into(),
            timeout: Some(Duration::MAX),
            not_after: Some(u64::MAX),
        }
    }

    #[test]
    fn full_batches_fit() {
        let outcomes = ToController::Outcomes(vec![largest_outcome(); MAX_BATCH]);
        let streak = VerdictHistory { last: largest_outcome(), bits: u64::MAX, len: 64 };
        let streaks = ToController::Histories(vec![streak; MAX_BATCH]);
        let paces = ToProber::SetIntervals(vec![(CheckId(u32::MAX), Duration::MAX); MAX_BATCH]);
        let bundle = ToProber::Bundle { id: u32::MAX, pem: vec![b'x'; crate::check::MAX_BUNDLE] };
        assert_eq!(decode::<ToController>(&encode(&outcomes).unwrap()).unwrap(), outcomes);
        assert_eq!(decode::<ToController>(&encode(&streaks).unwrap()).unwrap(), streaks);
        assert_eq!(decode::<ToProber>(&encode(&paces).unwrap()).unwrap(), paces);
        assert_eq!(decode::<ToProber>(&encode(&bundle).unwrap()).unwrap(), bundle);
    }

    fn small_check(id: u32) -> (CheckId, Schedule, Check) {
        let (target, timeout) = ([192, 0, 2, 1].into(), ProbeTimeout::Fixed(Duration::from_secs(1)));
        let probe = ProbeKind::Tcp { port: 80, mode: ConnectMode::Full, tls: None };
        let check = Check { target, source: None, timeout, fast_interval: Duration::from_secs(1), probe };
        (CheckId(id), Duration::from_secs(1).into(), check)
    }

    fn largest_check(id: u32) -> (CheckId, Schedule, Check) {
        let target = [u16::MAX; 8].into();
        let check = Check {
            target,
            source: Some(target),
            timeout: ProbeTimeout::Auto { min: Duration::MAX, max: Duration::MAX },
            fast_interval: Duration::MAX,
            probe: ProbeKind::Http {
                port: u16::MAX,
                http: HttpCheck {
                    path: "x".repeat(MAX_PATH),
                    host: "x".repeat(MAX_NAME),
                    codes: vec![(599, 599); MAX_CODE_RANGES],
                    body: Some("x".repeat(MAX_REGEXP)),
                    keep_alive: NonZeroU32::new(u32::MAX),
                },
                tls: Some(TlsHandshake {
                    server_name: "x".repeat(MAX_NAME),
                    verify: TlsVerify::Bundle(u32::MAX),
                }),
            },
        };
        (CheckId(id), Duration::MAX.into(), check)
    }

    #[test]
    fn checks_are_packed_into_as_few_messages_as_hold_them() {
        let id = |n| u32::MAX - n;
        let small: Vec<_> = (0..450).map(|n| small_check(id(n))).collect();
        let large: Vec<_> = (0..450).map(|n| largest_check(id(n))).collect();
        // A few large ones among small ones.
        let mixed: Vec<_> =
            (0..450).map(|n| if n % 9 == 0 { largest_check(id(n)) } else { small_check(id(n)) }).collect();
        for checks in [vec![], small, large, mixed] {
            let messages = ToProber::checks(checks.clone());
            let read = messages.map(|message| decode::<ToProber>(&encode(&message).unwrap()).unwrap());
            let batches = read.map(|message| match message {
                ToProber::Checks(batch) => batch,
                other => panic!("{other:?}"),
            });
            let batches: Vec<_> = batches.collect();
            assert!(batches.iter().all(|batch| (1..=MAX_BATCH).contains(&batch.len())));
            assert_eq!(batches.concat(), checks);
            for pair in batches.windows(2) {
                let more = [&pair[0][..], &pair[1][..1]].concat();
                assert!(more.len() > MAX_BATCH || encode(&ToProber::Checks(more)).is_err());
            }
        }
    }

    #[test]
    fn a_check_that_no_message_holds_is_alone_in_one_that_is_refused() {
        let mut monster = largest_check(1);
        if let ProbeKind::Http { http, .. } = &mut monster.2.probe {
            http.path = "x".repeat(MAX);
        }
        let messages: Vec<_> = ToProber::checks([small_check(0), monster, small_check(2)]).collect();
        let sent: Vec<_> = messages.iter().map(|message| encode(message).is_ok()).collect();
        assert_eq!(sent, [true, false, true]);
    }

    #[test]
    fn a_message_beyond_the_bound_is_refused_by_both_ends() {
        let pem = vec![0; MAX + 1];
        assert!(encode(&ToProber::Bundle { id: 0, pem: pem.clone() }).is_err());
        let bytes = bincode::DefaultOptions::new().serialize(&ToProber::Bundle { id: 0, pem }).unwrap();
        assert!(decode::<ToProber>(&bytes).is_err());
    }

    #[test]
    fn trailing_bytes_are_refused() {
        let mut bytes = encode(&ToProber::Heartbeat).unwrap();
        bytes.push(0);
        assert!(decode::<ToProber>(&bytes).is_err());
    }

    #[test]
    fn a_length_that_the_bytes_do_not_hold_is_refused() {
        // Bundle { id: 0, pem: <claims 2^63 bytes> }
        assert!(decode::<ToProber>(&[2, 0, 253, 0, 0, 0, 0, 0, 0, 0, 128]).is_err());
        // Checks(<claims 2^32 elements>)
        assert!(decode::<ToProber>(&[5, 253, 0, 0, 0, 0, 1, 0, 0, 0]).is_err());
        // Outcomes(<claims 2^32 elements>)
        assert!(decode::<ToController>(&[4, 253, 0, 0, 0, 0, 1, 0, 0, 0]).is_err());
    }

    #[test]
    fn hello_keeps_its_bytes() {
        let hello = ToProber::Hello { version: 1, release: "0.1".into() };
        assert_eq!(encode(&hello).unwrap(), [0, 1, 3, b'0', b'.', b'1']);
        let hello = ToController::Hello { version: 1, release: "0.1".into(), instance: 7 };
        assert_eq!(encode(&hello).unwrap(), [0, 1, 3, b'0', b'.', b'1', 7]);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..4096)) {
            let _ = decode::<ToProber>(&bytes);
            let _ = decode::<ToController>(&bytes);
        }

        #[test]
        fn mutilated_messages_never_panic(at in 0usize..400, to in any::<u8>(), cut in 0usize..400) {
            let mut bytes = encode(&ToController::Outcomes(vec![largest_outcome(); 2])).unwrap();
            let at = at % bytes.len();
            bytes[at] = to;
            bytes.truncate(cut.max(1));
            let _ = decode::<ToController>(&bytes);
        }
    }
}
