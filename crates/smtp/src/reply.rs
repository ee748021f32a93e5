//! Replies: code, enhanced status code, text (RFC 5321 4.2, RFC 2034 4, RFC 3463 2).
//!
//! Owns both directions: [`Reply::write`] for the server, [`ReplyParser`] for the client. Refuses
//! reply lines and replies over the limits below, and codes outside 200 to 599; on writing, control
//! characters in a text become spaces, so that no text can forge a further reply line. A reply that
//! fails to parse is a [`PeerError`]; the parser is of no use afterwards.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use crate::error::PeerError;

/// Longest reply line that is read, line ending included. RFC 5321 4.5.3.1.5 says 512; peers exceed it.
pub const REPLY_LINE_BYTES_MAX: usize = 2048;
/// Most lines of one reply that are read.
pub const REPLY_LINES_MAX: usize = 128;
/// Longest text that is written on one line; longer text goes on in a further line (RFC 5321 4.5.3.1.5).
pub const REPLY_TEXT_BYTES_MAX: usize = 480;

/// `class.subject.detail` of RFC 3463.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EnhancedCode {
    /// 2, 4 or 5, as the first digit of the reply code.
    pub class: u8,
    /// 0 to 999.
    pub subject: u16,
    /// 0 to 999.
    pub detail: u16,
}

/// One reply, of one line or several.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reply {
    /// 200 to 599.
    pub code: u16,
    /// Present where the peer, or the writer of the reply, gave one.
    pub enhanced: Option<EnhancedCode>,
    /// Without codes; `\n` between lines.
    pub text: Cow<'static, str>,
}

impl Reply {
    /// A reply with an enhanced code.
    #[must_use]
    pub const fn new(code: u16, enhanced: (u8, u16, u16), text: &'static str) -> Self {
        let (class, subject, detail) = enhanced;
        Self { code, enhanced: Some(EnhancedCode { class, subject, detail }), text: Cow::Borrowed(text) }
    }

    /// A reply without an enhanced code, such as 220 and 354.
    #[must_use]
    pub const fn plain(code: u16, text: &'static str) -> Self {
        Self { code, enhanced: None, text: Cow::Borrowed(text) }
    }

    /// A reply whose text is made at run time.
    #[must_use]
    pub fn owned(code: u16, enhanced: (u8, u16, u16), text: String) -> Self {
        Self { text: Cow::Owned(text), ..Self::new(code, enhanced, "") }
    }

    /// 2xx.
    #[must_use]
    pub const fn is_positive(&self) -> bool {
        self.code / 100 == 2
    }

    /// 3xx: the peer waits for more.
    #[must_use]
    pub const fn is_intermediate(&self) -> bool {
        self.code / 100 == 3
    }

    /// 4xx: the same may succeed later.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        self.code / 100 == 4
    }

    /// 5xx: the same will fail again.
    #[must_use]
    pub const fn is_permanent(&self) -> bool {
        self.code / 100 == 5
    }

    /// Appends the reply with its line endings; `enhanced` says whether the enhanced code is written.
    /// Allocates only when `out` has to grow.
    pub fn write(&self, enhanced: bool, out: &mut Vec<u8>) {
        let code = self.enhanced.filter(|_| enhanced);
        // Nearly every reply is one short line.
        if self.text.len() <= REPLY_TEXT_BYTES_MAX && !self.text.contains('\n') {
            return self.write_line(code, b' ', &self.text, out);
        }
        let mut lines = text_lines(&self.text).peekable();
        while let Some(line) = lines.next() {
            let separator = if lines.peek().is_some() { b'-' } else { b' ' };
            self.write_line(code, separator, line, out);
        }
    }

    fn write_line(&self, code: Option<EnhancedCode>, separator: u8, text: &str, out: &mut Vec<u8>) {
        write_number(self.code, out);
        out.push(separator);
        if let Some(code) = code {
            code.write(out);
            out.push(b' ');
        }
        let start = out.len();
        out.extend_from_slice(text.as_bytes());
        for byte in &mut out[start..] {
            if byte.is_ascii_control() {
                *byte = b' ';
            }
        }
        out.extend_from_slice(b"\r\n");
    }

    /// Parses the form that `Display` writes: `250 2.0.0 OK`, with `\n` for further lines of text.
    ///
    /// # Errors
    /// [`PeerError::ReplyMalformed`] where the text does not begin with a code from 200 to 599.
    pub fn parse(text: &str) -> Result<Self, PeerError> {
        let line = Line::parse(text.as_bytes())?;
        let (enhanced, rest) = EnhancedCode::split(line.code, text.get(4..).unwrap_or(""));
        Ok(Self { code: line.code, enhanced, text: Cow::Owned(rest.into()) })
    }
}

