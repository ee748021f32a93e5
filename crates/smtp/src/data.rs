//! Message bodies on the wire: the dot, and the rules of a body (RFC 5321 4.5.2).
//!
//! Owns dot-stuffing ([`stuff`]), its inverse ([`Unstuffer`]) and the check of a complete body
//! ([`check`]). Only CRLF.CRLF ends a body: a dot between bare LFs is content, which [`check`] then
//! refuses (SMTP smuggling). All three run at the speed of a memory scan; none visits single lines.
//! A body that breaks a rule is a [`BodyError`] with its reply, and is mended where the
//! caller asks for it, with [`fix_line_endings`].

use std::sync::LazyLock;

use memchr::memmem::Finder;

use crate::reply::Reply;

/// Longest line of a body in bytes, line ending left out (RFC 5321 4.5.3.1.6).
pub const LINE_BYTES_MAX: usize = 998;

/// Sent after a body that ends in CRLF, or is empty.
const END: &[u8] = b".\r\n";
/// Sent after a body whose last line lacks its CRLF.
const END_OF_LINE_AND_END: &[u8] = b"\r\n.\r\n";

static DOT_ON_NEW_LINE: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\r\n."));

/// What the bytes seen so far end in, as far as the dot is concerned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Tail {
    /// At the first byte of a line.
    #[default]
    LineStart,
    /// After a CR: an LF would end the line.
    Cr,
    /// Anywhere else.
    Text,
}

impl Tail {
    /// What `self` followed by `bytes` ends in.
    fn after(self, bytes: &[u8]) -> Self {
        match bytes {
            [] => self,
            [b'\n'] if self == Self::Cr => Self::LineStart,
            [.., b'\r', b'\n'] => Self::LineStart,
            [.., b'\r'] => Self::Cr,
            _ => Self::Text,
        }
    }

    /// Where the first dot stands in `bytes` that begins a line.
    fn dot_on_new_line(self, bytes: &[u8]) -> Option<usize> {
        match (self, bytes) {
            (Self::LineStart, [b'.', ..]) => Some(0),
            (Self::Cr, [b'\n', b'.', ..]) => Some(1),
            _ => DOT_ON_NEW_LINE.find(bytes).map(|at| at + 2),
        }
    }
}

/// Takes the dots off a body received with DATA and finds its end, whatever way the bytes are split.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unstuffer {
    state: Unstuffing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unstuffing {
    Content(Tail),
    /// A dot at the beginning of a line was taken: CRLF ends the body, anything else is content.
    Dot,
    /// Such a dot and a CR were taken.
    DotCr,
    /// CRLF.CRLF was taken.
    Ended,
}

impl Default for Unstuffing {
    fn default() -> Self {
        Self::Content(Tail::LineStart)
    }
}

/// One step of [`Unstuffer::step`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unstuffed<'i> {
    /// The input is used up.
    NeedMore,
    /// Bytes of the body as meant; never empty.
    Body(&'i [u8]),
    /// The end was found; bytes after it are commands.
    End,
}

impl Unstuffer {
    /// At the beginning of a body.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Consumes a prefix of `input` and returns its length. Stretches without a dot at the
    /// beginning of a line come out as one slice.
    pub fn step<'i>(&mut self, input: &'i [u8]) -> (usize, Unstuffed<'i>) {
        let mut consumed = 0;
        loop {
            let rest = &input[consumed..];
            let Some(&first) = rest.first().filter(|_| self.state != Unstuffing::Ended) else {
                let end = self.state == Unstuffing::Ended;
                return (consumed, if end { Unstuffed::End } else { Unstuffed::NeedMore });
            };
            match self.state {
                Unstuffing::Content(tail) => match tail.dot_on_new_line(rest) {
                    Some(0) => (self.state, consumed) = (Unstuffing::Dot, consumed + 1),
                    Some(dot) => {
                        self.state = Unstuffing::Dot;
                        return (consumed + dot + 1, Unstuffed::Body(&rest[..dot]));
                    }
                    None => {
                        self.state = Unstuffing::Content(tail.after(rest));
                        return (input.len(), Unstuffed::Body(rest));
                    }
                },
                Unstuffing::Dot if first == b'\r' => {
                    (self.state, consumed) = (Unstuffing::DotCr, consumed + 1)
                }
                Unstuffing::Dot => self.state = Unstuffing::Content(Tail::Text),
                Unstuffing::DotCr if first == b'\n' => {
                    (self.state, consumed) = (Unstuffing::Ended, consumed + 1)
                }
                Unstuffing::DotCr => {
                    // The CR was content after all, and no LF follows it.
                    self.state = Unstuffing::Content(Tail::Text);
                    return (consumed, Unstuffed::Body(b"\r"));
                }
                Unstuffing::Ended => return (consumed, Unstuffed::End),
            }
        }
    }
}

