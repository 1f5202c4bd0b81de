//! Logins: which account speaks on a connection. Ends with the connection.

use parking_lot::{Mutex, MutexGuard};
use std::collections::HashMap;
use std::time::{Duration, Instant};

use fincrypt_protocol::record::{Registration, login_message};
use fincrypt_protocol::{
    AccountId, Network, NodeId, Nonce, PublicKey, Signature, Signed, UnixTime, Verified, domain,
};

/// Peers with a nonce or a login. One entry is about 500 bytes, so this is at most a few MiB.
const MAX_SESSIONS: usize = 4096;
/// When there are too many, nonces older than this are forgotten first.
const ASKED_LIFE: Duration = Duration::from_secs(60);
/// And logins older than this, which are repeated when they are missed.
const LOGIN_LIFE: Duration = Duration::from_secs(3600);

/// The login was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the login's nonce, registration or signature is wrong")]
pub struct LoginError;

enum Session {
    Asked(Nonce, Instant),
    LoggedIn(Box<Verified<Registration>>, Instant),
}

/// Who is logged in, by peer.
pub struct Sessions {
    network: Network,
    own: NodeId,
    peers: Mutex<HashMap<NodeId, Session>>,
}

impl Sessions {
    /// No sessions yet, at node `own`.
    #[must_use]
    pub fn new(network: Network, own: NodeId) -> Self {
        Self { network, own, peers: Mutex::new(HashMap::new()) }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<NodeId, Session>> {
        self.peers.lock()
    }

    /// A fresh nonce for `peer`, or `None` when too many peers are in session. A login it may have
    /// had ends.
    pub fn hello(&self, peer: NodeId) -> Option<Nonce> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).ok()?;
        let nonce = Nonce::from_bytes(bytes);
        let mut peers = self.lock();
        if peers.len() >= MAX_SESSIONS && !peers.contains_key(&peer) {
            // A peer may have gone before its request was handled; nobody ends such a session.
            peers.retain(|_, session| match session {
                Session::Asked(_, since) => since.elapsed() < ASKED_LIFE,
                Session::LoggedIn(_, since) => since.elapsed() < LOGIN_LIFE,
            });
            if peers.len() >= MAX_SESSIONS {
                return None;
            }
        }
        peers.insert(peer, Session::Asked(nonce, Instant::now()));
        Some(nonce)
    }

    /// Checks a login. The nonce is used up, whatever the outcome.
    ///
    /// # Errors
    /// [`LoginError`] if anything about it is wrong.
    pub fn login(
        &self,
        peer: NodeId,
        registration: &Signed<Registration>,
        proof: &Signature,
    ) -> Result<Verified<Registration>, LoginError> {
        let Some(Session::Asked(nonce, _)) = self.lock().remove(&peer) else {
            return Err(LoginError);
        };
        let registration = registration.verify(self.network, UnixTime::now()).map_err(|_| LoginError)?;
        let message = login_message(self.network, &nonce, &self.own, &peer);
        if !registration.account.verifies(domain::LOGIN, &message, proof) {
            return Err(LoginError);
        }
        self.lock().insert(peer, Session::LoggedIn(Box::new(registration.clone()), Instant::now()));
        Ok(registration)
    }

    /// The account that `peer` is logged in as.
    #[must_use]
    pub fn account(&self, peer: &NodeId) -> Option<AccountId> {
        self.registration(peer).map(|registration| registration.account)
    }

    /// The registration that `peer` logged in with.
    #[must_use]
    pub fn registration(&self, peer: &NodeId) -> Option<Verified<Registration>> {
        match self.lock().get(peer) {
            Some(Session::LoggedIn(registration, _)) => Some((**registration).clone()),
            _ => None,
        }
    }

    /// Forgets a peer whose last connection closed.
    pub fn end(&self, peer: &NodeId) {
        self.lock().remove(peer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fincrypt_protocol::SigningKey;
    use zeroize::Zeroizing;

    fn key(seed: u8) -> SigningKey {
        SigningKey::from_seed(&Zeroizing::new([seed; 32]))
    }

    fn registration(key: &SigningKey) -> Signed<Registration> {
        let body = Registration {
            network: Network::Local,
            account: key.account(),
            head_key: self::key(8).head_key(),
            guard_key: self::key(9).guard_key(),
        };
        Signed::seal(&body, key).expect("seals")
    }

    #[test]
    fn a_login_holds_for_one_nonce_one_peer_and_one_listener() {
        let (owner, listener, dialer) = (key(1), key(2).node(), key(3).node());
        let sessions = Sessions::new(Network::Local, listener);
        let nonce = sessions.hello(dialer).expect("room");
        let proof = owner.sign(domain::LOGIN, &login_message(Network::Local, &nonce, &listener, &dialer));
        assert!(sessions.login(dialer, &registration(&owner), &proof).is_ok());
        assert_eq!(sessions.account(&dialer), Some(owner.account()));
        assert!(sessions.login(dialer, &registration(&owner), &proof).is_err(), "replayed");
        let thief = key(4).node();
        sessions.hello(thief);
        assert!(sessions.login(thief, &registration(&owner), &proof).is_err(), "from elsewhere");
        assert_eq!(sessions.account(&thief), None);
    }

    #[test]
    fn a_closed_connection_ends_the_login() {
        let sessions = Sessions::new(Network::Local, key(2).node());
        let dialer = key(3).node();
        sessions.hello(dialer);
        sessions.end(&dialer);
        assert!(sessions.login(dialer, &registration(&key(1)), &Signature::from_bytes([0; 64])).is_err());
    }
}
