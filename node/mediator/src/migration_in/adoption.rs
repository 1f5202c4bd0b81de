//! An adoption whose statements were verified, and fit together.

use fincrypt_protocol::limits::{MAX_ADOPT_HINTS, MAX_ADOPT_KEEPS, MAX_ADOPT_RELEASES};
use fincrypt_protocol::mediate::MigrateIn;
use fincrypt_protocol::record::{Adopt, Head, Keep, MAX_MANDATE_LIFE, Mandate, Registration, check_life};
use fincrypt_protocol::{
    AccountId, Body, Network, NodeId, Refusal, Signed, UnixTime, Verified, VerifiedRewound,
};

use super::table::Statements;

/// What an owner hands a mediator that is to take its vault over, verified: every statement is signed
/// by the account's keys and of this account, and the mandate is this mediator's.
#[derive(Debug)]
pub(super) struct VerifiedAdoption {
    pub(super) registration: Verified<Registration>,
    pub(super) adopt: Verified<Adopt>,
    pub(super) mandate: Verified<Mandate>,
    pub(super) keep: Signed<Keep>,
    pub(super) head: Option<Verified<Head>>,
    pub(super) rewound: Option<VerifiedRewound>,
    /// For the holders, which verify them against what they know.
    pub(super) statements: Statements,
    /// Nodes that the owner knows to hold something.
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
    ) -> Result<Verified<T>, Refusal> {
        let verified = signed.verify(self.network, self.now).map_err(|_| Refusal::Invalid)?;
        if account(&verified) == self.account { Ok(verified) } else { Err(Refusal::Invalid) }
    }
}

impl VerifiedAdoption {
    /// Verifies an adoption of the account of `registration` by the mediator `own`.
    ///
    /// # Errors
    /// [`Refusal::NotMandated`] for the mandate's signature or life, [`Refusal::Invalid`] for anything else.
    pub(super) fn verify(
        registration: Verified<Registration>,
        adoption: MigrateIn,
        (network, own): (Network, NodeId),
        now: UnixTime,
    ) -> Result<Self, Refusal> {
        let verifier = Verifier { network, account: registration.account, now };
        let counts = adoption.holders.len() <= MAX_ADOPT_HINTS
            && adoption.keeps.len() <= MAX_ADOPT_KEEPS
            && adoption.releases.len() <= MAX_ADOPT_RELEASES;
        if !counts {
            return Err(Refusal::Invalid);
        }
        let adopt = verifier.check(&adoption.adopt, |adopt| adopt.account)?;
        let mandate = adoption.mandate.verify(network, now).map_err(|_| Refusal::NotMandated)?;
        check_life(&*mandate, now, MAX_MANDATE_LIFE).map_err(|_| Refusal::NotMandated)?;
        let fits = mandate.account == registration.account
            && adopt.new == own
            && mandate.mediator == own
            && mandate.sequence == adopt.sequence;
        if !fits {
            return Err(Refusal::Invalid);
        }
        verifier.check(&adoption.keep, |keep| keep.account)?;
        for keep in &adoption.keeps {
            verifier.check(keep, |keep| keep.account)?;
        }
        for release in &adoption.releases {
            verifier.check(release, |release| release.account)?;
        }
        let rewound = adoption.rewound.as_ref();
        let rewound = rewound.map(|rewound| rewound.verify(network, &registration.guard_key, now));
        let rewound = rewound.transpose().map_err(|_| Refusal::Invalid)?;
        let head =
            adoption.head.as_ref().map(|head| verifier.check(head, |head| head.account)).transpose()?;
        let statements = Statements { keeps: adoption.keeps, releases: adoption.releases };
        let holders = adoption.holders.into_iter().map(|hint| hint.node).collect();
        Ok(Self { registration, adopt, mandate, keep: adoption.keep, head, rewound, statements, holders })
    }
}
