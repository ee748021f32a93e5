//! MTA-STS against a real name server and a real web server on loopback: what a domain publishes is found, kept and obeyed.

#![allow(clippy::unwrap_used)]

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use kumod::config::{Config, KeySource, MtaStsSpec, OutboundSpec};
use kumod::dns::{Dns, DnsOptions, MtaSts, StsMode};
use kumod::policy::Policy;
use rustls::ClientConfig;
use rustls::crypto::ring;
use support::authority::{Authority, Mood};
use support::authority_of_certificates as certificates;
use support::home::Home;
use support::house::House;
use support::https::{Https, answer};
use support::tls_hop::{Tls, TlsHop};

/// Addresses are those of loopback; policies of all domains are said to be there.
const ZONES: &[(&str, &str)] = &[(
    "test.",
    "a IN MX 10 mx1.a\n  IN MX 20 mx2.a\nmx1.a IN A 127.0.0.1\nmx2.a IN A 127.0.0.1\n\
     _mta-sts.a IN TXT \"v=STSv1; id=1;\"\nmta-sts.a IN A 127.0.0.1\n\
     b IN MX 10 mx1.a\nc IN MX 10 mx1.a\n_mta-sts.c IN TXT \"v=spf1 -all\"\n",
)];

fn policy(mode: &str, hosts: &[&str], max_age: u32) -> String {
    let hosts: String = hosts.iter().map(|host| format!("mx: {host}\r\n")).collect();
    let text = format!("version: STSv1\r\nmode: {mode}\r\n{hosts}max_age: {max_age}\r\n");
    answer("200 OK", "text/plain; charset=utf-8", &text)
}

fn dns_options(names: &Authority) -> DnsOptions {
    DnsOptions { nameservers: vec![names.address()], ..DnsOptions::default() }
}

fn spec(port: u16) -> MtaStsSpec {
    MtaStsSpec { enabled: true, port, loopback_allowed: true }
}

/// Who finds policies, trusting this authority.
fn finder(names: &Authority, web: &Https, authority: &certificates::Authority, spec: MtaStsSpec) -> MtaSts {
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let config = config.with_safe_default_protocol_versions().unwrap();
    let config = Arc::new(config.with_root_certificates(authority.roots()).with_no_client_auth());
    let dns = Dns::new(dns_options(names)).unwrap();
    MtaSts::new(
        dns,
        MtaStsSpec { port: web.address.port(), ..spec },
        Arc::new(move || Ok(Arc::clone(&config))),
    )
}

#[tokio::test]
async fn a_policy_is_fetched_once_kept_for_its_time_and_fetched_again_when_its_id_changes_or_it_ages() {
    let (names, authority) = (Authority::start(ZONES), certificates::Authority::new());
    let web = Https::start(
        authority.issue(&["mta-sts.a.test"]).server(None),
        policy("enforce", &["mx1.a.test"], 86_400),
    );
    let finder = finder(&names, &web, &authority, spec(0));
    let now = Instant::now();
    let (first, second) = tokio::join!(finder.policy("a.test", now), finder.policy("A.Test.", now));
    assert_eq!((first.clone().unwrap().mode, first.is_some()), (StsMode::Enforce, second.is_some()));
    assert_eq!(
        web.asked(),
        ["GET /.well-known/mta-sts.txt mta-sts.a.test"],
        "one question under way at a time"
    );

    web.change(policy("testing", &["mx1.a.test"], 86_400));
    let hour = now + Duration::from_secs(3600);
    assert_eq!(finder.policy("a.test", hour).await.unwrap().mode, StsMode::Enforce, "the id is the same");
    assert_eq!(web.asked().len(), 1);

    let later = now + Duration::from_secs(50_000);
    assert_eq!(finder.policy("a.test", later).await.unwrap().mode, StsMode::Testing, "its half-time is over");

    web.change(answer("500 Oops", "text/plain", ""));
    names.set_mood("_mta-sts.a.test", Some(Mood::Fails));
    let still = later + Duration::from_secs(86_000);
    assert_eq!(finder.policy("a.test", still).await.unwrap().mode, StsMode::Testing, "nobody says otherwise");
    names.set_mood("_mta-sts.a.test", None);
    let still = still + Duration::from_secs(60);
    assert_eq!(finder.policy("a.test", still).await.unwrap().mode, StsMode::Testing, "it cannot be fetched");
    assert_eq!(web.asked().len(), 3);
    let over = later + Duration::from_secs(86_400);
    assert_eq!(finder.policy("a.test", over).await, None, "its time is over");
}

