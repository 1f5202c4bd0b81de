//! `fincrypt-node status`: what a running node says of itself, by its local interface.

use fincrypt_protocol::amount::Msat;
use serde_json::Value;

use super::local::ask;
use super::output::print_json;
use crate::home::Home;
use fincrypt_client::utc;

const DAY: u64 = 24 * 3600;

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// One audit in a few letters: `12:300` proved 300, `12:298-2` failed two, `12:late`, `12:off`.
fn audit(audited: &Value) -> String {
    let epoch = text(&audited["epoch"]);
    let outcome = &audited["outcome"];
    let count = |key: &str| outcome["answered"][key].as_u64().unwrap_or_default();
    match outcome.as_str() {
        Some("timeout") => format!("{epoch}:late"),
        Some(_) => format!("{epoch}:off"),
        None => {
            let bad = count("wrong") + count("missing") + count("reported");
            let failed = if bad > 0 { format!("-{bad}") } else { String::new() };
            format!("{epoch}:{}{failed}", count("passed"))
        }
    }
}

/// Shows how the node in a home stands; why it cannot, if so.
pub(super) fn show(home: &Home, json: bool) -> Result<(), String> {
    let node = ask(home, "/api/v1/node")?;
    if json {
        print_json(&node);
        return Ok(());
    }
    println!("peer {}, {} peers connected", text(&node["peer"]), node["connected_peers"]);
    let storage = &node["storage"];
    if storage.is_object() {
        println!("storage: {} of {} bytes used", storage["used_bytes"], storage["capacity_bytes"]);
        println!("{} shards found rotten since the start", storage["rotten_shards"]);
        if storage["disk_failing"] == true {
            println!("the disk fails: no shards are taken, those that can be read are served");
        }
        for earned in storage["earned"].as_array().into_iter().flatten() {
            println!("{}", money("earned from", "mediator", earned));
            println!("    {}", paid(earned));
            if let Some(standing) = standing(earned) {
                println!("    {standing}");
            }
            if let Some(reason) = earned["refused"].as_str() {
                println!("    the newest statement is refused: {reason}");
            }
            if earned["uncharged_msat"].as_u64() > Some(0) {
                println!(
                    "    it does not charge what {} were due for: epochs that it says were not passed",
                    msat(&earned["uncharged_msat"])
                );
            }
            if let Some(proof) = earned["proof"].as_str() {
                println!(
                    "    proof that it signed two statements of one epoch, which anybody can check: {proof}"
                );
            }
        }
        payouts(storage);
        if storage["leaving"] == true {
            println!("leaving: {} shards are still to be moved", text(&storage["shards_left"]));
        }
    }
    let mediator = &node["mediator"];
    if let Some(nodes) = mediator["nodes"].as_array() {
        println!(
            "epoch {}, {} segments lack a shard at a good storage node",
            mediator["epoch"], mediator["degraded"]
        );
        println!(
            "storage nodes: state, score in permille, epochs passed, shards, newest audits (epoch:proved)"
        );
        for node in nodes {
            let history: Vec<String> = node["audits"].as_array().into_iter().flatten().map(audit).collect();
            println!(
                "{}  {:8} {:>4} {:>6} {:>8}  {}",
                text(&node["peer"]),
                text(&node["state"]),
                node["score"],
                node["passed_epochs"],
                node["shards"],
                history.join(" ")
            );
        }
    }
    for owed in mediator["owed"].as_array().into_iter().flatten() {
        println!("{}", money("owed to", "node", owed));
    }
    Ok(())
}

/// A day (UTC), of seconds since 1970.
fn date(secs: u64) -> String {
    utc(secs).get(..10).unwrap_or_default().to_owned()
}

fn msat(value: &Value) -> Msat {
    Msat::new(value.as_u64().unwrap_or_default())
}

/// How much of a contract's earnings is paid, and how near its mediator is to the bound.
fn paid(contract: &Value) -> String {
    let (owed, bound) = (msat(&contract["owed_msat"]), msat(&contract["credit_bound_msat"]));
    let percent = u128::from(owed.get()) * 100 / u128::from(bound.get().max(1));
    format!(
        "paid {}, on the way {}, owed {owed}: {percent} % of the {bound} that it may owe",
        msat(&contract["paid_msat"]),
        msat(&contract["coming_msat"]),
    )
}

/// Why no shards are taken for a contract, if none are.
fn standing(contract: &Value) -> Option<String> {
    let (epoch, until) = (&contract["epoch"], contract["kept_until"].as_u64().map_or_else(String::new, date));
    let why = match text(&contract["standing"]).as_str() {
        "open" => return None,
        "bound" => format!("what is owed up to epoch {epoch} has reached the bound"),
        "uncharged" => format!("nothing was charged since epoch {epoch}"),
        _ => {
            return Some(format!(
                "unpaid or uncharged since epoch {epoch}: its grace ended on {until}, and its shards may go"
            ));
        }
    };
    Some(format!("{why}: no new shards are taken; what is there is kept until {until}"))
}

