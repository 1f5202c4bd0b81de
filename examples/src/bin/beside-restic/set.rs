//! The set: source text from cargo's registry, and beside each file a random one of its length.

use std::collections::HashSet;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use fincrypt_testkit::SeededRandom;

/// Endings of files that are text.
const TEXT: [&str; 10] = ["rs", "md", "toml", "c", "h", "txt", "py", "html", "js", "json"];
/// Files longer than this are rare among sources, and left out.
const LONGEST: u64 = 4 << 20;

fn registry() -> Result<PathBuf, Box<dyn Error>> {
    let cargo = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let cargo = cargo.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo")));
    let sources = cargo.ok_or("neither CARGO_HOME nor HOME is set")?.join("registry/src");
    if sources.is_dir() { Ok(sources) } else { Err(format!("no sources in {}", sources.display()).into()) }
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        let path = entry.path();
        if kind.is_dir() {
            collect(&path, files)?;
        } else if kind.is_file() && path.extension().is_some_and(|ending| TEXT.iter().any(|t| ending == *t)) {
            files.push(path);
        }
    }
    Ok(())
}

/// Makes a set of about `bytes` in `folder`, the same each time for the same registry.
pub(crate) fn make(folder: &Path, bytes: u64) -> Result<(), Box<dyn Error>> {
    let sources = registry()?;
    let mut files = Vec::new();
    collect(&sources, &mut files)?;
    files.sort();
    let mut random = SeededRandom::new(1);
    for last in (1..files.len()).rev() {
        files.swap(last, random.below(last as u64 + 1) as usize);
    }
    let (mut total, mut seen) = (0, HashSet::new());
    for path in files {
        if total >= bytes {
            break;
        }
        let text = fs::read(&path)?;
        if text.is_empty() || text.len() as u64 > LONGEST || !seen.insert(text.clone()) {
            continue;
        }
        let mut noise = vec![0; text.len()];
        random.fill(&mut noise);
        let name = path.strip_prefix(&sources)?;
        for (kind, content) in [("text", &text), ("random", &noise)] {
            let target = folder.join(kind).join(name);
            fs::create_dir_all(target.parent().ok_or("a file without folder")?)?;
            fs::write(&target, content)?;
            total += content.len() as u64;
        }
    }
    Ok(())
}
