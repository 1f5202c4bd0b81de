//! Storage nodes are paid: asked where, decided on, carried out, told.

use std::sync::Arc;
use std::time::Duration;

use fincrypt_protocol::limits::MAX_DESTINATION;
use fincrypt_protocol::shard::{Request, Response};
use fincrypt_protocol::{NodeId, Refusal};
use futures::StreamExt;
use tokio::sync::watch;

use super::MediatorRole;
use super::money::{Due, To};
use super::notices::Told;
use fincrypt_accounts::failed;
use fincrypt_net::blocking;

/// Between rounds, at least and at most; an epoch's quarter if it is between them.
const SOON: Duration = Duration::from_millis(500);
const LATE: Duration = Duration::from_secs(60);
/// Nodes asked or told at once.
const AT_ONCE: usize = 16;

impl MediatorRole {
    /// Collects, decides, pays and tells until told to stop.
    pub(super) async fn pay(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        if !self.money.takes_deposits() {
            return;
        }
        let pause = (self.standings.terms().epoch / 4).clamp(SOON, LATE);
        loop {
            if let Err(refusal) = self.pay_round().await {
                tracing::warn!(%refusal, "payouts could not be looked after");
            }
            tokio::select! {
                _ = stop.changed() => return,
                () = self.money.moved() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    async fn pay_round(self: &Arc<Self>) -> Result<(), Refusal> {
        self.move_money().await?;
        let money = Arc::clone(&self.money);
        let due = blocking(move || Ok(money.due())).await?;
        let deciding = due.into_iter().map(|due| self.decide(due));
        let decided: Vec<_> = futures::stream::iter(deciding).buffer_unordered(AT_ONCE).collect().await;
        let on_chain = decided.into_iter().collect::<Result<Vec<_>, Refusal>>()?;
        let on_chain: Vec<(Due, String)> = on_chain.into_iter().flatten().collect();
        let money = Arc::clone(&self.money);
        blocking(move || money.intend_batch(on_chain).map_err(|error| failed(&error))).await?;
        self.move_money().await?;
        self.tell_payouts().await
    }

    async fn move_money(&self) -> Result<(), Refusal> {
        let money = Arc::clone(&self.money);
        blocking(move || money.move_money().map_err(|error| failed(&error))).await
    }

    /// Where a node wants its earnings: as it says now, or said last if it does not answer.
    async fn destination(&self, node: NodeId) -> Result<Option<String>, Refusal> {
        let lightning = self.money.lightning().map(|node| node.id());
        let said = match self.tell(node, Request::PayTo { lightning }).await {
            Told::Heard(Response::PayTo(to)) => to,
            _ => return Ok(self.money.known_destination(&node)),
        };
        let said = said.filter(|to| to.len() <= MAX_DESTINATION);
        if let Some(to) = &said {
            let (money, to) = (Arc::clone(&self.money), to.clone());
            blocking(move || money.learn_destination(&node, &to)).await?;
        }
        Ok(said)
    }

    /// Decides to pay a node; if it wants that on the chain, gives back where, for a batch.
    async fn decide(&self, due: Due) -> Result<Option<(Due, String)>, Refusal> {
        let Some(text) = self.destination(due.node).await? else {
            self.money.trouble(&due.node, "its operator names no destination (--payout)");
            return Ok(None);
        };
        let money = Arc::clone(&self.money);
        blocking(move || {
            let to = match money.read_destination(&text) {
                Ok(to) => to,
                Err(error) => {
                    money.trouble(&due.node, &error.to_string());
                    return Ok(None);
                }
            };
            let decided = match to {
                To::Lightning(to) => money.intend_over_routes(due, &to),
                To::Channel(peer) => money.intend_over_channel(&due, &peer),
                To::Chain(address) => return Ok(Some((due, address))),
            };
            decided.map(|()| None).map_err(|error| failed(&error))
        })
        .await
    }

    /// Tells nodes what became of payouts to them.
    async fn tell_payouts(&self) -> Result<(), Refusal> {
        let money = Arc::clone(&self.money);
        let untold = blocking(move || Ok(money.untold())).await?;
        let telling = untold.into_iter().map(|(node, payout, stage)| async move {
            let id = payout.id;
            match self.tell(node, Request::Paid { payout }).await {
                // What it refuses it will refuse again.
                Told::Heard(_) | Told::Refused(_) => self.money.heard(&node, id, stage),
                Told::Unheard => Ok(()),
            }
        });
        let told: Vec<_> = futures::stream::iter(telling).buffer_unordered(AT_ONCE).collect().await;
        told.into_iter().collect()
    }
}
