//! What the messages say: bodies rendered before the run, and extra header fields.
//!
//! Bodies come from the seed, or from a file. Each is kept with its CRC-32C and, where dots need doubling,
//! a second form for DATA, so that sending costs no work on the body. Lines end in CRLF whatever the file
//! has, because a server may refuse anything else.

use message::header::{self, Field};
use message::traffic::body_crc;

/// The largest body, in bytes.
pub const BODY_BYTES_MAX: usize = 256 << 20;

/// Memory that the pool of bodies may take, in bytes; one body is always made. Small enough to stay in a
/// cache.
const POOL_BYTES_MAX: usize = 4 << 20;

/// Different bodies in the pool.
const POOL_BODIES_MAX: usize = 256;

/// Characters of one line of a made body, without CRLF.
const LINE_CHARACTERS: usize = 72;

/// Fields that every message gets from us; a file's own are left out.
const OURS: [&str; 7] =
    ["From", "To", "Message-ID", "Date", "Subject", "MIME-Version", message::traffic::NAME];

/// What the operator gave us that no message can be made of.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ContentError {
    /// The body is too large.
    #[error("a body of {0} bytes is too large; {BODY_BYTES_MAX} are allowed")]
    TooLarge(usize),
    /// An extra header is none.
    #[error("{0:?} is no header; write it like 'X-Name: value', in one line of at most 998 characters")]
    Header(String),
}

/// Whether the text is one header field in one line of ASCII.
pub fn check_header(header: &str) -> Result<(), ContentError> {
    let name = header.split_once(':').map_or("", |(name, _)| name);
    let good = !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_graphic())
        && header.len() <= 998
        && header.bytes().all(|byte| byte == b'\t' || (b' '..0x7f).contains(&byte));
    if good { Ok(()) } else { Err(ContentError::Header(header.to_owned())) }
}

/// One body, ready to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Body {
    /// As BDAT sends it; ends in CRLF unless empty.
    pub(crate) verbatim: Vec<u8>,
    /// As DATA sends it, without the final dot, where that differs.
    dotted: Option<Vec<u8>>,
    pub(crate) crc: u32,
    pub(crate) eight_bit: bool,
}

impl Body {
    fn new(verbatim: Vec<u8>) -> Self {
        let dotted =
            (verbatim.first() == Some(&b'.') || memchr_line_dot(&verbatim)).then(|| double_dots(&verbatim));
        Self { crc: body_crc(&verbatim), eight_bit: !verbatim.is_ascii(), dotted, verbatim }
    }

    /// As DATA sends it, without the final dot.
    pub(crate) fn dotted(&self) -> &[u8] {
        self.dotted.as_deref().unwrap_or(&self.verbatim)
    }
}

/// All bodies of a run, and the header fields that they share.
#[derive(Clone, Debug)]
pub(crate) struct Content {
    pub(crate) bodies: Vec<Body>,
    /// Whole lines with CRLF.
    pub(crate) extra_headers: Vec<u8>,
}

impl Content {
    /// Makes a pool of bodies of that size from the seed.
    pub(crate) fn random(body_bytes: usize, seed: u64, headers: &[String]) -> Result<Self, ContentError> {
        if body_bytes > BODY_BYTES_MAX {
            return Err(ContentError::TooLarge(body_bytes));
        }
        let count = (POOL_BYTES_MAX / body_bytes.max(1)).clamp(1, POOL_BODIES_MAX);
        let mut random = fastrand::Rng::with_seed(seed);
        let bodies = (0..count).map(|_| Body::new(text(body_bytes, &mut random))).collect();
        Ok(Self { bodies, extra_headers: header_lines(headers)? })
    }

    /// Takes the one body from a file. A file that starts with header fields is a whole message: its fields
    /// are kept, except those that every message gets from us.
    pub(crate) fn from_file(file: &[u8], headers: &[String]) -> Result<Self, ContentError> {
        if file.len() > BODY_BYTES_MAX {
            return Err(ContentError::TooLarge(file.len()));
        }
        let text = with_crlf(file);
        let mut extra_headers = header_lines(headers)?;
        let body = if starts_with_header(&text) {
            let (fields, body) = header::split(&text);
            header::fields(fields)
                .filter(|field| !is_ours(field))
                .for_each(|field| push_field(&field, &mut extra_headers));
            body.to_vec()
        } else {
            text
        };
        Ok(Self { bodies: vec![Body::new(body)], extra_headers })
    }

    /// The largest body, in bytes.
    pub(crate) fn body_bytes(&self) -> usize {
        self.bodies.iter().map(|body| body.verbatim.len()).max().unwrap_or(0)
    }
}

/// Lines of random letters, so that neither compression nor deduplication can make the work look easier
/// than it is.
fn text(bytes: usize, random: &mut fastrand::Rng) -> Vec<u8> {
    let mut text = Vec::with_capacity(bytes);
    // At least two bytes are left for the last line's end.
    while bytes - text.len() > LINE_CHARACTERS + 3 {
        text.extend((0..LINE_CHARACTERS).map(|at| if at % 8 == 7 { b' ' } else { random.lowercase() as u8 }));
        text.extend_from_slice(b"\r\n");
    }
    // The last line takes what is left; a body of one byte has no room for a line end and is a letter.
    let rest = bytes - text.len();
    text.extend((0..rest.saturating_sub(2)).map(|_| random.lowercase() as u8));
    text.extend_from_slice(match rest {
        0 => b"",
        1 => b"x",
        _ => b"\r\n",
    });
    text
}

