//! DANE against a name server on loopback whose zones are signed, or not, or not as they should be.

#![allow(clippy::unwrap_used)]

mod support;

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use hickory_server::proto::rr::RecordType;
use hickory_server::zone_handler::Catalog;
use kumod::clock::UnixMs;
use kumod::config::{KeySource, MtaStsSpec, OutboundSpec, ResolverOptions};
use kumod::dns::DnsOptions;
use ring::digest::{SHA256, SHA512, digest};
use support::authority::{Authority, Mood, zone};
use support::authority_of_certificates as certificates;
use support::house::House;
use support::signed::signed_zone;
use support::tls_hop::{Tls, TlsHop};
use support::until;

const YEAR: Duration = Duration::from_secs(365 * 86_400);

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

/// Everything that the tests look at: one next hop, many names that lead to it.
struct World {
    names: Authority,
    hop: TlsHop,
    house: House,
}

impl World {
    fn new(expired: bool, options: &str) -> Self {
        let (authority, stranger) = (certificates::Authority::new(), certificates::Authority::new());
        let in_certificate = &["mx.anchor.test", "mx.old.test"];
        let issued =
            if expired { authority.issue_expired(in_certificate) } else { authority.issue(in_certificate) };
        let hop = TlsHop::start(Tls::Good(issued.server(None)));
        let (own, above) = (issued.chain[0].as_ref(), issued.chain[1].as_ref());
        let key = issued.public_key.as_slice();
        let (short, long) = (
            |bytes: &[u8]| hex(digest(&SHA256, bytes).as_ref()),
            |bytes: &[u8]| hex(digest(&SHA512, bytes).as_ref()),
        );
        let nobody = short(stranger.certificate.as_ref());
        let hosts = [
            ("key", format!("3 1 1 {}", short(key))),
            ("long", format!("3 1 2 {}", long(key))),
            ("whole", format!("3 0 0 {}", hex(own))),
            ("anchor", format!("2 0 1 {}", short(above))),
            ("other", format!("2 0 1 {}", short(above))),
            ("wrong", format!("3 1 1 {nobody}")),
            ("strange", format!("2 0 1 {nobody}")),
            ("unusable", format!("1 0 1 {}", short(own))),
            ("weak", format!("3 1 1 {}", short(key))),
        ];
        let port = hop.address.port();
        let mut records = String::new();
        for (name, tlsa) in &hosts {
            writeln!(
                records,
                "{name} IN MX 10 mx.{name}\nmx.{name} IN A 127.0.0.1\n_{port}._tcp.mx.{name} IN TLSA {tlsa}"
            )
            .unwrap();
        }
        writeln!(records, "none IN MX 10 mx.none\nmx.none IN A 127.0.0.1").unwrap();
        writeln!(records, "alias IN MX 10 mx.alias\nmx.alias IN CNAME mx.key").unwrap();
        writeln!(records, "_{port}._tcp.mx.weak IN TLSA 3 1 2 {}", long(b"another key")).unwrap();
        writeln!(records, "{{itself}} IN A 127.0.0.1\n_{port}._tcp.itself IN TLSA 3 1 1 {}", short(key))
            .unwrap();
        let records = records.replace("{itself}", "itself") + "plain IN NS ns.plain\n";
        // Nothing here is signed, so that none of it counts.
        let unsigned = format!(
            "@ IN MX 10 mx\nmx IN A 127.0.0.1\n_{port}._tcp.mx IN TLSA 3 1 1 {nobody}\nborrowed IN MX 10 mx.wrong.test.\n"
        );
        let late =
            format!("@ IN MX 10 mx\nmx IN A 127.0.0.1\n_{port}._tcp.mx IN TLSA 3 1 1 {}\n", short(key));
        let (test, anchor) = signed_zone("test.", &records, YEAR);
        let (old, old_anchor) = signed_zone("old.", &late, Duration::ZERO);
        // Times of signatures are whole seconds, and they hold to the end of the last one (RFC 4034 3.1.5).
        let last_second = UnixMs::now().0 / 1000;
        until("the signatures to run out", || UnixMs::now().0 / 1000 > last_second);
        // A name server that has both sides of a delegation answers for the lower one, which has no proof to give: so the delegation is
        // one level above what it is about.
        let mut plain = zone("deep.plain.test.", &unsigned);
        plain.1.records_get_mut().retain(|key, _| key.record_type != RecordType::NS);
        let mut catalog = Catalog::new();
        for (name, zone) in [test, old, plain] {
            catalog.upsert(name.into(), vec![Arc::new(zone)]);
        }
        let names = Authority::serve(catalog);
        let dns = DnsOptions {
            nameservers: vec![names.address()],
            manner: ResolverOptions {
                trust_anchor: Some(KeySource::Inline(anchor + &old_anchor)),
                ..ResolverOptions::default()
            },
            ..DnsOptions::default()
        };
        let policy = format!(
            "kumo.on('init', function() kumo.start_esmtp_listener {{ listen = '127.0.0.1:0' }} end)
kumo.on('get_egress_path_config', function()
  return kumo.make_egress_path {{ prohibited_hosts = {{}}, smtp_port = {port}, enable_tls = 'Disabled', {options} }}
end)
kumo.on('get_queue_config', function() return kumo.make_queue_config {{ retry_interval = '1h' }} end)
"
        );
        let mta_sts = MtaStsSpec { enabled: false, ..MtaStsSpec::default() };
        let spec = OutboundSpec { mta_sts, ..OutboundSpec::default() };
        let house = House::open(&policy, dns, spec);
        Self { names, hop, house }
    }

