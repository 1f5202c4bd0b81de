//! Requests to storage nodes, with one deadline for connecting and answering.

use std::sync::Arc;
use std::time::Duration;

use fincrypt_net::Net;
use fincrypt_protocol::shard::{Request, Response};
use fincrypt_protocol::{Frame, NodeId, Refusal};

use super::directory::Directory;

/// How long one storage node may take.
const DEADLINE: Duration = Duration::from_secs(8);

/// What became of a request.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Delivery {
    /// The node answered it.
    Acknowledged(Response),
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
    pub(crate) async fn send(&self, node: NodeId, request: Request) -> Delivery {
        let answered = async {
            self.net.connect(node, self.directory.addresses(&node)).await.ok()?;
            Some(self.net.shard(node, Frame::bare(request)).await)
        };
        match tokio::time::timeout(DEADLINE, answered).await {
            Ok(Some(Ok(answer))) => Delivery::Acknowledged(answer.header),
            Ok(Some(Err(error))) => match error.refusal() {
                Some(refusal) if !refusal.is_temporary() => Delivery::Rejected(refusal),
                _ => Delivery::TimedOut,
            },
            _ => Delivery::TimedOut,
        }
    }
}
