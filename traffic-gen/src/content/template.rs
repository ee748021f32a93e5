//! The header of one message, rendered once per connection and patched for each message.
//!
//! What changes stands at fixed places: the numbers of `X-Traffic-Gen` and of the Message-ID have a fixed
//! width, and what differs in length comes last, so that it only moves the end.

use message::traffic::{TrafficHeader, write_decimal};

/// Digits of the sequence number in the Message-ID.
const SEQUENCE_DIGITS: usize = 12;

/// What all messages of a run share.
#[derive(Clone, Debug)]
pub(super) struct Common<'a> {
    pub(super) sender: &'a str,
    pub(super) host: &'a str,
    pub(super) date: &'a str,
    /// Whole lines with CRLF.
    pub(super) extra_headers: &'a [u8],
}

/// The header of the message that a connection is sending.
#[derive(Clone, Debug)]
pub(super) struct Template {
    header: Vec<u8>,
    sequence_at: usize,
    recipient_at: usize,
}

impl Template {
    pub(super) fn new(common: &Common<'_>, traffic: &TrafficHeader) -> Self {
        let mut header = Vec::with_capacity(640 + common.extra_headers.len());
        traffic.write(&mut header);
        let run = traffic.run;
        header.extend_from_slice(format!("Message-ID: <{run}.").as_bytes());
        let sequence_at = header.len();
        let Common { sender, host, date, extra_headers } = common;
        let rest = format!("{:0SEQUENCE_DIGITS$}@{host}>\r\nDate: {date}\r\nFrom: <{sender}>\r\n", 0);
        header.extend_from_slice(rest.as_bytes());
        header.extend_from_slice(extra_headers);
        header.extend_from_slice(b"To: <");
        let recipient_at = header.len();
        Self { header, sequence_at, recipient_at }
    }

    /// Makes the header for one message, with the empty line that ends it. `fields` are whole lines.
    pub(super) fn render(&mut self, traffic: &TrafficHeader, recipients: &[String], fields: &[u8]) {
        self.header.truncate(self.recipient_at);
        for (number, recipient) in recipients.iter().enumerate() {
            if number > 0 {
                self.header.extend_from_slice(b">,\r\n <");
            }
            self.header.extend_from_slice(recipient.as_bytes());
        }
        self.header.extend_from_slice(b">\r\n");
        self.header.extend_from_slice(fields);
        self.header.extend_from_slice(b"\r\n");
        // The line was made for the same run, so it always has the room.
        let _ = traffic.patch(&mut self.header);
        write_decimal(traffic.seq, &mut self.header[self.sequence_at..self.sequence_at + SEQUENCE_DIGITS]);
    }

    /// What [`Template::render`] made last.
    pub(super) fn header(&self) -> &[u8] {
        &self.header
    }
}

#[cfg(test)]
mod tests {
    use message::header::find;
    use message::traffic::{RunId, find_in};

    use super::*;

    #[test]
    fn each_message_gets_its_own_numbers_and_addresses() {
        let common = Common {
            sender: "s@x",
            host: "gen.localhost",
            date: "Thu, 1 Jan 1970 00:00:00 +0000",
            extra_headers: b"X-A: b\r\n",
        };
        let traffic = TrafficHeader { run: RunId::new("r1").unwrap(), conn: 4, seq: 0, sent_ns: 0, crc: 0 };
        let mut template = Template::new(&common, &traffic);
        for (seq, recipients, fields) in [
            (1, &["a-long-one@example.test".to_owned()][..], &b""[..]),
            (20, &["b@c".to_owned(), "d@e".to_owned()], b"Subject: s\r\n"),
            (3, &["f@g".to_owned()], b""),
        ] {
            let traffic = TrafficHeader { seq, sent_ns: seq * 7, crc: 9, ..traffic };
            template.render(&traffic, recipients, fields);
            let header = template.header();
            assert_eq!(find_in(header), Some((traffic, header.len())));
            assert_eq!(find(header, "to").unwrap(), format!("<{}>", recipients.join(">, <")));
            assert_eq!(find(header, "message-id").unwrap(), format!("<r1.{seq:012}@gen.localhost>"));
            assert_eq!(find(header, "x-a").unwrap(), "b");
            assert_eq!(find(header, "subject").is_some(), !fields.is_empty());
        }
    }
}
