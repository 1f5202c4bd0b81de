//! Configuration: defaults < file < `FINCRYPT_*` < flags, each value with where it came from.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use fincrypt_client::ClientOptions;
use fincrypt_mediator::{BillingTerms, MediatorTerms, MoneyOptions, MoneyPaths, UpkeepTerms};
use fincrypt_net::{Budget, Multiaddr};
use fincrypt_protocol::amount::{Msat, ParseAmountError, Price};
use fincrypt_protocol::limits::{MAX_CATALOG_REFS, MAX_DESTINATION};
use fincrypt_protocol::{ByteSize, Network, Redundancy};
use fincrypt_storage_node::{PayoutTo, StorageTerms};
#[cfg(feature = "bitcoin")]
use fincrypt_treasury::onchain::Bitcoind;
#[cfg(feature = "bitcoin")]
use fincrypt_treasury::{BitcoinNetwork, Chain, ChainSource};

use crate::home::Home;

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// The configuration file.
    File(PathBuf),
    /// An environment variable.
    Environment(String),
    /// The command line.
    Flag,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::Flag => f.write_str("command line"),
        }
    }
}

/// A configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is no TOML.
    #[error("{path} is not valid TOML: {reason}; correct it or remove the file")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where and what.
        reason: String,
    },
    /// A key that nothing knows.
    #[error("unknown key {key:?} from {origin}: known keys are {known}")]
    UnknownKey {
        /// The key.
        key: String,
        /// Where it stands.
        origin: Origin,
        /// All keys.
        known: String,
    },
    /// A value that its key does not take.
    #[error("{key} = {value:?} from {origin}: {reason}")]
    Value {
        /// The key.
        key: &'static str,
        /// What was written.
        value: String,
        /// Where.
        origin: Origin,
        /// What is wrong with it.
        reason: String,
    },
}

/// Keys, their defaults, and what they mean.
const KEYS: &[(&str, &str, &str)] = &[
    ("network", "main", "local, test or main"),
    (
        "listen",
        "",
        "addresses to listen on, comma-separated; empty: all interfaces, or loopback in a local network",
    ),
    ("bootstrap", "", "addresses of first contacts, comma-separated"),
    ("capacity", "100GB", "bytes a storage node offers"),
    ("epoch", "3600", "seconds of an epoch"),
    (
        "absence_epochs",
        "24",
        "epochs without a sign of a storage node after which its shards are rebuilt elsewhere",
    ),
    ("loss_epochs", "168", "epochs without a sign of a storage node after which it is given up"),
    ("repair_rate", "50MB", "bytes a second that a mediator's repairs may place; 0 for no limit"),
    ("api", "off", "loopback address of the local interface, or off"),
    ("price", "0", "satoshi per GiB-month for storage, three decimals"),
    ("egress_price", "0", "satoshi per GiB read beyond what is included, three decimals"),
    ("payout_threshold", "100", "satoshi that a mediator lets accrue before it pays a storage node"),
    (
        "payout_interval",
        "86400",
        "seconds after which a mediator pays whatever it owes; 0: only from payout_threshold on",
    ),
    (
        "credit_bound",
        "20000",
        "satoshi that a mediator may owe a storage node, at least twice payout_threshold",
    ),
    ("credit_limit", "50000", "satoshi that a storage node lets a mediator owe it for one account"),
    (
        "payout",
        "",
        "where a storage node is paid: an address, an offer (lno1…), a Lightning node, or `lightning` for one of its own",
    ),
    ("max_price", "", "satoshi per GiB-month that a client pays at most; empty: any"),
    (
        "bitcoin_network",
        "",
        "regtest, signet, testnet4 or bitcoin; empty: regtest in a local network, signet in test",
    ),
    ("bitcoind_url", "", "RPC address of a bitcoind, such as http://127.0.0.1:8332"),
    ("bitcoind_cookie", "", "file with the user and password of its RPC, such as ~/.bitcoin/.cookie"),
    ("esplora_url", "", "address of an Esplora server, if there is no bitcoind"),
    (
        "lightning_listen",
        "",
        "host:port where the Lightning node listens; empty: loopback in a local network, else nowhere",
    ),
    ("lightning_alias", "fincrypt", "name of the Lightning node, at most 32 bytes"),
    ("routing_fee_percent", "1", "what the route of a Lightning payout may cost at most, one decimal"),
    ("grace_days", "90", "days that unpaid shards are kept, at least 30"),
    (
        "release_delay",
        "604800",
        "seconds that storage waits before it deletes what an owner released, 1 to 31536000",
    ),
    ("scrub_period", "2592000", "seconds in which a storage node reads every shard once, 1 to 31536000"),
    ("fee_percent", "0", "a mediator's fee on what storage earns, one decimal"),
    ("redundancy", "2.0", "stored bytes per source byte, at least 2"),
    (
        "mediator_timeout",
        "604800",
        "seconds without the mediator after which a client may move, 1 to 31536000",
    ),
    ("auto_migrate", "false", "move to another mediator after mediator_timeout, without asking"),
    ("backup_interval", "3600", "seconds between backups of a client node"),
    ("self_check_interval", "604800", "seconds between a client's own checks of its storage"),
    (
        "catalog_refs",
        "48",
        "segments of the catalog that a head names itself, 2 to 48; for tests, as the default is best",
    ),
    ("folders", "", "folders to back up, one array entry each"),
    ("exclude", "", "patterns of files to leave out, gitignore syntax, one array entry each"),
    ("requests_per_minute", "120000", "requests that one peer may make in a minute"),
    ("bytes_per_minute", "100GB", "bytes that one peer may send and fetch in a minute"),
    ("mdns", "false", "look for peers in the local network"),
    ("upnp", "true", "ask the router for a port"),
];

