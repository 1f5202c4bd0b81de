//! A rewind and the head it names, which travel together: whoever hears of it has both.

use serde::{Deserialize, Serialize};

use crate::id::GuardKey;
use crate::network::Network;
use crate::record::{Head, Rewind};
use crate::signed::{RecordError, Signed, Verified};
use crate::time::UnixTime;

/// A rewind with its head, unchecked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rewound {
    /// The guard's statement.
    pub rewind: Signed<Rewind>,
    /// The head it names.
    pub base: Signed<Head>,
}

/// A rewind with its head, checked.
#[derive(Debug, Clone)]
pub struct VerifiedRewound {
    /// The guard's statement.
    pub rewind: Verified<Rewind>,
    /// The head it names.
    pub base: Verified<Head>,
}

impl Rewound {
    /// Checks both records, and that they belong together and to the guard.
    ///
    /// # Errors
    /// [`RecordError::WrongKey`] for another guard, [`RecordError::Inconsistent`] for another head, or
    /// what is wrong with one of the records.
    pub fn verify(
        &self,
        network: Network,
        guard_key: &GuardKey,
        now: UnixTime,
    ) -> Result<VerifiedRewound, RecordError> {
        let rewind = self.rewind.verify(network, now)?;
        let base = self.base.verify(network, now)?;
        if rewind.guard_key != *guard_key {
            return Err(RecordError::WrongKey);
        }
        if rewind.account != base.account || rewind.base != self.base.head_hash() {
            return Err(RecordError::Inconsistent);
        }
        Ok(VerifiedRewound { rewind, base })
    }
}

impl VerifiedRewound {
    /// Both as they travelled.
    #[must_use]
    pub fn rewound(&self) -> Rewound {
        Rewound { rewind: self.rewind.signed().clone(), base: self.base.signed().clone() }
    }
}

#[cfg(test)]
mod tests {
    use serde_bytes::ByteBuf;
    use zeroize::Zeroizing;

    use super::*;
    use crate::SigningKey;

    fn key(seed: u8) -> SigningKey {
        SigningKey::from_seed(&Zeroizing::new([seed; 32]))
    }

    fn head(account: u8, sequence: u64) -> Signed<Head> {
        let (account, head_key) = (key(account).account(), key(2).head_key());
        let body = ByteBuf::new();
        let head = Head { network: Network::Local, account, head_key, sequence, previous: None, body };
        Signed::seal(&head, &key(2)).expect("seals")
    }

    #[test]
    fn it_holds_for_its_guard_its_account_and_its_head_alone() {
        let rewind = Rewind {
            network: Network::Local,
            account: key(1).account(),
            guard_key: key(3).guard_key(),
            base: head(1, 5).head_hash(),
            head_key: key(4).head_key(),
            sequence: 7,
        };
        let rewind = Signed::seal(&rewind, &key(3)).expect("seals");
        let verify = |base: Signed<Head>, guard: u8| {
            let rewound = Rewound { rewind: rewind.clone(), base };
            rewound.verify(Network::Local, &key(guard).guard_key(), UnixTime::from_secs(1))
        };
        assert!(verify(head(1, 5), 3).is_ok_and(|both| both.rewound().rewind == rewind));
        assert!(matches!(verify(head(1, 5), 1), Err(RecordError::WrongKey)));
        assert!(matches!(verify(head(1, 6), 3), Err(RecordError::Inconsistent)));
        assert!(matches!(verify(head(9, 5), 3), Err(RecordError::Inconsistent)));
    }
}
