//! Parsers of single values. Each says what it takes when it refuses a text.

use std::fmt::Display;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use fincrypt_net::Multiaddr;
use fincrypt_protocol::limits::MAX_DESTINATION;
use fincrypt_protocol::{ByteSize, ParseByteSizeError, Redundancy};
use fincrypt_storage_node::PayoutTo;

/// Where the local interface listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Api {
    /// Nowhere.
    Off,
    /// At a loopback address; port 0 takes any free one.
    At(SocketAddr),
}

/// Whole numbers of a range; `unit` names what they count.
pub(super) fn number<T>(
    unit: &'static str,
    range: RangeInclusive<T>,
) -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync + 'static
where
    T: FromStr + PartialOrd + Display + Clone + Send + Sync + 'static,
{
    move |text| match text.parse() {
        Ok(number) if range.contains(&number) => Ok(number),
        _ => Err(format!("write {unit} between {} and {}", range.start(), range.end())),
    }
}

/// Whole seconds of a range.
pub(super) fn seconds(
    range: RangeInclusive<u64>,
) -> impl Fn(&str) -> Result<Duration, String> + Clone + Send + Sync + 'static {
    let number = number("seconds", range);
    move |text| number(text).map(Duration::from_secs)
}

/// A percentage from 0 to 50 with at most one decimal, in permille.
pub(super) fn percent(text: &str) -> Result<u16, String> {
    match decimal(text, 1) {
        Some(permille @ 0..=500) => u16::try_from(permille).map_err(|error| error.to_string()),
        _ => Err("write percent between 0 and 50, one decimal".to_owned()),
    }
}

/// `true` or `false`.
pub(super) fn switch(text: &str) -> Result<bool, String> {
    text.parse().map_err(|_| "write true or false".to_owned())
}

/// A multiaddress.
pub(super) fn address(text: &str) -> Result<Multiaddr, String> {
    text.parse()
        .map_err(|_| "not a multiaddress; write it like /ip4/203.0.113.7/tcp/4001/p2p/PEERID".to_owned())
}

/// A loopback address, or `off`.
pub(super) fn api(text: &str) -> Result<Api, String> {
    match (text, text.parse::<SocketAddr>()) {
        ("off", _) => Ok(Api::Off),
        (_, Ok(address)) if address.ip().is_loopback() => Ok(Api::At(address)),
        (_, Ok(_)) => {
            Err("only this machine may use it: write a loopback address such as 127.0.0.1:0".to_owned())
        }
        (_, Err(_)) => Err("write an address such as 127.0.0.1:7070, or off".to_owned()),
    }
}

/// A storage node's destination.
pub(super) fn payout(text: &str) -> Result<PayoutTo, String> {
    match text.trim() {
        "lightning" if cfg!(not(feature = "bitcoin")) => Err(NO_BITCOIN.to_owned()),
        "lightning" => Ok(PayoutTo::Own),
        text if text.len() > MAX_DESTINATION => Err(format!("at most {MAX_DESTINATION} bytes")),
        text if is_destination(text) => Ok(PayoutTo::Destination(text.to_owned())),
        _ => Err("write a Bitcoin address, an offer (lno1…), a Lightning node's key (66 hexadecimal digits), or lightning".to_owned()),
    }
}

/// Whether money can go there, on some Bitcoin network: which one the mediator uses is not known here.
#[cfg(feature = "bitcoin")]
fn is_destination(text: &str) -> bool {
    use fincrypt_treasury::lightning::{Destination, Peer};
    use fincrypt_treasury::{BitcoinNetwork, onchain::is_address};
    let networks = ["bitcoin", "testnet4", "signet", "regtest"].into_iter();
    let mut networks = networks.filter_map(|name| name.parse::<BitcoinNetwork>().ok());
    networks.any(|network| is_address(text, network))
        || text.parse::<Peer>().is_ok()
        || matches!(text.parse(), Ok(Destination::Offer(_) | Destination::Node(_)))
}

/// Whether it looks like a place where money can go: this build cannot read more of it.
#[cfg(not(feature = "bitcoin"))]
fn is_destination(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    let bech32 =
        |data: &str| data.bytes().all(|byte| byte.is_ascii_alphanumeric() && !b"1bio".contains(&byte));
    let segwit = ["bc1", "tb1", "bcrt1"].into_iter().filter_map(|prefix| lower.strip_prefix(prefix));
    let base58 = |byte: u8| byte.is_ascii_alphanumeric() && !b"0OIl".contains(&byte);
    let key = lower.split_once('@').map_or(lower.as_str(), |(key, _)| key);
    segwit.into_iter().any(|data| (39..=87).contains(&data.len()) && bech32(data))
        || lower.strip_prefix("lno1").is_some_and(|data| data.len() >= 50 && bech32(data))
        || key.len() == 66 && key.bytes().all(|byte| byte.is_ascii_hexdigit())
        || (26..=35).contains(&text.len())
            && text.bytes().all(base58)
            && text.starts_with(['1', '3', 'm', 'n', '2'])
}

const NO_BITCOIN: &str = "this build has no Bitcoin: use one with the feature `bitcoin`";

/// What only a build with Bitcoin can use; other builds refuse it rather than to ignore it silently.
pub(super) fn chain_source(text: &str) -> Result<String, String> {
    if cfg!(feature = "bitcoin") { Ok(text.to_owned()) } else { Err(NO_BITCOIN.to_owned()) }
}

/// Name of a Bitcoin network.
pub(super) fn bitcoin_network(text: &str) -> Result<String, String> {
    match text {
        "regtest" | "signet" | "testnet4" | "bitcoin" => Ok(text.to_owned()),
        _ => Err("write regtest, signet, testnet4 or bitcoin".to_owned()),
    }
}

/// Name of a Lightning node, at most 32 bytes (BOLT 7).
pub(super) fn alias(text: &str) -> Result<String, String> {
    if text.len() <= 32 { Ok(text.to_owned()) } else { Err("write at most 32 bytes".to_owned()) }
}

/// Stored bytes per source byte, such as `2.5`.
pub(super) fn redundancy(text: &str) -> Result<Redundancy, String> {
    let permille = decimal(text, 3).and_then(|permille| u32::try_from(permille).ok());
    let permille = permille.ok_or_else(|| "write a number such as 2.0".to_owned())?;
    Redundancy::from_permille(permille).map_err(|_| "must be between 2.0, the floor, and 30".to_owned())
}

/// Bytes, with a unit: a forgotten one would make them few.
pub(super) fn capacity(text: &str) -> Result<ByteSize, String> {
    let size: ByteSize = text.parse().map_err(|error: ParseByteSizeError| error.to_string())?;
    if size.0 > 0 && text.trim().ends_with(|last: char| last.is_ascii_digit()) {
        return Err(format!("write a unit, such as {}GB", text.trim()));
    }
    Ok(size)
}

/// Reads a decimal number with at most `places` decimals, scaled by `10^places`.
pub(super) fn decimal(text: &str, places: u32) -> Option<u64> {
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