/// One value and where it came from. A list is several strings.
#[derive(Debug, Clone)]
pub struct Setting {
    /// What was written.
    pub values: Vec<String>,
    /// Where.
    pub origin: Origin,
}

/// All settings as written, every key present.
#[derive(Debug, Clone)]
pub struct Settings(BTreeMap<&'static str, Setting>);

fn known_key(key: &str) -> Option<&'static str> {
    KEYS.iter().map(|(name, ..)| *name).find(|name| *name == key)
}

fn unknown(key: &str, origin: Origin) -> ConfigError {
    let known: Vec<_> = KEYS.iter().map(|(name, ..)| *name).collect();
    ConfigError::UnknownKey { key: key.to_owned(), origin, known: known.join(", ") }
}

fn texts(value: &toml::Value) -> Vec<String> {
    match value {
        toml::Value::String(text) => vec![text.clone()],
        toml::Value::Array(items) => items.iter().flat_map(texts).collect(),
        other => vec![other.to_string()],
    }
}

fn commas(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

impl Settings {
    /// The defaults.
    #[must_use]
    pub fn defaults() -> Self {
        let setting = |text: &str| Setting { values: commas(text), origin: Origin::Default };
        Self(KEYS.iter().map(|(name, text, _)| (*name, setting(text))).collect())
    }

    /// Lays a file over them; a missing file is no error unless it `must_exist`.
    ///
    /// # Errors
    /// [`ConfigError`] if it cannot be read, is no TOML or has unknown keys.
    pub fn with_file(mut self, path: &Path, must_exist: bool) -> Result<Self, ConfigError> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && !must_exist => return Ok(self),
            Err(source) => return Err(ConfigError::Read { path: path.to_owned(), source }),
        };
        let table: toml::Table = text.parse().map_err(|error: toml::de::Error| ConfigError::Syntax {
            path: path.to_owned(),
            reason: error.message().to_owned(),
        })?;
        for (key, value) in &table {
            let origin = Origin::File(path.to_owned());
            let key = known_key(key).ok_or_else(|| unknown(key, origin.clone()))?;
            self.0.insert(key, Setting { values: texts(value), origin });
        }
        Ok(self)
    }

    /// Lays `FINCRYPT_*` variables over them.
    #[must_use]
    pub fn with_environment(mut self) -> Self {
        for (key, ..) in KEYS {
            let name = format!("FINCRYPT_{}", key.to_ascii_uppercase());
            if let Ok(text) = std::env::var(&name) {
                self.0.insert(key, Setting { values: commas(&text), origin: Origin::Environment(name) });
            }
        }
        self
    }

    /// Lays a flag over them, if it was given.
    #[must_use]
    pub fn with_flag(mut self, key: &'static str, values: Vec<String>) -> Self {
        if !values.is_empty() {
            self.0.insert(key, Setting { values, origin: Origin::Flag });
        }
        self
    }

    fn setting(&self, key: &'static str) -> Setting {
        self.0.get(key).cloned().unwrap_or(Setting { values: Vec::new(), origin: Origin::Default })
    }

    fn read<T>(
        &self,
        key: &'static str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Result<T, ConfigError> {
        let setting = self.setting(key);
        let value = setting.values.join(",");
        parse(&value).map_err(|reason| ConfigError::Value { key, value, origin: setting.origin, reason })
    }

    fn parse<T: FromStr>(&self, key: &'static str) -> Result<T, ConfigError>
    where
        T::Err: fmt::Display,
    {
        self.read(key, |text| text.parse().map_err(|error: T::Err| error.to_string()))
    }

    fn addresses(&self, key: &'static str) -> Result<Vec<Multiaddr>, ConfigError> {
        let setting = self.setting(key);
        let parse = |value: &String| {
            value.parse().map_err(|_| ConfigError::Value {
                key,
                value: value.clone(),
                origin: setting.origin.clone(),
                reason: "not a multiaddress; write it like /ip4/203.0.113.7/tcp/4001/p2p/PEERID".to_owned(),
            })
        };
        setting.values.iter().map(parse).collect()
    }

    /// Checks and reads every value.
    ///
    /// # Errors
    /// The first value that cannot be used.
    pub fn resolve(&self) -> Result<Config, ConfigError> {
        let network: Network = self.parse("network")?;
        #[cfg(not(feature = "bitcoin"))]
        self.refuse_bitcoin()?;
        Ok(Config {
            network,
            listen: self.addresses("listen")?,
            bootstrap: self.addresses("bootstrap")?,
            capacity: self.parse("capacity")?,
            epoch_seconds: self.read("epoch", |text| match text.parse() {
                Ok(seconds @ 1..=86_400_u64) => Ok(seconds),
                _ => Err("write seconds between 1 and 86400".to_owned()),
            })?,
            absence_epochs: self.read("absence_epochs", |text| match text.parse() {
                Ok(epochs @ 1..=10_000_u64) => Ok(epochs),
                _ => Err("write epochs between 1 and 10000".to_owned()),
            })?,
            loss_epochs: self.read("loss_epochs", |text| match text.parse() {
                Ok(epochs @ 1..=100_000_u64) => Ok(epochs),
                _ => Err("write epochs between 1 and 100000".to_owned()),
            })?,
            repair_rate: self.parse::<ByteSize>("repair_rate")?.0,
            api: self.read("api", |text| match text {
                "off" => Ok(None),
                text => match text.parse::<std::net::SocketAddr>() {
                    Ok(address) if address.ip().is_loopback() => Ok(Some(address)),
                    Ok(_) => {
                        Err("only this machine may use it: write a loopback address such as 127.0.0.1:0"
                            .to_owned())
                    }
                    Err(_) => Err("write an address such as 127.0.0.1:7070, or off".to_owned()),
                },
            })?,
            price: self.read("price", read_sat)?,
            egress_price: self.read("egress_price", read_sat)?,
            payout_threshold: self.read("payout_threshold", read_amount)?,
            payout_interval: self.read("payout_interval", |text| match text.parse() {
                Ok(seconds @ 0..=31_536_000_u64) => Ok(seconds),
                _ => Err("write seconds between 0 and 31536000".to_owned()),
            })?,
            credit_bound: self.read("credit_bound", read_amount)?,
            credit_limit: self.read("credit_limit", read_amount)?,
            payout: self.read("payout", read_payout)?,
            max_price: self.read("max_price", |text| match text {
                "" => Ok(None),
                text => read_sat(text).map(Some),
            })?,
            #[cfg(feature = "bitcoin")]
            chain: self.chain(network)?,
            lightning_listen: self.setting("lightning_listen").values,
            lightning_alias: self.parse("lightning_alias")?,
            routing_fee_permille: self.read("routing_fee_percent", |text| match read_decimal(text, 1) {
                Some(permille @ 0..=500) => u16::try_from(permille).map_err(|error| error.to_string()),
                _ => Err("write percent between 0 and 50, one decimal".to_owned()),
            })?,
            grace_days: self.read("grace_days", |text| match text.parse() {
                Ok(days @ 30..=3650_u16) => Ok(days),
                _ => Err("write days between 30 and 3650".to_owned()),
            })?,
            release_delay: self.read("release_delay", |text| match text.parse() {
                Ok(seconds @ 1..=31_536_000_u64) => Ok(std::time::Duration::from_secs(seconds)),
                _ => Err("write seconds between 1 and 31536000".to_owned()),
            })?,
            scrub_period: self.read("scrub_period", |text| match text.parse() {
                Ok(seconds @ 1..=31_536_000_u64) => Ok(std::time::Duration::from_secs(seconds)),
                _ => Err("write seconds between 1 and 31536000".to_owned()),
            })?,
            fee_permille: self.read("fee_percent", |text| match read_decimal(text, 1) {
                Some(permille @ 0..=500) => u16::try_from(permille).map_err(|error| error.to_string()),
                _ => Err("write percent between 0 and 50, one decimal".to_owned()),
            })?,
            redundancy: self.read("redundancy", read_redundancy)?,
            mediator_timeout: self.read("mediator_timeout", |text| match text.parse() {
                Ok(seconds @ 1..=31_536_000_u64) => Ok(std::time::Duration::from_secs(seconds)),
                _ => Err("write seconds between 1 and 31536000".to_owned()),
            })?,
            auto_migrate: self.parse("auto_migrate")?,
            backup_interval: self.read("backup_interval", |text| match text.parse() {
                Ok(seconds @ 1..=2_592_000_u64) => Ok(std::time::Duration::from_secs(seconds)),
                _ => Err("write seconds between 1 and 2592000".to_owned()),
            })?,
            self_check_interval: self.read("self_check_interval", |text| match text.parse() {
                Ok(seconds @ 1..=31_536_000_u64) => Ok(std::time::Duration::from_secs(seconds)),
                _ => Err("write seconds between 1 and 31536000".to_owned()),
            })?,
            catalog_refs: self.read("catalog_refs", |text| match text.parse() {
                Ok(refs @ 2..=MAX_CATALOG_REFS) => Ok(refs),
                _ => Err(format!("write a number between 2 and {MAX_CATALOG_REFS}")),
            })?,
            folders: self.setting("folders").values.into_iter().map(PathBuf::from).collect(),
            exclude: self.setting("exclude").values,
            budget: Budget {
                requests: self.parse("requests_per_minute")?,
                bytes: self.parse::<ByteSize>("bytes_per_minute")?.0,
            },
            mdns: self.parse("mdns")?,
            upnp: self.parse("upnp")?,
        })
    }

    /// Refuses what a build without Bitcoin cannot do, rather than to leave it out silently.
    #[cfg(not(feature = "bitcoin"))]
    fn refuse_bitcoin(&self) -> Result<(), ConfigError> {
        let refuse = |key, wanted: fn(&str) -> bool| {
            self.read(key, |text| match wanted(text) {
                true => Err("this build has no Bitcoin: use one with the feature `bitcoin`".to_owned()),
                false => Ok(()),
            })
        };
        refuse("bitcoind_url", |text| !text.is_empty())?;
        refuse("esplora_url", |text| !text.is_empty())?;
        refuse("payout", |text| text.trim() == "lightning")
    }

    /// Where the chain is read, if anywhere.
    #[cfg(feature = "bitcoin")]
    fn chain(&self, network: Network) -> Result<Option<Chain>, ConfigError> {
        let bitcoin = self.read("bitcoin_network", |text| match (text, network) {
            ("", Network::Local) => Ok(Some(BitcoinNetwork::Regtest)),
            ("", Network::Test) => Ok(Some(BitcoinNetwork::Signet)),
            ("", Network::Main) => Ok(None),
            ("regtest" | "signet" | "testnet4" | "bitcoin", _) => {
                text.parse().map(Some).map_err(|_| format!("{text} is not supported"))
            }
            _ => Err("write regtest, signet, testnet4 or bitcoin".to_owned()),
        })?;
        let esplora = self.setting("esplora_url").values.join(",");
        let source = self.read("bitcoind_url", |url| {
            let cookie = self.setting("bitcoind_cookie").values.join(",");
            match (url, esplora.as_str(), cookie.as_str()) {
                ("", "", _) => Ok(None),
                ("", url, _) => Ok(Some(ChainSource::Esplora { url: url.to_owned() })),
                (_, "", "") => {
                    Err("name the file with its user and password in bitcoind_cookie, too".to_owned())
                }
                (url, "", cookie) => {
                    let (host, port) = read_rpc(url)?;
                    Ok(Some(ChainSource::Bitcoind(Bitcoind { host, port, cookie: PathBuf::from(cookie) })))
                }
                _ => Err("give a bitcoind or an Esplora server, not both".to_owned()),
            }
        })?;
        let Some(source) = source else { return Ok(None) };
        let network = bitcoin.ok_or_else(|| ConfigError::Value {
            key: "bitcoin_network",
            value: String::new(),
            origin: self.setting("bitcoin_network").origin,
            reason: "say which network the money is of: real bitcoin is used only if `bitcoin` is said"
                .to_owned(),
        })?;
        Ok(Some(Chain { network, source }))
    }

    /// Each key with its value, origin and meaning, and what is wrong with it.
    #[must_use]
    pub fn explain(&self) -> Vec<(String, Option<String>)> {
        let wrong = self.resolve().err();
        let wrong_key = match &wrong {
            Some(ConfigError::Value { key, .. }) => Some(*key),
            _ => None,
        };
        let line = |(key, _, meaning): &(&'static str, &str, &str)| {
            let setting = self.setting(key);
            let line = format!("{key} = {:?}  ({})  # {meaning}", setting.values.join(", "), setting.origin);
            let problem =
                (wrong_key == Some(*key)).then(|| wrong.as_ref().map(ToString::to_string)).flatten();
            (line, problem)
        };
        KEYS.iter().map(line).collect()
    }
}

