//! DANE (RFC 7672): which certificates a host's TLSA records name, asked of DNS with every signature checked here (DNSSEC).
//!
//! Signatures are checked against the root's keys, or those of a file: no name server is believed. The name servers must hand signatures on,
//! so a resolver of one's own is needed that does; with one that strips them every signed name looks forged, and mail for it waits. What is not signed
//! is not used. Nobody is asked unless a path says `enable_dane`.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use hickory_resolver::TokioResolver;
use hickory_resolver::net::{DnsError as Answer, NetError};
use hickory_resolver::proto::dnssec::{Proof, TrustAnchors};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};

use super::cache::{Cache, Flights};
use super::mx::{Target, normalize};
use super::resolver::{FAILURE_TTL, build};
use super::{Dns, DnsError, MailHosts};

/// Hosts of which the records are known.
const HOSTS_MAX: usize = 64 << 10;
/// Records of one host that are looked at.
const RECORDS_MAX: usize = 64;
/// How long an answer without a TTL of its own holds.
const NOTHING_TTL: Duration = Duration::from_secs(60);

/// One TLSA record (RFC 6698 2.1).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Tlsa {
    /// 3: this certificate; 2: one that this certificate vouches for; 1 and 0 are not for mail (RFC 7672 3.1.3).
    pub usage: u8,
    /// 0: of the certificate; 1: of its public key.
    pub selector: u8,
    /// 0: the bytes; 1: their SHA-256; 2: their SHA-512.
    pub matching: u8,
    /// What has to match.
    pub data: Vec<u8>,
}

/// The records of a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tlsas {
    /// The name under which they were found: that of the host, or the one that it is an alias of.
    pub base: String,
    /// At least one.
    pub records: Vec<Tlsa>,
}

type Found = Result<Option<Arc<Tlsas>>, DnsError>;
type Proven = Result<Option<Arc<[String]>>, DnsError>;

/// Asks, and remembers.
#[derive(Debug)]
pub struct Dane {
    dns: Dns,
    resolver: OnceLock<Result<TokioResolver, String>>,
    hosts: Cache<Found>,
    hosts_asked: Flights<Found>,
    domains: Cache<Proven>,
    domains_asked: Flights<Proven>,
}

/// What a question brought.
enum Secured {
    /// Records, each signed by who may.
    Records(Vec<Record>),
    /// None; it cannot be told here whether that is signed.
    Nothing,
    /// Records, or that there are none, that nobody has signed.
    Unsigned,
}

impl Dane {
    /// Asks nobody yet.
    pub fn new(dns: Dns) -> Self {
        Self {
            dns,
            resolver: OnceLock::new(),
            hosts: Cache::new(HOSTS_MAX),
            hosts_asked: Flights::default(),
            domains: Cache::new(HOSTS_MAX),
            domains_asked: Flights::default(),
        }
    }

    /// Whether it is certain that these are the hosts of a domain (RFC 7672 2.2.1): its MX records are signed, and they name them. A domain without
    /// any is its own host.
    ///
    /// # Errors
    /// It could not be found out this time, or signatures are not what they must be.
    pub async fn are_certain(&self, domain: &str, hosts: &MailHosts) -> Result<bool, DnsError> {
        let Target::Domain(name) = Target::parse(domain)? else { return Ok(false) };
        let name = name.into_owned();
        let known = match self.domains.get(&name, Instant::now()) {
            Some(known) => known,
            None => self.domains_asked.join(&name, || self.find_exchanges(&name)).await,
        };
        let Some(exchanges) = known? else { return Ok(false) };
        let is_named = |host: &str| exchanges.iter().any(|exchange| exchange == host) || host == name;
        if hosts.hosts.iter().all(|host| is_named(&host.name)) {
            return Ok(true);
        }
        // They were asked for one after the other and may have changed; or one of the answers was a forgery.
        let reason = "the hosts that were found are not those that are signed".to_owned();
        Err(DnsError::Temporary { name, reason })
    }

    /// The TLSA records of a host's port (RFC 7672 2.2.2, 2.2.3). `None`: there are none that are signed, or its address is not.
    ///
    /// # Errors
    /// It could not be found out this time, or signatures are not what they must be: the host is not to be used.
    pub async fn records(&self, host: &str, port: u16) -> Found {
        let key = format!("{port} {host}");
        match self.hosts.get(&key, Instant::now()) {
            Some(known) => known,
            None => self.hosts_asked.join(&key, || self.find_records(&key, host, port)).await,
        }
    }

    async fn find_exchanges(&self, domain: &str) -> Proven {
        if let Some(known) = self.domains.get(domain, Instant::now()) {
            return known;
        }
        let (proven, expires) = match self.ask(domain, RecordType::MX).await {
            Ok(Secured::Records(records)) => {
                let exchanges = records.iter().filter_map(|record| match &record.data {
                    RData::MX(mx) => normalize(&mx.exchange.to_ascii()).ok().map(|name| name.into_owned()),
                    _ => None,
                });
                (Ok(Some(exchanges.collect())), self.dns.inner.expiry(&records))
            }
            // Without MX records the domain is its own host, and its address has to be signed like any host's.
            Ok(Secured::Nothing) => (Ok(Some(Arc::default())), Instant::now() + NOTHING_TTL),
            Ok(Secured::Unsigned) => (Ok(None), Instant::now() + NOTHING_TTL),
            Err(error) => (Err(error), Instant::now() + FAILURE_TTL),
        };
        self.domains.insert(domain, proven.clone(), expires, Instant::now());
        proven
    }

