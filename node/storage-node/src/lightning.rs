//! A Lightning node of the operator's own, as far as this role needs one.

use std::sync::Arc;

use futures::future::BoxFuture;
use tokio::sync::watch;

/// A Lightning node in this process that earnings are paid to. The feature `bitcoin` has the
/// implementation.
pub trait OwnLightning: Send + Sync {
    /// Where it can be paid; none while it does not run.
    fn address(&self) -> Option<String>;

    /// Lets the node of this key, 66 hexadecimal digits, open channels that count at once; nothing happens if
    /// it is no key.
    fn trust(&self, node: &str);

    /// Keeps it running until `stop` changes.
    fn run(self: Arc<Self>, stop: watch::Receiver<bool>) -> BoxFuture<'static, ()>;
}

#[cfg(feature = "bitcoin")]
impl OwnLightning for fincrypt_treasury::lightning::LightningKeeper {
    fn address(&self) -> Option<String> {
        Self::address(self)
    }

    fn trust(&self, node: &str) {
        Self::trust(self, node);
    }

    fn run(self: Arc<Self>, stop: watch::Receiver<bool>) -> BoxFuture<'static, ()> {
        Box::pin(Self::run(self, stop))
    }
}
