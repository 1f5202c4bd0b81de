//! Requests to storage nodes, with one deadline for connecting and answering.

use std::sync::Arc;
use std::time::Duration;

use fincrypt_net::{CallError, Net};
use fincrypt_protocol::shard::Request;
use fincrypt_protocol::{Call, NodeId, Refusal, Response};

use super::directory::Directory;

/// How long one storage node may take.
const DEADLINE: Duration = Duration::from_secs(8);

/// What became of a request that `T` answers.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Delivery<T> {
    /// The node answered it.
    Acknowledged(T),
    /// The node refuses it, and will again.
    Rejected(Refusal),
    /// The node did not answer, or refuses it for now.
    TimedOut,
}

/// Sends requests to storage nodes. Cheap to clone.
#[derive(Clone)]
pub(crate) struct HolderLink {
    net: Net,
    directory: Arc<Directory>,
}

impl HolderLink {
    /// A link over `net`, with the addresses of `directory`.
    pub(crate) fn new(net: Net, directory: Arc<Directory>) -> Self {
        Self { net, directory }
    }

    /// Sends one request to a storage node, and waits at most eight seconds for its answer.
    pub(crate) async fn send<C: Call<Request = Request>>(
        &self,
        node: NodeId,
        call: C,
    ) -> Delivery<C::Response> {
        self.deliver(node, self.net.shard(node, call)).await
    }

    /// Sends one request of whichever kind, and waits at most eight seconds for its answer.
    pub(crate) async fn tell(&self, node: NodeId, request: Request) -> Delivery<Response> {
        self.deliver(node, self.net.tell(node, request)).await
    }

    async fn deliver<T>(
        &self,
        node: NodeId,
        asking: impl Future<Output = Result<T, CallError>>,
    ) -> Delivery<T> {
        let answered = async {
            self.net.connect(node, self.directory.addresses(&node)).await.ok()?;
            Some(asking.await)
        };
        match tokio::time::timeout(DEADLINE, answered).await {
            Ok(Some(Ok(answer))) => Delivery::Acknowledged(answer),
            Ok(Some(Err(error))) => match error.refusal() {
                Some(refusal) if !refusal.is_temporary() => Delivery::Rejected(refusal),
                _ => Delivery::TimedOut,
            },
            _ => Delivery::TimedOut,
        }
    }
}
