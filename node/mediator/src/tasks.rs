//! Background tasks that requests start, owned by the role and awaited when it ends.

use parking_lot::{Mutex, MutexGuard};

use tokio::task::JoinSet;

/// A set of tasks that can be ended as a whole. None is started after that.
pub(crate) struct Tasks(Mutex<Option<JoinSet<()>>>);

impl Default for Tasks {
    fn default() -> Self {
        Self(Mutex::new(Some(JoinSet::new())))
    }
}

impl Tasks {
    fn lock(&self) -> MutexGuard<'_, Option<JoinSet<()>>> {
        self.0.lock()
    }

    /// Starts a task, unless the set has ended: whatever a task does is durable or done again after a
    /// restart.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        if let Some(tasks) = self.lock().as_mut() {
            while tasks.try_join_next().is_some() {}
            tasks.spawn(task);
        }
    }

    /// Cancels all tasks at their next await point, and waits until the last has ended.
    pub(crate) async fn end(&self) {
        let tasks = self.lock().take();
        if let Some(mut tasks) = tasks {
            tasks.shutdown().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn ended_tasks_are_gone_and_no_further_one_starts() {
        let (tasks, alive) = (Tasks::default(), Arc::new(()));
        for _ in 0..3 {
            let alive = Arc::clone(&alive);
            tasks.spawn(async move {
                std::future::pending::<()>().await;
                drop(alive);
            });
        }
        assert_eq!(Arc::strong_count(&alive), 4);
        tasks.end().await;
        assert_eq!(Arc::strong_count(&alive), 1);
        let held = Arc::clone(&alive);
        tasks.spawn(async move { drop(held) });
        assert_eq!(Arc::strong_count(&alive), 1);
        tasks.end().await;
    }
}
