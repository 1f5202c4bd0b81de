//! The statements of a migration, verified, and that they fit together.

use fincrypt_protocol::limits::{MAX_ADOPT_HINTS, MAX_ADOPT_KEEPS, MAX_ADOPT_RELEASES};
use fincrypt_protocol::mediate::MigrateIn;
use fincrypt_protocol::record::{
    Adopt, Head, Keep, MAX_MANDATE_LIFE, Mandate, Registration, check_life, is_too_far_ahead,
};
use fincrypt_protocol::{AccountId, Body, Network, NodeId, Signed, UnixTime, Verified, VerifiedRewound};

use super::MigrationInError;
use super::table::Statements;
use fincrypt_accounts::Stored;

/// An owner's statements for a mediator to which its vault migrates, verified: each is signed by the
/// account's keys and of this account, and the mandate is this mediator's.
#[derive(Debug)]
pub(super) struct VerifiedAdoption {
    pub(super) registration: Verified<Registration>,
    pub(super) adopt: Verified<Adopt>,
    pub(super) mandate: Verified<Mandate>,
    pub(super) keep: Verified<Keep>,
    pub(super) head: Option<Verified<Head>>,
    pub(super) rewound: Option<VerifiedRewound>,
    /// For the holders, which verify them against what they know.
    pub(super) statements: Statements,
    /// Nodes that hold something, by the owner's knowledge.
    pub(super) holders: Vec<NodeId>,
}

/// Checks the statements of an adoption.
struct Verifier {
    network: Network,
    account: AccountId,
    now: UnixTime,
}

impl Verifier {
    /// A statement, if it is signed and of the account.
    fn check<T: Body>(
        &self,
        signed: &Signed<T>,
        account: impl FnOnce(&T) -> AccountId,
    ) -> Result<Verified<T>, MigrationInError> {
        let verified = signed.verify(self.network, self.now).map_err(|_| MigrationInError::Invalid)?;
        if account(&verified) == self.account { Ok(verified) } else { Err(MigrationInError::Invalid) }
    }
}

