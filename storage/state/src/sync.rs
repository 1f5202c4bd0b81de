//! One sync for many writers: whoever comes while a sync runs shares the next one.

use parking_lot::{Mutex, MutexGuard};
use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

/// Syncs a journal's file for writers that append to it under a lock of their own.
#[derive(Debug)]
pub struct GroupSync {
    /// The newest record that was appended, by number.
    appended: AtomicU64,
    synced: Mutex<Synced>,
}

#[derive(Debug)]
struct Synced {
    file: File,
    upto: u64,
    /// A sync failed: nothing is durable any more until the next start.
    failed: bool,
}

impl GroupSync {
    /// For the file behind [`crate::journal::Journal::sync_handle`], all of which is durable.
    #[must_use]
    pub fn new(file: File) -> Self {
        let synced = Mutex::new(Synced { file, upto: 0, failed: false });
        Self { appended: AtomicU64::new(0), synced }
    }

    fn synced(&self) -> MutexGuard<'_, Synced> {
        self.synced.lock()
    }

    /// Counts a record that was just appended; its number is what [`GroupSync::upto`] takes.
    pub fn appended(&self) -> u64 {
        self.appended.fetch_add(1, Ordering::AcqRel) + 1
    }

    /// Returns once the record with this number is durable; somebody else's sync may have done it.
    ///
    /// # Errors
    /// What the system says, and ever after: it tells once, and forgets what it could not write.
    pub fn upto(&self, number: u64) -> io::Result<()> {
        let mut synced = self.synced();
        if synced.upto >= number {
            return Ok(());
        }
        if synced.failed {
            return Err(io::Error::other("an earlier sync of the journal failed"));
        }
        let upto = self.appended.load(Ordering::Acquire);
        if let Err(error) = synced.file.sync_data() {
            synced.failed = true;
            return Err(error);
        }
        synced.upto = upto;
        Ok(())
    }

    /// Returns once everything that was appended so far is durable.
    ///
    /// # Errors
    /// As [`GroupSync::upto`].
    pub fn newest(&self) -> io::Result<()> {
        self.upto(self.appended.load(Ordering::Acquire))
    }

    /// Lets `write` put another file in place while nobody syncs, with all that was appended, synced;
    /// none if the old one stays. Then `name` makes the file's name durable.
    ///
    /// # Errors
    /// What `write` returns, and the file is the old one then; or what `name` returns: nothing is
    /// durable any more until the next start, as after a power cut the old file may be there again.
    pub fn replace<T, E>(
        &self,
        journal: &mut T,
        write: impl FnOnce(&mut T) -> Result<Option<File>, E>,
        name: impl FnOnce(&mut T) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut synced = self.synced();
        let Some(file) = write(journal)? else { return Ok(()) };
        synced.file = file;
        if let Err(error) = name(journal) {
            synced.failed = true;
            return Err(error);
        }
        synced.upto = self.appended.load(Ordering::Acquire);
        Ok(())
    }
}
