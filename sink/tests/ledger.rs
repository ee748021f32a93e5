//! What the sink remembers: had and missing, doubled and damaged, over SMTP in and HTTP out.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise, in its helpers too")]

use serde_json::{Value, json};
use sink::{Config, Server};

mod support;

use support::{Client, message, message_of, transaction};

fn get(server: &Server, path: &str) -> Value {
    let url = format!("http://{}{path}", server.http_addr);
    ureq::get(url).call().unwrap().body_mut().read_json().unwrap()
}

fn server() -> Server {
    Server::start(Config::on_free_ports()).unwrap()
}

/// All connections are served by the same thread.
fn one_worker() -> Server {
    Server::start(Config { workers: 1, ..Config::on_free_ports() }).unwrap()
}

#[test]
fn what_arrives_is_counted_and_gaps_are_shown() {
    let server = server();
    let mut client = Client::new(server.smtp_addr);
    for seq in [0, 1, 2, 5, 4, 9] {
        client.send(&message("gaps", seq, b"hello\r\n"), &["a@example.test"]);
    }
    let ledger = get(&server, "/ledger/gaps");
    assert_eq!((&ledger["run"], &ledger["had"]), (&json!("gaps"), &json!([[0, 2], [4, 5], [9, 9]])));
    assert_eq!(ledger["missing"], json!([[3, 3], [6, 8]]));
    let first_and_last = (ledger["first_ns"].as_u64(), ledger["last_ns"].as_u64());
    assert!(first_and_last.0.is_some() && first_and_last.0 <= first_and_last.1);
    let stats = get(&server, "/stats");
    assert_eq!(
        (&stats["accepted"], &stats["distinct"], &stats["connections"]),
        (&json!(6), &json!(6), &json!(1))
    );
    assert_eq!(stats["bytes"], 6 * message("gaps", 0, b"hello\r\n").len());
    assert_eq!(
        (&stats["runs"]["gaps"]["missing"], &stats["runs"]["gaps"]["seq_max"]),
        (&json!(4), &json!(9))
    );
    for field in ["rate_per_s", "duplicated", "corrupted"] {
        assert!(stats[field].is_u64(), "{field}");
    }
    for field in ["p50", "p90", "p99", "p99_9", "max"] {
        assert!(stats["latency_us"][field].as_f64().is_some_and(|value| value > 0.0), "{field}");
    }
}

#[test]
fn a_number_seen_again_is_a_duplicate_for_the_same_recipient_only() {
    let server = server();
    let mut client = Client::new(server.smtp_addr);
    client.send(&message("twice", 7, b"x\r\n"), &["a@example.test", "b@example.test"]);
    assert_eq!(get(&server, "/stats")["duplicated"], 0);
    client.send(&message("twice", 7, b"x\r\n"), &["c@example.test"]);
    assert_eq!(get(&server, "/stats")["duplicated"], 0);
    // Over another connection, which another core may serve.
    for _ in 0..8 {
        Client::new(server.smtp_addr).send(&message("twice", 7, b"x\r\n"), &["b@EXAMPLE.test"]);
    }
    client.send(&message("other", 7, b"x\r\n"), &["b@example.test"]);
    let stats = get(&server, "/stats");
    assert_eq!(
        (&stats["duplicated"], &stats["distinct"], &stats["accepted"]),
        (&json!(8), &json!(4), &json!(11))
    );
    let ledger = get(&server, "/ledger/twice");
    assert_eq!((&ledger["duplicated"], &ledger["distinct"]), (&json!(8), &json!(3)));
}

#[test]
fn a_damaged_body_is_counted_and_a_changed_header_is_not() {
    let server = server();
    let mut client = Client::new(server.smtp_addr);
    let mut damaged = message("crc", 0, b"hello\r\n");
    let last = damaged.len() - 3;
    damaged[last] ^= 1;
    client.send(&damaged, &["a@example.test"]);
    let mut relayed = b"X-More: 1\r\n".to_vec();
    relayed.extend_from_slice(&message("crc", 1, b"hello\r\n"));
    client.send(&relayed, &["a@example.test"]);
    let stats = get(&server, "/stats");
    assert_eq!((&stats["corrupted"], &stats["distinct"]), (&json!(1), &json!(2)));
    assert_eq!(get(&server, "/ledger/crc")["corrupted"], 1);
}

