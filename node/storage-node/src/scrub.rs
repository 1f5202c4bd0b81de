//! A slow walk over all shards, which finds rot before an audit does.

use std::sync::Arc;
use std::time::Duration;

use fincrypt_shards::{Checked, Found, ShardStore, WalkPosition};
use fincrypt_state::kv::{Batch, KeyValue, KvError};
use fincrypt_state::state::State;
use fincrypt_state::table::Table;
use tokio::sync::watch;

use crate::Disk;

/// The bytes of the [`WalkPosition`] at which the walk stands. After a loss it begins again.
const WALK: Table<(), Vec<u8>> = Table::new("scrub", 160);
/// The longest pause: an empty store is looked at again after this.
const LONGEST: Duration = Duration::from_secs(3600);
/// The shortest: less is gathered first.
const SHORTEST: Duration = Duration::from_millis(5);
/// Shards between two records of where the walk stands.
const RECORD_EVERY: u32 = 64;

/// What [`Scrubber`] is made of.
pub(crate) struct ScrubOptions {
    pub(crate) store: ShardStore,
    pub(crate) disk: Arc<Disk>,
    pub(crate) state: State,
    /// In which every shard is read once.
    pub(crate) period: Duration,
}

/// Reads all shards, over and over.
pub(crate) struct Scrubber(ScrubOptions);

impl Scrubber {
    pub(crate) fn new(options: ScrubOptions) -> Self {
        Self(options)
    }

    fn step(&self, after: Option<WalkPosition>) -> Option<Checked> {
        let checked = match self.0.store.check_next(after) {
            Ok(checked) => checked?,
            Err(error) => {
                tracing::error!(%error, "scrub_failed");
                self.0.disk.note(&error);
                return None;
            }
        };
        match &checked.found {
            Found::Good => self.0.disk.good(),
            Found::Rotten => {
                tracing::warn!("rotten_shard_removed");
                self.0.disk.rot();
            }
            Found::Unreadable(error) => {
                tracing::warn!(%error, "shard_unreadable");
                self.0.disk.note(error);
            }
            Found::Gone => {}
        }
        Some(checked)
    }

    fn recorded(&self) -> Option<WalkPosition> {
        let recorded = WALK.get(&self.0.state, &()).ok().flatten();
        recorded.and_then(|bytes| WalkPosition::from_bytes(&bytes))
    }

    fn record(&self, position: Option<WalkPosition>) {
        let mut batch = Batch::default();
        let staged = match position {
            Some(position) => WALK.put(&mut batch, &(), &position.to_bytes()),
            None => {
                WALK.remove(&mut batch, &());
                Ok(())
            }
        };
        let recorded: Result<(), KvError> = staged.and_then(|()| self.0.state.apply(&batch));
        if let Err(error) = recorded {
            tracing::error!(%error, "scrub_position_not_recorded");
        }
    }

    /// How long the walk may take for `bytes`, if it is to see everything once in its period.
    fn share(&self, bytes: u64) -> Duration {
        let share = bytes as f64 / self.0.store.used().max(bytes).max(1) as f64;
        self.0.period.mul_f64(share)
    }

    /// Walks over and over, at an even pace, from where the last start ended, until `stop` changes.
    pub(crate) async fn run(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        let mut position = self.recorded();
        // What an earlier start saw is not known any more: the walk that it began gives no verdict.
        let mut whole = position.is_none();
        let (mut unrecorded, mut owed) = (0, Duration::ZERO);
        loop {
            let (scrubber, after) = (Arc::clone(&self), position);
            let step = tokio::task::spawn_blocking(move || scrubber.step(after)).await.ok().flatten();
            unrecorded += 1;
            match step {
                Some(checked) => {
                    position = Some(checked.position);
                    owed += self.share(checked.bytes);
                }
                // Nothing comes after the last one; of an empty store, or after a failure, nothing
                // was seen.
                None => {
                    match position.take() {
                        Some(_) if whole => self.0.disk.walked(),
                        Some(_) => {}
                        None => owed = self.0.period.min(LONGEST),
                    }
                    (whole, unrecorded) = (true, RECORD_EVERY);
                }
            }
            if unrecorded >= RECORD_EVERY {
                unrecorded = 0;
                self.record(position);
            }
            if owed >= SHORTEST {
                tokio::select! {
                    _ = stop.changed() => return,
                    () = tokio::time::sleep(owed.min(LONGEST)) => owed = Duration::ZERO,
                }
            }
        }
    }
}