    async fn find_records(&self, key: &str, host: &str, port: u16) -> Found {
        if let Some(known) = self.hosts.get(key, Instant::now()) {
            return known;
        }
        let (found, expires) = match self.look(host, port).await {
            Ok(found) => found,
            Err(error) => (Err(error), Instant::now() + FAILURE_TTL),
        };
        self.hosts.insert(key, found.clone(), expires, Instant::now());
        found
    }

    async fn look(&self, host: &str, port: u16) -> Result<(Found, Instant), DnsError> {
        let nothing = Ok((Ok(None), Instant::now() + NOTHING_TTL));
        let Some(addresses) = self.signed_addresses(host).await? else { return nothing };
        // RFC 7672 2.2.2: where the host is an alias, the name at the end of it comes first.
        let end = addresses.iter().find(|record| record.record_type() != RecordType::CNAME);
        let end =
            end.and_then(|record| normalize(&record.name.to_ascii()).ok().map(|name| name.into_owned()));
        let bases = end.filter(|end| end != host).into_iter().chain([host.to_owned()]);
        for base in bases {
            let Secured::Records(records) =
                self.ask(&format!("_{port}._tcp.{base}"), RecordType::TLSA).await?
            else {
                continue;
            };
            let expires = self.dns.inner.expiry(&records).min(self.dns.inner.expiry(&addresses));
            let records: Vec<Tlsa> = records.iter().filter_map(tlsa).take(RECORDS_MAX).collect();
            if !records.is_empty() {
                return Ok((Ok(Some(Arc::new(Tlsas { base, records }))), expires));
            }
        }
        nothing
    }

    /// The addresses of a host with the aliases that lead there; `None` where they are not signed, or there are none.
    async fn signed_addresses(&self, host: &str) -> Result<Option<Vec<Record>>, DnsError> {
        for kind in [RecordType::A, RecordType::AAAA] {
            match self.ask(host, kind).await? {
                Secured::Records(records) => return Ok(Some(records)),
                Secured::Unsigned => return Ok(None),
                Secured::Nothing => {}
            }
        }
        Ok(None)
    }

    /// One question, with signatures. An answer that should be signed and is not as it should be is an error.
    async fn ask(&self, name: &str, kind: RecordType) -> Result<Secured, DnsError> {
        let failed = |reason: String| DnsError::Temporary { name: name.to_owned(), reason };
        let resolver = self.resolver.get_or_init(|| self.connect()).as_ref();
        let resolver = resolver.map_err(|reason| DnsError::Setup(reason.clone()))?;
        let _place = self.dns.inner.lookups.acquire().await.map_err(|closed| failed(closed.to_string()))?;
        let mut question = Name::from_ascii(name).map_err(|error| failed(error.to_string()))?;
        question.set_fqdn(true);
        let limit = self.dns.inner.options.timeout;
        let Ok(answer) = tokio::time::timeout(limit, resolver.lookup(question, kind)).await else {
            return Err(failed(format!("no answer within {limit:?}")));
        };
        match answer {
            Ok(answer) => {
                let wanted = |record: &&Record| [kind, RecordType::CNAME].contains(&record.record_type());
                let records: Vec<Record> = answer.answers().iter().filter(wanted).cloned().collect();
                let has = |proof: Proof| records.iter().any(|record| record.proof == proof);
                if has(Proof::Bogus) || has(Proof::Indeterminate) {
                    Err(failed("its signatures cannot be checked (DNSSEC)".to_owned()))
                } else if has(Proof::Insecure) {
                    Ok(Secured::Unsigned)
                } else if records.iter().any(|record| record.record_type() == kind) {
                    Ok(Secured::Records(records))
                } else {
                    Ok(Secured::Nothing)
                }
            }
            Err(NetError::Dns(Answer::NoRecordsFound(none))) if !is_failure(none.response_code) => {
                Ok(Secured::Nothing)
            }
            Err(NetError::Dns(Answer::Nsec { proof: Proof::Insecure, .. })) => Ok(Secured::Unsigned),
            Err(error) => Err(failed(error.to_string())),
        }
    }

    fn connect(&self) -> Result<TokioResolver, String> {
        let options = &self.dns.inner.options;
        let anchors = match &options.manner.trust_anchor {
            None => TrustAnchors::default(),
            Some(source) => {
                let text =
                    source.read().map_err(|error| format!("option 'trust_anchor' = {source}: {error}"))?;
                let text = String::from_utf8_lossy(&text).into_owned();
                text.parse().map_err(|error| format!("option 'trust_anchor' = {source}: {error}"))?
            }
        };
        build(options, Some(anchors)).map_err(|error| error.to_string())
    }
}

fn is_failure(code: hickory_resolver::proto::op::ResponseCode) -> bool {
    use hickory_resolver::proto::op::ResponseCode;
    !matches!(code, ResponseCode::NoError | ResponseCode::NXDomain)
}

fn tlsa(record: &Record) -> Option<Tlsa> {
    match &record.data {
        RData::TLSA(tlsa) => Some(Tlsa {
            usage: tlsa.cert_usage.into(),
            selector: tlsa.selector.into(),
            matching: tlsa.matching.into(),
            data: tlsa.cert_data.clone(),
        }),
        _ => None,
    }
}
