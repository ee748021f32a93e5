//! Everything from which messages are made, shared by all connections; and the message that one connection
//! fills in again and again.
//!
//! Composing looks up a body, writes the recipient and patches the header. It allocates only until the
//! buffers of the [`Message`] have reached the size of its largest.

use message::header;
use message::traffic::{RunId, TrafficHeader};

use super::plan::{ContentError, ContentPlan, check_header};
use super::pool::Pool;
use super::recipients::{Addresses, Group, RecipientPlan, Recipients};
use super::template::{Common, Particulars, Template};

/// What a run adds to its plan of content.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    pub(crate) run_id: RunId,
    pub(crate) seed: u64,
    /// The host in Message-IDs.
    pub(crate) host: String,
    /// As RFC 5322 3.3 writes it.
    pub(crate) date: String,
}

/// The bodies, recipients and header of all messages of a run.
#[derive(Clone, Debug)]
pub(crate) struct Catalogue {
    frame: Frame,
    pool: Pool,
    recipients: Recipients,
    groups: [Group; 2],
    sender: String,
    template: Template,
}

/// The message that a connection is sending, filled in by [`Catalogue::compose`].
#[derive(Clone, Debug)]
pub(crate) struct Message {
    template: Template,
    sender: String,
    recipients: Addresses,
    body: usize,
    bytes: u64,
    eight_bit: bool,
}

impl Catalogue {
    /// Renders everything. Takes a moment and as much memory as the plan allows.
    pub(crate) fn new(
        content: &ContentPlan,
        recipients: &RecipientPlan,
        frame: Frame,
    ) -> Result<Self, ContentError> {
        let extra_headers = header_lines(&content.headers)?;
        let subject = format!("Subject: Load test {}", frame.run_id);
        let given = |line: &str| {
            let name = line.split(':').next().unwrap_or_default();
            header::find(&extra_headers, name).is_some()
        };
        let defaults: Vec<String> =
            [subject, "MIME-Version: 1.0".to_owned()].into_iter().filter(|line| !given(line)).collect();
        let defaults = header_lines(&defaults)?;
        let pool = Pool::new(content, frame.seed, &defaults)?;
        let common = Common {
            sender: &recipients.sender,
            host: &frame.host,
            date: &frame.date,
            extra_headers: &extra_headers,
            tenants: &recipients.tenants,
            campaigns: &recipients.campaigns,
        };
        let nothing = TrafficHeader { run: frame.run_id, conn: 0, seq: 0, sent_ns: 0, crc: 0 };
        Ok(Self {
            template: Template::new(&common, &nothing),
            sender: recipients.sender.clone(),
            recipients: Recipients::new(recipients)?,
            groups: [recipients.tenants.clone(), recipients.campaigns.clone()],
            pool,
            frame,
        })
    }

    /// An empty message, for one connection.
    pub(crate) fn message(&self) -> Message {
        Message {
            template: self.template.clone(),
            sender: self.sender.clone(),
            recipients: Addresses::default(),
            body: 0,
            bytes: 0,
            eight_bit: false,
        }
    }

    /// Makes the message of that number. `sent_ns` is when it was meant to be sent.
    pub(crate) fn compose(&self, message: &mut Message, sequence: u64, connection: u64, sent_ns: u64) {
        let (Frame { run_id: run, seed, .. }, [tenants, campaigns]) = (&self.frame, &self.groups);
        let mut random = fastrand::Rng::with_seed(seed ^ sequence.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        message.body = self.pool.choose(random.u64(..));
        self.recipients.draw(&mut random, &mut message.recipients);
        let crc = self.pool.crc(message.body);
        let traffic = TrafficHeader { run: *run, conn: connection, seq: sequence, sent_ns, crc };
        message.template.render(&Particulars {
            traffic: &traffic,
            groups: [tenants.draw(&mut random), campaigns.draw(&mut random)],
            recipient: &message.recipients.as_slice()[0],
            fields: self.pool.fields(message.body),
        });
        message.bytes = (message.header().len() + self.pool.verbatim(message.body).len()) as u64;
        message.eight_bit = self.pool.is_eight_bit(message.body);
    }

    pub(super) fn pool(&self) -> &Pool {
        &self.pool
    }

    /// The mean size of the bodies of many messages, in bytes.
    pub(crate) fn body_bytes_mean(&self) -> f64 {
        self.pool.mean_bytes()
    }
}

impl Message {
    /// Of the envelope.
    pub(crate) fn sender(&self) -> &str {
        &self.sender
    }

    /// Of the envelope; at least one, each once. The first stands in To, the others are blind copies.
    pub(crate) fn recipients(&self) -> &[String] {
        self.recipients.as_slice()
    }

