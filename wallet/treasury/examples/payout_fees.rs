//! What payouts on the chain cost, computed: batches of one input, a P2WPKH output for each storage node
//! and one of change.

use bdk_wallet::bitcoin::transaction::{InputWeightPrediction, predict_weight};

/// Storage nodes that are paid together.
const NODES: [usize; 3] = [1, 10, 100];
/// Satoshi for each virtual byte.
const RATES: [u64; 3] = [1, 5, 50];
/// What a terabyte at 1.50 USD a month earns in that month, in satoshi, at 100,000 USD a bitcoin.
const TERABYTE: u64 = 1500;
/// The most that the network may get of a batch, in permille.
const MOST: u64 = 25;
const P2WPKH: usize = 22;

fn main() {
    println!(
        "| nodes | vB | sat/vB | sat for each node | of 1 TB-month | of 10 TB-months | least payout at 2.5 % |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- |");
    for nodes in NODES {
        let weight = predict_weight([InputWeightPrediction::P2WPKH_MAX], vec![P2WPKH; nodes + 1]);
        let size = weight.to_vbytes_ceil();
        for rate in RATES {
            let each = (size * rate).div_ceil(nodes as u64);
            let share = |paid: u64| format!("{:.1} %", each as f64 * 100.0 / paid as f64);
            println!(
                "| {nodes} | {size} | {rate} | {each} | {} | {} | {} sat |",
                share(TERABYTE),
                share(10 * TERABYTE),
                (each * 1000).div_ceil(MOST)
            );
        }
    }
}
