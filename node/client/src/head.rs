//! The vault's head: verifying it, following it, and writing the next one.

pub(crate) mod error;

use fincrypt_protocol::record::Head;
use fincrypt_protocol::{HeadHash, Signed, UnixTime, Verified};
use fincrypt_vault::Root;
use fincrypt_vault::head::{HeadBody, open_head, seal_head};
use fincrypt_vault::index::BlobIndex;

use super::catalog_reader::load_catalog;
use super::error::ClientError;
use super::fetch::Fetcher;
use super::history::was_rewound;
use super::mediator_client::MediatorClient;
use super::pipeline::PipelineError;
use super::rebuild::rebuild_index;
use super::run_journal::RunJournal;
use super::statements::keep;
use super::vault::Vault;
use super::vault_state::{Followed, RunState};
pub use error::HeadError;

/// A head that was verified, with its contents.
pub(crate) struct OpenHead {
    pub(crate) head: Verified<Head>,
    pub(crate) body: HeadBody,
}

impl OpenHead {
    pub(crate) fn hash(&self) -> HeadHash {
        self.head.signed().head_hash()
    }
}

impl OpenHead {
    /// Opens a head of slot `slot` of the vault with this root.
    pub(crate) fn unseal(root: &Root, slot: u32, head: Verified<Head>) -> Result<Self, HeadError> {
        let body = open_head(root, slot, &head)?;
        Ok(Self { head, body })
    }
}

impl Vault {
    /// Verifies and opens a head: of the slot's head key, or the one that a rewind named.
    pub(crate) fn open_head(&self, slot: u32, head: &Signed<Head>) -> Result<OpenHead, ClientError> {
        let head = head.verify(self.network(), UnixTime::now())?;
        if head.account != self.keys.root.account(slot).account() {
            return Err(fincrypt_protocol::RecordError::WrongKey.into());
        }
        if head.head_key != self.keys.head_key(slot).head_key()
            && self.lifecycle.account().rewound()?.is_none_or(|known| known.base != *head.signed())
        {
            return Err(HeadError::Rewound.into());
        }
        Ok(OpenHead::unseal(&self.keys.root, slot, head)?)
    }

    /// The head that this machine goes by.
    pub(crate) fn known_head(&self) -> Result<Option<OpenHead>, ClientError> {
        let slot = self.slot()?;
        self.lifecycle.head()?.map(|head| self.open_head(slot, &head)).transpose()
    }

    /// The mediator's head, refused if it is older than one seen before, or does not follow it.
    pub(crate) async fn current_head(
        &self,
        mediator: &MediatorClient,
    ) -> Result<Option<OpenHead>, ClientError> {
        let slot = self.slot()?;
        let known = self.known_head()?;
        let found = mediator.head().await?.map(|head| self.open_head(slot, &head)).transpose()?;
        if let Some(known) = known {
            let sequence = known.head.sequence;
            match &found {
                Some(found) if found.head.sequence >= sequence => {
                    let same = found.hash() == known.hash();
                    let next = found.head.previous == Some(known.hash());
                    // What lies between heads further apart is not known here.
                    let follows = match found.head.sequence - sequence {
                        0 => same,
                        1 => next,
                        _ => true,
                    };
                    if !follows {
                        return Err(HeadError::Forked { sequence }.into());
                    }
                }
                _ => {
                    // The owner may have gone back to it, with the words.
                    if was_rewound(self, mediator.net()).await? {
                        return Err(HeadError::Rewound.into());
                    }
                    let found = found.map_or(0, |found| found.head.sequence);
                    return Err(HeadError::RolledBack { found, known: sequence }.into());
                }
            }
        }
        Ok(found)
    }

    /// Seals the head that follows `previous`.
    pub(crate) fn next_head(
        &self,
        previous: Option<&OpenHead>,
        body: &HeadBody,
    ) -> Result<Signed<Head>, ClientError> {
        let sequence = previous.map_or(0, |previous| previous.head.sequence).saturating_add(1);
        let hash = previous.map(OpenHead::hash);
        Ok(seal_head(&self.keys, self.slot()?, self.network(), sequence, hash, body)?)
    }
}

/// Brings the index up to a head.
pub(crate) async fn follow(
    vault: &Vault,
    fetcher: &Fetcher,
    head: &OpenHead,
) -> Result<Followed, ClientError> {
    let followed = vault.lifecycle.follow(&head.body.releases)?;
    if vault.lifecycle.is_rebuild_due()? {
        tracing::warn!("index_rebuilt_again");
        rebuild_index(vault, fetcher).await?;
    }
    load_catalog(vault, fetcher, &head.body.refs).await?;
    Ok(followed)
}

/// Ends a run that was interrupted when its head may have been committed already: if it was, it is
/// kept, and nothing goes on from what it noted.
pub(crate) async fn settle(vault: &Vault, mediator: &MediatorClient) -> Result<(), ClientError> {
    let (run, committed) = match vault.lifecycle.run()? {
        RunState::Idle { .. } => return Ok(()),
        RunState::Keeping { run } => (run, true),
        RunState::Committing { run } => (run, was_committed(vault)?),
    };
    if !committed {
        return Ok(vault.lifecycle.undo_commit(run)?);
    }
    mediator.keep(keep(vault, run)?).await?;
    Ok(vault.lifecycle.finish_commit(run)?)
}

/// Whether the head of the interrupted run came to be, by an index that follows the newest one. A
/// run without a journal counts as committed: to keep one that is not does no harm.
fn was_committed(vault: &Vault) -> Result<bool, ClientError> {
    let path = vault.home.run_journal();
    if !path.exists() {
        return Ok(true);
    }
    let account = vault.keys.root.account(vault.slot()?).account();
    let pending = BlobIndex::pending(vault.state.clone());
    let journal = RunJournal::open(&path, &account, UnixTime::now(), &pending)?;
    let mut committed = false;
    journal
        .segments()
        .read(|manifest, _| {
            committed |= vault.index.manifest(&manifest.id())?.is_some();
            Ok::<(), PipelineError>(())
        })
        .map_err(ClientError::from)?;
    for segment in journal.abandoned.iter().flat_map(|(_, segments)| segments) {
        committed |= vault.index.manifest(segment)?.is_some();
    }
    Ok(committed)
}
