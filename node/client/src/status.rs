//! How the vault stands.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use fincrypt_net::peer_of;
use fincrypt_protocol::{Manifest, UnixTime};
use fincrypt_vault::snapshot::SnapshotId;
use serde::Serialize;

use super::error::ClientError;
use super::health::{Standing, health};
use super::mandates;
use super::mediator_client::{MediatorClient, MediatorError, OfferError};
use super::prepayment::{PrepaymentStatus, prepayment_status};
use super::reader::BlobReader;
use super::references::{SnapshotReferences, forget_references, known_references};
use super::session::Session;
use super::vault::Vault;

/// Segments whose health is asked for: 245 GB of data with k = 15. More only make it slower.
const MAX_LOCATED: usize = 16 << 10;
/// How long snapshots are walked that were not before; at least one is.
const WALK: Duration = Duration::from_secs(10);

/// How one snapshot stands.
#[derive(Debug, Serialize)]
pub struct SnapshotStatus {
    /// Its id.
    pub id: String,
    /// When it was taken, in seconds since 1970.
    pub time: u64,
    /// Files in it.
    pub files: u64,
    /// Bytes of these files.
    pub bytes: u64,
    /// Segments that hold any part of it.
    pub segments: usize,
    /// How these stand; none if the mediator does not answer.
    pub health: Option<Standing>,
    /// When this machine last saw a shard of any of them proved, in seconds since 1970.
    pub last_proof: Option<u64>,
    /// Segments of which it ever saw a shard proved.
    pub segments_proved: usize,
    /// When all of it was last restored, for good or as a test, by this machine.
    pub last_test_restore: Option<u64>,
}

/// The vault's standing.
#[derive(Debug, Serialize)]
pub struct StatusReport {
    /// The network.
    pub network: String,
    /// The account of the slot in use.
    pub account: String,
    /// The vault's mediator, as a peer id.
    pub mediator: Option<String>,
    /// Whether it answers.
    pub reachable: bool,
    /// When it last let this machine in, in seconds since 1970.
    pub mediator_seen: Option<u64>,
    /// Storage nodes that qualify now.
    pub eligible: u16,
    /// Data shards a full segment would get now.
    pub data: u8,
    /// All shards a full segment would get now.
    pub total: u8,
    /// Sequence of the newest head.
    pub sequence: u64,
    /// Seconds since the run that wrote it began.
    pub head_age_seconds: Option<u64>,
    /// Snapshots in the vault.
    pub snapshots: usize,
    /// Segments in the vault.
    pub segments: usize,
    /// Bytes they take at storage, parity included.
    pub bytes_stored: u64,
    /// How all segments stand: the mediator's word, less what this machine itself found bad. None if
    /// the mediator does not answer.
    pub health: Option<Standing>,
    /// Segments that `health` tells about.
    pub segments_looked_at: usize,
    /// When this machine last checked its storage by itself, in seconds since 1970.
    pub last_check: Option<u64>,
    /// How each snapshot stands, the newest first.
    pub per_snapshot: Vec<SnapshotStatus>,
    /// Snapshots that were not looked at yet.
    pub not_looked_at: usize,
    /// How the prepayment stands, and what to tell about the money.
    pub prepayment: PrepaymentStatus,
    /// Why something is not as it should be.
    pub problem: Option<String>,
}

/// Looks at the vault and its mediator, and at each snapshot unless it is to be `brief`. A mediator
/// that does not answer is part of the answer.
///
/// # Errors
/// [`ClientError`] if local state fails.
pub async fn status(vault: &Vault, brief: bool) -> Result<StatusReport, ClientError> {
    let head = vault.known_head()?;
    let manifests = vault.index.manifests()?;
    let length = |of: &Manifest| u64::from(of.code().total()) * u64::from(of.shard_len().get());
    let mut report = StatusReport {
        network: vault.network().to_string(),
        account: vault.keys.root.account(vault.slot()?).account().to_string(),
        mediator: None,
        reachable: false,
        mediator_seen: None,
        eligible: 0,
        data: 0,
        total: 0,
        sequence: head.as_ref().map_or(0, |head| head.head.sequence),
        head_age_seconds: head.map(|head| UnixTime::now().since(head.body.time).as_secs()),
        snapshots: vault.index.snapshots()?.len(),
        segments: manifests.len(),
        bytes_stored: manifests.iter().map(length).sum(),
        health: None,
        segments_looked_at: 0,
        last_check: vault.notes().last()?.map(UnixTime::secs),
        per_snapshot: Vec::new(),
        not_looked_at: 0,
        prepayment: PrepaymentStatus::default(),
        problem: None,
    };
    let session = match Session::open(&vault.options).await {
        Ok(session) => Some(session),
        Err(error) => {
            report.problem = Some(error.to_string());
            None
        }
    };
    let mut mediator = None;
    if let Some(session) = &session {
        match session.mediator(vault).await {
            Ok(found) => {
                report.reachable = true;
                report.quote(vault, &found).await;
                mediator = Some(found);
            }
            Err(error) => report.problem = Some(error.to_string()),
        }
    }
    report.prepayment = prepayment_status(vault, mediator.as_ref()).await;
    report.mediator = vault
        .lifecycle
        .account()
        .mediator()?
        .and_then(|node| peer_of(&node).ok())
        .map(|peer| peer.to_string());
    report.mediator_seen = vault.notes().mediator_seen()?.map(UnixTime::secs);
    let looked =
        if brief { Ok(()) } else { report.look(vault, session.as_ref(), mediator, &manifests).await };
    if let Some(session) = session {
        session.close().await;
    }
    looked.map(|()| report)
}

