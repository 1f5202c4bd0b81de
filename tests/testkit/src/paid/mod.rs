//! Storage earns real satoshis, on a chain of its own. A bitcoind, a client that pays in, ten
//! storage nodes of which two cheat, operators who are paid over Lightning and on the chain.

mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::path::Path;
use std::time::{Duration, Instant};

use fincrypt_protocol::money::Arrival;
use fincrypt_treasury::onchain::Arrived;
use serde_json::{Value, json};

use crate::bitcoind::Bitcoind;
use crate::client::Client;
use crate::process::wait_until;
use crate::programs::Programs;
use crate::random::SeededRandom;
use crate::scratch::Scratch;
use crate::swarm::{Member, Swarm, SwarmPlan, chain_settings};
use crate::tree::{TreePlan, generate};
use crate::wallets::{ChainWallet, LightningWallet};

pub use table::Table;
use table::{Node, Received, paid_to};

type Outcomes<T> = Result<T, Box<dyn Error>>;

const STORAGE: usize = 10;
const MEDIATOR: Member = Member::Mediator(0);
/// Has a Lightning node inside; its operator runs nothing else.
const OWN_NODE: usize = 0;
/// Paid on the chain.
const ON_CHAIN: [usize; 2] = [6, 7];
/// Lose what they store, and say nothing.
const CHEATERS: [usize; 2] = [8, 9];
const EPOCH_SECONDS: u64 = 3;
/// Epochs from the backup to the table.
const EPOCHS: u64 = 10;
/// Of these, before two nodes cheat.
const HONEST_EPOCHS: u64 = 3;
/// Satoshi per GiB-month, so that some megabytes earn thousands of satoshi in seconds.
const PRICE: &str = "10000000000000";
/// Satoshi that the client pays in.
const DEPOSIT: u64 = 5_000_000;
/// Less than this is not paid, in msat: the threshold, and on the chain, where a transaction costs 141 sat,
/// what 2.5 % of comes to that.
const LEAST_MSAT: u64 = 1_000_000;
const LEAST_ON_CHAIN_MSAT: u64 = 6_000_000;
/// Blocks on a payout from which on it has arrived.
const SETTLED: u32 = 6;
/// Between looks at something that goes on.
const LOOK: Duration = Duration::from_millis(200);
/// How long a step may take.
const PATIENCE: Duration = Duration::from_secs(120);

fn say(line: &str) {
    eprintln!("{line}");
}

struct Stage {
    // Fields are dropped in this order: processes first, then their folder.
    swarm: Swarm,
    owner: Client,
    operator: LightningWallet,
    savers: Vec<ChainWallet>,
    payer: ChainWallet,
    bitcoind: Bitcoind,
    mined: Instant,
    _scratch: Scratch,
}

/// Plays everything; the closing table.
///
/// # Errors
/// If a step does not work. What is not as it should be in the end is in the table.
pub fn play_paid(programs: &Programs) -> Outcomes<Table> {
    let scratch = Scratch::new("paid")?;
    let source = scratch.path().join("folder");
    let seed = SeededRandom::any_seed();
    say(&format!("making a folder of some megabytes (seed {seed})"));
    generate(&source, &TreePlan::TEST, seed)?;
    say("starting bitcoind on a chain of its own, and wallets of two operators and a client");
    let bitcoind = Bitcoind::start(&scratch.path().join("bitcoind"))?;
    bitcoind.mine(1)?;
    let operator = LightningWallet::open(&bitcoind, scratch.path(), "operator", 2, Vec::new())?;
    let saver = |at: &usize| ChainWallet::open(&bitcoind, scratch.path(), 10 + *at as u8);
    let savers = ON_CHAIN.iter().map(saver).collect::<Result<Vec<_>, _>>()?;
    let payer = ChainWallet::open(&bitcoind, scratch.path(), 3)?;
    payer.endow(&bitcoind)?;
    say(&format!("starting 1 bootstrap, 1 mediator and {STORAGE} storage nodes"));
    let swarm = Swarm::start(plan(programs, scratch.path(), &bitcoind))?;
    let owner = Client::new(programs.clone(), swarm.bootstrap(), scratch.path().join("owner"));
    let mined = Instant::now();
    let mut stage = Stage { swarm, owner, operator, savers, payer, bitcoind, mined, _scratch: scratch };
    stage.endow()?;
    stage.name_destinations()?;
    stage.pay_in(&source)?;
    let begun = stage.epoch()?;
    say(&format!("backed up in epoch {begun}; {HONEST_EPOCHS} epochs of {EPOCH_SECONDS} s pass"));
    stage.wait_for(begun + HONEST_EPOCHS)?;
    let (last, before) = stage.cheat()?;
    stage.wait_for(begun + EPOCHS)?;
    let mut table = stage.close(before)?;
    for at in CHEATERS {
        let earned = stage.storage(at)["earned"].take();
        let newest = earned.as_array().into_iter().flatten().filter_map(|one| one["epoch"].as_u64()).max();
        if newest.is_none_or(|newest| newest > last) {
            let name = Member::Storage(at);
            table.wrong.push(format!("{name} had nothing after epoch {last}, and was paid up to {newest:?}"));
        }
    }
    Ok(table)
}

