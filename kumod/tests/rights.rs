//! Who may send where: users, domains of ours, and strangers, who may send nowhere.

#![allow(clippy::unwrap_used)]

#[path = "../../crates/smtp/tests/support/prover.rs"]
mod prover;
mod support;

use std::process::Command;

use support::client::Client;
use support::home::{Home, Kumod};
use support::scripted::Scripted;

/// A listener to which we are strangers, one user, and two domains.
const POLICY: &str = "
local kumo = require 'kumo'
kumo.on('init', function()
  kumo.start_http_listener { listen = '127.0.0.1:0' }
  kumo.start_esmtp_listener { listen = '127.0.0.1:0', hostname = 'mx.test', relay_hosts = {}, LISTENER }
end)
kumo.on('smtp_server_auth_plain', function(authz, authc, password, connection)
  if authc == 'broken' then error('no directory') end
  if authc == 'locked' then kumo.reject(454, '4.7.0 Locked for a while') end
  assert(connection:get_meta('tls_protocol_version'))
  return authz == authc and authc == 'scott' and password == 'tiger 7'
end)
kumo.on('smtp_server_auth_scram', function(user, connection)
  if user == 'broken' then error('no directory') end
  if user == 'locked' then kumo.reject(454, '4.7.0 Locked for a while') end
  assert(connection:get_meta('tls_protocol_version'))
  if user == 'scott' then return { password = 'tiger 7' } end
  if user == 'pencil' then
    return 'SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU='
  end
end)
kumo.on('get_listener_domain', function(domain, listener, connection)
  if domain == 'ours.test' then return kumo.make_listener_domain { relay_to = true } end
  if domain == 'customer.test' then return { relay_from = { '127.0.0.1' } } end
  if domain == 'elsewhere.test' then return { relay_from = { '192.0.2.0/24' } } end
  if domain == 'broken.test' then error('no list of domains') end
  if domain == 'barred.test' then kumo.reject(550, '5.7.1 Barred') end
end)
kumo.on('smtp_server_message_received', function(msg, connection)
  msg:set_meta('user', connection:get_meta('authn_id') or 'nobody')
  msg:set_meta('queue', 'null')
end)
";

fn start(home: &Home, options: &str) -> Kumod {
    home.start_policy(&POLICY.replace("LISTENER", options))
}

fn base64(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(text)
}

/// Through TLS and after EHLO, as a user is.
fn secure(kumod: &Kumod) -> Client {
    let mut client = Client::greeted(kumod.smtp());
    client.write(b"STARTTLS\r\n");
    assert_eq!(client.code(), 220);
    let mut client = client.start_tls();
    assert!(client.extensions().contains(&"AUTH SCRAM-SHA-256 PLAIN LOGIN".to_owned()));
    client
}

fn ask(client: &mut Client, command: &str) -> String {
    client.write(format!("{command}\r\n").as_bytes());
    client.reply()
}

#[test]
fn a_user_shows_a_password_through_tls_and_may_send_anywhere() {
    let home = Home::new();
    let kumod = start(&home, "");
    let plain = base64("\0scott\0tiger 7");
    let mut in_the_clear = Client::greeted(kumod.smtp());
    assert!(!in_the_clear.extensions().iter().any(|line| line.starts_with("AUTH")));
    assert!(ask(&mut in_the_clear, &format!("AUTH PLAIN {plain}")).starts_with("524 5.7.11"));

    let mut client = secure(&kumod);
    assert!(ask(&mut client, &format!("AUTH PLAIN {}", base64("\0scott\0lion"))).starts_with("535 5.7.8"));
    assert!(ask(&mut client, &format!("AUTH PLAIN {}", base64("\0broken\0x"))).starts_with("421 4.3.0"));
    assert!(
        ask(&mut client, &format!("AUTH PLAIN {}", base64("\0locked\0x"))).starts_with("454 4.7.0 Locked")
    );
    assert!(ask(&mut client, "AUTH CRAM-MD5").starts_with("504 5.5.4"));
    assert!(ask(&mut client, &format!("AUTH PLAIN {plain}")).starts_with("235 2.7.0"));
    let reply = client.send(&["b@far.test"], b"Subject: 1\r\n\r\n");
    assert!(reply.starts_with("250 2.0.0 OK ids="), "{reply}");
    client.quit();

    let mut client = secure(&kumod);
    assert!(ask(&mut client, "AUTH LOGIN").starts_with("334"));
    assert!(ask(&mut client, &base64("scott")).starts_with("334"));
    assert!(ask(&mut client, &base64("tiger 7")).starts_with("235 2.7.0"));
    client.quit();
    let record = home.record("Reception", "b@far.test");
    assert_eq!(
        (&record["reception_protocol"], &record["meta"]["user"]),
        (&"ESMTPSA".into(), &"scott".into())
    );
    assert_eq!(kumod.metric_of("smtp_server_rejections", "authentication failed"), 3);
}

