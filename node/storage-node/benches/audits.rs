//! What audits cost: CPU and bytes per terabyte and hour, at the storage node and at the mediator,
//! with the tree cache (a shard's group values beside its data) and without it (from the whole shard).
//!
//! A terabyte of full shards is challenged as a mediator does: one sample of 300 in every epoch of an
//! hour. The shards lie in a real store, whose files the machine may have in memory; so these are CPU
//! costs, and the bytes read are named beside them.

use std::hint::black_box;
use std::time::{Duration, Instant};

use bytes::Bytes;
use fincrypt_protocol::limits::MAX_CHALLENGE;
use fincrypt_protocol::record::{Mandate, Rights};
use fincrypt_protocol::shard::{Challenged, Verdict};
use fincrypt_protocol::{
    Code, Manifest, Network, Nonce, RunId, ShardId, ShardIndex, ShardLen, Signed, SigningKey, Tag, UnixTime,
};
use fincrypt_shards::answer::{ProofVerdict, check_proofs};
use fincrypt_shards::proof::{GROUP, LEAF, challenged_leaf, groups, prove, shard_id};
use fincrypt_shards::{CheckedShard, ShardMeta, ShardStore};
use fincrypt_state::state::State;
use zeroize::Zeroizing;

/// Shards that are kept, and asked for in turn.
const KEPT: usize = 32;
/// Whole samples that are measured; the fastest counts.
const ROUNDS: u8 = 5;

/// A shard that is asked for.
#[derive(Clone, Copy)]
struct Asked {
    challenged: Challenged,
    shard: ShardId,
}

/// The fastest of some rounds, each with a nonce of its own.
fn fastest(mut work: impl FnMut(&Nonce)) -> Duration {
    let round = |number: u8| {
        let nonce = Nonce::from_bytes([number; 32]);
        let begun = Instant::now();
        work(&nonce);
        begun.elapsed()
    };
    (0..ROUNDS).map(round).min().unwrap_or_default()
}

fn show(who: &str, time: Duration, read: usize) {
    let each = time.as_secs_f64() * 1e6 / MAX_CHALLENGE as f64;
    println!(
        "{who:<34} {:>9.2} ms  {each:>8.1} us a shard  {:>9.1} KiB",
        time.as_secs_f64() * 1e3,
        read as f64 / 1024.0
    );
}

fn main() {
    let dir = tempfile::tempdir().expect("a folder");
    let (state, _) = State::open(&dir.path().join("state")).expect("opens");
    let (store, _) = ShardStore::open(&dir.path().join("shards"), state, 1 << 40).expect("opens");
    let key = SigningKey::from_seed(&Zeroizing::new([1; 32]));
    let account = key.account();
    let mandate = Mandate {
        network: Network::Local,
        account,
        mediator: key.node(),
        rights: Rights { put: true, get: true, audit: true },
        byte_cap: u64::MAX,
        sequence: 1,
        expiry: UnixTime::from_secs(u64::MAX / 2),
        max_price: None,
    };
    let mandate = Signed::seal(&mandate, &key).expect("seals");
    let mut kept = Vec::new();
    for number in 0..KEPT {
        let bytes: Vec<u8> =
            (0..ShardLen::FULL.get() as usize).map(|at| (at.wrapping_mul(number + 3) >> 7) as u8).collect();
        let ids = vec![shard_id(&bytes), shard_id(&bytes[1..])];
        let manifest = Manifest::new(Code::new(1, 1).expect("valid"), ShardLen::FULL, ids).expect("valid");
        let index = ShardIndex::new(0).expect("valid");
        let (segment, shard) = (manifest.id(), manifest.shard(index).expect("there"));
        let checked = CheckedShard::check(Bytes::from(bytes.clone()), shard).expect("the shard");
        let (tag, run) = (Tag::from_bytes([3; 32]), RunId::from_bytes([4; 16]));
        let mandate = mandate.clone();
        let meta = ShardMeta { account, manifest, index, tag, run, mandate, stored: UnixTime::from_secs(1) };
        store.put(&checked, &meta).expect("stored");
        let challenged = Challenged { account, segment, index };
        kept.push((Asked { challenged, shard }, bytes));
    }
    let sample: Vec<&(Asked, Vec<u8>)> = kept.iter().cycle().take(MAX_CHALLENGE).collect();
    let asked: Vec<Asked> = sample.iter().map(|(asked, _)| *asked).collect();

    let answer = |nonce: &Nonce| {
        let mut proofs = Vec::new();
        for Asked { challenged: Challenged { account, segment, index }, .. } in &asked {
            let proof = store.prove(account, segment, *index, nonce).expect("reads").expect("there");
            proof.write(&mut proofs);
        }
        proofs
    };
    let with = fastest(|nonce| drop(black_box(answer(nonce))));
    let without = fastest(|nonce| {
        let mut proofs = Vec::new();
        let length = ShardLen::FULL;
        for Asked { challenged: Challenged { account, segment, index }, shard } in &asked {
            let bytes = store.get(account, segment, *index).expect("reads").expect("there");
            let leaf = challenged_leaf(nonce, shard, length);
            let start = leaf as usize * LEAF / GROUP * GROUP;
            let proof = prove(length, leaf, &bytes[start..start + GROUP], &groups(&bytes)).expect("proves");
            proof.write(&mut proofs);
        }
        black_box(proofs);
    });
    let verdicts = vec![Verdict::Proved; MAX_CHALLENGE];
    let payloads: Vec<Vec<u8>> = (0..ROUNDS).map(|n| answer(&Nonce::from_bytes([n; 32]))).collect();
    let named: Vec<(ShardId, ShardLen)> = asked.iter().map(|asked| (asked.shard, ShardLen::FULL)).collect();
    let checking = fastest(|nonce| {
        let payload = &payloads[usize::from(nonce.as_bytes()[0])];
        let shown = check_proofs(nonce, &named, &verdicts, payload);
        assert!(shown.iter().all(|shown| *shown == ProofVerdict::Proved));
    });

    let shards_per_tb = 1e12 / f64::from(ShardLen::FULL.get());
    println!(
        "one sample of {MAX_CHALLENGE} of the {shards_per_tb:.0} full shards of a terabyte, once an hour:"
    );
    let group = GROUP + ShardLen::FULL.get() as usize / GROUP * 32;
    println!("{:<34} {:>12}  {:>19}  {:>13}", "per TB-hour", "CPU", "", "bytes read");
    show("storage node, tree cache on", with, MAX_CHALLENGE * group);
    show("storage node, tree cache off", without, MAX_CHALLENGE * ShardLen::FULL.get() as usize);
    show("mediator", checking, payloads[0].len());
    let request = MAX_CHALLENGE * 96;
    println!(
        "on the wire: {:.1} KiB of proofs, about {:.1} KiB of challenge",
        payloads[0].len() as f64 / 1024.0,
        request as f64 / 1024.0
    );
    let day = 24.0 * (payloads[0].len() + request) as f64;
    println!("a day's audits of a terabyte: {:.1} MB, {:.5} % of it", day / 1e6, day / 1e12 * 100.0);
    println!(
        "the tree cache takes {:.2} % of the disk and saves {:.1} times the CPU",
        3200.0 / GROUP as f64,
        without.as_secs_f64() / with.as_secs_f64()
    );
}
