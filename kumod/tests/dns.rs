//! DNS as the world has it: what kumod makes of the answers of a real authoritative server on loopback.

#![allow(clippy::unwrap_used)]

mod support;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_server::proto::rr::RecordType;
use kumod::dns::{Dns, DnsError, DnsOptions, MailHosts};
use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};
use support::authority::{Authority, Mood};
use support::client::Client;
use support::eventually;
use support::home::{Home, Kumod};
use support::scripted::Scripted;
use support::unbound::Unbound;

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

#[tokio::test]
async fn aliases_are_followed_to_their_end_and_loops_are_a_failure_for_now() {
    let zone = "alias CNAME other\nother MX 10 mx.other\nmx.other CNAME real\nreal A 192.0.2.1\n\
                round CNAME about\nabout CNAME round\n";
    let authority = Authority::start(&[("world.test.", zone)]);
    let dns = dns(&authority);
    let hosts = dns.mail_hosts("alias.world.test").await.unwrap();
    assert_eq!(names(&hosts), ["mx.other.world.test"]);
    let addresses: Vec<IpAddr> = vec!["192.0.2.1".parse().unwrap()];
    assert_eq!(dns.addresses("mx.other.world.test").await.unwrap(), addresses);
    let round = dns.mail_hosts("round.world.test").await.unwrap_err();
    assert_eq!(round.response().code / 100, if round.is_permanent() { 5 } else { 4 }, "{round}");
    assert!(authority.asked("round.world.test", RecordType::MX) < 20, "a loop has an end");
}

#[tokio::test]
async fn a_long_answer_comes_whole() {
    let records: String = (0..60)
        .map(|number| format!("many MX {number} mx{number:02}.a-rather-long-name-of-a-host.many\n"))
        .collect();
    let authority = Authority::start(&[("world.test.", &records)]);
    let hosts = dns(&authority).mail_hosts("many.world.test").await.unwrap();
    assert_eq!((hosts.hosts.len(), hosts.hosts[0].preference), (kumod::dns::MX_HOSTS_MAX, 0));
}

#[tokio::test]
async fn bounds_hold_over_what_a_zone_says() {
    let authority =
        Authority::start(&[("world.test.", "brief 0 MX 10 mx.brief\nlong 1000000 MX 10 mx.long\n")]);
    let manner = kumod::config::ResolverOptions {
        positive_min_ttl: Duration::from_secs(100),
        positive_max_ttl: Duration::from_secs(200),
        ..Default::default()
    };
    let nameservers = vec![authority.address()];
    let dns = Dns::new(DnsOptions { nameservers, manner, ..DnsOptions::default() }).unwrap();
    let begun = std::time::Instant::now();
    let brief = dns.mail_hosts("brief.world.test").await.unwrap().expires;
    let long = dns.mail_hosts("long.world.test").await.unwrap().expires;
    assert!(brief >= begun + Duration::from_secs(100));
    assert!(long > brief && long <= std::time::Instant::now() + Duration::from_secs(200));
}

/// The same answers by way of a resolver that asks, follows aliases, remembers and validates itself.
#[tokio::test]
async fn behind_a_validating_resolver_the_same_is_known() {
    let folder = tempfile::tempdir().unwrap();
    let zone = "two MX 10 mx1.two\nmx1.two A 192.0.2.1\nalias CNAME two\nnull MX 0 .\nplain A 192.0.2.2\n\
                round CNAME about\nabout CNAME round\n";
    let authority = Authority::start(&[("world.test.", zone), ("forged.test.", zone)]);
    let zones = ["world.test.", "forged.test."];
    let Some(unbound) = Unbound::start(folder.path(), authority.address(), &zones, &zones[1..]) else {
        return;
    };
    let nameservers = vec![unbound.address()];
    let timeout = support::PATIENCE;
    let dns = Dns::new(DnsOptions { nameservers, timeout, ..DnsOptions::default() }).unwrap();
    for domain in ["two.world.test", "alias.world.test"] {
        assert_eq!(names(&dns.mail_hosts(domain).await.unwrap()), ["mx1.two.world.test"], "{domain}");
    }
    assert_eq!(names(&dns.mail_hosts("plain.world.test").await.unwrap()), ["plain.world.test"]);
    for (domain, code) in [
        ("gone.world.test", 550),
        ("null.world.test", 556),
        ("round.world.test", 451),
        // What is not signed as it should be is not known to be there, nor not to be.
        ("two.forged.test", 451),
        ("gone.forged.test", 451),
    ] {
        assert_eq!(dns.mail_hosts(domain).await.unwrap_err().response().code, code, "{domain}");
    }
}

