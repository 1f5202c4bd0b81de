//! Answers to each request of `/mediate/1`.

mod segments;

use std::sync::Arc;

use bytes::Bytes;
use fincrypt_accounts::failed;
use fincrypt_net::{Answer, Request, blocking};
use fincrypt_protocol::mediate::{Request as Ask, Response};
use fincrypt_protocol::record::{Registration, Undo};
use fincrypt_protocol::{AccountId, NodeId, Refusal, Signature, Signed, Verified};

use super::MediatorRole;
use super::upload::Announcement;

fn bare(response: Response) -> Answer<Response> {
    Ok((response, Bytes::new()))
}

impl MediatorRole {
    pub(super) async fn handle(self: Arc<Self>, request: Request<Ask>) -> Answer<Response> {
        let Request { from, header, payload } = request;
        match header {
            Ask::Record => {
                let record = self.services.announcer.record().await;
                bare(Response::Record(record.map_err(|error| failed(&error))?))
            }
            Ask::Hello => bare(Response::Nonce(self.sessions.hello(from).ok_or(Refusal::Busy)?)),
            Ask::Login { registration, proof } => {
                blocking(move || self.login(from, &registration, &proof)).await
            }
            Ask::Quote { redundancy, max_price } => {
                bare(Response::Quote(self.quote(redundancy, max_price).await?))
            }
            Ask::Open { run, mandate, manifest, tag } => {
                let registration = self.registration(from)?;
                self.stays(&registration.account)?;
                self.open(Announcement { from, registration, run, mandate, manifest, tag }).await
            }
            Ask::Put { segment, index } => {
                self.services.uploads.put(self.account(from)?, segment, index, payload).await?;
                bare(Response::Taken)
            }
            Ask::Commit { segment } => {
                let account = self.account(from)?;
                bare(Response::Receipts(self.services.uploads.commit(account, segment).await?))
            }
            Ask::Keep { keep } => {
                let account = self.account(from)?;
                self.services.outbox.keep(account, &keep).await?;
                // The run is over: nothing more will gather.
                self.services.holder_lists.flush_soon(account);
                bare(Response::Kept)
            }
            Ask::Release { release } => {
                let account = self.account(from)?;
                self.register(from).await?;
                let (holders, heard, due) = self.services.outbox.release(account, &release).await?;
                bare(Response::Released { holders, heard, due })
            }
            Ask::Undo { undo } => {
                self.undo(from, &undo).await?;
                bare(Response::Undone)
            }
            Ask::Rewind(rewound) => {
                self.services.heads.rewind(self.sessions.registration(&from), &rewound).await?;
                bare(Response::Rewound)
            }
            Ask::Adopt(adoption) => {
                bare(self.services.migration_in.adopt(self.registration(from)?, *adoption).await?)
            }
            Ask::Dismiss { adopt } => {
                self.services.migration_out.dismiss(&adopt).await?;
                bare(Response::Dismissed)
            }
            Ask::Get { segment, index } => self.get(self.account(from)?, segment, index).await,
            Ask::Locate { segments } => self.locate(self.account(from)?, segments).await,
            Ask::Doubt { shards } => {
                let account = self.account(from)?;
                self.services.missing_reports.report(account, shards).await?;
                bare(Response::Doubted)
            }
            Ask::Deposit => {
                let account = self.account(from)?;
                self.register(from).await?;
                bare(Response::DepositTo(self.deposit_to(account).await?))
            }
            Ask::Balance => bare(Response::Balance(self.balance(self.account(from)?).await?)),
            Ask::History { after } => {
                let (entries, more) = self.entries(self.account(from)?, after).await?;
                bare(Response::History { entries, more })
            }
            Ask::Statements { after } => {
                let (statements, more) = self.statements(self.account(from)?, after).await?;
                bare(Response::Statements { statements, more })
            }
            Ask::Withdraw(withdrawal) => {
                let account = self.account(from)?;
                bare(Response::Withdrawn(self.withdraw(account, withdrawal).await?))
            }
            Ask::HeadGet => {
                let (records, account) = (self.records.clone(), self.account(from)?);
                bare(Response::Head(blocking(move || records.head(&account)).await?))
            }
            Ask::HeadSwap { expected, head } => {
                self.account(from)?;
                self.register(from).await?;
                self.services.heads.swap(&self.registration(from)?, expected, &head).await?;
                bare(Response::Swapped)
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
        if self.services.migration_out.is_gone(account) { Err(Refusal::Dismissed) } else { Ok(()) }
    }

    fn registration(&self, from: NodeId) -> Result<Verified<Registration>, Refusal> {
        self.sessions.registration(&from).ok_or(Refusal::NotLoggedIn)
    }

    fn login(
        &self,
        from: NodeId,
        registration: &Signed<Registration>,
        proof: &Signature,
    ) -> Answer<Response> {
        let login = self.sessions.login(from, registration, proof).map_err(|_| Refusal::BadLogin)?;
        let known = self.accounts.registration(&login.account)?;
        if known.as_ref().is_some_and(|known| **known != *login) {
            self.sessions.end(&from);
            return Err(Refusal::OtherRegistration);
        }
        bare(Response::Welcome { known: known.is_some() })
    }

    /// Remembers who is logged in, as it does something that is remembered. A login alone leaves
    /// nothing behind, so that strangers cannot fill the state for free.
    async fn register(&self, from: NodeId) -> Result<(), Refusal> {
        let (accounts, registration) = (self.accounts.clone(), self.registration(from)?);
        blocking(move || Ok(accounts.register(&registration)?)).await
    }

    /// Takes an undo from anyone. An owner who brings it is known from then on.
    async fn undo(&self, from: NodeId, undo: &Signed<Undo>) -> Result<(), Refusal> {
        let account = self.services.outbox.verify_undo(undo)?.account;
        if self.sessions.account(&from) == Some(account) {
            self.register(from).await?;
        }
        self.services.outbox.undo(undo).await
    }
}
