use super::*;

use crate::holder_link::testing::answering;
use crate::reputations::UpkeepTerms;
use crate::testing::{Bench, owner};
use fincrypt_protocol::shard::{Challenge, Challenged, Proofs, Request, Verdict};
use fincrypt_protocol::{Clock, Refusal, Response, RunId};
use fincrypt_upkeep::NodeState;
use parking_lot::Mutex;

const NODE: NodeId = NodeId::from_bytes([4; 32]);

/// Counts the audits that were billed.
#[derive(Clone, Default)]
struct Bills(Arc<Mutex<Vec<Epoch>>>);

impl Bill for Bills {
    async fn bill(&self, _: NodeId, epoch: Epoch, _: AnswerDigest) -> Result<(), BillingError> {
        self.0.lock().push(epoch);
        Ok(())
    }
}

/// An auditor of a node that holds two shards, and answers a challenge with `verdict` for each; with none,
/// not at all. Notes what is asked for.
fn auditor(verdict: Option<Verdict>) -> (Bench, Auditor, Arc<Mutex<Vec<Vec<Challenged>>>>) {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let notes = Arc::clone(&asked);
    let bench = Bench::new(answering(move |_, request| {
        let Request::Challenge(challenge) = request else { return Err(Refusal::NotHeld) };
        notes.lock().push(challenge.shards.clone());
        let verdict = verdict.ok_or(Refusal::Busy)?;
        let proofs = Proofs { verdicts: vec![verdict; challenge.shards.len()] };
        Ok(Response::ok::<Challenge>(&proofs).expect("encodes"))
    }));
    let owner = owner(1);
    bench.admit(&owner, 5);
    bench.hold(&owner.account(), NODE, RunId::from_bytes([5; 16]));
    let terms = UpkeepTerms { epoch: Duration::from_secs(3600), absence: 24, loss: 168 };
    let reputations = Reputations::open(bench.state.clone(), terms, Clock::system()).expect("reads");
    let missing = MissingShards::new(bench.stores.segments.clone());
    let auditor = Auditor::new(
        bench.state.clone(),
        Arc::new(reputations),
        Arc::clone(&bench.releases),
        (bench.stores.clone(), missing),
        (bench.outbox.clone(), bench.migration_out.clone()),
        bench.context.clone(),
    );
    (bench, auditor, asked)
}

/// Audits the node once in each of these epochs.
async fn audit(bench: &Bench, auditor: &Auditor, bills: &Bills, epochs: std::ops::Range<u64>) {
    for epoch in epochs {
        let load = bench.stores.held.loads().get(&NODE).copied().unwrap_or_default();
        auditor.audit_node(bills, NODE, load, Epoch::new(epoch)).await.expect("audited");
    }
}

#[tokio::test]
async fn shards_that_are_not_proved_are_marked_and_cost_reputation_and_pay() {
    for verdict in [Verdict::Missing, Verdict::Proved] {
        let (bench, auditor, _) = auditor(Some(verdict));
        let bills = Bills::default();
        audit(&bench, &auditor, &bills, 1..3).await;
        assert!(!bench.stores.held.holds_anything(&NODE), "each audit found one of two missing");
        assert_eq!(auditor.reputations.state(&NODE), NodeState::Suspect);
        assert_eq!(*bills.0.lock(), []);
    }
}

#[tokio::test]
async fn a_challenge_that_is_not_answered_is_repeated_and_marks_nothing() {
    let (bench, auditor, asked) = auditor(None);
    audit(&bench, &auditor, &Bills::default(), 1..12).await;
    let asked = asked.lock().clone();
    assert_eq!(asked.len(), 11);
    assert!(!asked[0].is_empty() && asked.iter().all(|again| *again == asked[0]), "{asked:?}");
    assert!(bench.stores.held.holds_anything(&NODE));
    assert_eq!(auditor.reputations.of(&NODE).map(|known| known.score()), Some(1000));
}
