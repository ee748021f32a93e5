//! TLS as clients meet it: from the first byte, by STARTTLS, with certificates that change, and with clients that must show one.

#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::net::SocketAddr;
use std::process::{Command, Stdio};

use support::client::Client;
use support::home::{Home, Kumod};
use support::policy;
use support::scripted::Scripted;
use support::trust::{self, Pair};

/// One listener with these options, and mail for `there.test` to the next hop.
fn start(home: &Home, options: &str, next_hop: &Scripted) -> Kumod {
    let listeners = format!(
        "local kumo = require 'kumo'
kumo.on('init', function()
  kumo.start_http_listener {{ listen = '127.0.0.1:0' }}
  kumo.start_esmtp_listener {{ listen = '127.0.0.1:0', hostname = 'mx.test', {options} }}
end)
"
    );
    home.start_policy(&policy::hops_behind(&listeners, &[("there.test", next_hop.address)]))
}

fn starttls(address: SocketAddr) -> Client {
    let mut client = Client::greeted(address);
    client.write(b"STARTTLS\r\n");
    assert_eq!(client.code(), 220);
    client
}

/// What the `Received` of the one message that arrived says.
fn received(next_hop: &Scripted) -> String {
    let arrivals = next_hop.arrivals();
    assert_eq!(arrivals.len(), 1);
    String::from_utf8_lossy(&arrivals[0].raw).split(";").next().unwrap().to_owned()
}

#[test]
fn mail_through_starttls_is_marked_so() {
    let (home, next_hop) = (Home::new(), Scripted::good());
    let kumod = start(&home, "", &next_hop);
    let mut client = starttls(kumod.smtp()).start_tls();
    let extensions = client.extensions();
    assert!(extensions.contains(&"PIPELINING".to_owned()) && !extensions.contains(&"STARTTLS".to_owned()));
    let reply = client.send(&["b@there.test"], b"Subject: 1\r\n\r\n");
    assert!(reply.starts_with("250 2.0.0 OK ids="), "{reply}");
    client.quit();
    kumod.drained();
    assert!(received(&next_hop).contains("with ESMTPS id"), "{}", received(&next_hop));
    assert_eq!(home.record("Reception", "b@there.test")["reception_protocol"], "ESMTPS");
}

#[test]
fn implicit_tls_greets_within_it() {
    let (home, next_hop) = (Home::new(), Scripted::good());
    let kumod = start(&home, "enable_tls = 'Implicit'", &next_hop);
    let mut client = Client::connect(kumod.smtp()).start_tls();
    assert_eq!(client.code(), 220);
    let extensions = client.extensions();
    assert!(extensions.contains(&"PIPELINING".to_owned()) && !extensions.contains(&"STARTTLS".to_owned()));
    assert!(client.send(&["b@there.test"], b"Subject: 1\r\n\r\n").starts_with("250 2.0.0 OK ids="));
    client.quit();
    kumod.drained();
}

/// RFC 3207 6: a command that came with STARTTLS was said by anybody. It must not be carried out after the handshake.
#[test]
fn what_was_said_before_the_handshake_is_not_carried_out_after_it() {
    let (home, next_hop) = (Home::new(), Scripted::good());
    let kumod = start(&home, "", &next_hop);
    let mut client = Client::greeted(kumod.smtp());
    client.write(b"STARTTLS\r\nEHLO forger.test\r\nMAIL FROM:<forged@client.test>\r\n");
    assert_eq!(client.code(), 220);
    let mut client = client.start_tls();
    // Were the forged commands carried out, their replies would come first, and RCPT would find a transaction.
    client.write(b"RCPT TO:<b@there.test>\r\n");
    assert_eq!(client.reply(), "503 5.5.1 MAIL first");
    client.quit();
}

#[test]
fn a_certificate_that_is_replaced_is_shown_without_a_restart() {
    let (home, next_hop) = (Home::new(), Scripted::good());
    let (first, second) = (Pair::new("mx.test"), Pair::new("mx.test"));
    let files = [home.path().join("cert.pem"), home.path().join("key.pem")];
    let write = |pair: &Pair| {
        fs::write(&files[0], pair.certificate()).unwrap();
        fs::write(&files[1], pair.key()).unwrap();
    };
    write(&first);
    let options =
        format!("tls_certificate = '{}', tls_private_key = '{}'", files[0].display(), files[1].display());
    let kumod = start(&home, &options, &next_hop);
    starttls(kumod.smtp()).start_tls_with(trust::only(&first)).unwrap().quit();
    assert!(starttls(kumod.smtp()).start_tls_with(trust::only(&second)).is_err());

    fs::write(&files[0], "nonsense").unwrap();
    starttls(kumod.smtp())
        .start_tls_with(trust::only(&first))
        .expect("what cannot be used changes nothing")
        .quit();

    write(&second);
    starttls(kumod.smtp()).start_tls_with(trust::only(&second)).unwrap().quit();
    assert!(kumod.stop().contains("the old one stays"));
}

