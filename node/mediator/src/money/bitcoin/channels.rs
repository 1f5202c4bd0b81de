//! What Lightning channels can bear is what is paid over them, the rest later. Storage nodes that run a
//! Lightning node of their own get a channel once enough is owed to be worth one.

use fincrypt_ledger::LedgerError;
use fincrypt_protocol::amount::Msat;
use fincrypt_treasury::lightning::{Destination, Lightning, LightningError, Peer};

use super::due::Due;
use super::due::after_failures;
use super::payout_intents::PayoutIntents;

/// A channel holds so many times what was owed when it was opened, and so many satoshi at least. Of a
/// channel, a tenth may be under way at once.
const TIMES: u64 = 12;
const LEAST_SAT: u64 = 100_000;
/// A payment that is not worth less than this is made in several.
const LEAST_PAYMENT: Msat = Msat::new(1_000_000);

impl PayoutIntents {
    /// Decides to pay a node by whatever route, as much as our channels and what was tried before
    /// allow. Blocks.
    pub(super) fn intend_over_routes(&self, due: Due, to: &Destination) -> Result<(), LedgerError> {
        let Some(lightning) = self.wallets.lightning() else { return Ok(()) };
        let usable = lightning.channels().into_iter().filter(|channel| channel.usable);
        let bearable = usable.fold(0_u64, |sum, channel| sum.saturating_add(channel.can_send_once.get()));
        let most = after_failures(due.total, self.failures.tries(&due.node), LEAST_PAYMENT);
        let most = most.min(Msat::new(bearable));
        if most < due.total.min(LEAST_PAYMENT) {
            let bearable = Msat::new(bearable);
            self.failures.record(
                &due.node,
                &format!("our Lightning channels can bear {bearable} now: a peer is away, or `wallet open` opens another"),
            );
            return Ok(());
        }
        self.intend_payment(&due.at_most(most), to, false)
    }

    /// Decides to pay a node over a channel of ours, or opens one. Blocks.
    pub(super) fn intend_over_channel(&self, due: &Due, peer: &Peer) -> Result<(), LedgerError> {
        let Some(lightning) = self.wallets.lightning() else { return Ok(()) };
        let ours: Vec<_> =
            lightning.channels().into_iter().filter(|channel| channel.peer == peer.id()).collect();
        let once = ours.iter().filter(|channel| channel.usable).map(|channel| channel.can_send_once).max();
        if let Some(once) = once.filter(|once| *once >= due.total.min(LEAST_PAYMENT)) {
            return match peer.id().parse() {
                Ok(node) => self.intend_payment(&due.clone().at_most(once), &node, true),
                Err(_) => Ok(()),
            };
        }
        if ours.iter().any(|channel| !channel.usable) {
            self.failures
                .record(&due.node, "the channel to its Lightning node is not ready, or the node is away");
        } else if due.total < self.terms.channel_from {
            let from = self.terms.channel_from;
            self.failures.record(
                &due.node,
                &format!("a channel to its Lightning node is opened once {from} are owed"),
            );
        } else if let Err(error) = open(&lightning, peer, due.total) {
            self.failures.record(&due.node, &error.to_string());
        }
        Ok(())
    }
}

fn open(lightning: &Lightning, peer: &Peer, owed: Msat) -> Result<(), LightningError> {
    let value = (owed.get() / 1000).saturating_mul(TIMES).max(LEAST_SAT);
    lightning.open_channel(peer, value, Msat::ZERO, false)?;
    tracing::info!(peer = peer.id(), value, "channel_to_storage_node_opened");
    Ok(())
}
