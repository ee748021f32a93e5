//! DNS as the world has it: what kumod makes of the answers of a real authoritative server on loopback.

#![allow(clippy::unwrap_used)]

mod support;

use std::net::IpAddr;
use std::time::Duration;

use hickory_server::proto::rr::RecordType;
use kumod::dns::{Dns, DnsError, DnsOptions, MailHosts};
use support::authority::{Authority, Mood};

fn dns(authority: &Authority) -> Dns {
    let nameservers = vec![authority.address()];
    Dns::new(DnsOptions { nameservers, ..DnsOptions::default() }).unwrap()
}

fn names(hosts: &MailHosts) -> Vec<&str> {
    hosts.hosts.iter().map(|host| host.name.as_str()).collect()
}

#[tokio::test]
async fn a_zone_is_read_as_its_file_says() {
    let zone = "two MX 20 mx2.two\ntwo MX 10 mx1.two\nmx1.two A 192.0.2.1\nmx1.two AAAA 2001:db8::1\n";
    let authority = Authority::start(&[("world.test.", zone)]);
    let dns = dns(&authority);
    let hosts = dns.mail_hosts("two.world.test").await.unwrap();
    assert_eq!(names(&hosts), ["mx1.two.world.test", "mx2.two.world.test"]);
    let addresses: Vec<IpAddr> = vec!["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()];
    assert_eq!(dns.addresses("mx1.two.world.test").await.unwrap(), addresses);
    assert_eq!(authority.asked("two.world.test", RecordType::MX), 1);
}

#[tokio::test]
async fn a_name_that_does_not_exist_is_told_from_a_server_that_fails() {
    let authority = Authority::start(&[("world.test.", "there A 192.0.2.1\n")]);
    authority.set_mood("broken.world.test", Some(Mood::Fails));
    let dns = dns(&authority);
    let gone = dns.mail_hosts("gone.world.test").await.unwrap_err();
    assert_eq!(gone, DnsError::NoSuchDomain { domain: "gone.world.test".to_owned() });
    let broken = dns.mail_hosts("broken.world.test").await.unwrap_err();
    assert!(matches!(broken, DnsError::Temporary { .. }) && !broken.is_permanent(), "{broken}");
}

#[tokio::test]
async fn silence_ends_in_a_failure_for_now() {
    let authority = Authority::start(&[("world.test.", "")]);
    authority.set_mood("silent.world.test", Some(Mood::Silent));
    let nameservers = vec![authority.address()];
    let timeout = Duration::from_millis(50);
    let dns = Dns::new(DnsOptions { nameservers, timeout, ..DnsOptions::default() }).unwrap();
    let silent = dns.mail_hosts("silent.world.test").await.unwrap_err();
    assert!(matches!(silent, DnsError::Temporary { .. }), "{silent}");
}
