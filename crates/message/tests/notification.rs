//! Whatever stands in an envelope, the report on it reads back: by a reader of its own here, and by Python's `email` as a second
//! opinion, which is left out where there is no Python.

#![allow(clippy::unwrap_used)]

use std::io::Write;
use std::process::{Command, Stdio};

use message::header::{find, split};
use message::notification::{Action, HEADER_BYTES_MAX, Notification, Reported, WHOLE_BYTES_MAX};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

const UNTIL: &str = "Fri, 2 Jan 1970 00:00:00 +0000";

/// What a notification borrows.
#[derive(Clone, Debug)]
struct Fate {
    to: String,
    reporter: String,
    envelope_id: Option<String>,
    recipients: Vec<Recipient>,
    original: Vec<u8>,
    whole: bool,
}

#[derive(Clone, Debug)]
struct Recipient {
    address: String,
    original: Option<(String, String)>,
    action: Action<'static>,
    status: (u8, u16, u16),
    said: String,
    remote: Option<String>,
    attempts: u32,
}

impl Fate {
    fn write(&self) -> Vec<u8> {
        let recipients = self.recipients.iter().map(|recipient| Reported {
            recipient: &recipient.address,
            original_recipient: recipient.original.as_ref().map(|(kind, address)| (&**kind, &**address)),
            action: recipient.action,
            status: recipient.status,
            said: &recipient.said,
            remote: recipient.remote.as_deref(),
            attempts: recipient.attempts,
        });
        let notification = Notification {
            reporter: &self.reporter,
            to: &self.to,
            id: "0123456789abcdef0123456789abcdef",
            date: "Thu, 1 Jan 1970 00:00:00 +0000",
            arrival_date: "Wed, 31 Dec 1969 00:00:00 +0000",
            envelope_id: self.envelope_id.as_deref(),
            recipients: &recipients.collect::<Vec<_>>(),
            original: &self.original,
            whole: self.whole,
        };
        notification.write()
    }
}

/// Addresses and replies as they come, and as nobody would expect them.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z]{1,12}@[a-z]{1,12}\\.test",
        "[ -~]{0,80}",
        "[äß漢😀a-z]{1,9}@[ü漢]{1,9}",
        any::<String>(),
        ".{0,2000}"
    ]
}

fn recipient() -> impl Strategy<Value = Recipient> {
    let action = prop_oneof![Just(Action::Failed), Just(Action::Delayed(UNTIL)), Just(Action::Relayed)];
    let original = proptest::option::of(("[a-z0-9-]{1,9}", text()));
    let status = (2_u8..6, 0_u16..999, 0_u16..999);
    (text(), original, action, status, text(), proptest::option::of(text()), any::<u32>()).prop_map(
        |(address, original, action, status, said, remote, attempts)| Recipient {
            address,
            original,
            action,
            status,
            said,
            remote,
            attempts,
        },
    )
}

/// Messages, from orderly ones to noise; some with the lines that hold a report together.
fn original() -> impl Strategy<Value = Vec<u8>> {
    let line = prop_oneof![
        Just("Subject: hello\r\n".to_owned()),
        "[A-Z][a-z]{0,9}: [ -~]{0,90}\r\n",
        "X-Utf8: [ä-ü]{0,80}\r\n",
        Just("\r\n".to_owned()),
        Just("--=_0123456789abcdef0123456789abcdef.0--\r\n".to_owned()),
        "\\.[ -~]{0,9}\r\n",
    ];
    let orderly = proptest::collection::vec(line, 0..12).prop_map(|lines| lines.concat().into_bytes());
    let long = (1_usize..120_000).prop_map(|bytes| b"X-Long: word and word\r\n".repeat(bytes / 23));
    prop_oneof![6 => orderly, 2 => any::<Vec<u8>>(), 1 => long]
}