/// Reads a decimal number with at most `places` decimals, scaled by `10^places`.
fn read_decimal(text: &str, places: u32) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || (text.contains('.') && !digits(fraction)) || fraction.len() > places as usize {
        return None;
    }
    let scale = 10_u64.checked_pow(places)?;
    let missing = places - u32::try_from(fraction.len()).ok()?;
    let fraction: u64 = if fraction.is_empty() { 0 } else { fraction.parse().ok()? };
    whole
        .parse::<u64>()
        .ok()?
        .checked_mul(scale)?
        .checked_add(fraction.checked_mul(10_u64.checked_pow(missing)?)?)
}

/// Reads host and port of `http://host:port`.
#[cfg(feature = "bitcoin")]
fn read_rpc(url: &str) -> Result<(String, u16), String> {
    let refused = || "write the address of its RPC, such as http://127.0.0.1:8332".to_owned();
    let rest = url.strip_prefix("http://").ok_or_else(refused)?.trim_end_matches('/');
    let (host, port) = rest.rsplit_once(':').ok_or_else(refused)?;
    let port = port.parse().map_err(|_| refused())?;
    if host.is_empty() || host.contains('/') { Err(refused()) } else { Ok((host.to_owned(), port)) }
}

fn read_payout(text: &str) -> Result<PayoutTo, String> {
    match text.trim() {
        "" => Ok(PayoutTo::Nowhere),
        "lightning" => Ok(PayoutTo::Own),
        text if text.len() <= MAX_DESTINATION => Ok(PayoutTo::Destination(text.to_owned())),
        _ => Err(format!("at most {MAX_DESTINATION} bytes")),
    }
}

