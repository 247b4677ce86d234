//! Decides which addresses may be connected to. Lists of URLs are untrusted: without this check, a
//! row such as `http://169.254.169.254/` would read secrets of the downloading machine (server-side
//! request forgery).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Returns why a connection to `address` is refused; `None` if it is an ordinary public address.
///
/// Refused are: the ranges of the IANA special-purpose registries for IPv4 and IPv6 that are not
/// globally reachable; every range whose addresses embed an IPv4 address (mapped, compatible,
/// NAT64, 6to4, Teredo), because they reach the same machines under another address; and the one
/// public address that leads to the host of a virtual machine.
///
/// ```
/// use lynxdata_fetch::guard::refusal;
/// assert_eq!(refusal("169.254.169.254".parse()?), Some("link-local (cloud metadata lives here)"));
/// assert_eq!(refusal("93.184.216.34".parse()?), None);
/// # Ok::<(), std::net::AddrParseError>(())
/// ```
pub fn refusal(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(address) => refusal_v4(address),
        IpAddr::V6(address) => refusal_v6(address),
    }
}

/// Network, prefix length, name. <https://www.iana.org/assignments/iana-ipv4-special-registry>
const REFUSED_V4: &[(Ipv4Addr, u32, &str)] = &[
    (Ipv4Addr::UNSPECIFIED, 8, "unspecified (\"this network\")"),
    (Ipv4Addr::new(10, 0, 0, 0), 8, "private"),
    (Ipv4Addr::new(100, 64, 0, 0), 10, "carrier-grade NAT"),
    (Ipv4Addr::new(127, 0, 0, 0), 8, "loopback"),
    (Ipv4Addr::new(169, 254, 0, 0), 16, "link-local (cloud metadata lives here)"),
    // <https://learn.microsoft.com/azure/virtual-network/what-is-ip-address-168-63-129-16>
    (Ipv4Addr::new(168, 63, 129, 16), 32, "the host of an Azure machine"),
    (Ipv4Addr::new(172, 16, 0, 0), 12, "private"),
    (Ipv4Addr::new(192, 0, 0, 0), 24, "reserved for IETF protocols"),
    (Ipv4Addr::new(192, 0, 2, 0), 24, "reserved for documentation"),
    (Ipv4Addr::new(192, 88, 99, 0), 24, "6to4 relay"),
    (Ipv4Addr::new(192, 168, 0, 0), 16, "private"),
    (Ipv4Addr::new(198, 18, 0, 0), 15, "reserved for benchmarks"),
    (Ipv4Addr::new(198, 51, 100, 0), 24, "reserved for documentation"),
    (Ipv4Addr::new(203, 0, 113, 0), 24, "reserved for documentation"),
    (Ipv4Addr::new(224, 0, 0, 0), 4, "multicast"),
    (Ipv4Addr::BROADCAST, 32, "broadcast"),
    (Ipv4Addr::new(240, 0, 0, 0), 4, "reserved"),
];

/// Network, prefix length, name; the first match wins.
/// <https://www.iana.org/assignments/iana-ipv6-special-registry>
const REFUSED_V6: &[(Ipv6Addr, u32, &str)] = &[
    (Ipv6Addr::UNSPECIFIED, 128, "unspecified"),
    (Ipv6Addr::LOCALHOST, 128, "loopback"),
    (Ipv6Addr::UNSPECIFIED, 96, "IPv4-compatible"),
    (Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0), 96, "IPv4-mapped"),
    (Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96, "NAT64"),
    (Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, 0, 0), 48, "local NAT64"),
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 32, "Teredo"),
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23, "reserved for IETF protocols"),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32, "reserved for documentation"),
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16, "6to4"),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20, "reserved for documentation"),
    (Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7, "private (unique local)"),
    (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10, "link-local"),
    (Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 0), 10, "site-local"),
    (Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8, "multicast"),
];

/// 2000::/3 is the only IPv6 range allocated for global unicast (RFC 4291 and IANA's address-space
/// registry).
const GLOBAL_UNICAST_V6: (Ipv6Addr, u32) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);

fn refusal_v4(address: Ipv4Addr) -> Option<&'static str> {
    let matches = |network: &Ipv4Addr, length: u32| (address.to_bits() ^ network.to_bits()) >> (32 - length) == 0;
    REFUSED_V4.iter().find(|(network, length, _)| matches(network, *length)).map(|(_, _, name)| *name)
}

fn refusal_v6(address: Ipv6Addr) -> Option<&'static str> {
    let matches = |network: &Ipv6Addr, length: u32| (address.to_bits() ^ network.to_bits()) >> (128 - length) == 0;
    let listed = REFUSED_V6.iter().find(|(network, length, _)| matches(network, *length)).map(|(_, _, name)| *name);
    let (global, length) = &GLOBAL_UNICAST_V6;
    listed.or_else(|| (!matches(global, *length)).then_some("not global unicast"))
}

