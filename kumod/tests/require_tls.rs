//! REQUIRETLS: a message that may travel through TLS only goes to hosts that are certain and promise the same, and nowhere else.

#![allow(clippy::unwrap_used)]

mod support;

use kumod::config::{KeySource, OutboundSpec};
use kumod::dns::DnsOptions;
use kumod::envelope::Requests;
use support::authority::Authority;
use support::authority_of_certificates as certificates;
use support::client::{Client, transaction};
use support::home::Home;
use support::house::House;
use support::policy::LISTENERS;
use support::tls_hop::{Tls, TlsHop};

const ZONES: &[(&str, &str)] = &[("test.", "a IN MX 10 mx.a\nmx.a IN A 127.0.0.1\n")];

/// What becomes of such a message for a domain whose path has these options.
fn deliver(domain: &str, hop: &TlsHop, authority: &certificates::Authority, options: &str) -> String {
    let names = Authority::start(ZONES);
    let policy = format!(
        "kumo.on('init', function() kumo.start_esmtp_listener {{ listen = '127.0.0.1:0' }} end)
kumo.on('get_egress_path_config', function()
  return kumo.make_egress_path {{ prohibited_hosts = {{}}, smtp_port = {}, {options} }}
end)
",
        hop.address.port()
    );
    let dns = DnsOptions { nameservers: vec![names.address()], ..DnsOptions::default() };
    let authorities = Some(KeySource::Inline(authority.pem.clone()));
    let house = House::open(&policy, dns, OutboundSpec { authorities, ..OutboundSpec::default() });
    let recipient = format!("b@{domain}");
    house.send_asking(&recipient, Some(Requests { require_tls: true, ..Requests::default() }));
    house.first_attempt(&recipient)
}

#[test]
fn it_goes_where_the_certificate_is_good_and_the_promise_is_made() {
    let authority = certificates::Authority::new();
    let hop = TlsHop::announcing(Tls::Good(authority.issue(&["a.localhost"]).server(None)), &["REQUIRETLS"]);
    assert!(deliver("a.localhost", &hop, &authority, "").starts_with("Delivery 250"));
    let mail = hop.arrival("b@a.localhost").mail;
    assert!(mail.starts_with("<sender@client.test>") && mail.ends_with(" REQUIRETLS"), "{mail}");
}

#[test]
fn it_bounces_where_the_promise_is_not_made_or_the_host_is_not_certain() {
    let (authority, stranger) = (certificates::Authority::new(), certificates::Authority::new());
    let good = |names: &[&str]| Tls::Good(authority.issue(names).server(None));
    let insecure = "enable_tls = 'OpportunisticInsecure'";
    for (domain, tls, announced, options, wanted) in [
        (
            "a.localhost",
            good(&["a.localhost"]),
            false,
            "",
            "Bounce 550 5.7.30 a.localhost does not offer REQUIRETLS",
        ),
        ("a.localhost", Tls::NotOffered, true, "", "Bounce 550 5.7.10 there is no TLS with a.localhost"),
        ("a.localhost", good(&["a.localhost"]), true, "enable_tls = 'Disabled'", "Bounce 550 5.7.10"),
        (
            "a.localhost",
            Tls::Good(stranger.issue(&["a.localhost"]).server(None)),
            true,
            insecure,
            "Bounce 550 5.7.10",
        ),
        // Anybody may have said that this is the host.
        ("a.test", good(&["mx.a.test"]), true, "", "Bounce 550 5.7.10 there is no TLS with mx.a.test"),
    ] {
        let hop = TlsHop::announcing(tls, if announced { &["REQUIRETLS"] } else { &[] });
        let said = deliver(domain, &hop, &authority, options);
        assert!(said.starts_with(wanted), "{said}");
        assert_eq!(hop.arrivals(), []);
    }
}

#[test]
fn clients_are_offered_it_through_tls_and_it_is_kept_with_the_message() {
    let (home, hop) = (Home::new(), TlsHop::announcing(Tls::NotOffered, &["REQUIRETLS"]));
    let kumod = home.start_policy(&format!(
        "{LISTENERS}
kumo.on('get_egress_path_config', function() return kumo.make_egress_path {{ smtp_port = {} }} end)",
        hop.address.port()
    ));
    let asking = |user: &str| {
        let plain = transaction(&[&format!("{user}@a.localhost")], b"Subject: 1\r\n\r\n");
        String::from_utf8(plain).unwrap().replacen(">\r\n", "> REQUIRETLS\r\n", 1).into_bytes()
    };
    let mut client = Client::greeted(kumod.smtp());
    assert!(!client.extensions().contains(&"REQUIRETLS".to_owned()));
    client.write(&asking("clear"));
    assert_eq!(client.code(), 555);
    client.hang_up();

    let mut client = Client::greeted(kumod.smtp());
    client.write(b"STARTTLS\r\n");
    assert_eq!(client.code(), 220);
    let mut client = client.start_tls();
    assert!(client.extensions().contains(&"REQUIRETLS".to_owned()));
    client.write(&asking("safe"));
    assert_eq!([client.code(), client.code(), client.code()], [250, 250, 250]);
    client.quit();
    let record = home.record("Bounce", "safe@a.localhost");
    assert_eq!(record["response"]["enhanced_code"]["detail"], 10, "the next hop has no TLS");
    assert_eq!(hop.arrivals(), []);
}
