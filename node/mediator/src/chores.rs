//! Rounds of unfinished work: undelivered statements, abandoned segments, migrations, due releases.

use std::sync::Arc;
use std::time::Duration;

use fincrypt_accounts::releases::Releases;
use fincrypt_net::Sessions;
use tokio::sync::watch;
use tokio::time::Instant;

use super::context::Context;
use super::error::blocking;
use super::holder_lists::HolderLists;
use super::migration_in::MigrationIn;
use super::outbox::Outbox;
use super::stores::SegmentStore;
use super::upload::Uploads;

/// Between rounds.
const CHORES: Duration = Duration::from_secs(10);
/// Time between removals of released segments, at most.
const REMOVAL: Duration = Duration::from_secs(3600);

/// The services with unfinished work.
pub(crate) struct Chores {
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) uploads: Uploads,
    pub(crate) outbox: Outbox,
    pub(crate) holder_lists: HolderLists,
    pub(crate) migration_in: MigrationIn,
    pub(crate) releases: Arc<Releases>,
    pub(crate) segments: SegmentStore,
    pub(crate) context: Context,
}

impl Chores {
    /// Goes round until told to stop.
    pub(crate) async fn run(self, mut stop: watch::Receiver<bool>) {
        let mut tick = tokio::time::interval(CHORES);
        let mut removal = Instant::now();
        loop {
            tokio::select! {
                _ = stop.changed() => return,
                _ = tick.tick() => {
                    self.uploads.close_abandoned(|owner| self.sessions.account(owner).is_some()).await;
                    self.outbox.deliver_round().await;
                    self.migration_in.resume_all();
                    self.holder_lists.flush(None).await;
                    if removal <= Instant::now() {
                        self.uploads.sweep_announced().await;
                        removal = Instant::now() + self.carry_out_releases().await;
                    }
                }
            }
        }
    }

    /// Removes the segments of due releases; the time until the next removal.
    async fn carry_out_releases(&self) -> Duration {
        let (releases, segments) = (Arc::clone(&self.releases), self.segments.clone());
        let now = self.context.now();
        let next = match blocking(move || releases.carry_out(now, &segments)).await {
            Ok(done) => done.next,
            Err(error) => {
                tracing::error!(%error, "due_releases_not_carried_out");
                None
            }
        };
        next.map_or(REMOVAL, |next| next.since(self.context.now()).min(REMOVAL))
    }
}
