//! Work that one caller does for all who wait for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use tokio::sync::Mutex;

/// Work of one kind that runs at most once at a time.
///
/// Its result goes to all callers who asked before it began, so each receives a result no older than its request. Of many
/// concurrent callers, some wait for the present run, and the others share the next.
#[derive(Debug)]
pub struct CoalescedWork<T>(Arc<SharedWork<T>>);

#[derive(Debug)]
struct SharedWork<T> {
    /// Number of requests so far.
    requests: AtomicU64,
    /// Number of callers that may want the last result.
    waiting: AtomicUsize,
    /// Result of the last run, with the number of requests before it began.
    last: Arc<Mutex<Option<(u64, T)>>>,
}

/// Waiting caller. The last one to leave frees the result.
struct WaitingCaller<T>(Arc<SharedWork<T>>);

impl<T> Default for CoalescedWork<T> {
    fn default() -> Self {
        let (requests, waiting, last) = Default::default();
        Self(Arc::new(SharedWork { requests, waiting, last }))
    }
}

impl<T: Clone + Send + 'static> CoalescedWork<T> {
    /// Returns the result of a run of `work` that begins after this call; `None` if the runtime shuts down. A run goes on
    /// after its caller has gone.
    pub async fn run<F>(&self, work: impl FnOnce() -> F) -> Option<T>
    where
        F: Future<Output = T> + Send + 'static,
    {
        let shared = &self.0;
        shared.waiting.fetch_add(1, Ordering::SeqCst);
        let _waiting = WaitingCaller(Arc::clone(shared));
        let request = shared.requests.fetch_add(1, Ordering::SeqCst);
        let mut last = Arc::clone(&shared.last).lock_owned().await;
        if let Some((covered, result)) = &*last
            && *covered > request
        {
            return Some(result.clone());
        }
        let covered = shared.requests.load(Ordering::SeqCst);
        let work = work();
        let run = tokio::spawn(async move {
            let result = work.await;
            *last = Some((covered, result.clone()));
            result
        });
        run.await.ok()
    }
}

impl<T> Drop for WaitingCaller<T> {
    fn drop(&mut self) {
        if self.0.waiting.fetch_sub(1, Ordering::SeqCst) == 1
            && let Ok(mut last) = self.0.last.try_lock()
        {
            *last = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::Semaphore;
    use tokio::task::yield_now;

    use super::*;

    struct Scene {
        work: Arc<CoalescedWork<usize>>,
        runs: Arc<AtomicUsize>,
        gate: Arc<Semaphore>,
    }

    impl Scene {
        fn new() -> Self {
            Self { work: Arc::default(), runs: Arc::default(), gate: Arc::new(Semaphore::new(0)) }
        }

        /// Starts a caller whose run ends when the gate lets it pass. The result is the number of the run.
        async fn caller(&self) -> tokio::task::JoinHandle<Option<usize>> {
            let (work, runs, gate) = (self.work.clone(), self.runs.clone(), self.gate.clone());
            let caller = tokio::spawn(async move {
                work.run(|| async move {
                    let run = runs.fetch_add(1, Ordering::SeqCst) + 1;
                    gate.acquire().await.unwrap().forget();
                    run
                })
                .await
            });
            for _ in 0..4 {
                yield_now().await;
            }
            caller
        }
    }

    #[tokio::test]
    async fn callers_during_a_run_share_the_next() {
        let scene = Scene::new();
        let first = scene.caller().await;
        let mut others = Vec::new();
        for _ in 0..100 {
            others.push(scene.caller().await);
        }
        scene.gate.add_permits(2);
        assert_eq!(first.await.unwrap(), Some(1));
        for other in others {
            assert_eq!(other.await.unwrap(), Some(2));
        }
        assert!(scene.work.0.last.lock().await.is_none(), "nothing is kept");
    }

    #[tokio::test]
    async fn abandoned_run_still_holds_its_place() {
        let scene = Scene::new();
        for _ in 0..100 {
            let caller = scene.caller().await;
            caller.abort();
            assert!(caller.await.unwrap_err().is_cancelled());
        }
        assert_eq!(scene.runs.load(Ordering::SeqCst), 1);
        scene.gate.add_permits(2);
        assert_eq!(scene.caller().await.await.unwrap(), Some(2));
    }
}