/// The challenge for a user.
fn challenged(client: &mut Client, user: &str) -> String {
    let first = base64(&format!("n,,n={user},r=client"));
    prover::challenge(&ask(client, &format!("AUTH SCRAM-SHA-256 {first}")))
}

#[test]
fn a_user_proves_a_password_without_sending_it() {
    let home = Home::new();
    let kumod = start(&home, "");
    let mut in_the_clear = Client::greeted(kumod.smtp());
    assert!(ask(&mut in_the_clear, "AUTH SCRAM-SHA-256").starts_with("524 5.7.11"));

    for (user, password, good) in [
        ("scott", "tiger 7", true),
        ("pencil", "pencil", true),
        ("scott", "lion", false),
        ("pencil", "pen", false),
        ("nobody", "tiger 7", false),
    ] {
        let mut client = secure(&kumod);
        let challenge = challenged(&mut client, user);
        let (proof, signature) = prover::prove(password, &format!("n={user},r=client"), &challenge);
        let reply = ask(&mut client, &base64(&proof));
        if !good {
            assert_eq!(reply, "535 5.7.8 User or password is wrong", "{user}");
            assert!(ask(&mut client, "MAIL FROM:<a@client.test>").starts_with("250"));
            assert!(ask(&mut client, "RCPT TO:<b@far.test>").starts_with("550"));
            continue;
        }
        assert_eq!(prover::challenge(&reply), signature, "{user}");
        assert!(ask(&mut client, "").starts_with("235 2.7.0"));
        let reply = client.send(&[&format!("{user}@far.test")], b"Subject: 1\r\n\r\n");
        assert!(reply.starts_with("250 2.0.0 OK ids="), "{reply}");
        client.quit();
        assert_eq!(home.record("Reception", &format!("{user}@far.test"))["meta"]["user"], user);
    }
    let mut client = secure(&kumod);
    let first = |user: &str| format!("AUTH SCRAM-SHA-256 {}", base64(&format!("n,,n={user},r=client")));
    assert!(ask(&mut client, &first("locked")).starts_with("454 4.7.0 Locked"));
    assert!(ask(&mut client, &first("broken")).starts_with("421 4.3.0"));
    assert_eq!(kumod.metric_of("smtp_server_rejections", "authentication failed"), 5);
}

/// A challenge for a user who does not exist is one like any other, and the same each time.
#[test]
fn a_challenge_does_not_tell_who_exists() {
    let home = Home::new();
    let kumod = start(&home, "");
    let asked = |user: &str| {
        let mut client = secure(&kumod);
        let challenge = challenged(&mut client, user);
        let (nonce, rest) = challenge.split_once(',').unwrap();
        (nonce.len(), rest.to_owned())
    };
    let (known, nobody) = (asked("scott"), asked("nobody"));
    assert_eq!(known.0, nobody.0);
    assert_eq!(known.1.len(), nobody.1.len());
    assert_ne!(known.1, nobody.1);
    assert_eq!((known, nobody), (asked("scott"), asked("nobody")));
}

