//! The resolver against a name server on loopback that answers, refuses, fails and is silent.

#![allow(clippy::unwrap_used)]
use super::*;
use hickory_resolver::proto::op::{Message, OpCode, Query};
use hickory_resolver::proto::rr::RData;
use hickory_resolver::proto::rr::rdata::{A, AAAA, MX, SOA};
use std::collections::HashMap;
use std::sync::Mutex;
use tokio::net::UdpSocket;

/// A name server for the zone `test.` on loopback, which counts what it is asked.
struct Zone {
    asked: Mutex<HashMap<(String, RecordType), usize>>,
    address: SocketAddr,
}

impl Zone {
    async fn start() -> Arc<Self> {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let zone = Arc::new(Self { asked: Mutex::default(), address: socket.local_addr().unwrap() });
        let server = Arc::clone(&zone);
        tokio::spawn(async move {
            let mut packet = [0; 4096];
            while let Ok((length, peer)) = socket.recv_from(&mut packet).await {
                let request = Message::from_vec(&packet[..length]).unwrap();
                if let Some(response) = server.reply(&request) {
                    socket.send_to(&response.to_vec().unwrap(), peer).await.unwrap();
                }
            }
        });
        zone
    }

    fn dns(&self) -> Dns {
        self.dns_with(DnsOptions::default().timeout)
    }

    fn dns_with(&self, timeout: Duration) -> Dns {
        let nameservers = vec![self.address];
        Dns::new(DnsOptions { nameservers, timeout, ..DnsOptions::default() }).unwrap()
    }

    fn reply(&self, request: &Message) -> Option<Message> {
        let query: &Query = &request.queries[0];
        let name = query.name().to_ascii();
        *self.asked.lock().unwrap().entry((name.clone(), query.query_type())).or_default() += 1;
        let (code, records) = records(&name, query.query_type())?;
        let mut response = Message::response(request.metadata.id, OpCode::Query);
        response.metadata.response_code = code;
        response.metadata.recursion_available = true;
        response.add_query(query.clone());
        if records.is_empty() {
            let root = Name::from_ascii("test.").unwrap();
            let soa = SOA::new(root.clone(), root.clone(), 1, 60, 60, 60, 60);
            response.add_authority(Record::from_rdata(root, 60, RData::SOA(soa)));
        }
        response
            .add_answers(records.into_iter().map(|data| Record::from_rdata(query.name().clone(), 300, data)));
        Some(response)
    }

    fn asked(&self, name: &str, kind: RecordType) -> usize {
        self.asked.lock().unwrap().get(&(name.to_owned(), kind)).copied().unwrap_or(0)
    }
}

/// The zone; `None` is silence.
fn records(name: &str, kind: RecordType) -> Option<(ResponseCode, Vec<RData>)> {
    let mx = |preference, host: &str| RData::MX(MX::new(preference, Name::from_ascii(host).unwrap()));
    let records = match (name, kind) {
        ("two.test.", RecordType::MX) => vec![mx(20, "mx2.two.test."), mx(10, "mx1.two.test.")],
        ("null.test.", RecordType::MX) => vec![mx(0, ".")],
        ("inward.test.", RecordType::MX) => vec![mx(0, "evil.localhost.")],
        ("plain.test." | "mx1.two.test.", RecordType::A) => {
            vec![RData::A(A::new(192, 0, 2, 1)), RData::A(A::new(192, 0, 2, 2))]
        }
        ("mx1.two.test." | "six.test.", RecordType::AAAA) => {
            vec![RData::AAAA(AAAA::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1))]
        }
        ("crowd.test.", RecordType::A) => (0..40).map(|last| RData::A(A::new(192, 0, 2, last))).collect(),
        ("broken.test.", _) | ("half.test.", RecordType::AAAA) => {
            return Some((ResponseCode::ServFail, vec![]));
        }
        ("silent.test.", _) => return None,
        ("gone.test." | "gone.two.test.", _) => return Some((ResponseCode::NXDomain, vec![])),
        _ => vec![],
    };
    Some((ResponseCode::NoError, records))
}

fn names(hosts: &MailHosts) -> Vec<&str> {
    hosts.hosts.iter().map(|host| host.name.as_str()).collect()
}

#[tokio::test]
async fn mx_records_are_ordered_named_and_remembered() {
    let zone = Zone::start().await;
    let dns = zone.dns();
    assert_eq!(dns.cached("two.test"), None);
    let hosts = dns.mail_hosts("Two.TEST.").await.unwrap();
    assert_eq!(names(&hosts), ["mx1.two.test", "mx2.two.test"]);
    assert_eq!(hosts.site_name, "(mx1|mx2).two.test");
    assert!(hosts.expires > Instant::now() + Duration::from_secs(200) && !hosts.loopback_by_name);
    assert_eq!(dns.cached("two.test"), Some(Arc::clone(&hosts)));
    assert_eq!(dns.mail_hosts("two.test").await.unwrap(), hosts);
    assert_eq!(zone.asked("two.test.", RecordType::MX), 1);
}