#[tokio::test]
async fn what_is_not_published_as_it_should_be_is_no_policy() {
    let (names, authority) = (Authority::start(ZONES), certificates::Authority::new());
    let good = policy("enforce", &["mx1.a.test"], 86_400);
    let text = good.split("\r\n\r\n").nth(1).unwrap();
    let large = format!("{text}{}", "x: y\r\n".repeat(20_000));
    for wrong in [
        answer("301 Moved", "text/plain", text).replace("Connection:", "Location: /other\r\nConnection:"),
        answer("404 Not Found", "text/plain", text),
        answer("200 OK", "text/html", text),
        answer("200 OK", "text/plain", "no policy"),
        answer("200 OK", "text/plain", &large),
        good.replace("Content-Length: ", "Content-Length: 9"),
        "nonsense\r\n\r\n".to_owned(),
    ] {
        let web = Https::start(authority.issue(&["mta-sts.a.test"]).server(None), wrong.clone());
        let finder = finder(&names, &web, &authority, spec(0));
        assert_eq!(finder.policy("a.test", Instant::now()).await, None, "{wrong:.200}");
        assert_eq!(web.asked().len(), 1);
        assert_eq!(finder.policy("a.test", Instant::now()).await, None);
        assert_eq!(web.asked().len(), 1, "not asked again at once");
    }
    let stranger = certificates::Authority::new();
    for certificate in [
        stranger.issue(&["mta-sts.a.test"]),
        authority.issue(&["a.test"]),
        authority.issue_expired(&["mta-sts.a.test"]),
    ] {
        let web = Https::start(certificate.server(None), good.clone());
        assert_eq!(finder(&names, &web, &authority, spec(0)).policy("a.test", Instant::now()).await, None);
        assert_eq!(web.asked(), [""; 0], "who cannot be trusted is asked nothing");
    }
}

#[tokio::test]
async fn nobody_is_asked_who_need_not_be() {
    let (names, authority) = (Authority::start(ZONES), certificates::Authority::new());
    let good = policy("enforce", &["mx1.a.test"], 86_400);
    let web = Https::start(authority.issue(&["mta-sts.a.test"]).server(None), good);
    let now = Instant::now();
    let usual = finder(&names, &web, &authority, spec(0));
    for domain in ["b.test", "c.test", "nowhere.test", "a.localhost", "[127.0.0.1]", "no domain"] {
        assert_eq!(usual.policy(domain, now).await, None, "{domain}");
    }
    let off = finder(&names, &web, &authority, MtaStsSpec { enabled: false, ..spec(0) });
    assert_eq!(off.policy("a.test", now).await, None);
    let careful = finder(&names, &web, &authority, MtaStsSpec { loopback_allowed: false, ..spec(0) });
    assert_eq!(careful.policy("a.test", now).await, None, "a server on this host is nobody's");
    assert_eq!(web.asked(), [""; 0]);
}

/// A house that trusts the authority, whose paths lead to the hop with these options, and mail for `a.test`, `b.test` and `c.test`.
fn house(
    names: &Authority,
    web: &Https,
    hop: &TlsHop,
    authority: &certificates::Authority,
    options: &str,
) -> House {
    let policy = format!(
        "kumo.on('init', function() kumo.start_esmtp_listener {{ listen = '127.0.0.1:0' }} end)
kumo.on('get_egress_path_config', function()
  return kumo.make_egress_path {{ prohibited_hosts = {{}}, smtp_port = {}, {options} }}
end)
kumo.on('get_queue_config', function() return kumo.make_queue_config {{ retry_interval = '1h' }} end)
",
        hop.address.port()
    );
    let authorities = Some(KeySource::Inline(authority.pem.clone()));
    let outbound = OutboundSpec { authorities, mta_sts: spec(web.address.port()), ..OutboundSpec::default() };
    House::open(&policy, dns_options(names), outbound)
}

