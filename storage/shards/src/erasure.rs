//! Reed–Solomon over a segment's shards, exactly as `reed-solomon-simd` 3.1 computes it: shard
//! `i ≥ k` is recovery shard `i − k`. Pinned by a fixture for every `k < n ≤ 30`.

use std::collections::BTreeMap;
use std::ops::Range;

use fincrypt_protocol::{Code, ShardIndex};
use reed_solomon_simd::{ReedSolomonDecoder, ReedSolomonEncoder};

/// Shards could not be encoded or rebuilt.
#[derive(Debug, thiserror::Error)]
pub enum ErasureError {
    /// Another number of data shards than the code has.
    #[error("{found} data shards instead of {expected}")]
    Count {
        /// Shards given.
        found: usize,
        /// Shards the code has.
        expected: u8,
    },
    /// Fewer shards than the code needs.
    #[error("{found} shards do not suffice, {needed} are needed")]
    TooFew {
        /// Distinct shards given.
        found: usize,
        /// Data shards of the code.
        needed: u8,
    },
    /// Shards of one segment are equally long.
    #[error("the shards' lengths differ")]
    Lengths,
    /// The library refused the shards' lengths.
    #[error("the shards' lengths do not fit")]
    Library(#[source] reed_solomon_simd::Error),
}

impl From<reed_solomon_simd::Error> for ErasureError {
    fn from(error: reed_solomon_simd::Error) -> Self {
        Self::Library(error)
    }
}

/// Bytes of each shard that are encoded at once: with 15 data and 15 parity shards, all that is
/// worked on stays within a processor's second-level cache. The code is computed for each 64 bytes
/// by themselves, so the result does not depend on it.
const STRIPE: usize = 64 << 10;

/// Computes parity shards, with tables and work space that are kept between segments.
#[derive(Default)]
pub struct Encoder {
    encoder: Option<ReedSolomonEncoder>,
    /// Data shards, parity shards and stripe length that it is set up for.
    shape: (usize, usize, usize),
}

impl Encoder {
    /// An encoder that has not worked yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn set_up(&mut self, shape: (usize, usize, usize)) -> Result<&mut ReedSolomonEncoder, ErasureError> {
        let (data, parity, length) = shape;
        let encoder = match self.encoder.take() {
            Some(mut encoder) => {
                if self.shape != shape {
                    encoder.reset(data, parity, length)?;
                }
                encoder
            }
            None => ReedSolomonEncoder::new(data, parity, length)?,
        };
        self.shape = shape;
        Ok(self.encoder.insert(encoder))
    }

    /// Calls `each` with the number of a parity shard, from 0, and its next stripe; the stripes of
    /// one shard come in order.
    ///
    /// # Errors
    /// If the number or the lengths of the shards do not fit.
    pub fn encode_stripes(
        &mut self,
        code: Code,
        data: &[&[u8]],
        mut each: impl FnMut(usize, &[u8]),
    ) -> Result<(), ErasureError> {
        if data.len() != usize::from(code.data()) {
            return Err(ErasureError::Count { found: data.len(), expected: code.data() });
        }
        let length = data.first().map_or(0, |shard| shard.len());
        if data.iter().any(|shard| shard.len() != length) {
            return Err(ErasureError::Lengths);
        }
        for start in (0..length).step_by(STRIPE) {
            let end = (start + STRIPE).min(length);
            let encoder = self.set_up((data.len(), code.parity().into(), end - start))?;
            for shard in data {
                encoder.add_original_shard(&shard[start..end])?;
            }
            let result = encoder.encode()?;
            result.recovery_iter().enumerate().for_each(|(at, stripe)| each(at, stripe));
        }
        Ok(())
    }

    /// All parity shards of `data`.
    ///
    /// # Errors
    /// As [`Encoder::encode_stripes`].
    pub fn encode(&mut self, code: Code, data: &[&[u8]]) -> Result<Vec<Vec<u8>>, ErasureError> {
        let length = data.first().map_or(0, |shard| shard.len());
        let mut parity = vec![Vec::with_capacity(length); code.parity().into()];
        self.encode_stripes(code, data, |at, stripe| parity[at].extend_from_slice(stripe))?;
        Ok(parity)
    }
}

