//! Answers to each request of `/mediate/1`.

mod refusals;
mod segments;

use std::sync::Arc;

use fincrypt_net::{Answer, Request, reply, reply_with};
use fincrypt_protocol::mediate::{
    CommitSegment, CurrentHead, Done, GetBalance, GetDeposit, GetHead, GetHistory, GetQuote, GetRecord,
    GetShard, GetStatements, Hello, History, KeepRun, LocateSegments, Login, LoginNonce, MigrateIn,
    MigrateOut, OpenSegment, PutShard, Receipts, ReleaseSegments, ReportMissing, Request as Ask,
    RewindAccount, Statements, SwapHead, UndoReleases, Welcome, Withdraw,
};
use fincrypt_protocol::record::{Registration, Undo};
use fincrypt_protocol::{AccountId, NodeId, Refusal, Signature, Signed, Verified};

use super::MediatorRole;
use super::error::{StoreError, blocking};
use super::upload::Announcement;
use refusals::failed;

impl MediatorRole {
    pub(super) async fn handle(self: Arc<Self>, request: Request<Ask>) -> Answer {
        let Request { from, header, payload } = request;
        match header {
            Ask::GetRecord(_) => {
                let record = self.services.announcer.record().await;
                reply::<GetRecord>(record.map_err(|error| failed(&error))?)
            }
            Ask::Hello(_) => {
                reply::<Hello>(LoginNonce { nonce: self.sessions.hello(from).ok_or(Refusal::Busy)? })
            }
            Ask::Login(login) => {
                reply::<Login>(blocking(move || self.login(from, &login.registration, &login.proof)).await?)
            }
            Ask::GetQuote(ask) => reply::<GetQuote>(self.quote(ask.redundancy, ask.max_price).await?),
            Ask::OpenSegment(open) => {
                let registration = self.registration(from)?;
                self.stays(&registration.account)?;
                let OpenSegment { run, mandate, manifest, tag } = *open;
                let announced = Announcement { from, registration, run, mandate, manifest, tag };
                reply::<OpenSegment>(self.open(announced).await?)
            }
            Ask::PutShard(put) => {
                self.services.uploads.put(self.account(from)?, put.segment, put.index, payload).await?;
                reply::<PutShard>(Done {})
            }
            Ask::CommitSegment(ask) => {
                let account = self.account(from)?;
                let receipts = self.services.uploads.commit(account, ask.segment).await?;
                reply::<CommitSegment>(Receipts { receipts })
            }
            Ask::KeepRun(ask) => {
                let account = self.account(from)?;
                self.services.outbox.keep(account, &ask.keep).await?;
                // The run is over: nothing more will gather.
                self.services.holder_lists.flush_soon(account);
                reply::<KeepRun>(Done {})
            }
            Ask::ReleaseSegments(ask) => {
                let account = self.account(from)?;
                self.register(from).await?;
                reply::<ReleaseSegments>(self.services.outbox.release(account, &ask.release).await?)
            }
            Ask::UndoReleases(ask) => {
                self.undo(from, &ask.undo).await?;
                reply::<UndoReleases>(Done {})
            }
            Ask::RewindAccount(ask) => {
                self.services.heads.rewind(self.sessions.registration(&from), &ask.rewound).await?;
                reply::<RewindAccount>(Done {})
            }
            Ask::MigrateIn(ask) => {
                reply::<MigrateIn>(self.services.migration_in.adopt(self.registration(from)?, *ask).await?)
            }
            Ask::MigrateOut(ask) => {
                self.services.migration_out.depart(&ask.adopt).await?;
                reply::<MigrateOut>(Done {})
            }
            Ask::GetShard(ask) => {
                reply_with::<GetShard>(Done {}, self.get(self.account(from)?, ask.segment, ask.index).await?)
            }
            Ask::LocateSegments(ask) => {
                reply::<LocateSegments>(self.locate(self.account(from)?, ask.segments).await?)
            }
            Ask::ReportMissing(ask) => {
                let account = self.account(from)?;
                self.services.missing_reports.report(account, ask.shards).await?;
                reply::<ReportMissing>(Done {})
            }
            Ask::GetDeposit(_) => {
                let account = self.account(from)?;
                self.register(from).await?;
                reply::<GetDeposit>(self.payments.prepayments.deposit_to(account).await?)
            }
            Ask::GetBalance(_) => {
                reply::<GetBalance>(self.payments.prepayments.balance(self.account(from)?).await?)
            }
            Ask::GetHistory(ask) => {
                let (entries, more) =
                    self.payments.prepayments.entries(self.account(from)?, ask.after).await?;
                reply::<GetHistory>(History { entries, more })
            }
            Ask::GetStatements(ask) => {
                let (statements, more) = self.payments.prepayments.statements(self.account(from)?, ask.after);
                reply::<GetStatements>(Statements { statements, more })
            }
            Ask::Withdraw(ask) => {
                let account = self.account(from)?;
                reply::<Withdraw>(self.payments.prepayments.withdraw(account, ask.withdrawal).await?)
            }
            Ask::GetHead(_) => {
                let head = self.services.heads.newest(self.account(from)?).await?;
                reply::<GetHead>(CurrentHead { head })
            }
            Ask::SwapHead(ask) => {
                self.account(from)?;
                self.register(from).await?;
                self.services.heads.swap(&self.registration(from)?, ask.expected, &ask.head).await?;
                reply::<SwapHead>(Done {})
            }
        }
    }

    fn account(&self, from: NodeId) -> Result<AccountId, Refusal> {
        let account = self.sessions.account(&from).ok_or(Refusal::NotLoggedIn)?;
        self.stays(&account)?;
        Ok(account)
    }

    /// Refuses an account that has gone to another mediator.
    fn stays(&self, account: &AccountId) -> Result<(), Refusal> {
        if self.services.migration_out.has_departed(account) { Err(Refusal::Dismissed) } else { Ok(()) }
    }

    fn registration(&self, from: NodeId) -> Result<Verified<Registration>, Refusal> {
        self.sessions.registration(&from).ok_or(Refusal::NotLoggedIn)
    }

    fn login(
        &self,
        from: NodeId,
        registration: &Signed<Registration>,
        proof: &Signature,
    ) -> Result<Welcome, Refusal> {
        let login = self.sessions.login(from, registration, proof).map_err(|_| Refusal::BadLogin)?;
        let known = self.accounts.registration(&login.account)?;
        if known.as_ref().is_some_and(|known| **known != *login) {
            self.sessions.end(&from);
            return Err(Refusal::OtherRegistration);
        }
        Ok(Welcome { known: known.is_some() })
    }

    /// Registers the account that is logged in, as it does something that is recorded. A login alone leaves
    /// nothing behind, so that strangers cannot fill the state for free.
    async fn register(&self, from: NodeId) -> Result<(), Refusal> {
        let (accounts, registration) = (self.accounts.clone(), self.registration(from)?);
        blocking(move || Ok::<_, StoreError>(accounts.register(&registration)?)).await?;
        Ok(())
    }

    /// Takes an undo from anyone. An owner who brings it is known from then on.
    async fn undo(&self, from: NodeId, undo: &Signed<Undo>) -> Result<(), Refusal> {
        let account = self.services.outbox.verify_undo(undo)?.account;
        if self.sessions.account(&from) == Some(account) {
            self.register(from).await?;
        }
        Ok(self.services.outbox.undo(undo).await?)
    }
}