/// Free ports, the resolver, and mail for hosts of the zone to this port of loopback.
fn policy(authority: &Authority, port: u16, path: &str, more: &str) -> String {
    let server = authority.address();
    format!(
        "kumo.on('init', function()
  kumo.start_http_listener {{ listen = '127.0.0.1:0' }}
  kumo.start_esmtp_listener {{ listen = '127.0.0.1:0', hostname = 'mx.test' }}
  kumo.dns.configure_resolver {{ name_servers = {{ '{server}' }}, search = {{ 'world.test' }} }}
  kumo.dns.define_resolver('other', {{ name_servers = {{ '{server}' }}, options = {{ attempts = 1 }} }})
  kumo.dns.set_mx_timeout '2 seconds'
  kumo.dns.set_mx_concurrency_limit(16)
  kumo.dns.set_mx_cache_size(1000)
  kumo.dns.set_mx_negative_cache_ttl(60)
end)
kumo.on('get_queue_config', function()
  return kumo.make_queue_config {{ retry_interval = '1h', max_retry_interval = '1h' }}
end)
kumo.on('get_egress_path_config', function()
  return kumo.make_egress_path {{ prohibited_hosts = {{}}, smtp_port = {port}, {path} }}
end)
{more}"
    )
}

fn send(kumod: &Kumod, recipients: &[String]) {
    let mut client = Client::greeted(kumod.smtp());
    for recipient in recipients {
        let reply = client.send(&[recipient], b"Subject: by MX\r\n\r\n");
        assert!(reply.starts_with("250 "), "{reply}");
    }
    client.quit();
}

fn record(home: &Home, recipient: &str) -> Value {
    eventually("the end of the attempt", || {
        let mut records = home.records().into_iter();
        records.find(|record| record["recipient"] == recipient && record["type"] != "Reception")
    })
}

#[test]
fn mail_finds_its_way_by_the_servers_that_the_policy_names() {
    let (home, hop) = (Home::new(), Scripted::good());
    let zone = "good MX 10 dead.good\ngood MX 20 mx.good\ndead.good A 127.0.0.9\nmx.good A 127.0.0.1\nnull MX 0 .\n\
                broken MX 10 nowhere\nbroken MX 20 nowhere.else\n";
    let authority = Authority::start(&[("world.test.", zone)]);
    authority.set_mood("failing.world.test", Some(Mood::Fails));
    let kumod = home.start_policy(&policy(&authority, hop.address.port(), "", ""));
    let recipients = ["good", "null", "broken", "gone", "failing"].map(|name| format!("b@{name}.world.test"));
    send(&kumod, &recipients);
    for (recipient, kind, code) in [
        (&recipients[0], "Delivery", 250),
        (&recipients[1], "Bounce", 556),
        (&recipients[2], "TransientFailure", 451),
        (&recipients[3], "Bounce", 550),
        (&recipients[4], "TransientFailure", 451),
    ] {
        let record = record(&home, recipient);
        assert_eq!((&record["type"], &record["response"]["code"]), (&json!(kind), &json!(code)), "{record}");
    }
    kumod.stop();
    let delivered = record(&home, &recipients[0]);
    assert_eq!(delivered["peer_address"], json!({"name": "mx.good.world.test", "addr": "127.0.0.1"}));
    assert_eq!(delivered["site"], "(dead|mx).good.world.test");
}

#[test]
fn a_path_says_which_addresses_are_passed_over() {
    let (home, hop) = (Home::new(), Scripted::good());
    let zone = "part MX 10 mx1.part\npart MX 20 mx2.part\nmx1.part A 127.0.0.7\nmx2.part A 127.0.0.1\nall MX 10 mx1.part\n\
                six MX 10 mx.six\nmx.six AAAA ::1\n";
    let authority = Authority::start(&[("world.test.", zone)]);
    let path = "skip_hosts = { '127.0.0.7' }, ip_lookup_strategy = 'V4Only'";
    let kumod = home.start_policy(&policy(&authority, hop.address.port(), path, ""));
    let recipients = ["part", "all", "six"].map(|name| format!("b@{name}.world.test"));
    send(&kumod, &recipients);
    let [part, all, six] = recipients.map(|recipient| record(&home, &recipient));
    kumod.stop();
    assert_eq!((&part["type"], &part["peer_address"]["addr"]), (&json!("Delivery"), &json!("127.0.0.1")));
    for (record, words) in [(all, "is in skip_hosts"), (six, "ip_lookup_strategy = 'V4Only' allows")] {
        let content = record["response"]["content"].as_str().unwrap();
        assert_eq!((&record["type"], &record["response"]["code"]), (&json!("TransientFailure"), &json!(451)));
        assert!(content.contains(words), "{content}");
    }
}

/// A host that takes no connection and says nothing: all places of its queue are taken.
fn silent(port: u16) -> Vec<Socket> {
    let address: SocketAddr = ([127, 0, 0, 8], port).into();
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    listener.bind(&address.into()).unwrap();
    listener.listen(0).unwrap();
    let mut held = vec![listener];
    for _ in 0..4 {
        let waiting = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        waiting.set_nonblocking(true).unwrap();
        let _ = waiting.connect(&address.into());
        held.push(waiting);
    }
    held
}

