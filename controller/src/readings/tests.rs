//! Sharing and budget of readings, with a driver that counts them.

use std::sync::atomic::{AtomicUsize, Ordering};

use maglev_core::dataplane::{ActualVip, Encap, VipKey};
use maglev_core::state::{Input, State};
use tokio::sync::Semaphore;
use tokio::time::advance;

use super::*;
use crate::fixture;
use crate::handle::{DriverRequest, Handle, HandleEnds, StateSnapshot};

/// Driver whose readings of VPP take `cost` of its time, and wait for a permit.
struct Scene {
    handle: Handle,
    budget: Arc<ReadingBudget>,
    readings: Arc<AtomicUsize>,
    gate: Arc<Semaphore>,
    full_reads: Arc<AtomicUsize>,
}

impl Scene {
    fn new(cost: Duration) -> Self {
        let (handle, HandleEnds { mut requests, reading_budget, .. }) = Handle::new();
        let (readings, full_reads) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(1)));
        let gate = Arc::new(Semaphore::new(1000));
        let scene = Self {
            handle,
            budget: reading_budget.clone(),
            readings: readings.clone(),
            gate: gate.clone(),
            full_reads: full_reads.clone(),
        };
        tokio::spawn(async move {
            while let Some(request) = requests.recv().await {
                match request {
                    DriverRequest::Snapshot(answer) => {
                        let reads = full_reads.load(Ordering::SeqCst);
                        let snapshot = Arc::new(StateSnapshot::new(state(reads), fixture::view().at));
                        drop(answer.send(snapshot));
                    }
                    DriverRequest::ReadVpp(answer) => {
                        readings.fetch_add(1, Ordering::SeqCst);
                        let (gate, budget) = (gate.clone(), reading_budget.clone());
                        tokio::spawn(async move {
                            gate.acquire().await.unwrap().forget();
                            budget.charge_client(cost);
                            drop(answer.send(VppReading {
                                actual: ActualState::default(),
                                flows: Default::default(),
                            }));
                        });
                    }
                    _ => panic!("{request:?}"),
                }
            }
        });
        scene
    }

    async fn read(&self, freshness: ReadingFreshness) -> Result<Arc<SharedReading>, ReadingError> {
        self.handle.read_vpp(freshness).await.unwrap()
    }

    fn count(&self) -> usize {
        self.readings.load(Ordering::SeqCst)
    }
}

/// Returns a state after a number of full reads.
fn state(full_reads: usize) -> State {
    let (view, mut out) = (fixture::view(), Vec::new());
    let mut state = State::new(view.config, Arc::default(), true, view.at, &mut out);
    state.handle(Input::VppUp(view.vpp.info.clone().unwrap()), view.at, &mut out);
    for _ in 0..full_reads {
        state.handle(Input::VppDown, view.at, &mut out);
        state.handle(Input::VppUp(view.vpp.info.clone().unwrap()), view.at, &mut out);
        state.handle(Input::AllRead(ActualState::default()), view.at, &mut out);
    }
    state
}

