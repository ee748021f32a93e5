//! What a message needs of a server beyond seven bits.
//!
//! A message that asked for SMTPUTF8 without need of it goes plainly where the server lacks that: nothing of it is changed by that. What is
//! in doubt needs it still, and bounces (RFC 6531 3.2); nothing is ever converted.

use smtp::extension::Capabilities;

use crate::envelope::Envelope;

/// What is asked for in MAIL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Needs {
    /// BODY=8BITMIME.
    pub(super) eight_bit: bool,
    /// SMTPUTF8.
    pub(super) smtputf8: bool,
}

/// What to ask of a server with these capabilities. With `ignore_checks` nothing is asked for that it lacks, and the message goes as it is.
pub(super) fn of(
    envelope: &Envelope,
    body: &[u8],
    recipients: &[&str],
    capabilities: &Capabilities,
    ignore_checks: bool,
) -> Needs {
    let Envelope { eight_bit, smtputf8, .. } = *envelope;
    if ignore_checks {
        return Needs {
            eight_bit: eight_bit && capabilities.eight_bit_mime,
            smtputf8: smtputf8 && capabilities.smtputf8,
        };
    }
    let smtputf8 = smtputf8 && (capabilities.smtputf8 || has_utf8(envelope, body, recipients));
    Needs { eight_bit, smtputf8 }
}

/// Whether an address or a header field may be in UTF-8.
fn has_utf8(envelope: &Envelope, body: &[u8], recipients: &[&str]) -> bool {
    let addresses = || std::iter::once(envelope.sender.as_str()).chain(recipients.iter().copied());
    if !envelope.header_prefix.is_ascii() || !addresses().all(str::is_ascii) {
        return true;
    }
    envelope.eight_bit && !has_plain_header(body)
}

/// Whether the header of a message is ASCII, and no other can be in its body.
fn has_plain_header(message: &[u8]) -> bool {
    let end = memchr::memmem::find(message, b"\r\n\r\n").unwrap_or(message.len());
    let header = &message[..end];
    // The media types whose bodies have headers (RFC 2046 5); wherever the words stand, they are reason enough for doubt.
    let lower = header.to_ascii_lowercase();
    let has = |word: &[u8]| memchr::memmem::find(&lower, word).is_some();
    header.is_ascii() && !has(b"multipart/") && !has(b"message/")
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::clock::UnixMs;
    use crate::envelope::{IdSource, Meta, NodeId};

    fn envelope(sender: &str, eight_bit: bool, smtputf8: bool) -> Envelope {
        let ids = IdSource::new(NodeId(7), 1);
        Envelope {
            id: ids.next(UnixMs(1)),
            body: ids.next(UnixMs(1)),
            body_bytes: 1,
            sender: sender.to_owned(),
            recipients: vec!["b@b.example".to_owned()],
            queue: "b.example".to_owned(),
            created: UnixMs(1),
            received_from: None,
            eight_bit,
            smtputf8,
            header_prefix: Bytes::from_static(b"Received: x\r\n"),
            requests: None,
            scheduling: None,
            meta: Meta::new(),
        }
    }

    #[test]
    fn smtputf8_is_asked_for_only_where_there_is_need_or_the_server_has_it() {
        let plain: &[u8] = b"Subject: x\r\n\r\nplain\r\n";
        let text = "Subject: x\r\n\r\nt\u{e4}xt\r\n".as_bytes();
        let header = "Subject: \u{e4}\r\n\r\n".as_bytes();
        let parts = "Content-Type: Multipart/mixed; boundary=x\r\n\r\n--x\r\nContent-Description: \u{e4}\r\n"
            .as_bytes();
        for (sender, recipient, body, needed) in [
            ("a@a", "b@b", plain, false),
            ("a@a", "b@b", text, false),
            ("a@a", "b@b", header, true),
            ("a@a", "b@b", parts, true),
            ("\u{e4}@a", "b@b", plain, true),
            ("a@a", "\u{e4}@b", plain, true),
        ] {
            let envelope = envelope(sender, !body.is_ascii(), true);
            let needs =
                |capabilities: &Capabilities, ignore| of(&envelope, body, &[recipient], capabilities, ignore);
            let bare = Capabilities::default();
            let eight_bit = !body.is_ascii();
            assert_eq!(needs(&bare, false), Needs { eight_bit, smtputf8: needed }, "{}", body.escape_ascii());
            assert_eq!(needs(&bare, true), Needs { eight_bit: false, smtputf8: false });
            let able = Capabilities { smtputf8: true, eight_bit_mime: true, ..bare };
            assert_eq!(needs(&able, false), Needs { eight_bit, smtputf8: true });
            assert_eq!(needs(&able, true), needs(&able, false));
        }
        assert_eq!(
            of(&envelope("a@a", true, false), text, &["b@b"], &Capabilities::default(), false),
            Needs { eight_bit: true, smtputf8: false }
        );
    }
}
