//! From a segment's ciphertext to its blobs.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use fincrypt_protocol::SegmentId;
use fincrypt_vault::Root;
use fincrypt_vault::blob::BlobId;
use fincrypt_vault::segment::{BlobOpener, Directory, Entry, SegmentCipher, SegmentError};
use parking_lot::Mutex;

use super::sink::{Failure, SegmentReadError, Sink};
use super::splits::Splits;
use super::wanted::{Extents, Wanted};

/// Decrypts, checks and decompresses segments, and hands their blobs on; several threads may at once.
pub(super) struct Decoder<K> {
    root: Root,
    sink: Arc<K>,
    /// Openers that no thread uses: as many as threads have decoded at once.
    openers: Mutex<Vec<BlobOpener>>,
    splits: Mutex<Splits>,
    stopped: AtomicBool,
}

/// A segment in memory and what opens it.
struct Open {
    ciphertext: Vec<u8>,
    cipher: SegmentCipher,
    opener: BlobOpener,
}

impl<K: Sink> Decoder<K> {
    pub(super) fn new(root: Root, sink: Arc<K>) -> Self {
        let (openers, splits) = (Mutex::default(), Mutex::default());
        Self { root, sink, openers, splits, stopped: AtomicBool::new(false) }
    }

    /// Hands a segment's wanted blobs on, or what became of them.
    pub(super) fn take(
        &self,
        wanted: Wanted,
        ciphertext: Result<Vec<u8>, SegmentReadError>,
    ) -> ControlFlow<()> {
        let Wanted { segment, extents } = wanted;
        let opened = ciphertext.and_then(|ciphertext| self.open(ciphertext, &extents));
        let (mut open, listed) = match opened {
            Ok(opened) => opened,
            Err(error) => return self.lose_segment(segment, &extents, error),
        };
        let (entries, asked) = match &extents {
            Extents::Some(entries) => (entries.as_slice(), true),
            Extents::All => (listed.entries(), false),
        };
        for entry in entries {
            match self.take_extent(segment, &mut open, entry, asked) {
                Ok(flow) => flow?,
                Err(error) => self.lose_extent(segment, entry, error)?,
            }
        }
        self.openers.lock().push(open.opener);
        ControlFlow::Continue(())
    }

    /// What is left when all segments were taken: deferred blobs, to be read by themselves.
    pub(super) fn next_round(&self) -> Vec<Wanted> {
        let incomplete = self.splits.lock().take_incomplete();
        for (segment, blob) in incomplete {
            if self.fail(segment, vec![blob], SegmentError::Parts.into()).is_break() {
                return Vec::new();
            }
        }
        self.splits.lock().next_round()
    }

    /// The segment, and its directory if all of it is wanted.
    fn open(&self, ciphertext: Vec<u8>, extents: &Extents) -> Result<(Open, Directory), SegmentReadError> {
        let nonce = ciphertext.first_chunk().ok_or(SegmentError::Layout)?;
        let cipher = SegmentCipher::new(&self.root, nonce);
        let listed = match extents {
            Extents::Some(_) => Directory::default(),
            Extents::All => {
                let listed = cipher.directory(ciphertext.len(), &ciphertext)?;
                listed.ok_or(SegmentError::Directory)?
            }
        };
        let spare = self.openers.lock().pop();
        let opener = spare.map_or_else(|| BlobOpener::new(self.root.blob_id_key()), Ok)?;
        Ok((Open { ciphertext, cipher, opener }, listed))
    }

    /// Decrypts an extent in place, and hands its blob on if that is all of it.
    fn take_extent(
        &self,
        segment: SegmentId,
        open: &mut Open,
        entry: &Entry,
        asked: bool,
    ) -> Result<ControlFlow<()>, SegmentError> {
        let range = entry.offset as usize..entry.end() as usize;
        let extent = open.ciphertext.get_mut(range).ok_or(SegmentError::Layout)?;
        open.cipher.open_extent(entry, extent)?;
        if entry.parts == 1 {
            return Ok(self.hand_on(entry, open.opener.open(entry, extent)?));
        }
        let whole = self.splits.lock().add(segment, entry, extent, asked)?;
        match whole {
            Some(stored) => Ok(self.hand_on(entry, open.opener.open(entry, &stored)?)),
            None => Ok(ControlFlow::Continue(())),
        }
    }

    fn hand_on(&self, entry: &Entry, plain: &[u8]) -> ControlFlow<()> {
        self.unless_stopped(|sink| sink.blob(entry, plain))
    }

    fn lose_segment(
        &self,
        segment: SegmentId,
        extents: &Extents,
        error: SegmentReadError,
    ) -> ControlFlow<()> {
        let Extents::Some(entries) = extents else { return self.fail(segment, Vec::new(), error) };
        let mut splits = self.splits.lock();
        let lost = entries.iter().filter(|entry| entry.parts == 1 || splits.lose(entry));
        let lost: Vec<BlobId> = lost.map(|entry| entry.blob).collect();
        drop(splits);
        // All of them may have been lost with other parts.
        if lost.is_empty() { ControlFlow::Continue(()) } else { self.fail(segment, lost, error) }
    }

    fn lose_extent(&self, segment: SegmentId, entry: &Entry, error: SegmentError) -> ControlFlow<()> {
        if entry.parts == 1 || self.splits.lock().lose(entry) {
            return self.fail(segment, vec![entry.blob], error.into());
        }
        ControlFlow::Continue(())
    }

    fn fail(&self, segment: SegmentId, blobs: Vec<BlobId>, error: SegmentReadError) -> ControlFlow<()> {
        self.unless_stopped(|sink| sink.failure(Failure { segment, blobs, error }))
    }

    /// Calls the sink, unless it said stop before.
    fn unless_stopped(&self, call: impl FnOnce(&K) -> ControlFlow<()>) -> ControlFlow<()> {
        if self.stopped.load(Ordering::Acquire) {
            return ControlFlow::Break(());
        }
        let flow = call(&self.sink);
        if flow.is_break() {
            self.stopped.store(true, Ordering::Release);
        }
        flow
    }

    /// Whether the sink said stop.
    pub(super) fn has_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }
}
