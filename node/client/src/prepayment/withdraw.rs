//! Paying out. What is asked for is drawn and remembered before the mediator hears of it, so that the
//! same command after a crash, or typed twice, withdraws once.
//!
//! Tree `prepayment_withdrawals`: its id → CBOR of [`Asked`].

use super::client::PrepaymentClient;
use super::error::PrepaymentError;
use fincrypt_protocol::amount::Msat;
use fincrypt_protocol::limits::MAX_DESTINATION;
use fincrypt_protocol::money::{Payout, PayoutState, Sending, Withdrawal};
use fincrypt_protocol::{NodeId, PayoutId, RecordError, UnixTime, cbor};
use fincrypt_state::kv::{Batch, KeyValue, Tree};
use fincrypt_state::state::State;
use serde::{Deserialize, Serialize};

use crate::error::ClientError;
use crate::home::HomeError;
use crate::session::with_vault;
use crate::vault::Vault;

const WITHDRAWALS: Tree = Tree("prepayment_withdrawals");
/// The most bytes of one: where it goes, and how it stands.
const MAX_ASKED: usize = MAX_DESTINATION + 2048;

/// What to pay out, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WithdrawOptions {
    /// An address, an offer, an invoice or a Lightning node.
    pub to: String,
    /// How much leaves the prepayment; all of it if none is said.
    pub amount: Option<Msat>,
    /// Whether this is another one, even if the same was asked for before.
    pub another: bool,
}

/// How a withdrawal stands.
#[derive(Debug, Serialize)]
pub struct WithdrawReport {
    /// Which it is, as in the history.
    pub payout: String,
    /// Where it goes.
    pub to: String,
    /// How much was asked for, in msat; none for all.
    pub amount_msat: Option<u64>,
    /// When it was asked for first, in seconds since 1970.
    pub asked: u64,
    /// Whether it had been asked for before.
    pub repeated: bool,
    /// `on_the_way`, `arrived` or `failed`.
    pub state: &'static str,
    /// The transaction's id, or the payment's hash.
    pub sending: Option<String>,
    /// What arrives, in msat.
    pub arrives_msat: u64,
}

/// A withdrawal that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Asked {
    mediator: NodeId,
    to: String,
    amount: Option<Msat>,
    time: UnixTime,
}

/// The withdrawal that is meant: the newest of those that were asked for alike, or a new one. It is
/// durable when this returns.
fn remembered(
    state: &State,
    mediator: NodeId,
    options: &WithdrawOptions,
    now: UnixTime,
) -> Result<(PayoutId, Asked, bool), ClientError> {
    if !options.another {
        let all = state.scan(WITHDRAWALS, &[], None, usize::MAX)?;
        let read = |(key, value): (Vec<u8>, Vec<u8>)| {
            let id = PayoutId::from_bytes(key.try_into().ok()?);
            Some((id, cbor::decode::<Asked>(&value, MAX_ASKED).ok()?))
        };
        let alike = |(_, asked): &(_, Asked)| {
            (asked.mediator, asked.amount) == (mediator, options.amount) && asked.to == options.to
        };
        let known =
            all.into_iter().filter_map(read).filter(alike).max_by_key(|(id, asked)| (asked.time, *id));
        if let Some((id, asked)) = known {
            return Ok((id, asked, true));
        }
    }
    let mut id = [0; 16];
    getrandom::fill(&mut id).map_err(HomeError::Randomness)?;
    let asked = Asked { mediator, to: options.to.clone(), amount: options.amount, time: now };
    let mut batch = Batch::default();
    batch.put(WITHDRAWALS, id, cbor::encode(&asked).map_err(RecordError::from)?);
    state.commit(&batch)?;
    Ok((PayoutId::from_bytes(id), asked, false))
}

pub(crate) fn shown_sending(sending: Sending) -> String {
    match sending {
        Sending::Transaction(id) => id.to_string(),
        Sending::Payment(hash) => hash.to_string(),
    }
}

/// Pays out of the prepayment, or tells how an earlier withdrawal of the same stands.
///
/// # Errors
/// [`ClientError`] if the mediator does not answer or refuses.
pub async fn withdraw(vault: &Vault, options: &WithdrawOptions) -> Result<WithdrawReport, ClientError> {
    if options.to.len() > MAX_DESTINATION {
        return Err(PrepaymentError::Destination.into());
    }
    with_vault(vault, async |session| {
        let mediator = session.mediator(vault).await?;
        let (id, asked, repeated) = remembered(&vault.state, mediator.node(), options, UnixTime::now())?;
        let withdrawal = Withdrawal { id, to: asked.to.clone(), amount: asked.amount };
        let Payout { id: payout, state, sending, arrives, .. } =
            PrepaymentClient(&mediator).withdraw(withdrawal).await?;
        Ok(WithdrawReport {
            payout: payout.to_string(),
            to: asked.to,
            amount_msat: asked.amount.map(Msat::get),
            asked: asked.time.secs(),
            repeated,
            state: match state {
                PayoutState::OnTheWay => "on_the_way",
                PayoutState::Arrived => "arrived",
                PayoutState::Failed => "failed",
            },
            sending: sending.map(shown_sending),
            arrives_msat: arrives.get(),
        })
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_command_is_the_same_withdrawal_until_another_is_asked_for() {
        let dir = tempfile::tempdir().expect("a folder");
        let open = || State::open(dir.path()).expect("opens").0;
        let mediator = NodeId::from_bytes([1; 32]);
        let options = |to: &str, amount: Option<u64>, another| WithdrawOptions {
            to: to.to_owned(),
            amount: amount.map(Msat::new),
            another,
        };
        let at = UnixTime::from_secs;
        let ask = |state: &State, options: WithdrawOptions, time| {
            let (id, _, repeated) = remembered(state, mediator, &options, at(time)).expect("remembered");
            (id, repeated)
        };
        let state = open();
        let (first, repeated) = ask(&state, options("bc1", Some(5), false), 1);
        assert!(!repeated);
        // The machine goes down before the mediator answers.
        state.close();
        drop(state);
        let state = open();
        assert_eq!(ask(&state, options("bc1", Some(5), false), 2), (first, true));
        let others =
            [options("bc1", Some(6), false), options("bc1", None, false), options("lno1", Some(5), false)];
        for other in others {
            let (id, repeated) = ask(&state, other, 3);
            assert!(!repeated && id != first);
        }
        let elsewhere =
            remembered(&state, NodeId::from_bytes([2; 32]), &options("bc1", Some(5), false), at(3));
        assert!(!elsewhere.expect("remembered").2);
        let (second, repeated) = ask(&state, options("bc1", Some(5), true), 4);
        assert!(!repeated && second != first);
        assert_eq!(ask(&state, options("bc1", Some(5), false), 5), (second, true), "the newest is meant");
    }
}
