//! A mediator's wallet on the chain against a real bitcoind, and over Esplora: deposits that come and go, payouts that
//! are sent again, replaced, and never paid twice.

use std::path::Path;

use fincrypt_protocol::amount::Sat;
use fincrypt_protocol::{PayoutId, TxId};
use fincrypt_testkit::{Bitcoind, ChainWallet, Esplora, Scratch, WalletError};
use fincrypt_treasury::ChainSource;
use fincrypt_treasury::onchain::{Output, StandsOnChain, Treasury, TreasuryError};
use serde_json::json;

/// Opens a wallet that learns of the chain from bitcoind, or over Esplora.
fn open_over(
    esplora: Option<&Esplora>,
    bitcoind: &Bitcoind,
    folder: &Path,
    seed: u8,
) -> Result<ChainWallet, WalletError> {
    match esplora {
        Some(esplora) => ChainWallet::open_at(ChainSource::Esplora { url: esplora.url() }, folder, seed),
        None => ChainWallet::open(bitcoind, folder, seed),
    }
}

fn payout(id: u8) -> PayoutId {
    PayoutId::from_bytes([id; 16])
}

fn output(address: String, sat: u64) -> Output {
    Output { address, amount: Sat::new(sat) }
}

/// Satoshi and confirmations of everything that arrived, by address.
fn arrived(treasury: &Treasury) -> Vec<(u32, u64, u32)> {
    treasury.sync().expect("syncs");
    let mut arrived: Vec<_> =
        treasury.arrivals().iter().map(|came| (came.index, came.amount.get(), came.confirmations)).collect();
    arrived.sort_unstable();
    arrived
}

fn confirmations(treasury: &Treasury, id: u8) -> u32 {
    treasury.sync().expect("syncs");
    match treasury.stands(payout(id)) {
        Some(StandsOnChain::Mined { confirmations, .. }) => confirmations,
        Some(StandsOnChain::Waiting { .. }) => 0,
        other => panic!("payout {id} stands {other:?}"),
    }
}

/// Blocks without the transactions that wait.
fn mine_empty(bitcoind: &Bitcoind, blocks: u32, to: &str) {
    for _ in 0..blocks {
        bitcoind.call("generateblock", &json!([to, []])).expect("mines");
    }
}

#[test]
fn deposits_come_and_go_and_payouts_are_made_once_whatever_happens() {
    live(false);
}

#[test]
fn over_esplora_deposits_come_and_go_and_payouts_are_made_once_as_well() {
    live(true);
}

