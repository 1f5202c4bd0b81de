//! Answers to each request of `/shard/1` and `/pay/1`: which service is asked, and how its answer travels.

mod refusals;

use std::sync::Arc;

use bytes::Bytes;
use fincrypt_net::{Answer, Request, blocking, reply, reply_with};
use fincrypt_protocol::limits::{MAX_BILLS, MAX_HOLDER_LISTS, MAX_LIST, MAX_LOCATE};
use fincrypt_protocol::pay::{
    Bill, Billed, Countersign, Countersignatures, Destination, Done, GetDestination, NotePayout,
};
use fincrypt_protocol::record::Receipt;
use fincrypt_protocol::shard::{
    Challenge, GetHeads, GetOffer, GetShard, Heads, HeldSegments, Hello, KeepRun, ListShards, LocateSegments,
    Login, LoginNonce, NewestMandate, NoteHolders, Proofs, PutHead, PutShard, ReleaseDue, ReleaseSegments,
    ReleasesUndone, RenewMandate, Request as Ask, RewindAccount, ShardList, UndoReleases, Welcome,
};
use fincrypt_protocol::{Call, NodeId, Refusal, Signed, pay};

use super::StorageRole;
use super::countersigning::BillAnswer;
use refusals::failed;

fn done<C: Call<Response = Done>>(outcome: Result<(), impl Into<Refusal>>) -> Answer {
    outcome.map_err(Into::into)?;
    reply::<C>(Done {})
}

fn bounded(entries: usize, most: usize) -> Result<(), Refusal> {
    if entries > most { Err(Refusal::Invalid) } else { Ok(()) }
}

impl StorageRole {
    /// Answers a request. All but the first three work the disk, away from the network's threads.
    pub(super) async fn handle(self: Arc<Self>, request: Request<Ask>) -> Answer {
        let Request { from, header, payload } = request;
        match header {
            Ask::GetOffer(_) => {
                reply::<GetOffer>(self.advertiser.offer().await.map_err(|error| failed(&error))?)
            }
            Ask::Hello(_) => {
                reply::<Hello>(LoginNonce { nonce: self.access.hello(from).ok_or(Refusal::Busy)? })
            }
            Ask::PutShard(put) => reply::<PutShard>(self.put(from, *put, payload).await?),
            ask => blocking(move || self.answer(from, ask)).await,
        }
    }

    fn answer(&self, from: NodeId, ask: Ask) -> Answer {
        match ask {
            // Answered above.
            Ask::GetOffer(_) | Ask::Hello(_) | Ask::PutShard(_) => Err(Refusal::Failed),
            Ask::Login(ask) => {
                let mandate = self.access.login(from, &ask.registration, &ask.proof)?;
                reply::<Login>(Welcome { mandate })
            }
            Ask::GetShard(ask) => {
                let shard = self.reads.get(from, &ask.account, &ask.segment, ask.index)?;
                reply_with::<GetShard>(Done {}, shard)
            }
            Ask::ListShards(ask) => {
                let page = self.reads.list(from, &ask.account, ask.after, MAX_LIST)?;
                reply::<ListShards>(ShardList { shards: page.shards, more: page.more })
            }
            Ask::LocateSegments(ask) => {
                bounded(ask.segments.len(), MAX_LOCATE)?;
                let segments = self.reads.locate(from, &ask.account, &ask.segments)?;
                reply::<LocateSegments>(HeldSegments { segments })
            }
            Ask::Challenge(ask) => {
                let answer = self.proofs.answer(from, &ask.nonce, &ask.shards, ask.audited)?;
                let proofs = Proofs { verdicts: answer.verdicts };
                reply_with::<Challenge>(proofs, Bytes::from(answer.proofs))
            }
            Ask::NoteHolders(ask) => {
                bounded(ask.lists.len(), MAX_HOLDER_LISTS)?;
                done::<NoteHolders>(self.admissions.holders(from, &ask.lists))
            }
            Ask::KeepRun(ask) => done::<KeepRun>(self.admissions.keep(&ask.keep)),
            Ask::RenewMandate(ask) => {
                let mandate = self.admissions.mandate(from, &ask.registration, &ask.mandate)?;
                reply::<RenewMandate>(NewestMandate { mandate })
            }
            Ask::ReleaseSegments(ask) => {
                reply::<ReleaseSegments>(ReleaseDue { due: self.deletions.release(from, &ask.release)? })
            }
            Ask::UndoReleases(ask) => {
                reply::<UndoReleases>(ReleasesUndone { pending: self.deletions.undo(&ask.undo)? })
            }
            Ask::RewindAccount(ask) => done::<RewindAccount>(self.heads.rewind(&ask.rewound)),
            Ask::PutHead(ask) => done::<PutHead>(self.heads.put(from, &ask.registration, &ask.head)),
            Ask::GetHeads(ask) => {
                let known = self.heads.get(from, &ask.account)?;
                reply::<GetHeads>(Heads { heads: known.heads, rewound: known.rewound.map(Box::new) })
            }
        }
    }

    /// Answers a request about money, away from the network's threads.
    pub(super) async fn handle_pay(self: Arc<Self>, request: Request<pay::Request>) -> Answer {
        let Request { from, header, .. } = request;
        blocking(move || self.answer_pay(from, header)).await
    }

    fn answer_pay(&self, from: NodeId, ask: pay::Request) -> Answer {
        match ask {
            pay::Request::Countersign(ask) => reply::<Countersign>(self.countersign(from, &ask.bills)?),
            pay::Request::GetDestination(ask) => {
                let to = self.payouts.destination(from, ask.lightning)?;
                reply::<GetDestination>(Destination { to })
            }
            pay::Request::NotePayout(ask) => done::<NotePayout>(self.payouts.record(from, ask.payout)),
        }
    }

    async fn put(
        self: Arc<Self>,
        from: NodeId,
        put: PutShard,
        payload: Bytes,
    ) -> Result<Signed<Receipt>, Refusal> {
        let role = Arc::clone(&self);
        let stored = blocking(move || Ok(role.intake.store(from, put, payload)?)).await?;
        if let Some(account) = stored.new_account {
            self.advertiser.announce_account(&account).await;
        }
        Ok(stored.receipt)
    }

    fn countersign(&self, from: NodeId, bills: &[Bill]) -> Result<Countersignatures, Refusal> {
        bounded(bills.len(), MAX_BILLS)?;
        let answers = self.countersigner.answer(from, bills);
        let billed = answers.into_iter().map(|answer| match answer {
            Ok(BillAnswer::Agreed(statement)) => Billed::Agreed(statement),
            Ok(BillAnswer::Misstated { newest }) => Billed::Refused { refusal: Refusal::Misstated, newest },
            Err(error) => Billed::Refused { refusal: error.into(), newest: None },
        });
        Ok(Countersignatures { bills: billed.collect() })
    }
}