fn fate() -> impl Strategy<Value = Fate> {
    let recipients = proptest::collection::vec(recipient(), 1..4);
    (text(), text(), proptest::option::of(text()), recipients, original(), any::<bool>()).prop_map(
        |(to, reporter, envelope_id, recipients, original, whole)| Fate {
            to,
            reporter,
            envelope_id,
            recipients,
            original,
            whole,
        },
    )
}

/// The parts of a multipart message, each with its header and its body, decoded.
fn parts(message: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let (header, body) = split(message);
    let kind = find(header, "Content-Type").unwrap().into_owned();
    let boundary = kind.split('"').nth(1).unwrap_or_else(|| panic!("no boundary in {kind:?}"));
    let body = [b"\r\n", body].concat();
    let text = body.iter().map(|byte| char::from(*byte)).collect::<String>();
    let mut pieces = text.split(&format!("\r\n--{boundary}")).collect::<Vec<_>>();
    assert_eq!((pieces.remove(0), pieces.pop()), ("", Some("--\r\n")), "{text}");
    let part = |piece: &str| {
        let bytes =
            piece.strip_prefix("\r\n").unwrap().chars().map(|letter| letter as u8).collect::<Vec<_>>();
        let (header, body) = split(&bytes);
        let decoded = match find(header, "Content-Transfer-Encoding").unwrap().as_ref() {
            "quoted-printable" => unquote(body),
            _ => body.to_vec(),
        };
        (header.to_vec(), decoded)
    };
    pieces.into_iter().map(part).collect()
}

fn unquote(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text;
    while let [byte, after @ ..] = rest {
        rest = match (byte, after) {
            (b'=', [b'\r', b'\n', after @ ..]) => after,
            (b'=', [high, low, after @ ..]) => {
                let digits = [*high, *low];
                out.push(u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap());
                after
            }
            _ => {
                out.push(*byte);
                after
            }
        };
    }
    out
}

fn kind(header: &[u8]) -> String {
    find(header, "Content-Type").unwrap().into_owned()
}

/// What must come back of the message: whether it is whole, and its bytes.
fn returned(fate: &Fate) -> (bool, Vec<u8>) {
    let lines = fate.original.split_inclusive(|byte| *byte == b'\n');
    let is_line = |line: &[u8]| {
        let inner = line.strip_suffix(b"\r\n").unwrap_or(line);
        inner.len() <= 998 && !inner.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0))
    };
    if fate.whole && fate.original.len() <= WHOLE_BYTES_MAX && lines.clone().all(is_line) {
        return (true, fate.original.clone());
    }
    let (header, _) = split(&fate.original);
    let mut kept = 0;
    for line in header.split_inclusive(|byte| *byte == b'\n') {
        if header.len() >= HEADER_BYTES_MAX && kept + line.len() > HEADER_BYTES_MAX {
            break;
        }
        kept += line.len();
    }
    (false, header[..kept].to_vec())
}

proptest! {
    #[test]
    fn any_fate_of_any_message_is_a_report_that_reads_back(fate in fate()) {
        let report = fate.write();
        let (header, _) = split(&report);
        prop_assert!(kind(header).starts_with("multipart/report; report-type=delivery-status;"));
        prop_assert_eq!(message::header::fields(header).count(), 8, "{}", header.escape_ascii());
        let parts = parts(&report);
        prop_assert_eq!(parts.len(), 3);
        prop_assert!(kind(&parts[0].0).starts_with("text/plain; charset="));
        prop_assert_eq!(kind(&parts[1].0), "message/delivery-status");
        let status = String::from_utf8(parts[1].1.clone()).unwrap();
        prop_assert!(status.is_ascii() && status.split("\r\n").all(|line| line.len() <= 998), "{}", status);
        let blocks: Vec<&str> = status.split("\r\n\r\n").collect();
        prop_assert_eq!(blocks.len(), 1 + fate.recipients.len(), "{}", status);
        prop_assert!(find(blocks[0].as_bytes(), "Reporting-MTA").is_some());
        prop_assert_eq!(find(blocks[0].as_bytes(), "Original-Envelope-Id").is_some(), fate.envelope_id.is_some());
        for (block, recipient) in blocks[1..].iter().zip(&fate.recipients) {
            check_block(block.as_bytes(), recipient)?;
        }
        let (whole, bytes) = returned(&fate);
        prop_assert_eq!(kind(&parts[2].0), if whole { "message/rfc822" } else { "text/rfc822-headers" });
        prop_assert!(parts[2].1 == bytes, "{:?} is not {:?}", parts[2].1.escape_ascii().to_string(), bytes.escape_ascii().to_string());
        let eight_bit = !report.is_ascii();
        prop_assert!(!eight_bit || !fate.to.is_ascii() || (whole && !bytes.is_ascii()));
        prop_assert!(report.split(|byte| *byte == b'\n').all(|line| line.len() <= 999));
    }
}

