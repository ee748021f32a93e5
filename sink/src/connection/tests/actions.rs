//! What a client sees of each action. A check fails where the rule is taken away.

use message::traffic::{RunId, TrafficHeader, body_crc};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::time::{Duration, advance};

use super::laboratory::{Laboratory, Seen};
use super::secure::handshake;
use super::{LONG, rule, steps, usual};
use crate::faults::Stage;

const DELAY: Duration = Duration::from_secs(3_000);

/// A body that is long enough for a slow reader, with its end.
const LONG_BODY_BYTES: usize = 2_000;

pub(super) async fn check(kind: &str, stage: Stage) {
    match kind {
        "reply" => reply(stage).await,
        "delay" => delay(stage).await,
        "drop" => ends(stage, "\"drop\"", Seen::End).await,
        "reset" => ends(stage, "\"reset\"", Seen::Reset).await,
        "half_close" => half_close(stage).await,
        "stall" => stall(stage).await,
        "tarpit" => tarpit(stage).await,
        "slow_reader" => slow_reader(stage).await,
        "garbage" => garbage(stage).await,
        "say" => say(stage).await,
        "bad_tls" => bad_tls(stage).await,
        "greylist" => greylist(stage).await,
        "messages_max" => messages_max(stage).await,
        "connections_max" => connections_max(stage).await,
        "rate_limit" => rate_limit(stage).await,
        "bounce" => bounce(stage).await,
        "lose" => audited(stage, "lose", [0, 0, 0]).await,
        "double" => audited(stage, "double", [2, 1, 0]).await,
        "corrupt" => audited(stage, "corrupt", [1, 0, 1]).await,
        other => panic!("{other} has no check"),
    }
}

async fn reply(stage: Stage) {
    for text in ["450 4.2.1 Own words", "550 5.2.1 Own words"] {
        let laboratory = Laboratory::new(&rule(stage, &format!("{{ reply = \"{text}\" }}"))).await;
        let mut client = laboratory.client_at(stage).await;
        assert_eq!(client.see().await, Seen::Reply(text.to_owned()), "{stage}");
        assert_eq!(laboratory.worker.tally().totals.accepted, 0, "{stage}");
    }
    let laboratory = Laboratory::new(&rule(stage, "{ reply = \"421 4.3.2 Going\" }")).await;
    let mut client = laboratory.client_at(stage).await;
    assert_eq!(client.see().await.code(), Some(421), "{stage}");
    assert_eq!(client.see().await, Seen::End, "{stage}: 421 closes");
}

async fn delay(stage: Stage) {
    let laboratory = Laboratory::new(&rule(stage, "{ delay = \"3000s\" }")).await;
    let mut client = laboratory.client_at(stage).await;
    assert!(laboratory.elapsed() < LONG, "{stage}");
    if stage == Stage::Body {
        client.write("Subject: x\r\n\r\n.\r\n").await;
    }
    assert_eq!(client.see().await.code(), Some(usual(stage)), "{stage}");
    assert!(laboratory.elapsed() >= DELAY, "{stage}");
}

async fn ends(stage: Stage, action: &str, end: Seen) {
    let laboratory = Laboratory::new(&rule(stage, action)).await;
    let mut client = laboratory.client_at(stage).await;
    assert_eq!(client.see().await, end, "{action} at {stage}");
    laboratory.open(0).await;
}

async fn half_close(stage: Stage) {
    let laboratory = Laboratory::new(&rule(stage, "\"half_close\"")).await;
    let mut client = laboratory.client_at(stage).await;
    assert_eq!(client.see().await, Seen::End, "{stage}");
    for _ in 0..3 {
        client.write("NOOP\r\n").await;
        assert_eq!(client.see().await, Seen::End, "{stage}");
    }
    laboratory.open(1).await;
    drop(client);
    laboratory.open(0).await;
}

async fn stall(stage: Stage) {
    let laboratory = Laboratory::new(&rule(stage, "{ stall = \"3000s\" }")).await;
    let mut client = laboratory.client_at(stage).await;
    if stage == Stage::Data {
        assert_eq!(client.see().await.code(), Some(354));
        assert!(laboratory.elapsed() < LONG);
    }
    let wants_body = matches!(stage, Stage::Data | Stage::Body);
    if wants_body {
        client.write("Subject: x\r\n\r\n.\r\n").await;
    }
    let expected = if wants_body { 250 } else { usual(stage) };
    assert_eq!(client.see().await.code(), Some(expected), "{stage}");
    assert!(laboratory.elapsed() >= DELAY, "{stage}");

    let laboratory = Laboratory::new(&rule(stage, "{ stall = \"forever\" }")).await;
    let mut client = laboratory.client_at(stage).await;
    if stage == Stage::Data {
        assert_eq!(client.see().await.code(), Some(354));
    }
    if wants_body {
        client.write("Subject: x\r\n\r\n.\r\n").await;
    }
    assert_eq!(client.see().await, Seen::Nothing, "{stage}");
}