    /// All header fields and the empty line. No line starts with a dot.
    pub(crate) fn header(&self) -> &[u8] {
        self.template.header()
    }

    /// What follows the header in BDAT.
    pub(crate) fn verbatim<'c>(&self, catalogue: &'c Catalogue) -> &'c [u8] {
        catalogue.pool.verbatim(self.body)
    }

    /// What follows the header in DATA, without the final dot; ends in CRLF or is empty.
    pub(crate) fn dotted<'c>(&self, catalogue: &'c Catalogue) -> &'c [u8] {
        catalogue.pool.dotted(self.body)
    }

    /// The number of the body.
    pub(super) fn body(&self) -> usize {
        self.body
    }

    /// Bytes of header and body, without doubled dots.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether there are bytes over 127.
    pub(crate) fn eight_bit(&self) -> bool {
        self.eight_bit
    }
}

fn header_lines(headers: &[String]) -> Result<Vec<u8>, ContentError> {
    let mut lines = Vec::new();
    for header in headers {
        check_header(header)?;
        lines.extend_from_slice(header.as_bytes());
        lines.extend_from_slice(b"\r\n");
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use message::header::find;
    use message::traffic::{body_crc, find_in};

    use super::*;

    fn catalogue(content: &ContentPlan, seed: u64) -> Catalogue {
        let frame = Frame {
            run_id: RunId::new("r").unwrap(),
            seed,
            host: "gen.localhost".to_owned(),
            date: "Thu, 1 Jan 1970 00:00:00 +0000".to_owned(),
        };
        Catalogue::new(content, &RecipientPlan::default(), frame).unwrap()
    }

    #[test]
    fn a_message_is_whole_and_depends_on_seed_and_number_only() {
        let sent = |seed, connection, order: &[u64]| {
            let catalogue = catalogue(&ContentPlan::fixed(100), seed);
            let mut message = catalogue.message();
            let mut all: Vec<_> = order
                .iter()
                .map(|sequence| {
                    catalogue.compose(&mut message, *sequence, connection, 5);
                    let whole = [message.header(), message.verbatim(&catalogue)].concat();
                    assert_eq!(message.bytes(), whole.len() as u64);
                    let (traffic, body) = find_in(&whole).unwrap();
                    assert_eq!((traffic.conn, traffic.seq, traffic.sent_ns), (connection, *sequence, 5));
                    assert_eq!(traffic.crc, body_crc(&whole[body..]));
                    (*sequence, message.recipients().to_vec(), whole[body..].to_vec())
                })
                .collect();
            all.sort();
            all
        };
        assert_eq!(sent(1, 1, &[0, 1, 2]), sent(1, 9, &[2, 0, 1]));
        assert_ne!(sent(1, 1, &[0, 1, 2]), sent(2, 1, &[0, 1, 2]));
    }

    #[test]
    fn fields_stand_once_whoever_gives_them() {
        let file = ContentPlan::file(b"Subject: of the file\nX-A: b\n\nbody\n".to_vec());
        let given = ContentPlan { headers: vec!["subject: given".to_owned()], ..ContentPlan::fixed(10) };
        for (content, subject) in
            [(ContentPlan::fixed(10), "Load test r"), (file, "of the file"), (given, "given")]
        {
            let catalogue = catalogue(&content, 1);
            let mut message = catalogue.message();
            catalogue.compose(&mut message, 0, 0, 0);
            assert_eq!(find(message.header(), "Subject").unwrap(), subject);
            for name in ["From", "To", "Date", "Message-ID", "Subject", "MIME-Version"] {
                let count = header::fields(message.header()).filter(|field| field.is(name)).count();
                assert_eq!(count, 1, "{name}");
            }
        }
    }

    #[test]
    fn a_message_keeps_its_buffers() {
        let catalogue = catalogue(&ContentPlan::fixed(100), 1);
        let mut message = catalogue.message();
        let places = |message: &Message| (message.header().as_ptr(), message.recipients()[0].as_ptr());
        catalogue.compose(&mut message, 0, 0, 0);
        // Domains differ in length; the longest is among the first.
        (0..20).for_each(|sequence| catalogue.compose(&mut message, sequence, 0, 0));
        let before = places(&message);
        for sequence in 0..1_000 {
            catalogue.compose(&mut message, sequence, 0, 0);
            assert_eq!(places(&message), before);
        }
    }

    #[test]
    fn bad_headers_are_refused() {
        let content = ContentPlan { headers: vec!["nonsense".to_owned()], ..ContentPlan::fixed(10) };
        let frame = catalogue(&ContentPlan::fixed(10), 1).frame;
        let refused = Catalogue::new(&content, &RecipientPlan::default(), frame).unwrap_err();
        assert_eq!(refused, ContentError::Header("nonsense".to_owned()));
    }
}
