//! Answers to each request of `/mediate/1`, by subject; refusals in one place.

mod accounts;
mod prepayments;
mod refusals;
mod segments;

use std::sync::Arc;

use fincrypt_net::{Answer, Request, reply, reply_with};
use fincrypt_protocol::mediate::{
    CommitSegment, Done, GetBalance, GetDeposit, GetHead, GetHistory, GetQuote, GetRecord, GetShard,
    GetStatements, Hello, KeepRun, LocateSegments, Login, MigrateIn, MigrateOut, OpenSegment, PutShard,
    ReleaseSegments, ReportMissing, Request as Ask, RewindAccount, SwapHead, UndoReleases, Withdraw,
};
use fincrypt_protocol::record::Registration;
use fincrypt_protocol::{AccountId, Call, NodeId, Refusal, Verified};

use super::MediatorRole;
use super::error::{StoreError, blocking};
use prepayments::PrepaymentRequests;
use refusals::failed;
use segments::SegmentRequests;

fn done<C: Call<Response = Done>>(outcome: Result<(), Refusal>) -> Answer {
    outcome?;
    reply::<C>(Done {})
}

impl MediatorRole {
    pub(super) async fn handle(self: Arc<Self>, request: Request<Ask>) -> Answer {
        let Request { from, header, payload } = request;
        let segments = SegmentRequests { role: &self, from };
        let prepayments = PrepaymentRequests { role: &self, from };
        match header {
            Ask::GetRecord(_) => {
                let record = self.services.announcer.record().await;
                reply::<GetRecord>(record.map_err(|error| failed(&error))?)
            }
            Ask::Hello(_) => reply::<Hello>(self.hello(from)?),
            Ask::Login(ask) => reply::<Login>(blocking(move || self.login(from, &ask)).await?),
            // Segments.
            Ask::GetQuote(ask) => reply::<GetQuote>(segments.quote(ask.redundancy, ask.max_price).await?),
            Ask::OpenSegment(ask) => reply::<OpenSegment>(segments.open(*ask).await?),
            Ask::PutShard(ask) => done::<PutShard>(segments.put(*ask, payload).await),
            Ask::CommitSegment(ask) => reply::<CommitSegment>(segments.commit(ask.segment).await?),
            Ask::GetShard(ask) => {
                reply_with::<GetShard>(Done {}, segments.get(ask.segment, ask.index).await?)
            }
            Ask::LocateSegments(ask) => reply::<LocateSegments>(segments.locate(ask.segments).await?),
            Ask::ReportMissing(ask) => done::<ReportMissing>(segments.report(ask.shards).await),
            // What an account's owner or guard signs.
            Ask::KeepRun(ask) => done::<KeepRun>(self.keep(from, &ask.keep).await),
            Ask::ReleaseSegments(ask) => reply::<ReleaseSegments>(self.release(from, &ask.release).await?),
            Ask::UndoReleases(ask) => done::<UndoReleases>(self.undo(from, &ask.undo).await),
            Ask::RewindAccount(ask) => done::<RewindAccount>(self.rewind(from, &ask.rewound).await),
            Ask::MigrateIn(ask) => reply::<MigrateIn>(self.migrate_in(from, *ask).await?),
            Ask::MigrateOut(ask) => done::<MigrateOut>(self.migrate_out(&ask.adopt).await),
            Ask::GetHead(_) => reply::<GetHead>(self.head(from).await?),
            Ask::SwapHead(ask) => done::<SwapHead>(self.swap_head(from, *ask).await),
            // Prepayments.
            Ask::GetDeposit(_) => reply::<GetDeposit>(prepayments.deposit_to().await?),
            Ask::GetBalance(_) => reply::<GetBalance>(prepayments.balance().await?),
            Ask::GetHistory(ask) => reply::<GetHistory>(prepayments.history(ask.after).await?),
            Ask::GetStatements(ask) => reply::<GetStatements>(prepayments.statements(ask.after)?),
            Ask::Withdraw(ask) => reply::<Withdraw>(prepayments.withdraw(ask.withdrawal).await?),
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

    /// Registers the account that is logged in, as it does something that is recorded. A login alone leaves
    /// nothing behind, so that strangers cannot fill the state for free.
    async fn register(&self, from: NodeId) -> Result<(), Refusal> {
        let (accounts, registration) = (self.accounts.clone(), self.registration(from)?);
        blocking(move || Ok::<_, StoreError>(accounts.register(&registration)?)).await?;
        Ok(())
    }
}
