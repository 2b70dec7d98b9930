//! Encoding and decoding of messages, with bincode.

use bincode::Options;
use maglev_ipc::message::MAX_MESSAGE;
use serde::{Serialize, de::DeserializeOwned};

/// A message that is too large, or malformed bytes.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Larger than [`MAX_MESSAGE`].
    #[error("message of {0} bytes exceeds the limit of {MAX_MESSAGE}")]
    TooLarge(usize),
    /// bincode's error.
    #[error(transparent)]
    Codec(#[from] bincode::Error),
}

/// Encodes `message`.
///
/// # Errors
/// The encoded message exceeds [`MAX_MESSAGE`].
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, Error> {
    let bytes = options().serialize(message)?;
    if bytes.len() > MAX_MESSAGE { Err(Error::TooLarge(bytes.len())) } else { Ok(bytes) }
}

/// Returns the encoded size of `part`, and `usize::MAX` if it exceeds every message.
pub(crate) fn encoded_size<T: Serialize>(part: &T) -> usize {
    options().serialized_size(part).map_or(usize::MAX, |size| usize::try_from(size).unwrap_or(usize::MAX))
}

/// Decodes `bytes`, which must hold exactly one message. A forged length costs little memory: serde allocates at most 1 MiB
/// before it has read the elements.
///
/// # Errors
/// The bytes are malformed, or exceed [`MAX_MESSAGE`].
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    if bytes.len() > MAX_MESSAGE {
        return Err(Error::TooLarge(bytes.len()));
    }
    Ok(options().deserialize(bytes)?)
}

fn options() -> impl Options {
    bincode::DefaultOptions::new().with_limit(MAX_MESSAGE as u64).reject_trailing_bytes()
}

#[cfg(test)]
pub(crate) mod tests {
    use std::num::NonZeroU32;
    use std::time::Duration;

    use maglev_ipc::check::{MAX_BUNDLE, MAX_CODE_RANGES, MAX_NAME, MAX_PATH, MAX_REGEXP};
    use maglev_ipc::message::MAX_BATCH;
    use maglev_ipc::outcome::MAX_DETAIL;
    use maglev_ipc::{
        CertificateExpiry, Check, CheckId, HttpCheck, Outcome, OutcomeCode, ProbeKind, ProbeTimeout,
        Schedule, TlsHandshake, TlsVerify, ToController, ToProber, VerdictHistory,
    };

    use proptest::prelude::*;

    use super::*;

    fn largest_outcome() -> Outcome {
        Outcome {
            check: CheckId(u32::MAX),
            seq: u64::MAX,
            started: u64::MAX,
            duration: Duration::MAX,
            code: OutcomeCode::Local,
            detail: "x".repeat(MAX_DETAIL).into(),
            timeout: Some(Duration::MAX),
            has_no_route: false,
            not_after: Some(CertificateExpiry { leaf: u64::MAX, chain: u64::MAX }),
        }
    }

    #[test]
    fn full_batches_fit() {
        let outcomes = ToController::Outcomes(vec![largest_outcome(); MAX_BATCH]);
        let history = VerdictHistory { last: largest_outcome(), bits: u64::MAX, len: 64 };
        let histories = ToController::Histories(vec![history; MAX_BATCH]);
        let intervals = ToProber::SetIntervals(vec![(CheckId(u32::MAX), Duration::MAX); MAX_BATCH]);
        let bundle = ToProber::Bundle { id: u32::MAX, pem: vec![b'x'; MAX_BUNDLE] };
        assert_eq!(decode::<ToController>(&encode(&outcomes).unwrap()).unwrap(), outcomes);
        assert_eq!(decode::<ToController>(&encode(&histories).unwrap()).unwrap(), histories);
        assert_eq!(decode::<ToProber>(&encode(&intervals).unwrap()).unwrap(), intervals);
        assert_eq!(decode::<ToProber>(&encode(&bundle).unwrap()).unwrap(), bundle);
    }

    pub(crate) fn largest_check(id: u32) -> (CheckId, Schedule, Check) {
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
    fn oversized_message_is_refused_by_both_ends() {
        let pem = vec![0; MAX_MESSAGE + 1];
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
    fn forged_length_is_refused() {
        // Bundle { id: 0, pem: <claims 2^63 bytes> }
        assert!(decode::<ToProber>(&[2, 0, 253, 0, 0, 0, 0, 0, 0, 0, 128]).is_err());
        // Checks(<claims 2^32 elements>)
        assert!(decode::<ToProber>(&[5, 253, 0, 0, 0, 0, 1, 0, 0, 0]).is_err());
        // Outcomes(<claims 2^32 elements>)
        assert!(decode::<ToController>(&[4, 253, 0, 0, 0, 0, 1, 0, 0, 0]).is_err());
    }

    #[test]
    fn hello_encoding_is_fixed() {
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
        fn corrupted_messages_never_panic(at in 0usize..400, to in any::<u8>(), cut in 0usize..400) {
            let mut bytes = encode(&ToController::Outcomes(vec![largest_outcome(); 2])).unwrap();
            let at = at % bytes.len();
            bytes[at] = to;
            bytes.truncate(cut.max(1));
            let _ = decode::<ToController>(&bytes);
        }
    }
}
