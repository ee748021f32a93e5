//! What the messages contain and whom they are for, seen from the far end: sink checks the checksum of each.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise, in its helpers too")]

use std::collections::BTreeSet;
use std::path::Path;

use traffic_gen::{ContentPlan, Corpus, PerMessage, Plan, run};

mod support;

use support::{Answer, Arrival, Server};

const MESSAGES: u64 = 300;

fn plan(address: std::net::SocketAddr, content: ContentPlan) -> Plan {
    Plan { content, concurrency: 4, seed: 7, ..Plan::messages(address, MESSAGES) }
}

fn sized(text: &str) -> ContentPlan {
    ContentPlan { sizes: text.parse().unwrap(), ..ContentPlan::default() }
}

fn assert_arrives(name: &str, content: ContentPlan) {
    for (pipelining, chunking) in [(true, true), (false, false)] {
        let server = sink::Server::start(sink::Config::on_free_ports()).unwrap();
        let mut plan = plan(server.smtp_addr, content.clone());
        (plan.transport.pipelining, plan.transport.chunking) = (pipelining, chunking);
        let report = run(plan);
        assert_eq!((report.sent, report.unsent()), (MESSAGES, 0), "{name}: {:?}", report.errors);
        let stats = server.stop();
        assert_eq!((stats.distinct, stats.corrupted, stats.duplicated), (MESSAGES, 0, 0), "{name}");
        assert_eq!(stats.bytes, report.bytes, "{name}");
    }
}

/// What arrives at a server that takes everything.
fn arrivals(change: impl FnOnce(&mut Plan)) -> Vec<Arrival> {
    let server = Server::start(|_| Answer::Accept);
    let mut plan = plan(server.address, ContentPlan::fixed(100));
    change(&mut plan);
    assert_eq!(run(plan).exit_code(), 0);
    server.arrivals().into_values().flatten().collect()
}

#[test]
fn bodies_of_every_distribution_arrive_undamaged() {
    for sizes in ["0", "1", "2", "uniform:0-5k", "lognormal:2k:1.2", "list:100:60,2k:30,20k:10"] {
        assert_arrives(sizes, sized(sizes));
    }
    assert_arrives("words", ContentPlan { random_percent: 30, ..sized("uniform:0-5k") });
}

#[test]
fn the_mean_that_is_reported_is_that_of_the_mail() {
    let server = Server::start(|_| Answer::Accept);
    let report = run(plan(server.address, sized("uniform:1k-3k")));
    let bodies = server.arrivals().into_values().flatten();
    let bytes: usize = bodies.map(|arrival| message::header::split(&arrival.message).1.len()).sum();
    // 300 draws from a deviation of 577 bytes: the mean's own deviation is 33.
    assert!(bytes.abs_diff(2_000 * 300) < 100 * 300, "{bytes}");
    assert_eq!(report.body_bytes, 2_000);
}

#[test]
fn a_corpus_of_odd_files_arrives_undamaged() {
    let folder = tempfile::tempdir().unwrap();
    let mut binary: Vec<u8> = (0..=255).collect();
    binary.extend_from_slice(&[0; 3_000]);
    let files: [(&str, &[u8]); 9] = [
        ("binary", &binary),
        ("chaos", b"A: b\r\rC: d\n\r\n\r\r\n.\r\n\rx\n"),
        ("dots", b"A: b\n\n.\n..\n...\n"),
        ("empty", b""),
        ("folded", b"From: me\nSubject: own\nX-Long: a\n\tb\n c\n\nbody"),
        ("mailbox", b"From a@b Thu Jan  1 00:00:00 1970\nX-Kept: yes\n\nbody\n"),
        ("no-header", b"Dear all,\n\n.\nbye"),
        ("only-header", b"A: b\n\n"),
        ("utf-8", "X-Name: \u{fc}\n\ngr\u{fc}n\n".as_bytes()),
    ];
    for (name, bytes) in files {
        std::fs::write(folder.path().join(name).with_extension("eml"), bytes).unwrap();
    }
    let corpus = Corpus::read(folder.path(), 100, 1 << 20).unwrap();
    let content = ContentPlan { files: corpus.files, ..ContentPlan::default() };
    assert_arrives("corpus", content.clone());
    let all = arrivals(|plan| plan.content = content);
    let find = |arrival: &Arrival, name| message::header::find(&arrival.message, name).map(String::from);
    assert!(all.iter().any(|arrival| find(arrival, "X-Kept").is_some()));
    assert!(all.iter().any(|arrival| find(arrival, "Subject").as_deref() == Some("own")));
    for arrival in &all {
        for name in ["From", "To", "Date", "Message-ID", "Subject", "MIME-Version", "X-Traffic-Gen"] {
            let fields = message::header::fields(&arrival.message).filter(|field| field.is(name));
            assert_eq!(fields.count(), 1, "{name} in {}", String::from_utf8_lossy(&arrival.message));
        }
    }
}

