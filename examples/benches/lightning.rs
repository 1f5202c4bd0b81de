//! Payments over Lightning between two nodes with a channel, on a chain of their own: how many a second,
//! how many bytes each takes between the nodes and on the payer's disk.

use std::collections::VecDeque;
use std::error::Error;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use fincrypt_protocol::PayoutId;
use fincrypt_protocol::amount::Msat;
use fincrypt_testkit::{Bitcoind, LightningWallet, Scratch, wait_until};
use fincrypt_treasury::lightning::{
    Destination, LightningError, MAX_IN_FLIGHT, MAX_OFFERS_IN_FLIGHT, Payment, Stands,
};

type Outcomes<T> = Result<T, Box<dyn Error>>;

/// Payments of each kind.
const PAYMENTS: u32 = 300;
const AMOUNT: Msat = Msat::new(3000);
const CHANNEL_SAT: u64 = 10_000_000;
const PATIENCE: Duration = Duration::from_secs(300);

/// Passes on what comes in, and counts it.
fn pass_on(mut from: TcpStream, mut to: TcpStream, passed: &AtomicU64) {
    let mut buffer = [0; 16 << 10];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        passed.fetch_add(length as u64, Ordering::Relaxed);
        if to.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}

/// Listens in front of `address`; where, and the count of bytes both ways.
fn counted(address: String) -> Outcomes<(u16, Arc<AtomicU64>)> {
    let (listener, count) = (TcpListener::bind("127.0.0.1:0")?, Arc::new(AtomicU64::new(0)));
    let (port, passed) = (listener.local_addr()?.port(), Arc::clone(&count));
    std::thread::spawn(move || {
        for inbound in listener.incoming().flatten() {
            let Ok(outbound) = TcpStream::connect(&address) else { continue };
            let (Ok(back), Ok(forth)) = (outbound.try_clone(), inbound.try_clone()) else { continue };
            let (up, down) = (Arc::clone(&passed), Arc::clone(&passed));
            std::thread::spawn(move || pass_on(inbound, outbound, &up));
            std::thread::spawn(move || pass_on(back, forth, &down));
        }
    });
    Ok((port, count))
}

/// Bytes of all files below a folder.
fn size(folder: &Path) -> std::io::Result<u64> {
    std::fs::read_dir(folder)?.try_fold(0, |sum, entry| {
        let entry = entry?;
        let (kind, path) = (entry.file_type()?, entry.path());
        Ok(sum + if kind.is_dir() { size(&path)? } else { entry.metadata()?.len() })
    })
}

/// What paying came to.
struct Came {
    /// Until everything had arrived.
    seconds: f64,
    /// Attempts that failed and were made again, as an operator's payouts are.
    failed: u32,
}

/// Pays with at most `window` payments under way.
fn pay_all(
    (payer, payee): (&LightningWallet, &LightningWallet),
    to: &Destination,
    first: u32,
    window: usize,
) -> Outcomes<Came> {
    let before = payee.received();
    let payment = |at: u32| {
        let mut id = [0; 16];
        id[..4].copy_from_slice(&at.to_le_bytes());
        Payment { id: PayoutId::from_bytes(id), to: to.clone(), amount: AMOUNT, fee_cap: Msat::ZERO }
    };
    let mut waiting: VecDeque<Payment> = (first..first + PAYMENTS).map(payment).collect();
    let (mut under_way, mut failed, begun) = (VecDeque::<Payment>::new(), 0, Instant::now());
    while !(waiting.is_empty() && under_way.is_empty()) {
        if begun.elapsed() > PATIENCE {
            return Err(format!("{} payments did not arrive", waiting.len() + under_way.len()).into());
        }
        while under_way.len() < window
            && let Some(next) = waiting.pop_front()
        {
            match payer.node.pay(&next) {
                Ok(_) => under_way.push_back(next),
                // Those that have arrived may still take a place in the channel.
                Err(LightningError::Busy | LightningError::NotSent(_)) => {
                    waiting.push_front(next);
                    break;
                }
                Err(error) => return Err(error.into()),
            }
        }
        for _ in 0..under_way.len() {
            let Some(payment) = under_way.pop_front() else { break };
            match payer.node.stands(&payment) {
                Stands::Paid { .. } => {}
                Stands::Failed => {
                    failed += 1;
                    waiting.push_back(payment);
                }
                Stands::Pending | Stands::Unknown => under_way.push_back(payment),
            }
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    let seconds = begun.elapsed().as_secs_f64();
    let (came, sent) = (payee.received() - before, u64::from(PAYMENTS) * AMOUNT.get() / 1000);
    if came == sent { Ok(Came { seconds, failed }) } else { Err(format!("{came} sat came of {sent}").into()) }
}

fn main() -> Outcomes<()> {
    let scratch = Scratch::new("lightning-bench")?;
    let bitcoind = Bitcoind::start(&scratch.path().join("bitcoind"))?;
    bitcoind.mine(1)?;
    let payer = LightningWallet::open(&bitcoind, scratch.path(), "payer", 1, Vec::new())?;
    let payee = LightningWallet::open(&bitcoind, scratch.path(), "payee", 2, vec![payer.node.id()])?;
    bitcoind.fund(&payer.node.funding_address()?)?;
    payer.node.sync()?;
    let (key, address) = payee.peer.split_once('@').ok_or("a peer has an address")?;
    let (port, wire) = counted(address.to_owned())?;
    let peer = format!("{key}@127.0.0.1:{port}").parse()?;
    payer.node.open_channel(&peer, CHANNEL_SAT, Msat::ZERO, true)?;
    if !wait_until(PATIENCE, || payer.node.channels().iter().any(|channel| channel.usable)) {
        return Err("the channel does not become usable".into());
    }
    bitcoind.mine(6)?;
    payer.node.sync()?;
    payee.node.sync()?;
    let (_, offer) = payee.node.offer("a bench")?;
    println!("{PAYMENTS} payments of {AMOUNT} each, over one channel:");
    let node = payee.node.id();
    let kinds = [
        ("keysend", &node, 1),
        ("keysend", &node, MAX_IN_FLIGHT),
        ("offers (BOLT 12)", &offer, 1),
        ("offers (BOLT 12)", &offer, MAX_OFFERS_IN_FLIGHT),
    ];
    for (at, (what, to, window)) in (0..).zip(kinds) {
        let folder = scratch.path().join("payer");
        let (passed, stored) = (wire.load(Ordering::Relaxed), size(&folder)?);
        let came = pay_all((&payer, &payee), &to.parse()?, at * PAYMENTS, window)?;
        let each = |bytes: u64| bytes / u64::from(PAYMENTS);
        println!(
            "{what}, {window} under way: {:.1} a second, {} bytes each between the nodes, {} on the payer's disk, {} made again",
            f64::from(PAYMENTS) / came.seconds,
            each(wire.load(Ordering::Relaxed) - passed),
            each(size(&folder)?.saturating_sub(stored)),
            came.failed,
        );
    }
    Ok(())
}
