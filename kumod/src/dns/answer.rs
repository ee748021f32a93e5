//! From the records of an answer to hosts and addresses. No network and no clock, so that answers of any bytes can be tried.
//!
//! What a record is not asked for, or of another kind, is passed over; what a name server may put into an answer decides here, and
//! nowhere else, where mail goes.

use std::net::IpAddr;
use std::time::Instant;

use hickory_resolver::proto::op::Message;
use hickory_resolver::proto::rr::{RData, Record};

use super::mx::MailHosts;
use super::{ADDRESSES_MAX, DnsError};

/// The hosts that the MX records of an answer name.
///
/// # Errors
/// They say that the domain takes no mail, or name no host.
pub(super) fn hosts(domain: &str, records: &[Record], expires: Instant) -> Result<MailHosts, DnsError> {
    let exchange = |record: &Record| match &record.data {
        RData::MX(mx) => Some((mx.preference, mx.exchange.to_ascii())),
        _ => None,
    };
    MailHosts::from_records(domain, records.iter().filter_map(exchange).collect(), expires)
}

/// The addresses of an answer, IPv4 first, at most [`ADDRESSES_MAX`] of a family.
pub(super) fn addresses(records: &[Record]) -> impl Iterator<Item = IpAddr> {
    let address = |record: &Record| match &record.data {
        RData::A(address) => Some(IpAddr::V4(address.0)),
        RData::AAAA(address) => Some(IpAddr::V6(address.0)),
        _ => None,
    };
    let of_family = move |six: bool| {
        let all = records.iter().filter_map(address).filter(move |address| address.is_ipv6() == six);
        all.take(ADDRESSES_MAX)
    };
    of_family(false).chain(of_family(true))
}

/// What the answer section of a message, as it comes from a name server, says about a domain: its hosts and all addresses.
///
/// # Errors
/// As [`Dns::mail_hosts`](super::Dns::mail_hosts); what is no message of DNS (RFC 1035 4.1) counts as no answer.
pub fn read_answer(
    domain: &str,
    message: &[u8],
    expires: Instant,
) -> Result<(MailHosts, Vec<IpAddr>), DnsError> {
    let message = Message::from_vec(message)
        .map_err(|error| DnsError::Temporary { name: domain.to_owned(), reason: error.to_string() })?;
    let records = &message.answers;
    Ok((hosts(domain, records, expires)?, addresses(records).collect()))
}