/// Whether a bare CR or LF in a body is refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LineEndings {
    /// Refuse the body (RFC 5321 2.3.8).
    #[default]
    Deny,
    /// Take the body as it is; other servers may see other line ends in it.
    Allow,
}

/// What a body has to keep to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyRules {
    /// Longest line in bytes, line ending left out. Default [`LINE_BYTES_MAX`].
    pub line_bytes_max: usize,
    /// Default [`LineEndings::Deny`].
    pub line_endings: LineEndings,
}

impl Default for BodyRules {
    fn default() -> Self {
        Self { line_bytes_max: LINE_BYTES_MAX, line_endings: LineEndings::Deny }
    }
}

/// What [`check`] found out on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyFacts {
    /// There are bytes over 127: the next hop has to offer 8BITMIME.
    pub eight_bit: bool,
}

/// The rule that a body breaks; offsets are bytes from its beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// A CR without LF or an LF without CR.
    #[error("bare CR or LF at byte {offset} of the message; lines must end in CRLF")]
    BareLineEnding {
        /// Of the bare byte.
        offset: usize,
    },
    /// A NUL byte (RFC 5322 4).
    #[error("NUL at byte {offset} of the message; encode binary content")]
    Nul {
        /// Of the first NUL.
        offset: usize,
    },
    /// A line longer than `BodyRules::line_bytes_max`.
    #[error("line too long at byte {offset} of the message; wrap or encode it")]
    LineTooLong {
        /// Of the first byte of a stretch without line end that is too long.
        offset: usize,
    },
}

impl BodyError {
    /// The reply to the end of the body.
    #[must_use]
    pub fn reply(&self) -> Reply {
        match self {
            Self::BareLineEnding { .. } => {
                Reply::new(552, (5, 6, 0), "message holds a bare CR or LF; lines must end in CRLF")
            }
            Self::Nul { .. } => Reply::new(552, (5, 6, 0), "message holds a NUL byte; encode binary content"),
            Self::LineTooLong { .. } => {
                Reply::new(500, (5, 2, 3), "line too long in message; wrap or encode lines over the limit")
            }
        }
    }
}

/// Bytes that are folded before the result is looked at: large enough to vectorise, small enough to
/// stay in the first cache.
const FOLD_BYTES: usize = 4096;

/// Checks a complete body, whether it came by DATA or BDAT.
///
/// # Errors
/// The first NUL or bare line ending, else the first line that is too long.
pub fn check(body: &[u8], rules: &BodyRules) -> Result<BodyFacts, BodyError> {
    let deny = rules.line_endings == LineEndings::Deny;
    let mut eight_bit = 0;
    let mut before = 0;
    for start in (0..body.len()).step_by(FOLD_BYTES) {
        let block = &body[start..body.len().min(start + FOLD_BYTES)];
        let folded = fold(before, block);
        eight_bit |= folded.all & 0x80;
        if folded.nul || (deny && folded.unpaired) {
            first_error(before, block, start, deny)?;
        }
        before = block[block.len() - 1];
    }
    if deny && before == b'\r' {
        return Err(BodyError::BareLineEnding { offset: body.len() - 1 });
    }
    check_lines(body, rules.line_bytes_max)?;
    Ok(BodyFacts { eight_bit: eight_bit != 0 })
}

