//! The references of the next head: pieces that merge, and lists of those that it has no room for.

use fincrypt_protocol::limits::FULL_SHARD_LEN;
use fincrypt_vault::catalog::{self, Listable};
use fincrypt_vault::head::CatalogRef;
use fincrypt_vault::lists::LIST;

use super::catalog_reader::{Pieces, read_pieces};
use super::commit::{Run, mark_of};
use super::error::ClientError;
use super::index_maker::Listed;

impl Run<'_> {
    pub(super) fn listable(&self, reference: &CatalogRef) -> Listable {
        // A segment that is nearly full gains nothing by being merged: it would only be stored again.
        let capacity = usize::from(self.code.data()) * FULL_SHARD_LEN as usize;
        let length = usize::from(reference.code.data()) * reference.shard_len.get() as usize;
        Listable { level: reference.level, full: reference.level != LIST && length * 4 >= capacity * 3 }
    }

    /// Puts references that a head has no room for into a list.
    pub(super) async fn list(&mut self, refs: Vec<CatalogRef>) -> Result<Vec<CatalogRef>, ClientError> {
        let listable: Vec<Listable> = refs.iter().map(|reference| self.listable(reference)).collect();
        let take = catalog::list(&listable, self.vault.options.catalog_refs);
        if take.is_empty() {
            return Ok(refs);
        }
        let (mut left, mut pieces) = (Vec::new(), Pieces::default());
        for (at, reference) in refs.into_iter().enumerate() {
            if take.binary_search(&at).is_err() {
                left.push(reference);
            } else if reference.level != LIST {
                pieces.lists.push(reference);
            } else {
                match read_pieces(self.vault, &self.fetcher, &[reference]).await {
                    Ok(list) => {
                        pieces.lists.extend(list.lists);
                        pieces.marks.extend(list.marks);
                        let mark = mark_of(&reference);
                        pieces.marks.push(mark);
                        self.marks.push(mark);
                    }
                    // Perhaps it can be read another time.
                    Err(error) => {
                        tracing::warn!(%error, "catalog_list_unreadable");
                        left.push(reference);
                    }
                }
            }
        }
        self.listed.extend(pieces.lists.iter().map(|reference| reference.segment));
        left.extend(self.store_index(Listed::Pieces(pieces), LIST).await?);
        Ok(left)
    }

    /// Merges pieces of the catalog until there is room for `new` more references.
    pub(super) async fn merge(
        &mut self,
        mut refs: Vec<CatalogRef>,
        new: usize,
    ) -> Result<Vec<CatalogRef>, ClientError> {
        loop {
            let mergeable: Vec<CatalogRef> =
                refs.iter().filter(|r| !self.listable(r).is_fixed()).copied().collect();
            let levels: Vec<u8> = mergeable.iter().map(|r| r.level).collect();
            let (fixed, most) = (refs.len() - mergeable.len(), self.vault.options.catalog_refs);
            let Some(merge) = catalog::plan(&levels, new, fixed, most) else {
                return Ok(refs);
            };
            let taken: Vec<CatalogRef> = merge.take.iter().map(|at| mergeable[*at]).collect();
            let mut pieces = read_pieces(self.vault, &self.fetcher, &taken).await?;
            // They wait to be released, as a rewritten catalog's do.
            let marks: Vec<_> = taken.iter().map(mark_of).collect();
            pieces.marks.extend(&marks);
            self.marks.extend(marks);
            let merged = self.store_index(Listed::Pieces(pieces), merge.level).await?;
            let gained = merged.len() < taken.len();
            refs.retain(|reference| !taken.contains(reference));
            refs.extend(merged);
            if !gained {
                return Ok(refs);
            }
        }
    }
}
