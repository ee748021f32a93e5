//! The header of one message, rendered once per connection and patched for each message.
//!
//! What changes stands at fixed places: the numbers of `X-Traffic-Gen` and of the Message-ID have a fixed
//! width, and what differs in length comes last, so that it only moves the end.

use std::ops::Range;

use message::traffic::{TrafficHeader, write_decimal};

use super::recipients::Group;

/// Digits of the sequence number in the Message-ID.
const SEQUENCE_DIGITS: usize = 12;

/// What differs from message to message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Particulars<'a> {
    pub(super) traffic: &'a TrafficHeader,
    /// The numbers of tenant and campaign, where the run has them.
    pub(super) groups: [u64; 2],
    /// The recipient that is named in the header.
    pub(super) recipient: &'a str,
    /// Whole lines with CRLF.
    pub(super) fields: &'a [u8],
}

/// What all messages of a run share.
#[derive(Clone, Debug)]
pub(super) struct Common<'a> {
    pub(super) sender: &'a str,
    pub(super) host: &'a str,
    pub(super) date: &'a str,
    /// Whole lines with CRLF.
    pub(super) extra_headers: &'a [u8],
    pub(super) tenants: &'a Group,
    pub(super) campaigns: &'a Group,
}

/// The header of the message that a connection is sending.
#[derive(Clone, Debug)]
pub(super) struct Template {
    header: Vec<u8>,
    /// Where the numbers of sequence, tenant and campaign stand; empty where there is none.
    sequence_at: Range<usize>,
    groups_at: [Range<usize>; 2],
    recipient_at: usize,
}

impl Template {
    pub(super) fn new(common: &Common<'_>, traffic: &TrafficHeader) -> Self {
        let mut header = Vec::with_capacity(640 + common.extra_headers.len());
        traffic.write(&mut header);
        let run = traffic.run;
        header.extend_from_slice(format!("Message-ID: <{run}.").as_bytes());
        let sequence_at = header.len()..header.len() + SEQUENCE_DIGITS;
        let Common { sender, host, date, extra_headers, tenants, campaigns } = common;
        let rest = format!("{:0SEQUENCE_DIGITS$}@{host}>\r\nDate: {date}\r\nFrom: <{sender}>\r\n", 0);
        header.extend_from_slice(rest.as_bytes());
        header.extend_from_slice(extra_headers);
        let groups_at = [(tenants, "tenant"), (campaigns, "campaign")]
            .map(|(group, name)| push_group(group, name, &mut header));
        header.extend_from_slice(b"To: <");
        let recipient_at = header.len();
        Self { header, sequence_at, groups_at, recipient_at }
    }

    /// Makes the header for one message, with the empty line that ends it.
    pub(super) fn render(&mut self, particulars: &Particulars<'_>) {
        let Particulars { traffic, groups, recipient, fields } = particulars;
        self.header.truncate(self.recipient_at);
        self.header.extend_from_slice(recipient.as_bytes());
        self.header.extend_from_slice(b">\r\n");
        self.header.extend_from_slice(fields);
        self.header.extend_from_slice(b"\r\n");
        // The line was made for the same run, so it always has the room.
        let _ = traffic.patch(&mut self.header);
        write_decimal(traffic.seq, &mut self.header[self.sequence_at.clone()]);
        for (number, at) in groups.iter().zip(&self.groups_at) {
            // A run without groups has nowhere to write them.
            if !at.is_empty() {
                write_decimal(*number, &mut self.header[at.clone()]);
            }
        }
    }

    /// What [`Template::render`] made last.
    pub(super) fn header(&self) -> &[u8] {
        &self.header
    }
}

/// Appends the field of a tenant or campaign, and says where its number stands.
fn push_group(group: &Group, name: &str, header: &mut Vec<u8>) -> Range<usize> {
    if group.count == 0 {
        return 0..0;
    }
    header.extend_from_slice(format!("{}: {name}-", group.header).as_bytes());
    let at = header.len()..header.len() + group.digits();
    header.resize(at.end, b'0');
    header.extend_from_slice(b"\r\n");
    at
}

#[cfg(test)]
mod tests {
    use message::header::find;
    use message::traffic::{RunId, find_in};

    use super::*;

    #[test]
    fn each_message_gets_its_own_numbers_and_address() {
        let group = |count, header: &str| Group { count, header: header.to_owned() };
        let common = Common {
            sender: "s@x",
            host: "gen.localhost",
            date: "Thu, 1 Jan 1970 00:00:00 +0000",
            extra_headers: b"X-A: b\r\n",
            tenants: &group(1_000, "X-Tenant"),
            campaigns: &group(0, "X-Campaign"),
        };
        let traffic = TrafficHeader { run: RunId::new("r1").unwrap(), conn: 4, seq: 0, sent_ns: 0, crc: 0 };
        let mut template = Template::new(&common, &traffic);
        for (seq, recipient, fields) in
            [(1, "a-long-one@example.test", &b""[..]), (20, "b@c", b"Subject: s\r\n"), (3, "d@e", b"")]
        {
            let traffic = TrafficHeader { seq, sent_ns: seq * 7, crc: 9, ..traffic };
            template.render(&Particulars { traffic: &traffic, groups: [seq, 5], recipient, fields });
            let header = template.header();
            assert_eq!(find_in(header), Some((traffic, header.len())));
            assert_eq!(find(header, "to").unwrap(), format!("<{recipient}>"));
            assert_eq!(find(header, "message-id").unwrap(), format!("<r1.{seq:012}@gen.localhost>"));
            assert_eq!(find(header, "x-a").unwrap(), "b");
            assert_eq!(find(header, "x-tenant").unwrap(), format!("tenant-{seq:03}"));
            assert_eq!(find(header, "x-campaign"), None);
            assert_eq!(find(header, "subject").is_some(), !fields.is_empty());
        }
    }
}
