//! The header with which a load balancer says for whom it speaks: HAProxy's PROXY protocol, versions 1 and 2.
//!
//! Reads exactly the bytes of the header, so that a TLS handshake may follow it. Strict: what is not to the letter of the
//! specification ends the connection, because whoever sends it is a machine. Whose header is believed is for the caller to say.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::io::{AsyncRead, AsyncReadExt};

/// What a header of version 2 begins with.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Longest header of version 1, CRLF included, as the specification has it.
const TEXT_BYTES_MAX: usize = 107;
/// Bytes behind the fixed part of version 2: addresses and what else the sender cares to add.
const REST_BYTES_MAX: usize = 4096;

/// Who is at the far end, as the header has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Announced {
    /// The balancer speaks for itself, such as to see whether we are there; or it does not know.
    Nobody,
    /// A client, and the address that it came to.
    Client { from: SocketAddr, via: SocketAddr },
}

/// Reads one header.
///
/// # Errors
/// The bytes are no header (`InvalidData`), or the network failed.
pub(super) async fn read<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<Announced> {
    let mut start = [0; SIGNATURE.len()];
    stream.read_exact(&mut start).await?;
    if start != SIGNATURE {
        return read_text(stream, &start).await;
    }
    let mut fixed = [0; 4];
    stream.read_exact(&mut fixed).await?;
    let [command, family, high, low] = fixed;
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length > REST_BYTES_MAX {
        return Err(invalid("it is too long"));
    }
    let mut rest = vec![0; length];
    stream.read_exact(&mut rest).await?;
    parse_binary(command, family, &rest)
}

/// The line ends within the bytes that the shortest header has left, or is read on byte by byte: it must not be passed.
async fn read_text<S: AsyncRead + Unpin>(stream: &mut S, start: &[u8]) -> io::Result<Announced> {
    if !start.starts_with(b"PROXY ") {
        return Err(invalid("it does not begin as one"));
    }
    let mut line = start.to_vec();
    while !line.ends_with(b"\r\n") {
        if line.len() == TEXT_BYTES_MAX {
            return Err(invalid("the line is too long"));
        }
        line.push(stream.read_u8().await?);
    }
    parse_text(&line[..line.len() - 2])
}

/// `PROXY TCP4 192.0.2.1 192.0.2.2 4321 25`.
fn parse_text(line: &[u8]) -> io::Result<Announced> {
    let line = std::str::from_utf8(line).map_err(|_| invalid("it is not text"))?;
    let words: Vec<&str> = line.split(' ').collect();
    match words[..] {
        ["PROXY", "UNKNOWN", ..] => Ok(Announced::Nobody),
        ["PROXY", family @ ("TCP4" | "TCP6"), from, via, from_port, via_port] => {
            let address = |text: &str| match (family, text.parse()) {
                ("TCP4", Ok(address @ IpAddr::V4(_))) | ("TCP6", Ok(address @ IpAddr::V6(_))) => Ok(address),
                _ => Err(invalid("an address is not one of its family")),
            };
            let port = |text: &str| {
                let plain = text.bytes().all(|byte| byte.is_ascii_digit());
                text.parse().ok().filter(|_| plain).ok_or_else(|| invalid("a port is not one"))
            };
            let from = SocketAddr::new(address(from)?, port(from_port)?);
            Ok(Announced::Client { from, via: SocketAddr::new(address(via)?, port(via_port)?) })
        }
        _ => Err(invalid("its words are not those of version 1")),
    }
}

fn parse_binary(command: u8, family: u8, rest: &[u8]) -> io::Result<Announced> {
    match command {
        0x20 => return Ok(Announced::Nobody),
        0x21 => {}
        _ => return Err(invalid("version or command is not known")),
    }
    match (family, rest) {
        (0x11, [addresses @ .., _, _, _, _]) if addresses.len() >= 8 => {
            let v4 = |at: usize| IpAddr::V4(Ipv4Addr::from(array::<4>(rest, at)));
            Ok(client(v4(0), v4(4), rest, 8))
        }
        (0x21, _) if rest.len() >= 36 => {
            let v6 = |at: usize| IpAddr::V6(Ipv6Addr::from(array::<16>(rest, at)));
            Ok(client(v6(0), v6(16), rest, 32))
        }
        // Unspecified: the receiver uses the addresses of the connection.
        (0x00, _) => Ok(Announced::Nobody),
        _ => Err(invalid("family and length do not fit a TCP connection")),
    }
}

