//! Every way in which a next hop can fail, each driven by a rule of sink that acts once: what kumod makes of it, what the record says,
//! and that the message arrives with the next attempt, once, or is given up.
//!
//! Each row meets two servers: one that offers everything, so that commands and body travel together, and one that offers nothing.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::support::audit::Witnesses;
use crate::support::client::Client;
use crate::support::home::Home;
use crate::support::policy;

/// What is to come of the first attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// A TransientFailure, and a Delivery with the next attempt.
    Again,
    /// A Bounce.
    Never,
    /// A Delivery all the same.
    Taken,
}
use End::{Again, Never, Taken};

/// A row: its name, the stage and the action of the rule, the end, and code, enhanced code and part of the text of the first record.
type Row = (&'static str, &'static str, &'static str, End, u16, Option<(u16, u16)>, &'static str);

const LOST: &str = "connection lost while ";
const BROKE: &str = "the server broke the protocol: ";

#[rustfmt::skip]
const ROWS: &[Row] = &[
    // It refuses.
    ("banner-4xx", "banner", r#"{ reply = "450 4.3.2 Later" }"#, Again, 450, Some((3, 2)), "Later"),
    ("banner-421", "banner", r#"{ reply = "421 4.3.2 Busy" }"#, Again, 421, Some((3, 2)), "Busy"),
    ("banner-5xx", "banner", r#"{ reply = "554 5.7.1 Not you" }"#, Again, 554, Some((7, 1)), "Not you"),
    ("ehlo-4xx", "ehlo", r#"{ reply = "451 4.3.0 Later" }"#, Again, 451, Some((3, 0)), "Later"),
    ("ehlo-421", "ehlo", r#"{ reply = "421 4.3.2 Busy" }"#, Again, 421, Some((3, 2)), "Busy"),
    ("ehlo-5xx", "ehlo", r#"{ reply = "502 5.5.1 What?" }"#, Taken, 250, None, ""),
    ("mail-4xx", "mail", r#"{ reply = "451 4.7.1 Later" }"#, Again, 451, Some((7, 1)), "Later"),
    ("mail-421", "mail", r#"{ reply = "421 4.3.2 Busy" }"#, Again, 421, Some((3, 2)), "Busy"),
    ("mail-5xx", "mail", r#"{ reply = "550 5.7.1 Never" }"#, Never, 550, Some((7, 1)), "Never"),
    ("rcpt-4xx", "rcpt", r#"{ reply = "450 4.2.1 Later" }"#, Again, 450, Some((2, 1)), "Later"),
    ("rcpt-421", "rcpt", r#"{ reply = "421 4.3.2 Busy" }"#, Again, 421, Some((3, 2)), "Busy"),
    ("rcpt-5xx", "rcpt", r#"{ reply = "550 5.1.1 Unknown" }"#, Never, 550, Some((1, 1)), "Unknown"),
    ("data-4xx", "data", r#"{ reply = "452 4.3.1 Full" }"#, Again, 452, Some((3, 1)), "Full"),
    ("data-421", "data", r#"{ reply = "421 4.3.2 Busy" }"#, Again, 421, Some((3, 2)), "Busy"),
    ("data-5xx", "data", r#"{ reply = "554 5.5.1 Never" }"#, Never, 554, Some((5, 1)), "Never"),
    ("dot-4xx", "final_dot", r#"{ reply = "452 4.3.1 Full" }"#, Again, 452, Some((3, 1)), "Full"),
    ("dot-421", "final_dot", r#"{ reply = "421 4.3.2 Going" }"#, Again, 421, Some((3, 2)), "Going"),
    ("dot-5xx", "final_dot", r#"{ reply = "554 5.7.1 Spam" }"#, Never, 554, Some((7, 1)), "Spam"),
    // It goes away.
    ("connect-drop", "connect", r#""drop""#, Again, 451, Some((4, 2)), LOST),
    ("banner-drop", "banner", r#""drop""#, Again, 451, Some((4, 2)), LOST),
    ("banner-cut", "banner", r#"{ say = { text = "220-si", then = "drop" } }"#, Again, 451, Some((4, 2)), LOST),
    ("ehlo-drop", "ehlo", r#""drop""#, Again, 451, Some((4, 2)), LOST),
    ("ehlo-cut", "ehlo", r#"{ say = { text = "250-sink\r\n250-PIPELINING\r\n25", then = "drop" } }"#, Again, 451, Some((4, 2)), LOST),
    ("mail-drop", "mail", r#""drop""#, Again, 451, Some((4, 2)), LOST),
    ("rcpt-drop", "rcpt", r#""drop""#, Again, 451, Some((4, 2)), LOST),
    ("data-drop", "data", r#""drop""#, Again, 451, Some((4, 2)), LOST),
    ("body-drop", "body", r#""drop""#, Again, 451, Some((4, 2)), LOST),
    ("body-reset", "body", r#""reset""#, Again, 451, Some((4, 2)), LOST),
    ("dot-drop", "final_dot", r#""drop""#, Again, 451, Some((4, 2)), LOST),
    ("dot-cut", "final_dot", r#"{ say = { text = "250 2.0.0 tak", then = "drop" } }"#, Again, 451, Some((4, 2)), LOST),
    ("dot-half", "final_dot", r#""half_close""#, Again, 451, Some((4, 2)), LOST),
    // It talks nonsense.
    ("banner-garbage", "banner", "{ garbage = { bytes = 64 } }", Again, 451, Some((5, 0)), BROKE),
    ("ehlo-garbage", "ehlo", "{ garbage = { bytes = 64 } }", Again, 451, Some((5, 0)), BROKE),
    ("mail-garbage", "mail", "{ garbage = { bytes = 64 } }", Again, 451, Some((5, 0)), BROKE),
    ("dot-garbage", "final_dot", "{ garbage = { bytes = 64 } }", Again, 451, Some((5, 0)), BROKE),
    ("banner-350", "banner", r#"{ say = { text = "354 go on\r\n" } }"#, Again, 451, Some((5, 0)), BROKE),
    ("dot-354", "final_dot", r#"{ say = { text = "354 go on\r\n" } }"#, Again, 451, Some((5, 0)), BROKE),
    ("dot-000", "final_dot", r#"{ say = { text = "000 what\r\n" } }"#, Again, 451, Some((5, 0)), BROKE),
    ("long-line", "rcpt", r#"{ say = { text = "2", times = 100000 } }"#, Again, 451, Some((5, 0)), BROKE),
    ("endless", "ehlo", r#"{ say = { text = "250-and so on\r\n", times = 5000 } }"#, Again, 451, Some((5, 0)), BROKE),
    ("ehlo-twice", "ehlo", r#"{ say = { text = "250-sink\r\n250 SIZE\r\n250 again\r\n", then = "accept" } }"#, Again, 451, Some((5, 0)), BROKE),
    ("two-codes", "final_dot", r#"{ say = { text = "250-one\r\n550 other\r\n" } }"#, Again, 451, Some((5, 0)), BROKE),
];

/// Where TLS has to be, and any certificate will do.
#[rustfmt::skip]
const TLS_ROWS: &[Row] = &[
    ("tls-4xx", "starttls", r#"{ reply = "454 4.7.0 Not now" }"#, Again, 454, Some((7, 0)), "Not now"),
    ("tls-421", "starttls", r#"{ reply = "421 4.3.2 Busy" }"#, Again, 421, Some((3, 2)), "Busy"),
    ("tls-5xx", "starttls", r#"{ reply = "554 5.7.0 Never" }"#, Again, 554, Some((7, 0)), "Never"),
    ("tls-drop", "starttls", r#""drop""#, Again, 451, Some((4, 2)), LOST),
    ("tls-cut", "starttls", r#"{ say = { text = "220 rea", then = "drop" } }"#, Again, 451, Some((4, 2)), LOST),
    ("tls-stall", "starttls", r#"{ stall = "forever" }"#, Again, 451, Some((4, 2)), LOST),
    ("tls-garbage", "starttls", "{ garbage = { bytes = 64 } }", Again, 451, Some((5, 0)), BROKE),
    ("tls-no-handshake", "starttls", r#"{ bad_tls = "garbage" }"#, Again, 451, Some((7, 5)), ""),
    // What is said before the handshake could be anybody's, and is not heard.
    ("tls-injected", "starttls", r#"{ say = { text = "220 ready\r\n250 you are through\r\n" } }"#, Again, 451, Some((5, 0)), BROKE),
];

/// It falls silent, for longer than each phase may take by the path's options.
#[rustfmt::skip]
const SILENT_ROWS: &[Row] = &[
    ("connect-stall", "connect", r#"{ stall = "forever" }"#, Again, 451, Some((4, 2)), LOST),
    ("banner-stall", "banner", r#"{ stall = "forever" }"#, Again, 451, Some((4, 2)), LOST),
    ("banner-half", "banner", r#"{ say = { text = "220-si", then = "stall" } }"#, Again, 451, Some((4, 2)), LOST),
    ("ehlo-stall", "ehlo", r#"{ stall = "forever" }"#, Again, 451, Some((4, 2)), LOST),
    ("ehlo-half", "ehlo", r#"{ say = { text = "250-sink\r\n", then = "stall" } }"#, Again, 451, Some((4, 2)), LOST),
    ("mail-stall", "mail", r#"{ stall = "forever" }"#, Again, 451, Some((4, 2)), LOST),
    ("rcpt-stall", "rcpt", r#"{ stall = "forever" }"#, Again, 451, Some((4, 2)), LOST),
    ("data-stall", "data", r#"{ say = { text = "35", then = "stall" } }"#, Again, 451, Some((4, 2)), LOST),
    ("dot-stall", "final_dot", r#"{ stall = "forever" }"#, Again, 451, Some((4, 2)), LOST),
    ("dot-half", "final_dot", r#"{ say = { text = "250 2.0", then = "stall" } }"#, Again, 451, Some((4, 2)), LOST),
];

/// So long, and each of these phases is over.
const IMPATIENT: &str =
    "enable_tls = 'Disabled', banner_timeout = '1s', ehlo_timeout = '1s', mail_from_timeout = '1s',
    rcpt_to_timeout = '1s', data_timeout = '1s', data_dot_timeout = '1s'";

/// A server with the row's rule, which acts once.
fn server((name, stage, action, ..): &Row, offers: bool) -> sink::Server {
    let rule = format!("[[rule]]\nname = \"{name}\"\nstage = \"{stage}\"\nlimit = 1\naction = {action}\n");
    let extensions = sink::Extensions {
        pipelining: offers,
        chunking: offers,
        eight_bit_mime: offers,
        smtputf8: offers,
        enhanced_status_codes: true,
    };
    let rules = sink::faults::RuleSet::from_toml(&rule).unwrap_or_else(|error| panic!("{name}: {error}"));
    let config =
        sink::Config { workers: 1, extensions, rules, starttls: offers, ..sink::Config::on_free_ports() };
    sink::Server::start(config).unwrap()
}

#[test]
fn mail_survives_every_failure_of_a_server_that_offers_everything() {
    survives(ROWS, true, "enable_tls = 'Disabled'");
}

#[test]
fn mail_survives_every_failure_of_a_server_that_offers_nothing() {
    survives(ROWS, false, "");
}

#[test]
fn mail_survives_every_silence() {
    survives(SILENT_ROWS, true, IMPATIENT);
    survives(SILENT_ROWS, false, IMPATIENT);
}

#[test]
fn mail_survives_every_failure_of_tls() {
    survives(TLS_ROWS, true, "enable_tls = 'RequiredInsecure', starttls_timeout = '1s'");
}

/// `path` are options of the path to each of the servers.
fn survives(rows: &[Row], offers: bool, path: &str) {
    let servers: Vec<sink::Server> = rows.iter().map(|row| server(row, offers)).collect();
    let domains: Vec<String> = rows.iter().map(|(name, ..)| format!("{name}.test")).collect();
    let hops: Vec<_> =
        domains.iter().map(String::as_str).zip(servers.iter().map(|server| server.smtp_addr)).collect();
    let (home, witnesses) = (Home::new(), Witnesses::new("failures"));
    let kumod = home.start_policy(&policy::hops_with(path, &hops));
    let mut client = Client::greeted(kumod.smtp());
    for (number, domain) in (0..).zip(&domains) {
        let message = witnesses.message(number, b"a body\r\n.with a dot\r\n");
        assert!(client.send(&[&format!("b@{domain}")], &message).starts_with("250 "));
    }
    kumod.drained();
    kumod.stop();
    let mut wrong = Vec::new();
    let records = by_recipient(&home.records());
    for ((number, row), (server, domain)) in (0..).zip(rows).zip(servers.iter().zip(&domains)) {
        let records = records.get(&format!("b@{domain}")).map_or(&[][..], Vec::as_slice);
        wrong.extend(judge(row, records).err());
        let arrived = server
            .ledger(witnesses.run)
            .map_or((Vec::new(), 0, 0), |ledger| (ledger.had, ledger.duplicated, ledger.corrupted));
        let wanted = if row.3 == Never { Vec::new() } else { vec![(number, number)] };
        if arrived != (wanted, 0, 0) {
            wrong.push(format!("{}: arrived, doubled, changed: {arrived:?}", row.0));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The records of each recipient, without receptions.
fn by_recipient(records: &[Value]) -> BTreeMap<String, Vec<Value>> {
    let mut all: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for record in records.iter().filter(|record| record["type"] != "Reception") {
        all.entry(record["recipient"].as_str().unwrap().to_owned()).or_default().push(record.clone());
    }
    all
}

/// Whether the records are those that the row wants: type, code, enhanced code, text, attempts, and the time of the next attempt.
fn judge((name, _, _, end, code, enhanced, text): &Row, records: &[Value]) -> Result<(), String> {
    let types: Vec<&str> = records.iter().filter_map(|record| record["type"].as_str()).collect();
    let wanted: &[&str] = match end {
        Again => &["TransientFailure", "Delivery"],
        Never => &["Bounce"],
        Taken => &["Delivery"],
    };
    if types != wanted {
        return Err(format!("{name}: {types:?} instead of {wanted:?}: {records:?}"));
    }
    let response = &records[0]["response"];
    let is_enhanced = enhanced.is_none_or(|(subject, detail)| {
        let said = &response["enhanced_code"];
        (&said["subject"], &said["detail"]) == (&subject.into(), &detail.into())
    });
    if response["code"] != *code || !is_enhanced || !response["content"].as_str().unwrap().contains(text) {
        return Err(format!("{name}: {response}"));
    }
    if *end == Again {
        let waited = at(&records[1]) - at(&records[0]);
        // The interval of `policy::hops`, less its jitter.
        if records[1]["num_attempts"] != 2 || waited < 975 {
            return Err(format!("{name}: the next attempt came after {waited} ms: {}", records[1]));
        }
    }
    Ok(())
}

/// Milliseconds since 1970.
fn at(record: &Value) -> i64 {
    let time: jiff::Timestamp = record["event_time"].as_str().unwrap().parse().unwrap();
    time.as_millisecond()
}

/// Whoever answers twice is not trusted with the next message: its reply would be taken for one that was not given yet.
#[test]
fn a_reply_too_many_is_not_taken_for_the_next_one() {
    let rules = r#"
[[rule]]
name = "twice"
stage = "final_dot"
limit = 1
action.say = { text = "250 2.0.0 taken\r\n250 2.0.0 taken\r\n", then = "accept" }
[[rule]]
name = "full"
stage = "final_dot"
limit = 1
action.reply = "452 4.3.1 Full"
"#;
    let rules = sink::faults::RuleSet::from_toml(rules).unwrap();
    let server =
        sink::Server::start(sink::Config { workers: 1, rules, ..sink::Config::on_free_ports() }).unwrap();
    let (home, witnesses) = (Home::new(), Witnesses::new("twice"));
    let kumod = home.start_policy(&policy::hops(&[("twice.test", server.smtp_addr)]));
    let mut client = Client::greeted(kumod.smtp());
    for (number, recipient) in [(0, "first@twice.test"), (1, "second@twice.test")] {
        client.send(&[recipient], &witnesses.message(number, b"once\r\n"));
        home.record("Delivery", recipient);
    }
    kumod.drained();
    kumod.stop();
    let ledger = server.ledger(witnesses.run).unwrap();
    assert_eq!((ledger.had, ledger.duplicated), (vec![(0, 1)], 0));
    assert_eq!(home.records_of("TransientFailure", "second@twice.test").len(), 1);
}
