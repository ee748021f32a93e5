//! What may stand behind the paths of MAIL and RCPT, and behind XCLIENT.
//!
//! A parameter of an extension that is not on offer is refused as unknown; one that is written twice, as a mistake
//! (RFC 5321 4.1.1.11).

use std::net::IpAddr;

use super::{Grammar, number};
use crate::dsn::{Notify, Ret, parse_envid, parse_orcpt};
use crate::error::PeerMisbehaved;

/// Parameters of MAIL.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MailParams<'a> {
    /// SIZE: bytes that the client means to send (RFC 1870 6); at most `u64::MAX`, larger numbers too.
    pub size: Option<u64>,
    /// BODY (RFC 6152 3, RFC 3030 3).
    pub body: BodyKind,
    /// SMTPUTF8 (RFC 6531 3.4).
    pub smtputf8: bool,
    /// REQUIRETLS (RFC 8689): no hop without TLS to a server that is who it says it is.
    pub require_tls: bool,
    /// RET (RFC 3461 4.3).
    pub ret: Option<Ret>,
    /// ENVID as written, in xtext (RFC 3461 4.4).
    pub envid: Option<&'a str>,
    /// All parameters as written.
    pub as_written: &'a str,
}

/// Parameters of RCPT.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RcptParams<'a> {
    /// NOTIFY (RFC 3461 4.1).
    pub notify: Option<Notify>,
    /// ORCPT as written, in xtext (RFC 3461 4.2).
    pub orcpt: Option<&'a str>,
}

/// The value of BODY.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum BodyKind {
    /// BODY=7BIT, or no such parameter.
    #[default]
    SevenBit,
    /// BODY=8BITMIME.
    EightBitMime,
    /// BODY=BINARYMIME: no lines, only BDAT.
    BinaryMime,
}

/// What a proxy says of the client that it speaks for. What is `None` was not said, or is not known to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct XClient {
    /// ADDR.
    pub address: Option<IpAddr>,
    /// PORT.
    pub port: Option<u16>,
    /// DESTADDR.
    pub destination_address: Option<IpAddr>,
    /// DESTPORT.
    pub destination_port: Option<u16>,
}

impl<'a> MailParams<'a> {
    pub(super) fn parse(text: &'a str, grammar: Grammar) -> Result<Self, PeerMisbehaved> {
        let mut params = Self { as_written: text, ..Self::default() };
        for word in text.split(' ').filter(|word| !word.is_empty()) {
            let (keyword, value) = word.split_once('=').unwrap_or((word, ""));
            let is = |name: &str| keyword.eq_ignore_ascii_case(name);
            if is("SIZE") {
                params.size = Some(number(value).ok_or(PeerMisbehaved::Syntax)?);
            } else if is("BODY") && grammar.eight_bit_mime {
                params.body = BodyKind::parse(value, grammar)?;
            } else if word.eq_ignore_ascii_case("SMTPUTF8") && grammar.smtputf8 {
                params.smtputf8 = true;
            } else if word.eq_ignore_ascii_case("REQUIRETLS") && grammar.require_tls {
                params.require_tls = true;
            } else if is("RET") && grammar.dsn {
                once(&mut params.ret, Ret::parse(value)?)?;
            } else if is("ENVID") && grammar.dsn {
                once(&mut params.envid, parse_envid(value)?)?;
            } else if is("AUTH") && grammar.auth {
                // Who vouches for the message (RFC 4954 5): read, and of no use to us.
                if value.is_empty() {
                    return Err(PeerMisbehaved::Syntax);
                }
            } else {
                return Err(PeerMisbehaved::UnknownParameter);
            }
        }
        Ok(params)
    }
}

