//! Writing files as their segments come.

use parking_lot::{Mutex, MutexGuard};
use std::collections::{HashMap, HashSet};

use fincrypt_protocol::SegmentId;
use fincrypt_vault::blob::BlobId;
use fincrypt_vault::segment::{BlobOpener, Entry, Parts, SegmentCipher, SegmentError};
use fincrypt_vault::target::{ExistingFile, FileStart, Overwrite, PartialFile, Target, TargetError};
use fincrypt_vault::tree::{Name, Piece};
use fincrypt_vault::{BlobIdKey, Root};

use super::Failed;
use super::dirs::Dirs;
use super::plan::{FileJob, LinkJob, Plan};
use crate::progress::Progress;
use crate::reader::BlobReader;

/// How far a file is.
enum State {
    /// Its pieces are still to come; the file is made with the first.
    Waiting(Option<PartialFile>),
    /// It is in place.
    Done,
    /// It will not come back.
    Failed,
}

struct FileState {
    job: FileJob,
    replace: bool,
    written: Mutex<Written>,
}

/// How much of a file is written.
struct Written {
    state: State,
    /// Data pieces that are still to come.
    missing: usize,
}

/// The first name of a file with several.
struct Original {
    dir: usize,
    name: Name,
    came: bool,
}

/// What a restore has done in the end.
#[derive(Default)]
pub(super) struct Outcome {
    pub(super) files: u64,
    pub(super) bytes: u64,
    pub(super) failed: Vec<Failed>,
    pub(super) warnings: Vec<String>,
}

/// Writes into the target; segments may be taken by several threads at once.
pub(super) struct Writer {
    dirs: Mutex<Dirs>,
    target: Target,
    files: Vec<FileState>,
    symlinks: Vec<LinkJob>,
    /// Further names of files: the job, and the link number.
    hard_links: Vec<(FileJob, u64)>,
    /// The first names of files with several, by link number; kept to the end, as the others may come
    /// much later.
    originals: HashMap<u64, Original>,
    /// Where each blob goes: files and offsets.
    targets: HashMap<BlobId, Vec<(usize, u64)>>,
    parts: Mutex<Parts>,
    /// Split blobs that had no room among the parts.
    put_off: Mutex<HashSet<BlobId>>,
    root: Root,
    overwrite: Overwrite,
    progress: Progress,
    outcome: Mutex<Outcome>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock()
}

fn reason(error: &TargetError) -> String {
    use std::error::Error;
    match (error, error.source()) {
        (TargetError::Exists { .. }, _) => {
            "something else is already there; --overwrite replaces it".to_owned()
        }
        (_, Some(source)) => source.to_string(),
        (error, None) => error.to_string(),
    }
}

fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

/// Whether an existing file has exactly these pieces.
fn same(existing: &ExistingFile, job: &FileJob, ids: &BlobIdKey) -> Result<bool, TargetError> {
    if existing.size()? != job.size {
        return Ok(false);
    }
    let (mut at, mut buffer) = (0, Vec::new());
    for piece in &job.pieces {
        let mut left = piece.len();
        while left > 0 {
            // A data piece is a blob, at most 4 MiB; holes are read in steps of that.
            let step = left.min(4 << 20);
            buffer.resize(usize::try_from(step).unwrap_or(0), 0);
            let good = existing.read_at(at, &mut buffer)?
                && match piece {
                    Piece::Data { blob, .. } => ids.id(&buffer) == *blob,
                    Piece::Hole(_) => buffer.iter().all(|byte| *byte == 0),
                };
            if !good {
                return Ok(false);
            }
            at += step;
            left -= step;
        }
    }
    Ok(true)
}

impl Writer {
    pub(super) fn new(target: Target, root: Root, overwrite: Overwrite, progress: Progress) -> Self {
        Self {
            dirs: Mutex::new(Dirs::new(target.clone())),
            target,
            files: Vec::new(),
            symlinks: Vec::new(),
            hard_links: Vec::new(),
            originals: HashMap::new(),
            targets: HashMap::new(),
            parts: Mutex::default(),
            put_off: Mutex::default(),
            root,
            overwrite,
            progress,
            outcome: Mutex::default(),
        }
    }

