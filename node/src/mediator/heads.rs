//! Heads and keeps: durable here first, then at the holders.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use fincrypt_protocol::limits::{MAX_SEQUENCE_STEP, MAX_SHARDS};
use fincrypt_protocol::record::{Head, Keep, Registration};
use fincrypt_protocol::shard::Request;
use fincrypt_protocol::{AccountId, Frame, HeadHash, NodeId, Refusal, Signed, UnixTime, Verified};
use futures::StreamExt;

use super::MediatorRole;
use super::placement::{sample, system_random};
use crate::serve::blocking;

/// Holders that must have a head before its swap is acknowledged, if there are so many.
const HEAD_COPIES: usize = 2;
/// How long one holder may take.
const TELL: Duration = Duration::from_secs(8);
/// Keeps delivered in one round.
const KEEPS_AT_ONCE: usize = 256;

impl MediatorRole {
    /// Compares and swaps the account's head. The same swap may be repeated.
    pub(super) async fn swap_head(
        &self,
        registration: &Verified<Registration>,
        expected: Option<HeadHash>,
        head: &Signed<Head>,
    ) -> Result<(), Refusal> {
        let account = registration.account;
        let new = head.verify(self.network, UnixTime::now()).map_err(|_| Refusal::Invalid)?;
        if new.account != account || new.head_key != registration.head_key || new.previous != expected {
            return Err(Refusal::Invalid);
        }
        // Waits for the disk, which must not hold up the network's threads.
        tokio::task::block_in_place(|| self.compare_and_swap(account, expected, head, new.sequence))?;
        self.spread_head(registration, head).await
    }

    /// One swap at a time: of two devices over one head, only one may win.
    fn compare_and_swap(
        &self,
        account: AccountId,
        expected: Option<HeadHash>,
        head: &Signed<Head>,
        sequence: u64,
    ) -> Result<(), Refusal> {
        let _one = self.swapping.lock().unwrap_or_else(PoisonError::into_inner);
        let current = self.records.head(&account)?;
        if current.as_ref() == Some(head) {
            return Ok(());
        }
        if current.as_ref().map(Signed::head_hash) != expected {
            return Err(Refusal::HeadMoved);
        }
        let known = current.and_then(|head| head.verify(self.network, UnixTime::now()).ok());
        let known = known.map_or(0, |head| head.sequence);
        if sequence <= known || sequence > known.saturating_add(MAX_SEQUENCE_STEP) {
            return Err(Refusal::Invalid);
        }
        self.records.put_head(&account, head)
    }

    async fn spread_head(
        &self,
        registration: &Verified<Registration>,
        head: &Signed<Head>,
    ) -> Result<(), Refusal> {
        let (records, account) = (self.records.clone(), registration.account);
        let all = blocking(move || records.holders(&account, usize::MAX)).await?;
        let holders = sample(all, MAX_SHARDS, system_random);
        let need = HEAD_COPIES.min(holders.len());
        let telling = holders.into_iter().map(|node| {
            let put = Request::HeadPut { registration: registration.signed().clone(), head: head.clone() };
            self.tell(node, put)
        });
        let told = futures::stream::iter(telling).buffer_unordered(MAX_SHARDS);
        let have = told.filter(|heard| std::future::ready(*heard)).count().await;
        if have < need {
            let count = |value| u8::try_from(value).unwrap_or(u8::MAX);
            return Err(Refusal::NotStored { have: count(have), need: count(need) });
        }
        Ok(())
    }

    async fn tell(&self, node: NodeId, request: Request) -> bool {
        let told = async {
            self.net.connect(node, self.directory.addresses(&node)).await.ok()?;
            self.net.shard(node, Frame::bare(request)).await.ok()
        };
        matches!(tokio::time::timeout(TELL, told).await, Ok(Some(_)))
    }

    /// Takes an owner's keep: durable here, then told to every holder, now and until it hears.
    pub(super) async fn keep(
        self: &Arc<Self>,
        account: AccountId,
        keep: &Signed<Keep>,
    ) -> Result<(), Refusal> {
        let statement = keep.verify(self.network, UnixTime::now()).map_err(|_| Refusal::Invalid)?;
        if statement.account != account {
            return Err(Refusal::Invalid);
        }
        let records = self.records.clone();
        let holders = blocking(move || records.holders(&account, usize::MAX)).await?;
        tokio::task::block_in_place(|| self.records.put_keep(keep, &account, &statement.run, &holders))?;
        let role = Arc::clone(self);
        tokio::spawn(async move { role.deliver_keeps().await });
        Ok(())
    }

    /// Tells holders of keeps they have not heard of: a page at a time, going round, so that nodes
    /// that never answer hold up nobody else's.
    pub(super) async fn deliver_keeps(&self) {
        let cursor = || self.keep_cursor.lock().unwrap_or_else(PoisonError::into_inner);
        let after = cursor().take();
        let records = self.records.clone();
        let pending = blocking(move || records.pending_keeps(after.as_deref(), KEEPS_AT_ONCE)).await;
        let Ok(pending) = pending else { return };
        *cursor() = pending.last().map(|pending| pending.key.clone());
        let telling = pending.into_iter().map(|pending| async move {
            let heard = self.tell(pending.node, Request::Keep { keep: pending.keep }).await;
            heard.then_some(pending.key)
        });
        let told = futures::stream::iter(telling).buffer_unordered(16);
        let keys: Vec<Vec<u8>> = told.filter_map(std::future::ready).collect().await;
        // What could not be noted as told is told again.
        let records = self.records.clone();
        let _ = blocking(move || records.keep_told(keys)).await;
    }
}
