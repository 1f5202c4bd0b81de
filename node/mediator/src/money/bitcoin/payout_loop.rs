//! Pays storage nodes: asks where, decides, carries out, and reports.

use std::sync::Arc;
use std::time::Duration;

use fincrypt_ledger::LedgerError;
use fincrypt_protocol::NodeId;
use fincrypt_protocol::limits::MAX_DESTINATION;
use fincrypt_protocol::pay::{GetDestination, NotePayout};
use fincrypt_state::kv::KvError;
use futures::StreamExt;
use tokio::sync::watch;

use super::destination::To;
use super::due::Due;
use super::money::Money;
use super::payout_reports::Report;
use crate::error::{Interrupted, blocking};
use crate::holder_link::{Delivery, HolderLink};

/// Between rounds, at least and at most; an epoch's quarter if it is between them.
const SHORTEST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Storage nodes asked or reported to at once.
const AT_ONCE: usize = 16;

/// Why a round of payouts stopped; the next one goes on from there.
#[derive(Debug, thiserror::Error)]
enum RoundError {
    /// Destinations or reports could not be read or recorded.
    #[error("the mediator's state: {0}")]
    State(#[from] KvError),
    /// The books.
    #[error("the ledger: {0}")]
    Ledger(#[from] LedgerError),
    /// The work did not end.
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
}

/// The payouts' loop.
pub(super) struct PayoutLoop {
    money: Arc<Money>,
    holders: HolderLink,
    pause: Duration,
}

impl PayoutLoop {
    /// A loop with four rounds an epoch, within bounds.
    pub(super) fn new(money: Arc<Money>, holders: HolderLink, epoch: Duration) -> Self {
        Self { money, holders, pause: (epoch / 4).clamp(SHORTEST_PAUSE, LONGEST_PAUSE) }
    }

    /// Collects, decides, pays and reports until told to stop.
    pub(super) async fn run(self, mut stop: watch::Receiver<bool>) {
        loop {
            if let Err(error) = self.round().await {
                tracing::error!(%error, "payout_round_failed");
            }
            tokio::select! {
                _ = stop.changed() => return,
                () = self.money.wallets.moved() => {}
                () = tokio::time::sleep(self.pause) => {}
            }
        }
    }

    async fn round(&self) -> Result<(), RoundError> {
        self.move_money().await?;
        let money = Arc::clone(&self.money);
        let due = blocking(move || Ok::<_, Interrupted>(money.intents.due())).await?;
        let deciding = due.into_iter().map(|due| self.decide(due));
        let decided: Vec<_> = futures::stream::iter(deciding).buffer_unordered(AT_ONCE).collect().await;
        let on_chain = decided.into_iter().collect::<Result<Vec<_>, RoundError>>()?;
        let on_chain: Vec<(Due, String)> = on_chain.into_iter().flatten().collect();
        let money = Arc::clone(&self.money);
        blocking(move || Ok::<_, RoundError>(money.intents.intend_batch(on_chain)?)).await?;
        self.move_money().await?;
        self.report().await
    }

    async fn move_money(&self) -> Result<(), RoundError> {
        let money = Arc::clone(&self.money);
        blocking(move || Ok(money.move_money()?)).await
    }

    /// The destination of a storage node's earnings: as it says now, or said last if it does not answer.
    async fn destination(&self, node: NodeId) -> Result<Option<String>, RoundError> {
        let lightning = self.money.wallets.lightning().map(|node| node.id());
        let said = match self.holders.pay(node, GetDestination { lightning }).await {
            Delivery::Acknowledged(destination) => destination.to,
            _ => return Ok(self.money.destinations.known(&node)?),
        };
        let said = said.filter(|to| to.len() <= MAX_DESTINATION);
        if let Some(to) = &said {
            let (money, to) = (Arc::clone(&self.money), to.clone());
            blocking(move || Ok::<_, RoundError>(money.destinations.learn(&node, &to)?)).await?;
        }
        Ok(said)
    }

    /// Decides to pay a node; if it wants that on the chain, gives back where, for a batch.
    async fn decide(&self, due: Due) -> Result<Option<(Due, String)>, RoundError> {
        let Some(text) = self.destination(due.node).await? else {
            self.money.failures.record(&due.node, "its operator names no destination (--payout)");
            return Ok(None);
        };
        let money = Arc::clone(&self.money);
        blocking(move || {
            let to = match money.destinations.read(&text) {
                Ok(to) => to,
                Err(error) => {
                    money.failures.record(&due.node, &error.to_string());
                    return Ok(None);
                }
            };
            let decided = match to {
                To::Lightning(to) => money.intents.intend_over_routes(due, &to),
                To::Channel(peer) => money.intents.intend_over_channel(&due, &peer),
                To::Chain(address) => return Ok(Some((due, address))),
            };
            Ok(decided.map(|()| None)?)
        })
        .await
    }

    /// Reports to storage nodes what became of payouts to them.
    async fn report(&self) -> Result<(), RoundError> {
        let money = Arc::clone(&self.money);
        let outstanding = blocking(move || Ok::<_, RoundError>(money.reports.outstanding()?)).await?;
        let reporting = outstanding.into_iter().map(|Report { node, payout, stage }| async move {
            let id = payout.id;
            match self.holders.pay(node, NotePayout { payout }).await {
                // What it rejects it will reject again.
                Delivery::Acknowledged(_) | Delivery::Rejected(_) => {
                    let money = Arc::clone(&self.money);
                    blocking(move || Ok(money.reports.acknowledged(&node, id, stage)?)).await
                }
                Delivery::TimedOut => Ok(()),
            }
        });
        let reported: Vec<_> = futures::stream::iter(reporting).buffer_unordered(AT_ONCE).collect().await;
        reported.into_iter().collect()
    }
}