/// `250 2.0.0 OK`; further lines of text follow after `\n` without codes.
impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.enhanced {
            Some(enhanced) => write!(f, "{} {enhanced} {}", self.code, self.text),
            None => write!(f, "{} {}", self.code, self.text),
        }
    }
}

impl FromStr for Reply {
    type Err = PeerError;

    fn from_str(text: &str) -> Result<Self, PeerError> {
        Self::parse(text)
    }
}

impl fmt::Display for EnhancedCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.class, self.subject, self.detail)
    }
}

impl EnhancedCode {
    fn write(self, out: &mut Vec<u8>) {
        write_number(self.class, out);
        out.push(b'.');
        write_number(self.subject, out);
        out.push(b'.');
        write_number(self.detail, out);
    }

    /// Takes `class.subject.detail` and a space off the beginning of `text`, where the class agrees with `code`.
    fn split(code: u16, text: &str) -> (Option<Self>, &str) {
        let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
        match Self::parse(word) {
            Some(enhanced) if u16::from(enhanced.class) == code / 100 => (Some(enhanced), rest),
            _ => (None, text),
        }
    }

    /// `5.1.1`, or `None`.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        let mut parts = word.split('.').map(number_to_999);
        let (class, subject, detail) = (parts.next()??, parts.next()??, parts.next()??);
        if parts.next().is_some() || !matches!(class, 2 | 4 | 5) {
            return None;
        }
        Some(Self { class: u8::try_from(class).ok()?, subject, detail })
    }
}

/// Collects the lines of one reply from a peer. Allocates only while its text buffer grows.
#[derive(Debug, Default)]
pub struct ReplyParser {
    code: u16,
    enhanced: Option<EnhancedCode>,
    text: String,
    lines: usize,
}

impl ReplyParser {
    /// A parser that waits for the first line.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads complete lines from `input` until a reply is complete. Returns the bytes consumed and
    /// whether [`Self::take`] has a reply; bytes of an incomplete line are not consumed and have to
    /// be offered again with those that follow. A bare LF ends a line too: nothing is smuggled by replies.
    ///
    /// # Errors
    /// The rule that the peer broke.
    pub fn read(&mut self, input: &[u8]) -> Result<(usize, bool), PeerError> {
        let mut consumed = 0;
        loop {
            let rest = &input[consumed..];
            let window = &rest[..rest.len().min(REPLY_LINE_BYTES_MAX)];
            let Some(end) = memchr::memchr(b'\n', window) else {
                if window.len() == REPLY_LINE_BYTES_MAX {
                    return Err(PeerError::ReplyLineTooLong);
                }
                return Ok((consumed, false));
            };
            consumed += end + 1;
            let line = window[..end].strip_suffix(b"\r").unwrap_or(&window[..end]);
            if self.push(Line::parse(line)?)? {
                return Ok((consumed, true));
            }
        }
    }

    /// Takes the complete reply out. `buffer` becomes the text buffer of the next one, so that a
    /// caller who returns used texts pays for no allocation.
    pub fn take(&mut self, mut buffer: String) -> Reply {
        buffer.clear();
        self.lines = 0;
        let text = Cow::Owned(std::mem::replace(&mut self.text, buffer));
        Reply { code: self.code, enhanced: self.enhanced.take(), text }
    }