async fn tarpit(stage: Stage) {
    let laboratory = Laboratory::new(&rule(stage, "{ tarpit = { bytes_per_s = 10 } }")).await;
    let mut client = laboratory.client_at(stage).await;
    let mut part = [0; 100];
    for _ in 0..3 {
        assert_eq!(client.stream.read(&mut part).await.unwrap(), 1, "{stage}");
    }
}

async fn slow_reader(stage: Stage) {
    let laboratory = Laboratory::new(&rule(stage, "{ slow_reader = { bytes_per_s = 1 } }")).await;
    let mut client = laboratory.client_at(stage).await;
    let filling = "x".repeat(LONG_BODY_BYTES - 20);
    let expected = if stage == Stage::Body {
        client.write(&format!("Subject: x\r\n\r\n{filling}\r\n.\r\n")).await;
        250
    } else {
        assert_eq!(client.see().await.code(), Some(220));
        client.write(&format!("VRFY {filling}\r\n")).await;
        252
    };
    assert_eq!(client.see().await.code(), Some(expected));
    assert!(laboratory.elapsed() >= Duration::from_secs(LONG_BODY_BYTES as u64 - 100), "{stage}");
}

async fn garbage(stage: Stage) {
    const BYTES: usize = 64;
    let mut seen = Vec::new();
    for seed in [1, 1, 2] {
        let laboratory =
            Laboratory::with_seed(&rule(stage, &format!("{{ garbage = {{ bytes = {BYTES} }} }}")), seed)
                .await;
        let mut client = laboratory.client_at(stage).await;
        seen.push(client.bytes(BYTES + 2).await);
    }
    assert!(seen[0].ends_with(b"\r\n") && !seen[0][..3].iter().all(u8::is_ascii_digit), "{stage}");
    assert_eq!(seen[0], seen[1], "{stage}: the seed decides");
    assert_ne!(seen[0], seen[2], "{stage}: the seed decides");
}

async fn say(stage: Stage) {
    let action =
        |then: &str| format!("{{ say = {{ text = \"25 \\u0007\\r\\n\", times = 3, then = \"{then}\" }} }}");
    for then in ["refuse", "accept", "drop", "stall"] {
        // `accept` at these two is refused where the rule is read.
        if then == "accept" && matches!(stage, Stage::Starttls | Stage::Data) {
            continue;
        }
        let laboratory = Laboratory::new(&rule(stage, &action(then))).await;
        let mut client = laboratory.client_at(stage).await;
        assert_eq!(client.bytes(18).await, b"25 \x07\r\n".repeat(3), "{stage}");
        let accepted = u64::from(stage == Stage::FinalDot && then == "accept");
        assert_eq!(laboratory.worker.tally().totals.accepted, accepted, "{then} at {stage}");
        match then {
            "drop" => assert_eq!(client.see().await, Seen::End, "{stage}"),
            "stall" => assert_eq!(client.see().await, Seen::Nothing, "{stage}"),
            // After QUIT a connection is over either way.
            _ if stage == Stage::Quit => {}
            _ => {
                let (command, code) =
                    if stage == Stage::Vrfy { ("NOOP\r\n", 250) } else { ("VRFY x\r\n", 252) };
                client.write(command).await;
                assert_eq!(client.see().await.code(), Some(code), "{then} at {stage}");
            }
        }
    }
}

async fn bad_tls(stage: Stage) {
    let table =
        [("expired", "expired"), ("wrong_name", "not valid for name"), ("garbage", "invalidcontenttype")];
    for (kind, complaint) in table {
        let laboratory = Laboratory::new(&rule(stage, &format!("{{ bad_tls = \"{kind}\" }}"))).await;
        let error = shake_hands(&laboratory, stage).await.unwrap_err();
        assert!(error.to_lowercase().contains(complaint), "{kind} at {stage}: {error}");
    }
    let laboratory = Laboratory::new("").await;
    assert_eq!(shake_hands(&laboratory, stage).await, Ok(()), "without the rule nothing is wrong");
}

