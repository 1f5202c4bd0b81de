//! A storage operator's own Lightning node, inside this process.

#[cfg(feature = "bitcoin")]
pub(crate) use with_bitcoin::{OwnNode, View, open};
#[cfg(not(feature = "bitcoin"))]
pub(crate) use without_bitcoin::{OwnNode, View, open};

#[cfg(feature = "bitcoin")]
mod with_bitcoin {
    use std::sync::Arc;

    use fincrypt_mediator::LightningView;
    use fincrypt_storage_node::PayoutTo;
    use fincrypt_treasury::lightning::{LightningKeeper, LightningSetup};
    use fincrypt_treasury::seed_file;
    use serde::Serialize;

    use crate::config::Config;
    use crate::error::NodeError;
    use crate::home::Home;

    /// The node.
    pub(crate) type OwnNode = LightningKeeper;

    /// The node, if the operator wants to be paid there.
    pub(crate) fn open(home: &Home, config: &Config) -> Result<Option<Arc<OwnNode>>, NodeError> {
        if config.storage.payout() != PayoutTo::Own {
            return Ok(None);
        }
        let chain = config.chain.clone().ok_or(NodeError::NoChain)?;
        let setup = LightningSetup {
            folder: home.storage_lightning(),
            seed: seed_file::read_or_draw(&home.lightning_seed())?,
            listen: config.lightning_listen(home).map_err(NodeError::LightningListen)?,
            alias: config.bitcoin.lightning_alias.clone(),
            chain,
            trusted: home.lightning_trusted(),
        };
        Ok(Some(Arc::new(LightningKeeper::new(setup, Arc::default()))))
    }

    /// The node in the local interface.
    #[derive(Default, Serialize)]
    pub(crate) struct View {
        #[serde(skip_serializing_if = "Option::is_none")]
        lightning: Option<LightningView>,
        /// Why it does not run.
        #[serde(skip_serializing_if = "Option::is_none")]
        lightning_down: Option<String>,
    }

    impl View {
        pub(crate) fn of(node: &OwnNode) -> Self {
            Self { lightning: node.get().map(|node| LightningView::of(&node)), lightning_down: node.reason() }
        }
    }
}

#[cfg(not(feature = "bitcoin"))]
mod without_bitcoin {
    use std::convert::Infallible;
    use std::sync::Arc;

    use fincrypt_storage_node::OwnLightning;
    use futures::future::BoxFuture;
    use serde::Serialize;
    use tokio::sync::watch;

    use crate::config::Config;
    use crate::error::NodeError;
    use crate::home::Home;

    /// No node: there can be none.
    pub(crate) struct OwnNode(Infallible);

    impl OwnLightning for OwnNode {
        fn address(&self) -> Option<String> {
            match self.0 {}
        }

        fn trust(&self, _: &str) {
            match self.0 {}
        }

        fn run(self: Arc<Self>, _: watch::Receiver<bool>) -> BoxFuture<'static, ()> {
            match self.0 {}
        }
    }

    /// None: the configuration has refused to be asked for one.
    pub(crate) fn open(_: &Home, _: &Config) -> Result<Option<Arc<OwnNode>>, NodeError> {
        Ok(None)
    }

    /// Nothing to show.
    #[derive(Default, Serialize)]
    pub(crate) struct View {}

    impl View {
        pub(crate) fn of(node: &OwnNode) -> Self {
            match node.0 {}
        }
    }
}
