//! Payouts: prepared once, sent again and again, until one of their versions is buried.

use std::collections::BTreeSet;

use bdk_wallet::SignOptions;
use bdk_wallet::error::CreateTxError;
use bitcoin::consensus::encode::serialize;
use bitcoin::hashes::Hash;
use bitcoin::{Amount, FeeRate, OutPoint, Psbt, ScriptBuf, Txid};
use fincrypt_protocol::amount::Sat;
use fincrypt_protocol::{PayoutId, TxId};
use serde_bytes::ByteBuf;

use super::address::address;
use super::answer::Sent;
use super::error::{TreasuryError, failed};
use super::record::{Output, Record, Version};
use super::state::Inner;
use super::transaction::{confirmations, txid};
use super::versions::{Prepared, Signed};
use super::wallet::Treasury;

/// Blocks on a version, or on another spender of its inputs, from which on nothing changes any more.
const BURIED: u32 = 144;
/// Blocks on another spender of its inputs from which on a payout counts as dead.
const DEAD: u32 = 6;

/// A payout that is not buried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingPayout {
    /// Which.
    pub payout: PayoutId,
    /// What its recipients get in all.
    pub outputs: Sat,
    /// Its transactions, oldest first.
    pub versions: Vec<Prepared>,
}

/// How a payout stands in the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StandsOnChain {
    /// No version is in the chain.
    Waiting {
        /// The newest version.
        newest: Prepared,
        /// Blocks since that was made.
        blocks: u32,
    },
    /// A version is.
    Mined {
        /// Which.
        version: Prepared,
        /// Blocks on it, its own included.
        confirmations: u32,
    },
    /// Another transaction has spent its inputs, six blocks deep: it cannot arrive.
    Dead,
}

/// What a transaction costs.
#[derive(Clone, Copy)]
enum Fee {
    Rate(FeeRate),
    Exactly(Sat),
}

impl Inner {
    /// Builds a transaction over confirmed coins that no payout uses, or over those of `replaced`.
    fn build(
        &mut self,
        recipients: &[(ScriptBuf, Amount)],
        fee: Fee,
        replaced: Option<&[OutPoint]>,
    ) -> Result<Psbt, TreasuryError> {
        let taken: Vec<OutPoint> =
            self.payouts.inputs().filter(|coin| replaced.is_none_or(|own| !own.contains(coin))).collect();
        let mut builder = self.wallet.build_tx();
        builder.set_recipients(recipients.to_vec()).unspendable(taken).exclude_unconfirmed();
        match fee {
            Fee::Rate(rate) => builder.fee_rate(rate),
            Fee::Exactly(fee) => builder.fee_absolute(Amount::from_sat(fee.get())),
        };
        if let Some(own) = replaced {
            builder.add_utxos(own).map_err(|error| TreasuryError::Insufficient(error.to_string()))?;
        }
        builder.finish().map_err(|error| match error {
            CreateTxError::CoinSelection(short) => TreasuryError::Insufficient(short.to_string()),
            CreateTxError::OutputBelowDustLimit(at) => {
                let sat = recipients.get(at).map_or(0, |(_, amount)| amount.to_sat());
                TreasuryError::Dust(Sat::new(sat))
            }
            other => failed(&other),
        })
    }

    /// Signs a transaction and makes it durable as a version of a payout. From now on its inputs are
    /// spent by nothing else.
    fn commit(
        &mut self,
        payout: PayoutId,
        outputs: Vec<Output>,
        mut psbt: Psbt,
    ) -> Result<Prepared, TreasuryError> {
        let fee = psbt.fee().map_err(|error| failed(&error))?;
        let signed = self.wallet.sign(&mut psbt, SignOptions::default()).map_err(|error| failed(&error))?;
        if !signed {
            return Err(failed(&"a coin could not be signed for"));
        }
        let transaction = psbt.extract_tx().map_err(|error| failed(&error))?;
        // The address of its change, before anything can come to it.
        self.save()?;
        let (raw, height) =
            (ByteBuf::from(serialize(&transaction)), self.wallet.latest_checkpoint().height());
        let record = Version { payout, outputs, fee: Sat::new(fee.to_sat()), raw, height };
        self.record(&Record::Version(record.clone()))?;
        let version = Signed { record, transaction };
        let prepared = version.prepared();
        self.payouts.0.entry(payout).or_default().push(version);
        Ok(prepared)
    }

