//! `swaks`, which speaks every dialect: in the clear and through TLS, as somebody and as nobody, SMTP and LMTP.

use std::process::{Command, Output};

use tempfile::TempDir;

use crate::Sink;
use crate::program::{certificate, find, output, said};

fn swaks(address: std::net::SocketAddr, options: &[&str]) -> Option<Output> {
    let mut command = Command::new(find("swaks")?);
    command
        .args(["--server", &address.ip().to_string(), "--port", &address.port().to_string()])
        .args([
            "--from",
            "from@swaks.test",
            "--to",
            "to@sink.test",
            "--helo",
            "swaks.test",
            "--timeout",
            "30",
        ])
        .args(options);
    Some(output(&mut command))
}

/// Whether Perl can do TLS, which swaks leaves to a library of its own.
fn tls() -> bool {
    let found = Command::new("perl").args(["-MNet::SSLeay", "-e", "1"]).output();
    let found = found.is_ok_and(|output| output.status.success());
    if !found {
        eprintln!(
            "skipped: Perl has no Net::SSLeay (libnet-ssleay-perl), which swaks needs; scripts/setup installs it"
        );
    }
    found
}

#[test]
fn in_the_clear() {
    let sink = Sink::start(&[]);
    for options in [&[][..], &["--pipeline"], &["--protocol", "SMTP"], &["--to", "a@sink.test,b@sink.test"]] {
        let Some(run) = swaks(sink.smtp, options) else { return };
        assert!(run.status.success(), "{options:?}: {}", said(&run));
    }
    assert_eq!(sink.accepted(), 4);
    // Neither is on offer, and swaks goes no further.
    for options in [&["--tls"][..], &["--auth", "PLAIN", "--auth-user", "u", "--auth-password", "p"]] {
        let run = swaks(sink.smtp, options).unwrap();
        assert!(!run.status.success(), "{}", said(&run));
    }
    assert_eq!(sink.accepted(), 4);
}

#[test]
fn through_tls_begun_either_way() {
    if !tls() {
        return;
    }
    let sink = Sink::start(&["--starttls", "--tls-listen", "127.0.0.1:0"]);
    let Some(run) = swaks(sink.smtp, &["--tls"]) else { return };
    assert!(run.status.success() && said(&run).contains("TLS started"), "{}", said(&run));
    for version in ["tlsv1_2", "tlsv1_3"] {
        let run = swaks(sink.smtp, &["--tls", "--tls-protocol", version, "--pipeline"]).unwrap();
        assert!(run.status.success(), "{version}: {}", said(&run));
    }
    let run = swaks(sink.smtps.unwrap(), &["--tls-on-connect"]).unwrap();
    assert!(run.status.success() && said(&run).contains("TLS started"), "{}", said(&run));
    assert_eq!(sink.accepted(), 4);
    // Who does not trust the certificate does not send.
    let run = swaks(sink.smtp, &["--tls", "--tls-verify"]).unwrap();
    assert!(!run.status.success(), "{}", said(&run));
    assert_eq!(sink.accepted(), 4);
}

#[test]
fn through_tls_with_a_certificate_that_is_trusted() {
    let folder = TempDir::new().unwrap();
    if !tls() {
        return;
    }
    let Some((certificate, key)) = certificate(folder.path()) else { return };
    let sink = Sink::start(&["--starttls", "--cert", &certificate, "--key", &key]);
    let Some(run) = swaks(sink.smtp, &["--tls", "--tls-verify", "--tls-ca-path", &certificate]) else {
        return;
    };
    assert!(run.status.success(), "{}", said(&run));
    assert_eq!(sink.accepted(), 1);
}

#[test]
fn who_logs_in_is_let_in_and_nobody_else() {
    let sink = Sink::start(&["--starttls", "--auth", "user:password"]);
    let login =
        |mechanism, password| ["--auth", mechanism, "--auth-user", "user", "--auth-password", password];
    for mechanism in ["PLAIN", "LOGIN"] {
        let Some(run) = swaks(sink.smtp, &login(mechanism, "password")) else { return };
        assert!(run.status.success() && said(&run).contains("235 2.7.0"), "{mechanism}: {}", said(&run));
        let run = swaks(sink.smtp, &login(mechanism, "wrong")).unwrap();
        assert!(!run.status.success() && said(&run).contains("535 5.7.8"), "{mechanism}: {}", said(&run));
    }
    assert_eq!(sink.accepted(), 2);
    if tls() {
        let run = swaks(sink.smtp, &[&["--tls"][..], &login("PLAIN", "password")].concat()).unwrap();
        assert!(run.status.success(), "{}", said(&run));
        assert_eq!(sink.accepted(), 3);
    }
}

#[test]
fn lmtp_with_a_reply_for_each_recipient() {
    let sink = Sink::start(&["--lmtp"]);
    let options = ["--protocol", "LMTP", "--to", "a@sink.test,b@sink.test"];
    let Some(run) = swaks(sink.smtp, &options) else { return };
    assert!(run.status.success(), "{}", said(&run));
    let last = said(&run);
    let last = last.split_once(" -> .\n").unwrap().1;
    assert_eq!(last.matches("250 2.0.0").count(), 2, "{last}");
    assert_eq!(sink.accepted(), 1);
}
