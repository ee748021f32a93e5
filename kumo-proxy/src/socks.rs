//! The words of SOCKS5 (RFC 1928) and of its passwords (RFC 1929), without any input or output.
//!
//! Bytes go in as they come; a message comes out when it is complete. What breaks the grammar is an error for good. Every message has
//! a length of at most [`MESSAGE_BYTES_MAX`] by its grammar, so nothing here can grow.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use thiserror::Error;

/// The longest message: a user and a password of 255 bytes each.
pub const MESSAGE_BYTES_MAX: usize = 513;

const VERSION: u8 = 5;
const PASSWORD_VERSION: u8 = 1;
const METHOD_NONE: u8 = 0;
const METHOD_PASSWORD: u8 = 2;
const METHOD_REFUSED: u8 = 0xff;
const ADDRESS_V4: u8 = 1;
const ADDRESS_NAME: u8 = 3;
const ADDRESS_V6: u8 = 4;

/// What a client said that is not SOCKS5. It is closed without a word, because nothing says that it would understand one.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Malformed {
    /// Another version, or something else altogether.
    #[error("version {0} where {1} was expected")]
    Version(u8, u8),
    /// A name or password without a character.
    #[error("an empty name")]
    EmptyName,
    /// A host name that is not text.
    #[error("a host name that is not ASCII")]
    Name,
}

/// A message, or how many bytes there have to be before it is worth looking again.
pub type Read<T> = Result<Option<(T, usize)>, Malformed>;

/// RFC 1928 3: how a client is willing to say who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Greeting {
    /// It can go without.
    pub offers_none: bool,
    /// It has a password.
    pub offers_password: bool,
}

impl Greeting {
    /// Reads one, and says how long it was.
    ///
    /// # Errors
    /// Another version.
    pub fn read(bytes: &[u8]) -> Read<Self> {
        expect(bytes, VERSION)?;
        let Some(methods) = bytes.get(1).and_then(|count| bytes.get(2..2 + usize::from(*count))) else {
            return Ok(None);
        };
        let [offers_none, offers_password] =
            [METHOD_NONE, METHOD_PASSWORD].map(|method| methods.contains(&method));
        Ok(Some((Self { offers_none, offers_password }, 2 + methods.len())))
    }
}

/// The answer to a greeting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Go on.
    None,
    /// Show a password.
    Password,
    /// There is no way that both sides know.
    Refused,
}

impl Method {
    /// As it is sent.
    pub const fn bytes(self) -> [u8; 2] {
        let method = match self {
            Self::None => METHOD_NONE,
            Self::Password => METHOD_PASSWORD,
            Self::Refused => METHOD_REFUSED,
        };
        [VERSION, method]
    }
}

/// RFC 1929 2: who a client says it is.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The name.
    pub user: Vec<u8>,
    /// What proves it.
    pub password: Vec<u8>,
}

impl fmt::Debug for Credentials {
    /// Without the password.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Credentials").field("user", &String::from_utf8_lossy(&self.user)).finish()
    }
}

impl Credentials {
    /// Reads them, and says how long they were.
    ///
    /// # Errors
    /// Another version, or no user.
    pub fn read(bytes: &[u8]) -> Read<Self> {
        expect(bytes, PASSWORD_VERSION)?;
        let Some((user, rest)) = bytes.get(1..).and_then(counted) else { return Ok(None) };
        if user.is_empty() {
            return Err(Malformed::EmptyName);
        }
        let Some((password, _)) = counted(rest) else { return Ok(None) };
        let length = 3 + user.len() + password.len();
        Ok(Some((Self { user: user.to_vec(), password: password.to_vec() }, length)))
    }

    /// The answer.
    pub const fn answer(is_right: bool) -> [u8; 2] {
        [PASSWORD_VERSION, if is_right { 0 } else { 1 }]
    }
}

/// Where something is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// An address.
    Address(SocketAddr),
    /// A name that this host is to look up.
    Name(String, u16),
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(formatter),
            Self::Name(name, port) => write!(formatter, "{name}:{port}"),
        }
    }
}

