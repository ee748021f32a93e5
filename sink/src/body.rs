//! One message body on its way to nowhere: header found, sum taken, bytes counted, nothing kept.
//!
//! The header is parsed where it arrives when it arrives in one piece; otherwise its pieces are held, up to
//! a limit, in a buffer that the connection reuses. A header beyond the limit, or one without
//! `X-Traffic-Gen`, makes a message that only counts as accepted.

use message::header::blank_line;
use message::traffic::{TrafficHeader, body_crc_append, find_in};

/// How much of a header that comes in pieces is held, in bytes.
pub(crate) const HEADER_BYTES_MAX: usize = 64 << 10;

/// What a held header may leave allocated for the next message, in bytes.
const HELD_BYTES_KEPT: usize = 4 << 10;

/// Reads one message after the other.
#[derive(Debug, Default)]
pub(crate) struct BodyReader {
    in_body: bool,
    held: Vec<u8>,
    line_start: usize,
    traffic: Option<TrafficHeader>,
    crc: u32,
    bytes: u64,
    connection: u64,
}

/// What a finished message was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Arrived {
    /// Bytes of header and body.
    pub(crate) bytes: u64,
    /// What the laboratory's header said, where there was one.
    pub(crate) traffic: Option<TrafficHeader>,
    /// CRC-32C of the body; 0 where there was no header that promised one.
    pub(crate) crc: u32,
    /// The number of the connection that brought it.
    pub(crate) connection: u64,
}

impl Arrived {
    /// Whether the body has the sum that the header promised.
    pub(crate) fn is_intact(&self) -> bool {
        self.traffic.is_none_or(|traffic| traffic.crc == self.crc)
    }
}

impl BodyReader {
    /// Reads for the connection of that number.
    pub(crate) fn of(connection: u64) -> Self {
        Self { connection, ..Self::default() }
    }

    /// Forgets what came before.
    pub(crate) fn start(&mut self) {
        self.held.clear();
        self.held.shrink_to(HELD_BYTES_KEPT);
        self.in_body = false;
        self.line_start = 0;
        self.traffic = None;
        self.crc = 0;
        self.bytes = 0;
    }

    /// Takes the next bytes of the message.
    pub(crate) fn feed(&mut self, part: &[u8]) {
        self.bytes += part.len() as u64;
        if self.in_body {
            self.sum(part);
        } else if self.held.is_empty() {
            self.feed_header(part);
        } else {
            self.feed_held(part);
        }
    }

    /// The message is complete.
    pub(crate) fn finish(&self) -> Arrived {
        Arrived { bytes: self.bytes, traffic: self.traffic, crc: self.crc, connection: self.connection }
    }

    fn feed_header(&mut self, part: &[u8]) {
        match blank_line(part) {
            Some((_, body_start)) => {
                self.traffic = find_in(&part[..body_start]).map(|(traffic, _)| traffic);
                self.in_body = true;
                self.sum(&part[body_start..]);
            }
            None => {
                self.hold(part);
            }
        }
    }

    fn feed_held(&mut self, part: &[u8]) {
        let before = self.held.len();
        if !self.hold(part) {
            return;
        }
        if let Some((_, body_start)) = blank_line(&self.held[self.line_start..]) {
            let body_start = self.line_start + body_start;
            self.traffic = find_in(&self.held[..body_start]).map(|(traffic, _)| traffic);
            self.in_body = true;
            // The empty line ended in this part, or an earlier part would have found it.
            self.sum(&part[body_start.saturating_sub(before)..]);
        } else {
            self.line_start = last_line_start(&self.held);
        }
    }

    /// Keeps a piece of the header; gives the header up where it grows too long.
    fn hold(&mut self, part: &[u8]) -> bool {
        if self.held.len() + part.len() > HEADER_BYTES_MAX {
            self.in_body = true;
            return false;
        }
        self.held.extend_from_slice(part);
        true
    }

    fn sum(&mut self, part: &[u8]) {
        // Without a promise there is nothing to compare with, and the sum is most of the work.
        if self.traffic.is_some() {
            self.crc = body_crc_append(self.crc, part);
        }
    }
}

fn last_line_start(text: &[u8]) -> usize {
    text.iter().rposition(|byte| *byte == b'\n').map_or(0, |line_end| line_end + 1)
}

#[cfg(test)]
mod tests {
    use message::traffic::{RunId, body_crc};
    use proptest::prelude::*;

    use super::*;

    fn message(body: &[u8], crc: u32) -> Vec<u8> {
        let header = TrafficHeader { run: RunId::new("r").unwrap(), conn: 1, seq: 2, sent_ns: 3, crc };
        let mut message = b"Received: from a\r\n\tby b\r\nSubject: s\r\n".to_vec();
        header.write(&mut message);
        message.extend_from_slice(b"To: <a@b>\r\n\r\n");
        message.extend_from_slice(body);
        message
    }

    fn read(parts: &[&[u8]]) -> Arrived {
        let mut reader = BodyReader::default();
        reader.start();
        parts.iter().for_each(|part| reader.feed(part));
        reader.finish()
    }

    #[test]
    fn a_changed_body_is_noticed() {
        let whole = message(b"hello\r\n", body_crc(b"hello\r\n"));
        assert!(read(&[&whole]).is_intact());
        let damaged = message(b"hellO\r\n", body_crc(b"hello\r\n"));
        assert!(!read(&[&damaged]).is_intact());
        let cut = &whole[..whole.len() - 1];
        assert!(!read(&[cut]).is_intact());
    }

    #[test]
    fn a_header_without_end_is_given_up() {
        let long = [b'a'; HEADER_BYTES_MAX];
        let arrived = read(&[&long, &long, b"\r\n\r\n"]);
        let bytes = 2 * HEADER_BYTES_MAX as u64 + 4;
        assert_eq!(arrived, Arrived { bytes, traffic: None, crc: 0, connection: 0 });
        assert!(arrived.is_intact());
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same(
            body in "[a-z\r\n]{0,60}",
            cuts in proptest::collection::vec(0usize..300, 0..20),
        ) {
            let whole = message(body.as_bytes(), body_crc(body.as_bytes()));
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(whole.len())).collect();
            cuts.extend([0, whole.len()]);
            cuts.sort_unstable();
            let parts: Vec<&[u8]> = cuts.windows(2).map(|cut| &whole[cut[0]..cut[1]]).collect();
            let arrived = read(&parts);
            prop_assert!(arrived.traffic.is_some());
            prop_assert_eq!(arrived, read(&[&whole]));
            prop_assert!(arrived.is_intact());
        }
    }
}
