//! The plan of the crates: which may know which, as cargo sees it.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

/// All crates of the workspace; each knows only crates before it.
const ORDER: [&str; 18] = [
    "fincrypt-vectors",
    "fincrypt-protocol",
    "fincrypt-state",
    "fincrypt-shards",
    "fincrypt-vault",
    "fincrypt-billing",
    "fincrypt-ledger",
    "fincrypt-treasury",
    "fincrypt-net",
    "fincrypt-upkeep",
    "fincrypt-accounts",
    "fincrypt-client",
    "fincrypt-mediator",
    "fincrypt-storage-node",
    "fincrypt",
    "fincrypt-testkit",
    "fincrypt-examples",
    "fincrypt-e2e",
];
/// One crate a role.
const ROLES: [&str; 3] = ["fincrypt-client", "fincrypt-mediator", "fincrypt-storage-node"];

/// Package → packages that it names in `[dependencies]`.
fn direct(metadata: &Value) -> BTreeMap<String, BTreeSet<String>> {
    let packages = metadata["packages"].as_array().expect("packages");
    let ours = packages.iter().filter(|package| package["source"].is_null());
    ours.map(|package| {
        let named = package["dependencies"].as_array().expect("dependencies");
        let named = named.iter().filter(|dependency| dependency["kind"].is_null());
        let names = named.map(|dependency| dependency["name"].as_str().expect("a name").to_owned());
        (package["name"].as_str().expect("a name").to_owned(), names.collect())
    })
    .collect()
}

/// Package names → all packages that building it builds.
fn reached(direct: &BTreeMap<String, BTreeSet<String>>, from: &str) -> BTreeSet<String> {
    let (mut found, mut open) = (BTreeSet::new(), vec![from.to_owned()]);
    while let Some(name) = open.pop() {
        for next in direct.get(&name).into_iter().flatten() {
            if found.insert(next.clone()) {
                open.push(next.clone());
            }
        }
    }
    found
}

fn metadata() -> Value {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["metadata", "--format-version", "1", "--no-deps", "--offline"]);
    let output = command.current_dir(env!("CARGO_MANIFEST_DIR")).output().expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

#[test]
fn arrows_between_crates_go_one_way() {
    let direct = direct(&metadata());
    let place = |name: &str| ORDER.iter().position(|known| *known == name);
    for (name, named) in &direct {
        let own = place(name).unwrap_or_else(|| panic!("{name} has no place in the plan"));
        for other in named.iter().filter(|other| direct.contains_key(*other)) {
            assert!(place(other).is_some_and(|place| place < own), "{name} knows {other}");
        }
    }
}

#[test]
fn no_role_knows_another_role_or_the_command_line() {
    let direct = direct(&metadata());
    for role in ROLES {
        let reached = reached(&direct, role);
        for other in ROLES.iter().chain(&["fincrypt", "clap", "toml"]) {
            assert!(!reached.contains(*other), "{role} knows {other}");
        }
    }
}

#[test]
fn libp2p_is_named_in_one_crate_and_bitcoin_in_the_treasury() {
    let direct = direct(&metadata());
    let naming = |name: &str| -> Vec<&str> {
        let naming = direct.iter().filter(|(_, named)| named.contains(name));
        naming.map(|(package, _)| package.as_str()).collect()
    };
    assert_eq!(naming("libp2p"), ["fincrypt-net"]);
    assert_eq!(naming("ldk-node"), ["fincrypt-treasury"]);
    assert_eq!(naming("bdk_wallet"), ["fincrypt-treasury"]);
    assert!(!reached(&direct, "fincrypt-client").contains("fincrypt-treasury"), "a client builds no Bitcoin");
}
