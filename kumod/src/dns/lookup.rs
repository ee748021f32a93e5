//! Questions that a policy asks for itself. Nothing of it is remembered, so what is asked for each message should be remembered by who asks.
//!
//! A name that does not end with a dot may stand for one under the resolver's `search`, which the names of next hops never do.

use std::net::IpAddr;

use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};

use super::mx::{is_localhost, normalize};
use super::resolver::Refusal;
use super::{Dns, DnsError};

/// Records of one kind that are handed out.
const RECORDS_MAX: usize = 256;

impl Dns {
    /// The texts of a name's TXT records, each with its parts joined; empty where there are none.
    ///
    /// # Errors
    /// It could not be found out this time, or that is no name.
    pub async fn look_up_texts(&self, name: &str) -> Result<Vec<String>, DnsError> {
        let records = self.records(name, RecordType::TXT).await?;
        let texts = records.iter().filter_map(|record| match &record.data {
            RData::TXT(text) => Some(String::from_utf8_lossy(&text.txt_data.concat()).into_owned()),
            _ => None,
        });
        Ok(texts.take(RECORDS_MAX).collect())
    }

    /// The names of an address; empty where it has none.
    ///
    /// # Errors
    /// It could not be found out this time.
    pub async fn look_up_names(&self, address: IpAddr) -> Result<Vec<String>, DnsError> {
        let records = self.records(&Name::from(address).to_ascii(), RecordType::PTR).await?;
        let names = records.iter().filter_map(|record| match &record.data {
            RData::PTR(name) => Some(name.0.to_ascii()),
            _ => None,
        });
        Ok(names.take(RECORDS_MAX).collect())
    }

    /// The addresses of a name, IPv4 first; empty where it has none.
    ///
    /// # Errors
    /// It could not be found out this time, or that is no name.
    pub async fn look_up_addresses(&self, name: &str) -> Result<Vec<IpAddr>, DnsError> {
        if let Ok(address) = name.parse() {
            return Ok(vec![address]);
        }
        if normalize(name).is_ok_and(|name| is_localhost(&name)) {
            return self.addresses(name).await;
        }
        let (v4, v6) = tokio::join!(self.records(name, RecordType::A), self.records(name, RecordType::AAAA));
        let found = [v4?, v6?].concat();
        let addresses = found.iter().filter_map(|record| record.data.ip_addr());
        Ok(addresses.take(RECORDS_MAX).collect())
    }

    async fn records(&self, name: &str, kind: RecordType) -> Result<Vec<Record>, DnsError> {
        let normal =
            normalize(name).map_err(|reason| DnsError::Invalid { domain: name.to_owned(), reason })?;
        let failed = |reason| DnsError::Temporary { name: name.to_owned(), reason };
        let mut question = Name::from_ascii(&normal).map_err(|error| failed(error.to_string()))?;
        question.set_fqdn(name.ends_with('.'));
        match self.inner.ask_for(question, kind).await {
            Ok(records) => Ok(records.into_iter().filter(|record| record.record_type() == kind).collect()),
            Err(Refusal::NoName { .. } | Refusal::NoRecords { .. }) => Ok(Vec::new()),
            Err(Refusal::Failed(reason)) => Err(failed(reason)),
        }
    }
}

/// An address as the names under `in-addr.arpa` and block lists have it, such as `1.2.0.192`, without the zone.
pub fn reversed(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            format!("{d}.{c}.{b}.{a}")
        }
        IpAddr::V6(address) => {
            let nibbles = address.octets().into_iter().rev().flat_map(|octet| [octet & 0xf, octet >> 4]);
            nibbles.map(|nibble| format!("{nibble:x}")).collect::<Vec<_>>().join(".")
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn addresses_are_turned_round() {
        assert_eq!(reversed("192.0.2.1".parse().unwrap()), "1.2.0.192");
        let v6 = reversed("2001:db8::a1".parse().unwrap());
        assert_eq!(v6.len(), 63);
        assert!(v6.starts_with("1.a.0.0.") && v6.ends_with(".8.b.d.0.1.0.0.2"), "{v6}");
    }
}
