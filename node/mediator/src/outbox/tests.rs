use super::*;

use crate::holder_link::testing::answering;
use crate::testing::{Bench, owner, registration};
use fincrypt_protocol::record::Keep;
use fincrypt_protocol::shard::{Done, KeepRun, Request};
use fincrypt_protocol::{Network, Refusal, Response, RunId};
use std::sync::atomic::{AtomicBool, Ordering};

const NODE: NodeId = NodeId::from_bytes([4; 32]);

#[tokio::test(flavor = "multi_thread")]
async fn a_keep_stays_in_the_outbox_until_the_holder_acknowledges_it() {
    let there = Arc::new(AtomicBool::new(false));
    let answers = Arc::clone(&there);
    let bench = Bench::new(answering(move |_, request| {
        assert!(matches!(request, Request::KeepRun(_)), "{request:?}");
        if answers.load(Ordering::SeqCst) {
            Ok(Response::ok::<KeepRun>(&Done {}).expect("encodes"))
        } else {
            Err(Refusal::Busy)
        }
    }));
    let (owner, run) = (owner(1), RunId::from_bytes([5; 16]));
    let account = owner.account();
    bench.accounts.register(&registration(&owner)).expect("registered");
    bench.hold(&account, NODE, run);
    let keep = Signed::seal(&Keep { network: Network::Local, account, run }, &owner).expect("seals");
    bench.outbox.keep(account, &keep).await.expect("taken");
    bench.context.tasks.end().await;
    let waiting = || bench.outbox.queue.pending(&account, None, 10).expect("reads").len();
    bench.outbox.deliver_round().await;
    assert_eq!(waiting(), 1);
    there.store(true, Ordering::SeqCst);
    // A round may begin where the last one ended.
    bench.outbox.deliver_round().await;
    bench.outbox.deliver_round().await;
    assert_eq!(waiting(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_keep_that_a_holder_rejects_for_good_is_not_sent_again() {
    let bench = Bench::new(answering(|_, _| Err(Refusal::NotMandated)));
    let (owner, run) = (owner(1), RunId::from_bytes([5; 16]));
    let account = owner.account();
    bench.accounts.register(&registration(&owner)).expect("registered");
    bench.hold(&account, NODE, run);
    let keep = Signed::seal(&Keep { network: Network::Local, account, run }, &owner).expect("seals");
    bench.outbox.keep(account, &keep).await.expect("taken");
    bench.context.tasks.end().await;
    bench.outbox.deliver_round().await;
    assert!(bench.outbox.queue.pending(&account, None, 10).expect("reads").is_empty());
}
