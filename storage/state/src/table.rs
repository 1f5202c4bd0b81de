//! Typed tables: a key type, a value type and a limit, declared once.
//!
//! A table is a constant beside the code that owns it. Keys are of fixed length and keep their
//! order: numbers are big-endian, a tuple is its parts one after the other, so that a part is the
//! prefix of all keys that begin with it. Values are CBOR of at most the table's limit; a longer one
//! is refused when it is written, not when it is read.
//!
//! ```
//! use fincrypt_protocol::NodeId;
//! use fincrypt_state::kv::{Batch, KeyValue, MemoryKv};
//! use fincrypt_state::table::Table;
//!
//! /// `(node, day)` → what was earned, in msat.
//! const EARNED: Table<(NodeId, u64), u64> = Table::new("earned", 16);
//!
//! let (state, node) = (MemoryKv::default(), NodeId::from_bytes([1; 32]));
//! let mut batch = Batch::default();
//! EARNED.put(&mut batch, &(node, 20_000), &1500)?;
//! state.apply(&batch)?;
//! assert_eq!(EARNED.get(&state, &(node, 20_000))?, Some(1500));
//! assert_eq!(EARNED.scan(&state, &node, None, 10)?, [((node, 20_000), 1500)]);
//! # Ok::<(), fincrypt_state::kv::KvError>(())
//! ```

use std::marker::PhantomData;

use fincrypt_protocol::cbor;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::kv::{Batch, KeyValue, KvError, Tree};

/// A part of a key: a fixed number of bytes whose order is the order of the values.
pub trait Key: Sized {
    /// Bytes of every key of this type.
    const LEN: usize;

    /// Appends the key's bytes.
    fn write(&self, out: &mut Vec<u8>);

    /// Reads a key from exactly [`Self::LEN`] bytes.
    fn read(bytes: &[u8]) -> Option<Self>;

    /// The key's bytes.
    fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(Self::LEN);
        self.write(&mut out);
        out
    }
}

macro_rules! id_keys {
    ($($id:ident),*) => {$(
        impl Key for fincrypt_protocol::$id {
            const LEN: usize = Self::LEN;

            fn write(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(self.as_bytes());
            }

            fn read(bytes: &[u8]) -> Option<Self> {
                Some(Self::from_bytes(bytes.try_into().ok()?))
            }
        }
    )*};
}
id_keys!(AccountId, ContractId, HeadHash, MandateHash, NodeId, PayoutId, RunId, SegmentId, ShardId);

macro_rules! number_keys {
    ($($number:ty),*) => {$(
        impl Key for $number {
            const LEN: usize = size_of::<$number>();

            fn write(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_be_bytes());
            }

            fn read(bytes: &[u8]) -> Option<Self> {
                Some(Self::from_be_bytes(bytes.try_into().ok()?))
            }
        }
    )*};
}
number_keys!(u8, u32, u64);

/// The only key of a table with one entry.
impl Key for () {
    const LEN: usize = 0;

    fn write(&self, _: &mut Vec<u8>) {}

    fn read(bytes: &[u8]) -> Option<Self> {
        bytes.is_empty().then_some(())
    }
}

impl<A: Key, B: Key> Key for (A, B) {
    const LEN: usize = A::LEN + B::LEN;

    fn write(&self, out: &mut Vec<u8>) {
        self.0.write(out);
        self.1.write(out);
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let (first, second) = bytes.split_at_checked(A::LEN)?;
        Some((A::read(first)?, B::read(second)?))
    }
}

impl<A: Key, B: Key, C: Key> Key for (A, B, C) {
    const LEN: usize = A::LEN + B::LEN + C::LEN;

    fn write(&self, out: &mut Vec<u8>) {
        self.0.write(out);
        self.1.write(out);
        self.2.write(out);
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let (first, rest) = bytes.split_at_checked(A::LEN)?;
        let (second, third) = rest.split_at_checked(B::LEN)?;
        Some((A::read(first)?, B::read(second)?, C::read(third)?))
    }
}

/// What all keys of a scan begin with.
pub trait Prefix<K> {
    /// The bytes they begin with.
    fn prefix(&self) -> Vec<u8>;
}

/// All keys.
#[derive(Debug, Clone, Copy)]
pub struct Everything;