/// What a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Go there.
    Connect,
    /// Come from there.
    Bind,
    /// UDP, or what there is no name for.
    Other(u8),
}

/// RFC 1928 4.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// What to do.
    pub command: Command,
    /// With what; `None` for a kind of address that is not known.
    pub place: Option<Place>,
}

impl Request {
    /// Reads one, and says how long it was.
    ///
    /// # Errors
    /// Another version, or a name that is none.
    pub fn read(bytes: &[u8]) -> Read<Self> {
        expect(bytes, VERSION)?;
        let [_, command, _reserved, kind, rest @ ..] = bytes else { return Ok(None) };
        let command = match command {
            1 => Command::Connect,
            2 => Command::Bind,
            other => Command::Other(*other),
        };
        let (place, length) = match *kind {
            ADDRESS_V4 => match rest.first_chunk::<6>() {
                Some([a, b, c, d, high, low]) => (address(Ipv4Addr::new(*a, *b, *c, *d), [*high, *low]), 6),
                None => return Ok(None),
            },
            ADDRESS_V6 => match (rest.first_chunk::<16>(), rest.get(16..18)) {
                (Some(octets), Some([high, low])) => (address(Ipv6Addr::from(*octets), [*high, *low]), 18),
                _ => return Ok(None),
            },
            ADDRESS_NAME => match counted(rest) {
                Some((name, [high, low, ..])) => {
                    (Place::Name(host(name)?, u16::from_be_bytes([*high, *low])), name.len() + 3)
                }
                _ => return Ok(None),
            },
            // How long it is, nobody knows.
            _ => return Ok(Some((Self { command, place: None }, bytes.len()))),
        };
        Ok(Some((Self { command, place: Some(place) }, 4 + length)))
    }
}

/// RFC 1928 6: how a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was done.
    Done = 0,
    /// Something that has no number.
    Failed = 1,
    /// A rule forbids it.
    Forbidden = 2,
    /// There is no way there.
    NetworkUnreachable = 3,
    /// Nobody is there.
    HostUnreachable = 4,
    /// Somebody is there and does not want to.
    Refused = 5,
    /// What was asked is not served.
    CommandUnknown = 7,
    /// Addresses of this kind are not served.
    AddressUnknown = 8,
}

/// An answer to a request, with the address that this host has in it.
pub fn answer(outcome: Outcome, bound: SocketAddr) -> Vec<u8> {
    let mut bytes = vec![VERSION, outcome as u8, 0];
    match bound.ip() {
        IpAddr::V4(v4) => {
            bytes.push(ADDRESS_V4);
            bytes.extend(v4.octets());
        }
        IpAddr::V6(v6) => {
            bytes.push(ADDRESS_V6);
            bytes.extend(v6.octets());
        }
    }
    bytes.extend(bound.port().to_be_bytes());
    bytes
}

fn expect(bytes: &[u8], version: u8) -> Result<(), Malformed> {
    match bytes.first() {
        Some(found) if *found != version => Err(Malformed::Version(*found, version)),
        _ => Ok(()),
    }
}

/// Bytes that are preceded by their number, and what follows them.
fn counted(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (count, rest) = bytes.split_first()?;
    rest.split_at_checked(usize::from(*count))
}

fn address(ip: impl Into<IpAddr>, port: [u8; 2]) -> Place {
    // An IPv4 address in the clothes of IPv6 would pass by rules for IPv4.
    Place::Address(SocketAddr::new(ip.into().to_canonical(), u16::from_be_bytes(port)))
}

