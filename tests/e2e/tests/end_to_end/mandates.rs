//! Mandates that come without a shard: newer ones end older ones, and show that they did.

use std::time::Duration;

use fincrypt_protocol::shard::{ListShards, RenewMandate};
use fincrypt_protocol::{Refusal, UnixTime};

use crate::hostile::{payload, stage_with};

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_mandate_ends_an_older_one_and_is_shown_to_its_holder() {
    let stage = stage_with(1 << 30, Duration::from_secs(3600)).await;
    let other = stage.stranger().await;
    let until = UnixTime::now().plus(Duration::from_secs(3600));
    let mandate = |mediator, sequence| RenewMandate {
        registration: stage.registration(),
        mandate: stage.mandate_of(mediator, sequence, until, 1 << 40),
    };
    let now = UnixTime::now().secs();
    let newer = mandate(other.own(), now);
    assert_eq!(stage.ask(&other, newer.clone()).await, Err(Refusal::NotHeld), "nothing is held yet");
    stage.put(stage.placement(1), payload(1)).await.expect("taken");

    let stranger = stage.stranger().await;
    assert_eq!(stage.ask(&stranger, newer.clone()).await, Err(Refusal::NotMandated), "brought by a stranger");
    let far = mandate(other.own(), now + 2 * 24 * 3600);
    assert_eq!(stage.ask(&other, far).await, Err(Refusal::Invalid), "too far ahead of the clock");
    stage.put(stage.placement(2), payload(2)).await.expect("the first mandate still holds");

    let newest = stage.ask(&other, newer).await.expect("it is taken");
    assert_eq!(stage.put(stage.placement(3), payload(3)).await, Err(Refusal::NotMandated));
    let list = ListShards { account: stage.account().account(), after: None };
    assert_eq!(stage.ask(&stage.mediator, list.clone()).await, Err(Refusal::NotMandated));
    assert!(matches!(stage.ask(&other, list).await, Ok(page) if page.shards.len() == 2));
    let older = mandate(stage.mediator.own(), 1);
    assert_eq!(stage.ask(&stage.mediator, older).await, Ok(newest), "who has it now");
}
