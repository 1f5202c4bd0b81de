//! Serving requests: bounded tasks, shared fairly among peers, that are awaited at shutdown.

use std::future::Future;

use bytes::Bytes;
use fincrypt_protocol::{Call, NodeId, Refusal, Response};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::engine::Inbound;
use crate::queue::{FairQueue, Limits};

/// Requests of one role. Each holds at most one payload, which the intake bounds, and one answer.
/// A client asks for eight things at once; what waits comes to about 2 s of small requests.
const LIMITS: Limits = Limits { slots: 64, slots_per_peer: 16, waiting: 128, waiting_per_peer: 32 };

/// What a handler answers: a response and its payload, or a refusal.
pub type Answer = Result<(Response, Bytes), Refusal>;

/// The response to a `C`, without payload.
///
/// # Errors
/// [`Refusal::Failed`] if it cannot be encoded.
pub fn reply<C: Call>(body: C::Response) -> Answer {
    reply_with::<C>(body, Bytes::new())
}

/// The response to a `C`, with payload.
///
/// # Errors
/// [`Refusal::Failed`] if it cannot be encoded.
pub fn reply_with<C: Call>(body: C::Response, payload: Bytes) -> Answer {
    Ok((Response::ok::<C>(&body).map_err(|_| Refusal::Failed)?, payload))
}

/// One request as a handler sees it.
pub struct Request<Req> {
    /// The peer that asks.
    pub from: NodeId,
    /// What it asks.
    pub header: Req,
    /// The bytes it sent.
    pub payload: Bytes,
}

/// A request's place among those that are handled; kept until its answer is written.
struct Slot {
    peer: NodeId,
    freed: mpsc::Sender<NodeId>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        // There is room for all slots.
        let _ = self.freed.try_send(self.peer);
    }
}

/// Returns when one of `tasks` ends although `stop` did not tell it to: it has failed. Pending as long as none
/// does.
pub async fn unexpected_end(tasks: &mut JoinSet<()>, stop: &watch::Receiver<bool>) {
    while let Some(ended) = tasks.join_next().await {
        // A sender that is gone is a stop, too.
        if !*stop.borrow() && stop.has_changed().is_ok() {
            let panicked = ended.is_err_and(|error| error.is_panic());
            return tracing::error!(panicked, "task_ended_unexpectedly");
        }
    }
    std::future::pending().await
}

/// Answers requests until the inbox closes, then waits for those under way.
pub async fn serve<Req, F, Fut>(mut inbox: mpsc::Receiver<Inbound<Req>>, handler: F)
where
    Req: Send + 'static,
    F: Fn(Request<Req>) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = Answer> + Send + 'static,
{
    let mut queue = FairQueue::new(LIMITS);
    let (freed, mut free) = mpsc::channel(LIMITS.slots);
    let mut tasks = JoinSet::new();
    loop {
        while let Some((peer, inbound)) = queue.next() {
            let (handler, slot) = (handler.clone(), Slot { peer, freed: freed.clone() });
            tasks.spawn(async move {
                let Inbound { from, header, payload, permit, reply } = inbound;
                let answer = handler(Request { from, header, payload }).await;
                drop(permit);
                reply.send(answer, slot).await;
            });
        }
        while tasks.try_join_next().is_some() {}
        tokio::select! {
            inbound = inbox.recv() => match inbound {
                Some(inbound) => {
                    if let Some(refused) = queue.push(inbound.from, inbound) {
                        refused.reply.send(Err(Refusal::Busy), ()).await;
                    }
                }
                None => break,
            },
            Some(peer) = free.recv() => queue.done(&peer),
        }
    }
    while tasks.join_next().await.is_some() {}
}

/// Runs disk or CPU work away from the network's threads.
///
/// # Errors
/// What the work returns; [`Refusal::Failed`] if it panicked.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refusal> {
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(Refusal::Failed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_that_ends_before_it_is_told_to_is_noticed() {
        let (_sender, stop) = watch::channel(false);
        let mut tasks = JoinSet::new();
        tasks.spawn(std::future::pending());
        tasks.spawn(async {});
        unexpected_end(&mut tasks, &stop).await;
    }

    #[tokio::test]
    async fn tasks_that_end_because_they_were_told_to_are_no_failure() {
        let (sender, stop) = watch::channel(false);
        let mut tasks = JoinSet::new();
        let mut told = stop.clone();
        tasks.spawn(async move { drop(told.changed().await) });
        sender.send(true).expect("heard");
        tokio::select! {
            () = unexpected_end(&mut tasks, &stop) => panic!("it was told to"),
            // Far more turns than the task needs.
            () = async { for _ in 0..100 { tokio::task::yield_now().await } } => {}
        }
        assert!(tasks.is_empty());
    }
}
