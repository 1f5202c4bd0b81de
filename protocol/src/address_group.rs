//! Groups of addresses that one operator can easily have many of: identities are free, these are not.

use std::net::IpAddr;

/// A /24 of IPv4 or a /48 of IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AddressGroup([u8; 6]);

impl From<IpAddr> for AddressGroup {
    /// An IPv4 group has three zero bytes before it: no global IPv6 address begins so.
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(ip) => {
                let [a, b, c, _] = ip.octets();
                Self([0, 0, 0, a, b, c])
            }
            IpAddr::V6(ip) => {
                let [a, b, c, d, e, f, ..] = ip.octets();
                Self([a, b, c, d, e, f])
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(text: &str) -> AddressGroup {
        text.parse::<IpAddr>().expect("an address").into()
    }

    #[test]
    fn neighbours_share_a_group() {
        assert_eq!(group("9.9.9.9"), group("9.9.9.200"));
        assert_ne!(group("9.9.9.9"), group("9.9.8.9"));
        assert_eq!(group("2a00:1:2:3::1"), group("2a00:1:2:ffff::1"));
        assert_ne!(group("2a00:1:2:3::1"), group("2a00:1:3:3::1"));
    }

    #[test]
    fn a_mapped_address_is_of_its_ipv4_group() {
        assert_eq!(group("::ffff:9.9.9.9"), group("9.9.9.1"));
    }
}