/// Every field is there once, and nothing that a peer said became a field.
fn check_block(block: &[u8], recipient: &Recipient) -> Result<(), TestCaseError> {
    let (class, subject, detail) = recipient.status;
    let value = |name: &str| find(block, name).map(|value| value.into_owned());
    let status = format!("{class}.{subject}.{detail}");
    prop_assert_eq!(value("Status"), Some(status));
    let action = match recipient.action {
        Action::Failed => "failed",
        Action::Delayed(_) => "delayed",
        Action::Relayed => "relayed",
    };
    prop_assert_eq!(value("Action"), Some(action.to_owned()));
    prop_assert_eq!(value("Will-Retry-Until").is_some(), action == "delayed");
    prop_assert_eq!(value("Remote-MTA").is_some(), recipient.remote.is_some());
    prop_assert_eq!(value("Original-Recipient").is_some(), recipient.original.is_some());
    let fields = message::header::fields(block).count();
    let optional = [action == "delayed", recipient.remote.is_some(), recipient.original.is_some()];
    prop_assert_eq!(fields, 5 + optional.iter().filter(|there| **there).count(), "{}", block.escape_ascii());
    if recipient.address.len() < 200 && recipient.address.chars().all(|letter| matches!(letter, '!'..='~')) {
        prop_assert_eq!(
            value("Final-Recipient"),
            Some(format!("rfc822; {}", recipient.address).trim().to_owned())
        );
    }
    Ok(())
}

#[test]
fn an_address_in_utf8_fits_into_seven_bits() {
    let recipient = |address: &str, original: Option<(&str, &str)>| Recipient {
        address: address.to_owned(),
        original: original.map(|(kind, address)| (kind.to_owned(), address.to_owned())),
        action: Action::Failed,
        status: (5, 1, 1),
        said: "550 5.1.1 nobody here".to_owned(),
        remote: Some("mx.test".to_owned()),
        attempts: 1,
    };
    let recipients = vec![
        recipient("b\u{e4}r+1@\u{fc}.test", Some(("utf-8", "old\\x{E4}@a.test"))),
        recipient("plain+1@a.test", Some(("rfc822", "old+1@a.test"))),
    ];
    let fate = Fate {
        to: "sender@client.test".to_owned(),
        reporter: "mx.test".to_owned(),
        envelope_id: Some("QQ+1".to_owned()),
        recipients,
        original: b"Subject: hello\r\n\r\nprivate\r\n".to_vec(),
        whole: false,
    };
    let report = String::from_utf8(fate.write()).unwrap();
    for line in [
        "To: <sender@client.test>",
        "Auto-Submitted: auto-replied",
        "Original-Envelope-Id: QQ+1",
        "Reporting-MTA: dns; mx.test",
        "Original-Recipient: utf-8; old\\x{E4}@a.test",
        "Final-Recipient: utf-8; b\\x{E4}r\\x{2B}1@\\x{FC}.test",
        "Original-Recipient: rfc822; old+1@a.test",
        "Final-Recipient: rfc822; plain+1@a.test",
        "Diagnostic-Code: smtp; 550 5.1.1 nobody here",
        "Subject: hello",
    ] {
        assert!(report.split("\r\n").any(|have| have == line), "{line:?} is missing in\n{report}");
    }
    assert!(report.is_ascii() && !report.contains("private"), "{report}");
}

