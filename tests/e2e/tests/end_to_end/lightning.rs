//! The Lightning node against a real bitcoind: payments that are sent twice are paid once.

use fincrypt_e2e::DEADLINE;
use fincrypt_protocol::PayoutId;
use fincrypt_protocol::amount::Msat;
use fincrypt_testkit::{Bitcoind, LightningWallet, Scratch, wait_until};
use fincrypt_treasury::lightning::{Destination, Lightning, LightningError, MAX_IN_FLIGHT, Payment, Stands};
use ldk_node::bitcoin::hashes::{Hash, sha256};
use ldk_node::bitcoin::secp256k1::{Secp256k1, SecretKey};
use ldk_node::lightning_invoice::{
    Currency, InvoiceBuilder, PaymentSecret, RouteHint, RouteHintHop, RoutingFees,
};

fn sat(sat: u64) -> Msat {
    Msat::new(sat * 1000)
}

fn open(
    bitcoind: &Bitcoind,
    scratch: &Scratch,
    name: &str,
    seed: u8,
    trusted: Vec<String>,
) -> LightningWallet {
    LightningWallet::open(bitcoind, scratch.path(), name, seed, trusted).expect("opens")
}

fn payment(id: u8, to: &str, amount: Msat) -> Payment {
    let to: Destination = to.parse().expect("a destination");
    Payment { id: PayoutId::from_bytes([id; 16]), to, amount, fee_cap: Msat::new(amount.get() / 10) }
}

fn wait_paid(node: &Lightning, payment: &Payment) {
    let mut stands = Stands::Unknown;
    let paid = wait_until(DEADLINE, || {
        stands = node.stands(payment);
        matches!(stands, Stands::Paid { .. })
    });
    assert!(paid, "{stands:?}");
}

/// An invoice over 20 sat of somebody whom nobody knows, and who says that whoever pays it comes by a channel
/// of `node`, which takes `fee` for it.
fn beyond(node: &str, seed: u8, fee: Msat) -> String {
    let payee = SecretKey::from_slice(&[seed; 32]).expect("a key");
    let hop = RouteHintHop {
        src_node_id: node.parse().expect("a key"),
        short_channel_id: 42,
        fees: RoutingFees { base_msat: fee.get() as u32, proportional_millionths: 0 },
        cltv_expiry_delta: 40,
        htlc_minimum_msat: None,
        htlc_maximum_msat: None,
    };
    let invoice = InvoiceBuilder::new(Currency::Regtest)
        .description("far away".to_owned())
        .payment_hash(sha256::Hash::hash(&[seed]))
        .payment_secret(PaymentSecret([seed; 32]))
        .current_timestamp()
        .min_final_cltv_expiry_delta(144)
        .amount_milli_satoshis(20_000)
        .private_route(RouteHint(vec![hop]))
        .build_signed(|hash| Secp256k1::new().sign_ecdsa_recoverable(hash, &payee));
    invoice.expect("an invoice").to_string()
}

