//! What a sender is told of the fate of a message: a delivery status notification (RFC 3464) in a report (RFC 6522).
//!
//! Owns the words, the fields and the MIME around them. Everything that comes from a peer is made one line of limited length, so that
//! no reply of a server begins a header here; what does not fit into seven bits is encoded, so that any next hop takes the report,
//! save for a whole message with eight bits that the sender asked to have back. Dates and id come in: the same fate makes the same
//! bytes. Cannot fail.

mod encode;

use encode::{is_plain_text, quoted_printable};

/// Bytes of header fields of the message that are given back; what is longer is cut at a line.
pub const HEADER_BYTES_MAX: usize = 32 << 10;
/// Bytes of a message that is given back whole where the sender asked for that; of a larger one the header is given back.
pub const WHOLE_BYTES_MAX: usize = 64 << 10;
/// Bytes of one text of a peer that are shown. With what stands before it a line stays below 998 (RFC 5321 4.5.3.1.6).
const TEXT_BYTES_MAX: usize = 800;
/// Bytes of the id that go into the boundary, which has at most 70 (RFC 2046 5.1.1).
const BOUNDARY_ID_BYTES_MAX: usize = 40;

/// What became of a message.
#[derive(Clone, Debug)]
pub struct Notification<'a> {
    /// The host that reports.
    pub reporter: &'a str,
    /// Who sent the message and is told.
    pub to: &'a str,
    /// Tells this notification from all others; part of `Message-ID` and of the boundary.
    pub id: &'a str,
    /// Now, in the form of RFC 5322 3.3.
    pub date: &'a str,
    /// When the message was accepted, in the same form.
    pub arrival_date: &'a str,
    /// The sender's own name for the transaction (ENVID), decoded.
    pub envelope_id: Option<&'a str>,
    /// Those that there is something to say of, at least one.
    pub recipients: &'a [Reported<'a>],
    /// The message, or as much of it as holds its header.
    pub original: &'a [u8],
    /// Whether `original` is the whole message and goes back whole. It does not where it is larger than [`WHOLE_BYTES_MAX`] or is
    /// not made of lines.
    pub whole: bool,
}

/// What became of the message for one recipient.
#[derive(Clone, Debug)]
pub struct Reported<'a> {
    /// The forward path.
    pub recipient: &'a str,
    /// The recipient as the sender first wrote it (ORCPT): the type of the address, and the address, decoded.
    pub original_recipient: Option<(&'a str, &'a str)>,
    /// What happened.
    pub action: Action<'a>,
    /// The enhanced status (RFC 3463), such as `5.1.1`.
    pub status: (u8, u16, u16),
    /// What the last server said, with its codes, or what is said in its stead.
    pub said: &'a str,
    /// The server that said it, where there was one.
    pub remote: Option<&'a str>,
    /// Attempts that were made.
    pub attempts: u32,
}

/// What happened (RFC 3464 2.3.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action<'a> {
    /// It was given up.
    Failed,
    /// It has not arrived yet, and is tried again until then.
    Delayed(&'a str),
    /// A server has it that sends no notifications.
    Relayed,
}

impl Action<'_> {
    fn name(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Delayed(_) => "delayed",
            Self::Relayed => "relayed",
        }
    }

    /// For people; a list of recipients follows.
    fn words(self) -> String {
        match self {
            Self::Failed => {
                "It could not be delivered to these recipients, and is not tried again:".to_owned()
            }
            Self::Delayed(until) => format!(
                "It has not reached these recipients yet. It is tried again until {}; nothing needs to be done:",
                ascii_line(until)
            ),
            Self::Relayed => {
                "It was handed to a server that does not say what becomes of it, for these recipients:"
                    .to_owned()
            }
        }
    }
}

/// A part of the report, without its boundary.
struct Part {
    kind: &'static str,
    encoding: &'static str,
    bytes: Vec<u8>,
}