impl StatusReport {
    async fn quote(&mut self, vault: &Vault, mediator: &MediatorClient) {
        let limit = mandates::max_price(vault).unwrap_or(vault.options.max_price);
        match mediator.quote(vault.options.redundancy, limit).await {
            Ok(quote) => {
                self.eligible = quote.eligible;
                self.data = quote.code.data();
                self.total = quote.code.total();
            }
            Err(error) => {
                if let MediatorError::Offer(OfferError::TooFewNodes { eligible, .. }) = error {
                    self.eligible = eligible;
                }
                self.problem = Some(error.to_string());
            }
        }
    }

    async fn look(
        &mut self,
        vault: &Vault,
        session: Option<&Session>,
        mediator: Option<MediatorClient>,
        manifests: &[Manifest],
    ) -> Result<(), ClientError> {
        let looked_at = &manifests[..manifests.len().min(MAX_LOCATED)];
        let notes = vault.notes();
        let found = match &mediator {
            Some(mediator) => health(mediator, &notes, looked_at).await,
            None => Ok(Default::default()),
        };
        let found = found.unwrap_or_else(|error| {
            self.problem = Some(error.to_string());
            Default::default()
        });
        self.segments_looked_at = found.len();
        self.health = Standing::of(found.values().copied().collect());
        let reader = match (session, mediator) {
            (Some(session), Some(mediator)) => {
                Some(BlobReader::new(vault, vault.fetcher(&session.net, Some(mediator))?)?)
            }
            _ => None,
        };
        let mut all = self.needs(vault, reader.as_ref()).await?;
        all.sort_by_key(|(id, needs)| std::cmp::Reverse((needs.time, *id)));
        for (id, needs) in all {
            let standing = needs.segments.iter().filter_map(|segment| found.get(segment).copied());
            let mut proofs = Vec::new();
            for segment in &needs.segments {
                proofs.extend(Some(notes.seen(segment)?.proved).filter(|time| *time > 0));
            }
            self.per_snapshot.push(SnapshotStatus {
                id: id.to_string(),
                time: needs.time.0,
                files: needs.files,
                bytes: needs.bytes,
                segments: needs.segments.len(),
                health: Standing::of(standing.collect()),
                last_proof: proofs.iter().max().copied(),
                segments_proved: proofs.len(),
                last_test_restore: notes.restored(&id)?.map(UnixTime::secs),
            });
        }
        Ok(())
    }

    /// What each snapshot needs, as far as it is known or found in time.
    async fn needs(
        &mut self,
        vault: &Vault,
        reader: Option<&BlobReader>,
    ) -> Result<Vec<(SnapshotId, SnapshotReferences)>, ClientError> {
        let (begun, mut walked) = (Instant::now(), 0);
        let mut all = Vec::new();
        let ids = vault.index.snapshots()?;
        forget_references(vault, &ids.iter().copied().collect::<HashSet<_>>())?;
        for id in ids.into_iter().map(SnapshotId::new) {
            let found = match (known_references(vault, &id)?, reader) {
                (Some(needs), _) => Some(needs),
                (None, Some(reader)) if walked == 0 || begun.elapsed() < WALK => {
                    walked += 1;
                    match vault.find_references(reader, &id).await {
                        Ok(needs) => Some(needs),
                        Err(error) => {
                            self.problem = Some(format!("snapshot {id}: {error}"));
                            None
                        }
                    }
                }
                _ => None,
            };
            match found {
                Some(needs) => all.push((id, needs)),
                None => self.not_looked_at += 1,
            }
        }
        Ok(all)
    }
}
