//! How much mediators may owe: at the bound no new shards of the account are taken, those that are
//! there are kept for the promised grace, and read as before.
//!
//! Tree `credit_reached`: contract → since when its bound is reached, u64le seconds since 1970.

use parking_lot::{Mutex, MutexGuard};
use std::collections::HashMap;
use std::time::{Duration, Instant};

use fincrypt_billing::statement::{Credit, CreditStanding, Holding};
use fincrypt_protocol::amount::{Msat, Price};
use fincrypt_protocol::{AccountId, Epoch, NodeId, Refusal, SegmentId, UnixTime};
use fincrypt_state::kv::{Batch, KeyValue, Tree};

use super::{StorageRole, payouts};
use crate::PayoutTo;
use fincrypt_accounts::failed;
use fincrypt_accounts::releases::Holdings;

const REACHED: Tree = Tree("credit_reached");
/// Epochs for which a statement may be missing: a mediator may be down for two days.
const PATIENCE: u32 = 48;
/// Whoever has never made a contract is waited for no longer than in epochs of this length.
const LONGEST_EPOCH: Duration = Duration::from_secs(3600);
/// How long a standing is remembered: shards come by the hundred.
const REMEMBERED: Duration = Duration::from_secs(1);

type Known = HashMap<(NodeId, AccountId), (Instant, Option<CreditStanding>)>;

/// Standings that were looked up lately.
#[derive(Default)]
pub(super) struct Standings(Mutex<Known>);

impl Standings {
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock()
    }
}

/// Whether a mediator has stored for too long without ever billing. Its epochs are so many `seconds`; 0 if it
/// has not audited either.
fn is_too_long(unbilled: Duration, seconds: u32) -> bool {
    let length = Some(Duration::from_secs(seconds.into())).filter(|length| !length.is_zero());
    unbilled > length.unwrap_or(LONGEST_EPOCH).min(LONGEST_EPOCH) * PATIENCE
}

/// How a contract stands, for a storage node that holds something of it or nothing. Nothing is
/// missed of a contract of which nothing is held.
pub(super) fn standing(
    state: &impl KeyValue,
    holding: &Holding,
    holds: bool,
    now: UnixTime,
) -> Result<(CreditStanding, Option<UnixTime>), Refusal> {
    let contract = holding.contract();
    let id = contract.id();
    let known = state.get(REACHED, id.as_bytes()).map_err(|error| failed(&error))?;
    let known = known.and_then(|bytes| bytes.as_slice().try_into().ok()).map(u64::from_le_bytes);
    let terms = contract.terms();
    let length = Duration::from_secs(terms.epoch_seconds.get().into());
    let agreed = holding.agreed();
    let earned = agreed.map_or(Msat::ZERO, |agreed| agreed.earned);
    let epoch = match agreed {
        Some(agreed) if holds => agreed.epoch,
        None if holds => terms.first,
        _ => Epoch::at(now, length),
    };
    let mut credit = Credit { reached: known.map(UnixTime::from_secs) };
    let paid = payouts::paid_of(state, &id)?.arrived;
    let standing = credit.standing(contract, (earned, paid), epoch, length * PATIENCE, now);
    Ok((standing, credit.reached))
}

impl StorageRole {
    /// Whether anything can be owed at all: nobody can pay an operator who names no destination.
    fn gives_credit(&self) -> bool {
        self.terms.price > Price::FREE && self.terms.payout != PayoutTo::Nowhere
    }

    /// How an account's contract with a mediator stands; none without one.
    fn credit(&self, mediator: NodeId, account: AccountId) -> Result<Option<CreditStanding>, Refusal> {
        let key = (mediator, account);
        if let Some((at, standing)) = self.standings.lock().get(&key)
            && at.elapsed() < REMEMBERED
        {
            return Ok(*standing);
        }
        let found = self.look_up_credit(&mediator, &account, UnixTime::now())?;
        let mut standings = self.standings.lock();
        standings.retain(|_, (at, _)| at.elapsed() < REMEMBERED);
        standings.insert(key, (Instant::now(), found));
        Ok(found)
    }

