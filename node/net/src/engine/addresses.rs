//! Which addresses are worth knowing, and their binary form in messages.

use std::net::IpAddr;

use fincrypt_protocol::limits::{MAX_ADDRESS_LEN, MAX_ADDRESSES};
use fincrypt_protocol::{AddressGroup, Network};
use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;
use serde_bytes::ByteBuf;

/// The /24 or /48 of an address that could be anybody's; none for addresses of a local network.
pub(crate) fn group_of(address: &Multiaddr, network: Network) -> Option<AddressGroup> {
    if network == Network::Local || !is_useful(address, network) || is_relayed(address) {
        return None;
    }
    ip_of(address).map(AddressGroup::from)
}

/// The IP address that a multiaddress names, if it names one.
fn ip_of(address: &Multiaddr) -> Option<IpAddr> {
    address.iter().find_map(|part| match part {
        Protocol::Ip4(ip) => Some(IpAddr::V4(ip)),
        Protocol::Ip6(ip) => Some(IpAddr::V6(ip)),
        _ => None,
    })
}

/// Whether others can be expected to reach `address`: anything in a local network, else only
/// global addresses and names.
#[must_use]
pub fn is_useful(address: &Multiaddr, network: Network) -> bool {
    match (network, ip_of(address)) {
        (_, Some(ip)) if ip.is_unspecified() || ip.is_multicast() => false,
        (Network::Local, _) | (_, None) => true,
        (_, Some(IpAddr::V4(ip))) => {
            !(ip.is_private() || ip.is_loopback() || ip.is_link_local() || ip.is_documentation())
        }
        (_, Some(IpAddr::V6(ip))) => {
            !(ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local())
        }
    }
}

/// Whether the address leads through a relay.
pub(crate) fn is_relayed(address: &Multiaddr) -> bool {
    address.iter().any(|part| matches!(part, Protocol::P2pCircuit))
}

/// Addresses in their binary form, as many as a message may carry.
#[must_use]
pub fn encode_all<'a>(addresses: impl IntoIterator<Item = &'a Multiaddr>) -> Vec<ByteBuf> {
    let encoded = addresses.into_iter().map(|address| ByteBuf::from(address.to_vec()));
    encoded.filter(|bytes| bytes.len() <= MAX_ADDRESS_LEN).take(MAX_ADDRESSES).collect()
}

/// Reads binary addresses, leaving out what is malformed.
#[must_use]
pub fn decode_all(addresses: &[ByteBuf]) -> Vec<Multiaddr> {
    let decoded = addresses.iter().take(MAX_ADDRESSES);
    decoded.filter_map(|bytes| Multiaddr::try_from(bytes.to_vec()).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_addresses_count_only_in_a_local_network() {
        let address: Multiaddr = "/ip4/127.0.0.1/tcp/1".parse().expect("valid");
        assert!(is_useful(&address, Network::Local));
        assert!(!is_useful(&address, Network::Main));
        let global: Multiaddr = "/ip4/9.9.9.9/udp/1/quic-v1".parse().expect("valid");
        assert!(is_useful(&global, Network::Main));
    }

    #[test]
    fn neighbours_are_of_one_group_and_local_addresses_of_none() {
        let group = |address: &str| group_of(&address.parse().expect("valid"), Network::Main);
        assert_eq!(group("/ip4/9.9.9.9/tcp/1"), group("/ip4/9.9.9.200/udp/7/quic-v1"));
        assert_ne!(group("/ip4/9.9.9.9/tcp/1"), group("/ip4/9.9.8.9/tcp/1"));
        assert_eq!(group("/ip6/2a00:1:2:3::1/tcp/1"), group("/ip6/2a00:1:2:ffff::1/tcp/1"));
        assert_ne!(group("/ip6/2a00:1:2:3::1/tcp/1"), group("/ip6/2a00:1:3:3::1/tcp/1"));
        assert_eq!(group("/ip4/127.0.0.1/tcp/1"), None);
    }

    #[test]
    fn addresses_survive_their_binary_form() {
        let address: Multiaddr = "/dns4/example.org/tcp/4001".parse().expect("valid");
        assert_eq!(decode_all(&encode_all([&address])), vec![address]);
    }
}