fn plan(programs: &Programs, folder: &Path, bitcoind: &Bitcoind) -> SwarmPlan {
    let mut plan = SwarmPlan::new(programs.clone(), folder.join("swarm"));
    (plan.storage, plan.api, plan.epoch) = (STORAGE, true, Some(EPOCH_SECONDS));
    plan.settings = [
        ("price", PRICE),
        ("payout_interval", "0"),
        ("payout_threshold", "1000"),
        ("credit_bound", "20000"),
        ("credit_limit", "1000000"),
        ("fee_percent", "2.5"),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .to_vec();
    plan.with_bitcoind(bitcoind);
    let own = plan.of.entry(Member::Storage(OWN_NODE)).or_default();
    own.extend(chain_settings(bitcoind));
    own.push(("payout".to_owned(), "lightning".to_owned()));
    plan
}

impl Stage {
    fn wallet(&self) -> Value {
        self.swarm.ask(MEDIATOR, "/api/v1/wallet").unwrap_or_default()
    }

    fn storage(&self, at: usize) -> Value {
        let node = self.swarm.ask(Member::Storage(at), "/api/v1/node");
        node.map(|mut node| node["storage"].take()).unwrap_or_default()
    }

    fn epoch(&self) -> Outcomes<u64> {
        let node = self.swarm.ask(MEDIATOR, "/api/v1/node").ok_or("the mediator does not answer")?;
        node["mediator"]["epoch"].as_u64().ok_or_else(|| "the mediator tells no epoch".into())
    }

    /// Waits for something, a block a second meanwhile.
    fn until(&mut self, what: &str, mut done: impl FnMut(&Self) -> bool) -> Outcomes<()> {
        let begun = Instant::now();
        while !done(self) {
            if begun.elapsed() > PATIENCE {
                return Err(format!("{what}: not within {} s; {}", PATIENCE.as_secs(), self.wallet()).into());
            }
            if self.mined.elapsed() > Duration::from_secs(1) {
                self.bitcoind.mine(1)?;
                self.mined = Instant::now();
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    fn wait_for(&mut self, epoch: u64) -> Outcomes<()> {
        self.until("the epochs pass", |stage| stage.epoch().is_ok_and(|now| now >= epoch))
    }

    fn operate(&self, arguments: &[&str]) -> Outcomes<String> {
        let output = self.swarm.operate(MEDIATOR, arguments)?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
        }
        Err(String::from_utf8_lossy(&output.stderr).trim().to_owned().into())
    }

    fn run(&self, arguments: &[&str]) -> Outcomes<Value> {
        let outcome = self.owner.run(arguments)?;
        if outcome.code == Some(0) {
            return Ok(outcome.json());
        }
        Err(format!("`fincrypt {}`: {}", arguments.join(" "), outcome.stderr.trim_end()).into())
    }

    /// The mediator's own money: in its wallet, and in a channel.
    fn endow(&mut self) -> Outcomes<()> {
        say("the mediator's operator puts capital in, and opens a channel to an operator's own wallet");
        self.until("the Lightning node runs", |stage| stage.wallet()["lightning"]["node"].is_string())?;
        self.bitcoind.fund(&self.operate(&["wallet", "address"])?)?;
        self.until("capital is booked", |stage| stage.wallet()["capital_msat"].as_u64() > Some(0))?;
        self.operate(&["wallet", "fund", "8000000"])?;
        let peer = self.operator.peer.clone();
        self.until("a channel is opened", |stage| {
            stage.operate(&["wallet", "open", &peer, "4000000"]).is_ok()
        })?;
        self.until("the channel is ready", |stage| {
            let _ = stage.operator.node.sync();
            stage.wallet()["lightning"]["channels"][0]["usable"] == true
        })
    }

    /// Each storage operator says where it wants to be paid.
    fn name_destinations(&mut self) -> Outcomes<()> {
        let (_, offer) = self.operator.node.offer("what storage earns")?;
        let mut destinations: Vec<(usize, String)> = (1..STORAGE).map(|at| (at, offer.clone())).collect();
        for (at, saver) in ON_CHAIN.into_iter().zip(&self.savers) {
            destinations[at - 1].1 = saver.treasury.address(0)?;
        }
        for (at, to) in destinations {
            self.swarm.set(Member::Storage(at), "payout", &to);
            self.swarm.restart(Member::Storage(at))?;
        }
        Ok(())
    }

    /// The client pays in and backs up.
    fn pay_in(&mut self, source: &Path) -> Outcomes<()> {
        let source = source.to_str().ok_or("the folder's name is not UTF-8")?;
        let words = self._scratch.path().join("words");
        self.run(&["init", source, "--words-file", &words.to_string_lossy()])?;
        self.swarm.wait_eligible(&self.owner, STORAGE, PATIENCE)?;
        let to = self.run(&["prepayment", "deposit", &DEPOSIT.to_string()])?;
        say(&format!("the client pays in: {}", to["uri"].as_str().unwrap_or_default()));
        self.payer.pay(to["address"].as_str().ok_or("no address to pay in")?, DEPOSIT)?;
        self.until("the deposit counts", |stage| {
            stage
                .run(&["prepayment", "balance"])
                .is_ok_and(|balance| balance["prepaid_msat"] == DEPOSIT * 1000)
        })?;
        self.run(&["backup"]).map(drop)
    }

    /// Two nodes throw away what they store. The last epoch in which they may have passed an audit, and what
    /// each had earned by then.
    fn cheat(&mut self) -> Outcomes<(u64, Vec<u64>)> {
        let name = |at: usize| Member::Storage(at).to_string();
        say(&format!("{} and {} throw away what they store", name(CHEATERS[0]), name(CHEATERS[1])));
        for at in CHEATERS {
            let shards = self.swarm.home(Member::Storage(at)).join("shards");
            remove_files(&shards)?;
        }
        // Of this epoch an audit may have been passed, and be billed yet.
        let now = self.epoch()?;
        self.wait_for(now + 2)?;
        Ok((now, CHEATERS.iter().map(|at| paid_to(&self.storage(*at), "earned_msat")).collect()))
    }

    /// The client withdraws all that is not spoken for: how much, in msat.
    fn take_out(&mut self) -> Outcomes<u64> {
        let to = self.payer.treasury.address(1)?;
        self.until("the rest is withdrawn", |stage| {
            stage.run(&["prepayment", "withdraw", "--to", &to]).is_ok()
        })?;
        let history = self.run(&["prepayment", "history"])?;
        let entries = history["entries"].as_array().into_iter().flatten();
        let withdrawn = entries.filter(|entry| entry["what"] == "withdrawn");
        Ok(withdrawn.filter_map(|entry| entry["amount_msat"].as_u64()).sum())
    }

    /// Epochs of which each storage node did not prove what it was asked for, by its name in the swarm.
    fn refused(&self) -> BTreeMap<String, usize> {
        let node = self.swarm.ask(MEDIATOR, "/api/v1/node").unwrap_or_default();
        let nodes = node["mediator"]["nodes"].as_array().cloned().unwrap_or_default();
        let proved = |audit: &&Value| {
            let came = &audit["outcome"]["answered"];
            ["missing", "wrong", "reported"].iter().all(|what| came[what] == 0)
        };
        let refused = |node: &Value| {
            let audits = node["audits"].as_array().into_iter().flatten();
            Some((node["peer"].as_str()?.to_owned(), audits.filter(|audit| !proved(audit)).count()))
        };
        nodes.iter().filter_map(refused).collect()
    }

    /// The closing table.
    fn close(&mut self, cheated: Vec<u64>) -> Outcomes<Table> {
        say("the client takes the rest of its money out, so nothing more is charged");
        let withdrawn = self.take_out()?;
        say("waiting until all honest operators are paid what they have earned");
        self.until("everyone is paid", |stage| {
            let paid = |at: usize| {
                let storage = stage.storage(at);
                let least = if ON_CHAIN.contains(&at) { LEAST_ON_CHAIN_MSAT } else { LEAST_MSAT };
                paid_to(&storage, "owed_msat") < least && paid_to(&storage, "paid_msat") > 0
            };
            (0..STORAGE).filter(|at| !CHEATERS.contains(at)).all(paid)
        })?;
        // A wallet may hear of a payment later than the node that it is for.
        let mut table = self.look(&cheated)?;
        let begun = Instant::now();
        while !table.is_right() && begun.elapsed() < PATIENCE {
            std::thread::sleep(LOOK);
            table = self.look(&cheated)?;
        }
        // The three amounts are asked for one after the other: until no epoch ends between.
        let mut books = (0, 0, 0);
        let whole = wait_until(PATIENCE, || {
            let (Some(node), Ok(balance)) =
                (self.swarm.ask(MEDIATOR, "/api/v1/node"), self.run(&["prepayment", "balance"]))
            else {
                return false;
            };
            let owed = node["mediator"]["owed"].as_array().cloned().unwrap_or_default();
            let earned = owed.iter().filter_map(|owed| owed["earned_msat"].as_u64()).sum::<u64>();
            let fees = self.wallet()["fees_earned_msat"].as_u64().unwrap_or_default();
            books = (balance["prepaid_msat"].as_u64().unwrap_or_default(), earned, fees);
            books.0 + books.1 + books.2 + withdrawn == DEPOSIT * 1000
        });
        table.withdrawn_msat = withdrawn;
        (table.prepaid_msat, table.earned_msat, table.fees_msat) = books;
        if !whole {
            table
                .wrong
                .push("the client's deposit is not what is left, what storage earned and the fee".to_owned());
        }
        let audit = self.operate(&["wallet", "audit"])?;
        if !audit.ends_with("sound") {
            table.wrong.push(format!("the mediator's books: {audit}"));
        }
        Ok(table)
    }

    /// The nodes and their operators' wallets as they stand now.
    fn look(&self, cheated: &[u64]) -> Outcomes<Table> {
        let hex = |id: [u8; 32]| hex::encode(id);
        let (mut nodes, mut wallets) = (Vec::new(), Vec::new());
        let (mut shared, refused) = (Vec::new(), self.refused());
        for at in 0..STORAGE {
            let storage = self.storage(at);
            let saver = ON_CHAIN.iter().zip(&self.savers).find(|(on, _)| **on == at);
            let rail = match saver {
                _ if at == OWN_NODE => "own Lightning node",
                Some(_) => "address",
                None => "offer",
            };
            if at == OWN_NODE {
                let inside = storage["lightning"]["received"].as_array().cloned().unwrap_or_default();
                let came = inside.iter().filter_map(|came| {
                    Some((came["payment_hash"].as_str()?.to_owned(), came["msat"].as_u64()?))
                });
                wallets.push((vec![at], came.collect::<Received>()));
            } else if let Some((_, saver)) = saver {
                saver.received(0)?;
                let deep = |came: &Arrived| came.confirmations >= SETTLED;
                let came = saver.treasury.arrivals().into_iter().filter(deep).filter_map(|came| {
                    match came.arrival {
                        Arrival::Output(id, _) => Some((id.to_string(), came.amount.get() * 1000)),
                        Arrival::Payment(_) => None,
                    }
                });
                wallets.push((vec![at], came.collect()));
            } else {
                shared.push(at);
            }
            let before = CHEATERS.iter().position(|cheater| *cheater == at).map(|found| cheated[found]);
            let peer = &self.swarm.ready(Member::Storage(at)).ok_or("a storage node is gone")?.peer;
            let refused = refused.get(peer).copied().unwrap_or_default();
            nodes.push(Node::new(Member::Storage(at).to_string(), rail, &storage, refused, before));
        }
        let deposits = self.operator.node.deposits();
        wallets.push((shared, deposits.into_iter().map(|came| (hex(came.id), came.amount.get())).collect()));
        let mut table = Table { nodes, deposit_msat: DEPOSIT * 1000, ..Table::default() };
        table.check(&self.transactions()?, &mut wallets);
        Ok(table)
    }

    /// All transactions that bitcoind has in its best chain.
    fn transactions(&self) -> Outcomes<BTreeSet<String>> {
        let height = self.bitcoind.call("getblockcount", &json!([]))?.as_u64().unwrap_or_default();
        let mut all = BTreeSet::new();
        for at in 0..=height {
            let hash = self.bitcoind.call("getblockhash", &json!([at]))?;
            let block = self.bitcoind.call("getblock", &json!([hash, 1]))?;
            let ids = block["tx"].as_array().cloned().unwrap_or_default();
            all.extend(ids.iter().filter_map(|id| id.as_str().map(str::to_owned)));
        }
        Ok(all)
    }
}

/// Removes all files below a folder.
fn remove_files(folder: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_files(&entry.path())?;
        } else {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}
