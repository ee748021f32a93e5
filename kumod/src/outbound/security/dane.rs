//! What a certificate has to be for a host that has published TLSA records (RFC 7672 3, RFC 7671 5).
//!
//! Records that are not for mail, or that are not understood, are left out; where none is left, there is TLS with whoever answers. Usage 3
//! names the certificate, and neither its names nor its time count; usage 2 names one that vouches for it, and then they do.

use std::sync::Arc;

use ring::digest::{SHA256, SHA512, digest};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::dns::{Tlsa, Tlsas};

/// RFC 6698 2.1.1: a certificate that vouches for the host's, in the chain that the host shows.
const TRUST_ANCHOR: u8 = 2;
/// RFC 6698 2.1.1: the host's own.
const END_ENTITY: u8 = 3;
const SHA256_BYTES: usize = 32;
const SHA512_BYTES: usize = 64;

/// The records that can be used, and the names that a certificate may be for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(in crate::outbound) struct Rules {
    records: Vec<Tlsa>,
    /// The name to ask for first; the others will do as well.
    names: Vec<String>,
}

impl Rules {
    /// The rules of a host; `None` where no record can be used.
    pub(super) fn new(host: &str, found: &Tlsas) -> Option<Self> {
        let mut records: Vec<Tlsa> =
            found.records.iter().filter(|record| is_usable(record)).cloned().collect();
        // RFC 7671 9: of two digests of the same thing the stronger counts, so that who breaks the weaker has nothing of it.
        let strong: Vec<(u8, u8)> = records
            .iter()
            .filter(|record| record.matching == 2)
            .map(|record| (record.usage, record.selector))
            .collect();
        records.retain(|record| record.matching != 1 || !strong.contains(&(record.usage, record.selector)));
        records.sort_by(|left, right| left.data.cmp(&right.data));
        let mut names = vec![found.base.clone()];
        if found.base != host {
            names.push(host.to_owned());
        }
        (!records.is_empty()).then_some(Self { records, names })
    }

    /// The name to ask for (RFC 7672 8.1).
    pub(super) fn name(&self) -> Option<&str> {
        self.names.first().map(String::as_str)
    }

    fn of_usage(&self, usage: u8) -> impl Iterator<Item = &Tlsa> {
        self.records.iter().filter(move |record| record.usage == usage)
    }
}

fn is_usable(record: &Tlsa) -> bool {
    let fits = match record.matching {
        0 => !record.data.is_empty(),
        1 => record.data.len() == SHA256_BYTES,
        2 => record.data.len() == SHA512_BYTES,
        _ => false,
    };
    fits && [TRUST_ANCHOR, END_ENTITY].contains(&record.usage) && record.selector <= 1
}

/// Whether a record names a certificate.
fn matches(record: &Tlsa, certificate: &CertificateDer<'_>) -> bool {
    let parsed;
    let selected: &[u8] = if record.selector == 0 {
        certificate
    } else {
        match x509_parser::parse_x509_certificate(certificate) {
            Ok((_, found)) => parsed = found,
            Err(_) => return false,
        }
        parsed.tbs_certificate.subject_pki.raw
    };
    match record.matching {
        0 => record.data == selected,
        1 => record.data == digest(&SHA256, selected).as_ref(),
        _ => record.data == digest(&SHA512, selected).as_ref(),
    }
}

/// Takes certificates that the rules name.
#[derive(Debug)]
pub(super) struct Named {
    pub(super) provider: Arc<CryptoProvider>,
    pub(super) rules: Arc<Rules>,
}

impl Named {
    /// Whether a certificate of the chain that a record of usage 2 names vouches for the host's, now, and for one of its names.
    fn is_vouched_for(
        &self,
        end_entity: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), rustls::Error> {
        let mut authorities = RootCertStore::empty();
        for record in self.rules.of_usage(TRUST_ANCHOR) {
            // A record may hold the whole certificate, which the host then need not show.
            let whole = (record.selector == 0 && record.matching == 0)
                .then(|| CertificateDer::from(record.data.as_slice()));
            for certificate in others.iter().filter(|other| matches(record, other)).chain(&whole) {
                // One that cannot be an authority's is no help.
                let _ = authorities.add(certificate.clone().into_owned());
            }
        }
        let parsed = ParsedCertificate::try_from(end_entity)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&parsed, &authorities, others, now, algorithms)?;
        let names = self.rules.names.iter().filter_map(|name| ServerName::try_from(name.as_str()).ok());
        let mut verified = names.map(|name| verify_server_name(&parsed, &name));
        let is_named = verified.any(|verified| verified.is_ok());
        if is_named { Ok(()) } else { Err(CertificateError::NotValidForName.into()) }
    }
}

impl ServerCertVerifier for Named {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if self.rules.of_usage(END_ENTITY).any(|record| matches(record, end_entity)) {
            return Ok(ServerCertVerified::assertion());
        }
        if self.rules.of_usage(TRUST_ANCHOR).next().is_none() {
            return Err(CertificateError::ApplicationVerificationFailure.into());
        }
        self.is_vouched_for(end_entity, intermediates, now).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