    fn look_up_credit(
        &self,
        mediator: &NodeId,
        account: &AccountId,
        now: UnixTime,
    ) -> Result<Option<CreditStanding>, Refusal> {
        let Some(holding) = self.contract_with(mediator, account)? else { return Ok(None) };
        let contract = holding.contract();
        let state = &self.accounts.state;
        let holds = self.store.shard_bytes_of(account) > 0;
        let (standing, reached) = standing(state, &holding, holds, now)?;
        // When the bound was reached outlives a restart.
        let mut batch = Batch::default();
        match reached {
            Some(since) => batch.put(REACHED, *contract.id().as_bytes(), since.secs().to_le_bytes()),
            None => batch.remove(REACHED, *contract.id().as_bytes()),
        }
        let known = state.get(REACHED, contract.id().as_bytes()).map_err(|error| failed(&error))?;
        if known.map(|bytes| bytes.as_slice().try_into().ok().map(u64::from_le_bytes))
            != reached.map(|since| Some(since.secs()))
        {
            self.accounts.commit(&batch)?;
        }
        Ok(Some(standing))
    }

    /// Refuses a new shard of an account whose mediator owes too much for it. Whether there is no contract
    /// and the time begins in which the first statement has to come: see [`Self::wait_for_bill`].
    pub(super) fn admit_credit(&self, mediator: NodeId, account: AccountId) -> Result<bool, Refusal> {
        if !self.gives_credit() {
            return Ok(false);
        }
        let takes = match self.credit(mediator, account)? {
            Some(standing) => standing.takes_shards(),
            None => {
                let earning = self.earning(&mediator, &account)?;
                // Nothing is owed for what is not there.
                let since = earning.unbilled.filter(|_| self.store.shard_bytes_of(&account) > 0);
                let Some(since) = since else { return Ok(true) };
                !is_too_long(UnixTime::now().since(since), earning.seconds)
            }
        };
        if takes { Ok(false) } else { Err(Refusal::CreditBound) }
    }

    /// Notes since when a mediator without a contract has stored something.
    pub(super) fn wait_for_bill(&self, mediator: NodeId, account: AccountId) -> Result<(), Refusal> {
        let _one = self.counting.lock();
        let mut earning = self.earning(&mediator, &account)?;
        if earning.terms.is_none() {
            earning.unbilled = Some(UnixTime::now());
            self.put_earning_with(&mediator, &account, &earning, Batch::default())?;
        }
        Ok(())
    }

    /// Deletes what was unpaid for longer than the promised grace: of accounts whose mediator of now
    /// has a contract that lapsed.
    pub(super) fn end_unpaid(&self, now: UnixTime) -> Result<(), Refusal> {
        if !self.gives_credit() {
            return Ok(());
        }
        for account in self.store.accounts() {
            let Some(mandate) = self.accounts.newest_mandate(&account)? else { continue };
            // That it has expired since makes nothing paid.
            let standing = self.look_up_credit(&mandate.mediator, &account, now)?;
            if let Some(CreditStanding::Lapsed { since, .. }) = standing {
                tracing::warn!(%account, since = since.secs(), "unpaid shards are deleted: their grace is over");
                self.delete_all(&account)?;
            }
        }
        Ok(())
    }

