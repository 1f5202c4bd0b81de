//! The client's side of `/mediate/1`: finding a mediator, logging in, asking.

pub(crate) mod error;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fincrypt_protocol::admission::{AnnouncedRole, role_key};
use fincrypt_protocol::amount::Price;
use fincrypt_protocol::limits::ROLE_BUCKETS;
use fincrypt_protocol::mediate::{
    CommitSegment, GetHead, GetQuote, GetRecord, GetShard, Hello, KeepRun, LocateSegments, LocatedSegment,
    Login, MigrateIn, MigrationProgress, NodeAddresses, OpenSegment, PutShard, Quote, ReleaseProgress,
    ReleaseSegments, ReportMissing, Request, RewindAccount, SwapHead,
};
use fincrypt_protocol::record::{
    Head, Keep, Mandate, MediatorRecord, Receipt, Registration, Release, login_message,
};
use fincrypt_protocol::{
    Call, HeadHash, Manifest, NodeId, Nonce, Redundancy, Refusal, Rewound, RunId, SegmentId, ShardIndex,
    Signature, Signed, SigningKey, Tag, UnixTime, domain,
};
use futures::StreamExt;
use tokio::sync::Mutex;

pub use error::{MediatorError, OfferError, Refused};
use fincrypt_net::{CallError, Net};

/// How long to look for a mediator: a DHT that just formed needs a moment.
const SEARCH: Duration = Duration::from_secs(20);
/// Between rounds of the search.
const SEARCH_PAUSE: Duration = Duration::from_millis(300);
/// After the first try of a request that was refused for now; up to ten times as much later.
const BUSY_PAUSE: Duration = Duration::from_millis(200);
/// Tries of a request that was refused for now, in little more than a minute: when many store at
/// once, a mediator takes segments in turn.
const BUSY_TRIES: u32 = 40;
/// Between tries to reach a mediator whose connection broke.
const RECONNECT_PAUSE: Duration = Duration::from_millis(500);
/// Such tries: a mediator that starts again is back within 10 s.
const RECONNECTS: usize = 20;

/// How long a mediator may take to hear what the guard key signed; the holders hear it without it.
const GUARD_REQUEST_TIMEOUT: Duration = Duration::from_secs(15);

/// Signs a login for the connection between `listener` and this node.
pub(crate) fn login_proof(net: &Net, account: &SigningKey, listener: &NodeId, nonce: &Nonce) -> Signature {
    account.sign(domain::LOGIN, &login_message(net.network(), nonce, listener, &net.own()))
}

/// Mediators that announce themselves, with their records, cheapest first.
pub(crate) async fn announced_records(net: &Net) -> Vec<MediatorRecord> {
    let queries = (0..ROLE_BUCKETS).map(|bucket| net.providers(role_key(AnnouncedRole::Mediator, bucket)));
    let found: Vec<Vec<NodeId>> = futures::stream::iter(queries).buffer_unordered(8).collect().await;
    let mut nodes: Vec<NodeId> = found.into_iter().flatten().collect();
    nodes.sort_unstable();
    nodes.dedup();
    let asking = nodes.into_iter().map(|node| record(net, node));
    let mut mediators: Vec<_> =
        futures::stream::iter(asking).buffer_unordered(8).filter_map(std::future::ready).collect().await;
    mediators.sort_unstable_by_key(|record| (record.fee_permille, record.node));
    mediators
}

/// What a mediator would do for a run now, without a login.
pub(crate) async fn ask_quote(net: &Net, node: NodeId, redundancy: Redundancy) -> Option<Quote> {
    net.mediate(node, GetQuote { redundancy, max_price: None }).await.ok()
}

async fn record(net: &Net, node: NodeId) -> Option<MediatorRecord> {
    net.connect(node, Vec::new()).await.ok()?;
    let record = net.mediate(node, GetRecord {}).await.ok()?;
    let record = record.verify(net.network(), UnixTime::now()).ok()?;
    (record.node == node).then(|| record.into_body())
}

/// Finds the cheapest mediator.
///
/// # Errors
/// [`MediatorError::NotFound`] if none answers in time.
pub(crate) async fn find_mediator(net: &Net) -> Result<NodeId, MediatorError> {
    let search = async {
        loop {
            if let Some(record) = announced_records(net).await.first() {
                return record.node;
            }
            tokio::time::sleep(SEARCH_PAUSE).await;
        }
    };
    tokio::time::timeout(SEARCH, search).await.map_err(|_| MediatorError::NotFound(net.network()))
}

