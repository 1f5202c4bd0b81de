//! Reading the catalog that a head refers to.

use std::collections::HashMap;

use fincrypt_protocol::{Manifest, SegmentId};
use fincrypt_vault::blob::BlobKind;
use fincrypt_vault::head::CatalogRef;
use fincrypt_vault::index::IndexPiece;
use fincrypt_vault::lists::{LIST, decode_list};
use fincrypt_vault::marks::{Mark, decode_marks};
use fincrypt_vault::segment::{BlobAssembler, Directory, OpenSegment};

use super::fetch::Fetcher;
use super::reader::error::ReadError;
use super::vault::Vault;
use super::vault_state::IndexOrigin;

/// What some catalog segments hold.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pieces {
    /// Segments with what counts of them.
    pub(crate) segments: Vec<(Manifest, Directory)>,
    /// Segments that wait to be released.
    pub(crate) marks: Vec<Mark>,
    /// References to further segments of the catalog.
    pub(crate) lists: Vec<CatalogRef>,
}

/// Fetches the catalog segments of a head that are not in the index yet. Those that can be read
/// are in it afterwards, whatever becomes of the others.
pub(crate) async fn load_catalog(
    vault: &Vault,
    fetcher: &Fetcher,
    refs: &[CatalogRef],
) -> Result<(), ReadError> {
    let mut failed = None;
    let mut waiting: Vec<CatalogRef> = refs.iter().rev().copied().collect();
    // A list is loaded when all that it refers to is.
    let mut lists: Vec<(SegmentId, Vec<SegmentId>)> = Vec::new();
    while let Some(reference) = waiting.pop() {
        if vault.lifecycle.cache().is_loaded(&reference.segment)? {
            continue;
        }
        match read_pieces(vault, fetcher, std::slice::from_ref(&reference)).await {
            Ok(pieces) => {
                let loaded: &[SegmentId] = match reference.level {
                    LIST => &[],
                    _ => std::slice::from_ref(&reference.segment),
                };
                vault.lifecycle.cache().take_in(&pieces.segments, &pieces.marks, loaded)?;
                if reference.level == LIST {
                    lists.push((reference.segment, pieces.lists.iter().map(|r| r.segment).collect()));
                    waiting.extend(pieces.lists.iter().rev());
                }
            }
            Err(error) => failed = Some(error),
        }
    }
    for (list, listed) in lists {
        let mut all = true;
        for segment in &listed {
            all &= vault.lifecycle.cache().is_loaded(segment)?;
        }
        if all {
            vault.lifecycle.cache().take_in(&[], &[], &[list])?;
        }
    }
    match failed {
        // The index was rebuilt because the catalog cannot be read; the next backup writes it anew.
        Some(error) if vault.lifecycle.index_origin()? == IndexOrigin::Segments => {
            tracing::warn!(%error, "catalog_part_unreadable");
            Ok(())
        }
        Some(error) => Err(error),
        None => Ok(()),
    }
}

/// All segments of the catalog that a head names: those in its lists, too, which are fetched.
pub(crate) async fn whole_catalog(
    vault: &Vault,
    fetcher: &Fetcher,
    refs: &[CatalogRef],
) -> Result<Vec<CatalogRef>, ReadError> {
    let lists: Vec<CatalogRef> = refs.iter().filter(|r| r.level == LIST).copied().collect();
    let listed = read_pieces(vault, fetcher, &lists).await?.lists;
    Ok(refs.iter().copied().chain(listed).collect())
}

/// Fetches and decodes the index pieces and marks in some catalog segments.
pub(crate) async fn read_pieces(
    vault: &Vault,
    fetcher: &Fetcher,
    refs: &[CatalogRef],
) -> Result<Pieces, ReadError> {
    let ids: Vec<SegmentId> = refs.iter().map(|reference| reference.segment).collect();
    let manifests: HashMap<_, _> = fetcher.manifests(&ids).await?;
    let mut assembler = BlobAssembler::new(vault.keys.root.blob_id_key()).map_err(ReadError::damaged)?;
    let mut pieces = Pieces::default();
    for id in ids {
        let manifest = manifests.get(&id).ok_or(ReadError::unknown(id))?;
        let ciphertext = fetcher.segment(manifest).await?;
        let open = OpenSegment::open(&vault.keys.root, ciphertext).map_err(ReadError::damaged)?;
        for entry in open.directory().entries() {
            if !entry.kind.is_catalog() {
                continue;
            }
            let stored = open.extent(entry).map_err(ReadError::damaged)?;
            let Some(plain) = assembler.add(entry, &stored).map_err(ReadError::damaged)? else {
                continue;
            };
            match entry.kind {
                BlobKind::Marks => {
                    let malformed = || ReadError::damaged("a list of marks is malformed");
                    pieces.marks.extend(decode_marks(&plain).ok_or_else(malformed)?);
                }
                BlobKind::Refs => {
                    let malformed = || ReadError::damaged("a list of the catalog is malformed");
                    pieces.lists.extend(decode_list(&plain).ok_or_else(malformed)?);
                }
                _ => {
                    let piece = IndexPiece::decode(&plain).map_err(ReadError::damaged)?;
                    pieces.segments.extend(piece.segments);
                }
            }
        }
    }
    // A piece of which a part is missing would be lost without a word when it is merged.
    match assembler.pending_bytes() {
        0 => Ok(pieces),
        _ => Err(ReadError::damaged("a part of an index piece is missing")),
    }
}