fn pay_each_destination(scratch: &Scratch) {
    let bitcoind = Bitcoind::start(&scratch.path().join("bitcoind")).expect("a bitcoind");
    bitcoind.mine(1).expect("mines");
    let mediator = open(&bitcoind, scratch, "mediator", 1, Vec::new());
    let storage = open(&bitcoind, scratch, "storage", 2, vec![mediator.node.id()]);
    let too_poor = mediator.node.open_channel(&storage.peer.parse().expect("a peer"), 200_000, sat(0), false);
    assert!(matches!(too_poor, Err(LightningError::Channel { .. })), "{too_poor:?}");
    bitcoind.fund(&mediator.node.funding_address().expect("an address")).expect("funded");
    mediator.node.sync().expect("syncs");
    // Storage trusts its mediator: the channel is usable before a block has it.
    let peer = storage.peer.parse().expect("a peer");
    mediator.node.open_channel(&peer, 200_000, sat(20_000), true).expect("opens");
    let usable = || mediator.node.channels().iter().any(|channel| channel.usable);
    assert!(wait_until(DEADLINE, usable), "{:?}", mediator.node.channels());
    bitcoind.mine(6).expect("mines");
    // A payee that has seen more blocks than the payer thinks the payment ends too soon.
    for party in [&mediator, &storage] {
        party.node.sync().expect("syncs");
    }

    // Whatever is paid, and however often the ledger's intent is carried out, arrives once.
    let (_, offer) = storage.node.offer("an operator's").expect("an offer");
    let invoice = storage.node.invoice(sat(5), "an invoice").expect("an invoice");
    let wrong = mediator.node.pay(&payment(9, &invoice, sat(6)));
    assert!(matches!(wrong, Err(LightningError::Amount(_))), "{wrong:?}");
    let payments =
        [payment(1, &offer, sat(3)), payment(2, &storage.node.id(), sat(1)), payment(3, &invoice, sat(5))];
    for payment in &payments {
        assert_eq!(mediator.node.stands(payment), Stands::Unknown);
        for _ in 0..3 {
            let sent = mediator.node.pay(payment).expect("sent");
            assert!(matches!(sent, Stands::Pending | Stands::Paid { .. }), "{sent:?}");
        }
        wait_paid(&mediator.node, payment);
        assert!(matches!(mediator.node.pay(payment), Ok(Stands::Paid { .. })), "it is known later, too");
    }
    assert!(wait_until(DEADLINE, || storage.received() == 9), "{:?}", storage.node.deposits());

    // A client's deposit is attributed by the offer that it was given.
    let (ours, theirs) =
        (mediator.node.offer("one").expect("made"), mediator.node.offer("two").expect("made"));
    assert_ne!(ours.0, theirs.0);
    let deposit = payment(4, &ours.1, sat(1000));
    storage.node.pay(&deposit).expect("sent");
    let came =
        || mediator.node.deposits().iter().any(|came| came.offer == Some(ours.0) && came.amount == sat(1000));
    assert!(wait_until(DEADLINE, came), "{:?}", mediator.node.deposits());

    // No more are under way than a channel bears; each is paid in the end, and once.
    let many: Vec<Payment> = (10..50).map(|id| payment(id, &storage.node.id(), sat(1))).collect();
    let mut busy = 0;
    for payment in &many {
        let sent = wait_until(DEADLINE, || match mediator.node.pay(payment) {
            Ok(_) => true,
            Err(LightningError::Busy) => {
                busy += 1;
                false
            }
            Err(error) => panic!("{error}"),
        });
        assert!(sent);
    }
    assert!(busy > 0 || many.len() <= MAX_IN_FLIGHT, "all of them were under way at once");
    many.iter().for_each(|payment| wait_paid(&mediator.node, payment));
    assert!(wait_until(DEADLINE, || storage.received() == 49), "{}", storage.received());

    // The only route to a payee beyond storage costs 5 sat: it is taken if as much may be paid, and not else.
    for (id, cap, sent) in [(70, 4_999, false), (71, 5_000, true)] {
        let invoice = beyond(&storage.node.id(), id, Msat::new(5_000));
        let payment = Payment { fee_cap: Msat::new(cap), ..payment(id, &invoice, sat(20)) };
        let outcome = mediator.node.pay(&payment);
        let as_capped =
            if sent { outcome.is_ok() } else { matches!(outcome, Err(LightningError::NotSent(_))) };
        assert!(as_capped, "at {cap} msat: {outcome:?}");
    }

    // Nobody is there: nothing is paid, and the same payment may be tried again.
    storage.node.close().expect("stops");
    let later = payment(60, &storage.node.id(), sat(1));
    let failed = wait_until(DEADLINE, || {
        let _ = mediator.node.pay(&later);
        mediator.node.stands(&later) == Stands::Failed
    });
    assert!(failed, "{:?}", mediator.node.stands(&later));
}

#[test]
fn each_kind_of_destination_is_paid_once_however_often_it_is_sent() {
    let scratch = Scratch::new("lightning").expect("a folder");
    pay_each_destination(&scratch);
}
