//! Looking into snapshots without restoring them.

use std::path::Path;
use std::sync::Arc;

use fincrypt_vault::snapshot::Snapshot;
use fincrypt_vault::tree::{Name, NodeKind};
use serde::Serialize;
use time::{OffsetDateTime, PrimitiveDateTime};

use super::error::ClientError;
use super::fetch::Fetcher;
use super::head::follow;
use super::history::newest_head_at;
use super::path_text::path_text;
use super::reader::{BlobReader, ReadError};
use super::session::{Session, with_vault};
use super::vault::Vault;

/// One snapshot.
#[derive(Debug, Serialize)]
pub struct SnapshotInfo {
    /// Its id.
    pub id: String,
    /// When it was taken, in seconds since 1970.
    pub time: u64,
    /// The same for people, in UTC.
    #[serde(skip)]
    pub when: String,
    /// The machine it was taken on.
    pub host: String,
    /// Its folders.
    pub paths: Vec<String>,
    /// Files in it.
    pub files: u64,
    /// Bytes of these files.
    pub bytes: u64,
}

/// One entry of a snapshot.
#[derive(Debug, Serialize)]
pub struct EntryInfo {
    /// Its path inside the snapshot.
    pub path: String,
    /// file, folder or symlink.
    pub kind: &'static str,
    /// Length in bytes.
    pub size: u64,
    /// Permission bits.
    pub mode: u32,
    /// Seconds since 1970 of the last change.
    pub mtime: i64,
}

/// A time in UTC; the end of the year 9999 for all that are later.
fn moment(secs: u64) -> OffsetDateTime {
    let moment = i64::try_from(secs).ok().and_then(|secs| OffsetDateTime::from_unix_timestamp(secs).ok());
    moment.unwrap_or(PrimitiveDateTime::MAX.assume_utc())
}

/// Year and month (1 to 12) of a time in seconds since 1970, in UTC.
pub(crate) fn year_and_month(secs: u64) -> (i32, u8) {
    let moment = moment(secs);
    (moment.year(), moment.month().into())
}

/// `YYYY-MM-DD hh:mm:ss` in UTC.
#[must_use]
pub fn utc(secs: u64) -> String {
    let moment = moment(secs);
    let (hour, minute, second) = moment.to_hms();
    format!("{} {hour:02}:{minute:02}:{second:02}", moment.date())
}

/// The name under which each folder of a snapshot appears in it: the folder's own name, numbered
/// where two are equal.
pub(crate) fn root_names(snapshot: &Snapshot) -> Result<Vec<Name>, ReadError> {
    let damaged = |_| ReadError::damaged("a snapshot names an impossible folder");
    let mut names: Vec<Name> = Vec::new();
    for root in &snapshot.roots {
        let last = root.names().map_err(damaged)?.pop();
        let base = last.map_or_else(|| b"root".to_vec(), |name| name.as_bytes().to_vec());
        let mut name = Name::new(base.clone()).map_err(damaged)?;
        let mut number = 2;
        while names.contains(&name) {
            let suffix = format!("-{number}");
            let room = base.len().min(255 - suffix.len());
            name = Name::new([&base[..room], suffix.as_bytes()].concat()).map_err(damaged)?;
            number += 1;
        }
        names.push(name);
    }
    Ok(names)
}

impl Vault {
    /// Joins the swarm for reading: through the mediator if it answers, else straight from the
    /// holders; and brings the index up to the newest head that can be had.
    pub(crate) async fn read_from(
        &self,
        session: &Session,
        direct: bool,
    ) -> Result<Arc<Fetcher>, ClientError> {
        let mediator = if direct || self.lifecycle.account().mediator()?.is_none() {
            None
        } else {
            session.mediator(self).await.ok()
        };
        let fetcher = self.fetcher(&session.net, mediator.clone())?;
        match mediator {
            Some(mediator) => {
                if let Some(head) = self.current_head(&mediator).await? {
                    follow(self, &fetcher, &head).await?;
                    self.lifecycle.saw_head(&head.head)?;
                }
            }
            None => {
                if let Some(head) = newest_head_at(self, fetcher.holders().await).await? {
                    follow(self, &fetcher, &head).await?;
                    self.lifecycle.saw_head(&head.head)?;
                }
            }
        }
        Ok(fetcher)
    }
}