/// An address that was refused, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{address} is {reason}")]
pub(crate) struct Refused {
    pub(crate) address: IpAddr,
    pub(crate) reason: &'static str,
}

/// Decides which addresses to refuse: [`refusal`], [`refuse_nothing`], or a function of a test.
pub(crate) type Policy = fn(IpAddr) -> Option<&'static str>;

/// Refuses no address: the policy of a run that may connect to any address.
pub(crate) fn refuse_nothing(_: IpAddr) -> Option<&'static str> {
    None
}

/// Returns the address unless the policy refuses it.
pub(crate) fn check(address: IpAddr, policy: Policy) -> Result<IpAddr, Refused> {
    match policy(address) {
        Some(reason) => Err(Refused { address, reason }),
        None => Ok(address),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(address: &str) -> Option<&'static str> {
        refusal(address.parse().unwrap())
    }

    #[test]
    fn refuses_both_ends_of_every_range_and_not_their_neighbours() {
        // first, last, the address before, the address after ("-" where the neighbour is refused
        // for its own reason)
        let ranges = [
            ("0.0.0.0", "0.255.255.255", "-", "1.0.0.0"),
            ("10.0.0.0", "10.255.255.255", "9.255.255.255", "11.0.0.0"),
            ("100.64.0.0", "100.127.255.255", "100.63.255.255", "100.128.0.0"),
            ("127.0.0.0", "127.255.255.255", "126.255.255.255", "128.0.0.0"),
            ("169.254.0.0", "169.254.255.255", "169.253.255.255", "169.255.0.0"),
            ("168.63.129.16", "168.63.129.16", "168.63.129.15", "168.63.129.17"),
            ("172.16.0.0", "172.31.255.255", "172.15.255.255", "172.32.0.0"),
            ("192.0.0.0", "192.0.0.255", "191.255.255.255", "192.0.1.0"),
            ("192.0.2.0", "192.0.2.255", "192.0.1.255", "192.0.3.0"),
            ("192.88.99.0", "192.88.99.255", "192.88.98.255", "192.88.100.0"),
            ("192.168.0.0", "192.168.255.255", "192.167.255.255", "192.169.0.0"),
            ("198.18.0.0", "198.19.255.255", "198.17.255.255", "198.20.0.0"),
            ("198.51.100.0", "198.51.100.255", "198.51.99.255", "198.51.101.0"),
            ("203.0.113.0", "203.0.113.255", "203.0.112.255", "203.0.114.0"),
            ("224.0.0.0", "239.255.255.255", "223.255.255.255", "-"),
            ("240.0.0.0", "255.255.255.255", "-", "-"),
            ("::", "::ffff:ffff", "-", "-"),
            ("::ffff:0.0.0.0", "::ffff:255.255.255.255", "-", "-"),
            ("64:ff9b::", "64:ff9b::255.255.255.255", "-", "-"),
            ("64:ff9b:1::", "64:ff9b:1:ffff:ffff:ffff:ffff:ffff", "-", "-"),
            ("2001::", "2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff", "2000:ffff::", "2001:200::"),
            ("2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", "2001:db7:ffff::", "2001:db9::"),
            ("2002::", "2002:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "2001:ffff::", "2003::"),
            ("3fff::", "3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff", "3ffe:ffff::", "3fff:1000::"),
            ("4000::", "fbff:ffff::", "3fff:ffff::", "-"),
            ("fc00::", "fdff:ffff::", "-", "-"),
            ("fe80::", "febf:ffff::", "-", "-"),
            ("fec0::", "feff:ffff::", "-", "-"),
            ("ff00::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "-", "-"),
        ];
        for (first, last, before, after) in ranges {
            assert!(of(first).is_some(), "{first}");
            assert!(of(last).is_some(), "{last}");
            for neighbour in [before, after] {
                assert!(neighbour == "-" || of(neighbour).is_none(), "{neighbour}: {:?}", of(neighbour));
            }
        }
    }

    #[test]
    fn passes_public_addresses() {
        for address in ["8.8.8.8", "93.184.216.34", "2606:4700:4700::1111", "2a00:1450:4001:80b::200e"] {
            assert_eq!(of(address), None, "{address}");
        }
    }

    #[test]
    fn names_what_an_address_is() {
        assert_eq!(of("255.255.255.255"), Some("broadcast"));
        assert_eq!(of("::1"), Some("loopback"));
        assert_eq!(of("::ffff:93.184.216.34"), Some("IPv4-mapped"), "even for a public address inside");
        assert_eq!(of("::127.0.0.1"), Some("IPv4-compatible"));
        assert_eq!(of("fd00:ec2::254"), Some("private (unique local)"));
    }

    #[test]
    fn the_setting_lets_everything_through() {
        let loopback = "127.0.0.1".parse().unwrap();
        assert_eq!(check(loopback, refuse_nothing), Ok(loopback));
        assert_eq!(check(loopback, refusal).unwrap_err().to_string(), "127.0.0.1 is loopback");
    }
}
