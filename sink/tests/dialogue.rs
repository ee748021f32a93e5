//! The sink as an SMTP server: every way to send a message, and clients that misbehave.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise, in its helpers too")]

use std::net::{Shutdown, TcpStream};

use sink::{Config, Server};

mod support;

use support::{Client, message, transaction};

fn server() -> Server {
    Server::start(Config::on_free_ports()).unwrap()
}

#[test]
fn a_burst_of_whole_messages_is_answered_in_order() {
    let server = server();
    let mut client = Client::new(server.smtp_addr);
    let mut burst = b"EHLO client.example\r\n".to_vec();
    for seq in 0..50 {
        burst.extend_from_slice(&transaction(&message("burst", seq, b"x\r\n"), &["a@example.test"]));
    }
    burst.extend_from_slice(b"QUIT\r\n");
    let mut expected = vec![250; 1 + 50 * 3];
    expected.push(221);
    assert_eq!(client.codes(&burst, 152), expected);
    assert_eq!(client.line(), "");
    assert_eq!(server.stop().distinct, 50);
}

#[test]
fn bytes_may_come_one_by_one() {
    let server = server();
    let mut client = Client::new(server.smtp_addr);
    let mut bytes = b"HELO client.example\r\n".to_vec();
    bytes.extend_from_slice(&transaction(&message("slow", 0, b"hello\r\nworld\r\n"), &["a@example.test"]));
    bytes.iter().for_each(|byte| client.write(&[*byte]));
    assert_eq!(client.codes(b"", 4), [250; 4]);
    let stats = server.stop();
    assert_eq!((stats.distinct, stats.corrupted), (1, 0));
}

#[test]
fn data_and_several_chunks_are_the_same_message() {
    let server = server();
    let mut client = Client::new(server.smtp_addr);
    let body = b".\r\n..dots\r\n";
    let whole = message("ways", 0, body);
    let stuffed = [&whole[..whole.len() - body.len()], b"..\r\n...dots\r\n.\r\n"].concat();
    let envelope = b"EHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<a@example.test>\r\nDATA\r\n";
    assert_eq!(client.codes(envelope, 4), [250, 250, 250, 354]);
    assert_eq!(client.codes(&stuffed, 1), [250]);
    let whole = message("ways", 1, &body.repeat(20_000));
    assert_eq!(client.codes(b"MAIL FROM:<>\r\nRCPT TO:<a@example.test>\r\n", 2), [250, 250]);
    for part in whole.chunks(70_001) {
        let chunk = [format!("BDAT {}\r\n", part.len()).as_bytes(), part].concat();
        assert_eq!(client.codes(&chunk, 1), [250]);
    }
    assert_eq!(client.codes(b"BDAT 0 LAST\r\n", 1), [250]);
    let stats = server.stop();
    assert_eq!((stats.distinct, stats.corrupted, stats.runs["ways"].missing), (2, 0, 0));
}

#[test]
fn nonsense_is_refused_and_the_mail_goes_on() {
    let server = server();
    let mut client = Client::new(server.smtp_addr);
    assert_eq!(client.codes(b"XYZZY\r\nDATA\r\nRCPT TO:<a@b>\r\nMAIL\r\n", 4), [500, 503, 503, 501]);
    let long = [&b"NOOP "[..], &[b'x'; 5000], b"\r\n"].concat();
    assert_eq!(client.codes(&long, 1), [500]);
    client.send(&message("after", 0, b"x\r\n"), &["a@example.test"]);
    assert_eq!(server.stop().distinct, 1);
}

#[test]
fn a_client_that_goes_in_the_middle_leaves_nothing_behind() {
    let server = server();
    let whole = transaction(&message("cut", 0, &[b'x'; 10_000]), &["a@example.test"]);
    let mut client = Client::new(server.smtp_addr);
    assert_eq!(client.codes(&whole[..5_000], 2), [250, 250]);
    drop(client);
    let mut client = Client::new(server.smtp_addr);
    client.send(&message("cut", 1, b"x\r\n"), &["a@example.test"]);
    assert_eq!(server.stop().accepted, 1);
}

#[test]
fn a_client_that_never_reads_does_not_stop_the_others() {
    let server = server();
    let stream = TcpStream::connect(server.smtp_addr).unwrap();
    stream.set_nonblocking(true).unwrap();
    let noops = b"NOOP\r\n".repeat(10_000);
    // Until neither side takes any more, or a lot has gone through.
    for _ in 0..1_000 {
        use std::io::Write;
        if (&stream).write(&noops).is_err() {
            break;
        }
    }
    let mut client = Client::new(server.smtp_addr);
    client.send(&message("other", 0, b"x\r\n"), &["a@example.test"]);
    stream.shutdown(Shutdown::Both).unwrap();
    assert_eq!(server.stop().distinct, 1);
}

#[test]
fn stopping_says_421() {
    let server = server();
    let mut client = Client::new(server.smtp_addr);
    assert_eq!(client.codes(b"NOOP\r\n", 1), [250]);
    server.stop();
    assert_eq!(client.reply(), 421);
    assert_eq!(client.line(), "");
}

#[test]
fn a_port_in_use_is_named() {
    let first = server();
    let config = Config { listen: first.smtp_addr, ..Config::on_free_ports() };
    let error = Server::start(config).err().unwrap().to_string();
    assert!(error.contains(&first.smtp_addr.to_string()) && error.contains("smtp"), "{error}");
    let config = Config { http: first.http_addr, ..Config::on_free_ports() };
    let error = Server::start(config).err().unwrap().to_string();
    assert!(error.contains(&first.http_addr.to_string()) && error.contains("http"), "{error}");
}