impl<'a> RcptParams<'a> {
    pub(super) fn parse(text: &'a str, grammar: Grammar) -> Result<Self, PeerMisbehaved> {
        let mut params = Self::default();
        for word in text.split(' ').filter(|word| !word.is_empty()) {
            let (keyword, value) = word.split_once('=').unwrap_or((word, ""));
            if !grammar.dsn {
                return Err(PeerMisbehaved::UnknownParameter);
            }
            if keyword.eq_ignore_ascii_case("NOTIFY") {
                once(&mut params.notify, Notify::parse(value)?)?;
            } else if keyword.eq_ignore_ascii_case("ORCPT") {
                once(&mut params.orcpt, parse_orcpt(value)?)?;
            } else {
                return Err(PeerMisbehaved::UnknownParameter);
            }
        }
        Ok(params)
    }
}

fn once<T>(place: &mut Option<T>, value: T) -> Result<(), PeerMisbehaved> {
    if place.replace(value).is_some() { Err(PeerMisbehaved::Syntax) } else { Ok(()) }
}

impl BodyKind {
    fn parse(value: &str, grammar: Grammar) -> Result<Self, PeerMisbehaved> {
        if value.eq_ignore_ascii_case("7BIT") {
            Ok(Self::SevenBit)
        } else if value.eq_ignore_ascii_case("8BITMIME") {
            Ok(Self::EightBitMime)
        } else if value.eq_ignore_ascii_case("BINARYMIME") && grammar.binary_mime {
            Ok(Self::BinaryMime)
        } else {
            Err(PeerMisbehaved::UnknownParameter)
        }
    }
}

impl XClient {
    /// `ADDR=192.0.2.1 PORT=4321`, addresses of version 6 as `IPV6:2001:db8::1`; what is not known as `[UNAVAILABLE]`.
    pub(super) fn parse(text: &str) -> Result<Self, PeerMisbehaved> {
        let mut client = Self::default();
        let mut words = text.split(' ').filter(|word| !word.is_empty()).peekable();
        words.peek().ok_or(PeerMisbehaved::Syntax)?;
        for word in words {
            let (name, value) = word.split_once('=').ok_or(PeerMisbehaved::Syntax)?;
            let known =
                !value.eq_ignore_ascii_case("[UNAVAILABLE]") && !value.eq_ignore_ascii_case("[TEMPUNAVAIL]");
            let is = |attribute: &str| name.eq_ignore_ascii_case(attribute);
            if is("ADDR") {
                client.address = known.then(|| address(value)).transpose()?;
            } else if is("DESTADDR") {
                client.destination_address = known.then(|| address(value)).transpose()?;
            } else if is("PORT") {
                client.port = known.then(|| port(value)).transpose()?;
            } else if is("DESTPORT") {
                client.destination_port = known.then(|| port(value)).transpose()?;
            } else {
                return Err(PeerMisbehaved::UnknownParameter);
            }
        }
        Ok(client)
    }
}

fn address(text: &str) -> Result<IpAddr, PeerMisbehaved> {
    let tagged = text.get(..5).is_some_and(|tag| tag.eq_ignore_ascii_case("IPV6:"));
    let parsed = if tagged { text[5..].parse().map(IpAddr::V6) } else { text.parse() };
    parsed.map_err(|_| PeerMisbehaved::Syntax)
}

fn port(text: &str) -> Result<u16, PeerMisbehaved> {
    text.parse().map_err(|_| PeerMisbehaved::Syntax)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_proxy_says_what_it_knows() {
        let client =
            XClient::parse("addr=IPV6:2001:db8::1 PORT=4321 DESTADDR=192.0.2.1 DESTPORT=[UNAVAILABLE]")
                .unwrap();
        let expected = XClient {
            address: Some("2001:db8::1".parse().unwrap()),
            port: Some(4321),
            destination_address: Some("192.0.2.1".parse().unwrap()),
            destination_port: None,
        };
        assert_eq!(client, expected);
        for text in ["", "ADDR", "ADDR=", "ADDR=host", "PORT=65536", "ADDR=IPV6:1.2.3.4"] {
            assert_eq!(XClient::parse(text), Err(PeerMisbehaved::Syntax), "{text:?}");
        }
        assert_eq!(XClient::parse("LOGIN=x"), Err(PeerMisbehaved::UnknownParameter));
    }
}
