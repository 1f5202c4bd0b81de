//! A vault on this machine: its home, keys, state and network connection.

use std::sync::Arc;

use fincrypt_protocol::record::Registration;
use fincrypt_protocol::{Network, Signed};
use fincrypt_state::kv::KvError;
use fincrypt_state::state::State;
use fincrypt_vault::index::BlobIndex;
use fincrypt_vault::keyfile::{self, VaultKeys};
use zeroize::Zeroizing;

use super::error::ClientError;
use super::fetch::Fetcher;
use super::home::{HomeError, VaultHome};
use super::home_medium::HomeMedium;
use super::mediator_client::MediatorClient;
use super::vault_state::VaultState;
use crate::options::ClientOptions;
use fincrypt_net::Net;

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
    pub fn create(home: &VaultHome, keys: &VaultKeys, password: &Zeroizing<String>) -> Result<(), HomeError> {
        if home.keyfile().exists() {
            return Err(HomeError::VaultExists(home.path().to_owned()));
        }
        home.create()?;
        let sealed = keyfile::seal(keys, password, keyfile::KdfParams::default())?;
        fincrypt_state::durable::write_file(&home.keyfile(), &sealed, 0o600)
            .map_err(HomeError::io(&home.keyfile()))
    }

    /// Opens the vault of a home.
    ///
    /// # Errors
    /// If there is none, the password is wrong, or its state is in use.
    pub fn open(
        home: VaultHome,
        options: ClientOptions,
        password: &Zeroizing<String>,
    ) -> Result<Self, HomeError> {
        let keys = Self::unseal(&home, password)?;
        let state = Self::open_state(&home)?;
        Self::over(home, options, keys, state)
    }

    /// A vault in a home without one, to be filled: its keyfile comes last, so that one which was
    /// filled half is none. Whatever an earlier attempt left of a vault is forgotten; a node that
    /// shares the home keeps its state.
    pub(crate) fn begin(home: VaultHome, options: ClientOptions, keys: VaultKeys) -> Result<Self, HomeError> {
        home.create()?;
        let vault = Self::over(home.clone(), options, keys, Self::open_state(&home)?)?;
        vault.lifecycle.reset()?;
        Ok(vault)
    }

    fn open_state(home: &VaultHome) -> Result<State, HomeError> {
        let (state, report) = State::open(&home.state()).map_err(|error| match error {
            KvError::Database(reason) => HomeError::StateDamaged { path: home.state(), reason },
            KvError::Io(source) => HomeError::Io { path: home.state(), source },
            other => other.into(),
        })?;
        if let Some(aside) = &report.set_aside {
            tracing::warn!(aside = %aside.display(), "the state database did not open; it was set aside and is rebuilt");
        }
        Ok(state)
    }

    fn unseal(home: &VaultHome, password: &Zeroizing<String>) -> Result<VaultKeys, HomeError> {
        let path = home.keyfile();
        let sealed = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(HomeError::NoVault(home.path().to_owned()));
            }
            Err(error) => return Err(HomeError::io(&path)(error)),
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
    ) -> Result<Self, HomeError> {
        let keys = Self::unseal(&home, password)?;
        Self::over(home, options, keys, state)
    }

    fn over(
        home: VaultHome,
        options: ClientOptions,
        keys: VaultKeys,
        state: State,
    ) -> Result<Self, HomeError> {
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
    pub(crate) fn slot(&self) -> Result<u32, KvError> {
        self.lifecycle.account().index()
    }

    /// Chooses the account of a new vault.
    ///
    /// # Errors
    /// [`HomeError`] if the vault has a head under another account, or the state fails.
    pub fn set_slot(&self, slot: u32) -> Result<(), HomeError> {
        Ok(self.lifecycle.account().choose(slot)?)
    }

    pub(crate) fn registration(&self) -> Result<Signed<Registration>, ClientError> {
        Ok(self.keys.registration(self.network(), self.slot()?)?)
    }

    /// A fetcher through `mediator` where there is one, else straight from the holders.
    pub(crate) fn fetcher(
        &self,
        net: &Net,
        mediator: Option<MediatorClient>,
    ) -> Result<Arc<Fetcher>, ClientError> {
        let account = self.keys.root.account(self.slot()?);
        let (registration, tags) = (self.registration()?, self.keys.root.tag_key());
        Ok(Arc::new(Fetcher::new(net.clone(), mediator, account, registration, tags)))
    }
}