fn client(from: IpAddr, via: IpAddr, rest: &[u8], ports_at: usize) -> Announced {
    let port = |at: usize| u16::from_be_bytes(array::<2>(rest, at));
    Announced::Client {
        from: SocketAddr::new(from, port(ports_at)),
        via: SocketAddr::new(via, port(ports_at + 2)),
    }
}

/// The caller has looked at the length; zeros stand for what is not there.
fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes.get(at..at + N).and_then(|part| part.try_into().ok()).unwrap_or([0; N])
}

fn invalid(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("not a PROXY header: {why}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    /// What is read of the bytes, and how many are left.
    fn read_all(bytes: &[u8]) -> io::Result<(Announced, usize)> {
        let mut rest = bytes;
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let announced = runtime.block_on(read(&mut rest))?;
        Ok((announced, rest.len()))
    }

    fn binary(command: u8, from: SocketAddr, via: SocketAddr, more: &[u8]) -> Vec<u8> {
        let octets = |address: IpAddr| match address {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        };
        let ports = [from.port().to_be_bytes(), via.port().to_be_bytes()].concat();
        let rest = [octets(from.ip()), octets(via.ip()), ports, more.to_vec()].concat();
        let family = if from.is_ipv4() { 0x11 } else { 0x21 };
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [&SIGNATURE[..], &[command, family], &length, &rest].concat()
    }

    fn text(from: SocketAddr, via: SocketAddr) -> Vec<u8> {
        let family = if from.is_ipv4() { "TCP4" } else { "TCP6" };
        format!("PROXY {family} {} {} {} {}\r\n", from.ip(), via.ip(), from.port(), via.port()).into_bytes()
    }

    fn pair() -> impl Strategy<Value = (SocketAddr, SocketAddr)> {
        let v4 = any::<([u8; 4], u16)>().prop_map(|(ip, port)| SocketAddr::from((ip, port)));
        let v6 = any::<([u8; 16], u16)>().prop_map(|(ip, port)| SocketAddr::from((ip, port)));
        prop_oneof![(v4.clone(), v4), (v6.clone(), v6)]
    }

    proptest! {
        #[test]
        fn both_versions_say_what_was_put_in((from, via) in pair(), more: Vec<u8>, behind: Vec<u8>) {
            for header in [text(from, via), binary(0x21, from, via, &more)] {
                let whole = [&header[..], &behind].concat();
                prop_assert_eq!(read_all(&whole).unwrap(), (Announced::Client { from, via }, behind.len()));
                for cut in [0, 5, header.len() - 1] {
                    prop_assert!(read_all(&header[..cut]).is_err());
                }
            }
            prop_assert_eq!(read_all(&binary(0x20, from, via, &[])).unwrap(), (Announced::Nobody, 0));
        }

        #[test]
        fn garbage_is_refused_or_read_and_never_a_panic(start in 0_usize..4, bytes: Vec<u8>) {
            let starts: [&[u8]; 4] = [b"", b"PROXY ", b"PROXY TCP4 ", &SIGNATURE];
            let _ = read_all(&[starts[start], &bytes].concat()).is_ok();
        }
    }

    #[test]
    fn what_is_nearly_a_header_is_none() {
        for line in [
            "PROXY TCP4 192.0.2.1 192.0.2.2 1 65536\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 +1 25\r\n",
            "PROXY TCP4 ::1 ::1 1 25\r\n",
            "PROXY TCP6 192.0.2.1 192.0.2.2 1 25\r\n",
            "PROXY TCP4 192.0.2.1  192.0.2.2 1 25\r\n",
            "PROXY UDP4 192.0.2.1 192.0.2.2 1 25\r\n",
            "proxy TCP4 192.0.2.1 192.0.2.2 1 25\r\n",
            "EHLO client.test\r\n",
        ] {
            assert_eq!(read_all(line.as_bytes()).unwrap_err().kind(), io::ErrorKind::InvalidData, "{line}");
        }
        let long = format!("PROXY UNKNOWN {}\r\n", "x".repeat(TEXT_BYTES_MAX));
        assert!(read_all(long.as_bytes()).unwrap_err().to_string().contains("too long"));
        assert_eq!(read_all(b"PROXY UNKNOWN\r\nEHLO").unwrap(), (Announced::Nobody, 4));
    }
}