fn read_sat(text: &str) -> Result<Price, String> {
    text.parse().map_err(|error: ParseAmountError| error.to_string())
}

fn read_amount(text: &str) -> Result<Msat, String> {
    text.parse().map_err(|error: ParseAmountError| error.to_string())
}

/// Reads stored bytes per source byte, such as `2.5`.
///
/// # Errors
/// What is wrong with it.
pub fn read_redundancy(text: &str) -> Result<Redundancy, String> {
    let permille = read_decimal(text, 3).and_then(|permille| u32::try_from(permille).ok());
    let permille = permille.ok_or_else(|| "write a number such as 2.0".to_owned())?;
    Redundancy::from_permille(permille).map_err(|_| "must be between 2.0, the floor, and 30".to_owned())
}

/// The configuration, checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// The network.
    pub network: Network,
    /// Addresses to listen on.
    pub listen: Vec<Multiaddr>,
    /// First contacts.
    pub bootstrap: Vec<Multiaddr>,
    /// Bytes a storage node offers.
    pub capacity: ByteSize,
    /// Length of an epoch.
    pub epoch_seconds: u64,
    /// Epochs that a storage node may be away.
    pub absence_epochs: u64,
    /// Epochs after which an absent storage node is given up.
    pub loss_epochs: u64,
    /// Bytes a second that repairs may place.
    pub repair_rate: u64,
    /// Where the local interface listens; port 0 takes any.
    pub api: Option<std::net::SocketAddr>,
    /// For holding data.
    pub price: Price,
    /// For reading it.
    pub egress_price: Price,
    /// Earnings from which a mediator pays a storage node.
    pub payout_threshold: Msat,
    /// Seconds after which anything is paid; 0 for never.
    pub payout_interval: u64,
    /// What a mediator may owe a storage node for one account.
    pub credit_bound: Msat,
    /// What a storage node lets a mediator owe it for one account.
    pub credit_limit: Msat,
    /// Where a storage node is paid.
    pub payout: PayoutTo,
    /// The most that a client pays.
    pub max_price: Option<Price>,
    /// Where the chain is read, if anywhere.
    #[cfg(feature = "bitcoin")]
    pub chain: Option<Chain>,
    /// Where the Lightning node listens.
    pub lightning_listen: Vec<String>,
    /// Its name.
    pub lightning_alias: String,
    /// What a route may cost at most.
    pub routing_fee_permille: u16,
    /// Days that unpaid shards are kept.
    pub grace_days: u16,
    /// How long a release waits before it is carried out.
    pub release_delay: std::time::Duration,
    /// In which a storage node reads every shard once.
    pub scrub_period: std::time::Duration,
    /// A mediator's fee.
    pub fee_permille: u16,
    /// Stored bytes per source byte.
    pub redundancy: Redundancy,
    /// How long a client waits for a mediator that is gone before it may move to another one.
    pub mediator_timeout: std::time::Duration,
    /// Whether it moves without being asked.
    pub auto_migrate: bool,
    /// Between backups of a client node.
    pub backup_interval: std::time::Duration,
    /// Between a client's own checks of its storage.
    pub self_check_interval: std::time::Duration,
    /// Segments of the catalog that a head names itself, before they go into a list.
    pub catalog_refs: usize,
    /// Folders to back up.
    pub folders: Vec<PathBuf>,
    /// Patterns to leave out.
    pub exclude: Vec<String>,
    /// What one peer may ask for.
    pub budget: Budget,
    /// Look for peers in the local network.
    pub mdns: bool,
    /// Ask the router for a port.
    pub upnp: bool,
}

