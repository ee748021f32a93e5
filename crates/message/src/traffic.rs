//! The laboratory's own header: `X-Traffic-Gen: run=<id>; conn=<n>; seq=<n>; sent=<ns>; crc=<hex>`.
//!
//! The load generator writes it, the sink and the audit read it; it is what makes a lost, doubled or
//! damaged message visible. Written fields have a fixed width, so that a header rendered once can be
//! patched in place for each message. Reading is liberal about blanks, folds, order and width, because a
//! relay may have refolded the line; anything else is "no such header", never an error.

use std::fmt;

/// The name of the field.
pub const NAME: &str = "X-Traffic-Gen";

/// Longest run id in bytes.
pub const RUN_BYTES_MAX: usize = 32;

/// Digits of `conn`, `seq` and `sent` as written. A number that needs more is written as all nines: ten
/// thousand million connections or a million million messages are out of reach of one run, and every `u64`
/// of nanoseconds fits.
const CONN_DIGITS: usize = 10;
const SEQ_DIGITS: usize = 12;
const SENT_DIGITS: usize = 20;
const CRC_DIGITS: usize = 8;

/// The name of one run: 1 to 32 letters, digits, `.`, `_` or `-`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RunId {
    bytes: [u8; RUN_BYTES_MAX],
    length: u8,
}

/// Why a text cannot be the name of a run. The operator chose it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("run id {0:?}: 1 to 32 letters, digits, '.', '_' or '-' are allowed; choose another")]
pub struct RunIdError(String);

impl RunId {
    /// Takes a name that somebody chose.
    pub fn new(text: &str) -> Result<Self, RunIdError> {
        Self::from_bytes(text.as_bytes())
            .ok_or_else(|| RunIdError(text.chars().take(2 * RUN_BYTES_MAX).collect()))
    }

    /// Makes a name of 16 hexadecimal digits from a random number.
    pub fn from_random(random: u64) -> Self {
        let mut bytes = [0; RUN_BYTES_MAX];
        write_hex(random, &mut bytes[..16]);
        Self { bytes, length: 16 }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..usize::from(self.length)]).unwrap_or_default()
    }

    fn from_bytes(text: &[u8]) -> Option<Self> {
        let good = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        if text.is_empty() || !text.iter().all(good) {
            return None;
        }
        let mut bytes = [0; RUN_BYTES_MAX];
        bytes.get_mut(..text.len())?.copy_from_slice(text);
        Some(Self { bytes, length: u8::try_from(text.len()).ok()? })
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl fmt::Debug for RunId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "RunId({})", self.as_str())
    }
}

impl std::str::FromStr for RunId {
    type Err = RunIdError;

    fn from_str(text: &str) -> Result<Self, RunIdError> {
        Self::new(text)
    }
}

/// What the header says about its message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrafficHeader {
    /// The run that the message belongs to.
    pub run: RunId,
    /// The number of the generator's connection, from 0.
    pub conn: u64,
    /// The number of the message in its run, dense from 0.
    pub seq: u64,
    /// When the message was meant to be sent: nanoseconds of `CLOCK_MONOTONIC` on one host, of
    /// `CLOCK_REALTIME` between hosts.
    pub sent_ns: u64,
    /// CRC-32C of the body after the empty line, before dot-stuffing.
    pub crc: u32,
}

impl TrafficHeader {
    /// How many bytes [`TrafficHeader::write`] appends; depends on the run only.
    pub fn line_bytes(&self) -> usize {
        NAME.len() + 2 + self.value_bytes() + 2
    }