/// A handshake by a client that looks.
async fn shake_hands(laboratory: &Laboratory, stage: Stage) -> Result<(), String> {
    let tcp = if stage == Stage::Connect {
        TcpStream::connect(laboratory.tls_address).await.unwrap()
    } else {
        let mut client = laboratory.client_at(stage).await;
        assert_eq!(client.see().await.code(), Some(220));
        client.stream
    };
    handshake(tcp).await.map(|_| ())
}

async fn greylist(stage: Stage) {
    let laboratory = Laboratory::new(&rule(stage, "{ greylist = { seconds = 3000 } }")).await;
    let mut client = laboratory.client_at(stage).await;
    let (_, trigger) = steps(stage);
    assert_eq!(client.see().await.code(), Some(450));
    client.write(trigger).await;
    assert_eq!(client.see().await.code(), Some(450), "too early");
    advance(DELAY).await;
    client.write("RCPT TO:<other@b.test>\r\n").await;
    assert_eq!(client.see().await.code(), Some(450), "another recipient");
    client.write(trigger).await;
    assert_eq!(client.see().await.code(), Some(250));
}

async fn messages_max(stage: Stage) {
    let laboratory = Laboratory::new(&rule(stage, "{ messages_max = { messages = 2 } }")).await;
    let mut client = laboratory.client_at(stage).await;
    let (_, trigger) = steps(stage);
    assert_eq!(client.see().await.code(), Some(250));
    client.write(&format!("RSET\r\n{trigger}RSET\r\n{trigger}")).await;
    for expected in [250, 250, 250, 421] {
        assert_eq!(client.see().await.code(), Some(expected));
    }
    assert_eq!(client.see().await, Seen::End);
}

async fn connections_max(stage: Stage) {
    let laboratory = Laboratory::new(&rule(stage, "{ connections_max = { connections = 1 } }")).await;
    let mut first = laboratory.client_at(stage).await;
    assert_eq!(first.see().await.code(), Some(220));
    let mut second = laboratory.client_at(stage).await;
    assert_eq!(second.see().await.code(), Some(421));
    drop((first, second));
    laboratory.open(0).await;
    assert_eq!(laboratory.client_at(stage).await.see().await.code(), Some(220));
}

async fn rate_limit(stage: Stage) {
    let limit = "{ rate_limit = { per_minute = 0.01, burst = 2, reply = \"451 4.7.1 Too fast\" } }";
    let laboratory = Laboratory::new(&rule(stage, limit)).await;
    for expected in [usual(stage), usual(stage), 451] {
        assert_eq!(laboratory.client_at(stage).await.see().await.code(), Some(expected), "{stage}");
    }
    advance(Duration::from_secs(6_000)).await;
    assert_eq!(laboratory.client_at(stage).await.see().await.code(), Some(usual(stage)), "{stage}");
}

async fn bounce(stage: Stage) {
    let target = Laboratory::new("").await;
    let rules = rule(stage, "{ bounce = { status = \"5.1.1\", text = \"Nobody\" } }");
    let laboratory = Laboratory::with_bounces_to(&rules, target.address).await;
    assert_eq!(laboratory.client_at(stage).await.see().await.code(), Some(250));
    assert_eq!(laboratory.worker.tally().totals.accepted, 1);
    target.until(|| target.worker.tally().totals.accepted == 1).await;
}

/// What the tally shows of a message of the laboratory: accepted, duplicated, corrupted.
async fn audited(stage: Stage, action: &str, expected: [u64; 3]) {
    let laboratory = Laboratory::new(&rule(stage, &format!("\"{action}\""))).await;
    let mut client = laboratory.client().await;
    for step in steps(stage).0 {
        client.write(step).await;
        client.see().await;
    }
    client.write(&format!("{}.\r\n", message(0))).await;
    assert_eq!(client.see().await.code(), Some(250), "{action}");
    let totals = laboratory.worker.tally().totals;
    assert_eq!([totals.accepted, totals.duplicated, totals.corrupted], expected, "{action}");
}

/// A message of the laboratory.
pub(super) fn message(seq: u64) -> String {
    let body = "hello\r\n";
    let header = TrafficHeader {
        run: RunId::new("r").unwrap(),
        conn: 0,
        seq,
        sent_ns: 1,
        crc: body_crc(body.as_bytes()),
    };
    let mut message = Vec::new();
    header.write(&mut message);
    message.extend_from_slice(format!("Subject: x\r\n\r\n{body}").as_bytes());
    String::from_utf8(message).unwrap()
}
