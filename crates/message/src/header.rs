//! Header fields of a message: where the header ends, and what a field says.
//!
//! Owns the line rules of RFC 5322 2.2. Lines end in CRLF; a bare LF is taken as a line end too, because a
//! message that arrived with one must still be readable. It refuses nothing: a line without a colon is
//! skipped together with its continuation lines.

use std::borrow::Cow;

/// Splits a message at its first empty line: the header fields (with the line end of the last one), and the
/// body after the empty line. A message without an empty line is all header (RFC 5322 2.1: the body is
/// optional).
pub fn split(message: &[u8]) -> (&[u8], &[u8]) {
    match blank_line(message) {
        Some((header_end, body_start)) => (&message[..header_end], &message[body_start..]),
        None => (message, &[]),
    }
}

/// The empty line that ends the header: the offset where it starts and the offset after it. `None` while it
/// has not been seen.
pub fn blank_line(message: &[u8]) -> Option<(usize, usize)> {
    let mut line_start = 0;
    while let Some(length) = memchr::memchr(b'\n', &message[line_start..]) {
        let line_end = line_start + length;
        if matches!(&message[line_start..line_end], b"" | b"\r") {
            return Some((line_start, line_end + 1));
        }
        line_start = line_end + 1;
    }
    None
}

/// The value of the first field of that name, unfolded and trimmed. Names compare without case (RFC 5322
/// 1.2.2). Bytes that are not UTF-8 are replaced by U+FFFD.
pub fn find<'m>(headers: &'m [u8], name: &str) -> Option<Cow<'m, str>> {
    fields(headers).find(|field| field.is(name)).map(|field| field.value())
}

/// All fields in the order in which they stand. Stops at the empty line, so a whole message may be given.
pub fn fields(headers: &[u8]) -> Fields<'_> {
    Fields { rest: headers }
}

/// One header field as it stands in the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field<'m> {
    /// The name, without the colon.
    pub name: &'m [u8],
    /// What follows the colon, folds and surrounding blanks included, without the last line end.
    pub raw: &'m [u8],
}

impl<'m> Field<'m> {
    /// Whether the field has that name, without regard to case.
    pub fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name.as_bytes())
    }

    /// The value, unfolded (RFC 5322 2.2.3: the line end goes, the blank after it stays) and trimmed.
    pub fn value(&self) -> Cow<'m, str> {
        let raw = self.raw.trim_ascii();
        if memchr::memchr2(b'\r', b'\n', raw).is_none() {
            return String::from_utf8_lossy(raw);
        }
        let unfolded: Vec<u8> = raw.iter().copied().filter(|byte| !matches!(byte, b'\r' | b'\n')).collect();
        Cow::Owned(String::from_utf8_lossy(&unfolded).into_owned())
    }
}

/// The iterator made by [`fields`].
#[derive(Clone, Debug)]
pub struct Fields<'m> {
    rest: &'m [u8],
}

impl<'m> Iterator for Fields<'m> {
    type Item = Field<'m>;

    fn next(&mut self) -> Option<Field<'m>> {
        loop {
            if matches!(self.rest, [] | [b'\n', ..] | [b'\r', b'\n', ..]) {
                return None;
            }
            let end = field_end(self.rest);
            let (field, rest) = self.rest.split_at(end);
            self.rest = rest;
            if let Some(colon) = memchr::memchr(b':', field) {
                return Some(Field {
                    name: field[..colon].trim_ascii_end(),
                    raw: strip_line_end(&field[colon + 1..]),
                });
            }
        }
    }
}

/// Where the field that starts the text ends: after the last line that is not followed by a continuation
/// line.
fn field_end(text: &[u8]) -> usize {
    let mut end = 0;
    while let Some(length) = memchr::memchr(b'\n', &text[end..]) {
        end += length + 1;
        if !matches!(text.get(end), Some(b' ' | b'\t')) {
            return end;
        }
    }
    text.len()
}

fn strip_line_end(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MESSAGE: &[u8] = b"Subject: a\r\n folded  line\r\nno colon here\r\n and its tail: x\r\n\
        TO : b@c\r\nEmpty:\r\n\r\nbody: x\r\n";

    #[test]
    fn splits_at_the_first_empty_line() {
        let (headers, body) = split(MESSAGE);
        assert!(headers.ends_with(b"Empty:\r\n"));
        assert_eq!(body, b"body: x\r\n");
        assert_eq!(split(b"\r\nbody"), (&b""[..], &b"body"[..]));
        assert_eq!(split(b"A: b\r\n"), (&b"A: b\r\n"[..], &b""[..]));
        assert_eq!(split(b"A: b\n\nbody"), (&b"A: b\n"[..], &b"body"[..]));
        assert_eq!(split(b""), (&b""[..], &b""[..]));
    }

    #[test]
    fn finds_fields_without_regard_to_case_and_unfolds_them() {
        assert_eq!(find(MESSAGE, "SUBJECT").unwrap(), "a folded  line");
        assert_eq!(find(MESSAGE, "to").unwrap(), "b@c");
        assert_eq!(find(MESSAGE, "empty").unwrap(), "");
        assert_eq!(find(MESSAGE, "body"), None);
        assert_eq!(find(b"Last: no line end", "last").unwrap(), "no line end");
    }

    #[test]
    fn a_line_without_a_colon_does_not_hide_what_follows() {
        let names: Vec<&[u8]> = fields(MESSAGE).map(|field| field.name).collect();
        assert_eq!(names, [&b"Subject"[..], b"no colon here\r\n and its tail", b"TO", b"Empty"]);
        let names: Vec<&[u8]> = fields(b"junk\r\nA: 1\r\n").map(|field| field.name).collect();
        assert_eq!(names, [b"A"]);
    }

    /// Any byte, and often one that means something.
    fn bytes() -> impl Strategy<Value = u8> {
        prop_oneof![Just(b'\r'), Just(b'\n'), Just(b' '), Just(b':'), any::<u8>()]
    }

    proptest! {
        #[test]
        fn any_bytes_are_split_without_loss(message in proptest::collection::vec(bytes(), 0..200)) {
            let (headers, body) = split(&message);
            prop_assert!(message.starts_with(headers));
            prop_assert!(message.ends_with(body));
            prop_assert!(message.len() - headers.len() - body.len() <= 2);
            prop_assert!(fields(&message).count() <= message.len());
        }
    }
}
