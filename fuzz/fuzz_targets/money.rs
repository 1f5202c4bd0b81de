//! The ledger's records, as they lie on a damaged disk, and what strangers name as places to pay to.

#![no_main]

use fincrypt_treasury::BitcoinNetwork;
use fincrypt_ledger::Record;
use fincrypt_treasury::lightning::{Destination, Peer};
use fincrypt_treasury::onchain::is_address;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = Record::from_bytes(bytes);
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = text
            .parse::<Destination>()
            .map(|to| to.to_string().parse::<Destination>().expect("its own text"));
        let _ = text.parse::<Peer>().map(|peer| peer.to_string());
        let _ = is_address(text, BitcoinNetwork::Signet);
    }
});
