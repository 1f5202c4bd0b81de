//! The best chain and the mempool of a bitcoind, by block, transaction, script and output.
//!
//! bitcoind itself finds a transaction only by its block. The whole chain is kept in memory: chains of tests
//! have some hundred blocks.

use std::collections::{BTreeMap, HashMap, HashSet};

use bdk_bitcoind_rpc::bitcoincore_rpc::bitcoin::hashes::{Hash, sha256};
use bdk_bitcoind_rpc::bitcoincore_rpc::bitcoin::{BlockHash, OutPoint, Transaction, TxOut, Txid};
use bdk_bitcoind_rpc::bitcoincore_rpc::{Client, RpcApi};

use super::error::EsploraError;
use super::source::{self, Header};

/// Looks at a chain that changes meanwhile, before giving up: nobody mines so fast for so long.
const LOOKS: usize = 20;

/// Where a transaction is. What is newer is greater: the chain by height, then the mempool by arrival here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    /// In a block of the best chain.
    Chain {
        /// The block's height.
        height: usize,
        /// Transactions before it in the block.
        position: usize,
    },
    /// In the mempool.
    Mempool {
        /// Transactions that were seen there before.
        arrival: u64,
    },
}

/// A transaction and what it spends.
#[derive(Debug)]
pub(super) struct Tx {
    pub(super) txid: Txid,
    pub(super) transaction: Transaction,
    /// For each input, the output that it spends; a coinbase spends none.
    pub(super) spent: Vec<Option<TxOut>>,
    pub(super) place: Place,
}

/// A block of the best chain.
#[derive(Debug)]
pub(super) struct Block {
    pub(super) header: Header,
    pub(super) txids: Vec<Txid>,
}

/// All of it, as of the last [`Index::update`].
#[derive(Debug, Default)]
pub(super) struct Index {
    /// By height.
    chain: Vec<Block>,
    heights: HashMap<BlockHash, usize>,
    txs: HashMap<Txid, Tx>,
    histories: HashMap<sha256::Hash, BTreeMap<Place, Txid>>,
    /// Who spends an output, with which input.
    spenders: HashMap<OutPoint, (Txid, usize)>,
    arrivals: u64,
}

impl Tx {
    /// Hashes of the scripts that it pays to and spends from.
    fn scripts(&self) -> HashSet<sha256::Hash> {
        let outputs = self.transaction.output.iter().chain(self.spent.iter().flatten());
        outputs.map(|output| sha256::Hash::hash(output.script_pubkey.as_bytes())).collect()
    }

    /// The outputs that it spends, and with which input.
    fn spends(&self) -> impl Iterator<Item = (OutPoint, usize)> {
        let inputs = self.transaction.input.iter().enumerate();
        let coinbase = self.transaction.is_coinbase();
        inputs.filter(move |_| !coinbase).map(|(number, input)| (input.previous_output, number))
    }
}

impl Index {
    /// Makes it what bitcoind has now. After an error it may be in between, and is to be updated again.
    ///
    /// # Errors
    /// If bitcoind does not answer, or never holds still.
    pub(super) fn update(&mut self, client: &Client) -> Result<(), EsploraError> {
        for _ in 0..LOOKS {
            let best = client.get_best_block_hash()?;
            self.follow_chain(client, best)?;
            let whole = self.follow_mempool(client)?;
            // Had a block come since, its transactions would be neither here nor there.
            if whole && client.get_best_block_hash()? == best {
                return Ok(());
            }
        }
        Err(EsploraError::Restless)
    }

    fn follow_chain(&mut self, client: &Client, best: BlockHash) -> Result<(), EsploraError> {
        let mut missing = Vec::new();
        let mut next = Some(best);
        let shared = loop {
            let Some(hash) = next else { break 0 };
            if let Some(height) = self.heights.get(&hash) {
                break height + 1;
            }
            let block = source::block(client, &hash)?;
            next = block.header.previous;
            missing.push(block);
        };
        while self.chain.len() > shared {
            self.disconnect();
        }
        for block in missing.into_iter().rev() {
            self.connect(block);
        }
        Ok(())
    }

    fn disconnect(&mut self) {
        let Some(block) = self.chain.pop() else { return };
        self.heights.remove(&block.header.hash);
        for txid in &block.txids {
            self.remove(txid);
        }
    }

