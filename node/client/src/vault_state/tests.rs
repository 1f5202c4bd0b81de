//! Transitions at random, with a power cut between any two writes.

mod account;
mod legal;
mod remote;
mod sim;
mod world;

use std::sync::OnceLock;

use fincrypt_protocol::record::Head;
use fincrypt_protocol::{Code, Manifest, Network, RunId, ShardId, ShardLen, UnixTime, Verified};
use fincrypt_vault::head::{HeadBody, seal_head};
use fincrypt_vault::keyfile::VaultKeys;
use fincrypt_vault::words::Words;

fn run_id(number: u64) -> RunId {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    RunId::from_bytes(bytes)
}

fn manifest(number: u64) -> Manifest {
    let ids = [0, 1].map(|shard| {
        let mut bytes = [shard; 32];
        bytes[..8].copy_from_slice(&number.to_be_bytes());
        ShardId::from_bytes(bytes)
    });
    Manifest::new(Code::new(1, 1).expect("valid"), ShardLen::FULL, ids.to_vec()).expect("valid")
}

/// A head of this sequence.
fn head(sequence: u64) -> Verified<Head> {
    static KEYS: OnceLock<VaultKeys> = OnceLock::new();
    let keys = KEYS.get_or_init(|| Words::generate().expect("words").vault_keys());
    let body = HeadBody { refs: Vec::new(), slots: 1, time: UnixTime::from_secs(1), releases: Vec::new() };
    let head = seal_head(keys, 0, Network::Main, sequence, None, &body).expect("seals");
    head.verify(Network::Main, UnixTime::from_secs(1)).expect("signed")
}
