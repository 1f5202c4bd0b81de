//! Requests to storage nodes: the services' one way to them.

use std::sync::Arc;
use std::time::Duration;

use fincrypt_net::{CallError, Net};
use fincrypt_protocol::shard::{Request, Response};
use fincrypt_protocol::{Frame, NodeId, Refusal};
use futures::future::BoxFuture;

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

/// Carries requests to storage nodes: the network, or a test.
pub(crate) trait Carrier: Send + Sync {
    /// Connects a node; whether that succeeded.
    fn connect(&self, node: NodeId) -> BoxFuture<'_, bool>;

    /// Sends one request and waits for its answer.
    fn call(
        &self,
        node: NodeId,
        request: Frame<Request>,
    ) -> BoxFuture<'_, Result<Frame<Response>, CallError>>;
}

/// The swarm, with the addresses of the directory.
struct Swarm {
    net: Net,
    directory: Arc<Directory>,
}

impl Carrier for Swarm {
    fn connect(&self, node: NodeId) -> BoxFuture<'_, bool> {
        Box::pin(async move { self.net.connect(node, self.directory.addresses(&node)).await.is_ok() })
    }

    fn call(
        &self,
        node: NodeId,
        request: Frame<Request>,
    ) -> BoxFuture<'_, Result<Frame<Response>, CallError>> {
        Box::pin(self.net.shard(node, request))
    }
}

/// Sends requests to storage nodes. Cheap to clone.
#[derive(Clone)]
pub(crate) struct HolderLink(Arc<dyn Carrier>);

impl HolderLink {
    /// A link over `net`, with the addresses of `directory`.
    pub(crate) fn new(net: Net, directory: Arc<Directory>) -> Self {
        Self(Arc::new(Swarm { net, directory }))
    }

    /// Connects a node; whether that succeeded.
    pub(crate) async fn connect(&self, node: NodeId) -> bool {
        self.0.connect(node).await
    }

    /// Sends one request to a node that should be connected, for as long as the network lets it take.
    pub(crate) async fn call(
        &self,
        node: NodeId,
        request: Frame<Request>,
    ) -> Result<Frame<Response>, CallError> {
        self.0.call(node, request).await
    }

    /// Sends one request to a storage node, and waits at most eight seconds for its answer.
    pub(crate) async fn send(&self, node: NodeId, request: Request) -> Delivery {
        let answered = async {
            if self.connect(node).await { Some(self.call(node, Frame::bare(request)).await) } else { None }
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

#[cfg(test)]
pub(crate) mod testing {
    use super::*;
    use parking_lot::Mutex;

    type Answer = Box<dyn FnMut(NodeId, Request) -> Result<Response, Refusal> + Send>;

    /// Storage nodes in a test: a function answers for all of them.
    struct Scripted(Mutex<Answer>);

    impl Carrier for Scripted {
        fn connect(&self, _node: NodeId) -> BoxFuture<'_, bool> {
            Box::pin(std::future::ready(true))
        }

        fn call(
            &self,
            node: NodeId,
            request: Frame<Request>,
        ) -> BoxFuture<'_, Result<Frame<Response>, CallError>> {
            let answered = (*self.0.lock())(node, request.header);
            let answered = answered.map(Frame::bare).map_err(|refusal| CallError::Refused { node, refusal });
            Box::pin(std::future::ready(answered))
        }
    }

    /// A link to storage nodes for which `answer` answers.
    pub(crate) fn answering(
        answer: impl FnMut(NodeId, Request) -> Result<Response, Refusal> + Send + 'static,
    ) -> HolderLink {
        HolderLink(Arc::new(Scripted(Mutex::new(Box::new(answer)))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_a_refusal_for_good_counts_as_rejected() {
        let node = NodeId::from_bytes([1; 32]);
        let of = |answer: Result<Response, Refusal>| {
            let link = testing::answering(move |_, _| answer.clone());
            async move { link.send(node, Request::Quote).await }
        };
        assert_eq!(of(Ok(Response::Done)).await, Delivery::Acknowledged(Response::Done));
        assert_eq!(of(Err(Refusal::NotMandated)).await, Delivery::Rejected(Refusal::NotMandated));
        assert_eq!(of(Err(Refusal::Busy)).await, Delivery::TimedOut);
    }
}