impl Notification<'_> {
    /// The whole message (RFC 3461 6.2, RFC 3464 2.1), with CRLF line ends. It has bytes above 127 only where [`Notification::to`] has them, or a message goes
    /// back whole that has.
    pub fn write(&self) -> Vec<u8> {
        let parts = [self.words(), self.fields(), self.returned()];
        let boundary = self.boundary(&parts);
        let mut out = self.header(&boundary).into_bytes();
        for Part { kind, encoding, bytes } in &parts {
            let head = format!(
                "--{boundary}\r\nContent-Type: {kind}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n"
            );
            out.extend_from_slice(head.as_bytes());
            out.extend_from_slice(bytes);
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
        out
    }

    fn header(&self, boundary: &str) -> String {
        let subject = if self.has(|action| action == Action::Failed) {
            "Your message was not delivered"
        } else if self.has(|action| matches!(action, Action::Delayed(_))) {
            "Your message is delayed"
        } else {
            "Your message was handed on"
        };
        let (reporter, id) = (ascii_line(self.reporter), ascii_line(self.id));
        // RFC 3834 5: nobody's holiday answers what is marked so.
        format!(
            "From: Mail Delivery Service <MAILER-DAEMON@{reporter}>\r\nTo: <{}>\r\nSubject: {subject}\r\nDate: {}\r\n\
             Message-ID: <{id}@{reporter}>\r\nAuto-Submitted: auto-replied\r\nMIME-Version: 1.0\r\n\
             Content-Type: multipart/report; report-type=delivery-status;\r\n\tboundary=\"{boundary}\"\r\n\r\n",
            line(self.to),
            ascii_line(self.date)
        )
    }

    fn has(&self, is_it: impl Fn(Action<'_>) -> bool) -> bool {
        self.recipients.iter().any(|reported| is_it(reported.action))
    }

    /// A line that is nowhere in the parts (RFC 2046 5.1.1).
    fn boundary(&self, parts: &[Part]) -> String {
        let id = self.id.chars().filter(char::is_ascii_alphanumeric).take(BOUNDARY_ID_BYTES_MAX);
        let id: String = id.collect();
        let is_free = |boundary: &String| {
            parts.iter().all(|part| memchr::memmem::find(&part.bytes, boundary.as_bytes()).is_none())
        };
        (0_u32..).map(|nth| format!("=_{id}.{nth}")).find(is_free).unwrap_or_default()
    }

    /// The first part, for people.
    fn words(&self) -> Part {
        let mut words = format!(
            "A report of the mail server {} on your message of {}.\r\n",
            ascii_line(self.reporter),
            ascii_line(self.arrival_date)
        );
        let mut last = None;
        for Reported { recipient, action, said, remote, attempts, .. } in self.recipients {
            if last.replace(*action) != Some(*action) {
                words.push_str(&format!("\r\n{}\r\n", action.words()));
            }
            let attempts =
                if *attempts == 1 { "1 attempt".to_owned() } else { format!("{attempts} attempts") };
            let whose =
                remote.map_or_else(String::new, |remote| format!(", answer of {}", ascii_line(remote)));
            words.push_str(&format!("\r\n<{}>\r\n{attempts}{whose}:\r\n{}\r\n", line(recipient), line(said)));
        }
        let bytes = words.into_bytes();
        if is_plain_text(&bytes) {
            return Part { kind: "text/plain; charset=us-ascii", encoding: "7bit", bytes };
        }
        Part {
            kind: "text/plain; charset=utf-8",
            encoding: "quoted-printable",
            bytes: quoted_printable(&bytes),
        }
    }

    /// The second part, for programs.
    fn fields(&self) -> Part {
        // RFC 3464 2.2: of the message.
        let mut fields = String::new();
        if let Some(envelope_id) = self.envelope_id {
            fields.push_str(&format!("Original-Envelope-Id: {}\r\n", ascii_line(envelope_id)));
        }
        fields.push_str(&format!(
            "Reporting-MTA: dns; {}\r\nArrival-Date: {}\r\n",
            ascii_line(self.reporter),
            ascii_line(self.arrival_date)
        ));
        for reported in self.recipients {
            fields.push_str("\r\n");
            reported.fields(self.date, &mut fields);
        }
        Part { kind: "message/delivery-status", encoding: "7bit", bytes: fields.into_bytes() }
    }

    /// The third part: the message, or its header (RFC 6522 3).
    fn returned(&self) -> Part {
        if self.whole
            && self.original.len() <= WHOLE_BYTES_MAX
            && let Some(encoding) = encode::identity_encoding(self.original)
        {
            return Part { kind: "message/rfc822", encoding, bytes: self.original.to_vec() };
        }
        let (header, _) = crate::header::split(self.original);
        let header = match header.get(..HEADER_BYTES_MAX) {
            // The last line of what fits may be cut in two.
            Some(fits) => &fits[..memchr::memrchr(b'\n', fits).map_or(0, |at| at + 1)],
            None => header,
        };
        let kind = "text/rfc822-headers";
        if is_plain_text(header) {
            return Part { kind, encoding: "7bit", bytes: header.to_vec() };
        }
        // RFC 6522 4: fields that are not ASCII are encoded.
        Part { kind, encoding: "quoted-printable", bytes: quoted_printable(header) }
    }
}

impl Reported<'_> {
    /// RFC 3464 2.3: of one recipient.
    fn fields(&self, date: &str, fields: &mut String) {
        if let Some((kind, address)) = self.original_recipient {
            fields.push_str(&format!("Original-Recipient: {}\r\n", typed_address(kind, address)));
        }
        let (class, subject, detail) = self.status;
        fields.push_str(&format!(
            "Final-Recipient: {}\r\nAction: {}\r\nStatus: {class}.{subject}.{detail}\r\n",
            typed_address("rfc822", self.recipient),
            self.action.name()
        ));
        if let Some(remote) = self.remote {
            fields.push_str(&format!("Remote-MTA: dns; {}\r\n", ascii_line(remote)));
        }
        // RFC 3464 2.3.6: what an SMTP server said. What is said in its stead has a type of ours.
        let kind = if self.remote.is_some() { "smtp" } else { "X-Kumod" };
        fields.push_str(&format!(
            "Diagnostic-Code: {kind}; {}\r\nLast-Attempt-Date: {}\r\n",
            ascii_line(self.said),
            ascii_line(date)
        ));
        if let Action::Delayed(until) = self.action {
            fields.push_str(&format!("Will-Retry-Until: {}\r\n", ascii_line(until)));
        }
    }
}