/// Days that a contract bills at least.
const MINIMUM_DAYS: u16 = 30;

impl Config {
    /// Options of a client.
    #[must_use]
    pub fn client(&self) -> ClientOptions {
        ClientOptions {
            network: self.network,
            bootstrap: self.bootstrap.clone(),
            mdns: self.mdns,
            redundancy: self.redundancy,
            max_price: self.max_price,
            exclude: self.exclude.clone(),
            mediator_timeout: self.mediator_timeout,
            auto_migrate: self.auto_migrate,
            self_check_interval: self.self_check_interval,
            catalog_refs: self.catalog_refs,
        }
    }

    /// Terms of a storage node.
    #[must_use]
    pub fn storage(&self) -> StorageTerms {
        StorageTerms {
            price: self.price,
            egress_price: self.egress_price,
            payout: self.payout.clone(),
            grace_days: self.grace_days,
            minimum_days: MINIMUM_DAYS,
            credit_limit: self.credit_limit,
            release_delay: self.release_delay,
            scrub_period: self.scrub_period,
        }
    }

    /// Terms of a mediator.
    #[must_use]
    pub fn mediator(&self) -> MediatorTerms {
        MediatorTerms {
            fee_permille: self.fee_permille,
            floor: Redundancy::MIN,
            release_delay: self.release_delay,
            upkeep: UpkeepTerms {
                epoch: std::time::Duration::from_secs(self.epoch_seconds),
                absence: self.absence_epochs,
                loss: self.loss_epochs,
            },
            billing: BillingTerms {
                payout_threshold: self.payout_threshold,
                credit_bound: self.credit_bound,
            },
            repair_rate: self.repair_rate,
        }
    }

