//! A vault on this machine: its home, keys, state and network connection.

use std::sync::Arc;
use std::time::Duration;

use fincrypt_protocol::amount::Price;
use fincrypt_protocol::record::{Mandate, Registration, Rights};
use fincrypt_protocol::{Network, NodeId, Refusal, Signed, UnixTime};
use fincrypt_state::kv::KvError;
use fincrypt_state::state::State;
use fincrypt_vault::index::BlobIndex;
use fincrypt_vault::keyfile::{self, VaultKeys};
use zeroize::Zeroizing;

use super::error::ClientError;
use super::fetch::Fetcher;
use super::home::VaultHome;
use super::mediator_client::{MediatorClient, find_mediator};
use super::vault_state::{HomeMedium, PriceLimit, VaultState};
use crate::options::ClientOptions;
use fincrypt_net::Net;

/// Mandates are renewed every 90 days and hold for at least as long.
const MANDATE_PERIOD: Duration = Duration::from_secs(90 * 24 * 3600);
/// Bytes one storage node may hold under a mandate: 1 PiB, as the network sets the true limit.
const MANDATE_CAP: u64 = 1 << 50;

fn gone(node: NodeId) -> impl FnOnce(ClientError) -> ClientError {
    move |error| ClientError::MediatorGone { node, reason: error.to_string() }
}

/// An open vault.
pub struct Vault {
    pub(crate) home: VaultHome,
    pub(crate) options: ClientOptions,
    pub(crate) keys: VaultKeys,
    pub(crate) state: State,
    pub(crate) index: BlobIndex<State>,
    /// What this machine knows of the vault durably, and the legal changes of it.
    pub(crate) lifecycle: VaultState<HomeMedium>,
}

impl Vault {
    /// Makes a vault in an empty home.
    ///
    /// # Errors
    /// If there is one already, or the home cannot be written.
    pub fn create(
        home: &VaultHome,
        keys: &VaultKeys,
        password: &Zeroizing<String>,
    ) -> Result<(), ClientError> {
        if home.keyfile().exists() {
            return Err(ClientError::VaultExists(home.path().to_owned()));
        }
        home.create()?;
        let sealed = keyfile::seal(keys, password, keyfile::KdfParams::default())?;
        fincrypt_state::durable::write_file(&home.keyfile(), &sealed, 0o600)
            .map_err(ClientError::io(&home.keyfile()))
    }

    /// Opens the vault of a home.
    ///
    /// # Errors
    /// If there is none, the password is wrong, or its state is in use.
    pub fn open(
        home: VaultHome,
        options: ClientOptions,
        password: &Zeroizing<String>,
    ) -> Result<Self, ClientError> {
        let keys = Self::unseal(&home, password)?;
        let state = Self::open_state(&home)?;
        Self::over(home, options, keys, state)
    }

    /// A vault in a home without one, to be filled: its keyfile comes last, so that one which was
    /// filled half is none. Whatever an earlier attempt left of a vault is forgotten; a node that
    /// shares the home keeps its state.
    pub(crate) fn begin(
        home: VaultHome,
        options: ClientOptions,
        keys: VaultKeys,
    ) -> Result<Self, ClientError> {
        home.create()?;
        let vault = Self::over(home.clone(), options, keys, Self::open_state(&home)?)?;
        vault.lifecycle.reset()?;
        Ok(vault)
    }

    fn open_state(home: &VaultHome) -> Result<State, ClientError> {
        let (state, report) = State::open(&home.state()).map_err(|error| match error {
            KvError::Database(reason) => ClientError::StateDamaged { path: home.state(), reason },
            other => other.into(),
        })?;
        if let Some(aside) = &report.set_aside {
            tracing::warn!(aside = %aside.display(), "the state database did not open; it was set aside and is rebuilt");
        }
        Ok(state)
    }