    /// Gives its buffer back, between replies.
    pub(crate) fn rest(&mut self) {
        if self.lines == 0 {
            self.text = String::new();
        }
    }

    fn push(&mut self, line: Line<'_>) -> Result<bool, PeerError> {
        self.lines += 1;
        if self.lines > REPLY_LINES_MAX {
            return Err(PeerError::ReplyTooManyLines);
        }
        if self.lines == 1 {
            self.code = line.code;
        } else if self.code != line.code {
            return Err(PeerError::ReplyCodesDiffer);
        } else {
            self.text.push('\n');
        }
        // The lossy form allocates only for a peer that does not write UTF-8.
        let text = String::from_utf8_lossy(line.text);
        let (enhanced, rest) = EnhancedCode::split(line.code, &text);
        self.enhanced = self.enhanced.or(enhanced);
        self.text.push_str(rest);
        Ok(line.last)
    }
}

/// One line of a reply, without its line ending.
struct Line<'a> {
    code: u16,
    last: bool,
    text: &'a [u8],
}

impl<'a> Line<'a> {
    fn parse(line: &'a [u8]) -> Result<Self, PeerError> {
        let (digits, rest) = line.split_at_checked(3).ok_or(PeerError::ReplyMalformed)?;
        let code = std::str::from_utf8(digits).ok().and_then(number_to_999).unwrap_or(0);
        if !(200..=599).contains(&code) {
            return Err(PeerError::ReplyMalformed);
        }
        match rest.split_first() {
            None => Ok(Self { code, last: true, text: rest }),
            Some((b' ', text)) => Ok(Self { code, last: true, text }),
            Some((b'-', text)) => Ok(Self { code, last: false, text }),
            Some(_) => Err(PeerError::ReplyMalformed),
        }
    }
}

/// One to three digits.
fn number_to_999(text: &str) -> Option<u16> {
    let digits = text.as_bytes();
    if digits.is_empty() || digits.len() > 3 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(digits.iter().fold(0, |number, digit| number * 10 + u16::from(digit - b'0')))
}

/// The lines of a text, each no longer than [`REPLY_TEXT_BYTES_MAX`]; at least one.
fn text_lines(text: &str) -> impl Iterator<Item = &str> {
    text.split('\n').flat_map(|line| {
        let mut rest = Some(line);
        std::iter::from_fn(move || {
            let line = rest?;
            let (head, tail) = line.split_at(line_end(line));
            rest = Some(tail).filter(|tail| !tail.is_empty());
            Some(head)
        })
    })
}

/// Where a line that is too long is cut: after a comma or blank, so that lists of ids stay readable line by line.
fn line_end(line: &str) -> usize {
    let most = line.floor_char_boundary(REPLY_TEXT_BYTES_MAX);
    if most == line.len() {
        return most;
    }
    line[..most].rfind([',', ' ']).map_or(most, |at| at + 1)
}

