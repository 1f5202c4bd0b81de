//! Signed records, as they come from the DHT, from gossip and in messages.

#![no_main]

use fincrypt_protocol::admission::{admit_mediator_record, admit_offer};
use fincrypt_protocol::record::{
    Adopt, Head, HolderList, Keep, Mandate, Receipt, Registration, Release, Rewind, Undo,
};
use fincrypt_protocol::statement::{Countersigned, Statement};
use fincrypt_protocol::{Body, Network, Signed, UnixTime};

fn read<T: Body>(bytes: &[u8]) {
    if let Ok(signed) = Signed::<T>::from_bytes(bytes) {
        let _ = signed.verify(Network::Test, UnixTime::from_secs(1));
    }
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    read::<Adopt>(bytes);
    read::<Head>(bytes);
    read::<HolderList>(bytes);
    read::<Keep>(bytes);
    read::<Mandate>(bytes);
    read::<Receipt>(bytes);
    read::<Registration>(bytes);
    read::<Release>(bytes);
    read::<Rewind>(bytes);
    read::<Statement>(bytes);
    read::<Undo>(bytes);
    if let Ok(statement) = Countersigned::from_bytes(bytes) {
        let _ = statement.verify(Network::Test);
    }
    let _ = admit_offer(bytes, Network::Test, UnixTime::from_secs(1));
    let _ = admit_mediator_record(&[0; 32], bytes, Network::Test, UnixTime::from_secs(1));
});