/// The body with CRLF in the place of each lone CR and LF, for operators who would rather mend than refuse. A lone CR or LF in
/// front of a dot becomes a line that begins with a dot, which is stuffed when it is sent on.
#[must_use]
pub fn fix_line_endings(body: &[u8]) -> Vec<u8> {
    let mut fixed = Vec::with_capacity(body.len() + body.len() / 32 + 2);
    let mut rest = body;
    while let Some(at) = memchr::memchr2(b'\r', b'\n', rest) {
        fixed.extend_from_slice(&rest[..at]);
        fixed.extend_from_slice(b"\r\n");
        rest = rest[at..].strip_prefix(b"\r\n").unwrap_or_else(|| &rest[at + 1..]);
    }
    fixed.extend_from_slice(rest);
    fixed
}

struct Folded {
    /// All bytes or-ed.
    all: u8,
    nul: bool,
    /// Somewhere a CR is not followed by LF, or an LF not preceded by CR; a CR at the very end is not judged.
    unpaired: bool,
}

/// One pass without branches: the comparison of each byte with its neighbour vectorises.
fn fold(before: u8, block: &[u8]) -> Folded {
    let first = block[0];
    let mut all = first;
    let mut nul = first == 0;
    let mut unpaired = (before == b'\r') != (first == b'\n');
    for (&left, &right) in block.iter().zip(&block[1..]) {
        all |= right;
        nul |= right == 0;
        unpaired |= (left == b'\r') != (right == b'\n');
    }
    Folded { all, nul, unpaired }
}

/// Names the first error of a block that is known to have one.
#[cold]
fn first_error(before: u8, block: &[u8], start: usize, deny: bool) -> Result<(), BodyError> {
    let mut left = before;
    for (offset, &right) in (start..).zip(block) {
        if deny && left == b'\r' && right != b'\n' {
            return Err(BodyError::BareLineEnding { offset: offset - 1 });
        }
        if right == 0 {
            return Err(BodyError::Nul { offset });
        }
        if deny && left != b'\r' && right == b'\n' {
            return Err(BodyError::BareLineEnding { offset });
        }
        left = right;
    }
    Ok(())
}

/// Jumps from window to window: the last LF within reach of a line start proves all lines before it
/// short enough, so that most lines are never looked at.
fn check_lines(body: &[u8], line_bytes_max: usize) -> Result<(), BodyError> {
    let mut start = 0;
    while body.len() - start > line_bytes_max {
        let window = &body[start..body.len().min(start.saturating_add(line_bytes_max).saturating_add(2))];
        let Some(end) = memchr::memrchr(b'\n', window) else {
            return Err(BodyError::LineTooLong { offset: start });
        };
        start += end + 1;
    }
    Ok(())
}

/// Appends the body, given in parts, dot-stuffed and with its terminator, to `out`.
pub fn stuff(body_parts: &[&[u8]], out: &mut Vec<u8>) {
    out.reserve(body_parts.iter().map(|part| part.len()).sum::<usize>() + END_OF_LINE_AND_END.len());
    let mut tail = Tail::LineStart;
    for part in body_parts {
        let mut rest = *part;
        while let Some(dot) = tail.dot_on_new_line(rest) {
            out.extend_from_slice(&rest[..=dot]);
            out.push(b'.');
            tail = Tail::Text;
            rest = &rest[dot + 1..];
        }
        out.extend_from_slice(rest);
        tail = tail.after(rest);
    }
    out.extend_from_slice(end_after(tail));
}

/// Whether a dot begins a line of the body; where none does, the parts can be sent as they are, followed by [`terminator`].
#[must_use]
pub fn needs_stuffing(parts: &[&[u8]]) -> bool {
    let mut tail = Tail::LineStart;
    parts.iter().any(|part| {
        let found = tail.dot_on_new_line(part).is_some();
        tail = tail.after(part);
        found
    })
}

