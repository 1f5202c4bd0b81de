//! Patterns of what not to back up.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use ignore::Match;
use ignore::gitignore::{Gitignore, GitignoreBuilder};

use super::error::ScanError;
use super::visit::Skipped;

/// The name of the files that exclude entries of their folder and those below it.
pub const IGNORE_FILE: &str = ".fincryptignore";
/// The most bytes of an ignore file that are read.
const MAX_FILE: u64 = 1 << 20;

/// Compiles the patterns of the whole scan for one scanned folder.
pub(super) fn compile(root: &Path, patterns: &[String]) -> Result<Gitignore, ScanError> {
    let mut builder = GitignoreBuilder::new(root);
    let error =
        |pattern: &str, source| ScanError::Pattern { pattern: pattern.to_owned(), source: Box::new(source) };
    for pattern in patterns {
        builder.add_line(None, pattern).map_err(|source| error(pattern, source))?;
    }
    builder.build().map_err(|source| error("", source))
}

/// Reads the ignore file of the folder `dir`, and reports lines that are not valid.
pub(super) fn read(dir: &Path, file: File, bad_line: &mut Vec<Skipped>) -> io::Result<Gitignore> {
    let mut bytes = Vec::new();
    file.take(MAX_FILE).read_to_end(&mut bytes)?;
    let mut builder = GitignoreBuilder::new(dir);
    for (index, line) in String::from_utf8_lossy(&bytes).lines().enumerate() {
        if let Err(source) = builder.add_line(None, line) {
            bad_line.push(Skipped::Pattern { line: index + 1, source: Box::new(source) });
        }
    }
    builder.build().map_err(io::Error::other)
}

/// The patterns that hold in the folder being read.
pub(super) struct Excludes {
    scan: Gitignore,
    /// Of the ignore files from the scanned folder downwards, with the depth of their folder.
    files: Vec<(usize, Gitignore)>,
}

impl Excludes {
    pub(super) fn new(scan: Gitignore) -> Self {
        Self { scan, files: Vec::new() }
    }

    pub(super) fn enter(&mut self, depth: usize, patterns: Gitignore) {
        self.files.push((depth, patterns));
    }

    pub(super) fn leave(&mut self, depth: usize) {
        self.files.pop_if(|(of, _)| *of == depth);
    }

    /// As git does: what the caller says wins, then the ignore file nearest to the entry.
    pub(super) fn excludes(&self, path: &PathBuf, is_dir: bool) -> bool {
        let inner = self.files.iter().rev().map(|(_, patterns)| patterns);
        std::iter::once(&self.scan)
            .chain(inner)
            .map(|patterns| patterns.matched(path, is_dir))
            .find_map(|matched| match matched {
                Match::None => None,
                Match::Ignore(_) => Some(true),
                Match::Whitelist(_) => Some(false),
            })
            .unwrap_or(false)
    }
}
