use super::*;
use clap::Command;
use fincrypt_protocol::ByteSize;
#[cfg(feature = "bitcoin")]
use fincrypt_treasury::BitcoinNetwork;

/// Settings with these flags typed.
fn typed(flags: &[(&str, &str)]) -> Settings {
    flags_over(Settings::defaults(), flags)
}

fn flags_over(settings: Settings, flags: &[(&str, &str)]) -> Settings {
    let arguments = flags.iter().map(|(key, value)| format!("--{}={value}", key.replace('_', "-")));
    let program = with_flags(Command::new("test").no_binary_name(true), |_| true, false);
    settings.with_flags(&program.try_get_matches_from(arguments).expect("flags"))
}

fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("config.toml");
    std::fs::write(&path, text).expect("written");
    (dir, path)
}

#[test]
fn a_flag_beats_a_variable_which_beats_a_file_which_beats_the_default() {
    let (_dir, path) = file("capacity = \"5GB\"\nepoch = 60\nprice = 3\n");
    let settings = Settings::defaults().with_file(&path, true).expect("read");
    let settings = settings.with_environment(|name| match name {
        "FINCRYPT_PRICE" => Some("2".to_owned()),
        "FINCRYPT_CAPACITY" => Some("6GB".to_owned()),
        _ => None,
    });
    let config = flags_over(settings, &[("capacity", "7GB")]).resolve().expect("valid");
    assert_eq!(config.storage.capacity, ByteSize(7_000_000_000));
    assert_eq!(config.storage.price.get(), 2000);
    assert_eq!(config.mediator.epoch.as_secs(), 60);
    assert_eq!(config.network.network, Network::Main);
}

#[test]
fn a_wrong_value_names_its_line_its_variable_or_its_option() {
    let (_dir, path) = file("price = \"1\"\n\ncapacity = \"much\"\n");
    let settings = Settings::defaults().with_file(&path, true).expect("read");
    let said = settings.resolve().expect_err("no size").to_string();
    assert!(
        said.contains("config.toml line 3") && said.contains("capacity") && said.contains("much"),
        "{said}"
    );
    let settings =
        Settings::defaults().with_environment(|name| (name == "FINCRYPT_EPOCH").then(|| "0".to_owned()));
    let said = settings.resolve().expect_err("no epoch").to_string();
    assert!(said.contains("FINCRYPT_EPOCH") && said.contains("between 1 and 86400"), "{said}");
    let said = typed(&[("mdns", "perhaps")]).resolve().expect_err("no switch").to_string();
    assert!(said.contains("--mdns") && said.contains("true or false"), "{said}");
}

#[test]
fn a_list_is_an_array_of_the_file_and_has_commas_in_the_environment() {
    let (_dir, path) = file("folders = [\"/a,b\", \"/c\"]\nexclude = \"*.tmp\"\n");
    let settings = Settings::defaults().with_file(&path, true).expect("read");
    let config =
        settings.with_environment(|name| (name == "FINCRYPT_EXCLUDE").then(|| "*.o, *.a".to_owned()));
    let config = config.resolve().expect("valid");
    assert_eq!(config.client.folders, [PathBuf::from("/a,b"), PathBuf::from("/c")]);
    assert_eq!(config.client.exclude, ["*.o", "*.a"]);
    let (_dir, path) = file("price = [\"1\", \"2\"]\n");
    let said = Settings::defaults().with_file(&path, true).expect_err("two prices").to_string();
    assert!(said.contains("price") && said.contains("one value"), "{said}");
}

#[test]
fn an_empty_text_unsets_what_has_no_default() {
    let (_dir, path) = file("max_price = \"3\"\n");
    let settings = Settings::defaults().with_file(&path, true).expect("read");
    let unset = settings.with_environment(|name| (name == "FINCRYPT_MAX_PRICE").then(String::new));
    assert_eq!(unset.resolve().expect("valid").client.max_price, None);
    assert!(typed(&[("capacity", "")]).resolve().is_err());
}

