//! Requests to storage nodes: the services' one way to them.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fincrypt_net::{CallError, Net};
use fincrypt_protocol::shard::Request;
use fincrypt_protocol::{Call, NodeId, Refusal, Response, pay};
use futures::future::BoxFuture;

use super::registry::StorageRegistry;

/// Time for one storage node to answer.
const DEADLINE: Duration = Duration::from_secs(8);

/// The outcome of a request that `T` answers.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Delivery<T> {
    /// The node answered it.
    Acknowledged(T),
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
        request: Request,
        payload: Bytes,
    ) -> BoxFuture<'_, Result<(Response, Bytes), CallError>>;

    /// Sends one request about money and waits for its answer.
    fn pay(&self, node: NodeId, request: pay::Request) -> BoxFuture<'_, Result<Response, CallError>>;
}

/// The swarm, with the addresses of the registry.
struct Swarm {
    net: Net,
    registry: Arc<StorageRegistry>,
}

impl Carrier for Swarm {
    fn connect(&self, node: NodeId) -> BoxFuture<'_, bool> {
        Box::pin(async move { self.net.connect(node, self.registry.addresses(&node)).await.is_ok() })
    }

    fn call(
        &self,
        node: NodeId,
        request: Request,
        payload: Bytes,
    ) -> BoxFuture<'_, Result<(Response, Bytes), CallError>> {
        Box::pin(self.net.send_shard(node, request, payload))
    }

    fn pay(&self, node: NodeId, request: pay::Request) -> BoxFuture<'_, Result<Response, CallError>> {
        Box::pin(self.net.send_pay(node, request))
    }
}

/// Sends requests to storage nodes. Cheap to clone.
#[derive(Clone)]
pub(crate) struct HolderLink(Arc<dyn Carrier>);

impl HolderLink {
    /// A link over `net`, with the addresses of `registry`.
    pub(crate) fn new(net: Net, registry: Arc<StorageRegistry>) -> Self {
        Self(Arc::new(Swarm { net, registry }))
    }

    /// Connects a node; whether that succeeded.
    pub(crate) async fn connect(&self, node: NodeId) -> bool {
        self.0.connect(node).await
    }

    /// Sends one request to a node that should be connected, for as long as the network lets it take; the
    /// body and the payload of its response.
    pub(crate) async fn call<C: Call<Request = Request>>(
        &self,
        node: NodeId,
        call: C,
        payload: Bytes,
    ) -> Result<(C::Response, Bytes), CallError> {
        let (response, payload) = self.0.call(node, call.into(), payload).await?;
        Ok((body::<C>(node, &response)?, payload))
    }

    /// Sends one request to a storage node, and waits at most eight seconds for its answer.
    pub(crate) async fn send<C: Call<Request = Request>>(
        &self,
        node: NodeId,
        call: C,
    ) -> Delivery<C::Response> {
        self.deliver(node, async { Ok(self.call(node, call, Bytes::new()).await?.0) }).await
    }

    /// Sends one request about money, and waits at most eight seconds for its answer.
    pub(crate) async fn pay<C: Call<Request = pay::Request>>(
        &self,
        node: NodeId,
        call: C,
    ) -> Delivery<C::Response> {
        self.deliver(node, async { body::<C>(node, &self.0.pay(node, call.into()).await?) }).await
    }

    /// Sends one request of whichever kind, and waits at most eight seconds for its answer.
    pub(crate) async fn tell(&self, node: NodeId, request: Request) -> Delivery<Response> {
        self.deliver(node, async { Ok(self.0.call(node, request, Bytes::new()).await?.0) }).await
    }

    async fn deliver<T>(
        &self,
        node: NodeId,
        asking: impl Future<Output = Result<T, CallError>>,
    ) -> Delivery<T> {
        let answered = async { if self.connect(node).await { Some(asking.await) } else { None } };
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

/// What a node answered to a `C`.
fn body<C: Call>(node: NodeId, response: &Response) -> Result<C::Response, CallError> {
    match response.read::<C>() {
        Ok(Ok(body)) => Ok(body),
        Ok(Err(refusal)) => Err(CallError::Refused { node, refusal }),
        Err(_) => Err(CallError::Unexpected { node }),
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
            request: Request,
            _: Bytes,
        ) -> BoxFuture<'_, Result<(Response, Bytes), CallError>> {
            let answered = (*self.0.lock())(node, request);
            let answered = answered.map(|response| (response, Bytes::new()));
            let answered = answered.map_err(|refusal| CallError::Refused { node, refusal });
            Box::pin(std::future::ready(answered))
        }

        fn pay(&self, node: NodeId, _: pay::Request) -> BoxFuture<'_, Result<Response, CallError>> {
            let unsupported = CallError::Refused { node, refusal: Refusal::Unsupported };
            Box::pin(std::future::ready(Err(unsupported)))
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
    use fincrypt_protocol::Nonce;
    use fincrypt_protocol::shard::{Hello, LoginNonce};

    #[tokio::test]
    async fn only_a_refusal_for_good_counts_as_rejected() {
        let node = NodeId::from_bytes([1; 32]);
        let of = |answer: Result<Response, Refusal>| {
            let link = testing::answering(move |_, _| answer.clone());
            async move { link.send(node, Hello {}).await }
        };
        let nonce = LoginNonce { nonce: Nonce::from_bytes([1; 32]) };
        let answered = Response::ok::<Hello>(&nonce).expect("encodes");
        assert_eq!(of(Ok(answered)).await, Delivery::Acknowledged(nonce));
        assert_eq!(of(Err(Refusal::NotMandated)).await, Delivery::Rejected(Refusal::NotMandated));
        assert_eq!(of(Err(Refusal::Busy)).await, Delivery::TimedOut);
    }
}