#[test]
fn each_duplicate_is_named_with_both_times_and_connections() {
    let server = one_worker();
    let (mut first, mut second) = (Client::new(server.smtp_addr), Client::new(server.smtp_addr));
    for seq in [3, 4, 5] {
        first.send(&message("named", seq, b"x\r\n"), &["ann@example.test", "bob@Example.TEST"]);
    }
    second.send(&message("named", 4, b"x\r\n"), &["bob@example.test"]);
    let ledger = get(&server, "/ledger/named");
    let duplicate = &ledger["duplicates"][0];
    assert_eq!((&ledger["duplicated"], ledger["duplicates"].as_array().unwrap().len()), (&json!(1), 1));
    let recipient = format!("{:08x}", crc32c::crc32c(b"bob@example.test"));
    assert_eq!((&duplicate["seq"], &duplicate["recipient"]), (&json!(4), &json!(recipient)));
    assert_eq!((&duplicate["first_connection"], &duplicate["again_connection"]), (&json!(1), &json!(2)));
    let time = |value: &Value| value.as_u64().unwrap();
    let (first_ns, again_ns) = (time(&duplicate["first_ns"]), time(&duplicate["again_ns"]));
    assert!(first_ns < again_ns && again_ns <= time(&ledger["last_ns"]), "{duplicate}");
    // To the microsecond, so at most one before the first arrival of all.
    assert!(first_ns + 1_000 > time(&ledger["first_ns"]), "{duplicate}");
}

#[test]
fn a_duplicate_that_no_worker_saw_alone_is_named_too() {
    let server = Server::start(Config { workers: 4, ..Config::on_free_ports() }).unwrap();
    for _ in 0..16 {
        // The kernel spreads connections over the workers.
        Client::new(server.smtp_addr).send(&message("spread", 9, b"x\r\n"), &["a@example.test"]);
    }
    let ledger = get(&server, "/ledger/spread");
    assert_eq!(ledger["duplicated"], 15);
    let duplicates = ledger["duplicates"].as_array().unwrap();
    assert_eq!(duplicates.len(), 15);
    assert!(
        duplicates
            .iter()
            .all(|note| note["seq"] == 9 && note["first_ns"].as_u64() <= note["again_ns"].as_u64())
    );
    assert_eq!((&ledger["reordered"], &ledger["distinct"]), (&json!(0), &json!(1)));
}

#[test]
fn each_damaged_message_is_named_with_both_sums() {
    let server = server();
    let mut client = Client::new(server.smtp_addr);
    for seq in 0..5 {
        let mut whole = message("sums", seq, b"hello\r\n");
        if seq == 3 {
            let last = whole.len() - 3;
            whole[last] ^= 1;
        }
        client.send(&whole, &["a@example.test"]);
    }
    let ledger = get(&server, "/ledger/sums");
    let corruption = &ledger["corruptions"][0];
    assert_eq!((&ledger["corrupted"], ledger["corruptions"].as_array().unwrap().len()), (&json!(1), 1));
    let sum = |body| json!(format!("{:08x}", crc32c::crc32c(body)));
    assert_eq!(
        (&corruption["seq"], &corruption["expected"], &corruption["found"]),
        (&json!(3), &sum(b"hello\r\n"), &sum(b"helln\r\n"))
    );
    assert!(corruption["at_ns"].as_u64() > ledger["first_ns"].as_u64());
}

#[test]
fn a_message_overtaken_on_its_connection_is_named_whichever_way_it_came() {
    let server = Server::start(Config { workers: 4, ..Config::on_free_ports() }).unwrap();
    // Connection 0 of the generator sent 1, 5 and 3 in ascending order, connection 1 sent 2.
    for (conn, seq) in [(0, 1), (0, 5), (1, 2), (0, 3)] {
        let message = message_of("order", conn, seq, b"x\r\n");
        Client::new(server.smtp_addr).send(&message, &["a@example.test"]);
    }
    let ledger = get(&server, "/ledger/order");
    assert_eq!((&ledger["reordered"], ledger["reorders"].as_array().unwrap().len()), (&json!(1), 1));
    let reorder = &ledger["reorders"][0];
    assert_eq!(
        (&reorder["seq"], &reorder["after"], &reorder["conn"], &reorder["connection"]),
        (&json!(3), &json!(5), &json!(0), &json!(4))
    );
    assert_eq!(reorder["at_ns"], ledger["last_ns"]);
    assert_eq!(get(&server, "/stats")["reordered"], 1);
}