/// An address with its type. One that is not ASCII has the type utf-8, and an escape in place of each such character, so that
/// a report of seven bits can hold it (RFC 6533 3).
fn typed_address(kind: &str, address: &str) -> String {
    let is_printable = |letter: char| matches!(letter, ' '..='~');
    if address.chars().all(is_printable) {
        return format!("{}; {}", ascii_line(kind), ascii_line(address));
    }
    // Of an address that has the type already, what is ASCII is as it must be.
    let was_escaped = kind.eq_ignore_ascii_case("utf-8");
    let mut text = "utf-8; ".to_owned();
    for letter in address.chars() {
        let stands = matches!(letter, '!'..='~') && (was_escaped || !matches!(letter, '\\' | '+' | '='));
        if stands {
            text.push(letter);
        } else {
            text.push_str(&format!("\\x{{{:X}}}", u32::from(letter)));
        }
        if text.len() > TEXT_BYTES_MAX {
            break;
        }
    }
    text
}

/// One line: no control characters, and not too long.
fn line(text: &str) -> String {
    let end = text.floor_char_boundary(TEXT_BYTES_MAX);
    let line: String =
        text[..end].chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect();
    line.trim().to_owned()
}

/// The same in ASCII: what is not is a question mark.
fn ascii_line(text: &str) -> String {
    line(text).chars().map(|letter| if letter.is_ascii() { letter } else { '?' }).collect()
}