/// Appends a number in decimal digits.
pub(crate) fn write_number(number: impl Into<u64>, out: &mut Vec<u8>) {
    let mut rest = number.into();
    // The largest number has twenty digits.
    let mut digits = [0; 20];
    let mut start = digits.len();
    for digit in digits.iter_mut().rev() {
        let value = (rest % 10) as u8;
        *digit = b'0' + value;
        start -= 1;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[start..]);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn read_all(input: &[u8]) -> Result<Vec<Reply>, PeerError> {
        let mut parser = ReplyParser::new();
        let (mut at, mut replies) = (0, Vec::new());
        loop {
            let (consumed, complete) = parser.read(&input[at..])?;
            at += consumed;
            if !complete {
                return Ok(replies);
            }
            replies.push(parser.take(String::new()));
        }
    }

    #[test]
    fn writes() {
        let table = [
            (Reply::new(250, (2, 0, 0), "OK"), "250 2.0.0 OK\r\n"),
            (Reply::plain(354, "go"), "354 go\r\n"),
            (Reply::new(550, (5, 17, 120), "one\ntwo"), "550-5.17.120 one\r\n550 5.17.120 two\r\n"),
            (Reply::new(550, (5, 1, 1), "a\rb\tc\u{7f}"), "550 5.1.1 a b c \r\n"),
            (Reply::plain(220, ""), "220 \r\n"),
        ];
        for (reply, expected) in table {
            let mut out = Vec::new();
            reply.write(true, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
        let mut out = Vec::new();
        Reply::new(250, (2, 0, 0), "OK").write(false, &mut out);
        assert_eq!(out, b"250 OK\r\n");
    }

    #[test]
    fn long_text_goes_on_in_a_further_line() {
        let reply = Reply::owned(550, (5, 0, 0), "ä".repeat(REPLY_TEXT_BYTES_MAX));
        let mut out = Vec::new();
        reply.write(true, &mut out);
        let replies = read_all(&out).unwrap();
        assert_eq!(replies.len(), 1);
        assert_eq!(replies[0].text.replace('\n', ""), reply.text);
        assert!(out.split(|&byte| byte == b'\n').all(|line| line.len() <= 512));
    }

    #[test]
    fn reads() {
        let replies =
            read_all(b"220 mx ready\r\n250-2.1.0 one\r\n250 2.1.0 two\r\n354\r\n421 bye\n550 5.x").unwrap();
        let shown: Vec<String> = replies.iter().map(Reply::to_string).collect();
        assert_eq!(shown, ["220 mx ready", "250 2.1.0 one\ntwo", "354 ", "421 bye"]);
        assert_eq!(read_all(b"250 4.0.0 class differs\r\n").unwrap()[0].enhanced, None);
        assert_eq!(read_all(b"250 \xff\r\n").unwrap()[0].text, "\u{fffd}");
    }

    #[test]
    fn refuses() {
        let mut long = b"250 ".to_vec();
        long.resize(REPLY_LINE_BYTES_MAX, b'x');
        let table: [(&[u8], PeerError); 9] = [
            (b"HTTP/1.1 400 Bad Request\r\n", PeerError::ReplyMalformed),
            (b"\r\n", PeerError::ReplyMalformed),
            (b"25\r\n", PeerError::ReplyMalformed),
            (b"250x\r\n", PeerError::ReplyMalformed),
            (b"199 x\r\n", PeerError::ReplyMalformed),
            (b"600 x\r\n", PeerError::ReplyMalformed),
            (b"+12 x\r\n", PeerError::ReplyMalformed),
            (b"250-a\r\n251 b\r\n", PeerError::ReplyCodesDiffer),
            (&long, PeerError::ReplyLineTooLong),
        ];
        for (input, error) in table {
            assert_eq!(read_all(input), Err(error), "{}", input.escape_ascii());
        }
        assert_eq!(read_all(&b"250-x\r\n".repeat(REPLY_LINES_MAX + 1)), Err(PeerError::ReplyTooManyLines));
    }

    #[test]
    fn display_and_parse_are_inverse() {
        for text in ["250 2.0.0 OK", "354 go ahead", "550 5.1.1 no such user\nask again", "421 4.3.2 "] {
            assert_eq!(Reply::parse(text).unwrap().to_string(), text);
        }
        assert!("hello".parse::<Reply>().is_err());
        assert!("2é0 x".parse::<Reply>().is_err());
    }

    #[test]
    fn numbers() {
        for number in [0, 9, 10, 255, 1000, 20_971_520, u64::MAX] {
            let mut out = Vec::new();
            write_number(number, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), number.to_string());
        }
    }

    #[test]
    fn sorts() {
        assert!(Reply::plain(250, "").is_positive());
        assert!(Reply::plain(354, "").is_intermediate());
        assert!(Reply::plain(450, "").is_transient());
        assert!(Reply::plain(550, "").is_permanent());
    }
}