/// Lists the snapshots of a vault, oldest first.
///
/// # Errors
/// [`ClientError`] if they cannot be fetched.
pub async fn list_snapshots(vault: &Vault) -> Result<Vec<SnapshotInfo>, ClientError> {
    let snapshots = with_vault(vault, async |session| {
        let fetcher = vault.read_from(session, false).await?;
        Ok(BlobReader::new(vault, fetcher)?.snapshots().await?)
    });
    let snapshots = snapshots.await?;
    let info = |(id, snapshot): (fincrypt_vault::snapshot::SnapshotId, Snapshot)| SnapshotInfo {
        id: id.to_string(),
        time: snapshot.time.secs(),
        when: utc(snapshot.time.secs()),
        host: snapshot.host,
        paths: snapshot.roots.iter().map(|root| path_text(&root.path)).collect(),
        files: snapshot.files,
        bytes: snapshot.bytes,
    };
    Ok(snapshots.into_iter().map(info).collect())
}

/// Lists what a snapshot holds at `path`, or its folders.
///
/// # Errors
/// [`ClientError`] if there is no such snapshot or path.
pub async fn list_entries(
    vault: &Vault,
    name: &str,
    path: Option<&Path>,
) -> Result<Vec<EntryInfo>, ClientError> {
    with_vault(vault, async |session| {
        let fetcher = vault.read_from(session, false).await?;
        Ok(entries(&BlobReader::new(vault, fetcher)?, name, path).await?)
    })
    .await
}

async fn entries(reader: &BlobReader, name: &str, path: Option<&Path>) -> Result<Vec<EntryInfo>, ReadError> {
    use std::os::unix::ffi::OsStrExt;
    let (_, snapshot) = reader.snapshot(name).await?;
    let names = root_names(&snapshot)?;
    let parts: Vec<&[u8]> = path
        .map(|path| {
            path.as_os_str().as_bytes().split(|byte| *byte == b'/').filter(|part| !part.is_empty()).collect()
        })
        .unwrap_or_default();
    let Some((first, rest)) = parts.split_first() else {
        let folders = names.iter().zip(&snapshot.roots).map(|(name, root)| EntryInfo {
            path: path_text(name.as_bytes()),
            kind: "folder",
            size: 0,
            mode: root.mode,
            mtime: root.mtime.secs,
        });
        return Ok(folders.collect());
    };
    let missing = || ReadError::NoPath(path.map(|path| path.display().to_string()).unwrap_or_default());
    let at = names.iter().position(|name| name.as_bytes() == *first).ok_or_else(missing)?;
    let mut nodes = reader.folder(&snapshot.roots[at].tree).await?;
    let mut prefix = first.to_vec();
    for (depth, part) in rest.iter().enumerate() {
        let node = nodes.into_iter().find(|node| node.name.as_bytes() == *part).ok_or_else(missing)?;
        match &node.kind {
            NodeKind::Dir { tree } => {
                nodes = reader.folder(tree).await?;
                prefix.push(b'/');
                prefix.extend_from_slice(part);
            }
            _ if depth + 1 == rest.len() => nodes = vec![node],
            _ => return Err(missing()),
        }
        if depth + 1 == rest.len() && nodes.len() == 1 && nodes[0].name.as_bytes() == *part {
            break;
        }
    }
    let info = |node: fincrypt_vault::tree::Node| {
        let (kind, size) = match &node.kind {
            NodeKind::File { size, .. } => ("file", *size),
            NodeKind::Dir { .. } => ("folder", 0),
            NodeKind::Symlink { target } => ("symlink", target.len() as u64),
        };
        let path = [prefix.as_slice(), b"/", node.name.as_bytes()].concat();
        EntryInfo { path: path_text(&path), kind, size, mode: node.mode, mtime: node.mtime.secs }
    };
    Ok(nodes.into_iter().map(info).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use fincrypt_protocol::UnixTime;
    use fincrypt_vault::snapshot::Root;
    use fincrypt_vault::tree::Mtime;

    #[test]
    fn times_are_shown_in_utc() {
        assert_eq!(utc(0), "1970-01-01 00:00:00");
        assert_eq!(utc(951_782_400), "2000-02-29 00:00:00");
        assert_eq!(utc(1_795_391_999), "2026-11-22 23:59:59");
    }

    #[test]
    fn folders_of_one_name_are_numbered() {
        let root = |path: &str| Root {
            path: path.as_bytes().to_vec(),
            tree: vec![],
            mode: 0o755,
            mtime: Mtime { secs: 0, nanos: 0 },
        };
        let roots = vec![root("/a/docs"), root("/b/docs"), root("/")];
        let (host, program) = (String::new(), String::new());
        let snapshot =
            Snapshot { time: UnixTime::from_secs(0), nanos: 0, host, roots, files: 0, bytes: 0, program };
        let names: Vec<_> =
            root_names(&snapshot).expect("named").iter().map(|name| name.as_bytes().to_vec()).collect();
        assert_eq!(names, [b"docs".to_vec(), b"docs-2".to_vec(), b"root".to_vec()]);
    }
}