fn live(over_esplora: bool) {
    let scratch = Scratch::new("treasury").expect("a folder");
    let mut bitcoind = Bitcoind::start(&scratch.path().join("bitcoind")).expect("a bitcoind");
    bitcoind.mine(1).expect("mines");
    let esplora = over_esplora.then(|| Esplora::start(&bitcoind).expect("serves"));
    let open = |bitcoind: &Bitcoind, folder: &Path, seed: u8| {
        open_over(esplora.as_ref(), bitcoind, folder, seed).expect("opens").treasury
    };
    let payer = open(&bitcoind, scratch.path(), 1);
    let mediator = open(&bitcoind, scratch.path(), 2);
    bitcoind.fund(&payer.address(0).expect("an address")).expect("funded");
    payer.sync().expect("syncs");
    let begun = payer.funds().confirmed;
    assert!(begun > Sat::ZERO && payer.funds().committed == Sat::ZERO);

    // Two clients' deposits, counted block by block.
    let outputs = [
        output(mediator.address(0).expect("revealed"), 50_000),
        output(mediator.address(3).expect("revealed"), 60_000),
    ];
    let fee = payer.quote(&outputs, 6).expect("a quote");
    let prepared = payer.prepare(payout(1), &outputs, fee).expect("signed");
    assert_eq!(prepared.fee, fee);
    assert_eq!(arrived(&mediator), []);
    payer.send(payout(1)).expect("sent");
    bitcoind.mine(1).expect("mines");
    assert_eq!(arrived(&mediator), [(0, 50_000, 1), (3, 60_000, 1)]);
    bitcoind.mine(2).expect("mines");
    assert_eq!(arrived(&mediator), [(0, 50_000, 3), (3, 60_000, 3)]);
    assert_eq!(confirmations(&payer, 1), 3);

    // The chain is reorganised: they are gone, until they are in a block again.
    let nobody = mediator.descriptors();
    assert!(nobody[0].starts_with("wpkh("));
    let elsewhere = open(&bitcoind, scratch.path(), 9).address(0).expect("an address");
    let height = bitcoind.call("getblockcount", &json!([])).expect("a height").as_u64().expect("a number");
    let block = bitcoind.call("getblockhash", &json!([height - 2])).expect("a hash");
    bitcoind.call("invalidateblock", &json!([block])).expect("invalid");
    mine_empty(&bitcoind, 4, &elsewhere);
    assert_eq!(arrived(&mediator), []);
    assert_eq!(confirmations(&payer, 1), 0);
    payer.send(payout(1)).expect("sent again");
    bitcoind.mine(1).expect("mines");
    assert_eq!(arrived(&mediator), [(0, 50_000, 1), (3, 60_000, 1)]);

    assert_eq!(confirmations(&payer, 1), 1);

    // A crash between signing and sending: what is sent afterwards is the same transaction.
    let batch: Vec<Output> =
        (10..30).map(|at| output(mediator.address(at).expect("revealed"), 1000 + u64::from(at))).collect();
    let fee = payer.quote(&batch, 6).expect("a quote");
    let prepared = payer.prepare(payout(2), &batch, fee).expect("signed");
    drop(payer);
    let payer = open(&bitcoind, scratch.path(), 1);
    assert_eq!(payer.prepare(payout(2), &batch, Sat::new(9999)).expect("known"), prepared);
    assert!(matches!(payer.prepare(payout(2), &outputs, fee), Err(TreasuryError::Differs(_))));
    assert!(payer.funds().committed > Sat::ZERO, "its coins are spent by nothing else");
    for _ in 0..3 {
        assert_eq!(payer.send(payout(2)).expect("sent"), prepared.transaction);
    }
    bitcoind.mine(1).expect("mines");
    assert_eq!(payer.send(payout(2)).expect("it is in the chain"), prepared.transaction);
    let came: Vec<_> = arrived(&mediator).into_iter().filter(|(index, ..)| *index >= 10).collect();
    assert_eq!(came, (10..30).map(|at| (at, 1000 + u64::from(at), 1)).collect::<Vec<_>>());
    let id = prepared.transaction.to_string();
    let best = bitcoind.call("getbestblockhash", &json!([])).expect("a hash");
    let block = bitcoind.call("getblock", &json!([best, 2])).expect("a block");
    let found = block["tx"].as_array().expect("transactions").iter().find(|tx| tx["txid"] == id.as_str());
    let found = found.expect("the payout is in the block");
    let stated = found["fee"].as_f64().expect("a fee");
    assert_eq!((stated * 1e8).round() as u64, fee.get(), "what bitcoind says it cost");
    eprintln!("20 outputs: {} vB, {fee}", found["vsize"]);

    assert_eq!(confirmations(&payer, 2), 1);

    // A payout that waits is replaced; whichever version is mined, each recipient is paid once.
    let third = [output(mediator.address(40).expect("revealed"), 70_000)];
    let fee = payer.quote(&third, 6).expect("a quote");
    let first = payer.prepare(payout(3), &third, fee).expect("signed");
    payer.send(payout(3)).expect("sent");
    assert!(matches!(payer.replace(payout(3), fee), Err(TreasuryError::Fee { .. })));
    let second = payer.replace(payout(3), Sat::new(fee.get() * 5)).expect("signed");
    assert_ne!(first.transaction, second.transaction);
    assert_eq!(payer.send(payout(3)).expect("sent"), second.transaction);
    bitcoind.mine(1).expect("mines");
    payer.sync().expect("syncs");
    let stands = payer.stands(payout(3));
    assert_eq!(stands, Some(StandsOnChain::Mined { version: second, confirmations: 1 }));
    let came: Vec<_> = arrived(&mediator).into_iter().filter(|(index, ..)| *index == 40).collect();
    assert_eq!(came, [(40, 70_000, 1)]);

    // Too much, too little, nowhere: nothing is signed.
    let rich = [output(elsewhere.clone(), begun.get() * 2)];
    assert!(matches!(payer.quote(&rich, 6), Err(TreasuryError::Insufficient(_))));
    assert!(matches!(payer.quote(&[output(elsewhere, 10)], 6), Err(TreasuryError::Dust(_))));
    assert!(matches!(payer.quote(&[output("bc1q".to_owned(), 1000)], 6), Err(TreasuryError::Address(_))));

    // bitcoind goes away and comes back with another cookie.
    bitcoind.stop().expect("ends");
    assert!(matches!(payer.sync(), Err(TreasuryError::Bitcoind { .. } | TreasuryError::Esplora { .. })));
    bitcoind.restart().expect("starts again");
    bitcoind.mine(1).expect("mines");
    assert_eq!(confirmations(&payer, 3), 2);
    // What is deep in the chain is forgotten only once the books need it no more.
    bitcoind.mine(150).expect("mines");
    assert!([1, 2, 3].map(|id| confirmations(&payer, id)).iter().all(|blocks| *blocks > 150));
    let fees = [1, 2, 3].map(|id| payer.versions(payout(id)).last().expect("a version").fee.get());
    let first = payer.versions(payout(1))[0];
    payer.bury(|id| id == payout(1)).expect("forgotten");
    assert_eq!(payer.stands(payout(1)), None);
    assert!(confirmations(&payer, 2) > 150);
    let found = payer.sent(first.transaction).expect("the chain has it");
    assert!(found.0 == first && found.1 > 150, "{found:?}");
    assert_eq!(payer.sent(TxId::from_bytes([7; 32])), None);

    let spent = begun.get() - payer.funds().confirmed.get();
    let paid: u64 = 50_000 + 60_000 + batch.iter().map(|out| out.amount.get()).sum::<u64>() + 70_000;
    assert_eq!(spent, paid + fees.iter().sum::<u64>(), "not a satoshi more");
}
