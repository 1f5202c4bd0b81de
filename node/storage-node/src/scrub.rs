//! A slow walk over all shards, which finds rot before an audit does.

use std::sync::Arc;
use std::time::Duration;

use fincrypt_shards::{Checked, Found, WalkPosition};
use fincrypt_state::kv::{Batch, KeyValue, Tree};
use tokio::sync::watch;

use super::StorageRole;
use fincrypt_accounts::failed;

/// `position` → where the walk stands. Its loss only begins the walk anew.
const WALK: Tree = Tree("scrub");
const POSITION: &[u8] = b"position";
/// The longest pause: an empty store is looked at again after this.
const LONGEST: Duration = Duration::from_secs(3600);
/// The shortest: less is gathered first.
const SHORTEST: Duration = Duration::from_millis(5);
/// Shards between two notes of where the walk stands.
const NOTE: u32 = 64;

impl StorageRole {
    fn scrub_step(&self, after: Option<WalkPosition>) -> Option<Checked> {
        let checked = match self.store.check_next(after) {
            Ok(checked) => checked?,
            Err(error) => {
                self.disk.note(&error);
                failed(&error);
                return None;
            }
        };
        match &checked.found {
            Found::Good => self.disk.good(),
            Found::Rotten => {
                tracing::warn!("a shard has rotted; it is removed, and reported when it is asked for");
                self.disk.rot();
            }
            Found::Unreadable(error) => {
                tracing::warn!(%error, "a shard cannot be read");
                self.disk.note(error);
            }
            Found::Gone => {}
        }
        Some(checked)
    }

    fn note_walk(&self, position: Option<WalkPosition>) {
        let mut batch = Batch::default();
        match position {
            Some(position) => batch.put(WALK, POSITION, position.to_bytes()),
            None => batch.remove(WALK, POSITION),
        }
        if let Err(error) = self.accounts.state.apply(&batch) {
            failed(&error);
        }
    }

    /// How long the walk may take for `bytes`, if it is to see everything once in its period.
    fn share(&self, bytes: u64) -> Duration {
        let share = bytes as f64 / self.store.used().max(bytes).max(1) as f64;
        self.terms.scrub_period.mul_f64(share)
    }

    /// Walks over and over, at an even pace, from where the last start ended.
    pub(super) async fn scrub(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        let noted = self.accounts.state.get(WALK, POSITION).ok().flatten();
        let mut position = noted.and_then(|bytes| WalkPosition::from_bytes(&bytes));
        // What an earlier start saw is not known any more: the walk that it began judges nothing.
        let mut whole = position.is_none();
        let (mut unnoted, mut owed) = (0, Duration::ZERO);
        loop {
            let (role, after) = (Arc::clone(&self), position);
            let step = tokio::task::spawn_blocking(move || role.scrub_step(after)).await.ok().flatten();
            unnoted += 1;
            match step {
                Some(checked) => {
                    position = Some(checked.position);
                    owed += self.share(checked.bytes);
                }
                // Nothing comes after the last one; of an empty store, or after a failure, nothing
                // was seen.
                None => {
                    match position.take() {
                        Some(_) if whole => self.disk.walked(),
                        Some(_) => {}
                        None => owed = self.terms.scrub_period.min(LONGEST),
                    }
                    (whole, unnoted) = (true, NOTE);
                }
            }
            if unnoted >= NOTE {
                unnoted = 0;
                self.note_walk(position);
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