#[test]
fn a_dead_first_mx_costs_one_connection_its_time_and_not_all() {
    const MESSAGES: usize = 40;
    let (home, hop) = (Home::new(), Scripted::good());
    let _silent = silent(hop.address.port());
    let zone = "half MX 10 dead.half\nhalf MX 20 mx.half\ndead.half A 127.0.0.8\nmx.half A 127.0.0.1\n";
    let authority = Authority::start(&[("world.test.", zone)]);
    // A connection for each message, one after the other.
    let path = "connection_limit = 1, max_deliveries_per_connection = 1";
    let kumod = home.start_policy(&policy(&authority, hop.address.port(), path, ""));
    let recipients: Vec<String> = (0..MESSAGES).map(|number| format!("b{number}@half.world.test")).collect();
    send(&kumod, &recipients);
    kumod.drained();
    kumod.stop();
    assert_eq!(hop.accepted().len(), MESSAGES);
    let records = home.records();
    let waits = records.iter().filter_map(|record| record["connect_ms"].as_u64());
    let slow = waits.filter(|connect_ms| *connect_ms >= 2900).count();
    assert!((1..MESSAGES / 5).contains(&slow), "{slow} of {MESSAGES} connections waited for the dead host");
    assert!(records.iter().all(|record| record["type"] != "TransientFailure"));
}

#[test]
fn a_handler_asks_what_it_wants_to_know() {
    let (home, hop) = (Home::new(), Scripted::good());
    let zone = "good MX 10 mx.good\nmx.good A 192.0.2.5\nnote TXT \"v=spf1 \" \"-all\"\n";
    let back = "5 PTR mx.good.world.test.\n";
    let authority = Authority::start(&[("world.test.", zone), ("2.0.192.in-addr.arpa.", back)]);
    let handler = "kumo.on('smtp_server_message_received', function(msg)
  local mx = kumo.dns.lookup_mx('good.world.test')
  local found = {
    site = mx.site_name, host = mx.hosts[1], preferred = mx.by_pref[10][1], is_mx = mx.is_mx,
    addr = kumo.dns.lookup_addr('mx.good.world.test', 'other')[1],
    search = kumo.dns.lookup_txt('note')[1], none = #kumo.dns.lookup_txt('gone.world.test.'),
    ptr = kumo.dns.lookup_ptr('192.0.2.5')[1], reverse = kumo.dns.reverse_ip('192.0.2.5'),
  }
  local ok, why = pcall(kumo.dns.lookup_txt, 'note', 'nobody')
  found.why = tostring(why)
  msg:set_meta('found', found)
  msg:set_meta('queue', 'null')
end)
";
    let kumod = home.start_policy(&policy(&authority, hop.address.port(), "", handler));
    send(&kumod, &["b@there.test".to_owned()]);
    kumod.stop();
    let records = home.records();
    let found = &records[0]["meta"]["found"];
    for (name, value) in [
        ("site", json!("mx.good.world.test")),
        ("host", json!("mx.good.world.test")),
        ("preferred", json!("mx.good.world.test")),
        ("is_mx", json!(true)),
        ("addr", json!("192.0.2.5")),
        ("search", json!("v=spf1 -all")),
        ("none", json!(0)),
        ("ptr", json!("mx.good.world.test.")),
        ("reverse", json!("5.2.0.192")),
    ] {
        assert_eq!(found[name], value, "{name}: {found}");
    }
    let why = found["why"].as_str().unwrap();
    assert!(why.contains("there is no resolver 'nobody'") && why.contains("other"), "{why}");
}

#[test]
fn what_cannot_be_meant_stops_the_start() {
    for (call, words) in [
        ("configure_resolver { name_servers = { 'ns.test' } }", "is not an address such as"),
        ("configure_resolver { search = { 'a.test' } }", "need 'name_servers'"),
        ("configure_resolver { options = { attempts = 0 } }", "from 1 to 10"),
        ("configure_resolver { name_server = {} }", "is 'name_servers' meant?"),
        ("set_mx_timeout(0)", "more than 0"),
        ("set_mx_concurrency_limit('many')", "a whole number from 1 to 4096"),
        ("lookup_txt('a.test')", "once kumod serves"),
        ("rbl_lookup('192.0.2.1', 'a.test')", "is not available in this version"),
    ] {
        let home = Home::new();
        let policy = home.policy(&format!("kumo.on('init', function()\n  kumo.dns.{call}\nend)\n"));
        let refusal = home.refused(&["--policy", policy.to_str().unwrap()]).said;
        assert!(refusal.contains(words), "{call}: {refusal}");
    }
}