impl VerifiedAdoption {
    /// Verifies an adoption of the account of `registration` by the mediator `own`.
    ///
    /// # Errors
    /// [`MigrationInError::NotMandated`] for the mandate's signature or life, else
    /// [`MigrationInError::Invalid`].
    pub(super) fn verify(
        registration: Verified<Registration>,
        adoption: MigrateIn,
        (network, own): (Network, NodeId),
        now: UnixTime,
    ) -> Result<Self, MigrationInError> {
        let verifier = Verifier { network, account: registration.account, now };
        let counts = adoption.holders.len() <= MAX_ADOPT_HINTS
            && adoption.keeps.len() <= MAX_ADOPT_KEEPS
            && adoption.releases.len() <= MAX_ADOPT_RELEASES;
        if !counts {
            return Err(MigrationInError::Invalid);
        }
        let adopt = verifier.check(&adoption.adopt, |adopt| adopt.account)?;
        let mandate = adoption.mandate.verify(network, now).map_err(|_| MigrationInError::NotMandated)?;
        check_life(&*mandate, now, MAX_MANDATE_LIFE).map_err(|_| MigrationInError::NotMandated)?;
        let fits = mandate.account == registration.account
            && adopt.new == own
            && mandate.mediator == own
            && mandate.sequence == adopt.sequence
            && !is_too_far_ahead(adopt.sequence, now);
        if !fits {
            return Err(MigrationInError::Invalid);
        }
        let keep = verifier.check(&adoption.keep, |keep| keep.account)?;
        let keeps = adoption.keeps.iter().map(|keep| verifier.check(keep, |keep| keep.account).map(Stored));
        let keeps = keeps.collect::<Result<_, _>>()?;
        let releases = adoption.releases.iter();
        let releases = releases.map(|release| verifier.check(release, |release| release.account).map(Stored));
        let releases = releases.collect::<Result<_, _>>()?;
        let rewound = adoption.rewound.as_ref();
        let rewound = rewound.map(|rewound| rewound.verify(network, &registration.guard_key, now));
        let rewound = rewound.transpose().map_err(|_| MigrationInError::Invalid)?;
        let head =
            adoption.head.as_ref().map(|head| verifier.check(head, |head| head.account)).transpose()?;
        let statements = Statements { keeps, releases };
        let holders = adoption.holders.into_iter().map(|hint| hint.node).collect();
        Ok(Self { registration, adopt, mandate, keep, head, rewound, statements, holders })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{owner, registration};
    use fincrypt_protocol::limits::MAX_MANDATE_AHEAD;
    use fincrypt_protocol::record::Rights;
    use fincrypt_protocol::{RunId, SigningKey};
    use std::time::Duration;

    const NOW: UnixTime = UnixTime::from_secs(1_700_000_000);
    const OWN: NodeId = NodeId::from_bytes([9; 32]);

    fn keep(owner: &SigningKey) -> Signed<Keep> {
        let keep =
            Keep { network: Network::Local, account: owner.account(), run: RunId::from_bytes([1; 16]) };
        Signed::seal(&keep, owner).expect("seals")
    }

    fn adoption(owner: &SigningKey, mediator: NodeId, sequence: u64) -> MigrateIn {
        adoption_of(owner, mediator, sequence, 7)
    }

    fn adoption_of(owner: &SigningKey, mediator: NodeId, sequence: u64, adopted: u64) -> MigrateIn {
        let (network, account) = (Network::Local, owner.account());
        let adopt = Adopt { network, account, old: None, new: OWN, sequence: adopted };
        let mandate = Mandate {
            network,
            account,
            mediator,
            rights: Rights { put: true, audit: true, get: true },
            byte_cap: 1 << 40,
            sequence,
            expiry: NOW.plus(Duration::from_secs(3600)),
            max_price: None,
        };
        MigrateIn {
            adopt: Signed::seal(&adopt, owner).expect("seals"),
            mandate: Signed::seal(&mandate, owner).expect("seals"),
            keep: keep(owner),
            head: None,
            rewound: None,
            holders: Vec::new(),
            keeps: vec![keep(owner)],
            releases: Vec::new(),
        }
    }

    fn verify(owner: &SigningKey, adoption: MigrateIn) -> Result<VerifiedAdoption, MigrationInError> {
        VerifiedAdoption::verify(registration(owner), adoption, (Network::Local, OWN), NOW)
    }

    fn is_invalid(result: Result<VerifiedAdoption, MigrationInError>) -> bool {
        matches!(result, Err(MigrationInError::Invalid))
    }

    #[test]
    fn an_adoption_whose_statements_fit_together_is_verified() {
        let owner = owner(1);
        let verified = verify(&owner, adoption(&owner, OWN, 7)).expect("fits");
        assert_eq!((verified.adopt.sequence, verified.statements.keeps.len()), (7, 1));
    }

    #[test]
    fn a_mandate_for_another_mediator_or_of_another_sequence_is_refused() {
        let owner = owner(1);
        let other = NodeId::from_bytes([8; 32]);
        assert!(is_invalid(verify(&owner, adoption(&owner, other, 7))));
        assert!(is_invalid(verify(&owner, adoption(&owner, OWN, 6))));
    }

    #[test]
    fn a_sequence_of_a_clock_more_than_a_day_ahead_is_refused() {
        let owner = owner(1);
        let furthest = NOW.secs() + MAX_MANDATE_AHEAD;
        verify(&owner, adoption_of(&owner, OWN, furthest, furthest)).expect("a day");
        assert!(is_invalid(verify(&owner, adoption_of(&owner, OWN, furthest + 1, furthest + 1))));
    }

    #[test]
    fn statements_of_another_account_are_refused() {
        let (owner, other) = (owner(1), owner(2));
        let mut foreign = adoption(&owner, OWN, 7);
        foreign.keeps.push(keep(&other));
        assert!(is_invalid(verify(&owner, foreign)));
        let mut foreign = adoption(&owner, OWN, 7);
        foreign.keep = keep(&other);
        assert!(is_invalid(verify(&owner, foreign)));
    }
}
