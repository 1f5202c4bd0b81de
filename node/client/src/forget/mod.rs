//! Forgetting snapshots: by name, or by rules of how many to keep.

mod rules;

use std::collections::HashSet;
use std::path::PathBuf;

use fincrypt_vault::snapshot::{Snapshot, SnapshotId, select};
use serde::Serialize;

use super::error::ClientError;
use super::path_text::path_text;
use super::prune::{PruneOptions, PruneReport, Task, rewrite};
use super::reader::{BlobReader, ReadError};
use super::session::{Session, with_vault};
use super::snapshots::utc;
use super::vault::Vault;
use rules::{Item, judge};
pub use rules::{Rules, parse_duration};

/// What is to be forgotten.
#[derive(Debug, Clone, Default)]
pub struct ForgetOptions {
    /// These snapshots, by the beginning of their ids or as `latest`.
    pub names: Vec<String>,
    /// All that no rule keeps; none if there is no rule.
    pub rules: Rules,
    /// Rules are about snapshots of this folder only.
    pub path: Option<PathBuf>,
    /// Only say what would be done.
    pub dry_run: bool,
    /// Prune at once.
    pub prune: Option<PruneOptions>,
}

/// What becomes of one snapshot.
#[derive(Debug, Serialize)]
pub struct Judged {
    /// Its id.
    pub id: String,
    /// When it was taken, in seconds since 1970.
    pub time: u64,
    /// The same for people, in UTC.
    #[serde(skip)]
    pub when: String,
    /// Its folders.
    pub paths: Vec<String>,
    /// Why it is kept; nothing if it is forgotten.
    pub reasons: Vec<&'static str>,
}

/// What a forget did, or would do.
#[derive(Debug, Serialize)]
pub struct ForgetReport {
    /// Snapshots that stay, oldest first.
    pub kept: Vec<Judged>,
    /// Snapshots that were forgotten.
    pub forgotten: Vec<Judged>,
    /// What the prune did, if there was one.
    pub prune: Option<PruneReport>,
}

/// Forgets snapshots. What they alone used is not counted as stored any more once the vault is
/// pruned.
///
/// # Errors
/// [`ClientError`] if a name fits none, or no new head could be committed.
pub async fn forget(vault: &Vault, options: &ForgetOptions) -> Result<ForgetReport, ClientError> {
    with_vault(vault, async |session| forget_in(session, vault, options).await).await
}

async fn forget_in(
    session: &Session,
    vault: &Vault,
    options: &ForgetOptions,
) -> Result<ForgetReport, ClientError> {
    let fetcher = vault.read_from(session, false).await?;
    let snapshots = BlobReader::new(vault, fetcher)?.snapshots().await?;
    let reasons = reasons(&snapshots, options)?;
    let mut report = ForgetReport { kept: Vec::new(), forgotten: Vec::new(), prune: None };
    let mut forget = HashSet::new();
    for ((id, snapshot), reasons) in snapshots.into_iter().zip(reasons) {
        let gone = reasons.is_empty();
        let secs = snapshot.time.secs();
        let paths = snapshot.roots.iter().map(|root| path_text(&root.path));
        let judged =
            Judged { id: id.to_string(), time: secs, when: utc(secs), paths: paths.collect(), reasons };
        if gone {
            forget.insert(id.blob());
            report.forgotten.push(judged);
        } else {
            report.kept.push(judged);
        }
    }
    let prune = options.prune.map(|prune| PruneOptions { dry_run: options.dry_run, ..prune });
    let idle = forget.is_empty() && prune.is_none();
    if !idle && (prune.is_some() || !options.dry_run) {
        let done = rewrite(session, vault, &Task { forget, prune }).await?;
        report.prune = prune.map(|_| done);
    }
    Ok(report)
}

/// Why each snapshot is kept; those without a reason are forgotten.
fn reasons(
    snapshots: &[(SnapshotId, Snapshot)],
    options: &ForgetOptions,
) -> Result<Vec<Vec<&'static str>>, ReadError> {
    use std::os::unix::ffi::OsStrExt;
    let mut named = HashSet::new();
    for name in &options.names {
        let ids = || snapshots.iter().map(|(id, _)| *id);
        let id = if name == "latest" { ids().next_back() } else { select(name, ids()).ok() };
        named.insert(id.ok_or_else(|| ReadError::NoSnapshot(name.clone()))?);
    }
    let of_path = |snapshot: &Snapshot| {
        let wanted = options.path.as_ref().map(|path| path.as_os_str().as_bytes());
        wanted.is_none_or(|wanted| snapshot.roots.iter().any(|root| root.path == wanted))
    };
    let judged = |(id, snapshot): &(SnapshotId, Snapshot)| !named.contains(id) && of_path(snapshot);
    let item = |snapshot: &Snapshot| Item {
        time: (snapshot.time.secs(), snapshot.nanos),
        group: (snapshot.host.clone(), snapshot.roots.iter().map(|root| root.path.clone()).collect()),
    };
    let items: Vec<Item> =
        snapshots.iter().filter(|one| judged(one)).map(|(_, snapshot)| item(snapshot)).collect();
    let mut verdicts = judge(&items, &options.rules).into_iter();
    let reason = |one: &(SnapshotId, Snapshot)| match (named.contains(&one.0), judged(one)) {
        (true, _) => Vec::new(),
        (_, false) => vec!["other folder"],
        // Without rules, only those named go.
        _ if options.rules.is_empty() => vec!["not named"],
        _ => verdicts.next().unwrap_or_else(|| vec!["not judged"]),
    };
    Ok(snapshots.iter().map(reason).collect())
}
