//! Who may delete at a storage node, and who may stop it. The node runs in this process, over real
//! sockets; what speaks to it is ours to bend.

use std::time::Duration;

use fincrypt_net::Net;
use fincrypt_protocol::record::{Head, Release, Released, Rewind, Undo};
use fincrypt_protocol::shard::{
    Done, Heads, ListShards, PutHead, ReleaseDue, ReleaseSegments, ReleasesUndone, RewindAccount,
    UndoReleases,
};
use fincrypt_protocol::{HeadKey, Network, Refusal, Rewound, SegmentId, Signed, SigningKey, UnixTime};
use fincrypt_vault::words::Words;

use crate::hostile::{NETWORK, Stage, payload, run, stage_with};

const DELAY: Duration = Duration::from_secs(3);

fn now() -> u64 {
    UnixTime::now().secs()
}

impl Stage {
    /// A release that says it is of the registered head key, whoever signs it.
    fn release(&self, what: Released, sequence: u64, signer: &SigningKey) -> ReleaseSegments {
        self.release_of(&self.head_key(), what, sequence, signer)
    }

    fn release_of(
        &self,
        key: &SigningKey,
        what: Released,
        sequence: u64,
        signer: &SigningKey,
    ) -> ReleaseSegments {
        let (account, head_key) = (self.account().account(), key.head_key());
        let body = Release { network: NETWORK, account, head_key, what, sequence };
        ReleaseSegments { release: Signed::seal(&body, signer).expect("seals") }
    }

    fn release_all(&self, sequence: u64) -> ReleaseSegments {
        self.release(Released::Everything, sequence, &self.head_key())
    }

    fn head_key(&self) -> SigningKey {
        self.keys.head_key(0)
    }

    fn undo(&self, guard: &SigningKey, sequence: u64, guarded: bool) -> UndoReleases {
        let (account, guard_key) = (self.account().account(), guard.guard_key());
        let body = Undo { network: NETWORK, account, guard_key, sequence, guarded };
        UndoReleases { undo: Signed::seal(&body, guard).expect("seals") }
    }

    async fn owner(&self) -> Net {
        let owner = self.stranger().await;
        let login = self.login(&owner).await;
        assert!(self.ask(&owner, login).await.is_ok());
        owner
    }

    async fn put_seed(&self, seed: u8) {
        self.put(self.placement(seed), payload(seed)).await.expect("stored");
    }

    /// The segments held, of those with these seeds.
    async fn held(&self, seeds: &[u8]) -> Vec<u8> {
        let list = ListShards { account: self.account().account(), after: None };
        let page = self.ask(&self.mediator, list).await.expect("the mediator may list");
        let held: Vec<SegmentId> = page.shards.into_iter().map(|(segment, ..)| segment).collect();
        seeds.iter().copied().filter(|seed| held.contains(&self.segment(*seed))).collect()
    }