/// What ends this body: `.CRLF`, with a CRLF before it where the last line lacks one.
#[must_use]
pub fn terminator(parts: &[&[u8]]) -> &'static [u8] {
    end_after(parts.iter().fold(Tail::LineStart, |tail, part| tail.after(part)))
}

fn end_after(tail: Tail) -> &'static [u8] {
    if tail == Tail::LineStart { END } else { END_OF_LINE_AND_END }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Body, and whether the end was found with how many bytes left over.
    fn unstuff(parts: &[&[u8]]) -> (Vec<u8>, Option<usize>) {
        let mut unstuffer = Unstuffer::new();
        let mut body = Vec::new();
        for (index, part) in parts.iter().enumerate() {
            let mut at = 0;
            loop {
                let (consumed, event) = unstuffer.step(&part[at..]);
                at += consumed;
                match event {
                    Unstuffed::Body(bytes) => body.extend_from_slice(bytes),
                    Unstuffed::NeedMore => break,
                    Unstuffed::End => {
                        let rest = parts[index + 1..].iter().map(|part| part.len()).sum::<usize>();
                        return (body, Some(part.len() - at + rest));
                    }
                }
            }
        }
        (body, None)
    }

    #[test]
    fn unstuffs_at_every_split() {
        let table: [(&[u8], &[u8], Option<usize>); 14] = [
            (b".\r\n", b"", Some(0)),
            (b"a\r\n.\r\nQUIT\r\n", b"a\r\n", Some(6)),
            (b"..\r\n.\r\n", b".\r\n", Some(0)),
            (b"a\r\n..b\r\n.\r\n", b"a\r\n.b\r\n", Some(0)),
            (b"a\r\n.b\r\n.\r\n", b"a\r\nb\r\n", Some(0)),
            (b"a\n.\r\nb\r\n.\r\n", b"a\n.\r\nb\r\n", Some(0)),
            (b"a\r\n.\nb\r\n.\r\n", b"a\r\n\nb\r\n", Some(0)),
            (b"a\r\n.\rb\r\n.\r\n", b"a\r\n\rb\r\n", Some(0)),
            (b"a\r.\r\n.\r\n", b"a\r.\r\n", Some(0)),
            (b"a\r\r\n.\r\n", b"a\r\r\n", Some(0)),
            (b".\r\r\n.\r\n", b"\r\r\n", Some(0)),
            (b"\n.\n\r\n.\r\n", b"\n.\n\r\n", Some(0)),
            (b"a\r\n.", b"a\r\n", None),
            (b"no end", b"no end", None),
        ];
        for (input, body, end) in table {
            for split in 0..=input.len() {
                let (left, right) = input.split_at(split);
                assert_eq!(
                    unstuff(&[left, right]),
                    (body.to_vec(), end),
                    "{} at {split}",
                    input.escape_ascii()
                );
            }
            let bytes: Vec<&[u8]> = input.chunks(1).collect();
            assert_eq!(unstuff(&bytes), (body.to_vec(), end), "{} by bytes", input.escape_ascii());
        }
    }

    #[test]
    fn long_stretches_are_one_slice() {
        let body = b"0123456789\r\n".repeat(1000);
        let (consumed, event) = Unstuffer::new().step(&body);
        assert_eq!((consumed, event), (body.len(), Unstuffed::Body(&body)));
    }

    #[test]
    fn stuffs_across_part_borders() {
        let table: [(&[&[u8]], &[u8]); 9] = [
            (&[], b".\r\n"),
            (&[b""], b".\r\n"),
            (&[b"a\r\n"], b"a\r\n.\r\n"),
            (&[b"a"], b"a\r\n.\r\n"),
            (&[b"a\r"], b"a\r\r\n.\r\n"),
            (&[b".a\r\n", b".b\r\n"], b"..a\r\n..b\r\n.\r\n"),
            (&[b"a\r", b"\n", b".b\r\n"], b"a\r\n..b\r\n.\r\n"),
            (&[b"a\r", b"", b"\n."], b"a\r\n..\r\n.\r\n"),
            (&[b"a.", b".b\n.c"], b"a..b\n.c\r\n.\r\n"),
        ];
        for (parts, expected) in table {
            let mut out = Vec::new();
            stuff(parts, &mut out);
            assert_eq!(out.escape_ascii().to_string(), expected.escape_ascii().to_string());
            assert!(out.ends_with(terminator(parts)));
            let dots = needs_stuffing(parts);
            assert_eq!(dots, out.len() != parts.concat().len() + terminator(parts).len());
        }
    }

    #[test]
    fn checks() {
        let rules = BodyRules { line_bytes_max: 4, ..BodyRules::default() };
        let table: [(&[u8], Result<bool, BodyError>); 14] = [
            (b"", Ok(false)),
            (b"abcd\r\n\r\nabcd\r\n", Ok(false)),
            (b"abcd", Ok(false)),
            (b"\xc3\xa4\r\n", Ok(true)),
            (b"abcde", Err(BodyError::LineTooLong { offset: 0 })),
            (b"ab\r\nabcde\r\n", Err(BodyError::LineTooLong { offset: 4 })),
            (b"\n", Err(BodyError::BareLineEnding { offset: 0 })),
            (b"a\nb\r\n", Err(BodyError::BareLineEnding { offset: 1 })),
            (b"a\rb\r\n", Err(BodyError::BareLineEnding { offset: 1 })),
            (b"a\r", Err(BodyError::BareLineEnding { offset: 1 })),
            (b"a\r\r\n", Err(BodyError::BareLineEnding { offset: 1 })),
            (b"a\r\n\n", Err(BodyError::BareLineEnding { offset: 3 })),
            (b"a\0b\n", Err(BodyError::Nul { offset: 1 })),
            (b"\r\0", Err(BodyError::BareLineEnding { offset: 0 })),
        ];
        for (body, expected) in table {
            let found = check(body, &rules).map(|facts| facts.eight_bit);
            assert_eq!(found, expected, "{}", body.escape_ascii());
        }
        let lenient = BodyRules { line_endings: LineEndings::Allow, ..rules };
        assert!(check(b"a\rb\nabcd\n\r", &lenient).is_ok());
        assert_eq!(check(b"a\0", &lenient), Err(BodyError::Nul { offset: 1 }));
    }

    #[test]
    fn checks_across_fold_borders() {
        for filler in FOLD_BYTES - 4..FOLD_BYTES + 4 {
            let rules = BodyRules { line_bytes_max: usize::MAX, ..BodyRules::default() };
            let with = |end: &[u8]| [&vec![b'x'; filler], end].concat();
            assert!(check(&with(b"\r\n"), &rules).is_ok(), "{filler}");
            assert_eq!(check(&with(b"\n"), &rules), Err(BodyError::BareLineEnding { offset: filler }));
            assert_eq!(check(&with(b"\rx"), &rules), Err(BodyError::BareLineEnding { offset: filler }));
            assert_eq!(check(&with(b"\r"), &rules), Err(BodyError::BareLineEnding { offset: filler }));
        }
    }

    #[test]
    fn mended_line_endings_pass_and_good_ones_stay() {
        for (body, mended) in [
            (&b"a\r\nb\r\n"[..], &b"a\r\nb\r\n"[..]),
            (b"a\nb\rc", b"a\r\nb\r\nc"),
            (b"\n.\n\r.\r", b"\r\n.\r\n\r\n.\r\n"),
            (b"\r\r\n\n", b"\r\n\r\n\r\n"),
            (b"", b""),
        ] {
            let fixed = fix_line_endings(body);
            assert_eq!(fixed, mended, "{}", body.escape_ascii());
            assert!(check(&fixed, &BodyRules::default()).is_ok());
        }
    }
}
