//! Zones that are signed (DNSSEC), for the name server of the tests, and the keys from which their signatures can be checked.

use std::str::FromStr;
use std::time::Duration;

use hickory_server::dnssec::NxProofKind;
use hickory_server::net::runtime::TokioRuntimeProvider;
use hickory_server::proto::dnssec::crypto::Ed25519SigningKey;
use hickory_server::proto::dnssec::rdata::DNSKEY;
use hickory_server::proto::dnssec::{DnssecSigner, SigningKey};
use hickory_server::proto::rr::Name;
use hickory_server::store::in_memory::InMemoryZoneHandler;

use super::authority::zone_proving;

type Zone = (Name, InMemoryZoneHandler<TokioRuntimeProvider>);

/// A zone with signatures that hold for so long, and its key as a DNSKEY record.
pub(crate) fn signed_zone(origin: &str, records: &str, lasts: Duration) -> (Zone, String) {
    let (name, mut zone) = zone_proving(origin, records, Some(NxProofKind::Nsec));
    let key = Ed25519SigningKey::from_pkcs8(&Ed25519SigningKey::generate_pkcs8().unwrap()).unwrap();
    let dnskey = DNSKEY::from_key(&key.to_public_key().unwrap());
    let anchor = format!("{} 300 IN DNSKEY {dnskey}\n", Name::from_str(origin).unwrap());
    let signer = DnssecSigner::new(dnskey, Box::new(key), name.clone(), lasts);
    zone.add_zone_signing_key_mut(signer).unwrap();
    zone.secure_zone_mut().unwrap();
    ((name, zone), anchor)
}
