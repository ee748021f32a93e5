//! The lines as a reader of the log gets them.

#![allow(clippy::unwrap_used)]
use std::time::Duration;

use super::*;
use crate::envelope::{IdSource, NodeId};
use bytes::Bytes;
use serde_json::{Value, json};

const CREATED: UnixMs = UnixMs(1_700_000_000_250);

fn envelope() -> Envelope {
    let ids = IdSource::new(NodeId(7), 1);
    let mut meta = Meta::new();
    meta.insert("tenant".to_owned(), "acme".into());
    Envelope {
        id: ids.next(CREATED),
        body: ids.next(CREATED),
        body_bytes: 1000,
        sender: "from@a.example".to_owned(),
        recipients: vec!["\"odd\nname\"@b.example".to_owned()],
        queue: "acme@b.example".to_owned(),
        created: CREATED,
        received_from: Some("192.0.2.7:4321".parse().unwrap()),
        eight_bit: false,
        smtputf8: false,
        header_prefix: Bytes::from_static(b"Received: x\r\n"),
        requests: None,
        scheduling: None,
        meta,
    }
}

fn read(out: &[u8]) -> Value {
    assert_eq!(out.iter().filter(|byte| **byte == b'\n').count(), 1, "one record is one line");
    serde_json::from_slice(out).unwrap()
}

#[test]
fn a_reception_shows_every_field_under_its_name() {
    let envelope = envelope();
    let mut out = Vec::new();
    Record::from(&Reception { envelope: &envelope, recipient: &envelope.recipients[0], protocol: "ESMTP" })
        .render(&mut out);
    let wanted = json!({
        "type": "Reception", "id": envelope.id.to_string(), "sender": "from@a.example",
        "recipient": "\"odd\nname\"@b.example", "queue": "acme@b.example", "site": "", "size": 1013,
        "response": {"code": 250, "enhanced_code": null, "content": "", "command": null},
        "peer_address": {"name": "", "addr": "192.0.2.7"}, "timestamp": 1_700_000_000, "created": 1_700_000_000,
        "num_attempts": 0, "bounce_classification": "Uncategorized", "egress_pool": "unspecified",
        "egress_source": "unspecified", "source_address": null, "feedback_report": null,
        "meta": {"tenant": "acme"}, "headers": {}, "delivery_protocol": null, "reception_protocol": "ESMTP",
        "nodeid": "00000007", "tls_cipher": null, "tls_protocol_version": null, "tls_peer_subject_name": null,
        "event_time": "2023-11-14T22:13:20.250Z", "created_time": "2023-11-14T22:13:20.250Z",
        "provider_name": null, "session_id": null,
    });
    assert_eq!(read(&out), wanted);
}