#[test]
fn swaks_logs_in_in_every_mode() {
    let home = Home::new();
    for (options, tls) in
        [("", "--tls"), ("enable_tls = 'Required'", "--tls"), ("enable_tls = 'Implicit'", "--tls-on-connect")]
    {
        let kumod = start(&home, options);
        for (mechanism, password, answer) in [
            ("PLAIN", "tiger 7", "235 2.7.0"),
            ("LOGIN", "tiger 7", "235 2.7.0"),
            ("SCRAM-SHA-256", "tiger 7", "235 2.7.0"),
            ("PLAIN", "lion", "535 5.7.8"),
            ("LOGIN", "lion", "535 5.7.8"),
        ] {
            if mechanism.starts_with("SCRAM") && !swaks_knows("SCRAM") {
                eprintln!("skipped: this swaks does not know SCRAM");
                continue;
            }
            let server = kumod.smtp().to_string();
            let mut command = Command::new("swaks");
            command.args(["--server", &server, tls, "--from", "a@client.test", "--to", "b@far.test"]);
            command.args(["--auth", mechanism, "--auth-user", "scott", "--auth-password", password]);
            let Ok(output) = command.output() else {
                eprintln!("skipped: there is no swaks here");
                return;
            };
            let said = String::from_utf8_lossy(&output.stdout);
            assert!(said.contains(answer), "{mechanism} {tls}: {said}");
            assert_eq!(output.status.success(), password == "tiger 7", "{said}");
        }
        kumod.stop();
    }
}

fn swaks_knows(mechanism: &str) -> bool {
    let support = Command::new("swaks").arg("--support").output();
    support.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains(mechanism))
}

#[test]
fn a_domain_is_taken_mail_for_or_from_as_the_policy_says() {
    let home = Home::new();
    let kumod = start(&home, "");
    let mut client = Client::greeted(kumod.smtp());
    for (from, to, code) in [
        ("a@client.test", "b@OURS.test", "250"),
        ("", "b@ours.test", "250"),
        ("a@client.test", "b@far.test", "550 5.7.1 Relaying denied"),
        ("a@ours.test", "b@far.test", "550 5.7.1 Relaying denied"),
        ("a@customer.test", "b@far.test", "250"),
        ("a@elsewhere.test", "b@far.test", "550 5.7.1 Relaying denied"),
        ("a@client.test", "b@broken.test", "421 4.3.0"),
        ("a@client.test", "b@barred.test", "550 5.7.1 Barred"),
    ] {
        assert!(ask(&mut client, &format!("MAIL FROM:<{from}>")).starts_with("250"));
        let reply = ask(&mut client, &format!("RCPT TO:<{to}>"));
        assert!(reply.starts_with(code), "{from} to {to}: {reply}");
        assert!(ask(&mut client, "RSET").starts_with("250"));
    }
}

/// The ways in which open relays have been found, each of them to somebody else's domain.
#[test]
fn a_stranger_is_never_relayed_for() {
    let (home, next_hop) = (Home::new(), Scripted::good());
    let listen = "require('kumo').on('init', function() local kumo = require 'kumo'
  kumo.start_http_listener { listen = '127.0.0.1:0' }
  kumo.start_esmtp_listener { listen = '127.0.0.1:0', hostname = 'mx.test', relay_hosts = {} } end)";
    for policy in [listen.to_owned(), POLICY.replace("LISTENER", "")] {
        let kumod = home.start_policy(&policy);
        let mut client = Client::greeted(kumod.smtp());
        for from in ["a@far.test", "a@mx.test", "", "a@ours.test", "b@far.test", "a@[127.0.0.1]"] {
            for to in [
                "<b@far.test>",
                "<b%far.test@mx.test>",
                "<\"b@far.test\"@mx.test>",
                "<b@far.test@mx.test>",
                "<@ours.test:b@far.test>",
                "<@ours.test,@mx.test:b@far.test>",
                "<far.test!b@mx.test>",
                "<b@[127.0.0.1]>",
                "<b@[192.0.2.1]>",
                "<b@far.test.>",
                "<b@ours.test.far.test>",
                "<\"b@far.test\">",
                "<b@far.test>,<c@ours.test>",
            ] {
                assert!(ask(&mut client, &format!("MAIL FROM:<{from}>")).starts_with("250"));
                let reply = ask(&mut client, &format!("RCPT TO:{to}"));
                assert!(reply.starts_with('5'), "{from} to {to}: {reply}");
                let reply = ask(&mut client, "DATA");
                assert!(reply.starts_with('5'), "{from} to {to}: {reply}");
                if ask(&mut client, "RSET").is_empty() {
                    client = Client::greeted(kumod.smtp());
                }
            }
            client.quit();
            client = Client::greeted(kumod.smtp());
        }
        kumod.stop();
    }
    assert!(next_hop.arrivals().is_empty());
}
