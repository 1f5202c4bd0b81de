use std::io::{Read, Write};
use std::net::TcpStream;

use bdk_bitcoind_rpc::bitcoincore_rpc::bitcoin::hashes::{Hash, sha256, sha256d};
use bdk_bitcoind_rpc::bitcoincore_rpc::bitcoin::hex::{DisplayHex, FromHex};
use serde_json::{Value, json};

use super::Esplora;
use crate::bitcoind::Bitcoind;
use crate::scratch::Scratch;

/// The private key 1, and what is paid to it.
const KEY: &str = "cMahea7zqjxrtgAbB7LSGbcQUr1uX1ojuat9jZodMN87JcbXMTcA";
const OURS: &str = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080";
/// Mined to when a block must not be the one that was there before.
const OTHER: &str = "bcrt1qrp33g0q5c5txsp9arysrx4k6zdkfs4nce4xj0gdcccefvpysxf3qzf4jry";
const NOTHING: &str = "00000000000000000000000000000000000000000000000000000000000000ff";

struct Stage {
    esplora: Esplora,
    bitcoind: Bitcoind,
    _scratch: Scratch,
}

fn http(address: &str, method: &str, path: &str, body: &str) -> (u16, Vec<u8>) {
    let mut stream = TcpStream::connect(address).expect("connects");
    let length = body.len();
    write!(stream, "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n").expect("sent");
    write!(stream, "Content-Length: {length}\r\n\r\n{body}").expect("sent");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("answered");
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").expect("a head");
    let head = String::from_utf8(answer[..end].to_vec()).expect("text");
    (head.split(' ').nth(1).expect("a status").parse().expect("a number"), answer[end + 4..].to_vec())
}

impl Stage {
    fn new() -> Self {
        let scratch = Scratch::new("esplora").expect("a folder");
        let bitcoind = Bitcoind::start(&scratch.path().join("bitcoind")).expect("a bitcoind");
        Self { esplora: Esplora::start(&bitcoind).expect("serves"), bitcoind, _scratch: scratch }
    }

    fn ask(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        let url = self.esplora.url();
        let address = url.strip_prefix("http://").expect("a URL");
        let (status, body) = http(address, method, path, body);
        (status, String::from_utf8(body).expect("text"))
    }

    fn get(&self, path: &str) -> (u16, String) {
        self.ask("GET", path, "")
    }

    fn text(&self, path: &str) -> String {
        let (status, text) = self.get(path);
        assert_eq!(status, 200, "{path}: {text}");
        text
    }

    fn json(&self, path: &str) -> Value {
        serde_json::from_str(&self.text(path)).expect("JSON")
    }

    fn rpc(&self, method: &str, parameters: Value) -> Value {
        self.bitcoind.call(method, &parameters).expect("done")
    }

    fn tip(&self) -> Value {
        self.rpc("getbestblockhash", json!([]))
    }

    /// The path of what pays to an address.
    fn history(&self, address: &str) -> String {
        let script = self.rpc("validateaddress", json!([address]))["scriptPubKey"].clone();
        let script = Vec::from_hex(script.as_str().expect("a script")).expect("hexadecimal");
        format!("/scripthash/{}/txs", sha256::Hash::hash(&script))
    }

    fn txids(&self, path: &str) -> Vec<Value> {
        self.json(path).as_array().expect("a list").iter().map(|tx| tx["txid"].clone()).collect()
    }

    /// A signed transaction that spends an output of ours.
    fn spend(&self, from: &Value, script: &Value, had: f64, to: &str, pays: f64) -> String {
        let inputs = json!([{"txid": from, "vout": 0, "sequence": 0}]);
        let raw = self.rpc("createrawtransaction", json!([inputs, [{to: pays}]]));
        let spent = json!([{"txid": from, "vout": 0, "scriptPubKey": script, "amount": had}]);
        let signed = self.rpc("signrawtransactionwithkey", json!([raw, [KEY], spent]));
        assert_eq!(signed["complete"], true, "{signed}");
        signed["hex"].as_str().expect("a transaction").to_owned()
    }

