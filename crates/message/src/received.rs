//! The `Received` field that every relay puts in front of a message.
//!
//! Owns the layout of RFC 5321 4.4. Names come from the peer, so every byte that could end the line, open a
//! comment or leave ASCII's printable range is written as `?`: a hostile HELO cannot forge a header.

use std::io::Write;
use std::net::IpAddr;

/// What one hop knows about the message it took.
#[derive(Clone, Copy, Debug)]
pub struct Received<'a> {
    /// What the peer called itself in HELO or EHLO.
    pub helo: &'a str,
    /// The address it came from.
    pub peer: IpAddr,
    /// The name of this host.
    pub by: &'a str,
    /// `SMTP`, `ESMTP`, `ESMTPS`, ... (RFC 3848).
    pub protocol: &'a str,
    /// The id under which this host logs the message.
    pub id: &'a str,
    /// The recipient, only where there is exactly one (RFC 5321 7.2: several would reveal blind copies).
    pub recipient: Option<&'a str>,
    /// The date as [`crate::date::DateCache`] formats it.
    pub date: &'a str,
}

impl Received<'_> {
    /// Appends the field with its last CRLF, folded to one clause a line.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"Received: from ");
        write_token(self.helo, out);
        let form = if self.peer.is_ipv6() { " ([IPv6:" } else { " ([" };
        out.extend_from_slice(form.as_bytes());
        write!(out, "{}", self.peer).expect("a Vec takes every write");
        out.extend_from_slice(b"])\r\n\tby ");
        write_token(self.by, out);
        out.extend_from_slice(b" with ");
        write_token(self.protocol, out);
        out.extend_from_slice(b" id ");
        write_token(self.id, out);
        if let Some(recipient) = self.recipient {
            out.extend_from_slice(b"\r\n\tfor <");
            write_clean(recipient, |character| character != '<' && character != '>', out);
            out.push(b'>');
        }
        out.extend_from_slice(b";\r\n\t");
        write_clean(self.date, |_| true, out);
        out.extend_from_slice(b"\r\n");
    }
}

/// A name in a clause: no blanks, no comments, no semicolon, which would end the clauses.
fn write_token(text: &str, out: &mut Vec<u8>) {
    write_clean(text, |character| !matches!(character, ' ' | '(' | ')' | ';' | '\\' | '"'), out);
}

fn write_clean(text: &str, allowed: impl Fn(char) -> bool, out: &mut Vec<u8>) {
    for character in text.chars() {
        // RFC 6531 3.7.3: an internationalised address may stand in UTF-8; control characters may not.
        let good = !character.is_control() && allowed(character);
        out.extend_from_slice(if good { character } else { '?' }.encode_utf8(&mut [0; 4]).as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(received: &Received<'_>) -> String {
        let mut out = Vec::new();
        received.write(&mut out);
        String::from_utf8(out).unwrap()
    }

    fn example<'a>(helo: &'a str, recipient: Option<&'a str>) -> Received<'a> {
        Received {
            helo,
            peer: "192.0.2.1".parse().unwrap(),
            by: "mx.example",
            protocol: "ESMTP",
            id: "0123abcd",
            recipient,
            date: "Thu, 1 Jan 1970 00:00:00 +0000",
        }
    }

    #[test]
    fn follows_rfc_5321() {
        assert_eq!(
            written(&example("client.example", Some("a@b.example"))),
            "Received: from client.example ([192.0.2.1])\r\n\tby mx.example with ESMTP id 0123abcd\r\n\
             \tfor <a@b.example>;\r\n\tThu, 1 Jan 1970 00:00:00 +0000\r\n"
        );
    }

    #[test]
    fn several_recipients_are_not_revealed_and_ipv6_is_tagged() {
        let text = written(&Received { peer: "2001:db8::1".parse().unwrap(), ..example("c", None) });
        assert!(text.contains("([IPv6:2001:db8::1])"));
        assert!(!text.contains("for <"));
    }

    proptest! {
        #[test]
        fn no_name_can_forge_a_header(helo in any::<String>(), recipient in any::<String>()) {
            let text = written(&example(&helo, Some(&recipient)));
            prop_assert_eq!(crate::header::fields(text.as_bytes()).count(), 1);
            prop_assert_eq!(text.matches('\n').count(), 4);
            prop_assert_eq!(text.matches('\r').count(), 4);
        }
    }
}