#[test]
fn an_enforced_policy_is_obeyed_whatever_the_path_says() {
    let (names, authority) = (Authority::start(ZONES), certificates::Authority::new());
    let web = Https::start(
        authority.issue(&["mta-sts.a.test"]).server(None),
        policy("enforce", &["*.a.test"], 86_400),
    );
    for (names_in_certificate, offers, wanted) in [
        (&["mx1.a.test", "mx2.a.test"][..], true, "Delivery 250"),
        (&["other.test"], true, "TransientFailure 451 4.7.5 no TLS with mx"),
        (&["mx1.a.test"], false, "TransientFailure 451 4.7.4 the server does not offer STARTTLS"),
    ] {
        let server = authority.issue(names_in_certificate).server(None);
        let hop = TlsHop::start(if offers { Tls::Good(server) } else { Tls::NotOffered });
        let house = house(&names, &web, &hop, &authority, "enable_tls = 'Disabled'");
        house.send("b@a.test");
        let said = house.first_attempt("b@a.test");
        assert!(said.starts_with(wanted), "{said}");
        // A domain with the same host that has published nothing goes by the path, and not over the other's connection.
        house.send("b@b.test");
        assert_eq!(hop.arrival("b@b.test").handshake, None);
    }
}

#[test]
fn hosts_that_an_enforced_policy_does_not_name_get_nothing() {
    let (names, authority) = (Authority::start(ZONES), certificates::Authority::new());
    let web = Https::start(
        authority.issue(&["mta-sts.a.test"]).server(None),
        policy("enforce", &["mx2.a.test"], 86_400),
    );
    let hop = TlsHop::start(Tls::Good(authority.issue(&["mx1.a.test", "mx2.a.test"]).server(None)));
    let only_second = house(&names, &web, &hop, &authority, "");
    only_second.send("b@a.test");
    assert_eq!(hop.arrival("b@a.test").server_name.as_deref(), Some("mx2.a.test"));
    assert_eq!(only_second.home.record("Delivery", "b@a.test")["site"], "mx2.a.test");

    web.change(policy("enforce", &["elsewhere.test"], 86_400));
    let nobody = house(&names, &web, &hop, &authority, "");
    nobody.send("c@a.test");
    let said = nobody.first_attempt("c@a.test");
    assert_eq!(said, "TransientFailure 451 4.7.5 no host of a.test is allowed by its MTA-STS policy");
    assert_eq!(hop.arrivals().len(), 1);
}

#[test]
fn a_policy_in_testing_holds_up_nothing_and_counts_what_would_have_been() {
    let (names, authority) = (Authority::start(ZONES), certificates::Authority::new());
    let web = Https::start(
        authority.issue(&["mta-sts.a.test"]).server(None),
        policy("testing", &["*.a.test"], 86_400),
    );
    for (names_in_certificate, offers, encrypted, counted) in [
        (&["mx1.a.test", "mx2.a.test"][..], true, true, 0),
        (&["other.test"], true, true, 1),
        (&["mx1.a.test"], false, false, 1),
    ] {
        let server = authority.issue(names_in_certificate).server(None);
        let hop = TlsHop::start(if offers { Tls::Good(server) } else { Tls::NotOffered });
        let house = house(&names, &web, &hop, &authority, "enable_tls = 'Required'");
        house.send("b@a.test");
        assert_eq!(hop.arrival("b@a.test").handshake.is_some(), encrypted);
        assert_eq!(house.metrics.mta_sts_testing_failures.get(), counted);
    }
}

#[test]
fn a_path_may_leave_policies_alone() {
    let (names, authority) = (Authority::start(ZONES), certificates::Authority::new());
    let web = Https::start(
        authority.issue(&["mta-sts.a.test"]).server(None),
        policy("enforce", &["*.a.test"], 86_400),
    );
    let hop = TlsHop::start(Tls::NotOffered);
    let house = house(&names, &web, &hop, &authority, "enable_mta_sts = false");
    house.send("b@a.test");
    assert_eq!(hop.arrival("b@a.test").handshake, None);
}

#[test]
fn a_policy_may_have_nobody_asked() {
    let home = Home::new();
    let load = |argument: &str| {
        let file = home.policy(&format!(
            "kumo.on('init', function()
  kumo.start_esmtp_listener {{ listen = '127.0.0.1:0' }}
  kumo.dns.set_mta_sts_enabled({argument})
end)"
        ));
        let mut config = Config::default();
        Policy::load(&file, &mut config).map(|_| config.outbound.mta_sts.enabled)
    };
    assert!(!load("false").unwrap() && load("true").unwrap());
    assert!(load("'no'").unwrap_err().to_string().contains("true or false is wanted; a string was given"));
}
