//! Writing files as their segments come.

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};

use fincrypt_state::state::State;
use fincrypt_vault::blob::BlobId;
use fincrypt_vault::index::BlobIndex;
use fincrypt_vault::segment::Entry;
use fincrypt_vault::target::{ExistingFile, FileStart, Overwrite, PartialFile, Target, TargetError};
use fincrypt_vault::tree::Piece;
use fincrypt_vault::{BlobIdKey, Root};
use parking_lot::{Mutex, MutexGuard};

use super::dirs::Dirs;
use super::links::Links;
use super::plan::{FileJob, Plan};
use super::report::{Failed, NotRestored, reason};
use crate::path_text::path_text;
use crate::progress::Progress;
use crate::reader::ReadError;
use crate::segment_reader::{Failure, Sink, Wanted, WantedBlobs};

/// How far a file is.
enum Stage {
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
    stage: Stage,
    /// Data pieces that are still to come.
    missing: usize,
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
    links: Links,
    /// Where each blob goes: files and offsets.
    targets: HashMap<BlobId, Vec<(usize, u64)>>,
    root: Root,
    overwrite: Overwrite,
    progress: Progress,
    /// There is no room for more: what is still to come is not fetched.
    full: AtomicBool,
    outcome: Mutex<Outcome>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock()
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
            links: Links::default(),
            targets: HashMap::new(),
            root,
            overwrite,
            progress,
            full: AtomicBool::new(false),
            outcome: Mutex::default(),
        }
    }

    /// Makes a plan's folders, finds out which of its files are there already, and finishes those
    /// without data. The plan before has ended.
    pub(super) fn begin(&mut self, plan: Plan) {
        self.links.begin(plan.links);
        for (path, problem) in plan.unreadable {
            self.failed(path_text(&path), problem.into());
        }
        let count = plan.dirs.len();
        let first = lock(&self.dirs).extend(plan.dirs);
        for dir in first..first + count {
            let made = lock(&self.dirs).handle(dir);
            if let Err(error) = made {
                let path = path_text(&lock(&self.dirs).path(dir));
                self.failed(path, reason(&error));
            }
        }
        let ids = self.root.blob_id_key();
        for job in plan.files {
            if let Some(job) = self.links.first_name(job) {
                self.begin_file(job, &ids);
            }
        }
    }

    /// The number of files that came, if there is no room for more.
    pub(super) fn is_full(&self) -> Option<u64> {
        let outcome = lock(&self.outcome);
        let full = outcome.failed.iter().any(|failed| failed.reason == NotRestored::NoSpace);
        full.then_some(outcome.files)
    }

    fn failed(&self, path: String, reason: NotRestored) {
        if reason == NotRestored::NoSpace {
            self.full.store(true, Ordering::Relaxed);
        }
        lock(&self.outcome).failed.push(Failed { path, reason });
    }

    fn begin_file(&mut self, job: FileJob, ids: &BlobIdKey) {
        let at = self.files.len();
        let missing = job.pieces.iter().filter(|piece| matches!(piece, Piece::Data { .. })).count();
        let written = Mutex::new(Written { stage: Stage::Waiting(None), missing });
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
        matches!(lock(&self.files[at].written).stage, Stage::Waiting(_))
    }

    /// Keeps an existing file that is as it should be; refuses one that is not, unless it may be
    /// replaced. Whether there is one to replace.
    fn look_at(&self, at: usize, ids: &BlobIdKey) -> Result<bool, NotRestored> {
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
            Overwrite::Never => Err(NotRestored::OtherFile),
            Overwrite::Different => Ok(true),
        }
    }

    fn path(&self, job: &FileJob) -> String {
        lock(&self.dirs).path_of(job.dir, &job.name)
    }

    fn fail(&self, at: usize, problem: NotRestored) {
        self.fail_written(at, &mut lock(&self.files[at].written), problem);
    }

    fn fail_written(&self, at: usize, written: &mut Written, problem: NotRestored) {
        if matches!(written.stage, Stage::Waiting(_)) {
            written.stage = Stage::Failed;
            let job = &self.files[at].job;
            self.failed(self.path(job), problem);
        }
    }

    fn done(&self, at: usize, written: &mut Written, warnings: Vec<String>) {
        let job = &self.files[at].job;
        written.stage = Stage::Done;
        self.progress.file(job.size);
        let path = if warnings.is_empty() { String::new() } else { self.path(job) };
        let mut outcome = lock(&self.outcome);
        outcome.files += 1;
        outcome.bytes += job.size;
        outcome.warnings.extend(warnings.iter().map(|warning| format!("{path}: {warning}")));
    }

    /// The file being written, made if this is its first piece.
    fn partial<'w>(&self, at: usize, written: &'w mut Written) -> Result<&'w PartialFile, NotRestored> {
        let explain = |error: TargetError| reason(&error);
        let file = &self.files[at];
        let Stage::Waiting(partial) = &mut written.stage else { return Err(String::new().into()) };
        if partial.is_none() {
            let dir = lock(&self.dirs).handle(file.job.dir).map_err(explain)?;
            let start = self.target.begin_file(&dir, &file.job.name, self.overwrite).map_err(explain)?;
            *partial = Some(match start {
                FileStart::New(partial) => partial,
                FileStart::Existing(existing) if file.replace => existing.replace().map_err(explain)?,
                FileStart::Existing(_) => {
                    return Err("another file appeared there meanwhile".to_owned().into());
                }
            });
        }
        partial.as_ref().ok_or_else(|| String::new().into())
    }

    fn complete(&self, at: usize, written: &mut Written) {
        let finished = self.partial(at, written).map(drop).and_then(|()| {
            let Stage::Waiting(Some(partial)) = std::mem::replace(&mut written.stage, Stage::Waiting(None))
            else {
                return Err(String::new().into());
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

    /// Where the data of the files lies, in the order in which they need it.
    pub(super) fn locate(&self, index: &BlobIndex<State>) -> Vec<Wanted> {
        let mut wanted = WantedBlobs::default();
        let mut lost = Vec::new();
        for at in (0..self.files.len()).filter(|at| self.is_waiting(*at)) {
            for piece in &self.files[at].job.pieces {
                let Piece::Data { blob, .. } = piece else { continue };
                if !wanted.is_new(blob) {
                    continue;
                }
                match index.locate(blob) {
                    Ok(Some(locations)) => wanted.add(locations),
                    Ok(None) => lost.push((*blob, "its data is missing from the index".to_owned())),
                    Err(error) => lost.push((*blob, error.to_string())),
                }
            }
        }
        for (blob, problem) in lost {
            self.lose_blob(&blob, &problem);
        }
        wanted.into_segments()
    }

    fn places(&self, blob: &BlobId) -> &[(usize, u64)] {
        self.targets.get(blob).map(Vec::as_slice).unwrap_or_default()
    }

    fn lose_blob(&self, blob: &BlobId, problem: &str) {
        for (at, _) in self.places(blob) {
            self.fail(*at, problem.to_owned().into());
        }
    }

    /// Writes a blob to all its places.
    fn write(&self, blob: &BlobId, plain: &[u8]) {
        for (at, offset) in self.places(blob) {
            let mut written = lock(&self.files[*at].written);
            if !matches!(written.stage, Stage::Waiting(_)) {
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
            self.fail(at, "its data did not come".to_owned().into());
        }
        for file in std::mem::take(&mut self.files) {
            if let Some(link) = file.job.link {
                self.links.note(link, matches!(file.written.into_inner().stage, Stage::Done));
            }
        }
        self.targets.clear();
        let made = self.links.make(&self.target, self.dirs.get_mut(), self.overwrite);
        let outcome = self.outcome.get_mut();
        outcome.files += made.files;
        outcome.bytes += made.bytes;
        outcome.failed.extend(made.failed);
    }

    /// The folders' modes and times, after everything in them. In the end everything is on the disk: the
    /// report says that it is there.
    pub(super) fn finish(self) -> Result<Outcome, TargetError> {
        let mut outcome = self.outcome.into_inner();
        let mut dirs = self.dirs.into_inner();
        // A folder that could not be made is named already.
        let named: HashSet<String> = outcome.failed.iter().map(|failed| failed.path.clone()).collect();
        for dir in (0..dirs.len()).rev() {
            match dirs.finish(dir) {
                Ok(warnings) => outcome.warnings.extend(warnings),
                Err(error) => {
                    let path = path_text(&dirs.path(dir));
                    if !named.contains(&path) {
                        outcome.warnings.push(format!("{path}: {}", reason(&error)));
                    }
                }
            }
        }
        self.target.sync()?;
        Ok(outcome)
    }
}

impl Sink for Writer {
    fn blob(&self, entry: &Entry, plain: &[u8]) -> ControlFlow<()> {
        self.write(&entry.blob, plain);
        if self.full.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn failure(&self, failure: Failure) -> ControlFlow<()> {
        let problem = ReadError::from(failure.error).to_string();
        for blob in &failure.blobs {
            self.lose_blob(blob, &problem);
        }
        ControlFlow::Continue(())
    }
}

#[cfg(test)]
mod tests;