#[test]
fn an_attempt_shows_the_reply_the_server_and_both_times() {
    let envelope = envelope();
    let subject = vec!["C=DE".to_owned(), "CN=mx.b.example".to_owned()];
    let tls = TlsFacts { cipher: "TLS13_AES_256_GCM_SHA384", version: "TLSv1_3", subject };
    let attempted = Attempted {
        envelope: &envelope,
        recipient: "b@b.example",
        attempts: 3,
        site: "mx.b.example",
        egress: Egress {
            pool: "p",
            source: "s",
            address: Some(SourceAddress::direct("10.0.0.1:4711".parse().unwrap())),
            provider: Some("big"),
            protocol: "LMTP",
        },
        peer: Some(("mx.b.example", "[2001:db8::1]:25".parse().unwrap())),
        tls: Some(&tls),
        at: UnixMs(CREATED.0 + 61_007),
        timings: Timings::default(),
    };
    let response = Response::internal(550, (5, 1, 1), "no \"such\" user");
    for (outcome, kind) in [
        (Outcome::Delivered(response.clone()), "Delivery"),
        (Outcome::Retry(response.clone()), "TransientFailure"),
        (Outcome::Failed(response.clone()), "Bounce"),
    ] {
        let mut out = Vec::new();
        attempted.render(&outcome, &mut out);
        assert_eq!(read(&out)["type"], kind);
    }
    let mut out = Vec::new();
    attempted.render_expiration(&response, &mut out);
    let line = read(&out);
    assert_eq!(
        (&line["type"], &line["num_attempts"], &line["site"]),
        (&json!("Expiration"), &json!(3), &json!("mx.b.example"))
    );
    let enhanced = json!({"class": 5, "subject": 1, "detail": 1});
    let said =
        json!({"code": 550, "enhanced_code": enhanced, "content": "no \"such\" user", "command": null});
    assert_eq!(line["response"], said);
    assert_eq!((&line["egress_pool"], &line["egress_source"]), (&json!("p"), &json!("s")));
    assert_eq!((&line["provider_name"], &line["delivery_protocol"]), (&json!("big"), &json!("LMTP")));
    let address = json!({"address": "10.0.0.1:4711", "protocol": null, "server": null});
    assert_eq!(line["source_address"], address);
    assert_eq!(line["tls_cipher"], "TLS13_AES_256_GCM_SHA384");
    assert_eq!(line["tls_protocol_version"], "TLSv1_3");
    assert_eq!(line["tls_peer_subject_name"], json!(["C=DE", "CN=mx.b.example"]));
    assert_eq!(line["peer_address"], json!({"name": "mx.b.example", "addr": "2001:db8::1"}));
    assert_eq!(line["event_time"], "2023-11-14T22:14:21.257Z");
    assert_eq!(line["created_time"], "2023-11-14T22:13:20.250Z");
}

#[test]
fn an_attempt_shows_the_parts_that_it_had_and_no_others() {
    let envelope = envelope();
    let line = |timings| {
        let attempted = Attempted {
            envelope: &envelope,
            recipient: "b@b.example",
            attempts: 1,
            site: "mx.b.example",
            egress: Egress::UNSPECIFIED,
            peer: None,
            tls: None,
            at: UnixMs(CREATED.0 + 900),
            timings,
        };
        let mut out = Vec::new();
        attempted.render(&Outcome::Retry(Response::internal(451, (4, 4, 1), "no")), &mut out);
        read(&out)
    };
    let durations = |line: &Value| {
        ["queued_ms", "connect_ms", "tls_ms", "data_ms"].map(|name| line.get(name).and_then(Value::as_u64))
    };
    let took = |milliseconds| Some(Duration::from_millis(milliseconds));
    let whole =
        Timings { began: Some(UnixMs(CREATED.0 + 500)), connect: took(30), tls: took(0), data: took(350) };
    assert_eq!(durations(&line(whole)), [Some(500), Some(30), Some(0), Some(350)]);
    let refused = Timings { connect: took(7), tls: None, data: None, ..whole };
    assert_eq!(durations(&line(refused)), [Some(500), Some(7), None, None]);
    // Nothing was tried: it waited to the end. A clock that was set back gives no time below zero.
    assert_eq!(durations(&line(Timings::default())), [Some(900), None, None, None]);
    let set_back = Timings { began: Some(UnixMs(CREATED.0 - 9)), ..Timings::default() };
    assert_eq!(durations(&line(set_back)), [Some(0), None, None, None]);
}

#[test]
fn times_agree_with_the_clock_across_seconds() {
    for at in [0, 999, 1000, 1_700_000_000_009, 1_700_000_000_999, 1_700_000_001_000, 951_782_400_000] {
        let text = EVENT_TIME.with(|cache| TimeText::of(UnixMs(at), cache));
        assert_eq!(std::str::from_utf8(&text.0).unwrap(), UnixMs(at).rfc3339());
    }
    assert_eq!(&EVENT_TIME.with(|cache| TimeText::of(UnixMs(u64::MAX), cache)).0[..4], b"1970");
}