    fn send(&self, transaction: &str) -> Value {
        let (status, text) = self.ask("POST", "/tx", transaction);
        assert_eq!(status, 200, "{text}");
        text.into()
    }

    fn statuses(&self, paths: &[&str]) -> Vec<u16> {
        paths.iter().map(|path| self.get(path).0).collect()
    }
}

#[test]
fn blocks_are_told_as_bitcoind_has_them() {
    let stage = Stage::new();
    assert_eq!(stage.text("/blocks/tip/height"), "0");
    assert_eq!(stage.json("/blocks").as_array().map(Vec::len), Some(1));
    stage.bitcoind.mine(12).expect("mines");
    assert_eq!(stage.text("/blocks/tip/height"), "12");
    assert_eq!(stage.text("/blocks/tip/hash"), stage.tip());
    let heights = |path| -> Vec<u64> {
        let blocks = stage.json(path);
        blocks.as_array().expect("a list").iter().filter_map(|block| block["height"].as_u64()).collect()
    };
    assert_eq!(heights("/blocks"), (3..=12).rev().collect::<Vec<_>>());
    assert_eq!(heights("/blocks/4"), [4, 3, 2, 1, 0]);

    let hash = stage.text("/block-height/7");
    let block = stage.rpc("getblock", json!([hash, 1]));
    let bits = u32::from_str_radix(block["bits"].as_str().expect("bits"), 16).expect("a number");
    let expected = json!({
        "id": hash, "height": 7, "version": block["version"], "timestamp": block["time"], "tx_count": 1,
        "size": block["size"], "weight": block["weight"], "merkle_root": block["merkleroot"],
        "previousblockhash": stage.rpc("getblockhash", json!([6])), "mediantime": block["mediantime"],
        "nonce": block["nonce"], "bits": bits, "difficulty": block["difficulty"],
    });
    assert_eq!(stage.json("/blocks/7")[0], expected);
    assert_eq!(stage.json(&format!("/block/{hash}")), expected);
    assert_eq!(stage.json(&format!("/block/{hash}/txids")), block["tx"]);
    assert_eq!(
        stage.text(&format!("/block/{hash}/header")),
        stage.rpc("getblockheader", json!([hash, false]))
    );
    let status = json!({"in_best_chain": true, "height": 7, "next_best": stage.text("/block-height/8")});
    assert_eq!(stage.json(&format!("/block/{hash}/status")), status);
    let none = json!({"in_best_chain": false, "height": null, "next_best": null});
    assert_eq!(stage.json(&format!("/block/{NOTHING}/status")), none);
    let unknown = ["/block-height/13", "/blocks/13", &format!("/block/{NOTHING}/header"), "/block", "/"];
    assert_eq!(stage.statuses(&unknown), [404; 5]);
    assert_eq!(
        stage.statuses(&["/block-height/x", "/block/x/header", "/tx/x", "/scripthash/x/txs"]),
        [400; 4]
    );
    // So young a chain gives no estimates.
    assert_eq!(stage.json("/fee-estimates"), json!({}));

    let address = stage.esplora.url().replace("http://", "");
    let (_, raw) = http(&address, "GET", &format!("/block/{hash}/raw"), "");
    assert_eq!(raw.to_lower_hex_string(), stage.rpc("getblock", json!([hash, 0])));
    drop(stage);
    assert!(TcpStream::connect(address).is_err(), "it still listens");
}