    fn stands(&self, payout: PayoutId) -> Option<StandsOnChain> {
        let versions = self.payouts.0.get(&payout)?;
        let tip = self.wallet.latest_checkpoint().height();
        let mut ours = BTreeSet::new();
        for version in versions {
            let id = version.transaction.compute_txid();
            ours.insert(id);
            if let Some(known) = self.wallet.get_tx(id) {
                let confirmations = confirmations(&known.chain_position, tip);
                if confirmations > 0 {
                    return Some(StandsOnChain::Mined { version: version.prepared(), confirmations });
                }
            }
        }
        // A transaction of somebody else's can spend a coin of ours only if it has our words.
        let graph = self.wallet.tx_graph();
        let inputs = versions.iter().flat_map(|version| &version.transaction.input);
        let spenders = inputs.flat_map(|input| graph.outspends(input.previous_output));
        let deep = |id| {
            let known = self.wallet.get_tx(id);
            known.is_some_and(|known| confirmations(&known.chain_position, tip) >= DEAD)
        };
        if spenders.copied().any(|id| !ours.contains(&id) && deep(id)) {
            return Some(StandsOnChain::Dead);
        }
        let newest = versions.last()?;
        let blocks = tip.saturating_sub(newest.record.height);
        Some(StandsOnChain::Waiting { newest: newest.prepared(), blocks })
    }

    /// Payouts that nothing can change any more.
    fn deep(&self) -> Vec<PayoutId> {
        let deep =
            |stands| matches!(stands, StandsOnChain::Mined { confirmations, .. } if confirmations >= BURIED);
        self.payouts.0.keys().copied().filter(|payout| self.stands(*payout).is_some_and(deep)).collect()
    }
}

impl Treasury {
    fn recipients(&self, outputs: &[Output]) -> Result<Vec<(ScriptBuf, Amount)>, TreasuryError> {
        let recipient = |output: &Output| {
            let script = address(&output.address, self.network())?.script_pubkey();
            let amount = Amount::from_sat(output.amount.get());
            if amount < script.minimal_non_dust() {
                return Err(TreasuryError::Dust(output.amount));
            }
            Ok((script, amount))
        };
        outputs.iter().map(recipient).collect()
    }

    /// What it would cost to pay these outputs, to be in one of the next `blocks` blocks.
    ///
    /// # Errors
    /// [`TreasuryError`]: it could not be paid now.
    pub fn quote(&self, outputs: &[Output], blocks: u16) -> Result<Sat, TreasuryError> {
        let rate = self.chain.fee_rate(blocks)?;
        let recipients = self.recipients(outputs)?;
        let mut inner = self.lock();
        let psbt = inner.build(&recipients, Fee::Rate(rate), None)?;
        // Its change goes nowhere: the address is free again.
        inner.wallet.cancel_tx(&psbt.unsigned_tx);
        psbt.fee().map(|fee| Sat::new(fee.to_sat())).map_err(|error| failed(&error))
    }

    /// Builds and signs a payout that costs exactly `fee`: durable before this returns, and not sent.
    /// The same payout again gives the same transaction.
    ///
    /// # Errors
    /// [`TreasuryError`]: nothing was signed.
    pub fn prepare(&self, payout: PayoutId, outputs: &[Output], fee: Sat) -> Result<Prepared, TreasuryError> {
        let recipients = self.recipients(outputs)?;
        let mut inner = self.lock();
        if let Some(known) = inner.payouts.newest(payout) {
            let same = known.record.outputs == outputs;
            return if same { Ok(known.prepared()) } else { Err(TreasuryError::Differs(payout)) };
        }
        let psbt = inner.build(&recipients, Fee::Exactly(fee), None)?;
        inner.commit(payout, outputs.to_vec(), psbt)
    }

    /// What a replacement of a payout would have to cost to be in one of the next `blocks` blocks; none
    /// if what is offered is enough.
    ///
    /// # Errors
    /// [`TreasuryError::Unknown`], or if the chain's source does not answer.
    pub fn better_fee(&self, payout: PayoutId, blocks: u16) -> Result<Option<Sat>, TreasuryError> {
        let rate = self.chain.fee_rate(blocks)?;
        let inner = self.lock();
        let newest = inner.payouts.newest(payout).ok_or(TreasuryError::Unknown(payout))?;
        let wanted = rate.fee_vb(newest.transaction.vsize() as u64).map_or(u64::MAX, Amount::to_sat);
        let enough = wanted <= newest.record.fee.get();
        Ok((!enough).then(|| Sat::new(wanted).max(newest.least_replacement())))
    }

