//! Further names of files, and symbolic links: made when the files of a plan are in place.

use std::collections::HashMap;

use fincrypt_vault::target::{Overwrite, Target, TargetError};
use fincrypt_vault::tree::Name;

use super::dirs::Dirs;
use super::plan::{FileJob, LinkJob};
use super::report::{Failed, NotRestored, reason};

/// The first name of a file with several.
struct Original {
    dir: usize,
    name: Name,
    came: bool,
}

/// Links that are still to be made, and what they are to lead to.
#[derive(Default)]
pub(super) struct Links {
    symlinks: Vec<LinkJob>,
    /// Further names of files: the job, and the link number.
    further: Vec<(FileJob, u64)>,
    /// The first names of files with several, by link number; kept to the end, as the others may come
    /// much later.
    originals: HashMap<u64, Original>,
}

/// What became of the links of a plan.
#[derive(Default)]
pub(super) struct Made {
    /// Further names made, and the bytes of their files.
    pub(super) files: u64,
    pub(super) bytes: u64,
    pub(super) failed: Vec<Failed>,
}

impl Links {
    /// Takes the symbolic links of a plan.
    pub(super) fn begin(&mut self, symlinks: Vec<LinkJob>) {
        self.symlinks = symlinks;
    }

    /// Takes a file if it is a further name of another one; gives it back otherwise.
    pub(super) fn first_name(&mut self, job: FileJob) -> Option<FileJob> {
        if let Some(link) = job.link {
            if self.originals.contains_key(&link) {
                self.further.push((job, link));
                return None;
            }
            self.originals.insert(link, Original { dir: job.dir, name: job.name.clone(), came: false });
        }
        Some(job)
    }

    /// Notes whether the file with this link number is in place.
    pub(super) fn note(&mut self, link: u64, came: bool) {
        if let Some(original) = self.originals.get_mut(&link) {
            original.came = came;
        }
    }

    /// Makes the links of a plan, whose files are in place or will not come.
    pub(super) fn make(&mut self, target: &Target, dirs: &mut Dirs, overwrite: Overwrite) -> Made {
        let mut made = Made::default();
        for (job, link) in std::mem::take(&mut self.further) {
            match self.hard_link(target, dirs, overwrite, &job, link) {
                Ok(()) => {
                    made.files += 1;
                    made.bytes += job.size;
                }
                Err(reason) => made.failed.push(Failed { path: dirs.path_of(job.dir, &job.name), reason }),
            }
        }
        for job in std::mem::take(&mut self.symlinks) {
            let LinkJob { dir, name, target: to, mtime } = &job;
            let linked =
                dirs.handle(*dir).and_then(|folder| target.symlink(&folder, name, to, *mtime, overwrite));
            if let Err(error) = linked {
                made.failed.push(Failed { path: dirs.path_of(*dir, name), reason: reason(&error) });
            }
        }
        made
    }

    fn hard_link(
        &self,
        target: &Target,
        dirs: &mut Dirs,
        overwrite: Overwrite,
        job: &FileJob,
        link: u64,
    ) -> Result<(), NotRestored> {
        let explain = |error: TargetError| reason(&error);
        let Some(original) = self.originals.get(&link).filter(|original| original.came) else {
            return Err("the file it is another name of did not come back".to_owned().into());
        };
        let dir = dirs.handle(job.dir).map_err(explain)?;
        let existing = dirs.handle(original.dir).map_err(explain)?;
        target.hard_link(&dir, &job.name, &existing, &original.name, overwrite).map_err(explain)
    }
}
