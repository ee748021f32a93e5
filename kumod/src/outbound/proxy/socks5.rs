//! What a client of SOCKS5 says and hears (RFC 1928, RFC 1929), without any input or output.
//!
//! Besides plain CONNECT this is the dialect of KumoMTA's proxy and of kumo-proxy: a BIND that names the address to come from goes before
//! the CONNECT on the same connection. What a server says that is not SOCKS5 is a fault of it for good.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use thiserror::Error;

/// RFC 1928 4.
pub(super) const CONNECT: u8 = 1;
/// RFC 1928 4; in this dialect: come from there.
pub(super) const BIND: u8 = 2;
/// The longest answer: one with a name of 255 bytes.
pub(super) const ANSWER_BYTES_MAX: usize = 262;

const VERSION: u8 = 5;
const PASSWORD_VERSION: u8 = 1;
const METHOD_NONE: u8 = 0;
const METHOD_PASSWORD: u8 = 2;
const METHOD_REFUSED: u8 = 0xff;
const ADDRESS_V4: u8 = 1;
const ADDRESS_NAME: u8 = 3;
const ADDRESS_V6: u8 = 4;
/// RFC 1928 6: what says that the destination was not reached, though the proxy tried.
const OF_DESTINATION: [u8; 4] = [3, 4, 5, 6];
/// RFC 1928 6: addresses of this kind are not served.
const ADDRESS_KIND: u8 = 8;

/// Why a server did not do what it was asked for.
#[derive(Debug, Error)]
pub(super) enum Refusal {
    /// It broke off.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It speaks something else.
    #[error("this is not SOCKS5 (version {0} where {1} was expected); is the port right?")]
    Version(u8, u8),
    /// It wants a password.
    #[error("it wants a user and a password; set socks5_proxy_username and socks5_proxy_password")]
    WantsPassword,
    /// It takes none of the ways that we know.
    #[error("it takes neither a password nor none")]
    NoMethod,
    /// The password is wrong.
    #[error("it refused user and password")]
    Password,
    /// An answer with an address of a kind that there is not.
    #[error("its answer has an address of kind {0}, which is none")]
    Kind(u8),
    /// RFC 1928 6.
    #[error("{meaning} (answer {code})", meaning = meaning(*code))]
    Answer {
        /// Its number.
        code: u8,
    },
}

impl Refusal {
    /// Whether another destination may fare better.
    pub(super) fn is_of_destination(&self) -> bool {
        matches!(self, Self::Answer { code } if OF_DESTINATION.contains(code) || *code == ADDRESS_KIND)
    }
}

/// RFC 1928 6.
fn meaning(code: u8) -> &'static str {
    match code {
        1 => "it failed",
        2 => "its rules forbid it",
        3 => "the network is unreachable from there",
        4 => "the host is unreachable from there",
        5 => "the connection was refused",
        6 => "the packets ran out of hops",
        7 => "it does not serve this command",
        8 => "it does not serve addresses of this kind",
        _ => "it said no in a way of its own",
    }
}

/// A user and what proves it.
pub(super) struct Credentials {
    message: Vec<u8>,
}

impl Credentials {
    /// `None` where one of them is empty or does not fit.
    pub(super) fn new(user: &[u8], password: &[u8]) -> Option<Self> {
        let mut message = vec![PASSWORD_VERSION];
        for part in [user, password] {
            message.push(u8::try_from(part.len()).ok().filter(|length| *length > 0)?);
            message.extend(part);
        }
        Some(Self { message })
    }

    /// RFC 1929 2.
    pub(super) fn message(&self) -> &[u8] {
        &self.message
    }
}

/// RFC 1928 3: how we can say who we are.
pub(super) fn greeting(has_password: bool) -> Vec<u8> {
    if has_password { vec![VERSION, 2, METHOD_NONE, METHOD_PASSWORD] } else { vec![VERSION, 1, METHOD_NONE] }
}

/// Whether the server wants the password.
///
/// # Errors
/// It takes nothing that we have, or speaks something else.
pub(super) fn method(answer: [u8; 2], has_password: bool) -> Result<bool, Refusal> {
    match answer {
        [VERSION, METHOD_NONE] => Ok(false),
        [VERSION, METHOD_PASSWORD] if has_password => Ok(true),
        [VERSION, METHOD_PASSWORD | METHOD_REFUSED] if !has_password => Err(Refusal::WantsPassword),
        [VERSION, _] => Err(Refusal::NoMethod),
        [version, _] => Err(Refusal::Version(version, VERSION)),
    }
}

/// RFC 1929 2.
///
/// # Errors
/// The password is wrong, or the server speaks something else.
pub(super) fn password_answer(answer: [u8; 2]) -> Result<(), Refusal> {
    match answer {
        [PASSWORD_VERSION, 0] => Ok(()),
        [PASSWORD_VERSION, _] => Err(Refusal::Password),
        [version, _] => Err(Refusal::Version(version, PASSWORD_VERSION)),
    }
}

/// RFC 1928 4.
pub(super) fn request(command: u8, place: SocketAddr) -> Vec<u8> {
    let mut bytes = vec![VERSION, command, 0];
    match place.ip() {
        IpAddr::V4(address) => {
            bytes.push(ADDRESS_V4);
            bytes.extend(address.octets());
        }
        IpAddr::V6(address) => {
            bytes.push(ADDRESS_V6);
            bytes.extend(address.octets());
        }
    }
    bytes.extend(place.port().to_be_bytes());
    bytes
}