    fn unseal(home: &VaultHome, password: &Zeroizing<String>) -> Result<VaultKeys, ClientError> {
        let path = home.keyfile();
        let sealed = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(ClientError::NoVault(home.path().to_owned()));
            }
            Err(error) => return Err(ClientError::io(&path)(error)),
        };
        Ok(keyfile::open(&sealed, password)?)
    }

    /// Opens the vault of a home whose state is open already.
    ///
    /// # Errors
    /// If there is none, or the password is wrong.
    pub fn open_over(
        home: VaultHome,
        options: ClientOptions,
        password: &Zeroizing<String>,
        state: State,
    ) -> Result<Self, ClientError> {
        let keys = Self::unseal(&home, password)?;
        Self::over(home, options, keys, state)
    }

    fn over(
        home: VaultHome,
        options: ClientOptions,
        keys: VaultKeys,
        state: State,
    ) -> Result<Self, ClientError> {
        let index = BlobIndex::new(state.clone());
        let lifecycle = VaultState::open(HomeMedium { state: state.clone(), home: home.clone() })?;
        Ok(Self { home, options, keys, state, index, lifecycle })
    }

    /// Closes the local state, so that another process can open it.
    pub fn close(self) {
        self.state.close();
    }

    pub(crate) fn network(&self) -> Network {
        self.options.network
    }

    /// Index of the account in use; 0 for a new vault.
    pub(crate) fn slot(&self) -> Result<u32, ClientError> {
        Ok(self.lifecycle.account_index()?)
    }

    /// Chooses the account of a new vault.
    ///
    /// # Errors
    /// [`ClientError`] if the vault has a head under another account, or the state fails.
    pub fn set_slot(&self, slot: u32) -> Result<(), ClientError> {
        Ok(self.lifecycle.choose_account(slot)?)
    }

    /// The most that storage may take, by the vault's mandates. A setting that was changed on this
    /// machine begins a new mandate; without one, what another device has set holds here, too.
    pub(crate) fn max_price(&self) -> Result<Option<Price>, ClientError> {
        let configured = self.options.max_price;
        match self.lifecycle.price_limit(configured)? {
            PriceLimit::Unchanged(limit) => Ok(limit),
            PriceLimit::Changed => {
                let sequence = UnixTime::now().secs().max(self.mandate_sequence()?.saturating_add(1));
                self.lifecycle.set_price_limit(configured, sequence)?;
                Ok(configured)
            }
        }
    }

    pub(crate) fn registration(&self) -> Result<Signed<Registration>, ClientError> {
        Ok(self.keys.registration(self.network(), self.slot()?)?)
    }

    /// The mandate for a mediator: in each period the same to the byte, on every device of the vault.
    /// A newer one supersedes, so devices with mandates of their own would shut each other out.
    pub(crate) fn mandate(&self, mediator: NodeId) -> Result<Signed<Mandate>, ClientError> {
        // A changed limit of the price begins a new one.
        self.max_price()?;
        self.mandate_of(mediator, self.mandate_sequence()?)
    }

    /// The sequence of the mandate that holds now.
    pub(crate) fn mandate_sequence(&self) -> Result<u64, ClientError> {
        let period = MANDATE_PERIOD.as_secs();
        Ok((UnixTime::now().secs() / period * period).max(self.lifecycle.mandate_base()?))
    }

    /// The mandate of a sequence, which alone decides when it ends, with the limit of the price.
    pub(crate) fn mandate_of(&self, mediator: NodeId, sequence: u64) -> Result<Signed<Mandate>, ClientError> {
        let account = self.keys.root.account(self.slot()?);
        let period = MANDATE_PERIOD.as_secs();
        let mandate = Mandate {
            network: self.network(),
            account: account.account(),
            mediator,
            rights: Rights { put: true, audit: true, get: true },
            byte_cap: MANDATE_CAP,
            sequence,
            expiry: UnixTime::from_secs((sequence / period + 2).saturating_mul(period)),
            max_price: self.max_price()?,
        };
        Ok(Signed::seal(&mandate, &account)?)
    }

    /// Logs in with the vault's mediator for a session, choosing one if it has none yet. Where another
    /// device has moved the vault, this one follows.
    pub(super) async fn link(&self, net: &Net) -> Result<MediatorClient, ClientError> {
        let link = match self.lifecycle.mediator()? {
            Some(node) => match self.link_to(net, node).await {
                Ok(link) => link,
                Err(error) => match self.follow_move(net).await? {
                    Some(other) => self.link_to(net, other).await.map_err(gone(other))?,
                    None => return self.mediator_is_gone(net, node, error).await,
                },
            },
            None => {
                let node = find_mediator(net).await?;
                let link = self.link_to(net, node).await?;
                self.lifecycle.choose_mediator(node)?;
                link
            }
        };
        self.notes().saw_mediator()?;
        Ok(link)
    }

    async fn link_to(&self, net: &Net, node: NodeId) -> Result<MediatorClient, ClientError> {
        let account = self.keys.root.account(self.slot()?);
        let link = MediatorClient::open(net.clone(), node, account, self.registration()?).await?;
        // Anyone may log in with a mediator; one that was dismissed refuses all else.
        link.head().await?;
        // It may not have heard, and would refuse this machine's heads.
        if let Some(rewound) = self.lifecycle.rewound()? {
            link.rewind(rewound).await.map_err(|error| match error {
                // The words have rewound it again since.
                ClientError::Call(error) if error.refusal() == Some(Refusal::Stale) => ClientError::Rewound,
                other => other,
            })?;
        }
        Ok(link)
    }

    /// What to do without the mediator: wait for it, or move if it has been away for long and the
    /// configuration says so.
    async fn mediator_is_gone(
        &self,
        net: &Net,
        node: NodeId,
        error: ClientError,
    ) -> Result<MediatorClient, ClientError> {
        if matches!(&error, ClientError::Call(error) if error.refusal() == Some(Refusal::Dismissed)) {
            return Err(ClientError::Dismissed(node));
        }
        let away = self.notes().mediator_seen()?.map(|seen| UnixTime::now().since(seen));
        let Some(away) = away.filter(|away| *away >= self.options.mediator_timeout) else {
            return Err(gone(node)(error));
        };
        if !self.options.auto_migrate {
            return Err(ClientError::MediatorLost { node, days: away.as_secs() / (24 * 3600) });
        }
        let other = find_mediator(net).await?;
        tracing::warn!(old = %node, new = %other, "the mediator is gone; the vault moves to another one");
        self.move_to(net, other).await?;
        self.link_to(net, other).await.map_err(gone(other))
    }

    /// A fetcher through `link` where there is one, else straight from the holders.
    pub(crate) fn fetcher(
        &self,
        net: &Net,
        link: Option<MediatorClient>,
    ) -> Result<Arc<Fetcher>, ClientError> {
        let account = self.keys.root.account(self.slot()?);
        let (registration, tags) = (self.registration()?, self.keys.root.tag_key());
        Ok(Arc::new(Fetcher::new(net.clone(), link, account, registration, tags)))
    }
}
