//! Where the chain is read: checks across several options.

use std::path::PathBuf;

use fincrypt_protocol::Network;
use fincrypt_treasury::onchain::Bitcoind;
use fincrypt_treasury::{BitcoinNetwork, Chain, ChainSource};

use super::options::BitcoinArgs;

/// An option that contradicts others.
pub(super) struct Conflict {
    pub(super) key: &'static str,
    pub(super) reason: String,
}

fn conflict(key: &'static str, reason: &str) -> Conflict {
    Conflict { key, reason: reason.to_owned() }
}

/// The chain of `args`, none if no source is named.
///
/// # Errors
/// The option that does not fit the others.
pub(super) fn chain(args: &BitcoinArgs, network: Network) -> Result<Option<Chain>, Conflict> {
    let Some(source) = source(args)? else { return Ok(None) };
    let network: BitcoinNetwork = match (args.bitcoin_network.as_deref(), network) {
        (Some(name), _) => {
            name.parse().map_err(|_| conflict("bitcoin_network", &format!("{name} is not supported")))?
        }
        (None, Network::Local) => BitcoinNetwork::Regtest,
        (None, Network::Test) => BitcoinNetwork::Signet,
        (None, Network::Main) => {
            return Err(conflict(
                "bitcoin_network",
                "say which network the money is of: real bitcoin is used only if `bitcoin` is said",
            ));
        }
    };
    Ok(Some(Chain { network, source }))
}

fn source(args: &BitcoinArgs) -> Result<Option<ChainSource>, Conflict> {
    let refuse = |reason| conflict("bitcoind_url", reason);
    match (&args.bitcoind_url, &args.esplora_url, &args.bitcoind_cookie) {
        (None, None, _) => Ok(None),
        (None, Some(url), _) => Ok(Some(ChainSource::Esplora { url: url.clone() })),
        (Some(_), Some(_), _) => Err(refuse("give a bitcoind or an Esplora server, not both")),
        (Some(_), None, None) => {
            Err(refuse("name the file with its user and password in bitcoind_cookie, too"))
        }
        (Some(url), None, Some(cookie)) => {
            let read = read_rpc(url);
            let (host, port) =
                read.ok_or_else(|| refuse("write the address of its RPC, such as http://127.0.0.1:8332"))?;
            Ok(Some(ChainSource::Bitcoind(Bitcoind { host, port, cookie: PathBuf::from(cookie) })))
        }
    }
}

/// Reads host and port of `http://host:port`.
fn read_rpc(url: &str) -> Option<(String, u16)> {
    let rest = url.strip_prefix("http://")?.trim_end_matches('/');
    let (host, port) = rest.rsplit_once(':')?;
    let port = port.parse().ok()?;
    (!host.is_empty() && !host.contains('/')).then(|| (host.to_owned(), port))
}
