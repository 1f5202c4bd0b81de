//! The account's transitions.

use fincrypt_protocol::amount::Price;
use fincrypt_protocol::record::{Mandate, Rights};
use fincrypt_protocol::{AccountId, Network, NodeId, UnixTime};

use super::head;
use super::sim::Sim;
use crate::vault_state::{FoundAccount, PriceLimit, VaultStateError};

fn node(byte: u8) -> NodeId {
    NodeId::from_bytes([byte; 32])
}

fn mandate(mediator: NodeId, sequence: u64, max_price: Option<Price>) -> Mandate {
    Mandate {
        network: Network::Main,
        account: AccountId::from_bytes([1; 32]),
        mediator,
        rights: Rights { put: true, audit: true, get: true },
        byte_cap: 1,
        sequence,
        expiry: UnixTime::from_secs(9),
        max_price,
    }
}

#[test]
fn the_account_of_a_vault_with_a_head_is_not_changed() {
    let state = Sim::default().open();
    state.account().choose(2).expect("new");
    state.saw_head(&head(1)).expect("the first");
    let refused = state.account().choose(3);
    assert!(matches!(refused, Err(VaultStateError::AccountInUse { used: 2 })), "{refused:?}");
}

#[test]
fn a_recovered_account_puts_its_head_in_the_place_of_another_ones() {
    let state = Sim::default().open();
    state.saw_head(&head(5)).expect("the first");
    let (mandate, chosen) = (mandate(node(7), 40, None), head(2));
    let found =
        FoundAccount { index: 3, mandate: Some(&mandate), head: Some((&chosen, &[][..])), rewound: None };
    state.account().recover(found).expect("another account");
    assert_eq!(state.account().index().expect("read"), 3);
    assert_eq!(state.account().mediator().expect("read"), Some(node(7)));
    assert_eq!(state.account().mandate_base().expect("read"), 40);
    assert_eq!(state.head().expect("read").as_ref(), Some(chosen.signed()));
}

#[test]
fn a_move_and_a_mandate_of_another_device_say_which_mediator_is_the_vaults() {
    let state = Sim::default().open();
    assert_eq!(state.account().mediator().expect("read"), None);
    state.account().choose_mediator(node(1)).expect("the first");
    state.account().moved(node(2), 8).expect("moved");
    assert_eq!(state.account().mediator().expect("read"), Some(node(2)));
    assert_eq!(state.account().mandate_base().expect("read"), 8);
    state.account().follow_mandate(&mandate(node(3), 9, None)).expect("followed");
    assert_eq!(state.account().mediator().expect("read"), Some(node(3)));
    assert_eq!(state.account().mandate_base().expect("read"), 9);
}

#[test]
fn the_price_limit_is_another_devices_until_the_configured_one_changes() {
    let state = Sim::default().open();
    let limit = |configured| match state.account().price_limit(configured).expect("read") {
        PriceLimit::Unchanged(limit) => Ok(limit),
        PriceLimit::Changed => Err(()),
    };
    assert_eq!(limit(None), Ok(None));
    state.account().follow_mandate(&mandate(node(1), 2, Some(Price::new(50)))).expect("followed");
    assert_eq!(limit(None), Ok(Some(Price::new(50))));
    assert_eq!(limit(Some(Price::new(70))), Err(()));
    state.account().set_price_limit(Some(Price::new(70)), 3).expect("set");
    assert_eq!(limit(Some(Price::new(70))), Ok(Some(Price::new(70))));
    assert_eq!(state.account().mandate_base().expect("read"), 3);
}

#[test]
fn no_release_sequence_is_reserved_twice() {
    let state = Sim::default().open();
    let reserve = |now| state.account().reserve_release_sequence(UnixTime::from_secs(now)).expect("reserved");
    assert_eq!([reserve(10), reserve(10), reserve(5), reserve(20)], [10, 11, 12, 20]);
}
