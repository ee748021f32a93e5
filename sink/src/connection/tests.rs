//! Every action at every stage that accepts it, over a socket, in time that the test moves.

mod actions;

mod laboratory;

mod secure;

use tokio::io::AsyncWriteExt as _;
use tokio::time::Duration;

use self::laboratory::{Laboratory, Seen};
use crate::faults::{ACTIONS, Stage};

/// Longer than any conversation takes by itself: the clock moves by a second whenever all tasks wait.
const LONG: Duration = Duration::from_secs(1_000);

/// What brings a connection to a stage, and what provokes it there.
fn steps(stage: Stage) -> (&'static [&'static str], &'static str) {
    const GREETED: &[&str] = &["", "EHLO c.test\r\n"];
    const MAILED: &[&str] = &["", "EHLO c.test\r\n", "MAIL FROM:<s@a.test>\r\n"];
    const ADDRESSED: &[&str] = &["", "EHLO c.test\r\n", "MAIL FROM:<s@a.test>\r\n", "RCPT TO:<r@b.test>\r\n"];
    const SENT: &[&str] =
        &["", "EHLO c.test\r\n", "MAIL FROM:<s@a.test>\r\n", "RCPT TO:<r@b.test>\r\n", "DATA\r\n"];
    match stage {
        Stage::Connect | Stage::Banner => (&[], ""),
        Stage::Helo => (&[""], "HELO c.test\r\n"),
        Stage::Ehlo => (&[""], "EHLO c.test\r\n"),
        Stage::Starttls => (GREETED, "STARTTLS\r\n"),
        Stage::Auth => (GREETED, "AUTH PLAIN AGEAYg==\r\n"),
        Stage::Mail => (GREETED, "MAIL FROM:<s@a.test>\r\n"),
        Stage::Rcpt => (MAILED, "RCPT TO:<r@b.test>\r\n"),
        Stage::Data => (ADDRESSED, "DATA\r\n"),
        Stage::Body => (SENT, ""),
        Stage::FinalDot => (SENT, "Subject: x\r\n\r\nhello\r\n.\r\n"),
        Stage::Rset => (GREETED, "RSET\r\n"),
        Stage::Noop => (GREETED, "NOOP\r\n"),
        Stage::Vrfy => (GREETED, "VRFY x\r\n"),
        Stage::Quit => (GREETED, "QUIT\r\n"),
    }
}

/// The code that a stage is answered with where nothing is wrong.
fn usual(stage: Stage) -> u16 {
    match stage {
        Stage::Connect | Stage::Banner | Stage::Starttls => 220,
        Stage::Auth => 235,
        Stage::Data => 354,
        Stage::Vrfy => 252,
        Stage::Quit => 221,
        _ => 250,
    }
}

fn rule(stage: Stage, action: &str) -> String {
    format!("[[rule]]\nname = \"r\"\nstage = \"{stage}\"\naction = {action}\n")
}

#[tokio::test(start_paused = true)]
async fn without_a_rule_every_stage_has_its_usual_reply_at_once() {
    let bystander =
        "[[rule]]\nname = \"r\"\nstage = \"connect\"\nmatch.client = \"192.0.2.1\"\naction = \"drop\"\n";
    for rules in ["", bystander] {
        for stage in Stage::ALL {
            let laboratory = Laboratory::new(rules).await;
            let mut client = laboratory.client_at(stage).await;
            if stage == Stage::Body {
                client.write("Subject: x\r\n\r\n.\r\n").await;
            }
            let seen = client.see().await;
            assert_eq!(seen.code(), Some(usual(stage)), "{stage}: {seen:?}");
            assert!(laboratory.elapsed() < LONG, "{stage}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn every_action_acts_at_every_stage_that_accepts_it() {
    for (kind, stages) in ACTIONS {
        assert!(!stages.is_empty(), "{kind}");
        for stage in stages {
            actions::check(kind, *stage).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn replies_to_earlier_commands_do_not_wait_for_a_later_one() {
    let laboratory = Laboratory::new(&rule(Stage::Mail, "{ delay = \"3000s\" }")).await;
    let mut client = laboratory.client().await;
    client.write("EHLO c.test\r\nNOOP\r\nMAIL FROM:<>\r\nRSET\r\n").await;
    assert_eq!([client.see().await.code(), client.see().await.code()], [Some(220), Some(250)]);
    assert_eq!(client.see().await.code(), Some(250));
    assert!(laboratory.elapsed() < LONG);
    assert_eq!([client.see().await.code(), client.see().await.code()], [Some(250), Some(250)]);
    assert!(laboratory.elapsed() >= Duration::from_secs(3_000));
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_is_slow_itself_does_not_close_for_silence() {
    let rules = rule(Stage::Noop, "{ delay = \"3000s\" }");
    let laboratory = Laboratory::with_idle(&rules, Duration::from_secs(100)).await;
    let mut client = laboratory.client_at(Stage::Noop).await;
    assert_eq!(client.see().await.code(), Some(250));
    let seen = client.see().await;
    assert_eq!(seen.code(), Some(421), "silence afterwards is the client's own: {seen:?}");
    assert_eq!(client.see().await, Seen::End);
}

#[tokio::test(start_paused = true)]
async fn rules_are_exchanged_on_open_connections() {
    let laboratory = Laboratory::new("").await;
    let mut client = laboratory.client_at(Stage::Mail).await;
    assert_eq!(client.see().await.code(), Some(250));
    laboratory.put(&rule(Stage::Rcpt, "{ reply = \"550 5.1.1 Nobody\" }"));
    client.write("RCPT TO:<r@b.test>\r\n").await;
    assert_eq!(client.see().await.code(), Some(550));
    laboratory.put("");
    client.write("RCPT TO:<r@b.test>\r\n").await;
    assert_eq!(client.see().await.code(), Some(250));
}

#[tokio::test(start_paused = true)]
async fn mail_passes_through_tls_from_the_start_and_after_starttls() {
    let rules =
        "[[rule]]\nname = \"r\"\nstage = \"mail\"\nmatch.tls = true\naction.reply = \"250 2.1.0 Seen TLS\"\n";
    let laboratory = Laboratory::new(rules).await;
    let mut plain = laboratory.client_at(Stage::Starttls).await;
    assert_eq!(plain.see().await.code(), Some(220));
    let first = tokio::net::TcpStream::connect(laboratory.tls_address).await.unwrap();
    for (tcp, greeted) in [(plain.stream, true), (first, false)] {
        let mut tls = secure::handshake(tcp).await.unwrap();
        if !greeted {
            assert!(secure::line(&mut tls).await.starts_with("220 "));
        }
        tls.write_all(b"HELO c.test\r\nMAIL FROM:<>\r\nRCPT TO:<r@b.test>\r\nDATA\r\n").await.unwrap();
        assert!(secure::line(&mut tls).await.starts_with("250 "));
        assert_eq!(secure::line(&mut tls).await, "250 2.1.0 Seen TLS");
        assert!(secure::line(&mut tls).await.starts_with("250 "));
        assert!(secure::line(&mut tls).await.starts_with("354 "));
        tls.write_all(b"Subject: x\r\n\r\n.\r\nQUIT\r\n").await.unwrap();
        assert!(secure::line(&mut tls).await.starts_with("250 "));
        assert!(secure::line(&mut tls).await.starts_with("221 "));
        assert_eq!(secure::line(&mut tls).await, "", "the end is said, not cut");
    }
    assert_eq!(laboratory.worker.tally().totals.accepted, 2);
}