/// A mediator with which an account is logged in.
#[derive(Clone)]
pub(crate) struct MediatorClient {
    net: Net,
    node: NodeId,
    account: SigningKey,
    registration: Signed<Registration>,
    /// How often this client has logged in. Held meanwhile, as a second login would end the first.
    logins: Arc<Mutex<u64>>,
}

impl MediatorClient {
    /// Connects to a mediator and logs in.
    pub(crate) async fn open(
        net: Net,
        node: NodeId,
        account: SigningKey,
        registration: Signed<Registration>,
    ) -> Result<Self, MediatorError> {
        let client = Self { net, node, account, registration, logins: Arc::default() };
        client.login().await?;
        Ok(client)
    }

    async fn login(&self) -> Result<(), MediatorError> {
        self.net.connect(self.node, Vec::new()).await?;
        let nonce = self.net.mediate(self.node, Hello {}).await?.nonce;
        let proof = login_proof(&self.net, &self.account, &self.node, &nonce);
        self.net.mediate(self.node, Login { registration: self.registration.clone(), proof }).await?;
        Ok(())
    }

    /// Logs in again, waiting for a mediator that is starting again; once for all requests that
    /// failed since login `seen`.
    async fn log_in_again(&self, seen: u64) -> Result<(), MediatorError> {
        let mut logins = self.logins.lock().await;
        if *logins != seen {
            return Ok(());
        }
        for _ in 1..RECONNECTS {
            match self.login().await {
                Ok(()) => {
                    *logins += 1;
                    return Ok(());
                }
                Err(error) if error.is_answer() => return Err(error),
                Err(_) => tokio::time::sleep(RECONNECT_PAUSE).await,
            }
        }
        self.login().await
    }

    fn gone(&self, error: &dyn std::fmt::Display) -> MediatorError {
        MediatorError::Gone { node: self.node, reason: error.to_string() }
    }

    pub(crate) fn net(&self) -> &Net {
        &self.net
    }

    pub(crate) fn node(&self) -> NodeId {
        self.node
    }

    pub(super) fn unexpected(&self) -> MediatorError {
        CallError::Unexpected { node: self.node }.into()
    }

    /// Asks, logging in again where the connection was lost and waiting where the mediator is busy.
    pub(super) async fn ask<C: Call<Request = Request>>(
        &self,
        call: C,
    ) -> Result<C::Response, MediatorError> {
        self.ask_with(call, Bytes::new()).await
    }

    async fn ask_with<C: Call<Request = Request>>(
        &self,
        call: C,
        payload: Bytes,
    ) -> Result<C::Response, MediatorError> {
        let mut tries = 0;
        loop {
            let seen = *self.logins.lock().await;
            let error = match self.net.mediate_with(self.node, call.clone(), payload.clone()).await {
                Ok((body, _)) => return Ok(body),
                Err(CallError::Unexpected { .. }) => return Err(self.unexpected()),
                Err(error) => error,
            };
            tries += 1;
            match error.refusal() {
                Some(Refusal::NotLoggedIn) if tries < 3 => self.log_in_again(seen).await?,
                Some(Refusal::Busy | Refusal::TooManyOpen) if tries < BUSY_TRIES => {
                    tokio::time::sleep(BUSY_PAUSE * tries.min(10)).await
                }
                None if tries < 3 => self.log_in_again(seen).await.map_err(|again| match again {
                    refused if refused.is_answer() => refused,
                    _ => self.gone(&error),
                })?,
                None => return Err(self.gone(&error)),
                Some(_) => return Err(error.into()),
            }
        }
    }

    /// What a run would get now, of storage that takes no more than `max_price`.
    pub(crate) async fn quote(
        &self,
        redundancy: Redundancy,
        max_price: Option<Price>,
    ) -> Result<Quote, MediatorError> {
        match self.quote_of(redundancy, max_price).await {
            Err(few @ MediatorError::Offer(OfferError::TooFewNodes { .. })) => {
                let Some(most) = max_price else { return Err(few) };
                // Are there too few, or are they too dear?
                match self.quote_of(redundancy, None).await {
                    Ok(quote) if quote.price > most => {
                        Err(OfferError::TooDear { price: quote.price, most }.into())
                    }
                    _ => Err(few),
                }
            }
            other => other,
        }
    }