    /// Makes a plan's folders, finds out which of its files are there already, and finishes those
    /// without data. The plan before has ended.
    pub(super) fn begin(&mut self, plan: Plan) {
        self.symlinks = plan.links;
        for (path, problem) in plan.unreadable {
            self.failed(shown(&path), problem);
        }
        let count = plan.dirs.len();
        let first = lock(&self.dirs).extend(plan.dirs);
        for dir in first..first + count {
            let made = lock(&self.dirs).handle(dir);
            if let Err(error) = made {
                let path = shown(&lock(&self.dirs).path(dir));
                self.failed(path, reason(&error));
            }
        }
        let ids = self.root.blob_id_key();
        for job in plan.files {
            if let Some(link) = job.link {
                if self.originals.contains_key(&link) {
                    self.hard_links.push((job, link));
                    continue;
                }
                let original = Original { dir: job.dir, name: job.name.clone(), came: false };
                self.originals.insert(link, original);
            }
            self.begin_file(job, &ids);
        }
    }

    fn failed(&self, path: String, reason: String) {
        lock(&self.outcome).failed.push(Failed { path, reason });
    }

    fn begin_file(&mut self, job: FileJob, ids: &BlobIdKey) {
        let at = self.files.len();
        let missing = job.pieces.iter().filter(|piece| matches!(piece, Piece::Data { .. })).count();
        let written = Mutex::new(Written { state: State::Waiting(None), missing });
        self.files.push(FileState { job, replace: false, written });
        match self.look_at(at, ids) {
            Ok(replace) => self.files[at].replace = replace,
            Err(problem) => return self.fail(at, problem),
        }
        if !self.is_waiting(at) {
            return;
        }
        if missing == 0 {
            return self.complete(at, &mut lock(&self.files[at].written));
        }
        let mut offset = 0;
        for piece in &self.files[at].job.pieces {
            if let Piece::Data { blob, .. } = piece {
                self.targets.entry(*blob).or_default().push((at, offset));
            }
            offset += piece.len();
        }
    }

    fn is_waiting(&self, at: usize) -> bool {
        matches!(lock(&self.files[at].written).state, State::Waiting(_))
    }

    /// Keeps an existing file that is as it should be; refuses one that is not, unless it may be
    /// replaced. Whether there is one to replace.
    fn look_at(&self, at: usize, ids: &BlobIdKey) -> Result<bool, String> {
        let job = &self.files[at].job;
        let explain = |error: TargetError| reason(&error);
        let dir = lock(&self.dirs).handle(job.dir).map_err(explain)?;
        // The file itself is made when its first piece comes, so that few are open at once.
        let Some(existing) = self.target.look(&dir, &job.name, self.overwrite).map_err(explain)? else {
            return Ok(false);
        };
        if same(&existing, job, ids).map_err(explain)? {
            let warnings = existing.accept(job.mode, job.mtime, &job.xattrs).map_err(explain)?;
            let warnings = warnings.into_iter().map(|warning| warning.to_string()).collect();
            self.done(at, &mut lock(&self.files[at].written), warnings);
            return Ok(false);
        }
        match self.overwrite {
            Overwrite::Never => Err("another file is already there; --overwrite replaces it".to_owned()),
            Overwrite::Different => Ok(true),
        }
    }

    fn path(&self, dir: usize, name: &[u8]) -> String {
        shown(&[lock(&self.dirs).path(dir).as_slice(), b"/", name].concat())
    }

    fn fail(&self, at: usize, problem: String) {
        self.fail_written(at, &mut lock(&self.files[at].written), problem);
    }

    fn fail_written(&self, at: usize, written: &mut Written, problem: String) {
        if matches!(written.state, State::Waiting(_)) {
            written.state = State::Failed;
            let job = &self.files[at].job;
            self.failed(self.path(job.dir, job.name.as_bytes()), problem);
        }
    }

    fn done(&self, at: usize, written: &mut Written, warnings: Vec<String>) {
        let job = &self.files[at].job;
        written.state = State::Done;
        self.progress.file(job.size);
        let path = if warnings.is_empty() { String::new() } else { self.path(job.dir, job.name.as_bytes()) };
        let mut outcome = lock(&self.outcome);
        outcome.files += 1;
        outcome.bytes += job.size;
        outcome.warnings.extend(warnings.iter().map(|warning| format!("{path}: {warning}")));
    }