#[test]
fn a_certificate_that_cannot_be_used_stops_the_start() {
    let (home, pair, other) = (Home::new(), Pair::new("mx.test"), Pair::new("mx.test"));
    let listen = |options: &str| {
        let text = format!(
            "require('kumo').on('init', function() kumo.start_esmtp_listener {{ listen = '127.0.0.1:0', {options} }} end)"
        );
        let policy = home.policy(&text);
        let refusal = home.refused(&["--policy", policy.to_str().unwrap()]);
        assert_eq!(refusal.code, Some(1), "{}", refusal.said);
        refusal.said
    };
    let inline = |certificate: &str, key: &str| {
        listen(&format!(
            "tls_certificate = {{ key_data = [[{certificate}]] }}, tls_private_key = {{ key_data = [[{key}]] }}"
        ))
    };
    let said = listen("tls_certificate = '/no/such/file', tls_private_key = '/no/such/file'");
    assert!(said.contains("option 'tls_certificate' = /no/such/file"), "{said}");
    assert!(inline("nonsense", &pair.key()).contains("at least one CERTIFICATE"));
    assert!(inline(&pair.certificate(), "nonsense").contains("a PRIVATE KEY"));
    let said = inline(&pair.certificate(), &other.key());
    assert!(said.contains("cannot be used together"), "{said}");
    assert!(listen("tls_private_key = '/x'").contains("belong together"));
    assert!(listen("enable_tls = 'Sometimes'").contains("unknown variant"));
}

#[test]
fn a_client_may_have_to_show_a_certificate_and_handlers_see_whose() {
    let (home, next_hop) = (Home::new(), Scripted::good());
    let (ours, stranger) = (Pair::new("client.test"), Pair::new("client.test"));
    let listeners = format!(
        "local kumo = require 'kumo'
kumo.on('init', function()
  kumo.start_http_listener {{ listen = '127.0.0.1:0' }}
  kumo.start_esmtp_listener {{ listen = '127.0.0.1:0', hostname = 'mx.test', enable_tls = 'Required',
    tls_required_client_ca = {{ key_data = [[{}]] }} }}
end)
kumo.on('smtp_server_message_received', function(msg, connection)
  local subject, version = connection:get_meta('tls_peer_subject_name'), connection:get_meta('tls_protocol_version')
  kumo.reject(550, '5.7.1 ' .. tostring(subject) .. ' ' .. version .. ' ' .. connection:get_meta('tls_cipher'))
end)
",
        ours.certificate()
    );
    let kumod = home.start_policy(&listeners);
    let mut client = starttls(kumod.smtp()).start_tls_with(trust::anybody_as(&ours)).unwrap();
    client.write(b"EHLO client.test\r\n");
    assert_eq!(client.code(), 250);
    let reply = client.send(&["b@there.test"], b"Subject: 1\r\n\r\n");
    assert!(reply.starts_with("550 5.7.1 CN=rcgen self signed cert TLSv1_3 TLS13_"), "{reply}");
    for config in [trust::anybody(), trust::anybody_as(&stranger)] {
        // In TLS 1.3 the server's refusal comes after the client's last word.
        if let Ok(mut client) = starttls(kumod.smtp()).start_tls_with(config) {
            let _ = client.try_write(b"EHLO client.test\r\n");
            assert!(client.refused_or_closed());
        }
    }
    drop(next_hop);
}

/// Runs a program to its end; `None`, said aloud, where it is not there.
fn run(program: &str, arguments: &[&str], input: &str) -> Option<String> {
    use std::io::Write as _;
    let child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut child) = child else {
        eprintln!("skipped: there is no {program} here");
        return None;
    };
    // A program that wants no input may be gone already.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    Some(String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

#[test]
fn swaks_sends_in_every_mode_of_tls() {
    let (home, next_hop) = (Home::new(), Scripted::good());
    for (options, flag) in
        [("", "--tls"), ("enable_tls = 'Required'", "--tls"), ("enable_tls = 'Implicit'", "--tls-on-connect")]
    {
        let kumod = start(&home, options, &next_hop);
        let server = kumod.smtp().to_string();
        let arguments = [
            "--server",
            &server,
            flag,
            "--from",
            "a@client.test",
            "--to",
            "b@there.test",
            "--helo",
            "client.test",
        ];
        let Some(said) = run("swaks", &arguments, "") else { return };
        assert!(said.contains("~> .") && said.contains("<~  250 2.0.0 OK ids="), "{said}");
        kumod.drained();
        kumod.stop();
    }
    assert_eq!(next_hop.arrivals().len(), 3);
}

#[test]
fn openssl_talks_to_it() {
    let (home, next_hop) = (Home::new(), Scripted::good());
    for (options, starttls) in [
        ("", &["-starttls", "smtp"][..]),
        ("enable_tls = 'Required'", &["-starttls", "smtp"]),
        ("enable_tls = 'Implicit'", &[]),
    ] {
        let kumod = start(&home, options, &next_hop);
        let server = kumod.smtp().to_string();
        for (flag, version, cipher) in [
            ("-tls1_2", "TLSv1.2", "ECDHE-ECDSA-AES256-GCM-SHA384"),
            ("-tls1_3", "TLSv1.3", "TLS_AES_256_GCM_SHA384"),
        ] {
            let mut arguments = vec!["s_client", "-connect", &server, "-crlf", "-ign_eof", flag];
            arguments.extend(starttls);
            let message = "EHLO client.test\nMAIL FROM:<a@client.test>\nRCPT TO:<b@there.test>\nDATA\nSubject: 1\n\n.\nQUIT\n";
            let Some(said) = run("openssl", &arguments, message) else { return };
            assert!(
                said.contains(&format!("New, {version}, Cipher is {cipher}")),
                "{options} {flag}: {said}"
            );
            assert!(
                said.contains("250 2.0.0 OK ids=") && said.contains("221 2.0.0"),
                "{options} {flag}: {said}"
            );
        }
        for old in ["-tls1", "-tls1_1"] {
            let mut arguments = vec!["s_client", "-connect", &server, "-cipher", "ALL:@SECLEVEL=0", old];
            arguments.extend(starttls);
            let Some(said) = run("openssl", &arguments, "") else { return };
            assert!(said.contains("Cipher is (NONE)"), "{options} {old}: {said}");
        }
        kumod.drained();
        kumod.stop();
    }
    assert_eq!(next_hop.arrivals().len(), 6);
}
