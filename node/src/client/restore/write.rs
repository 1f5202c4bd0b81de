//! Writing files as their segments come.

use std::collections::{HashMap, HashSet};

use fincrypt_protocol::SegmentId;
use fincrypt_storage::blob::BlobId;
use fincrypt_storage::segment::{BlobAssembler, Entry};
use fincrypt_storage::target::{ExistingFile, FileStart, Overwrite, PartialFile, Target, TargetError};
use fincrypt_storage::tree::Piece;
use fincrypt_storage::{BlobIdKey, Root};

use super::Failed;
use super::dirs::Dirs;
use super::plan::{FileJob, LinkJob, Plan};
use crate::client::progress::Progress;
use crate::client::reader::{BlobReader, extent};

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
    state: State,
    /// Data pieces that are still to come.
    missing: usize,
    replace: bool,
}

/// What a restore has done in the end.
#[derive(Default)]
pub(super) struct Outcome {
    pub(super) files: u64,
    pub(super) bytes: u64,
    pub(super) failed: Vec<Failed>,
    pub(super) warnings: Vec<String>,
}

/// Writes into the target.
pub(super) struct Writer {
    dirs: Dirs,
    files: Vec<FileState>,
    symlinks: Vec<LinkJob>,
    /// Further names of files: the job, and the first file of the same link number.
    hard_links: Vec<(FileJob, usize)>,
    /// Where each blob goes: files and offsets.
    targets: HashMap<BlobId, Vec<(usize, u64)>>,
    assembler: BlobAssembler,
    root: Root,
    overwrite: Overwrite,
    progress: Progress,
    outcome: Outcome,
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
    /// Makes the folders, finds out which files are there already, and finishes those without data.
    pub(super) fn prepare(
        target: Target,
        plan: Plan,
        root: Root,
        overwrite: Overwrite,
        progress: Progress,
    ) -> Self {
        let mut writer = Self {
            dirs: Dirs::new(target, plan.dirs),
            files: Vec::with_capacity(plan.files.len()),
            symlinks: plan.links,
            hard_links: Vec::new(),
            targets: HashMap::new(),
            assembler: BlobAssembler::new(root.blob_id_key()),
            root,
            overwrite,
            progress,
            outcome: Outcome::default(),
        };
        for (path, problem) in plan.unreadable {
            writer.outcome.failed.push(Failed { path: shown(&path), reason: problem });
        }
        for dir in 0..writer.dirs.len() {
            if let Err(error) = writer.dirs.handle(dir) {
                let path = shown(&writer.dirs.path(dir));
                writer.outcome.failed.push(Failed { path, reason: reason(&error) });
            }
        }
        let ids = writer.root.blob_id_key();
        let mut first_of_link = HashMap::new();
        for job in plan.files {
            if let Some(link) = job.link {
                if let Some(first) = first_of_link.get(&link) {
                    writer.hard_links.push((job, *first));
                    continue;
                }
                first_of_link.insert(link, writer.files.len());
            }
            writer.begin(job, &ids);
        }
        writer
    }

    fn begin(&mut self, job: FileJob, ids: &BlobIdKey) {
        let at = self.files.len();
        let missing = job.pieces.iter().filter(|piece| matches!(piece, Piece::Data { .. })).count();
        self.files.push(FileState { job, state: State::Waiting(None), missing, replace: false });
        if let Err(problem) = self.look_at(at, ids) {
            self.fail(at, problem);
            return;
        }
        if !matches!(self.files[at].state, State::Waiting(_)) {
            return;
        }
        if missing == 0 {
            self.complete(at);
            return;
        }
        let mut offset = 0;
        for piece in &self.files[at].job.pieces {
            if let Piece::Data { blob, .. } = piece {
                self.targets.entry(*blob).or_default().push((at, offset));
            }
            offset += piece.len();
        }
    }

    /// Keeps an existing file that is as it should be; refuses one that is not, unless it may be
    /// replaced.
    fn look_at(&mut self, at: usize, ids: &BlobIdKey) -> Result<(), String> {
        let job = &self.files[at].job;
        let explain = |error: TargetError| reason(&error);
        let dir = self.dirs.handle(job.dir).map_err(explain)?;
        // The file itself is made when its first piece comes, so that few are open at once.
        let Some(existing) = self.dirs.target().look(&dir, &job.name, self.overwrite).map_err(explain)?
        else {
            return Ok(());
        };
        if same(&existing, job, ids).map_err(explain)? {
            let warnings = existing.accept(job.mode, job.mtime, &job.xattrs).map_err(explain)?;
            self.done(at, warnings.into_iter().map(|warning| warning.to_string()).collect());
        } else if self.overwrite == Overwrite::Never {
            return Err("another file is already there; --overwrite replaces it".to_owned());
        } else {
            self.files[at].replace = true;
        }
        Ok(())
    }

    fn path(&self, job_dir: usize, name: &[u8]) -> String {
        shown(&[self.dirs.path(job_dir).as_slice(), b"/", name].concat())
    }

    fn fail(&mut self, at: usize, problem: String) {
        if matches!(self.files[at].state, State::Waiting(_)) {
            self.files[at].state = State::Failed;
            let job = &self.files[at].job;
            let path = self.path(job.dir, job.name.as_bytes());
            self.outcome.failed.push(Failed { path, reason: problem });
        }
    }

    fn done(&mut self, at: usize, warnings: Vec<String>) {
        let file = &mut self.files[at];
        file.state = State::Done;
        self.outcome.files += 1;
        self.outcome.bytes += file.job.size;
        self.progress.file(file.job.size);
        let (dir, name) = (file.job.dir, file.job.name.clone());
        for warning in warnings {
            let path = self.path(dir, name.as_bytes());
            self.outcome.warnings.push(format!("{path}: {warning}"));
        }
    }

