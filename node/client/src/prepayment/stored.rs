//! How much the client has stored, as it knows itself: an upper bound of what can be charged.
//!
//! Tree `prepayment_stored`: when it was looked at, u64be seconds since 1970 → bytes at any one node u64le ‖
//! bytes at all of them u64le.

use std::time::Duration;

use fincrypt_protocol::limits::{FULL_SHARD_LEN, MAX_OPEN_SEGMENTS, MAX_SHARDS};
use fincrypt_protocol::{Code, Manifest, UnixTime};
use fincrypt_state::kv::{Batch, KeyValue, Tree};

use crate::error::ClientError;
use crate::run_journal::RunJournal;
use crate::vault::Vault;

const STORED: Tree = Tree("prepayment_stored");
/// Looks that are remembered.
const MOST_LOOKS: usize = 64;
/// What is released counts for so long: storage deletes it a week later, or whenever its operator
/// chose to.
const LINGERS: Duration = Duration::from_secs(31 * 24 * 3600);

/// The most bytes that may be charged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Stored {
    /// At one node: it has at most one shard of each segment.
    pub(crate) node: u64,
    /// At all nodes together.
    pub(crate) all: u64,
}

impl Stored {
    fn add(&mut self, code: Code, shard_len: u32) {
        self.node = self.node.saturating_add(shard_len.into());
        self.all = self.all.saturating_add(u64::from(code.total()) * u64::from(shard_len));
    }

    pub(crate) fn add_segment(&mut self, manifest: &Manifest) {
        self.add(manifest.code(), manifest.shard_len().get());
    }

    /// With room for what this machine cannot know: runs that were not finished, here or on another
    /// device, and a catalog that grows while it is looked at.
    fn tolerant(self) -> Self {
        let open = MAX_OPEN_SEGMENTS as u64 * u64::from(FULL_SHARD_LEN);
        let more = |bytes: u64, open| bytes.saturating_add(bytes / 10).saturating_add(open);
        Self { node: more(self.node, open), all: more(self.all, open * MAX_SHARDS as u64) }
    }

    fn max(self, other: Self) -> Self {
        Self { node: self.node.max(other.node), all: self.all.max(other.all) }
    }
}

/// What was stored at each look, oldest first.
#[derive(Debug, Clone, Default)]
pub(crate) struct Looks(Vec<(UnixTime, Stored)>);

impl Looks {
    /// The most that may be charged for time since `from`.
    pub(crate) fn most_since(&self, from: UnixTime) -> Stored {
        let from = UnixTime::from_secs(from.secs().saturating_sub(LINGERS.as_secs()));
        let before = self.0.iter().rev().find(|(time, _)| *time < from);
        let since = self.0.iter().filter(|(time, _)| *time >= from);
        before
            .into_iter()
            .chain(since)
            .fold(Stored::default(), |most, (_, stored)| most.max(*stored))
            .tolerant()
    }

    /// Adds a look. Of many, the oldest two become one.
    fn add(&mut self, now: UnixTime, stored: Stored) {
        match self.0.last_mut() {
            // Nothing is forgotten by it, and backups every hour do not push the last month out.
            Some((time, last)) if now.since(*time) < Duration::from_secs(24 * 3600) => {
                *last = last.max(stored);
            }
            _ => self.0.push((now, stored)),
        }
        if self.0.len() > MOST_LOOKS {
            let (_, oldest) = self.0.remove(0);
            if let Some((_, next)) = self.0.first_mut() {
                *next = next.max(oldest);
            }
        }
    }
}

/// What is stored now: by the catalog, by what waits to be released, and by unfinished runs.
fn stored_now(vault: &Vault) -> Result<Stored, ClientError> {
    let mut stored = Stored::default();
    vault.index.manifests()?.iter().for_each(|manifest| stored.add_segment(manifest));
    if let Some(head) = vault.known_head()? {
        head.body.refs.iter().for_each(|r| stored.add(r.code, r.shard_len.get()));
    }
    for mark in vault.lifecycle.cache().tombstones()? {
        stored.all = stored.all.saturating_add(mark.bytes);
        // At least two shards: no more than half of it is at one node.
        stored.node = stored.node.saturating_add(mark.bytes / 2);
    }
    let (account, now) = (vault.keys.root.account(vault.slot()?).account(), UnixTime::now());
    for path in [vault.home.run_journal(), vault.home.prune_journal()] {
        RunJournal::each_noted(&path, &account, now, |manifest| stored.add_segment(manifest))?;
    }
    Ok(stored)
}

/// Looks at what is stored, durably; all looks.
pub(crate) fn look_at_stored(vault: &Vault) -> Result<Looks, ClientError> {
    let mut looks = Looks::default();
    let known = vault.state.scan(STORED, &[], None, usize::MAX)?;
    for (key, value) in &known {
        let number = |bytes: Option<&[u8]>| bytes.and_then(|bytes| bytes.try_into().ok());
        let time = number(Some(key)).map(u64::from_be_bytes);
        let node = number(value.get(..8)).map(u64::from_le_bytes);
        let all = number(value.get(8..)).map(u64::from_le_bytes);
        if let (Some(time), Some(node), Some(all)) = (time, node, all) {
            looks.0.push((UnixTime::from_secs(time), Stored { node, all }));
        }
    }
    looks.add(UnixTime::now(), stored_now(vault)?);
    let mut batch = Batch::default();
    known.into_iter().for_each(|(key, _)| batch.remove(STORED, key));
    for (time, stored) in &looks.0 {
        let value = [stored.node.to_le_bytes(), stored.all.to_le_bytes()].concat();
        batch.put(STORED, time.secs().to_be_bytes(), value);
    }
    vault.state.commit(&batch)?;
    Ok(looks)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 24 * 3600;

    fn look(looks: &mut Looks, day: u64, bytes: u64) {
        looks.add(UnixTime::from_secs(day * DAY), Stored { node: bytes, all: 8 * bytes });
    }

    #[test]
    fn what_was_there_at_any_time_since_counts_and_what_was_released_lingers() {
        let mut looks = Looks::default();
        for (day, bytes) in [(100, 1000), (150, 5000), (200, 2000)] {
            look(&mut looks, day, bytes << 20);
        }
        let most = |day: u64| looks.most_since(UnixTime::from_secs(day * DAY)).node >> 20;
        // With a tenth and two shards of tolerance.
        assert_eq!((most(0), most(120), most(180)), (5502, 5502, 5502));
        assert_eq!((most(182), most(300)), (5502, 2202));
        // What there was between two looks is taken to be the more of both.
        assert_eq!(most(160), 5502);
        let all = looks.most_since(UnixTime::from_secs(300 * DAY)).all >> 20;
        assert_eq!(all, 8 * 2000 + 1600 + 60);
    }

    #[test]
    fn many_looks_are_bounded_and_none_of_their_bytes_is_forgotten() {
        let mut looks = Looks::default();
        look(&mut looks, 1, 9000);
        look(&mut looks, 1, 8000);
        assert_eq!(looks.0.len(), 1, "looks of one day are one");
        (2..200).for_each(|day| look(&mut looks, day, 10));
        assert_eq!(looks.0.len(), MOST_LOOKS);
        assert_eq!(looks.0[0].1.node, 9000);
    }
}