/// What was paid, and what was earned day by day.
fn payouts(storage: &Value) {
    let list = |key: &str| storage[key].as_array().cloned().unwrap_or_default();
    if storage["payable"] == false && !list("earned").is_empty() {
        println!("nobody can pay these earnings: start the node with --payout DESTINATION");
    }
    for payout in list("payouts") {
        let by = match (payout["transaction"].as_str(), payout["payment_hash"].as_str()) {
            (Some(id), _) => format!("transaction {id}"),
            (_, Some(hash)) => format!("payment {hash}"),
            _ => "not sent yet".to_owned(),
        };
        let (sum, arrives) = (msat(&payout["msat"]), msat(&payout["arrives_msat"]));
        println!("payout {sum}, of which {arrives} arrive: {}, {by}", text(&payout["state"]));
    }
    for day in list("earned_days") {
        let on = date(day["day"].as_u64().unwrap_or_default() * DAY);
        println!("{on}: earned {} from {}", msat(&day["msat"]), text(&day["mediator"]));
    }
    let node = &storage["lightning"];
    if node.is_object() {
        println!(
            "own Lightning node {}: {} sat in channels, {} sat on the chain; its seed is lightning.seed in the home: keep a copy",
            text(&node["node"]),
            node["channels_sat"],
            node["on_chain_sat"]
        );
    } else if let Some(reason) = storage["lightning_down"].as_str() {
        println!("the own Lightning node does not run: {reason}");
    }
}

/// What one contract has come to.
fn money(what: &str, party: &str, contract: &Value) -> String {
    let msat = contract["earned_msat"].as_u64().unwrap_or_default();
    format!(
        "{what} {}: {} for account {} up to epoch {}",
        text(&contract[party]),
        Msat::new(msat),
        text(&contract["account"]).get(..16).unwrap_or_default(),
        contract["epoch"]
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use fincrypt_upkeep::{AuditOutcome, AuditedEpoch, Epoch, ProofCounts};
    use serde_json::json;

    #[test]
    fn an_operator_is_told_how_near_the_bound_is_and_by_which_epoch_it_was_reached() {
        let mut contract = json!({
            "owed_msat": 750_000, "credit_bound_msat": 1_000_000, "paid_msat": 1_234_567, "coming_msat": 1000,
            "standing": "open", "epoch": 4711, "kept_until": null,
        });
        let said = "paid 1234.567 sat, on the way 1.000 sat, owed 750.000 sat: 75 % of the 1000.000 sat that it may owe";
        assert_eq!((paid(&contract).as_str(), standing(&contract)), (said, None));
        contract["kept_until"] = json!(86_400);
        for (standing_of, says) in
            [("bound", "reached the bound"), ("uncharged", "nothing was charged"), ("lapsed", "grace ended")]
        {
            contract["standing"] = json!(standing_of);
            let said = standing(&contract).expect("no shards are taken");
            assert!(
                said.contains("epoch 4711") && said.contains(says) && said.contains("1970-01-02"),
                "{said}"
            );
        }
    }

    #[test]
    fn each_outcome_of_an_audit_is_told_apart() {
        let shown = |outcome| {
            let audited = AuditedEpoch { epoch: Epoch::new(7), outcome };
            audit(&serde_json::to_value(audited).expect("JSON"))
        };
        let counts = ProofCounts { passed: 9, ..ProofCounts::default() };
        assert_eq!(shown(AuditOutcome::Answered(counts)), "7:9");
        assert_eq!(shown(AuditOutcome::Answered(ProofCounts { missing: 1, reported: 1, ..counts })), "7:9-2");
        let (late, off) = (shown(AuditOutcome::Timeout), shown(AuditOutcome::Offline));
        assert_eq!((late, off), ("7:late".to_owned(), "7:off".to_owned()));
    }

    #[test]
    fn money_is_shown_in_satoshi_with_its_party() {
        let account = "ab".repeat(32);
        let owed = serde_json::json!({"node": "12D3", "account": account, "epoch": 7, "earned_msat": 1_234});
        let shown = money("owed to", "node", &owed);
        assert_eq!(shown, "owed to 12D3: 1.234 sat for account abababababababab up to epoch 7");
    }

    #[test]
    fn without_a_running_node_it_says_how_to_start_one() {
        let dir = tempfile::tempdir().expect("a folder");
        let error = show(&Home::new(dir.path().to_owned()), false).expect_err("nothing runs");
        assert!(error.contains("--api"), "{error}");
    }
}
