//! What needs no bitcoind: opening, addresses, the journal.

use super::record::Record;
use super::*;
use crate::ChainSource;
use bitcoin::Network;
use zeroize::Zeroizing;

fn setup(folder: &std::path::Path, seed: u8) -> TreasurySetup {
    TreasurySetup {
        network: Network::Regtest,
        folder: folder.to_owned(),
        seed: Zeroizing::new([seed; 64]),
        chain: ChainSource::Bitcoind(Bitcoind {
            host: "127.0.0.1".to_owned(),
            port: 1,
            cookie: folder.join("cookie"),
        }),
        birthday: None,
    }
}

#[test]
fn addresses_are_those_of_any_wallet_with_the_same_words_and_survive_a_restart() {
    let dir = tempfile::tempdir().expect("a folder");
    // The test vector of BIP-84: `abandon … about`, whose first address on the main network is
    // bc1qcr8te4kr609gcawutmrza0j4xv80jy8z306fyu.
    let seed = "5eb00bbddcf069084889a8ab9155568165f5c453ccb85e70811aaed6f6da5fc19a5ac40b389cd370d086206dec8aa6c43daea6690f20ad3d8d48b2d2ce9e38e4";
    let bytes = hex::decode(seed).expect("hexadecimal");
    let mut setup_main = setup(dir.path(), 0);
    setup_main.network = Network::Bitcoin;
    setup_main.seed.copy_from_slice(&bytes);
    let treasury = Treasury::open(setup_main).expect("opens without a bitcoind");
    assert_eq!(treasury.address(0).expect("revealed"), "bc1qcr8te4kr609gcawutmrza0j4xv80jy8z306fyu");
    let fifth = treasury.address(5).expect("revealed");
    let descriptors = treasury.descriptors();
    assert!(
        descriptors.iter().all(|text| text.starts_with("wpkh([73c5da0a/84'/0'/0']xpub")),
        "{descriptors:?}"
    );
    assert_eq!(treasury.address(0).expect("known"), "bc1qcr8te4kr609gcawutmrza0j4xv80jy8z306fyu");
    drop(treasury);
    let mut again = setup(dir.path(), 0);
    again.network = Network::Bitcoin;
    again.seed.copy_from_slice(&bytes);
    assert_eq!(Treasury::open(again).expect("opens").address(5).expect("known"), fifth);
}

#[test]
fn the_folder_of_another_seed_or_network_is_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    drop(Treasury::open(setup(dir.path(), 1)).expect("opens"));
    assert!(matches!(Treasury::open(setup(dir.path(), 2)), Err(TreasuryError::Foreign { .. })));
    let mut signet = setup(dir.path(), 1);
    signet.network = Network::Signet;
    assert!(matches!(Treasury::open(signet), Err(TreasuryError::Foreign { .. })));
    drop(Treasury::open(setup(dir.path(), 1)).expect("opens still"));
}

#[test]
fn a_journal_that_was_cut_anywhere_in_its_last_record_opens() {
    let dir = tempfile::tempdir().expect("a folder");
    let treasury = Treasury::open(setup(dir.path(), 1)).expect("opens");
    let path = dir.path().join("journal");
    let before = std::fs::metadata(&path).expect("there").len();
    let third = treasury.address(3).expect("revealed");
    drop(treasury);
    let whole = std::fs::read(&path).expect("reads");
    for length in usize::try_from(before).expect("short")..=whole.len() {
        std::fs::write(&path, &whole[..length]).expect("writes");
        let treasury = Treasury::open(setup(dir.path(), 1)).expect("opens");
        assert_eq!(treasury.address(3).expect("revealed"), third);
    }
}

#[test]
fn what_is_no_address_of_the_network_is_refused_by_name() {
    let dir = tempfile::tempdir().expect("a folder");
    let treasury = Treasury::open(setup(dir.path(), 1)).expect("opens");
    assert!(is_address(&treasury.address(0).expect("ours"), Network::Regtest));
    for text in ["", "lno1", "bc1qcr8te4kr609gcawutmrza0j4xv80jy8z306fyu"] {
        assert!(!is_address(text, Network::Regtest), "{text}");
    }
    let bytes = Record::Buried(fincrypt_protocol::PayoutId::from_bytes([1; 16])).to_bytes().expect("encodes");
    assert!(Record::from_bytes(&bytes[1..]).is_err());
}
