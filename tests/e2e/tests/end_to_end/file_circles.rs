//! The plan inside the crates: files that need each other, in circles of at most three.
//!
//! A file needs another if it names it by a `crate::` or `super::` path, or by the name of a module
//! that it declares itself. Unit tests, and what a re-export leads to, do not count.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Files in a circle, at most.
const MOST: usize = 3;
/// A module's path in its crate: the root is empty.
type Module = Vec<String>;

/// What follows a `crate::` or `super::`: every path of the use tree, one after the other.
fn use_tree(text: &str, start: &Module, found: &mut BTreeSet<Module>) {
    let text = text.trim_start();
    if let Some(group) = text.strip_prefix('{') {
        let (mut depth, mut begin) = (0, 0);
        for (at, sign) in group.char_indices() {
            match sign {
                '{' => depth += 1,
                ',' if depth == 0 => {
                    use_tree(&group[begin..at], start, found);
                    begin = at + 1;
                }
                '}' if depth == 0 => return use_tree(&group[begin..at], start, found),
                '}' => depth -= 1,
                _ => {}
            }
        }
        return;
    }
    let end = text.find(|sign: char| !is_name(sign)).unwrap_or(text.len());
    if end == 0 {
        return;
    }
    let (name, rest) = text.split_at(end);
    let path = [start.as_slice(), &[name.to_owned()]].concat();
    match rest.strip_prefix("::") {
        Some(rest) => use_tree(rest, &path, found),
        None => drop(found.insert(path)),
    }
}

fn is_name(sign: char) -> bool {
    sign.is_alphanumeric() || sign == '_'
}

/// All paths that a file's text names, of the modules `known`.
fn named(text: &str, own: &Module, known: &BTreeMap<Module, PathBuf>) -> BTreeSet<Module> {
    let mut paths = BTreeSet::new();
    for (at, _) in text.match_indices("::") {
        let before = text[..at].rsplit(|sign: char| !is_name(sign)).next().unwrap_or_default();
        let left = &text[..at - before.len()];
        let rest = &text[at + 2..];
        match before {
            "crate" => use_tree(rest, &Vec::new(), &mut paths),
            "super" => {
                let ups =
                    1 + left.len().saturating_sub(left.trim_end_matches("super::").len()) / "super::".len();
                if !rest.starts_with("super::") {
                    use_tree(rest, &own[..own.len().saturating_sub(ups)].to_vec(), &mut paths);
                }
            }
            // The crate's root names its modules to show them to others.
            child if !child.is_empty() && !own.is_empty() && !left.ends_with("::") => {
                use_tree(&text[at - before.len()..], own, &mut paths);
            }
            _ => {}
        }
    }
    let file = |mut path: Module| {
        while !path.is_empty() && !known.contains_key(&path) {
            path.pop();
        }
        path
    };
    paths.into_iter().map(file).filter(|path| !path.is_empty() && path != own).collect()
}

/// A file without comments and without its unit tests.
fn source(path: &Path) -> String {
    let text = fs::read_to_string(path).expect("a source file");
    // A module with a body is the last thing in a file; one without is any line.
    let inline = text.match_indices("#[cfg(test)]\nmod ").find(|(at, _)| {
        text[at + "#[cfg(test)]\n".len()..].lines().next().is_some_and(|line| line.ends_with('{'))
    });
    let text = inline.map_or(text.as_str(), |(at, _)| &text[..at]);
    let lines = text.lines().map(|line| line.split("//").next().unwrap_or_default());
    lines.collect::<Vec<_>>().join("\n")
}

/// The modules below `folder`, each with its file.
fn modules(folder: &Path, own: &Module, found: &mut BTreeMap<Module, PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let stem = path.file_stem().expect("a name").to_string_lossy().into_owned();
        let child = [own.as_slice(), std::slice::from_ref(&stem)].concat();
        if path.is_dir() {
            modules(&path, &child, found);
        } else if path.extension().is_some_and(|kind| kind == "rs") && !stem.ends_with("tests") {
            let root = ["mod", "lib", "main"].contains(&stem.as_str());
            found.insert(if root { own.clone() } else { child }, path);
        }
    }
}

/// All that can be reached from `from`.
fn reached<'a>(arrows: &'a BTreeMap<Module, BTreeSet<Module>>, from: &'a Module) -> BTreeSet<&'a Module> {
    let (mut found, mut open) = (BTreeSet::new(), vec![from]);
    while let Some(module) = open.pop() {
        for next in arrows.get(module).into_iter().flatten() {
            if found.insert(next) {
                open.push(next);
            }
        }
    }
    found
}

/// Circles of more than one file in a crate's sources.
fn circles(sources: &Path) -> BTreeSet<Vec<String>> {
    let mut files = BTreeMap::new();
    modules(sources, &Vec::new(), &mut files);
    let arrows: BTreeMap<Module, BTreeSet<Module>> =
        files.iter().map(|(own, path)| (own.clone(), named(&source(path), own, &files))).collect();
    let reached: BTreeMap<&Module, BTreeSet<&Module>> =
        arrows.keys().map(|module| (module, reached(&arrows, module))).collect();
    let circle = |own: &Module| -> Vec<String> {
        let both = reached[own].iter().filter(|other| reached[**other].contains(own));
        both.map(|module| module.join("/")).collect()
    };
    arrows.keys().map(circle).filter(|circle| circle.len() > 1).collect()
}

/// The folders of the workspace's crates, relative to the workspace.
fn crates(workspace: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for top in ["protocol", "storage", "wallet", "node", "tests", "examples"] {
        let top = workspace.join(top);
        let below = fs::read_dir(&top).expect("a folder").map(|entry| entry.expect("an entry").path());
        found.extend(below.chain([top.clone()]).filter(|path| path.join("Cargo.toml").is_file()));
    }
    found.retain(|path| path.join("src").is_dir());
    found.sort();
    found
}

#[test]
fn no_circle_of_files_is_larger_than_three() {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut large = Vec::new();
    for folder in crates(&workspace) {
        let name = folder.strip_prefix(&workspace).expect("below it").to_string_lossy().into_owned();
        for circle in circles(&folder.join("src")) {
            if circle.len() > MOST {
                large.push(format!("{name}: {} files: {}", circle.len(), circle.join(", ")));
            }
        }
    }
    assert!(large.is_empty(), "{}", large.join("\n"));
}
