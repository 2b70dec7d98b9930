//! Runtimes, and threads of tasks with a runtime of their own, which the tasks of no other thread delay.

use std::io;
use std::thread;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

/// Time for which an idle thread stays.
const FOREVER: Duration = Duration::from_secs(365 * 86_400);

/// Builds a runtime with at most `blocking_threads` further threads for work that blocks, one of which always exists: without memory
/// for another, work waits for it. Without any, tokio would panic.
///
/// # Errors
/// The system has no thread or no descriptor left.
pub fn build_runtime(builder: &mut Builder, blocking_threads: usize) -> io::Result<Runtime> {
    let runtime =
        builder.max_blocking_threads(blocking_threads).thread_keep_alive(FOREVER).enable_all().build()?;
    drop(runtime.spawn_blocking(|| ()));
    Ok(runtime)
}

/// Running thread.
#[derive(Debug)]
pub struct TaskThread(oneshot::Receiver<()>);

impl TaskThread {
    /// Starts a thread for the tasks that `begin` spawns, with at most `blocking_threads` further threads for work that blocks.
    /// Returns `begin`'s result.
    ///
    /// # Errors
    /// The system has no thread or no descriptor left.
    pub fn start<T>(
        name: &str,
        blocking_threads: usize,
        begin: impl FnOnce(&mut JoinSet<()>) -> T,
    ) -> anyhow::Result<(T, Self)> {
        let runtime = build_runtime(&mut Builder::new_current_thread(), blocking_threads)?;
        let mut tasks = JoinSet::new();
        let begun = {
            let _entered = runtime.enter();
            begin(&mut tasks)
        };
        let (ended, end) = oneshot::channel();
        thread::Builder::new().name(name.into()).spawn(move || {
            runtime.block_on(async { while tasks.join_next().await.is_some() {} });
            runtime.shutdown_timeout(Duration::ZERO);
            // The receiver has stopped waiting.
            let _ = ended.send(());
        })?;
        Ok((begun, Self(end)))
    }

    /// Completes when every task has ended.
    pub async fn join(self) {
        // A thread that panicked has ended, too.
        let _ = self.0.await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use tokio::task::spawn_blocking;

    use super::*;

    /// The starting thread blocks meanwhile, as busy workers of another runtime would.
    #[test]
    fn tasks_and_blocking_work_have_threads_of_their_own() {
        let (sender, names) = mpsc::channel();
        let work = async move {
            let own = thread::current().name().map(str::to_owned);
            let blocking = spawn_blocking(|| thread::current().id()).await.unwrap();
            sender.send((own, blocking != thread::current().id())).unwrap();
        };
        let ((), running) = TaskThread::start("operators", 1, |tasks| _ = tasks.spawn(work)).unwrap();
        assert_eq!(names.recv().unwrap(), (Some("operators".to_owned()), true));
        Builder::new_current_thread().build().unwrap().block_on(running.join());
    }
}