    /// Appends the whole line with its CRLF.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(NAME.as_bytes());
        out.extend_from_slice(b": ");
        let start = out.len();
        out.resize(start + self.value_bytes(), b' ');
        out[start..start + 4].copy_from_slice(b"run=");
        let run = self.run.as_str().as_bytes();
        out[start + 4..start + 4 + run.len()].copy_from_slice(run);
        self.patch_value(&mut out[start..]);
        out.extend_from_slice(b"\r\n");
    }

    /// Writes the numbers over a line that [`TrafficHeader::write`] made for the same run. `line` starts at
    /// the first byte of the name and has at least [`TrafficHeader::line_bytes`] bytes; a shorter one is
    /// left alone, and the answer is `false`.
    #[must_use]
    pub fn patch(&self, line: &mut [u8]) -> bool {
        let value = NAME.len() + 2..self.line_bytes() - 2;
        line.get_mut(value).map(|value| self.patch_value(value)).is_some()
    }

    /// Reads the value of the field: what follows the colon, folds included.
    pub fn parse(value: &[u8]) -> Option<Self> {
        let (mut run, mut conn, mut seq, mut sent_ns, mut crc) = (None, None, None, None, None);
        for item in value.split(|byte| *byte == b';') {
            let item = item.trim_ascii();
            let equals = memchr::memchr(b'=', item)?;
            let text = &item[equals + 1..];
            match &item[..equals] {
                b"run" => run = Some(RunId::from_bytes(text)?),
                b"conn" => conn = Some(parse_decimal(text)?),
                b"seq" => seq = Some(parse_decimal(text)?),
                b"sent" => sent_ns = Some(parse_decimal(text)?),
                b"crc" => crc = Some(parse_hex(text)?),
                // A later version may say more; what is known keeps its meaning.
                _ => {}
            }
        }
        Some(Self { run: run?, conn: conn?, seq: seq?, sent_ns: sent_ns?, crc: crc? })
    }

    fn value_bytes(&self) -> usize {
        let labels = "run=; conn=; seq=; sent=; crc=".len();
        usize::from(self.run.length) + labels + CONN_DIGITS + SEQ_DIGITS + SENT_DIGITS + CRC_DIGITS
    }

    /// `value` starts with `run=<id>` and has exactly `value_bytes` bytes.
    fn patch_value(&self, value: &mut [u8]) {
        let mut at = 4 + usize::from(self.run.length);
        let mut field = |label: &[u8], digits: usize, write: &dyn Fn(&mut [u8])| {
            value[at..at + label.len()].copy_from_slice(label);
            at += label.len();
            write(&mut value[at..at + digits]);
            at += digits;
        };
        field(b"; conn=", CONN_DIGITS, &|to| write_decimal(self.conn, to));
        field(b"; seq=", SEQ_DIGITS, &|to| write_decimal(self.seq, to));
        field(b"; sent=", SENT_DIGITS, &|to| write_decimal(self.sent_ns, to));
        field(b"; crc=", CRC_DIGITS, &|to| write_hex(u64::from(self.crc), to));
    }
}

/// Finds the header in a message and where the body starts. `None` where there is no such header, or the
/// empty line that ends the header is not there. Where the field stands more than once, the first is taken.
/// Does not allocate.
pub fn find_in(message: &[u8]) -> Option<(TrafficHeader, usize)> {
    let mut found = None;
    let mut line_start = 0;
    loop {
        let line_end = line_start + memchr::memchr(b'\n', &message[line_start..])?;
        match message[line_start] {
            b'\n' => return found.map(|header| (header, line_end + 1)),
            b'\r' if line_end == line_start + 1 => return found.map(|header| (header, line_end + 1)),
            b'X' | b'x' if found.is_none() => found = read_line(&message[line_start..]),
            _ => {}
        }
        line_start = line_end + 1;
    }
}

/// CRC-32C (Castagnoli) of a body, the sum that `crc` carries.
pub fn body_crc(body: &[u8]) -> u32 {
    crc32c::crc32c(body)
}

/// Continues [`body_crc`] over the next part of the body.
pub fn body_crc_append(crc: u32, part: &[u8]) -> u32 {
    crc32c::crc32c_append(crc, part)
}

/// Writes a number with leading zeros over the whole of `to`; one that does not fit becomes all nines.
pub fn write_decimal(number: u64, to: &mut [u8]) {
    let mut rest = number;
    for place in to.iter_mut().rev() {
        *place = b'0' + u8::try_from(rest % 10).unwrap_or(0);
        rest /= 10;
    }
    if rest != 0 {
        to.fill(b'9');
    }
}

fn read_line(from_line_start: &[u8]) -> Option<TrafficHeader> {
    let field = crate::header::fields(from_line_start).next()?;
    if field.is(NAME) { TrafficHeader::parse(field.raw) } else { None }
}

fn write_hex(number: u64, to: &mut [u8]) {
    let mut rest = number;
    for place in to.iter_mut().rev() {
        *place = b"0123456789abcdef"[usize::try_from(rest & 15).unwrap_or(0)];
        rest >>= 4;
    }
}