    /// What became of mail for a domain, and whether it came encrypted.
    fn deliver(&self, domain: &str) -> (String, Option<bool>) {
        let recipient = format!("b@{domain}");
        self.house.send(&recipient);
        let said = self.house.first_attempt(&recipient);
        let mut arrived = self.hop.arrivals().into_iter().filter(|arrival| arrival.recipient == recipient);
        (said, arrived.next().map(|arrival| arrival.handshake.is_some()))
    }

    fn assert(&self, domain: &str, wanted: &str, encrypted: Option<bool>) {
        let (said, arrived) = self.deliver(domain);
        assert!(said.starts_with(wanted) && arrived == encrypted, "{domain}: {said} {arrived:?}");
    }
}

const MISMATCH: &str = "TransientFailure 451 4.7.5 no TLS with mx.";

#[test]
fn a_certificate_that_is_named_will_do_and_no_other() {
    let world = World::new(false, "enable_dane = true");
    for domain in ["key.test", "long.test", "whole.test", "anchor.test", "itself.test", "alias.test"] {
        world.assert(domain, "Delivery 250", Some(true));
    }
    // The certificate is for another name, or its key is another, or nobody who is named has signed it.
    for domain in ["other.test", "wrong.test", "strange.test"] {
        world.assert(domain, MISMATCH, None);
    }
    // Of two digests the stronger counts.
    world.assert("weak.test", MISMATCH, None);
    assert_eq!(world.hop.arrival("b@alias.test").server_name.as_deref(), Some("mx.key.test"));
    assert_eq!(world.house.metrics.dane_results.usable.get(), 10);
}

#[test]
fn the_time_of_a_certificate_counts_only_where_another_vouches_for_it() {
    let world = World::new(true, "enable_dane = true");
    world.assert("key.test", "Delivery 250", Some(true));
    world.assert("anchor.test", MISMATCH, None);
}

#[test]
fn records_of_which_none_can_be_used_ask_for_tls_with_anybody() {
    let world = World::new(false, "enable_dane = true");
    world.assert("unusable.test", "Delivery 250", Some(true));
    world.hop.change(Tls::NotOffered);
    world.house.send("c@unusable.test");
    // The connection may still be open, so another host is asked for what is certain.
    world.assert("key.test", "TransientFailure 451 4.7.4 the server does not offer STARTTLS", None);
}

#[test]
fn without_records_and_without_signatures_the_path_decides() {
    let world = World::new(false, "enable_dane = true");
    for domain in ["none.test", "deep.plain.test", "borrowed.deep.plain.test"] {
        world.assert(domain, "Delivery 250", Some(false));
    }
    let blind = World::new(false, "");
    blind.assert("wrong.test", "Delivery 250", Some(false));
    assert_eq!(blind.house.metrics.dane_results.usable.get(), 0);
}

#[test]
fn what_cannot_be_found_out_and_what_is_signed_wrongly_holds_mail_up() {
    let world = World::new(false, "enable_dane = true");
    world.names.set_mood(&format!("_{}._tcp.mx.key.test", world.hop.address.port()), Some(Mood::Fails));
    world.assert("key.test", "TransientFailure 451 4.7.5 no TLS with mx.key.test: DNS gave no answer", None);
    world.assert("old", "TransientFailure 451 4.4.3 DNS gave no answer for old", None);
    assert_eq!(world.house.metrics.dane_results.failed.get(), 1);
}
