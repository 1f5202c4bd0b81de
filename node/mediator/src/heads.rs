//! Heads: durable here first, then at the holders.

use fincrypt_protocol::limits::{MAX_SEQUENCE_STEP, MAX_SHARDS};
use fincrypt_protocol::record::{Head, Registration};
use fincrypt_protocol::shard::PutHead;
use fincrypt_protocol::{HeadHash, Refusal, Signed, UnixTime, Verified};
use futures::StreamExt;

use super::MediatorRole;
use super::holder_link::Delivery;
use fincrypt_net::blocking;
use fincrypt_upkeep::placement::{sample, system_random};

/// Holders that must have a head before its swap is acknowledged, if there are so many.
const HEAD_COPIES: usize = 2;

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
        if new.account != account || new.previous != expected {
            return Err(Refusal::Invalid);
        }
        // Waits for the disk, which must not hold up the network's threads.
        tokio::task::block_in_place(|| self.compare_and_swap(registration, expected, &new))?;
        self.spread_head(registration, head).await
    }

    /// One swap at a time: of two devices over one head, only one may win.
    fn compare_and_swap(
        &self,
        registration: &Registration,
        expected: Option<HeadHash>,
        new: &Verified<Head>,
    ) -> Result<(), Refusal> {
        let (account, head, sequence) = (registration.account, new.signed(), new.sequence);
        let _one = self.swapping.lock();
        self.accounts.check_head_key(registration, new.head_key)?;
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
            let put = PutHead { registration: registration.signed().clone(), head: head.clone() };
            async move {
                // One that has not heard of a rewind refuses the new key's heads.
                let told = if self.catch_up(&account, &node).await {
                    self.link.send(node, put).await
                } else {
                    Delivery::TimedOut
                };
                (node, told)
            }
        });
        let mut told = futures::stream::iter(telling).buffer_unordered(MAX_SHARDS);
        let (mut have, mut unmandated) = (0, None);
        while let Some((node, told)) = told.next().await {
            match told {
                Delivery::Acknowledged(_) => have += 1,
                Delivery::Rejected(Refusal::NotMandated) => unmandated = Some(node),
                _ => {}
            }
        }
        drop(told);
        if let Some(node) = unmandated
            && self.is_dismissed(&account, node).await
        {
            return Err(Refusal::Dismissed);
        }
        if have < need {
            let count = |value| u8::try_from(value).unwrap_or(u8::MAX);
            return Err(Refusal::NotStored { have: count(have), need: count(need) });
        }
        Ok(())
    }
}
