//! Checks in as few messages as hold them.

use maglev_ipc::message::{MAX_BATCH, MAX_MESSAGE};
use maglev_ipc::{Check, CheckId, Schedule, ToProber};

use crate::codec;

/// Encoded size of a message of checks without its checks: the variant and the length, both below 251.
const OVERHEAD: usize = 2;

/// Packs `checks` into `Checks` messages, in order, each as full as the bounds allow. Each further message costs both ends
/// an iteration of their loops.
///
/// A check that exceeds a message by itself is alone in one, which the codec then refuses.
pub fn batch_checks(
    checks: impl IntoIterator<Item = (CheckId, Schedule, Check)>,
) -> impl Iterator<Item = ToProber> {
    let mut checks = checks.into_iter().peekable();
    std::iter::from_fn(move || {
        let (mut batch, mut size) = (Vec::new(), OVERHEAD);
        while batch.len() < MAX_BATCH
            && let Some(check) = checks.next_if(|check| {
                size = size.saturating_add(codec::encoded_size(check));
                batch.is_empty() || size <= MAX_MESSAGE
            })
        {
            batch.push(check);
        }
        (!batch.is_empty()).then_some(ToProber::Checks(batch))
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use maglev_ipc::{ConnectMode, ProbeKind, ProbeTimeout};

    use super::*;
    use crate::codec::tests::largest_check;
    use crate::codec::{decode, encode};

    fn small_check(id: u32) -> (CheckId, Schedule, Check) {
        let second = Duration::from_secs(1);
        let check = Check {
            target: [192, 0, 2, 1].into(),
            source: None,
            timeout: ProbeTimeout::Fixed(second),
            fast_interval: second,
            probe: ProbeKind::Tcp { port: 80, mode: ConnectMode::Full, tls: None },
        };
        (CheckId(id), second.into(), check)
    }

    #[test]
    fn batches_are_as_full_as_allowed() {
        let id = |n| u32::MAX - n;
        let small: Vec<_> = (0..450).map(|n| small_check(id(n))).collect();
        let large: Vec<_> = (0..450).map(|n| largest_check(id(n))).collect();
        // A few large ones among small ones.
        let mixed: Vec<_> =
            (0..450).map(|n| if n % 9 == 0 { largest_check(id(n)) } else { small_check(id(n)) }).collect();
        for checks in [vec![], small, large, mixed] {
            let messages = batch_checks(checks.clone());
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
    fn oversized_check_is_alone_and_refused() {
        let mut oversized = largest_check(1);
        if let ProbeKind::Http { http, .. } = &mut oversized.2.probe {
            http.path = "x".repeat(MAX_MESSAGE);
        }
        let messages = batch_checks([small_check(0), oversized, small_check(2)]);
        let sent: Vec<_> = messages.map(|message| encode(&message).is_ok()).collect();
        assert_eq!(sent, [true, false, true]);
    }
}