impl<K: Key> Prefix<K> for Everything {
    fn prefix(&self) -> Vec<u8> {
        Vec::new()
    }
}

impl<A: Key, B: Key> Prefix<(A, B)> for A {
    fn prefix(&self) -> Vec<u8> {
        self.bytes()
    }
}

impl<A: Key, B: Key, C: Key> Prefix<(A, B, C)> for A {
    fn prefix(&self) -> Vec<u8> {
        self.bytes()
    }
}

impl<A: Key, B: Key, C: Key> Prefix<(A, B, C)> for (A, B) {
    fn prefix(&self) -> Vec<u8> {
        self.bytes()
    }
}

/// Entries that a paged visit reads at once.
const PAGE: usize = 256;

/// A named table of `K` to `V`.
#[derive(Debug)]
pub struct Table<K, V> {
    tree: Tree,
    /// Bytes of an encoded value, at most.
    limit: usize,
    types: PhantomData<fn(K) -> V>,
}

impl<K: Key, V: Serialize + DeserializeOwned> Table<K, V> {
    /// The table `name`, whose encoded values have at most `limit` bytes.
    #[must_use]
    pub const fn new(name: &'static str, limit: usize) -> Self {
        Self { tree: Tree(name), limit, types: PhantomData }
    }

    fn decode(&self, bytes: &[u8]) -> Result<V, KvError> {
        cbor::decode(bytes, self.limit).map_err(|_| KvError::Corrupt { tree: self.tree.0 })
    }

    fn entry(&self, (key, value): &(Vec<u8>, Vec<u8>)) -> Result<(K, V), KvError> {
        let read = K::read(key).ok_or(KvError::Corrupt { tree: self.tree.0 })?;
        Ok((read, self.decode(value)?))
    }

    /// The value under `key`.
    ///
    /// # Errors
    /// [`KvError`] if the database fails or the value cannot be read.
    pub fn get(&self, state: &impl KeyValue, key: &K) -> Result<Option<V>, KvError> {
        state.get(self.tree, &key.bytes())?.map(|bytes| self.decode(&bytes)).transpose()
    }

    /// Whether there is a value under `key`.
    ///
    /// # Errors
    /// [`KvError`] if the database fails.
    pub fn contains(&self, state: &impl KeyValue, key: &K) -> Result<bool, KvError> {
        Ok(state.get(self.tree, &key.bytes())?.is_some())
    }

    /// Sets `key` to `value`.
    ///
    /// # Errors
    /// [`KvError::TooLong`] past the limit of the table.
    pub fn put(&self, batch: &mut Batch, key: &K, value: &V) -> Result<(), KvError> {
        let bytes = cbor::encode(value).map_err(|_| KvError::Corrupt { tree: self.tree.0 })?;
        if bytes.len() > self.limit {
            return Err(KvError::TooLong { tree: self.tree.0, len: bytes.len(), limit: self.limit });
        }
        batch.put(self.tree, key.bytes(), bytes);
        Ok(())
    }

    /// Removes `key`.
    pub fn remove(&self, batch: &mut Batch, key: &K) {
        batch.remove(self.tree, key.bytes());
    }

    /// Up to `most` entries whose keys begin with `prefix` and come after `after`.
    ///
    /// # Errors
    /// [`KvError`] if the database fails or an entry cannot be read.
    pub fn scan(
        &self,
        state: &impl KeyValue,
        prefix: &impl Prefix<K>,
        after: Option<&K>,
        most: usize,
    ) -> Result<Vec<(K, V)>, KvError> {
        let after = after.map(Key::bytes);
        let entries = state.scan(self.tree, &prefix.prefix(), after.as_deref(), most)?;
        entries.iter().map(|entry| self.entry(entry)).collect()
    }

    /// The keys of up to `most` entries, as [`Self::scan`] finds them. Their values are not decoded.
    ///
    /// # Errors
    /// [`KvError`] if the database fails or a key cannot be read.
    pub fn keys(
        &self,
        state: &impl KeyValue,
        prefix: &impl Prefix<K>,
        after: Option<&K>,
        most: usize,
    ) -> Result<Vec<K>, KvError> {
        let after = after.map(Key::bytes);
        let entries = state.scan(self.tree, &prefix.prefix(), after.as_deref(), most)?;
        let read = |(key, _): &(Vec<u8>, Vec<u8>)| K::read(key).ok_or(KvError::Corrupt { tree: self.tree.0 });
        entries.iter().map(read).collect()
    }