    async fn quote_of(
        &self,
        redundancy: Redundancy,
        max_price: Option<Price>,
    ) -> Result<Quote, MediatorError> {
        let quote = self.ask(GetQuote { redundancy, max_price }).await?;
        match max_price {
            // A mediator that knows no limits.
            Some(most) if quote.price > most => Err(OfferError::TooDear { price: quote.price, most }.into()),
            _ if quote.code.keeps(redundancy) => Ok(quote),
            _ => Err(OfferError::LowRedundancy { data: quote.code.data(), total: quote.code.total() }.into()),
        }
    }

    /// Announces a segment; which data shards are missing, as bits.
    pub(crate) async fn open_segment(
        &self,
        run: RunId,
        mandate: Signed<Mandate>,
        manifest: Manifest,
        tag: Tag,
    ) -> Result<u32, MediatorError> {
        Ok(self.ask(OpenSegment { run, mandate, manifest, tag }).await?.missing)
    }

    pub(crate) async fn put(
        &self,
        segment: SegmentId,
        index: ShardIndex,
        payload: Bytes,
    ) -> Result<(), MediatorError> {
        self.ask_with(PutShard { segment, index }, payload).await?;
        Ok(())
    }

    pub(crate) async fn commit(&self, segment: SegmentId) -> Result<Vec<Signed<Receipt>>, MediatorError> {
        Ok(self.ask(CommitSegment { segment }).await?.receipts)
    }

    pub(crate) async fn keep(&self, keep: Signed<Keep>) -> Result<(), MediatorError> {
        self.ask(KeepRun { keep }).await?;
        Ok(())
    }

    /// Brings a release: how many nodes hold something, how many have heard it, and when the first
    /// of them deletes.
    pub(crate) async fn release(&self, release: Signed<Release>) -> Result<ReleaseProgress, MediatorError> {
        self.ask(ReleaseSegments { release }).await
    }

    /// Fetches a shard through the mediator, unchecked.
    pub(crate) async fn get(&self, segment: SegmentId, index: ShardIndex) -> Result<Bytes, CallError> {
        Ok(self.net.mediate_with(self.node, GetShard { segment, index }, Bytes::new()).await?.1)
    }

    pub(crate) async fn locate(
        &self,
        segments: Vec<SegmentId>,
    ) -> Result<Vec<LocatedSegment>, MediatorError> {
        Ok(self.locate_with_addresses(segments).await?.0)
    }

    /// Who holds some segments, as the mediator says, and where these nodes listen.
    pub(crate) async fn locate_with_addresses(
        &self,
        segments: Vec<SegmentId>,
    ) -> Result<(Vec<LocatedSegment>, Vec<NodeAddresses>), MediatorError> {
        let located = self.ask(LocateSegments { segments }).await?;
        Ok((located.segments, located.nodes))
    }

    /// Says which shards are not where they should be, so that the mediator looks itself. Once: one
    /// that is busy looking hears the rest another time.
    pub(crate) async fn report_missing(&self, shards: Vec<(SegmentId, ShardIndex)>) -> Result<(), CallError> {
        self.net.mediate(self.node, ReportMissing { shards }).await?;
        Ok(())
    }

    /// Makes the mediator take the vault over, or asks how far that is.
    pub(crate) async fn adopt(&self, adoption: MigrateIn) -> Result<MigrationProgress, MediatorError> {
        self.ask(adoption).await
    }

    pub(crate) async fn head(&self) -> Result<Option<Signed<Head>>, MediatorError> {
        Ok(self.ask(GetHead {}).await?.head)
    }

    /// Tells the mediator of a rewind; it may know of it.
    pub(crate) async fn rewind(&self, rewound: Rewound) -> Result<(), MediatorError> {
        self.ask(RewindAccount { rewound }).await?;
        Ok(())
    }

    /// Swaps the head; false if it has moved meanwhile.
    pub(crate) async fn swap_head(
        &self,
        expected: Option<HeadHash>,
        head: Signed<Head>,
    ) -> Result<bool, MediatorError> {
        match self.ask(SwapHead { expected, head }).await {
            Ok(_) => Ok(true),
            Err(error) if error.refused() == Some(Refused::HeadMoved) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// Sends a mediator what the guard key signed; whether it took it.
pub(crate) async fn tell_mediator<C>(net: &Net, mediator: NodeId, call: C) -> bool
where
    C: Call<Request = Request>,
{
    let told = async {
        net.connect(mediator, Vec::new()).await.ok()?;
        net.mediate(mediator, call).await.ok()
    };
    matches!(tokio::time::timeout(GUARD_REQUEST_TIMEOUT, told).await, Ok(Some(_)))
}