/// Computes `missing` shards, data or parity, from any `k` distinct others into their places. It
/// works on a stripe at a time, so it needs little memory beside the shards.
///
/// # Errors
/// If there are too few, their lengths differ, or a position is not of the code; what was written
/// into the places is worth nothing then.
pub fn rebuild_into(
    code: Code,
    present: &[(ShardIndex, &[u8])],
    missing: &mut [(ShardIndex, &mut [u8])],
) -> Result<(), ErasureError> {
    let (data, total) = (usize::from(code.data()), usize::from(code.total()));
    let known: BTreeMap<usize, &[u8]> = present
        .iter()
        .filter(|(index, _)| index.get() < total)
        .map(|(index, shard)| (index.get(), *shard))
        .take(total)
        .collect();
    if known.len() < data {
        return Err(ErasureError::TooFew { found: known.len(), needed: code.data() });
    }
    if let Some((index, _)) = missing.iter().find(|(index, _)| index.get() >= total) {
        return Err(ErasureError::Count { found: index.get(), expected: code.total() });
    }
    let length = known.values().next().map_or(0, |shard| shard.len());
    let lengths = known.values().map(|shard| shard.len()).chain(missing.iter().map(|(_, place)| place.len()));
    if lengths.into_iter().any(|found| found != length) {
        return Err(ErasureError::Lengths);
    }
    let wants_parity = missing.iter().any(|(index, _)| index.get() >= data);
    let (mut decoder, mut encoder) = (None, Encoder::new());
    for start in (0..length).step_by(STRIPE) {
        let end = (start + STRIPE).min(length);
        let restored = restore_stripe(&mut decoder, code, &known, start..end)?;
        let stripe = |index: usize| match restored.get(&index) {
            Some(stripe) => Some(stripe.as_slice()),
            None => known.get(&index).map(|shard| &shard[start..end]),
        };
        let mut put = |at: usize, stripe: &[u8]| {
            let wanted = missing.iter_mut().filter(|(index, _)| index.get() == at);
            wanted.for_each(|(_, place)| place[start..end].copy_from_slice(stripe));
        };
        let whole: Vec<&[u8]> = (0..data).filter_map(stripe).collect();
        whole.iter().enumerate().for_each(|(at, stripe)| put(at, stripe));
        if wants_parity {
            encoder.encode_stripes(code, &whole, |at, stripe| put(data + at, stripe))?;
        }
    }
    Ok(())
}

/// A stripe of each data shard that is not known.
fn restore_stripe(
    decoder: &mut Option<ReedSolomonDecoder>,
    code: Code,
    known: &BTreeMap<usize, &[u8]>,
    stripe: Range<usize>,
) -> Result<BTreeMap<usize, Vec<u8>>, ErasureError> {
    let (data, parity) = (usize::from(code.data()), usize::from(code.parity()));
    if (0..data).all(|index| known.contains_key(&index)) {
        return Ok(BTreeMap::new());
    }
    let mut ready = match decoder.take() {
        Some(mut ready) => {
            ready.reset(data, parity, stripe.len())?;
            ready
        }
        None => ReedSolomonDecoder::new(data, parity, stripe.len())?,
    };
    // More than `k` would only be more work.
    for (index, shard) in known.iter().take(data) {
        let shard = &shard[stripe.clone()];
        match index.checked_sub(data) {
            None => ready.add_original_shard(*index, shard)?,
            Some(recovery) => ready.add_recovery_shard(recovery, shard)?,
        }
    }
    let decoded = ready.decode()?;
    let restored = decoded.restored_original_iter().map(|(index, shard)| (index, shard.to_vec())).collect();
    drop(decoded);
    *decoder = Some(ready);
    Ok(restored)
}

/// The shards `missing` of a segment, from any `k` others.
///
/// # Errors
/// As [`rebuild_into`].
pub fn rebuild(
    code: Code,
    present: &[(ShardIndex, &[u8])],
    missing: &[ShardIndex],
) -> Result<Vec<Vec<u8>>, ErasureError> {
    let length = present.first().map_or(0, |(_, shard)| shard.len());
    let mut shards = vec![vec![0; length]; missing.len()];
    let mut places: Vec<(ShardIndex, &mut [u8])> =
        missing.iter().zip(&mut shards).map(|(index, shard)| (*index, shard.as_mut_slice())).collect();
    rebuild_into(code, present, &mut places)?;
    Ok(shards)
}