/// What there is of an answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// All of it: yes, and this is the server's end. Where it gave a name, unspecified.
    Whole(SocketAddr),
    /// At least so many bytes are missing, and none beyond them are part of the answer.
    Missing(usize),
}

/// RFC 1928 6.
///
/// # Errors
/// The answer is no, or is none.
pub(super) fn read_answer(bytes: &[u8]) -> Result<Answer, Refusal> {
    let [version, code, _reserved, kind, first, rest @ ..] = bytes else {
        return Ok(Answer::Missing(5 - bytes.len()));
    };
    if *version != VERSION {
        return Err(Refusal::Version(*version, VERSION));
    }
    // What follows a refusal is of no interest: the connection ends here.
    if *code != 0 {
        return Err(Refusal::Answer { code: *code });
    }
    let rest_bytes = match *kind {
        ADDRESS_V4 => 5,
        ADDRESS_V6 => 17,
        ADDRESS_NAME => usize::from(*first) + 2,
        kind => return Err(Refusal::Kind(kind)),
    };
    let Some([.., high, low]) = rest.get(..rest_bytes) else {
        return Ok(Answer::Missing(rest_bytes - rest.len()));
    };
    let octets = &bytes[4..bytes.len() - 2];
    let address = match *kind {
        ADDRESS_V4 => octets.first_chunk::<4>().map(|octets| IpAddr::from(*octets)),
        ADDRESS_V6 => octets.first_chunk::<16>().map(|octets| Ipv6Addr::from(*octets).to_canonical()),
        _ => None,
    };
    let address = address.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    Ok(Answer::Whole(SocketAddr::new(address, u16::from_be_bytes([*high, *low]))))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_way_to_say_who_we_are_is_agreed_on_or_the_remedy_is_named() {
        assert_eq!(greeting(false), [5, 1, 0]);
        assert_eq!(greeting(true), [5, 2, 0, 2]);
        assert!(!method([5, 0], true).unwrap() && method([5, 2], true).unwrap());
        for (answer, has_password, words) in [
            ([5, 0xff], false, "set socks5_proxy_username"),
            ([5, 2], false, "set socks5_proxy_username"),
            ([5, 0xff], true, "neither a password nor none"),
            ([b'H', b'T'], true, "not SOCKS5"),
        ] {
            let error = method(answer, has_password).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn a_password_is_sent_as_it_is_and_its_answer_read() {
        assert_eq!(Credentials::new(b"me", b"key").unwrap().message(), b"\x01\x02me\x03key");
        assert!(Credentials::new(b"", b"key").is_none() && Credentials::new(b"me", &[0; 256]).is_none());
        assert!(password_answer([1, 0]).is_ok());
        assert!(matches!(password_answer([1, 1]), Err(Refusal::Password)));
        assert!(matches!(password_answer([5, 0]), Err(Refusal::Version(5, 1))));
    }

    #[test]
    fn what_is_the_proxys_fault_is_told_from_what_is_the_destinations() {
        for (code, of_destination) in [
            (1, false),
            (2, false),
            (3, true),
            (4, true),
            (5, true),
            (6, true),
            (7, false),
            (8, true),
            (91, false),
        ] {
            let refusal = read_answer(&[5, code, 0, 1, 0]).unwrap_err();
            assert_eq!(refusal.is_of_destination(), of_destination, "{refusal}");
        }
        assert!(!Refusal::Password.is_of_destination());
    }

    #[test]
    fn an_answer_tells_the_servers_end() {
        let whole = |bytes: &[u8]| match read_answer(bytes).unwrap() {
            Answer::Whole(bound) => bound.to_string(),
            Answer::Missing(missing) => format!("{missing} missing"),
        };
        assert_eq!(whole(&[5, 0, 0, 1, 192, 0, 2, 1, 1, 2]), "192.0.2.1:258");
        assert_eq!(whole(&[&[5, 0, 0, 4][..], &Ipv6Addr::LOCALHOST.octets(), &[0, 25]].concat()), "[::1]:25");
        assert_eq!(whole(&[5, 0, 0, 3, 2, b'm', b'x', 0, 25]), "0.0.0.0:25");
        assert_eq!(whole(&[5, 0]), "3 missing");
        assert_eq!(whole(&[5, 0, 0, 1, 192]), "5 missing");
        assert!(matches!(read_answer(&[5, 0, 0, 9, 0]), Err(Refusal::Kind(9))));
    }

    proptest! {
        #[test]
        fn no_answer_makes_it_panic_or_read_beyond_its_end(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let mut had = 0;
            while let Ok(Answer::Missing(missing)) = read_answer(&bytes[..had]) {
                prop_assert!(missing > 0 && had + missing <= ANSWER_BYTES_MAX);
                had += missing;
                if had > bytes.len() {
                    break;
                }
            }
        }

        #[test]
        fn a_request_is_what_kumo_proxy_reads(port: u16, octets: [u8; 16]) {
            let place = SocketAddr::new(Ipv6Addr::from(octets).into(), port);
            let bytes = request(CONNECT, place);
            prop_assert_eq!((&bytes[..4], bytes.len()), (&[5, 1, 0, 4][..], 22));
        }
    }
}