#[test]
fn a_history_comes_in_pages_from_the_mempool_to_its_first_transaction() {
    let stage = Stage::new();
    stage.bitcoind.mine_to(30, OURS).expect("mines");
    stage.bitcoind.mine(100).expect("mines");
    let coinbase = |height: u32| -> Value {
        let hash = stage.rpc("getblockhash", json!([height]));
        stage.rpc("getblock", json!([hash, 1]))["tx"][0].clone()
    };
    let path = stage.history(OURS);
    let first: Vec<Value> = (6..=30).rev().map(coinbase).collect();
    let second: Vec<Value> = (1..=5).rev().map(coinbase).collect();
    assert_eq!(stage.txids(&path), first);
    assert_eq!(stage.txids(&format!("{path}/chain")), first);
    assert_eq!(stage.txids(&format!("{path}/chain/{}", coinbase(6).as_str().expect("an id"))), second);
    assert!(stage.txids(&format!("{path}/chain/{}", coinbase(1).as_str().expect("an id"))).is_empty());
    assert!(stage.txids(&stage.history(OTHER)).is_empty());

    let script = stage.rpc("validateaddress", json!([OURS]))["scriptPubKey"].clone();
    let older = stage.send(&stage.spend(&coinbase(1), &script, 50.0, OTHER, 49.99));
    assert_eq!(stage.txids(&path)[..2], [older.clone(), first[0].clone()]);
    let newer = stage.send(&stage.spend(&coinbase(2), &script, 50.0, OTHER, 49.99));
    let mut all = vec![newer.clone(), older.clone()];
    assert_eq!(stage.txids(&format!("{path}/mempool")), all);
    all.extend(first);
    assert_eq!(stage.txids(&path), all);
    assert_eq!(stage.txids(&stage.history(OTHER)), [newer, older]);
}