    /// The file being written, made if this is its first piece.
    fn partial<'w>(&self, at: usize, written: &'w mut Written) -> Result<&'w PartialFile, String> {
        let explain = |error: TargetError| reason(&error);
        let file = &self.files[at];
        let State::Waiting(partial) = &mut written.state else { return Err(String::new()) };
        if partial.is_none() {
            let dir = lock(&self.dirs).handle(file.job.dir).map_err(explain)?;
            let start = self.target.begin_file(&dir, &file.job.name, self.overwrite).map_err(explain)?;
            *partial = Some(match start {
                FileStart::New(partial) => partial,
                FileStart::Existing(existing) if file.replace => existing.replace().map_err(explain)?,
                FileStart::Existing(_) => return Err("another file appeared there meanwhile".to_owned()),
            });
        }
        partial.as_ref().ok_or_else(String::new)
    }

    fn complete(&self, at: usize, written: &mut Written) {
        let finished = self.partial(at, written).map(drop).and_then(|()| {
            let State::Waiting(Some(partial)) = std::mem::replace(&mut written.state, State::Waiting(None))
            else {
                return Err(String::new());
            };
            let job = &self.files[at].job;
            let warnings =
                partial.finish(job.size, job.mode, job.mtime, &job.xattrs).map_err(|error| reason(&error))?;
            Ok(warnings.into_iter().map(|warning| warning.to_string()).collect())
        });
        match finished {
            Ok(warnings) => self.done(at, written, warnings),
            Err(problem) => self.fail_written(at, written, problem),
        }
    }

    /// The segments that are needed, in the order in which files need them, with what of each.
    pub(super) fn locate(&self, reader: &BlobReader) -> Vec<(SegmentId, Vec<Entry>)> {
        let mut order: Vec<(SegmentId, Vec<Entry>)> = Vec::new();
        let (mut places, mut seen) = (HashMap::new(), HashSet::new());
        let mut lost = Vec::new();
        for at in 0..self.files.len() {
            if !self.is_waiting(at) {
                continue;
            }
            for piece in &self.files[at].job.pieces {
                let Piece::Data { blob, .. } = piece else { continue };
                if !seen.insert(*blob) {
                    continue;
                }
                match reader.locate(blob) {
                    Ok(locations) => {
                        for location in locations {
                            let place = *places.entry(location.segment).or_insert_with(|| {
                                order.push((location.segment, Vec::new()));
                                order.len() - 1
                            });
                            order[place].1.push(location.entry);
                        }
                    }
                    Err(error) => lost.push((*blob, error.to_string())),
                }
            }
        }
        for (blob, problem) in lost {
            self.lose_blob(&blob, &problem);
        }
        order
    }

    fn places(&self, blob: &BlobId) -> &[(usize, u64)] {
        self.targets.get(blob).map(Vec::as_slice).unwrap_or_default()
    }

    pub(super) fn lose_blob(&self, blob: &BlobId, problem: &str) {
        for (at, _) in self.places(blob) {
            self.fail(*at, problem.to_owned());
        }
    }

    /// Notes that some extents will not come.
    pub(super) fn lose(&self, entries: &[Entry], problem: &str) {
        for entry in entries {
            self.lose_blob(&entry.blob, problem);
        }
    }

    /// Takes a segment: decrypts it in place, checks and writes what is needed of it.
    pub(super) fn take(&self, mut ciphertext: Vec<u8>, entries: &[Entry]) {
        let opener = BlobOpener::new(self.root.blob_id_key());
        let (Some(nonce), Ok(mut opener)) = (ciphertext.first_chunk(), opener) else {
            return self.lose(entries, &SegmentError::Layout.to_string());
        };
        let cipher = SegmentCipher::new(&self.root, nonce);
        for entry in entries {
            let range = entry.offset as usize..entry.end() as usize;
            let extent = ciphertext.get_mut(range).ok_or(SegmentError::Layout);
            let taken = extent.and_then(|extent| {
                cipher.open_extent(entry, extent)?;
                self.take_extent(&mut opener, entry, extent)
            });
            if let Err(error) = taken {
                self.lose_blob(&entry.blob, &error.to_string());
            }
        }
    }

    fn take_extent(&self, opener: &mut BlobOpener, entry: &Entry, extent: &[u8]) -> Result<(), SegmentError> {
        if entry.parts == 1 {
            self.write(&entry.blob, opener.open(entry, extent)?);
            return Ok(());
        }
        if lock(&self.put_off).contains(&entry.blob) {
            return Ok(());
        }
        let whole = lock(&self.parts).add(entry, extent);
        match whole {
            Ok(Some(stored)) => self.write(&entry.blob, opener.open(entry, &stored)?),
            Ok(None) => {}
            Err(SegmentError::Crowded) => drop(lock(&self.put_off).insert(entry.blob)),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Blobs whose parts lie so far apart that they are to be fetched by themselves.
    pub(super) fn put_off(&self) -> Vec<BlobId> {
        lock(&self.put_off).drain().collect()
    }

    /// Writes a blob to all its places.
    pub(super) fn write(&self, blob: &BlobId, plain: &[u8]) {
        for (at, offset) in self.places(blob) {
            let mut written = lock(&self.files[*at].written);
            if !matches!(written.state, State::Waiting(_)) {
                continue;
            }
            let wrote = self
                .partial(*at, &mut written)
                .and_then(|partial| partial.write_at(*offset, plain).map_err(|error| reason(&error)));
            match wrote {
                Ok(()) => {
                    written.missing -= 1;
                    if written.missing == 0 {
                        self.complete(*at, &mut written);
                    }
                }
                Err(problem) => self.fail_written(*at, &mut written, problem),
            }
        }
    }

    /// Ends a plan: what did not come is said, and further names and symbolic links are made.
    pub(super) fn end(&mut self) {
        for at in 0..self.files.len() {
            self.fail(at, "its data did not come".to_owned());
        }
        for file in std::mem::take(&mut self.files) {
            let written = file.written.into_inner();
            if let Some(original) = file.job.link.and_then(|link| self.originals.get_mut(&link)) {
                original.came = matches!(written.state, State::Done);
            }
        }
        self.targets.clear();
        self.parts = Mutex::default();
        for (job, link) in std::mem::take(&mut self.hard_links) {
            if let Err(problem) = self.hard_link(&job, link) {
                self.failed(self.path(job.dir, job.name.as_bytes()), problem);
            } else {
                let mut outcome = lock(&self.outcome);
                outcome.files += 1;
                outcome.bytes += job.size;
            }
        }
        for link in std::mem::take(&mut self.symlinks) {
            let dir = lock(&self.dirs).handle(link.dir);
            let made = dir.and_then(|dir| {
                self.target.symlink(&dir, &link.name, &link.target, link.mtime, self.overwrite)
            });
            if let Err(error) = made {
                self.failed(self.path(link.dir, link.name.as_bytes()), reason(&error));
            }
        }
    }

    /// The folders' modes and times, after everything in them. In the end everything is on the disk: the
    /// report says that it is there.
    pub(super) fn finish(self) -> Result<Outcome, TargetError> {
        let mut outcome = self.outcome.into_inner();
        let mut dirs = self.dirs.into_inner();
        for dir in (0..dirs.len()).rev() {
            match dirs.finish(dir) {
                Ok(warnings) => outcome.warnings.extend(warnings),
                Err(error) => {
                    let path = shown(&dirs.path(dir));
                    outcome.warnings.push(format!("{path}: {}", reason(&error)));
                }
            }
        }
        self.target.sync()?;
        Ok(outcome)
    }

    fn hard_link(&self, job: &FileJob, link: u64) -> Result<(), String> {
        let explain = |error: TargetError| reason(&error);
        let Some(original) = self.originals.get(&link).filter(|original| original.came) else {
            return Err("the file it is another name of did not come back".to_owned());
        };
        let dir = lock(&self.dirs).handle(job.dir).map_err(explain)?;
        let existing = lock(&self.dirs).handle(original.dir).map_err(explain)?;
        self.target.hard_link(&dir, &job.name, &existing, &original.name, self.overwrite).map_err(explain)
    }
}

#[cfg(test)]
mod tests;