    /// Options of the money of a mediator in `home`.
    ///
    /// # Errors
    /// If no port for the Lightning node can be had or remembered.
    pub fn money(&self, home: &Home) -> std::io::Result<MoneyOptions> {
        let paths = MoneyPaths {
            ledger: home.ledger(),
            treasury: home.treasury(),
            wallet_seed: home.wallet_seed(),
            wallet_birthday: home.wallet_birthday(),
            lightning: home.lightning(),
            lightning_trusted: home.lightning_trusted(),
        };
        Ok(MoneyOptions {
            paths,
            #[cfg(feature = "bitcoin")]
            chain: self.chain.clone(),
            lightning_listen: if self.has_chain() { self.lightning_listen(home)? } else { Vec::new() },
            lightning_alias: self.lightning_alias.clone(),
            routing_fee_permille: self.routing_fee_permille,
            payout_threshold: self.payout_threshold,
            payout_interval: self.payout_interval,
            credit_bound: self.credit_bound,
        })
    }

    #[cfg(feature = "bitcoin")]
    fn has_chain(&self) -> bool {
        self.chain.is_some()
    }

    #[cfg(not(feature = "bitcoin"))]
    fn has_chain(&self) -> bool {
        false
    }

    /// Where a Lightning node listens: as configured; else, in a local network, at a port of loopback
    /// that is chosen once.
    ///
    /// # Errors
    /// If no port can be had or remembered.
    pub fn lightning_listen(&self, home: &Home) -> std::io::Result<Vec<String>> {
        if !self.lightning_listen.is_empty() || self.network != Network::Local {
            return Ok(self.lightning_listen.clone());
        }
        let path = home.lightning_port();
        if let Ok(known) = std::fs::read_to_string(&path) {
            return Ok(vec![known]);
        }
        let address = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
        fincrypt_state::durable::write_file(&path, address.as_bytes(), 0o600)?;
        Ok(vec![address])
    }
}