#[cfg(feature = "bitcoin")]
#[test]
fn the_money_of_the_main_network_is_real_only_if_bitcoin_is_said() {
    let settings = |flags: &[(&str, &str)]| typed(flags).resolve().map(|config| config.chain);
    let chain = [("esplora_url", "https://esplora.example/api")];
    assert!(matches!(settings(&[]), Ok(None)), "no chain, no money");
    let unsaid = settings(&chain).expect_err("which network?").to_string();
    assert!(unsaid.contains("bitcoin_network") && unsaid.contains("only if `bitcoin` is said"), "{unsaid}");
    let defaults = [("local", BitcoinNetwork::Regtest), ("test", BitcoinNetwork::Signet)];
    for (network, money) in defaults {
        let found = settings(&[("network", network), chain[0]]).expect("a default").expect("a chain");
        assert_eq!(found.network, money, "{network}");
    }
    for name in ["regtest", "signet", "testnet4", "bitcoin"] {
        let found = settings(&[("bitcoin_network", name), chain[0]]).expect("said").expect("a chain");
        assert_eq!(Some(found.network), name.parse().ok());
    }
    let bitcoind = [("bitcoind_url", "http://127.0.0.1:8332"), ("bitcoind_cookie", "/x/.cookie")];
    let said = ("bitcoin_network", "bitcoin");
    assert!(settings(&[said, bitcoind[0], bitcoind[1]]).is_ok());
    for wrong in [
        &[said, bitcoind[0]][..],
        &[said, bitcoind[0], bitcoind[1], chain[0]],
        &[("bitcoin_network", "mainnet")],
    ] {
        assert!(settings(wrong).is_err(), "{wrong:?}");
    }
}

#[cfg(not(feature = "bitcoin"))]
#[test]
fn a_build_without_bitcoin_refuses_to_be_given_a_chain() {
    for (key, value) in [
        ("bitcoind_url", "http://127.0.0.1:8332"),
        ("esplora_url", "https://esplora.example/api"),
        ("payout", "lightning"),
    ] {
        let refused = typed(&[(key, value)]).resolve().expect_err("no Bitcoin").to_string();
        assert!(refused.contains(key) && refused.contains("no Bitcoin"), "{refused}");
    }
}

#[test]
fn an_unknown_key_is_named_with_its_line_the_one_meant_and_the_known_ones() {
    let (_dir, path) = file("network = \"local\"\ncapacty = \"5GB\"\n");
    let error = Settings::defaults().with_file(&path, true).expect_err("unknown").to_string();
    assert!(error.contains("capacty") && error.contains("capacity"), "{error}");
    assert!(error.contains("line 2") && error.contains("did you mean \"capacity\"?"), "{error}");
    assert!(error.contains("known keys are") && error.contains("bitcoind_cookie"), "{error}");
    let (_dir, path) = file("zzz = 1\n");
    let error = Settings::defaults().with_file(&path, true).expect_err("unknown").to_string();
    assert!(!error.contains("did you mean"), "{error}");
}

#[test]
fn a_wrong_value_is_explained_beside_its_key() {
    let settings = typed(&[("redundancy", "1.5")]);
    assert!(settings.resolve().is_err());
    let wrong: Vec<_> = settings.explain().into_iter().filter_map(|of| of.problem).collect();
    assert_eq!(wrong.len(), 1);
    assert!(wrong[0].contains("2.0"), "{wrong:?}");
    let settings = typed(&[("redundancy", "1.5"), ("epoch", "0")]);
    assert_eq!(settings.explain().iter().filter(|of| of.problem.is_some()).count(), 2, "each is named");
}

#[test]
fn every_option_has_a_meaning_and_its_key_as_its_flag() {
    for arg in settings::declared().get_arguments() {
        let key = arg.get_id().as_str();
        assert_eq!(arg.get_long(), Some(key.replace('_', "-").as_str()), "{key}");
        assert!(arg.get_help().is_some() && arg.get_help_heading().is_some(), "{key}");
    }
    Settings::defaults().resolve().expect("defaults are valid");
}

/// Rows of the tables of settings in the guide: keys and default.
fn guide() -> Vec<(Vec<String>, String)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/guide");
    let mut rows = Vec::new();
    for page in ["back-up.md", "run-a-storage-node.md", "run-a-mediator.md"] {
        let text = std::fs::read_to_string(folder.join(page)).expect("read");
        let mut lines = text.lines();
        while lines.any(|line| line == "| key | default | meaning |") {
            for line in lines.by_ref().skip(1).take_while(|line| line.starts_with('|')) {
                let cells: Vec<&str> = line.split('|').map(str::trim).collect();
                let keys = cells[1].split('`').skip(1).step_by(2).map(str::to_owned).collect();
                let default = cells[2].replace(['`', ','], "");
                rows.push((keys, default.split(' ').next().unwrap_or_default().to_owned()));
            }
        }
    }
    rows
}