#[test]
fn several_recipients_of_a_message_are_all_told_to_the_server() {
    let server = sink::Server::start(sink::Config::on_free_ports()).unwrap();
    let mut plan = plan(server.smtp_addr, ContentPlan::fixed(100));
    plan.recipients.per_message = PerMessage { min: 1, max: 5 };
    let recipients = run(plan.clone());
    assert_eq!((recipients.sent, recipients.exit_code()), (MESSAGES, 0), "{:?}", recipients.errors);
    // Every message was sent once, and the ledger knows each recipient by name.
    let stats = server.stop();
    assert_eq!((stats.duplicated, stats.corrupted), (0, 0));
    let messages = MESSAGES as f64;
    assert!((stats.distinct as f64 / messages - 3.0).abs() < 0.3, "{}", stats.distinct);
    // With a server that refuses some, the message is refused.
    let server = Server::start(|_| Answer::Refuse(550));
    plan.targets = vec![server.address.into()];
    let refused = run(plan);
    assert_eq!((refused.sent, refused.failed), (0, MESSAGES));
}

#[test]
fn senders_tenants_and_campaigns_are_named() {
    let server = Server::start(|_| Answer::Accept);
    let target = server.address.to_string();
    let line = "-q -n 200 -c 2 --provider-mix --domain own.example:100 --from me@here.example --users 3 \
        --tenants 12 --campaigns 3 --campaign-header X-Mailing --target";
    let output = command(&line.split_whitespace().chain([&target[..]]).collect::<Vec<_>>());
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let (mut tenants, mut campaigns, mut own) = (BTreeSet::new(), BTreeSet::new(), 0);
    for arrival in server.arrivals().into_values().flatten() {
        let find = |name| message::header::find(&arrival.message, name).unwrap().into_owned();
        assert_eq!(find("From"), "<me@here.example>");
        tenants.insert(find("X-Tenant"));
        campaigns.insert(find("X-Mailing"));
        let (user, domain) = arrival.recipient.split_once('@').unwrap();
        assert!(["user000000", "user000001", "user000002"].contains(&user), "{user}");
        own += usize::from(domain == "own.example.mx-sink.localhost");
    }
    assert_eq!(tenants.len(), 12);
    assert_eq!(tenants.first().unwrap(), "tenant-00");
    assert_eq!(campaigns, BTreeSet::from(["0", "1", "2"].map(|number| format!("campaign-{number}"))));
    assert!((75..125).contains(&own), "half of 200 is for the own domain: {own}");
}

fn command(arguments: &[&str]) -> std::process::Output {
    std::process::Command::new(env!("CARGO_BIN_EXE_traffic-gen")).args(arguments).output().unwrap()
}

fn corpus_argument(folder: &Path) -> String {
    format!("corpus:{}", folder.display())
}

#[test]
fn a_corpus_is_sent_by_the_command_and_what_is_unreadable_is_named() {
    let server = sink::Server::start(sink::Config::on_free_ports()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.eml"), "A: b\n\nbody\n").unwrap();
    std::os::unix::fs::symlink("nowhere", folder.path().join("lost.eml")).unwrap();
    let (target, sizes) = (server.smtp_addr.to_string(), corpus_argument(folder.path()));
    let output = command(&["-q", "-n", "10", "--target", &target, "--body-size", &sizes]);
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{error}");
    assert!(error.contains("lost.eml"), "{error}");
    assert_eq!(server.stop().accepted, 10);
}

#[test]
fn wrong_sizes_and_pools_are_named() {
    let empty = tempfile::tempdir().unwrap();
    let corpus = corpus_argument(empty.path());
    let few = command(&["-q", "-n", "1", "--users", "3", "--recipients-per-message", "4"]);
    assert_eq!(few.status.code(), Some(2));
    for (flag, value, word) in [
        ("--body-size", "normal:1:2", "lognormal:25k:1.2"),
        ("--body-size", "corpus:", "folder"),
        ("--body-size", &corpus, ".eml"),
        ("--random-bytes", "101", "0..=100"),
        ("--pool", "1m", "100000"),
        ("--pool-bytes", "much", "size"),
        ("--users", "2g", "too many"),
        ("--zipf", "steep", "exponent"),
        ("--recipients-per-message", "5:2", "MIN:MAX"),
        ("--from", "nobody", "sender@example.com"),
        ("--from", "a@b>c", "address"),
        ("--tenants", "0", "count"),
        ("--tenant-header", "X Tenant", "X-Tenant"),
        ("--campaign-header", "X-C:", "colon"),
    ] {
        let output = command(&["-q", "-n", "1", flag, value]);
        assert_eq!(output.status.code(), Some(2), "{flag}");
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(error.contains(word), "{flag}: {error}");
    }
}
