//! What a peer may do: owners everything with their own account, mediators what their mandate says.

use std::sync::Arc;

use fincrypt_accounts::{Accounts, AccountsError};
use fincrypt_net::Sessions;
use fincrypt_protocol::record::{Mandate, Registration};
use fincrypt_protocol::{
    AccountId, Body, Clock, NodeId, Nonce, RecordError, Signature, Signed, UnixTime, Verified,
};

/// Why a peer is not served.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AccessError {
    /// It is neither the owner nor a mediator with a mandate for this.
    #[error("the peer has no mandate for this")]
    NotMandated,
    /// It did not prove to be the owner.
    #[error("the login does not verify")]
    BadLogin,
    /// Another registration of the account came first.
    #[error("another registration of the account is known")]
    OtherRegistration,
    /// A record does not verify.
    #[error("a record does not verify")]
    Record(#[from] RecordError),
    /// Accounts could not be read.
    #[error(transparent)]
    Accounts(#[from] AccountsError),
}

/// What a peer wants to do with an account's shards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Right {
    Read,
    Write,
    Audit,
}

/// Who may do what; clones share it.
#[derive(Clone)]
pub(crate) struct Access {
    sessions: Arc<Sessions>,
    accounts: Accounts,
    clock: Clock,
}

impl Access {
    pub(crate) fn new(sessions: Arc<Sessions>, accounts: Accounts, clock: Clock) -> Self {
        Self { sessions, accounts, clock }
    }

    /// The time now.
    pub(crate) fn now(&self) -> UnixTime {
        self.clock.now()
    }

    /// Verifies a record of this network that has not expired.
    pub(crate) fn verify<T: Body>(&self, signed: &Signed<T>) -> Result<Verified<T>, AccessError> {
        Ok(signed.verify(self.accounts.network, self.now())?)
    }

    /// A nonce for a login; none if there are too many sessions.
    pub(crate) fn hello(&self, from: NodeId) -> Option<Nonce> {
        self.sessions.hello(from)
    }

    /// Whether a peer has proved to own an account.
    pub(crate) fn is_owner(&self, from: &NodeId, account: &AccountId) -> bool {
        self.sessions.account(from) == Some(*account)
    }

    /// Logs an owner in; the newest mandate known of its account.
    ///
    /// # Errors
    /// [`AccessError::BadLogin`], [`AccessError::OtherRegistration`].
    pub(crate) fn login(
        &self,
        from: NodeId,
        registration: &Signed<Registration>,
        proof: &Signature,
    ) -> Result<Option<Signed<Mandate>>, AccessError> {
        let login = self.sessions.login(from, registration, proof).map_err(|_| AccessError::BadLogin)?;
        if let Some(known) = self.accounts.registration(&login.account)?
            && *known != *login
        {
            self.sessions.end(&from);
            return Err(AccessError::OtherRegistration);
        }
        Ok(self.accounts.current_mandate(&login.account, self.now())?)
    }

    /// Checks that a peer has a right.
    ///
    /// # Errors
    /// [`AccessError::NotMandated`] if it has not.
    pub(crate) fn authorize(
        &self,
        from: NodeId,
        account: &AccountId,
        right: Right,
    ) -> Result<(), AccessError> {
        if self.is_owner(&from, account) {
            return Ok(());
        }
        let mandate = self.accounts.mandate(account, &from, self.now())?.ok_or(AccessError::NotMandated)?;
        let allowed = match right {
            Right::Read => mandate.rights.get,
            Right::Write => mandate.rights.put,
            Right::Audit => mandate.rights.audit,
        };
        if allowed { Ok(()) } else { Err(AccessError::NotMandated) }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use fincrypt_protocol::record::Rights;
    use fincrypt_protocol::{Network, SigningKey};
    use fincrypt_state::kv::Batch;
    use fincrypt_state::state::State;
    use zeroize::Zeroizing;

    use super::*;

    const NOW: UnixTime = UnixTime::from_secs(1_700_000_000);
    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn a_mediator_may_do_what_its_mandate_says_until_it_expires() {
        let dir = tempfile::tempdir().expect("a folder");
        let (state, _) = State::open(dir.path()).expect("opens");
        let [owner, mediator, node] =
            [1, 2, 3].map(|seed| SigningKey::from_seed(&Zeroizing::new([seed; 32])));
        let accounts = Accounts::new(state, Network::Local);
        let mandate = Mandate {
            network: Network::Local,
            account: owner.account(),
            mediator: mediator.node(),
            rights: Rights { put: false, audit: true, get: true },
            byte_cap: 1,
            sequence: 1,
            expiry: NOW.plus(HOUR),
            max_price: None,
        };
        let mandate =
            Signed::seal(&mandate, &owner).expect("seals").verify(Network::Local, NOW).expect("valid");
        let mut batch = Batch::default();
        accounts.admit_mandate(&mandate, NOW, &mut batch).expect("new");
        accounts.commit(&batch).expect("written");
        let sessions = Arc::new(Sessions::new(Network::Local, node.node()));
        let clock = Clock::manual(NOW);
        let access = Access::new(sessions, accounts, clock.clone());
        let may = |from: NodeId, right| match access.authorize(from, &owner.account(), right) {
            Ok(()) => true,
            Err(AccessError::NotMandated) => false,
            Err(error) => panic!("{error}"),
        };
        assert!(may(mediator.node(), Right::Read) && may(mediator.node(), Right::Audit));
        assert!(!may(mediator.node(), Right::Write));
        assert!(!may(node.node(), Right::Read), "a stranger");
        clock.advance(HOUR);
        assert!(!may(mediator.node(), Right::Read));
    }
}