/// Reads reports, each behind a line with its size, and says of each in hexadecimal: its type, those of its parts, the fields of the
/// second as lines of `name: value`, and the third part decoded.
const READER: &str = r#"
import sys, email, email.message
data = sys.stdin.buffer.read()
while data:
    size, data = data.split(b"\n", 1)
    report, data = email.message_from_bytes(data[:int(size)]), data[int(size):]
    parts = report.get_payload()
    kinds = [report.get_content_type(), report.get_param("report-type")] + [part.get_content_type() for part in parts]
    blocks = ["\n".join(f"{n}: {v.strip()}" for n, v in block.items()) for block in parts[1].get_payload() if block.items()]
    last = parts[2].get_payload()
    if isinstance(last, list):
        last = last[0].get_payload(decode=True)
    else:
        last = parts[2].get_payload(decode=True)
    defects = [str(d) for part in [report] + parts for d in part.defects]
    out = [" ".join(kinds), "\n\n".join(blocks), " ".join(defects)]
    print(" ".join("x" + text.encode("utf-8", "surrogateescape").hex() for text in out), "x" + last.hex())
"#;

fn unhex(word: &str) -> Vec<u8> {
    let digits = word.strip_prefix('x').unwrap().as_bytes();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

#[test]
fn python_reads_the_same() {
    let mut runner = TestRunner::deterministic();
    let strategy = fate();
    let mut fates: Vec<Fate> = (0..200)
        .map(|_| strategy.new_tree(&mut runner).unwrap().current())
        .filter(|fate| fate.original.len() < 9000)
        .collect();
    for fate in &mut fates {
        // Python reads a message inside a message by its own lights: it gets orderly ones.
        if fate.whole {
            fate.original = "Subject: whole\r\n\r\n.body \u{e4}\r\n\r\n--=_\r\nend\r\n".into();
        }
    }
    let python =
        Command::new("python3").args(["-c", READER]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let Ok(mut python) = python else {
        eprintln!("skipped: there is no python3 to read the reports with");
        return;
    };
    let mut input = python.stdin.take().unwrap();
    for fate in &fates {
        let report = fate.write();
        writeln!(input, "{}", report.len()).unwrap();
        input.write_all(&report).unwrap();
    }
    drop(input);
    let output = python.wait_with_output().unwrap();
    assert!(output.status.success());
    let lines = String::from_utf8(output.stdout).unwrap();
    assert_eq!(lines.lines().count(), fates.len());
    for (line, fate) in lines.lines().zip(&fates) {
        let words: Vec<Vec<u8>> = line.split(' ').map(unhex).collect();
        let text = |nth: usize| String::from_utf8_lossy(&words[nth]).into_owned();
        let third = if fate.whole { "message/rfc822" } else { "text/rfc822-headers" };
        let kinds = format!("multipart/report delivery-status text/plain message/delivery-status {third}");
        assert_eq!((text(0), text(2)), (kinds, String::new()));
        let ours = String::from_utf8(parts(&fate.write())[1].1.clone()).unwrap();
        let tidy =
            |status: &str| status.lines().map(str::trim).collect::<Vec<_>>().join("\n").trim().to_owned();
        assert_eq!(tidy(&text(1)), tidy(&ours));
        let (_, mut last) = returned(fate);
        if fate.whole {
            last = split(&last).1.to_vec();
        }
        assert!(words[3] == last, "{:?} is not {:?}", text(3), last.escape_ascii().to_string());
    }
}