/// A name, or an address that was written as one.
fn host(name: &[u8]) -> Result<String, Malformed> {
    if name.is_empty() {
        return Err(Malformed::EmptyName);
    }
    if !name.iter().all(u8::is_ascii_graphic) {
        return Err(Malformed::Name);
    }
    Ok(String::from_utf8_lossy(name).into_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_greeting_says_what_a_client_can_do() {
        let greeting = |bytes: &[u8]| Greeting::read(bytes).map(|read| read.map(|(greeting, _)| greeting));
        let both = Greeting { offers_none: true, offers_password: true };
        assert_eq!(greeting(&[5, 2, 2, 0]), Ok(Some(both)));
        assert_eq!(greeting(&[5, 1, 1]), Ok(Some(Greeting { offers_none: false, offers_password: false })));
        assert_eq!(greeting(&[5, 2, 0]), Ok(None));
        assert_eq!(greeting(&[4, 1, 0]), Err(Malformed::Version(4, 5)));
        assert_eq!(greeting(b"GET / HTTP/1.1"), Err(Malformed::Version(b'G', 5)));
    }

    #[test]
    fn credentials_are_read_whole_and_a_password_is_not_shown() {
        let (read, length) = Credentials::read(b"\x01\x02me\x03key+").unwrap().unwrap();
        assert_eq!((read.user.as_slice(), read.password.as_slice(), length), (&b"me"[..], &b"key"[..], 8));
        assert_eq!(format!("{read:?}"), "Credentials { user: \"me\" }");
        assert_eq!(Credentials::read(b"\x01\x02me\x03ke"), Ok(None));
        assert_eq!(Credentials::read(b"\x01\x00\x01x"), Err(Malformed::EmptyName));
    }

    #[test]
    fn requests_name_a_place() {
        let request = |bytes: &[u8]| Request::read(bytes).unwrap().unwrap();
        let (connect, length) = request(&[5, 1, 0, 1, 192, 0, 2, 1, 0, 25, 99]);
        let place = Place::Address("192.0.2.1:25".parse().unwrap());
        assert_eq!((connect, length), (Request { command: Command::Connect, place: Some(place) }, 10));
        let (bind, _) = request(b"\x05\x02\x00\x03\x09mx.exampl\x00\x19");
        assert_eq!(bind.place.unwrap().to_string(), "mx.exampl:25");
        let mapped = [&[5, 1, 0, 4][..], &Ipv4Addr::LOCALHOST.to_ipv6_mapped().octets(), &[0, 25]].concat();
        assert_eq!(request(&mapped).0.place.unwrap().to_string(), "127.0.0.1:25");
        assert_eq!(request(&[5, 3, 0, 7, 1]).0, Request { command: Command::Other(3), place: None });
        assert_eq!(Request::read(b"\x05\x01\x00\x03\x02a\n\x00\x19"), Err(Malformed::Name));
    }

    #[test]
    fn an_answer_holds_the_address() {
        let bound = "192.0.2.1:258".parse().unwrap();
        assert_eq!(answer(Outcome::Done, bound), [5, 0, 0, 1, 192, 0, 2, 1, 1, 2]);
        assert_eq!(answer(Outcome::Forbidden, "[::1]:0".parse().unwrap()).len(), 22);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic_or_wait_for_ever(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            let lengths = [
                Greeting::read(&bytes).map(|read| read.map(|(_, length)| length)),
                Credentials::read(&bytes).map(|read| read.map(|(_, length)| length)),
                Request::read(&bytes).map(|read| read.map(|(_, length)| length)),
            ];
            for length in lengths {
                match length {
                    Ok(Some(length)) => prop_assert!(length <= bytes.len()),
                    Ok(None) => prop_assert!(bytes.len() < MESSAGE_BYTES_MAX),
                    Err(_) => {}
                }
            }
        }

        #[test]
        fn a_message_that_comes_in_pieces_is_the_same(cut in 0_usize..11, port in any::<u16>()) {
            let whole = [&b"\x05\x01\x00\x03\x04host"[..], &port.to_be_bytes()].concat();
            prop_assert_eq!(Request::read(&whole[..cut]), Ok(None));
            let expected = Request { command: Command::Connect, place: Some(Place::Name("host".into(), port)) };
            prop_assert_eq!(Request::read(&whole), Ok(Some((expected, whole.len()))));
        }
    }
}
