//! Answers to each request of `/shard/1`: which service is asked, and how its answer travels.

use std::sync::Arc;

use bytes::Bytes;
use fincrypt_net::{Answer, Request, blocking};
use fincrypt_protocol::limits::{MAX_BILLS, MAX_HOLDER_LISTS, MAX_LIST, MAX_LOCATE};
use fincrypt_protocol::shard::{Bill, Billed, Placement, Request as Ask, Response};
use fincrypt_protocol::{NodeId, Refusal};

use super::StorageRole;
use crate::error::failed;

fn bare(response: Response) -> Answer<Response> {
    Ok((response, Bytes::new()))
}

fn done<E>(answer: Result<(), E>) -> Answer<Response>
where
    Refusal: From<E>,
{
    answer?;
    bare(Response::Done)
}

fn bounded(entries: usize, most: usize) -> Result<(), Refusal> {
    if entries > most { Err(Refusal::Invalid) } else { Ok(()) }
}

impl StorageRole {
    /// Answers a request. All but the first three work the disk, away from the network's threads.
    pub(super) async fn handle(self: Arc<Self>, request: Request<Ask>) -> Answer<Response> {
        let Request { from, header, payload } = request;
        match header {
            Ask::Quote => {
                bare(Response::Offer(self.advertiser.offer().await.map_err(|error| failed(&error))?))
            }
            Ask::Hello => bare(Response::Nonce(self.access.hello(from).ok_or(Refusal::Busy)?)),
            Ask::Put(placement) => self.put(from, *placement, payload).await,
            header => blocking(move || self.answer(from, header)).await,
        }
    }

    fn answer(&self, from: NodeId, header: Ask) -> Answer<Response> {
        match header {
            Ask::Quote | Ask::Hello | Ask::Put(_) => Err(Refusal::Failed),
            Ask::Login { registration, proof } => {
                bare(Response::Welcome { mandate: self.access.login(from, &registration, &proof)? })
            }
            Ask::Get { account, segment, index } => {
                Ok((Response::Shard, self.reads.get(from, &account, &segment, index)?))
            }
            Ask::List { account, after } => {
                let page = self.reads.list(from, &account, after, MAX_LIST)?;
                bare(Response::Listed { shards: page.shards, more: page.more })
            }
            Ask::Locate { account, segments } => {
                bounded(segments.len(), MAX_LOCATE)?;
                bare(Response::Located(self.reads.locate(from, &account, &segments)?))
            }
            Ask::Challenge { nonce, shards, audited } => {
                let answer = self.proofs.answer(from, &nonce, &shards, audited)?;
                Ok((Response::Proofs { verdicts: answer.verdicts }, Bytes::from(answer.proofs)))
            }
            Ask::Bill { bills } => self.bill(from, &bills),
            Ask::PayTo { lightning } => bare(Response::PayTo(self.payouts.destination(from, lightning)?)),
            Ask::Paid { payout } => done(self.payouts.record(from, payout)),
            Ask::Holders { lists } => {
                bounded(lists.len(), MAX_HOLDER_LISTS)?;
                done(self.admissions.holders(from, &lists))
            }
            Ask::Keep { keep } => done(self.admissions.keep(&keep)),
            Ask::Mandate { registration, mandate } => {
                bare(Response::Mandated(self.admissions.mandate(from, &registration, &mandate)?))
            }
            Ask::Release { release } => {
                bare(Response::Released { due: self.deletions.release(from, &release)? })
            }
            Ask::Undo { undo } => bare(Response::Undone { pending: self.deletions.undo(&undo)? }),
            Ask::Rewind(rewound) => done(self.heads.rewind(&rewound)),
            Ask::HeadPut { registration, head } => done(self.heads.put(from, &registration, &head)),
            Ask::Heads { account } => {
                let known = self.heads.get(from, &account)?;
                bare(Response::Heads { heads: known.heads, rewound: known.rewound.map(Box::new) })
            }
        }
    }

    async fn put(self: Arc<Self>, from: NodeId, placement: Placement, payload: Bytes) -> Answer<Response> {
        let role = Arc::clone(&self);
        let stored = blocking(move || Ok(role.intake.store(from, placement, payload)?)).await?;
        if let Some(account) = stored.new_account {
            self.advertiser.announce_account(&account).await;
        }
        bare(Response::Receipt(stored.receipt))
    }

    fn bill(&self, from: NodeId, bills: &[Bill]) -> Answer<Response> {
        bounded(bills.len(), MAX_BILLS)?;
        let refused = |error| Billed::Refused { refusal: Refusal::from(error), newest: None };
        let answers = self.countersigner.answer(from, bills);
        let billed = answers.into_iter().map(|answer| answer.unwrap_or_else(refused));
        bare(Response::Billed(billed.collect()))
    }
}
