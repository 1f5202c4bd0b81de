//! Prints how durable segments are: losses and traffic by simulation, and, because the simulation
//! sees no loss that is rarer than one in its segments, the yearly loss by a Markov chain.

use fincrypt_upkeep::durability::{Exposure, yearly_loss};
use fincrypt_upkeep::simulator::{Setup, run};

/// Hours from a failure to its repair: an absence of 24, then the work.
const REPAIR: f64 = 30.0;

fn main() {
    // A debug build shows that it works, in little time.
    let segments = if cfg!(debug_assertions) { 200 } else { 2_000 };
    println!("200 nodes in 100 groups, {segments} segments, one year, seed 1; 5 % of nodes lie.");
    println!("loss: computed (Markov), per segment and year; the other columns: simulated.");
    println!("TB: of shards stored.\n");
    println!(
        "| k/n | nodes failing a year | groups failing a year | loss | segments lost | repair GB/TB/month | audit GB/TB/month |"
    );
    println!("|---|---|---|---|---|---|---|");
    for (data, total) in [(4, 8), (10, 20), (15, 30)] {
        for failures in [0.05, 0.2, 0.5] {
            for group_failures in [0.0, 0.05] {
                row(data, total, failures, group_failures, segments);
            }
        }
    }
}

fn row(data: u16, total: u16, failures: f64, group_failures: f64, segments: usize) {
    let loss = yearly_loss(Exposure { data, total, failures, group_failures, repair: REPAIR });
    let setup = Setup {
        seed: 1,
        nodes: 200,
        groups: 100,
        segments,
        data,
        total,
        shard_len: 1 << 20,
        epochs: 8_760,
        failures,
        group_failures,
        liars: 20,
        dropped: 0.05,
        packet_loss: 0.02,
        outages: 6.0,
        repair_limit: 2 << 30,
    };
    let outcome = run(setup);
    let stored = segments as f64 * f64::from(total) * setup.shard_len as f64;
    // Bytes per byte and month are TB per TB and month.
    let monthly = |bytes: u64| bytes as f64 / stored / 12.0 * 1_000.0;
    println!(
        "| {data}/{total} | {:.0} % | {:.0} % | {loss:.1e} | {} | {:.0} | {:.0} |",
        failures * 100.0,
        group_failures * 100.0,
        outcome.lost,
        monthly(outcome.repaired),
        monthly(outcome.audited),
    );
}
