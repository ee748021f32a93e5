//! The header of HAProxy's PROXY protocol, version 2, as a client writes it: where the connection is to come from and go to.

use std::net::{IpAddr, SocketAddr};

/// What a header of version 2 begins with.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Version 2, command PROXY.
const PROXY: u8 = 0x21;
/// TCP over IPv4, and over IPv6.
const TCP4: u8 = 0x11;
const TCP6: u8 = 0x21;

/// The header for a connection between two addresses of one family.
///
/// # Errors
/// They are not of one family, which the header cannot say.
pub(super) fn header(from: SocketAddr, to: SocketAddr) -> Result<Vec<u8>, &'static str> {
    let (family, mut rest) = match (from.ip(), to.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => (TCP4, [from.octets(), to.octets()].concat()),
        (IpAddr::V6(from), IpAddr::V6(to)) => (TCP6, [from.octets(), to.octets()].concat()),
        _ => return Err("ha_proxy_source_address is of the other family"),
    };
    rest.extend(from.port().to_be_bytes());
    rest.extend(to.port().to_be_bytes());
    let length = u16::try_from(rest.len()).map_err(|_| "the header is too long")?;
    Ok([&SIGNATURE[..], &[PROXY, family], &length.to_be_bytes(), &rest].concat())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_header_says_family_addresses_and_ports() {
        let v4 = header("192.0.2.1:0".parse().unwrap(), "198.51.100.2:25".parse().unwrap()).unwrap();
        let rest = [192, 0, 2, 1, 198, 51, 100, 2, 0, 0, 0, 25];
        assert_eq!(v4, [&SIGNATURE[..], &[0x21, 0x11, 0, 12], &rest].concat());
        let v6 = header("[2001:db8::1]:0".parse().unwrap(), "[2001:db8::2]:587".parse().unwrap()).unwrap();
        assert_eq!((&v6[12..16], v6.len()), (&[0x21, 0x21, 0, 36][..], 52));
        assert_eq!(&v6[48..], [0, 0, 2, 75]);
        assert!(header("192.0.2.1:0".parse().unwrap(), "[2001:db8::2]:25".parse().unwrap()).is_err());
    }
}