#[tokio::test]
async fn addresses_of_both_families_are_found_v4_first() {
    let zone = Zone::start().await;
    let dns = zone.dns();
    let addresses = dns.addresses("mx1.two.test").await.unwrap();
    let families: Vec<bool> = addresses.iter().map(IpAddr::is_ipv6).collect();
    assert_eq!(families, [false, false, true]);
    assert_eq!(dns.addresses("six.test").await.unwrap(), ["2001:db8::1".parse::<IpAddr>().unwrap()]);
    assert_eq!(dns.addresses("crowd.test").await.unwrap().len(), ADDRESSES_MAX);
    dns.addresses("MX1.two.test.").await.unwrap();
    assert_eq!(zone.asked("mx1.two.test.", RecordType::A), 1);
}

#[tokio::test]
async fn a_domain_without_mx_is_its_own_host_if_it_has_an_address() {
    let zone = Zone::start().await;
    let dns = zone.dns();
    let hosts = dns.mail_hosts("plain.test").await.unwrap();
    assert_eq!((names(&hosts), hosts.site_name.as_str()), (vec!["plain.test"], "plain.test"));
    let bare = dns.mail_hosts("bare.test").await.unwrap_err();
    assert_eq!(bare, DnsError::NoAddress { host: "bare.test".to_owned() });
    // One family failed, so nobody knows.
    assert!(matches!(dns.mail_hosts("half.test").await, Err(DnsError::Temporary { .. })));
}

#[tokio::test]
async fn refusals_for_good_are_told_from_failures_and_both_are_remembered() {
    let zone = Zone::start().await;
    let dns = zone.dns();
    for (domain, code, enhanced) in [
        ("gone.test", 550, (5, 1, 2)),
        ("null.test", 556, (5, 1, 10)),
        ("broken.test", 451, (4, 4, 3)),
        ("not a domain", 553, (5, 1, 2)),
    ] {
        let error = dns.mail_hosts(domain).await.unwrap_err();
        assert_eq!((error.response().code, error.response().enhanced), (code, Some(enhanced)), "{error}");
        let asked = zone.asked(&format!("{domain}."), RecordType::MX);
        assert_eq!(dns.mail_hosts(domain).await.unwrap_err(), error);
        assert_eq!(zone.asked(&format!("{domain}."), RecordType::MX), asked, "{domain} was asked for again");
        assert_eq!(dns.cached(domain), None);
    }
    let gone = dns.addresses("gone.two.test").await.unwrap_err();
    assert_eq!(gone, DnsError::NoAddress { host: "gone.two.test".to_owned() });
}

#[tokio::test]
async fn silence_is_a_failure_with_an_end() {
    let zone = Zone::start().await;
    let dns = zone.dns_with(Duration::from_millis(50));
    let error = dns.mail_hosts("silent.test").await.unwrap_err();
    assert!(matches!(error, DnsError::Temporary { .. }) && error.response().code == 451, "{error}");
}

#[tokio::test]
async fn a_thousand_who_want_one_domain_ask_once() {
    let zone = Zone::start().await;
    let dns = zone.dns();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..1000 {
        let dns = dns.clone();
        tasks.spawn(async move { dns.mail_hosts("two.test").await.unwrap().hosts.len() });
    }
    while let Some(found) = tasks.join_next().await {
        assert_eq!(found.unwrap(), 2);
    }
    assert_eq!(zone.asked("two.test.", RecordType::MX), 1);
}

#[tokio::test]
async fn localhost_and_literals_are_answered_without_asking() {
    let zone = Zone::start().await;
    let dns = zone.dns();
    let hosts = dns.mail_hosts("mx-sink.localhost").await.unwrap();
    assert_eq!((hosts.site_name.as_str(), hosts.loopback_by_name), ("mx-sink.localhost", true));
    let loopback = ["127.0.0.1".parse::<IpAddr>().unwrap(), "::1".parse().unwrap()];
    assert_eq!(dns.addresses("mx-sink.localhost").await.unwrap(), loopback);
    let literal = dns.cached("[::1]:2526").unwrap();
    assert_eq!((literal.hosts[0].address, literal.hosts[0].port), (Some(loopback[1]), Some(2526)));
    assert!(zone.asked.lock().unwrap().is_empty());
    // Loopback by way of somebody's MX is not loopback by name.
    let inward = dns.mail_hosts("inward.test").await.unwrap();
    assert_eq!((names(&inward), inward.loopback_by_name), (vec!["evil.localhost"], false));
}
