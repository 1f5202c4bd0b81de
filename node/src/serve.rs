//! Serving requests: bounded tasks that are awaited at shutdown.

use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use fincrypt_protocol::{Frame, Refusal};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

use crate::engine::Inbound;

/// Requests handled at once by one role. Each holds at most one payload, which the intake bounds.
const AT_ONCE: usize = 64;

/// A header that can say no.
pub(crate) trait Refuse {
    fn refused(refusal: Refusal) -> Self;
}

impl Refuse for fincrypt_protocol::mediate::Response {
    fn refused(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl Refuse for fincrypt_protocol::shard::Response {
    fn refused(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// What a handler answers: a header and a payload, or a refusal.
pub(crate) type Answer<Res> = Result<(Res, Bytes), Refusal>;

/// One request as a handler sees it.
pub(crate) struct Request<Req> {
    pub from: fincrypt_protocol::NodeId,
    pub header: Req,
    pub payload: Bytes,
}

/// Answers requests until the inbox closes, then waits for those under way.
pub(crate) async fn serve<Req, Res, F, Fut>(mut inbox: mpsc::Receiver<Inbound<Req, Res>>, handler: F)
where
    Req: Send + 'static,
    Res: Refuse + Send + 'static,
    F: Fn(Request<Req>) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = Answer<Res>> + Send + 'static,
{
    let slots = Arc::new(Semaphore::new(AT_ONCE));
    let mut tasks = JoinSet::new();
    while let Some(inbound) = inbox.recv().await {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { break };
        while tasks.try_join_next().is_some() {}
        let handler = handler.clone();
        tasks.spawn(async move {
            let Inbound { from, header, payload, permit, reply } = inbound;
            let frame = match handler(Request { from, header, payload }).await {
                Ok((header, payload)) => Frame { header, payload },
                Err(refusal) => Frame { header: Res::refused(refusal), payload: Bytes::new() },
            };
            drop(permit);
            reply.send(frame).await;
            drop(slot);
        });
    }
    while tasks.join_next().await.is_some() {}
}

/// Runs disk or CPU work away from the network's threads.
///
/// # Errors
/// What the work returns; [`Refusal::Failed`] if it panicked.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refusal> {
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(Refusal::Failed))
}