#[test]
fn gaps_have_times_and_several_recipients_are_counted() {
    let server = one_worker();
    let mut client = Client::new(server.smtp_addr);
    for seq in [1, 2, 4] {
        client.send(&message("more", seq, b"x\r\n"), &["a@example.test", "b@example.test"]);
    }
    client.send(&message("more", 5, b"x\r\n"), &["a@example.test"]);
    let ledger = get(&server, "/ledger/more");
    assert_eq!(
        (&ledger["missing"], &ledger["several"]),
        (&json!([[0, 0], [3, 3]]), &json!([[1, 2, 2], [4, 4, 2]]))
    );
    assert_eq!((&ledger["accepted"], &ledger["distinct"]), (&json!(4), &json!(7)));
    let between = &ledger["missing_between_ns"];
    assert!(between[0][0].is_null() && between[0][1].is_u64(), "{between}");
    assert!(between[1][0].as_u64() <= between[1][1].as_u64() && between[1][0] != between[0][1], "{between}");
}

#[test]
fn the_bitmap_has_a_bit_for_each_number() {
    let server = server();
    let mut client = Client::new(server.smtp_addr);
    for seq in [0, 3, 8, 4096] {
        client.send(&message("bits", seq, b"x\r\n"), &["a@example.test"]);
    }
    let bitmap = get(&server, "/ledger/bits?format=bitmap");
    let chunks = bitmap["chunks"].as_object().unwrap();
    assert_eq!(bitmap["chunk_numbers"], 4096);
    assert_eq!(chunks.keys().collect::<Vec<_>>(), ["0", "4096"]);
    // 512 bytes, the first of them 0b1001 and 0b1.
    assert!(chunks["0"].as_str().unwrap().starts_with("CQEA"), "{bitmap}");
    assert_eq!(chunks["0"].as_str().unwrap().len(), 684);
    let url = format!("http://{}/ledger/bits?format=png", server.http_addr);
    assert!(matches!(ureq::get(url).call(), Err(ureq::Error::StatusCode(400))));
}

#[test]
fn mail_without_the_header_is_swallowed_too() {
    let server = server();
    let mut client = Client::new(server.smtp_addr);
    client.send(b"Subject: x\r\n\r\nbody\r\n", &["a@example.test"]);
    client.send(b"", &["a@example.test"]);
    client.send(b"no header at all", &["a@example.test"]);
    let stats = get(&server, "/stats");
    assert_eq!((&stats["accepted"], &stats["distinct"], &stats["runs"]), (&json!(3), &json!(0), &json!({})));
    assert_eq!(stats["headerless"], 3);
}

#[test]
fn unknown_runs_are_404() {
    let server = server();
    for path in ["/ledger/none", "/hlog/none", "/ledger/not%20a%20run"] {
        let error = ureq::get(format!("http://{}{path}", server.http_addr)).call();
        assert!(matches!(error, Err(ureq::Error::StatusCode(404))), "{path}");
    }
}

#[test]
fn the_histogram_log_is_readable() {
    let server = server();
    let mut client = Client::new(server.smtp_addr);
    client.send(&message("log", 0, b"x\r\n"), &["a@example.test"]);
    let url = format!("http://{}/hlog/log", server.http_addr);
    let log = ureq::get(url).call().unwrap().body_mut().read_to_vec().unwrap();
    let intervals = reports::latency::parse_hlog(&log).unwrap();
    assert_eq!(intervals.iter().map(|interval| interval.histogram.len()).sum::<u64>(), 1);
}

#[test]
fn hostile_numbers_do_not_take_the_memory_and_are_owned_up_to() {
    let server = server();
    let mut client = Client::new(server.smtp_addr);
    let mut burst = Vec::new();
    let count = 2_000u64;
    for step in 0..count {
        // As far apart as the twelve digits of the header allow.
        let seq = step.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 25;
        burst.extend_from_slice(&transaction(&message("wild", seq, b"x\r\n"), &["a@example.test"]));
        if step % 100 == 99 {
            assert!(client.codes(&burst, 300).iter().all(|code| *code == 250));
            burst.clear();
        }
    }
    let stats = server.stop();
    assert_eq!((stats.accepted, stats.distinct + stats.untracked), (count, count));
    assert!(stats.untracked > count / 2, "{}", stats.untracked);
}