#[test]
fn a_transaction_is_told_from_the_mempool_to_its_block_and_back_when_the_chain_changes() {
    let stage = Stage::new();
    stage.bitcoind.fund(OURS).expect("funded");
    let mined = stage.rpc("getblock", json!([stage.text("/block-height/1"), 2]))["tx"][0].clone();
    let coinbase = mined["txid"].as_str().expect("an id");
    let script = &mined["vout"][0]["scriptPubKey"]["hex"];
    let unspent = stage.json(&format!("/tx/{coinbase}"));
    assert_eq!(
        (&unspent["vin"][0]["is_coinbase"], &unspent["vin"][0]["prevout"]),
        (&json!(true), &Value::Null)
    );
    assert_eq!((&unspent["fee"], &unspent["vout"][0]["value"]), (&json!(0), &json!(5_000_000_000_u64)));
    assert_eq!(stage.json(&format!("/tx/{coinbase}/outspend/0")), json!({"spent": false}));

    // Replaced, with a child on top.
    let replaced = stage.send(&stage.spend(&mined["txid"], script, 50.0, OURS, 49.9999));
    let replaced = replaced.as_str().expect("an id").to_owned();
    assert_eq!(stage.json(&format!("/tx/{coinbase}/outspend/0"))["txid"], replaced.as_str());
    let hex = stage.spend(&mined["txid"], script, 50.0, OURS, 49.999_123_45);
    let sent = stage.send(&hex);
    let id = sent.as_str().expect("an id").to_owned();
    let on_top = stage.spend(&sent, script, 49.999_123_45, OTHER, 49.99);
    let child = stage.send(&on_top);
    assert_eq!(stage.get(&format!("/tx/{replaced}")).0, 404);
    assert_eq!(stage.json(&format!("/tx/{replaced}/status")), json!({"confirmed": false}));
    let unconfirmed = json!({"confirmed": false});
    let spent = |status: &Value| json!({"spent": true, "txid": id, "vin": 0, "status": status});
    assert_eq!(stage.json(&format!("/tx/{coinbase}/outspend/0")), spent(&unconfirmed));
    assert_eq!(
        stage.json(&format!("/tx/{}", child.as_str().expect("an id")))["vin"][0]["prevout"]["value"],
        4_999_912_345_u64
    );
    let missing = [format!("/tx/{id}/merkle-proof"), format!("/tx/{id}/merkleblock-proof")];
    assert_eq!(stage.statuses(&missing.each_ref().map(String::as_str)), [404; 2]);

    let decoded = stage.rpc("decoderawtransaction", json!([hex]));
    let output = |value: u64| {
        json!({
            "scriptpubkey": script, "scriptpubkey_type": "v0_p2wpkh", "scriptpubkey_address": OURS,
            "scriptpubkey_asm": "OP_0 OP_PUSHBYTES_20 751e76e8199196d454941c45d1b3a323f1433bd6", "value": value,
        })
    };
    let told = |status: &Value| {
        json!({
            "txid": id, "version": 2, "locktime": 0, "size": decoded["size"], "weight": decoded["weight"],
            "fee": 87_655, "status": status, "vout": [output(4_999_912_345)],
            "vin": [{
                "txid": coinbase, "vout": 0, "prevout": output(5_000_000_000), "scriptsig": "", "scriptsig_asm": "",
                "witness": decoded["vin"][0]["txinwitness"], "is_coinbase": false, "sequence": 0,
            }],
        })
    };
    assert_eq!(stage.json(&format!("/tx/{id}")), told(&unconfirmed));
    assert_eq!(stage.text(&format!("/tx/{id}/hex")), hex);
    let (_, raw) = http(&stage.esplora.url()[7..], "GET", &format!("/tx/{id}/raw"), "");
    assert_eq!(raw.to_lower_hex_string(), hex);

    stage.bitcoind.mine(1).expect("mines");
    let block = stage.rpc("getblock", json!([stage.tip(), 1]));
    let confirmed = json!({
        "confirmed": true, "block_height": 102, "block_hash": block["hash"], "block_time": block["time"],
    });
    assert_eq!(stage.json(&format!("/tx/{id}/status")), confirmed);
    assert_eq!(stage.json(&format!("/tx/{id}")), told(&confirmed));
    assert_eq!(
        stage.json(&format!("/tx/{coinbase}/outspends")),
        json!([spent(&confirmed), {"spent": false}])
    );
    let proof = stage.rpc("gettxoutproof", json!([[id], block["hash"]]));
    assert_eq!(stage.text(&format!("/tx/{id}/merkleblock-proof")), proof);
    let proof = stage.json(&format!("/tx/{id}/merkle-proof"));
    assert_eq!((&proof["block_height"], &block["tx"][1]), (&json!(102), &sent));
    assert_eq!(root(&id, &proof), block["merkleroot"]);
    // In the chain already.
    let (status, why) = stage.ask("POST", "/tx", &on_top);
    assert_eq!(status, 400);
    assert!(why.starts_with(r#"sendrawtransaction RPC error: {"code":-27,"message":""#), "{why}");
    assert!(stage.ask("POST", "/tx", "none").1.contains(r#""code":-22"#));

    // Another chain, in which nothing waits for long.
    let gone = block["hash"].as_str().expect("a hash");
    stage.rpc("invalidateblock", json!([gone]));
    assert_eq!(stage.text("/blocks/tip/height"), "101");
    assert_eq!(stage.json(&format!("/tx/{id}")), told(&unconfirmed));
    for _ in 0..2 {
        stage.rpc("generateblock", json!([OTHER, []]));
    }
    assert_eq!(stage.text("/blocks/tip/hash"), stage.tip());
    assert_eq!(stage.json(&format!("/block/{gone}/status"))["in_best_chain"], false);
    let reward = block["tx"][0].as_str().expect("an id");
    let left =
        [format!("/block/{gone}/header"), format!("/tx/{reward}"), format!("/tx/{id}/merkleblock-proof")];
    assert_eq!(stage.statuses(&left.each_ref().map(String::as_str)), [404; 3]);
    assert_eq!(stage.json(&format!("/tx/{coinbase}/outspend/0")), spent(&unconfirmed));
    stage.bitcoind.mine(1).expect("mines");
    let status = stage.json(&format!("/tx/{id}/status"));
    assert_eq!((&status["block_height"], &status["block_hash"]), (&json!(104), &stage.tip()));
    assert_eq!(stage.txids(&stage.history(OURS)), [child, sent, mined["txid"].clone()]);
}

/// The Merkle root to which a proof leads.
fn root(txid: &str, proof: &Value) -> String {
    let bytes =
        |text: &str| -> Vec<u8> { Vec::from_hex(text).expect("hexadecimal").into_iter().rev().collect() };
    let mut hash = bytes(txid);
    let mut position = proof["pos"].as_u64().expect("a position");
    for beside in proof["merkle"].as_array().expect("a list") {
        let beside = bytes(beside.as_str().expect("a hash"));
        let pair = if position.is_multiple_of(2) { [hash, beside] } else { [beside, hash] };
        hash = sha256d::Hash::hash(&pair.concat()).to_byte_array().to_vec();
        position /= 2;
    }
    hash.into_iter().rev().collect::<Vec<u8>>().to_lower_hex_string()
}

#[test]
fn a_payment_that_a_block_contradicts_is_forgotten_and_the_block_is_right() {
    let stage = Stage::new();
    stage.bitcoind.fund(OURS).expect("funded");
    let mined = stage.rpc("getblock", json!([stage.text("/block-height/1"), 2]))["tx"][0].clone();
    let script = &mined["vout"][0]["scriptPubKey"]["hex"];
    let path = format!("/tx/{}/outspend/0", mined["txid"].as_str().expect("an id"));
    let sent = stage.send(&stage.spend(&mined["txid"], script, 50.0, OTHER, 49.99));
    assert_eq!(stage.json(&path)["txid"], sent);
    let other = stage.spend(&mined["txid"], script, 50.0, OTHER, 49.9);
    stage.rpc("generateblock", json!([OURS, [other]]));
    let other = stage.rpc("decoderawtransaction", json!([other]))["txid"].clone();
    assert_eq!(stage.json(&path)["txid"], other);
    assert_eq!(stage.json(&path)["status"]["block_hash"], stage.tip());
    assert_eq!(stage.get(&format!("/tx/{}", sent.as_str().expect("an id"))).0, 404);
    assert_eq!(stage.txids(&stage.history(OTHER)), [other]);
}

#[test]
fn while_bitcoind_is_down_there_are_no_answers_and_afterwards_there_are() {
    let mut stage = Stage::new();
    stage.bitcoind.mine(3).expect("mines");
    let cookie = stage.bitcoind.credentials().expect("a cookie");
    assert_eq!(stage.text("/blocks/tip/height"), "3");
    stage.bitcoind.stop().expect("ends");
    assert_eq!(stage.statuses(&["/blocks/tip/height", "/fee-estimates"]), [503; 2]);
    assert_eq!(stage.ask("POST", "/tx", "00").0, 503);
    assert!(Esplora::start(&stage.bitcoind).is_err(), "it serves nothing");
    stage.bitcoind.restart().expect("starts");
    assert_ne!(stage.bitcoind.credentials().expect("a cookie"), cookie);
    assert_eq!(stage.text("/blocks/tip/height"), "3");

    // It forgets its blocks; others come instead.
    let before = stage.text("/blocks/tip/hash");
    stage.bitcoind.mine(2).expect("mines");
    assert_eq!(stage.text("/blocks/tip/height"), "5");
    stage.bitcoind.kill9();
    assert_eq!(stage.get("/blocks/tip/height").0, 503);
    stage.bitcoind.restart().expect("starts");
    let forgetful = stage.rpc("getblockcount", json!([])).to_string();
    assert_eq!(stage.text("/blocks/tip/height"), forgetful);
    stage.bitcoind.mine_to(1, OTHER).expect("mines");
    assert_eq!(stage.text("/blocks/tip/hash"), stage.tip());
    assert_eq!(stage.json(&format!("/block/{before}/status"))["in_best_chain"], true);
}