    /// The file being written, made if this is its first piece.
    fn partial(&mut self, at: usize) -> Result<&PartialFile, String> {
        let explain = |error: TargetError| reason(&error);
        let file = &mut self.files[at];
        let State::Waiting(partial) = &mut file.state else { return Err(String::new()) };
        if partial.is_none() {
            let dir = self.dirs.handle(file.job.dir).map_err(explain)?;
            let start =
                self.dirs.target().begin_file(&dir, &file.job.name, self.overwrite).map_err(explain)?;
            *partial = Some(match start {
                FileStart::New(partial) => partial,
                FileStart::Existing(existing) if file.replace => existing.replace().map_err(explain)?,
                FileStart::Existing(_) => return Err("another file appeared there meanwhile".to_owned()),
            });
        }
        partial.as_ref().ok_or_else(String::new)
    }

    fn complete(&mut self, at: usize) {
        let finished = self.partial(at).map(|_| ()).and_then(|()| {
            let file = &mut self.files[at];
            let State::Waiting(Some(partial)) = std::mem::replace(&mut file.state, State::Waiting(None))
            else {
                return Err(String::new());
            };
            let job = &file.job;
            let warnings =
                partial.finish(job.size, job.mode, job.mtime, &job.xattrs).map_err(|error| reason(&error))?;
            Ok(warnings.into_iter().map(|warning| warning.to_string()).collect())
        });
        match finished {
            Ok(warnings) => self.done(at, warnings),
            Err(problem) => self.fail(at, problem),
        }
    }

    /// The segments that are needed, in the order in which files need them, with what of each.
    pub(super) fn locate(&mut self, reader: &BlobReader) -> Vec<(SegmentId, Vec<Entry>)> {
        let mut order: Vec<(SegmentId, Vec<Entry>)> = Vec::new();
        let (mut places, mut seen) = (HashMap::new(), HashSet::new());
        let mut lost = Vec::new();
        for at in 0..self.files.len() {
            if !matches!(self.files[at].state, State::Waiting(_)) {
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

    fn lose_blob(&mut self, blob: &BlobId, problem: &str) {
        for (at, _) in self.targets.remove(blob).unwrap_or_default() {
            self.fail(at, problem.to_owned());
        }
    }

    /// Notes that some extents will not come.
    pub(super) fn lose(&mut self, entries: &[Entry], problem: &str) {
        for entry in entries {
            self.lose_blob(&entry.blob, problem);
        }
    }

    /// Takes a segment: decrypts, checks and writes what is needed of it.
    pub(super) fn take(&mut self, ciphertext: &[u8], entries: &[Entry]) {
        for entry in entries {
            let plain =
                extent(&self.root, ciphertext, entry).and_then(|bytes| self.assembler.add(entry, bytes));
            match plain {
                Ok(None) => {}
                Ok(Some(plain)) => self.write(&entry.blob, &plain),
                Err(error) => self.lose_blob(&entry.blob, &error.to_string()),
            }
        }
    }

    fn write(&mut self, blob: &BlobId, plain: &[u8]) {
        for (at, offset) in self.targets.remove(blob).unwrap_or_default() {
            if !matches!(self.files[at].state, State::Waiting(_)) {
                continue;
            }
            let written = self
                .partial(at)
                .and_then(|partial| partial.write_at(offset, plain).map_err(|error| reason(&error)));
            match written {
                Ok(()) => {
                    self.files[at].missing -= 1;
                    if self.files[at].missing == 0 {
                        self.complete(at);
                    }
                }
                Err(problem) => self.fail(at, problem),
            }
        }
    }

    /// Further names, symbolic links, and last the folders' modes and times.
    pub(super) fn finish(mut self) -> Outcome {
        for at in 0..self.files.len() {
            self.fail(at, "its data did not come".to_owned());
        }
        for (job, first) in std::mem::take(&mut self.hard_links) {
            if let Err(problem) = self.hard_link(&job, first) {
                let path = self.path(job.dir, job.name.as_bytes());
                self.outcome.failed.push(Failed { path, reason: problem });
            } else {
                self.outcome.files += 1;
                self.outcome.bytes += job.size;
            }
        }
        for link in std::mem::take(&mut self.symlinks) {
            let made = self.dirs.handle(link.dir).and_then(|dir| {
                self.dirs.target().symlink(&dir, &link.name, &link.target, link.mtime, self.overwrite)
            });
            if let Err(error) = made {
                let path = self.path(link.dir, link.name.as_bytes());
                self.outcome.failed.push(Failed { path, reason: reason(&error) });
            }
        }
        for dir in (0..self.dirs.len()).rev() {
            match self.dirs.finish(dir) {
                Ok(warnings) => self.outcome.warnings.extend(warnings),
                Err(error) => {
                    let path = shown(&self.dirs.path(dir));
                    self.outcome.warnings.push(format!("{path}: {}", reason(&error)));
                }
            }
        }
        self.outcome
    }

    fn hard_link(&mut self, job: &FileJob, first: usize) -> Result<(), String> {
        let explain = |error: TargetError| reason(&error);
        if !matches!(self.files[first].state, State::Done) {
            return Err("the file it is another name of did not come back".to_owned());
        }
        let (first_dir, first_name) = (self.files[first].job.dir, self.files[first].job.name.clone());
        let (dir, existing) =
            (self.dirs.handle(job.dir).map_err(explain)?, self.dirs.handle(first_dir).map_err(explain)?);
        self.dirs.target().hard_link(&dir, &job.name, &existing, &first_name, self.overwrite).map_err(explain)
    }
}