    /// Visits all entries whose keys begin with `prefix`, a page at a time, in the order of the keys.
    ///
    /// # Errors
    /// What `visit` returns, or [`KvError`].
    pub fn visit<E: From<KvError>>(
        &self,
        state: &impl KeyValue,
        prefix: &impl Prefix<K>,
        mut visit: impl FnMut(K, V) -> Result<(), E>,
    ) -> Result<(), E> {
        let (prefix, mut after) = (prefix.prefix(), None::<Vec<u8>>);
        loop {
            let page = state.scan(self.tree, &prefix, after.as_deref(), PAGE)?;
            for entry in &page {
                let (key, value) = self.entry(entry)?;
                visit(key, value)?;
            }
            match page.into_iter().next_back() {
                Some((last, _)) => after = Some(last),
                None => return Ok(()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::MemoryKv;
    use fincrypt_protocol::{AccountId, SegmentId};
    use proptest::prelude::*;

    const NUMBERS: Table<(AccountId, u64), Vec<u8>> = Table::new("numbers", 64);

    fn account(byte: u8) -> AccountId {
        AccountId::from_bytes([byte; 32])
    }

    fn filled(entries: &[(u8, u64)]) -> MemoryKv {
        let (state, mut batch) = (MemoryKv::default(), Batch::default());
        for (byte, number) in entries {
            NUMBERS.put(&mut batch, &(account(*byte), *number), &vec![*byte]).expect("short");
        }
        state.apply(&batch).expect("applied");
        state
    }

    #[test]
    fn a_value_over_the_limit_is_refused_when_it_is_written() {
        let refused = NUMBERS.put(&mut Batch::default(), &(account(1), 1), &vec![0; 64]);
        assert!(matches!(refused, Err(KvError::TooLong { tree: "numbers", limit: 64, .. })), "{refused:?}");
    }

    #[test]
    fn a_visit_reads_more_than_a_page_and_nothing_of_others() {
        let many: Vec<_> = (0..1000).map(|number| (1, number)).chain([(0, 5), (2, 5)]).collect();
        let (state, mut seen) = (filled(&many), Vec::new());
        NUMBERS
            .visit(&state, &account(1), |(_, number), _| {
                seen.push(number);
                Ok::<_, KvError>(())
            })
            .expect("visited");
        assert_eq!(seen, (0..1000).collect::<Vec<_>>());
    }

    #[test]
    fn an_entry_of_another_type_is_named_corrupt() {
        let (state, mut batch) = (MemoryKv::default(), Batch::default());
        batch.put(Tree("numbers"), [0; 7].to_vec(), Vec::new());
        state.apply(&batch).expect("applied");
        let read = NUMBERS.scan(&state, &Everything, None, 1);
        assert!(matches!(read, Err(KvError::Corrupt { tree: "numbers" })), "{read:?}");
    }

    proptest! {
        #[test]
        fn keys_survive_their_bytes_and_keep_their_order(
            a in any::<([u8; 32], u32, u64)>(),
            b in any::<([u8; 32], u32, u64)>(),
        ) {
            let key = |(id, slot, number)| (SegmentId::from_bytes(id), slot, number);
            let (a, b) = (key(a), key(b));
            prop_assert_eq!(<(SegmentId, u32, u64)>::read(&a.bytes()), Some(a));
            prop_assert_eq!(a.bytes().cmp(&b.bytes()), a.cmp(&b));
        }

        #[test]
        fn scans_return_what_was_put_in_order(entries in prop::collection::btree_set((0..3_u8, any::<u64>()), 0..40)) {
            let entries: Vec<_> = entries.into_iter().collect();
            let state = filled(&entries);
            let found = NUMBERS.scan(&state, &Everything, None, usize::MAX).expect("read");
            let keys = NUMBERS.keys(&state, &Everything, None, usize::MAX).expect("read");
            prop_assert_eq!(&keys, &found.iter().map(|(key, _)| *key).collect::<Vec<_>>());
            let expected: Vec<_> =
                entries.iter().map(|(byte, number)| ((account(*byte), *number), vec![*byte])).collect();
            prop_assert_eq!(found, expected);
        }
    }
}