#[test]
fn the_guide_names_every_option_with_its_default() {
    let (declared, guide) = (settings::declared(), guide());
    for key in guide.iter().flat_map(|(keys, _)| keys) {
        assert!(declared.get_arguments().any(|arg| arg.get_id().as_str() == key.as_str()), "no option {key}");
    }
    for arg in declared.get_arguments() {
        let key = arg.get_id().as_str();
        let rows: Vec<_> = guide.iter().filter(|(keys, _)| keys.iter().any(|of| of == key)).collect();
        assert!(!rows.is_empty(), "the guide does not name {key}");
        if let Some(default) = arg.get_default_values().first() {
            assert!(
                rows.iter().all(|(_, said)| *said == default.to_string_lossy()),
                "default of {key}: {rows:?}"
            );
        }
    }
}

#[test]
fn a_release_waits_as_long_as_everyone_expects_unless_told_otherwise() {
    let delay = Settings::defaults().resolve().expect("valid").storage.release_delay;
    assert_eq!(delay.as_secs(), fincrypt_protocol::limits::RELEASE_DELAY_SECONDS);
    let never = typed(&[("release_delay", "0")]);
    assert!(never.resolve().is_err_and(|error| error.to_string().contains("seconds")));
}

#[test]
fn decimals_are_exact() {
    use values::decimal;
    assert_eq!(decimal("1.5", 3), Some(1500));
    assert_eq!(decimal("0.001", 3), Some(1));
    assert_eq!(decimal("7", 1), Some(70));
    for bad in ["", ".", "1.", "1.0001", "-1", "1e3"] {
        assert_eq!(decimal(bad, 3), None, "{bad}");
    }
}

#[test]
fn a_destination_is_one_of_four_forms() {
    let key = "02eec7245d6b7d2ccb30380bfbe2a3648cd7a942653f5aa340edcea1f283686619";
    for good in ["bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq", "1BvBMSEYstWetqTFn5Au4m4GFg7xJaNVN2", key] {
        typed(&[("payout", good)]).resolve().expect(good);
    }
    for bad in ["here", "lno1", "bc1qforeign", &key[1..], "lnbc1p0"] {
        let said = typed(&[("payout", bad)]).resolve().expect_err(bad).to_string();
        assert!(said.contains("Bitcoin address"), "{said}");
    }
}

#[test]
fn a_capacity_without_a_unit_is_refused() {
    let said = typed(&[("capacity", "10")]).resolve().expect_err("no unit").to_string();
    assert!(said.contains("10GB"), "{said}");
    typed(&[("capacity", "10GB")]).resolve().expect("a size");
    typed(&[("capacity", "0")]).resolve().expect("nothing");
}

#[test]
fn a_credit_bound_holds_two_payouts() {
    let settings = typed(&[("payout_threshold", "1000"), ("credit_bound", "1999")]);
    let said = settings.resolve().expect_err("too little").to_string();
    assert!(said.contains("credit_bound") && said.contains("twice payout_threshold"), "{said}");
    typed(&[("payout_threshold", "1000"), ("credit_bound", "2000")]).resolve().expect("enough");
}

#[test]
fn a_mistyped_variable_is_named() {
    let check = |name: &str| Settings::defaults().check_variables([(name.to_owned(), "5GB".to_owned())]);
    let said = check("FINCRYPT_CAPACTY").expect_err("mistyped").to_string();
    assert!(said.contains("FINCRYPT_CAPACTY") && said.contains("did you mean \"capacity\"?"), "{said}");
    let said = check("FINCRYPT_HOME").expect_err("no variable").to_string();
    assert!(said.contains("give --home"), "{said}");
    for fine in ["FINCRYPT_CAPACITY", "FINCRYPT_PASSWORD", "FINCRYPT_BIN_DIR", "CAPACTY"] {
        check(fine).expect(fine);
    }
}

#[test]
fn what_is_explained_can_be_read_as_a_file() {
    let settings = typed(&[("exclude", "a\"b"), ("exclude", "c")]);
    let lines: Vec<String> = settings.explain().iter().map(Explained::line).collect();
    let (_dir, path) = file(&lines.join("\n"));
    let read = Settings::defaults().with_file(&path, true).expect("read").resolve().expect("valid");
    assert_eq!(read.client.exclude, ["a\"b", "c"]);
}
