//! Pauses between two connections to VPP.

use std::time::Duration;

use crate::retry::RetryState;

/// Duration of a session that is worth noting if several in a row are shorter.
const SHORT_SESSION: Duration = Duration::from_secs(30);

/// Number of short sessions in a row that make VPP unstable.
const MANY_SESSIONS: u32 = 3;

/// Pause before the next connection to an unstable VPP, as each one fills it again.
const UNSTABLE_PAUSE: Duration = Duration::from_secs(5);

/// Failed connections and short sessions.
#[derive(Debug, Default)]
pub(super) struct ReconnectState {
    /// Backoff of failed connections.
    pub retry: RetryState,
    short_sessions: u32,
}

impl ReconnectState {
    /// Records the end of a session. Returns the number of short ones in a row if they make VPP unstable.
    pub fn ended(&mut self, lasted: Duration) -> Option<u32> {
        self.retry.reset();
        self.short_sessions = if lasted < SHORT_SESSION { self.short_sessions.saturating_add(1) } else { 0 };
        self.is_unstable().then_some(self.short_sessions)
    }

    /// Returns the pause before the next connection.
    pub fn pause(&mut self) -> Duration {
        let pause = self.retry.pause();
        if self.is_unstable() { pause.max(UNSTABLE_PAUSE) } else { pause }
    }

    const fn is_unstable(&self) -> bool {
        self.short_sessions >= MANY_SESSIONS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(29_999);
    const LONG: Duration = Duration::from_secs(30);

    /// Returns the verdict about a session of that length, and the pause after it in milliseconds.
    fn after(reconnect: &mut ReconnectState, lasted: Duration) -> (Option<u32>, u128) {
        (reconnect.ended(lasted), reconnect.pause().as_millis())
    }

    #[test]
    fn vpp_is_unstable_after_short_sessions() {
        let mut reconnect = ReconnectState::default();
        let verdicts = [SHORT, SHORT, SHORT, SHORT].map(|lasted| after(&mut reconnect, lasted));
        assert_eq!(verdicts, [(None, 100), (None, 100), (Some(3), 5000), (Some(4), 5000)]);
    }

    #[test]
    fn long_session_makes_vpp_stable_again() {
        let mut reconnect = ReconnectState::default();
        let lasted = [SHORT, SHORT, LONG, SHORT, SHORT, SHORT, LONG];
        let verdicts = lasted.map(|lasted| after(&mut reconnect, lasted).0);
        assert_eq!(verdicts, [None, None, None, None, None, Some(3), None]);
        assert_eq!(reconnect.pause(), Duration::from_millis(200), "the second since the last session");
    }

    #[test]
    fn absent_vpp_stays_unstable() {
        let mut reconnect = ReconnectState::default();
        for _ in 0..MANY_SESSIONS {
            reconnect.ended(SHORT);
        }
        assert_eq!([reconnect.pause(), reconnect.pause()], [UNSTABLE_PAUSE; 2]);
    }
}
