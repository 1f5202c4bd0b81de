//! Requests about accounts: logins, and what their owners or guards sign.

use fincrypt_protocol::mediate::{
    CurrentHead, Login, LoginNonce, MigrateIn, MigrationProgress, ReleaseProgress, SwapHead, Welcome,
};
use fincrypt_protocol::record::{Adopt, Keep, Release, Undo};
use fincrypt_protocol::{NodeId, Refusal, Rewound, Signed};

use crate::MediatorRole;

impl MediatorRole {
    pub(super) fn hello(&self, from: NodeId) -> Result<LoginNonce, Refusal> {
        Ok(LoginNonce { nonce: self.sessions.hello(from).ok_or(Refusal::Busy)? })
    }

    pub(super) fn login(&self, from: NodeId, ask: &Login) -> Result<Welcome, Refusal> {
        let login = self.sessions.login(from, &ask.registration, &ask.proof);
        let login = login.map_err(|_| Refusal::BadLogin)?;
        let known = self.accounts.registration(&login.account)?;
        if known.as_ref().is_some_and(|known| **known != *login) {
            self.sessions.end(&from);
            return Err(Refusal::OtherRegistration);
        }
        Ok(Welcome { known: known.is_some() })
    }

    pub(super) async fn keep(&self, from: NodeId, keep: &Signed<Keep>) -> Result<(), Refusal> {
        let account = self.account(from)?;
        self.services.outbox.keep(account, keep).await?;
        // The run is over: nothing more will gather.
        self.services.holder_lists.flush_soon(account);
        Ok(())
    }

    pub(super) async fn release(
        &self,
        from: NodeId,
        release: &Signed<Release>,
    ) -> Result<ReleaseProgress, Refusal> {
        let account = self.account(from)?;
        self.register(from).await?;
        Ok(self.services.outbox.release(account, release).await?)
    }

    /// Takes an undo from anyone. An owner who brings it is known from then on.
    pub(super) async fn undo(&self, from: NodeId, undo: &Signed<Undo>) -> Result<(), Refusal> {
        let account = self.services.outbox.verify_undo(undo)?.account;
        if self.sessions.account(&from) == Some(account) {
            self.register(from).await?;
        }
        Ok(self.services.outbox.undo(undo).await?)
    }

    pub(super) async fn rewind(&self, from: NodeId, rewound: &Rewound) -> Result<(), Refusal> {
        Ok(self.services.heads.rewind(self.sessions.registration(&from), rewound).await?)
    }

    pub(super) async fn migrate_in(
        &self,
        from: NodeId,
        ask: MigrateIn,
    ) -> Result<MigrationProgress, Refusal> {
        Ok(self.services.migration_in.adopt(self.registration(from)?, ask).await?)
    }

    pub(super) async fn migrate_out(&self, adopt: &Signed<Adopt>) -> Result<(), Refusal> {
        Ok(self.services.migration_out.depart(adopt).await?)
    }

    pub(super) async fn head(&self, from: NodeId) -> Result<CurrentHead, Refusal> {
        Ok(CurrentHead { head: self.services.heads.newest(self.account(from)?).await? })
    }

    pub(super) async fn swap_head(&self, from: NodeId, ask: SwapHead) -> Result<(), Refusal> {
        self.account(from)?;
        self.register(from).await?;
        Ok(self.services.heads.swap(&self.registration(from)?, ask.expected, &ask.head).await?)
    }
}