/// The default home: `$XDG_DATA_HOME/fincrypt`, else `~/.local/share/fincrypt`.
#[must_use]
pub fn default_home() -> Option<PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let data = absolute("XDG_DATA_HOME").or_else(|| absolute("HOME").map(|home| home.join(".local/share")));
    data.map(|data| data.join("fincrypt"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_beats_a_file_which_beats_the_default() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("config.toml");
        std::fs::write(&path, "capacity = \"5GB\"\nepoch = 60\n").expect("written");
        let settings = Settings::defaults().with_file(&path, true).expect("read");
        let settings = settings.with_flag("capacity", vec!["7GB".to_owned()]);
        let config = settings.resolve().expect("valid");
        assert_eq!(config.capacity, ByteSize(7_000_000_000));
        assert_eq!(config.epoch_seconds, 60);
        assert_eq!(config.network, Network::Main);
    }

    #[cfg(feature = "bitcoin")]
    #[test]
    fn the_money_of_the_main_network_is_real_only_if_bitcoin_is_said() {
        let settings = |flags: &[(&'static str, &str)]| {
            let all = flags.iter().fold(Settings::defaults(), |all, (key, value)| {
                all.with_flag(key, vec![(*value).to_owned()])
            });
            all.resolve().map(|config| config.chain)
        };
        let chain = [("esplora_url", "https://esplora.example/api")];
        assert!(matches!(settings(&[]), Ok(None)), "no chain, no money");
        let unsaid = settings(&chain).expect_err("which network?").to_string();
        assert!(
            unsaid.contains("bitcoin_network") && unsaid.contains("only if `bitcoin` is said"),
            "{unsaid}"
        );
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
            let settings = Settings::defaults().with_flag(key, vec![value.to_owned()]);
            let refused = settings.resolve().expect_err("no Bitcoin").to_string();
            assert!(refused.contains(key) && refused.contains("no Bitcoin"), "{refused}");
        }
    }

    #[test]
    fn an_unknown_key_is_named_with_the_known_ones() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("config.toml");
        std::fs::write(&path, "capacty = \"5GB\"\n").expect("written");
        let error = Settings::defaults().with_file(&path, true).expect_err("unknown").to_string();
        assert!(error.contains("capacty") && error.contains("capacity"), "{error}");
    }

    #[test]
    fn a_wrong_value_is_explained_beside_its_key() {
        let settings = Settings::defaults().with_flag("redundancy", vec!["1.5".to_owned()]);
        assert!(settings.resolve().is_err());
        let wrong: Vec<_> = settings.explain().into_iter().filter_map(|(_, problem)| problem).collect();
        assert_eq!(wrong.len(), 1);
        assert!(wrong[0].contains("2.0"), "{wrong:?}");
    }

    #[test]
    fn a_release_waits_as_long_as_everyone_expects_unless_told_otherwise() {
        let delay = Settings::defaults().resolve().expect("valid").release_delay;
        assert_eq!(delay.as_secs(), fincrypt_protocol::limits::RELEASE_DELAY_SECONDS);
        let never = Settings::defaults().with_flag("release_delay", vec!["0".to_owned()]);
        assert!(never.resolve().is_err_and(|error| error.to_string().contains("seconds")));
    }

    #[test]
    fn decimals_are_exact() {
        assert_eq!(read_decimal("1.5", 3), Some(1500));
        assert_eq!(read_decimal("0.001", 3), Some(1));
        assert_eq!(read_decimal("7", 1), Some(70));
        for bad in ["", ".", "1.", "1.0001", "-1", "1e3"] {
            assert_eq!(read_decimal(bad, 3), None, "{bad}");
        }
    }
}