    /// Waits until only these are left. The limit of [`run`] is the deadline.
    async fn wait_held(&self, seeds: &[u8], left: &[u8]) {
        while self.held(seeds).await != left {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

#[test]
fn strangers_forgers_and_mediators_on_their_own_can_delete_nothing() {
    run(async {
        let stage = stage_with(1 << 30, DELAY).await;
        let (stranger, owner) = (stage.stranger().await, stage.owner().await);
        let unknown = stage.ask(&owner, stage.release_all(now())).await;
        assert_eq!(unknown, Err(Refusal::NotHeld), "nothing is held for the account");
        stage.put_seed(1).await;
        let replayed = stage.ask(&stranger, stage.release_all(now())).await;
        assert_eq!(replayed, Err(Refusal::NotMandated), "a stranger who got hold of the owner's word");
        let forger = Words::generate().expect("words").vault_keys().root.account(0);
        for signer in [&forger, &stage.words.guard(0), &stage.account()] {
            let forged = stage.release(Released::Everything, now(), signer);
            assert_eq!(stage.ask(&stage.mediator, forged).await, Err(Refusal::Invalid));
            let own = stage.release_of(signer, Released::Everything, now(), signer);
            assert_eq!(stage.ask(&stage.mediator, own).await, Err(Refusal::Invalid));
        }
        let body = Release {
            network: Network::Test,
            account: stage.account().account(),
            head_key: stage.head_key().head_key(),
            what: Released::Everything,
            sequence: now(),
        };
        let elsewhere = ReleaseSegments { release: Signed::seal(&body, &stage.head_key()).expect("seals") };
        assert_eq!(stage.ask(&owner, elsewhere).await, Err(Refusal::Invalid), "another network's");
        let far = stage.ask(&owner, stage.release_all(u64::MAX)).await;
        assert_eq!(far, Err(Refusal::Invalid), "a sequence that would use up all others");

        // A release that is carried out proves that the sweep has passed: nothing else went.
        stage.put_seed(2).await;
        let named = Released::Segments(vec![stage.segment(2)]);
        let released = stage.ask(&stage.mediator, stage.release(named, now(), &stage.head_key())).await;
        assert!(matches!(released, Ok(ReleaseDue { .. })), "{released:?}");
        stage.wait_held(&[1, 2], &[1]).await;
    });
}

#[test]
fn only_the_guard_undoes_and_whoever_may_bring_it() {
    run(async {
        let stage = stage_with(1 << 30, DELAY).await;
        stage.put_seed(1).await;
        let (owner, stranger) = (stage.owner().await, stage.stranger().await);
        let release = stage.release_all(now());
        assert!(matches!(stage.ask(&owner, release.clone()).await, Ok(ReleaseDue { .. })));
        // The owner's key, which the thief has too, is not the guard's.
        for wrong in [stage.account(), stage.words.guard(1)] {
            let forged = stage.undo(&wrong, now(), true);
            assert_eq!(stage.ask(&stranger, forged).await, Err(Refusal::Invalid));
        }
        let guard = stage.words.guard(0);
        let undo = stage.undo(&guard, now(), true);
        for _ in 0..2 {
            let undone = stage.ask(&stranger, undo.clone()).await;
            assert_eq!(undone, Ok(ReleasesUndone { pending: true }));
        }
        assert_eq!(stage.ask(&owner, release.clone()).await, Err(Refusal::Guarded));
        assert_eq!(stage.ask(&owner, stage.release_all(now() + 5)).await, Err(Refusal::Guarded));
        let lifted = stage.ask(&stranger, stage.undo(&guard, now() + 1, false)).await;
        assert_eq!(lifted, Ok(ReleasesUndone { pending: false }));
        assert_eq!(stage.ask(&stranger, undo).await, Err(Refusal::Stale), "an older word of the guard");
        assert_eq!(stage.ask(&owner, release).await, Err(Refusal::Stale), "a release that was undone");

        stage.put_seed(2).await;
        let named = Released::Segments(vec![stage.segment(2)]);
        let later = stage.release(named, now() + 10, &stage.head_key());
        assert!(matches!(stage.ask(&owner, later).await, Ok(ReleaseDue { .. })));
        stage.wait_held(&[1, 2], &[1]).await;
    });
}

/// A rewind to `base` by `guard`, after which `key` signs.
fn rewind(
    stage: &Stage,
    guard: &SigningKey,
    base: &Signed<Head>,
    key: HeadKey,
    sequence: u64,
) -> RewindAccount {
    let (account, guard_key) = (stage.account().account(), guard.guard_key());
    let (base_hash, head_key) = (base.head_hash(), key);
    let body = Rewind { network: NETWORK, account, guard_key, base: base_hash, head_key, sequence };
    let rewind = Signed::seal(&body, guard).expect("seals");
    RewindAccount { rewound: Rewound { rewind, base: base.clone() } }
}

#[test]
fn only_the_guard_rewinds_and_the_old_key_writes_and_deletes_no_more() {
    run(async {
        let stage = stage_with(1 << 30, DELAY).await;
        let (owner, stranger) = (stage.owner().await, stage.stranger().await);
        let good = stage.head(&stage.keys, 1);
        let (guard, at) = (stage.words.guard(0), now());
        let (mut keys, new) = (stage.keys.clone(), stage.words.rewound_head_key(0, at));
        keys.rewind(0, new.clone());
        let rewound = rewind(&stage, &guard, &good, new.head_key(), at);
        assert_eq!(stage.ask(&stranger, rewound.clone()).await, Err(Refusal::NotHeld), "nothing is held");
        stage.put_seed(1).await;
        let put = |head: Signed<Head>| PutHead { registration: stage.registration(), head };
        // A thief drives the sequence up in as many steps as it takes.
        for sequence in [1, 1 << 16, 2 << 16] {
            assert_eq!(stage.ask(&owner, put(stage.head(&stage.keys, sequence))).await, Ok(Done {}));
        }
        for wrong in [stage.account(), stage.words.guard(1)] {
            let forged = rewind(&stage, &wrong, &good, new.head_key(), at);
            assert_eq!(stage.ask(&stranger, forged).await, Err(Refusal::Invalid));
        }
        assert_eq!(stage.ask(&owner, put(stage.head(&keys, 2))).await, Err(Refusal::Invalid), "not yet");
        let released = stage.ask(&owner, stage.release_all(now())).await;
        assert!(matches!(released, Ok(ReleaseDue { .. })), "the thief's: {released:?}");
        for _ in 0..2 {
            assert_eq!(stage.ask(&stranger, rewound.clone()).await, Ok(Done {}));
        }
        let held = stage.ask(&owner, stage.locate()).await.expect("located").segments;
        assert!(held.iter().all(|held| held.due.is_none()), "{held:?}");

        let thiefs = stage.ask(&owner, put(stage.head(&stage.keys, 3 << 16))).await;
        assert_eq!(thiefs, Err(Refusal::Rewound));
        assert_eq!(stage.ask(&owner, stage.release_all(now())).await, Err(Refusal::Rewound));
        assert_eq!(stage.ask(&owner, put(stage.head(&keys, 2))).await, Ok(Done {}));
        let leap = put(stage.head(&keys, 3 + (1 << 16)));
        assert_eq!(stage.ask(&owner, leap).await, Err(Refusal::Invalid), "the thief's do not count");
        let Ok(Heads { rewound: Some(shown), .. }) = stage.ask(&owner, stage.heads()).await else {
            panic!("it is not shown");
        };
        assert_eq!(*shown, rewound.rewound);

        // A later word of the guard supersedes, an earlier one does not come back.
        let later = stage.words.rewound_head_key(0, at + 1);
        let again = rewind(&stage, &guard, &good, later.head_key(), at + 1);
        assert_eq!(stage.ask(&stranger, again).await, Ok(Done {}));
        assert_eq!(stage.ask(&stranger, rewound).await, Err(Refusal::Stale));
        let what = Released::Everything;
        let released = stage.ask(&owner, stage.release_of(&later, what, now(), &later)).await;
        assert!(matches!(released, Ok(ReleaseDue { .. })), "{released:?}");
        stage.wait_held(&[1], &[]).await;
    });
}

#[test]
fn a_segment_that_is_put_again_stays_and_the_rest_goes() {
    run(async {
        let stage = stage_with(1 << 30, DELAY).await;
        for seed in 1..=3 {
            stage.put_seed(seed).await;
        }
        let owner = stage.owner().await;
        let named = Released::Segments(vec![stage.segment(1), stage.segment(2)]);
        let first = stage.ask(&owner, stage.release(named, now(), &stage.head_key())).await;
        assert!(matches!(first, Ok(ReleaseDue { .. })), "{first:?}");
        stage.put_seed(1).await;
        stage.wait_held(&[1, 2, 3], &[1, 3]).await;
        let all = stage.ask(&owner, stage.release_all(now() + 1)).await;
        assert!(matches!(all, Ok(ReleaseDue { .. })), "{all:?}");
        stage.put_seed(3).await;
        stage.put_seed(4).await;
        stage.wait_held(&[1, 2, 3, 4], &[3, 4]).await;
    });
}
