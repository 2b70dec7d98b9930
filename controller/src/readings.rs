//! Readings of VPP for clients, shared and within a budget: each reading stops VPP's workers.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use maglev_core::dataplane::ActualState;
use maglev_core::state::VppReads;
use maglev_time::TokenBucket;
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard, oneshot};
use tokio::time::Instant;

use crate::published::VppReading;

/// Tokens per second: microseconds of VPP's time, so 1 % of it.
const BUDGET_RATE: u32 = 10_000;

/// Time in which an unused budget fills: it holds one second of VPP's time.
const BUDGET_PERIOD: Duration = Duration::from_secs(100);

/// Tokens that shared readings leave to those that must be fresh: half of a full budget.
const FRESH_RESERVE: u64 = 500_000;

/// Maximum age of a reading that is shared while the budget has room for another.
const SHARED_AGE: Duration = Duration::from_secs(1);

/// Demand on the age of a reading.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ReadingFreshness {
    /// The newest reading; another if it is old, and the budget has room.
    Shared,
    /// A reading that begins after the request if the budget has room, even its reserve.
    Preferred,
    /// A reading that begins after the request.
    Required,
}

impl ReadingFreshness {
    /// Number of demands.
    pub const COUNT: usize = 3;
}

/// Budget of VPP's time for readings.
///
/// The readings of clients may exceed it once, and then wait. Those of the reconciler are only counted: they take what
/// is there, and never wait.
#[derive(Debug)]
pub struct ReadingBudget {
    origin: Instant,
    bucket: Mutex<TokenBucket>,
}

impl Default for ReadingBudget {
    fn default() -> Self {
        let bucket = TokenBucket::new(BUDGET_RATE, BUDGET_PERIOD, Duration::ZERO);
        Self { origin: Instant::now(), bucket: Mutex::new(bucket) }
    }
}

impl ReadingBudget {
    /// Charges a client's reading, which took this much of VPP's time.
    pub fn charge_client(&self, took: Duration) {
        self.with(|bucket, _| bucket.charge(tokens(took)));
    }

    /// Charges a reading of the reconciler, without a debt.
    pub fn charge_reconciler(&self, took: Duration) {
        self.with(|bucket, now| {
            let available = bucket.balance_at(now);
            bucket.charge(tokens(took).min(available));
        });
    }

    /// Reports whether a client may read VPP now and leave `reserve` tokens.
    fn admits(&self, reserve: u64) -> bool {
        self.with(|bucket, now| bucket.balance_at(now) > reserve)
    }

    fn with<T>(&self, use_bucket: impl FnOnce(&mut TokenBucket, Duration) -> T) -> T {
        // Ignores poisoning: no holder leaves a partial update.
        let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        use_bucket(&mut bucket, self.origin.elapsed())
    }
}

fn tokens(took: Duration) -> u64 {
    u64::try_from(took.as_micros()).unwrap_or(u64::MAX)
}

/// Failure to read VPP for a client.
#[derive(Clone, Copy, Debug, thiserror::Error)]
pub enum ReadingError {
    /// VPP is not connected, or was lost.
    #[error("VPP is not connected")]
    NotConnected,
    /// The budget has no room for a fresh reading.
    #[error("readings have used their 1% of VPP's time: retry later, or accept a shared reading")]
    BudgetExhausted,
}

/// Reading with its time.
#[derive(Debug)]
pub struct SharedReading {
    began: Instant,
    /// Number of the core's reads before.
    reads: VppReads,
    /// State that the core had observed before.
    observed: Option<Arc<ActualState>>,
    reading: VppReading,
}

impl SharedReading {
    /// Returns the age.
    #[must_use]
    pub fn age(&self) -> Duration {
        self.began.elapsed()
    }

    /// Returns the reading.
    #[must_use]
    pub const fn reading(&self) -> &VppReading {
        &self.reading
    }

    /// Returns VPP's state as read, with the changes that the core has observed since.
    #[must_use]
    pub fn actual(&self, observed: Option<&ActualState>) -> ActualState {
        let mut actual = self.reading.actual.clone();
        if let (Some(before), Some(now)) = (&self.observed, observed) {
            actual.apply_changes(before, now);
        }
        actual
    }
}

/// Newest reading; the lock serializes readings.
#[derive(Clone, Debug, Default)]
pub struct VppReadings {
    newest: Arc<AsyncMutex<Option<Arc<SharedReading>>>>,
    budget: Arc<ReadingBudget>,
}

/// Turn to read VPP, or to take the newest reading. Dropping it admits the next caller.
#[derive(Debug)]
pub struct ReadingTurn {
    asked: Instant,
    newest: OwnedMutexGuard<Option<Arc<SharedReading>>>,
    budget: Arc<ReadingBudget>,
}

impl VppReadings {
    /// Returns the budget.
    #[must_use]
    pub const fn budget(&self) -> &Arc<ReadingBudget> {
        &self.budget
    }

    /// Waits for the turn of this caller.
    pub async fn turn(&self) -> ReadingTurn {
        let asked = Instant::now();
        let newest = Arc::clone(&self.newest).lock_owned().await;
        ReadingTurn { asked, newest, budget: Arc::clone(&self.budget) }
    }
}

impl ReadingTurn {
    /// Returns the newest reading if it is of this connection, and as fresh as demanded; `None` if VPP must be read.
    ///
    /// # Errors
    /// [`ReadingError::BudgetExhausted`].
    pub fn find(
        &self,
        freshness: ReadingFreshness,
        reads: VppReads,
    ) -> Result<Option<Arc<SharedReading>>, ReadingError> {
        // The core reads all on each connection. Older readings are then void, and one is due at any cost.
        let Some(newest) = self.newest.as_ref().filter(|newest| newest.reads.full == reads.full) else {
            return Ok(None);
        };
        let is_old = newest.age() >= SHARED_AGE || newest.reads != reads;
        let is_due = match freshness {
            _ if newest.began > self.asked => false,
            ReadingFreshness::Shared => is_old && self.budget.admits(FRESH_RESERVE),
            ReadingFreshness::Preferred => self.budget.admits(0),
            ReadingFreshness::Required if self.budget.admits(0) => true,
            ReadingFreshness::Required => return Err(ReadingError::BudgetExhausted),
        };
        Ok((!is_due).then(|| Arc::clone(newest)))
    }

    /// Awaits a reading that was requested at `began`, and stores it. The turn lasts as long as the reading, even if the
    /// caller has gone.
    ///
    /// # Errors
    /// [`ReadingError::NotConnected`].
    pub async fn complete(
        mut self,
        began: Instant,
        reads: VppReads,
        observed: Option<Arc<ActualState>>,
        reading: oneshot::Receiver<VppReading>,
    ) -> Result<Arc<SharedReading>, ReadingError> {
        let read = tokio::spawn(async move {
            let reading = reading.await.map_err(|_| ReadingError::NotConnected)?;
            let shared = Arc::new(SharedReading { began, reads, observed, reading });
            *self.newest = Some(Arc::clone(&shared));
            Ok(shared)
        });
        // Joining fails only when the runtime shuts down.
        read.await.unwrap_or(Err(ReadingError::NotConnected))
    }
}

#[cfg(test)]
mod tests;