    /// Prepares another version of a payout, which pays the same, spends the same inputs and costs
    /// `fee`: durable before this returns, and not sent.
    ///
    /// # Errors
    /// [`TreasuryError::Fee`] if that is less than a replacement has to cost; any other if no other
    /// version was signed.
    pub fn replace(&self, payout: PayoutId, fee: Sat) -> Result<Prepared, TreasuryError> {
        let mut inner = self.lock();
        let known = inner.payouts.newest(payout).ok_or(TreasuryError::Unknown(payout))?;
        let least = known.least_replacement();
        if fee < least {
            return Err(TreasuryError::Fee { fee, least });
        }
        let outputs = known.record.outputs.clone();
        let own: Vec<OutPoint> = known.transaction.input.iter().map(|input| input.previous_output).collect();
        let recipients = self.recipients(&outputs)?;
        let psbt = inner.build(&recipients, Fee::Exactly(fee), Some(&own))?;
        inner.commit(payout, outputs, psbt)
    }

    /// Sends the newest version, which may be done again and again.
    ///
    /// # Errors
    /// [`TreasuryError::Rejected`] if the network refuses it, or bitcoind does not answer.
    pub fn send(&self, payout: PayoutId) -> Result<TxId, TreasuryError> {
        let transaction = {
            let inner = self.lock();
            let newest = inner.payouts.newest(payout).ok_or(TreasuryError::Unknown(payout))?;
            newest.transaction.clone()
        };
        match self.chain.send(&transaction)? {
            Sent::Known => Ok(txid(transaction.compute_txid())),
            Sent::Refused(reason) => Err(TreasuryError::Rejected { payout, reason }),
        }
    }

    /// Forgets what is a day deep in the chain. `over` says whether the books need nothing more of a payout:
    /// one that they wait for is never forgotten, however deep it is. The wallet is not locked while `over`
    /// is asked: it may take the lock of the books, whose holder may wait for the wallet.
    ///
    /// # Errors
    /// If the journal fails.
    pub fn bury(&self, over: impl Fn(PayoutId) -> bool) -> Result<(), TreasuryError> {
        let deep = self.lock().deep();
        for payout in deep.into_iter().filter(|payout| over(*payout)) {
            let mut inner = self.lock();
            inner.record(&Record::Buried(payout))?;
            inner.payouts.bury(payout);
        }
        Ok(())
    }

    /// A transaction that the chain has and that spent coins of ours, whether or not it is known what for:
    /// it, and how many blocks are on it.
    #[must_use]
    pub fn sent(&self, transaction: TxId) -> Option<(Prepared, u32)> {
        let inner = self.lock();
        let mut bytes = *transaction.as_bytes();
        bytes.reverse();
        let known = inner.wallet.get_tx(Txid::from_byte_array(bytes))?;
        let fee = inner.wallet.calculate_fee(&known.tx_node.tx).ok()?;
        let blocks = confirmations(&known.chain_position, inner.wallet.latest_checkpoint().height());
        Some((Prepared { transaction, fee: Sat::new(fee.to_sat()) }, blocks)).filter(|_| blocks > 0)
    }

    /// All payouts that are not buried.
    #[must_use]
    pub fn pending(&self) -> Vec<PendingPayout> {
        let inner = self.lock();
        let pending = |(payout, versions): (&PayoutId, &Vec<Signed>)| PendingPayout {
            payout: *payout,
            outputs: versions.first().map_or(Sat::ZERO, |first| {
                Sat::new(first.record.outputs.iter().map(|output| output.amount.get()).sum())
            }),
            versions: versions.iter().map(Signed::prepared).collect(),
        };
        inner.payouts.0.iter().map(pending).collect()
    }

    /// How a payout stands; none if it was never prepared, or is buried.
    #[must_use]
    pub fn stands(&self, payout: PayoutId) -> Option<StandsOnChain> {
        self.lock().stands(payout)
    }

    /// Everything that a payout's transactions could be, oldest first.
    #[must_use]
    pub fn versions(&self, payout: PayoutId) -> Vec<Prepared> {
        let inner = self.lock();
        inner.payouts.0.get(&payout).into_iter().flatten().map(Signed::prepared).collect()
    }
}
