use std::path::PathBuf;
use std::sync::Arc;

use bitcoin::Network;
use bitcoin::secp256k1::PublicKey;
use ldk_node::config::Config;
use ldk_node::lightning::ln::msgs::SocketAddress;
use ldk_node::{Builder, Node};
use zeroize::Zeroizing;

use super::error::LightningError;
use super::keysend;

/// How the node reads the chain, with what it logs in by.
#[derive(Clone)]
pub enum ChainAccess {
    /// A bitcoind's RPC. Its cookie changes at every start of it: with a cookie, the node is to be
    /// opened anew then.
    Bitcoind {
        /// Host name or address.
        host: String,
        /// Port.
        port: u16,
        /// User.
        user: String,
        /// Password; never logged.
        password: Zeroizing<String>,
    },
    /// An Esplora server.
    Esplora {
        /// Its base address.
        url: String,
    },
}

/// What a node is opened with.
pub struct Setup {
    /// Bitcoin's network.
    pub network: Network,
    /// Where it keeps its state, for it alone.
    pub folder: PathBuf,
    /// All its keys come from this. It must be no seed of another wallet: two wallets would spend
    /// the same coins.
    pub seed: Zeroizing<[u8; 64]>,
    /// Where it listens, `host:port`; it can be paid from outside only if it does.
    pub listen: Vec<String>,
    /// A name of at most 32 bytes. Without it and an address to listen at no channel is announced,
    /// and offers of nodes that do not know this one cannot be paid.
    pub alias: Option<String>,
    /// The chain.
    pub chain: ChainAccess,
    /// Peers whose channels count before they are confirmed, and need no reserve: a storage node
    /// trusts its mediator so far.
    pub trusted: Vec<String>,
}

/// A Lightning node. It runs from [`Lightning::open`] until [`Lightning::close`], or until it is
/// dropped.
pub struct Lightning {
    pub(super) node: Arc<Node>,
    /// Keysend preimages come from this.
    pub(super) keysend: Zeroizing<[u8; 32]>,
}

/// The key of a Lightning node.
pub(super) fn key(text: &str) -> Result<PublicKey, LightningError> {
    text.parse().map_err(|_| LightningError::Setting { what: "trusted peer", value: text.to_owned() })
}

impl Lightning {
    /// Opens and starts a node. Blocks: call it on a thread that may wait.
    ///
    /// # Errors
    /// [`LightningError::Setting`], [`LightningError::Open`] or [`LightningError::Start`].
    pub fn open(setup: Setup) -> Result<Self, LightningError> {
        let Setup { network, folder, seed, listen, alias, chain, trusted } = setup;
        let refused = |what| move |value: &str| LightningError::Setting { what, value: value.to_owned() };
        let mut config = Config { network, ..Config::default() };
        config.storage_dir_path = folder.to_string_lossy().into_owned();
        config.trusted_peers_0conf = trusted.iter().map(|peer| key(peer)).collect::<Result<_, _>>()?;
        if let Some(anchors) = &mut config.anchor_channels_config {
            anchors.trusted_peers_no_reserve.clone_from(&config.trusted_peers_0conf);
        }
        let addresses: Vec<SocketAddress> = listen
            .iter()
            .map(|address| address.parse().map_err(|_| refused("address")(address)))
            .collect::<Result<_, _>>()?;
        config.listening_addresses = (!addresses.is_empty()).then_some(addresses);
        let mut builder = Builder::from_config(config);
        builder.set_entropy_seed_bytes(*seed);
        builder.set_log_facade_logger();
        builder.set_gossip_source_p2p();
        if let Some(alias) = alias {
            builder.set_node_alias(alias.clone()).map_err(|_| refused("alias")(&alias))?;
        }
        match chain {
            ChainAccess::Bitcoind { host, port, user, password } => {
                builder.set_chain_source_bitcoind_rpc(host, port, user, password.to_string());
            }
            ChainAccess::Esplora { url } => {
                builder.set_chain_source_esplora(url, None);
            }
        }
        // Files rather than a database: what a crash leaves of one can be looked at.
        let node = builder.build_with_fs_store();
        let node = node.map_err(|error| LightningError::Open { folder, reason: error.to_string() })?;
        node.start().map_err(|error| LightningError::Start(error.to_string()))?;
        Ok(Self { node: Arc::new(node), keysend: keysend::key(&seed) })
    }

    /// The node's key, by which others name it.
    #[must_use]
    pub fn id(&self) -> String {
        self.node.node_id().to_string()
    }

    /// Brings it up to the newest block now rather than within half a minute. Blocks.
    ///
    /// # Errors
    /// [`LightningError::Failed`] if the chain source does not answer.
    pub fn sync(&self) -> Result<(), LightningError> {
        self.node.sync_wallets().map_err(|error| LightningError::Failed(error.to_string()))
    }

    /// Stops it. Payments under way go on when it is opened again. Blocks.
    ///
    /// # Errors
    /// [`LightningError::Failed`] if it had not been running.
    pub fn close(&self) -> Result<(), LightningError> {
        self.node.stop().map_err(|error| LightningError::Failed(error.to_string()))
    }
}

impl Drop for Lightning {
    fn drop(&mut self) {
        // A node that is dropped while it runs hangs the process.
        let _ = self.node.stop();
    }
}