    fn connect(&mut self, block: source::Block) {
        let height = self.chain.len();
        let mut txids = Vec::with_capacity(block.transactions.len());
        for (position, confirmed) in block.transactions.into_iter().enumerate() {
            let spent = confirmed.spent();
            let txid = self.insert(confirmed.transaction, spent, Place::Chain { height, position });
            txids.push(txid);
        }
        self.heights.insert(block.header.hash, height);
        self.chain.push(Block { header: block.header, txids });
    }

    /// Whether it got all of it: what leaves or comes during the look is missed.
    fn follow_mempool(&mut self, client: &Client) -> Result<bool, EsploraError> {
        let pool = client.get_raw_mempool()?;
        let present: HashSet<&Txid> = pool.iter().collect();
        let unconfirmed = self.txs.values().filter(|tx| matches!(tx.place, Place::Mempool { .. }));
        let gone: Vec<Txid> = unconfirmed.map(|tx| tx.txid).filter(|txid| !present.contains(txid)).collect();
        for txid in &gone {
            self.remove(txid);
        }
        let mut waiting = Vec::new();
        for txid in pool.iter().filter(|txid| !self.txs.contains_key(*txid)) {
            let Some(transaction) = source::unconfirmed(client, txid)? else { return Ok(false) };
            waiting.push(transaction);
        }
        // Parents first: a child is told with the outputs that it spends.
        while !waiting.is_empty() {
            let before = waiting.len();
            let mut orphans = Vec::new();
            for transaction in waiting {
                let spent =
                    transaction.input.iter().map(|input| self.output(&input.previous_output).cloned());
                match spent.collect::<Option<Vec<TxOut>>>() {
                    Some(spent) => {
                        let place = Place::Mempool { arrival: self.arrivals };
                        self.arrivals += 1;
                        self.insert(transaction, spent.into_iter().map(Some).collect(), place);
                    }
                    None => orphans.push(transaction),
                }
            }
            if orphans.len() == before {
                return Ok(false);
            }
            waiting = orphans;
        }
        Ok(true)
    }

    fn insert(&mut self, transaction: Transaction, spent: Vec<Option<TxOut>>, place: Place) -> Txid {
        let txid = transaction.compute_txid();
        // What is in a block now was in the mempool before.
        self.remove(&txid);
        let tx = Tx { txid, transaction, spent, place };
        for script in tx.scripts() {
            self.histories.entry(script).or_default().insert(place, txid);
        }
        self.spenders.extend(tx.spends().map(|(output, input)| (output, (txid, input))));
        self.txs.insert(txid, tx);
        txid
    }

    fn remove(&mut self, txid: &Txid) {
        let Some(tx) = self.txs.remove(txid) else { return };
        for script in tx.scripts() {
            if let Some(history) = self.histories.get_mut(&script) {
                history.remove(&tx.place);
            }
        }
        for (output, _) in tx.spends() {
            // A block may have brought another spender before the mempool lost this one.
            if self.spenders.get(&output).is_some_and(|(spender, _)| spender == txid) {
                self.spenders.remove(&output);
            }
        }
    }

    /// The newest block; none only before the first update.
    pub(super) fn tip(&self) -> Option<&Block> {
        self.chain.last()
    }

    pub(super) fn block_at(&self, height: usize) -> Option<&Block> {
        self.chain.get(height)
    }

    /// A block of the best chain.
    pub(super) fn block(&self, hash: &BlockHash) -> Option<&Block> {
        self.heights.get(hash).and_then(|height| self.block_at(*height))
    }

    /// So many blocks at and below a height, the newest first.
    pub(super) fn blocks_to(&self, height: usize, count: usize) -> impl Iterator<Item = &Block> {
        self.chain.iter().take(height.saturating_add(1)).rev().take(count)
    }

    pub(super) fn tx(&self, txid: &Txid) -> Option<&Tx> {
        self.txs.get(txid)
    }

    fn output(&self, output: &OutPoint) -> Option<&TxOut> {
        self.tx(&output.txid)?.transaction.output.get(usize::try_from(output.vout).ok()?)
    }

    /// Who spends an output, and with which input.
    pub(super) fn spender(&self, output: &OutPoint) -> Option<(&Tx, usize)> {
        let (txid, input) = self.spenders.get(output)?;
        Some((self.tx(txid)?, *input))
    }

    /// What pays to a script or spends from it, the newest first.
    pub(super) fn history(&self, script: &sha256::Hash) -> impl Iterator<Item = &Tx> {
        let history = self.histories.get(script).into_iter().flat_map(|history| history.values().rev());
        history.filter_map(|txid| self.tx(txid))
    }
}
