//! Protocol state of messages from the prober, in the order that [`ToController`] defines, and their translation to
//! inputs of the core.

use maglev_core::state::Input;
use maglev_ipc::message::MAX_BATCH;
use maglev_ipc::outcome::{MAX_DETAIL, sanitize};
use maglev_ipc::{CertificateExpiry, Outcome, ToController, VERSION, VerdictHistory};
use tracing::info;

use super::LinkError;

/// Maximum length of a shown release name, in bytes.
const MAX_RELEASE_LEN: usize = 64;

/// End of the year 9999, in seconds since the Unix epoch: the latest time in the API and in certificates.
const MAX_TIME: u64 = 253_402_300_799;

/// Protocol state of a link.
#[derive(Debug, Default)]
pub struct ProberProtocol {
    is_identified: bool,
}

impl ProberProtocol {
    /// Returns true once the prober has identified itself.
    #[must_use]
    pub const fn is_identified(&self) -> bool {
        self.is_identified
    }

    /// Checks a message, and appends the core's inputs to `inputs`.
    ///
    /// # Errors
    /// The message violates the protocol.
    pub fn take(&mut self, message: ToController, inputs: &mut Vec<Input>) -> Result<(), LinkError> {
        match message {
            ToController::Hello { version: VERSION, release, instance } if !self.is_identified => {
                let release = sanitize(&release, MAX_RELEASE_LEN);
                info!(event = %"prober", %release, instance, "prober connected");
                self.is_identified = true;
                inputs.push(Input::ProberUp);
            }
            ToController::Hello { version: theirs, release, .. } if theirs != VERSION => {
                return Err(LinkError::Version { theirs, release: sanitize(&release, MAX_RELEASE_LEN) });
            }
            ToController::Hello { .. } => return Err(LinkError::Protocol("second Hello")),
            _ if !self.is_identified => return Err(LinkError::Protocol("no Hello")),
            ToController::Rejected { id, reason: why } => {
                inputs.push(Input::CheckRejected(id, sanitize(&why.to_string(), MAX_DETAIL)));
            }
            ToController::Histories(streaks) => {
                check_batch(&streaks)?;
                let sanitized = streaks
                    .into_iter()
                    .map(|streak| VerdictHistory { last: sanitized(streak.last), ..streak });
                inputs.push(Input::Histories(sanitized.collect()));
            }
            ToController::Committed { generation } => inputs.push(Input::Committed(generation)),
            ToController::Outcomes(outcomes) => {
                check_batch(&outcomes)?;
                inputs.push(Input::Outcomes(outcomes.into_iter().map(sanitized).collect()));
            }
            ToController::Heartbeat(stats) => inputs.push(Input::ProberStats(stats)),
        }
        Ok(())
    }
}

/// Checks the size of a batch.
fn check_batch<T>(batch: &[T]) -> Result<(), LinkError> {
    if batch.len() > MAX_BATCH { Err(LinkError::Protocol("batch too large")) } else { Ok(()) }
}

/// Sanitizes the text and bounds the time of an outcome. Most have no text, and are not copied.
fn sanitized(outcome: Outcome) -> Outcome {
    let not_after = outcome
        .not_after
        .map(|at| CertificateExpiry { leaf: at.leaf.min(MAX_TIME), chain: at.chain.min(MAX_TIME) });
    Outcome { detail: outcome.detail.sanitized(), not_after, ..outcome }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use maglev_ipc::{CheckId, OutcomeCode, OutcomeDetail, RejectReason};

    use super::*;

    fn hello() -> ToController {
        ToController::Hello { version: VERSION, release: "0.1".into(), instance: 1 }
    }

    fn outcome(text: &str) -> Outcome {
        let (check, duration, detail) =
            (CheckId(1), Duration::ZERO, OutcomeDetail::Text(text.to_owned().into()));
        Outcome {
            check,
            seq: 1,
            started: 0,
            duration,
            code: OutcomeCode::L4Con,
            detail,
            timeout: None,
            not_after: None,
            has_no_route: false,
        }
    }

    fn received(message: ToController) -> Result<Vec<Input>, LinkError> {
        let (mut inbound, mut inputs) = (ProberProtocol::default(), Vec::new());
        inbound.take(hello(), &mut Vec::new())?;
        inbound.take(message, &mut inputs)?;
        Ok(inputs)
    }

    #[test]
    fn certificate_expiry_is_bounded() {
        let expiry = |at| Some(CertificateExpiry { leaf: at, chain: at });
        let last = Outcome { not_after: expiry(u64::MAX), ..outcome("") };
        let inputs = received(ToController::Outcomes(vec![last])).unwrap();
        assert!(
            matches!(&inputs[..], [Input::Outcomes(outcomes)] if outcomes[0].not_after == expiry(MAX_TIME)),
            "{inputs:?}"
        );
    }

    #[test]
    fn hello_comes_first_and_once() {
        let mut inbound = ProberProtocol::default();
        let heartbeat = ToController::Heartbeat(maglev_ipc::ProberStats::default());
        assert!(matches!(inbound.take(heartbeat.clone(), &mut Vec::new()), Err(LinkError::Protocol(_))));
        inbound.take(hello(), &mut Vec::new()).unwrap();
        inbound.take(heartbeat, &mut Vec::new()).unwrap();
        assert!(matches!(inbound.take(hello(), &mut Vec::new()), Err(LinkError::Protocol(_))));
    }

    #[test]
    fn prober_text_is_sanitized_and_bounded() {
        let wild = "\u{1b}[2J\n".repeat(1000);
        let why = RejectReason::Invalid(wild.clone());
        let said = [
            ToController::Outcomes(vec![outcome(&wild)]),
            ToController::Histories(vec![VerdictHistory { last: outcome(&wild), bits: 0, len: 1 }]),
            ToController::Rejected { id: CheckId(1), reason: why },
        ];
        for message in said {
            for input in received(message).unwrap() {
                let text = match &input {
                    Input::Outcomes(outcomes) => outcomes[0].detail.to_string(),
                    Input::Histories(streaks) => streaks[0].last.detail.to_string(),
                    Input::CheckRejected(_, why) => why.clone(),
                    other => panic!("{other:?}"),
                };
                assert!(text.len() <= MAX_DETAIL && text.starts_with("?[2J?"), "{text:?}");
            }
        }
    }

    #[test]
    fn batch_size_is_bounded() {
        received(ToController::Outcomes(vec![outcome(""); MAX_BATCH])).unwrap();
        for message in [
            ToController::Outcomes(vec![outcome(""); MAX_BATCH + 1]),
            ToController::Histories(vec![
                VerdictHistory { last: outcome(""), bits: 0, len: 1 };
                MAX_BATCH + 1
            ]),
        ] {
            assert!(matches!(received(message), Err(LinkError::Protocol(_))));
        }
    }
}