    fn delete_all(&self, account: &AccountId) -> Result<(), Refusal> {
        let mut after: Option<SegmentId> = None;
        loop {
            let page = self.segments(account, after.as_ref())?;
            let Some(last) = page.last() else { break };
            after = Some(*last);
            for segment in &page {
                self.remove(account, segment)?;
            }
        }
        self.settle()
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::sync::Arc;

    use bytes::Bytes;
    use fincrypt_net::{Role, Roles, Setup};
    use fincrypt_protocol::amount::Permille;
    use fincrypt_protocol::record::{Mandate, Rights};
    use fincrypt_protocol::shard::PutShard;
    use fincrypt_protocol::statement::{Contract, Terms};
    use fincrypt_protocol::{
        Code, Manifest, Network, RunId, ShardId, ShardIndex, ShardLen, Signed, SigningKey, Tag,
    };
    use fincrypt_shards::ShardStore;
    use fincrypt_shards::proof::shard_id;
    use fincrypt_state::state::State;
    use fincrypt_vault::words::Words;
    use zeroize::Zeroizing;

    use super::*;
    use crate::{Disk, Leaving, StorageTerms};
    use fincrypt_net::Identity;
    use fincrypt_net::{Engine, EngineSetup, Inboxes};

    const HOUR: Duration = Duration::from_secs(3600);
    const GRACE: Duration = Duration::from_secs(90 * 24 * 3600);
    const PRICE: Price = Price::new(1_000_000);

    async fn role(dir: &std::path::Path) -> StorageRole {
        let (state, _) = State::open(&dir.join("state")).expect("opens");
        let (store, _) = ShardStore::open(&dir.join("shards"), state.clone(), 1 << 30).expect("opens");
        let Identity { keypair, signing, .. } = Identity::fresh().expect("an identity");
        let roles = Roles::new([Role::Storage]);
        let behaviour = Setup { network: Network::Local, roles, intake: 8 << 20, mdns: false, upnp: false };
        let setup = EngineSetup { behaviour, keypair, listen: Vec::new(), inboxes: Inboxes::default() };
        let (_, net, sessions, _) = Engine::start(setup).await.expect("starts");
        let terms = StorageTerms {
            price: PRICE,
            egress_price: Price::FREE,
            payout: PayoutTo::Destination("lno1".to_owned()),
            grace_days: 90,
            minimum_days: 30,
            credit_limit: Msat::new(1_000_000),
            release_delay: HOUR,
            scrub_period: HOUR,
        };
        let condition = (Arc::new(Disk::open(state.clone())), Arc::new(Leaving::open(dir)));
        StorageRole::new(net, sessions, store, state, signing, condition, terms)
    }

    /// Has a mediator store a shard; whose it is.
    fn store(role: &StorageRole, mediator: NodeId) -> AccountId {
        let keys = Words::generate().expect("words").vault_keys();
        let key = keys.root.account(0);
        let (account, payload) = (key.account(), Bytes::from(vec![7; 4096]));
        let mandate = Mandate {
            network: Network::Local,
            account,
            mediator,
            rights: Rights { put: true, audit: true, get: true },
            byte_cap: 1 << 40,
            sequence: 1,
            expiry: UnixTime::now().plus(HOUR),
            max_price: None,
        };
        let ids = vec![shard_id(&payload), ShardId::from_bytes([1; 32])];
        let manifest =
            Manifest::new(Code::new(1, 1).expect("valid"), ShardLen::new(4096).expect("valid"), ids);
        let placement = PutShard {
            registration: keys.registration(Network::Local, 0).expect("seals"),
            mandate: Signed::seal(&mandate, &key).expect("seals"),
            run: RunId::from_bytes([1; 16]),
            tag: Tag::from_bytes([2; 32]),
            index: ShardIndex::new(0).expect("valid"),
            manifest: manifest.expect("valid"),
        };
        role.store_shard(mediator, placement, payload).expect("stored");
        account
    }

    #[tokio::test]
    async fn what_is_unpaid_for_longer_than_the_grace_is_deleted_and_not_a_day_before() {
        let dir = tempfile::tempdir().expect("a folder");
        let (role, mediator) = (role(dir.path()).await, SigningKey::from_seed(&Zeroizing::new([5; 32])));
        let now = UnixTime::now();
        let [owed, paid] = [(); 2].map(|()| store(&role, mediator.node()));
        let terms = |account| Terms {
            network: Network::Local,
            storage: role.net.own(),
            mediator: mediator.node(),
            account,
            price: PRICE,
            fee: Permille::NONE,
            first: Epoch::at(now, HOUR),
            epoch_seconds: NonZeroU32::new(3600).expect("not zero"),
            credit_bound: Msat::new(1_000_000),
            payout_threshold: Msat::new(100_000),
            grace_days: 90,
            minimum_days: 30,
        };
        // Nothing is ever charged of the one; the other has no contract, and nothing to lapse.
        let mut earning = role.earning(&mediator.node(), &owed).expect("reads");
        earning.keep(&Holding::new(Contract::new(terms(owed)).expect("good terms")));
        role.put_earning_with(&mediator.node(), &owed, &earning, Batch::default()).expect("written");
        let held = |account| role.store.shard_bytes_of(&account);
        for early in [now, now.plus(HOUR * 50), now.plus(GRACE)] {
            role.end_unpaid(early).expect("swept");
            assert_eq!((held(owed), held(paid)), (4096, 4096));
        }
        role.end_unpaid(now.plus(GRACE + HOUR)).expect("swept");
        assert_eq!((held(owed), held(paid)), (0, 4096));
    }

    #[test]
    fn whoever_never_bills_is_waited_for_two_days_at_most() {
        let hours = |hours: u64| Duration::from_secs(hours * 3600);
        assert!(!is_too_long(hours(48), 3600) && is_too_long(hours(48) + Duration::from_secs(1), 3600));
        assert!(is_too_long(Duration::from_secs(97), 2) && !is_too_long(Duration::from_secs(96), 2));
        // A mediator that says that its epochs are long is not waited for any longer.
        assert!(is_too_long(hours(49), u32::MAX));
        // And one that does not audit at all has as long.
        assert!(is_too_long(hours(49), 0) && !is_too_long(hours(48), 0));
    }
}