/// All data shards, from any `k` distinct shards of a segment.
///
/// # Errors
/// As [`rebuild_into`].
pub fn restore_data(code: Code, present: &[(ShardIndex, &[u8])]) -> Result<Vec<Vec<u8>>, ErasureError> {
    let data: Vec<ShardIndex> = code.indices().take(code.data().into()).collect();
    rebuild(code, present, &data)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shards(code: Code, length: usize, seed: u8) -> Vec<Vec<u8>> {
        let byte =
            |shard: usize, at: usize| (shard.wrapping_mul(31) ^ at.wrapping_mul(7) ^ usize::from(seed)) as u8;
        (0..usize::from(code.data())).map(|shard| (0..length).map(|at| byte(shard, at)).collect()).collect()
    }

    fn all(code: Code, data: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let views: Vec<&[u8]> = data.iter().map(Vec::as_slice).collect();
        let mut all = data.to_vec();
        all.extend(Encoder::new().encode(code, &views).expect("encodes"));
        all
    }

    proptest! {
        #[test]
        fn any_k_shards_restore_the_data(data in 1u8..16, parity in 1u8..15, order: u64, seed: u8) {
            let code = Code::new(data, parity)?;
            // Two stripes, the second a short one.
            let source = shards(code, STRIPE + 128, seed);
            let whole = all(code, &source);
            let mut indices: Vec<ShardIndex> = code.indices().collect();
            let mut state = order | 1;
            for last in (1..indices.len()).rev() {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                indices.swap(last, (state >> 33) as usize % (last + 1));
            }
            let present: Vec<(ShardIndex, &[u8])> =
                indices.iter().take(data.into()).map(|index| (*index, whole[index.get()].as_slice())).collect();
            prop_assert_eq!(restore_data(code, &present)?, source);
            let rest: Vec<ShardIndex> = indices[usize::from(data)..].to_vec();
            for (index, shard) in rest.iter().zip(rebuild(code, &present, &rest)?) {
                prop_assert_eq!(&shard, &whole[index.get()]);
            }
        }
    }

    #[test]
    fn too_few_or_repeated_shards_are_refused() {
        let code = Code::new(3, 2).expect("valid");
        let whole = all(code, &shards(code, 64, 1));
        let index = |at| ShardIndex::new(at).expect("valid");
        let present = [
            (index(0), whole[0].as_slice()),
            (index(0), whole[0].as_slice()),
            (index(4), whole[4].as_slice()),
        ];
        assert!(matches!(restore_data(code, &present), Err(ErasureError::TooFew { found: 2, needed: 3 })));
    }

    #[test]
    fn one_encoder_serves_codes_of_any_geometry_in_turn() {
        let mut encoder = Encoder::new();
        for (data, parity, length) in
            [(4, 4, 4096), (10, 10, 128), (1, 4, 4096), (4, 4, 2 * STRIPE + 4096), (4, 4, 64)]
        {
            let code = Code::new(data, parity).expect("valid");
            let source = shards(code, length, 5);
            let views: Vec<&[u8]> = source.iter().map(Vec::as_slice).collect();
            assert_eq!(
                encoder.encode(code, &views).expect("encodes"),
                all(code, &source)[usize::from(data)..]
            );
        }
    }

    #[test]
    fn parity_does_not_depend_on_stripes() {
        let code = Code::new(5, 4).expect("valid");
        let source = shards(code, 3 * STRIPE + 4096, 9);
        let mut whole = ReedSolomonEncoder::new(5, 4, source[0].len()).expect("valid");
        source.iter().for_each(|shard| whole.add_original_shard(shard).expect("fits"));
        let result = whole.encode().expect("encodes");
        let expected: Vec<Vec<u8>> = result.recovery_iter().map(<[u8]>::to_vec).collect();
        assert_eq!(all(code, &source)[5..], expected);
    }

    /// One line for each code: `k n hash-of-all-parity-shards`.
    #[test]
    fn parity_is_what_the_fixture_says_for_every_code() {
        let mut lines = String::new();
        for total in 2..=30 {
            for data in 1..total {
                let code = Code::new(data, total - data).expect("valid");
                let parity = all(code, &shards(code, 128, 0)).split_off(data.into());
                let hash = blake3::hash(&parity.concat());
                lines.push_str(&format!("{data} {total} {}\n", &hash.to_hex()[..32]));
            }
        }
        fincrypt_vectors::check("erasure.txt", &lines);
    }
}
