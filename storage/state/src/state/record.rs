//! A batch as it stands in the log: see [the module above](super).

use crate::kv::Batch;

/// A record of these changes: tree, key, and the new value or `None`.
pub(super) fn encode<'a>(changes: impl Iterator<Item = (&'a str, &'a [u8], Option<&'a [u8]>)>) -> Vec<u8> {
    let mut out = Vec::new();
    for (tree, key, value) in changes {
        // Tree names are short constants; a batch is far below 4 GiB.
        out.push(tree.len() as u8);
        out.extend_from_slice(tree.as_bytes());
        out.extend_from_slice(&(key.len() as u32).to_le_bytes());
        out.extend_from_slice(key);
        out.push(u8::from(value.is_some()));
        if let Some(value) = value {
            out.extend_from_slice(&(value.len() as u32).to_le_bytes());
            out.extend_from_slice(value);
        }
    }
    out
}

/// One change: tree, key, and the new value or `None`.
pub(super) type Decoded<'a> = (&'a str, &'a [u8], Option<&'a [u8]>);

/// The changes in a record, if it is one.
pub(super) fn decode(mut rest: &[u8]) -> Option<Vec<Decoded<'_>>> {
    fn long<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
        let (length, tail) = rest.split_first_chunk::<4>()?;
        let (bytes, tail) = tail.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        *rest = tail;
        Some(bytes)
    }
    let mut changes = Vec::new();
    while let Some((length, tail)) = rest.split_first() {
        let (tree, tail) = tail.split_at_checked((*length).into())?;
        rest = tail;
        let key = long(&mut rest)?;
        let (flag, tail) = rest.split_first()?;
        rest = tail;
        let value = match flag {
            0 => None,
            1 => Some(long(&mut rest)?),
            _ => return None,
        };
        changes.push((std::str::from_utf8(tree).ok()?, key, value));
    }
    Some(changes)
}

/// A batch's record.
pub(super) fn of_batch(batch: &Batch) -> Vec<u8> {
    let changes = batch.changes().iter();
    encode(changes.map(|change| (change.tree.0, change.key.as_slice(), change.value.as_deref())))
}

/// Bytes that an entry takes in a record.
pub(super) fn cost(tree: &str, key: &[u8], value: &[u8]) -> u64 {
    (1 + tree.len() + 4 + key.len() + 1 + 4 + value.len()) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_record_is_decoded_or_refused(bytes: Vec<u8>) {
            if let Some(changes) = decode(&bytes) {
                prop_assert_eq!(encode(changes.into_iter()), bytes);
            }
        }

        #[test]
        fn an_entry_costs_what_it_takes(tree in "[a-z]{1,20}", key: Vec<u8>, value: Vec<u8>) {
            let record = encode([(tree.as_str(), key.as_slice(), Some(value.as_slice()))].into_iter());
            prop_assert_eq!(record.len() as u64, cost(&tree, &key, &value));
        }
    }

    #[test]
    fn a_record_is_what_the_fixture_says() {
        let changes = [("facts", b"key".as_slice(), Some(b"value".as_slice())), ("other", b"gone", None)];
        fincrypt_vectors::check("state-batch.txt", &fincrypt_vectors::hex(&encode(changes.into_iter())));
    }
}
