//! What needs no bitcoind: opening, addresses, the journal.

use super::record::{Record, Version};
use super::*;
use crate::ChainSource;
use bdk_wallet::Update;
use bdk_wallet::bitcoin::consensus::encode::serialize;
use bdk_wallet::bitcoin::hashes::Hash;
use bdk_wallet::bitcoin::{
    Amount, BlockHash, Network, ScriptBuf, Transaction, TxIn, TxOut, absolute, transaction,
};
use bdk_wallet::chain::{BlockId, ConfirmationBlockTime};
use fincrypt_protocol::amount::Sat;
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
    let bytes: Vec<u8> =
        (0..64).map(|at| u8::from_str_radix(&seed[2 * at..2 * at + 2], 16).expect("hex")).collect();
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

#[test]
fn the_wallet_is_free_while_the_books_are_asked_whether_a_payout_is_over() {
    let dir = tempfile::tempdir().expect("a folder");
    let treasury = Treasury::open(setup(dir.path(), 1)).expect("opens");
    let [over, open] = [1, 2].map(|id| fincrypt_protocol::PayoutId::from_bytes([id; 16]));
    {
        let mut inner = treasury.lock();
        let block = |height: u32| BlockId { height, hash: BlockHash::from_byte_array([height as u8; 32]) };
        let tip = inner.wallet.latest_checkpoint().extend([block(1), block(200)]).expect("a chain");
        let mut update = Update { chain: Some(tip), ..Update::default() };
        for (payout, sat) in [(over, 1000), (open, 2000)] {
            let output = TxOut { value: Amount::from_sat(sat), script_pubkey: ScriptBuf::new() };
            let transaction = Transaction {
                version: transaction::Version::TWO,
                lock_time: absolute::LockTime::ZERO,
                input: vec![TxIn::default()],
                output: vec![output],
            };
            let raw = serde_bytes::ByteBuf::from(serialize(&transaction));
            let version = Version { payout, outputs: Vec::new(), fee: Sat::new(1), raw, height: 0 };
            inner.payouts.add(version).expect("added");
            let anchor = ConfirmationBlockTime { block_id: block(1), confirmation_time: 0 };
            update.tx_update.anchors.insert((anchor, transaction.compute_txid()));
            update.tx_update.txs.push(transaction.into());
        }
        inner.wallet.apply_update(update).expect("applied");
    }
    let asked = |payout| {
        // Somebody else holds the books and looks at the wallet meanwhile.
        assert!(treasury.funds().height == 200);
        payout == over
    };
    treasury.bury(asked).expect("forgotten");
    assert_eq!(treasury.stands(over), None);
    assert!(matches!(treasury.stands(open), Some(StandsOnChain::Mined { confirmations: 200, .. })));
}