/// The text with every line end as CRLF, and with one at the end.
fn with_crlf(text: &[u8]) -> Vec<u8> {
    let mut lines = Vec::with_capacity(text.len() + text.len() / 32);
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    if text.is_empty() {
        return lines;
    }
    for line in text.split(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        // A CR inside of a line would be refused by every careful server.
        lines.extend(line.iter().map(|byte| if *byte == b'\r' { b' ' } else { *byte }));
        lines.extend_from_slice(b"\r\n");
    }
    lines
}

/// Whether everything before the first empty line looks like header fields.
fn starts_with_header(text: &[u8]) -> bool {
    let Some((header_end, _)) = header::blank_line(text) else {
        return false;
    };
    let fields = &text[..header_end];
    let good_name = |field: &Field<'_>| !field.name.is_empty() && field.name.iter().all(u8::is_ascii_graphic);
    let known: usize = header::fields(fields).filter(good_name).count();
    let starts = fields
        .split(|byte| *byte == b'\n')
        .filter(|line| line.first().is_some_and(|byte| !byte.is_ascii_whitespace()));
    known > 0 && known == starts.count()
}

fn is_ours(field: &Field<'_>) -> bool {
    OURS.iter().any(|name| field.is(name))
}

fn push_field(field: &Field<'_>, to: &mut Vec<u8>) {
    to.extend_from_slice(field.name);
    to.push(b':');
    to.extend_from_slice(field.raw);
    to.extend_from_slice(b"\r\n");
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

fn memchr_line_dot(text: &[u8]) -> bool {
    text.windows(2).any(|pair| pair == b"\n.")
}

/// RFC 5321 4.5.2: a line that starts with a dot gets another one.
fn double_dots(text: &[u8]) -> Vec<u8> {
    let mut doubled = Vec::with_capacity(text.len() + 16);
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        if line.first() == Some(&b'.') {
            doubled.push(b'.');
        }
        doubled.extend_from_slice(line);
    }
    doubled
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn bodies_have_the_size_asked_for_and_come_from_the_seed() {
        for bytes in [0, 1, 2, 3, 73, 74, 75, 76, 1024, 100_000] {
            let content = Content::random(bytes, 1, &[]).unwrap();
            assert!(content.bodies.iter().all(|body| body.verbatim.len() == bytes));
            assert!(bytes < 2 || content.bodies.iter().all(|body| body.verbatim.ends_with(b"\r\n")));
        }
        let bodies = |seed| Content::random(1024, seed, &[]).unwrap().bodies;
        assert_eq!(bodies(1), bodies(1));
        assert_ne!(bodies(1), bodies(2));
        assert_eq!(
            Content::random(BODY_BYTES_MAX + 1, 1, &[]).unwrap_err(),
            ContentError::TooLarge(BODY_BYTES_MAX + 1)
        );
    }

    #[test]
    fn a_file_is_a_body_or_a_whole_message() {
        let plain = Content::from_file(b"hello\nworld: wide", &[]).unwrap();
        assert_eq!(plain.bodies[0].verbatim, b"hello\r\nworld: wide\r\n");
        assert!(plain.extra_headers.is_empty());
        let whole =
            Content::from_file(b"From: me\nX-Tag: a\n b\n\n.dot\n", &["X-More: 1".to_owned()]).unwrap();
        assert_eq!(whole.extra_headers, b"X-More: 1\r\nX-Tag: a\r\n b\r\n");
        assert_eq!(whole.bodies[0].verbatim, b".dot\r\n");
        assert_eq!(whole.bodies[0].dotted(), b"..dot\r\n");
    }

    #[test]
    fn headers_are_checked() {
        assert_eq!(header_lines(&["A: b".to_owned(), "C:".to_owned()]).unwrap(), b"A: b\r\nC:\r\n");
        for bad in ["", "no colon", ": x", "A b: c", "A: b\r\nX: y", "A: \u{e9}"] {
            assert!(header_lines(&[bad.to_owned()]).is_err(), "{bad}");
        }
    }

    /// Any byte, and often one that means something.
    fn bytes() -> impl Strategy<Value = u8> {
        prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'.'), Just(b':'), any::<u8>()]
    }

    proptest! {
        #[test]
        fn any_file_becomes_clean_lines(file in proptest::collection::vec(bytes(), 0..200)) {
            let content = Content::from_file(&file, &[]).unwrap();
            let body = &content.bodies[0];
            for text in [&body.verbatim, &content.extra_headers] {
                prop_assert!(text.is_empty() || text.ends_with(b"\r\n"));
                let ends = text.windows(2).filter(|pair| pair == b"\r\n").count();
                prop_assert_eq!(text.iter().filter(|byte| **byte == b'\r').count(), ends);
                prop_assert_eq!(text.iter().filter(|byte| **byte == b'\n').count(), ends);
            }
            prop_assert!(!body.dotted().starts_with(b".\r\n"));
            prop_assert!(!body.dotted().windows(5).any(|five| five == b"\r\n.\r\n"));
        }
    }
}