#[tokio::test(start_paused = true)]
async fn viewers_stay_within_the_budget() {
    const COST: Duration = Duration::from_millis(100);
    let scene = Scene::new(COST);
    for _ in 0..1000 {
        for _ in 0..20 {
            scene.read(ReadingFreshness::Shared).await.unwrap();
        }
        advance(SHARED_AGE).await;
    }
    // Half of a full budget at once, and then 1 % of the time.
    let all = Duration::from_millis(500) + 1000 * SHARED_AGE / 100;
    let most = usize::try_from(all.as_millis() / COST.as_millis()).unwrap() + 1;
    assert!((most - 2..=most).contains(&scene.count()), "{} of {most}", scene.count());
    // What is left serves an operator.
    scene.read(ReadingFreshness::Required).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn concurrent_viewers_share_one_reading() {
    let scene = Arc::new(Scene::new(Duration::ZERO));
    for freshness in [ReadingFreshness::Shared, ReadingFreshness::Required, ReadingFreshness::Preferred] {
        let before = scene.count();
        advance(2 * SHARED_AGE).await;
        let calls: Vec<_> = (0..100)
            .map(|_| {
                let scene = scene.clone();
                tokio::spawn(async move { scene.read(freshness).await.unwrap() })
            })
            .collect();
        for call in calls {
            call.await.unwrap();
        }
        // Time stands still, so a fresh reading never begins after its request.
        let expected = if freshness == ReadingFreshness::Shared { 1 } else { 100 };
        assert_eq!(scene.count() - before, expected, "{freshness:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn fresh_reading_is_refused_without_budget() {
    let scene = Scene::new(Duration::from_secs(2));
    assert_eq!(scene.read(ReadingFreshness::Required).await.unwrap().age(), Duration::ZERO);
    let refused = scene.read(ReadingFreshness::Required).await.unwrap_err();
    assert!(matches!(refused, ReadingError::BudgetExhausted));
    advance(Duration::from_secs(90)).await;
    for freshness in [ReadingFreshness::Shared, ReadingFreshness::Preferred] {
        assert_eq!(scene.read(freshness).await.unwrap().age(), Duration::from_secs(90));
    }
    assert_eq!(scene.count(), 1);
    advance(Duration::from_secs(11)).await;
    assert_eq!(scene.read(ReadingFreshness::Required).await.unwrap().age(), Duration::ZERO);
}

/// An hour of comparisons never shuts clients out, and another VPP is read.
#[tokio::test(start_paused = true)]
async fn reconciler_reads_void_and_cause_no_debt() {
    let scene = Scene::new(Duration::ZERO);
    scene.read(ReadingFreshness::Shared).await.unwrap();
    scene.budget.charge_reconciler(Duration::from_secs(3600));
    advance(SHARED_AGE).await;
    scene.read(ReadingFreshness::Shared).await.unwrap();
    assert_eq!(scene.count(), 1);
    scene.full_reads.fetch_add(1, Ordering::SeqCst);
    scene.read(ReadingFreshness::Shared).await.unwrap();
    assert_eq!(scene.count(), 2);
    scene.read(ReadingFreshness::Required).await.unwrap();
    assert_eq!(scene.count(), 3);
}

#[tokio::test(start_paused = true)]
async fn readings_are_serialized_after_cancellation() {
    let scene = Arc::new(Scene::new(Duration::ZERO));
    scene.gate.forget_permits(1000);
    let ask = || {
        let scene = scene.clone();
        tokio::spawn(async move { scene.read(ReadingFreshness::Required).await })
    };
    let calls = [ask(), ask(), ask()];
    advance(SHARED_AGE).await;
    // A reading continues after its caller has gone.
    calls[0].abort();
    advance(SHARED_AGE).await;
    assert_eq!(scene.count(), 1);
    scene.gate.add_permits(2);
    let [gone, second, third] = calls;
    assert!(gone.await.unwrap_err().is_cancelled());
    second.await.unwrap().unwrap();
    // The second one began after the third had asked.
    third.await.unwrap().unwrap();
    assert_eq!(scene.count(), 2);
}

#[test]
fn own_steps_since_the_reading_are_applied() {
    let vip = |port| VipKey { address: [192, 0, 2, 1].into(), prefix_len: 32, protocol: 6, port };
    let of = |ports: &[(u16, bool)]| {
        let found = |sticky| ActualVip {
            encap: Encap::Gre4,
            table_length: Some(1024),
            src_ip_sticky: Some(sticky),
            servers: Default::default(),
        };
        let vips = ports.iter().map(|(port, sticky)| (vip(*port), found(*sticky))).collect();
        ActualState { conf: None, vips }
    };
    let shared = SharedReading {
        began: Instant::now(),
        reads: VppReads { full: 1, drifts: 0 },
        observed: Some(Arc::new(of(&[(1, false), (2, false), (3, false)]))),
        reading: VppReading { actual: of(&[(1, true), (2, false), (3, false)]), flows: Default::default() },
    };
    // VIP 1 was changed by another client, 2 by us; 3 was removed, and 4 created.
    let actual = shared.actual(Some(&of(&[(1, false), (2, true), (4, true)])));
    assert_eq!(actual, of(&[(1, true), (2, true), (4, true)]));
}