fn parse_decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0u64, |number, byte| {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 { None } else { number.checked_mul(10)?.checked_add(u64::from(digit)) }
    })
}

fn parse_hex(text: &[u8]) -> Option<u32> {
    if text.is_empty() || text.len() > CRC_DIGITS {
        return None;
    }
    text.iter().try_fold(0u32, |number, byte| Some(number << 4 | char::from(*byte).to_digit(16)?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header() -> TrafficHeader {
        TrafficHeader {
            run: RunId::new("night-1").unwrap(),
            conn: 3,
            seq: 41,
            sent_ns: 1_234_567_890,
            crc: 0xdead_beef,
        }
    }

    #[test]
    fn the_line_is_as_the_design_says() {
        let mut line = Vec::new();
        header().write(&mut line);
        let text = "X-Traffic-Gen: run=night-1; conn=0000000003; seq=000000000041; \
            sent=00000000001234567890; crc=deadbeef\r\n";
        assert_eq!(std::str::from_utf8(&line).unwrap(), text);
        assert_eq!(line.len(), header().line_bytes());
    }

    #[test]
    fn is_found_among_other_headers_and_after_a_relay_refolded_it() {
        let message = b"Received: from a\r\n\tby b\r\nX-Other: 1\r\n\
            x-traffic-gen:run=a;\r\n\tconn=1; seq=2;\r\n sent=3; crc=00ff\r\n\r\nbody";
        let (header, body) = find_in(message).unwrap();
        assert_eq!(
            header,
            TrafficHeader { run: RunId::new("a").unwrap(), conn: 1, seq: 2, sent_ns: 3, crc: 255 }
        );
        assert_eq!(&message[body..], b"body");
    }

    #[test]
    fn is_not_found_in_the_body_nor_in_an_unfinished_header() {
        let mut line = Vec::new();
        header().write(&mut line);
        assert_eq!(find_in(&line), None);
        let message = [&b"Subject: x\r\n\r\n"[..], &line, b"\r\n"].concat();
        assert_eq!(find_in(&message), None);
        assert_eq!(find_in(b""), None);
        assert_eq!(find_in(b"\n"), None);
    }

    #[test]
    fn run_ids_are_short_and_plain() {
        assert!(RunId::new("").is_err());
        assert!(RunId::new("a b").is_err());
        assert!(RunId::new(&"x".repeat(33)).is_err());
        assert_eq!(RunId::new(&"x".repeat(32)).unwrap().as_str().len(), 32);
        assert_eq!(RunId::from_random(0xabc).as_str(), "0000000000000abc");
    }

    #[test]
    fn the_sum_is_castagnoli() {
        assert_eq!(body_crc(b"123456789"), 0xe306_9283);
        assert_eq!(body_crc_append(body_crc(b"1234"), b"56789"), 0xe306_9283);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            run in "[A-Za-z0-9._-]{1,32}",
            conn in 0..10_000_000_000u64,
            seq in 0..1_000_000_000_000u64,
            sent_ns: u64,
            crc: u32,
        ) {
            let header = TrafficHeader { run: RunId::new(&run).unwrap(), conn, seq, sent_ns, crc };
            let mut message = b"A: b\r\n".to_vec();
            header.write(&mut message);
            message.extend_from_slice(b"\r\nbody");
            prop_assert_eq!(find_in(&message), Some((header, message.len() - 4)));
        }

        #[test]
        fn patching_equals_writing(conn: u64, seq: u64, sent_ns: u64, crc: u32) {
            let other = TrafficHeader { conn, seq, sent_ns, crc, ..header() };
            let (mut patched, mut written) = (Vec::new(), Vec::new());
            header().write(&mut patched);
            prop_assert!(other.patch(&mut patched));
            other.write(&mut written);
            prop_assert_eq!(patched, written);
        }

        #[test]
        fn any_bytes_are_read_without_panic(
            value in proptest::collection::vec(any::<u8>(), 0..200),
            text in "[rundcoeqst=; 0-9\r\n:xX-]{0,200}",
        ) {
            let _ = TrafficHeader::parse(&value);
            let _ = TrafficHeader::parse(text.as_bytes());
            let _ = find_in(&value);
            let _ = find_in(text.as_bytes());
        }
    }
}
