//! Mail that others wrote, made fit to be sent.
//!
//! A server may refuse lone line ends, NUL and lines over 998 characters, so none of them is sent: line ends
//! become CRLF, CR and NUL elsewhere become blanks, and longer lines of a body are broken. Nothing is refused
//! here: what does not look like a message is a body.

use message::header::{self, Field};

/// Bytes of a line without its CRLF (RFC 5321 4.5.3.1.6).
const LINE_BYTES_MAX: usize = 998;

/// Header fields (whole lines with CRLF, empty where the file is a body) and body of a file.
pub(super) fn mail(file: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let text = with_crlf(without_marks(file));
    if !starts_with_header(&text) {
        return (Vec::new(), fit_body(&text));
    }
    let (fields, body) = header::split(&text);
    (fields.to_vec(), fit_body(body))
}

/// Whether a field has a line that cannot be sent as it is.
pub(super) fn is_too_long(field: &Field<'_>) -> bool {
    let name_bytes = field.name.len() + 1;
    field.raw.split(|byte| *byte == b'\n').any(|line| name_bytes + line.len() > LINE_BYTES_MAX)
}

/// Without a byte order mark, and without the line that a mailbox puts before each message.
fn without_marks(file: &[u8]) -> &[u8] {
    let file = file.strip_prefix(b"\xef\xbb\xbf").unwrap_or(file);
    match memchr_line_end(file) {
        Some(end) if file.starts_with(b"From ") => &file[end..],
        _ => file,
    }
}

fn memchr_line_end(file: &[u8]) -> Option<usize> {
    file.iter().position(|byte| *byte == b'\n').map(|end| end + 1)
}

/// The lines of a body, none longer than a server takes.
fn fit_body(text: &[u8]) -> Vec<u8> {
    let mut lines = Vec::with_capacity(text.len());
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        let mut rest = line.strip_suffix(b"\r\n").unwrap_or(line);
        while rest.len() > LINE_BYTES_MAX {
            let (head, tail) = rest.split_at(break_at(rest));
            lines.extend_from_slice(head);
            lines.extend_from_slice(b"\r\n");
            rest = tail;
        }
        lines.extend_from_slice(rest);
        lines.extend_from_slice(b"\r\n");
    }
    lines
}

/// Where a line that is too long is broken: not inside of a character of UTF-8.
fn break_at(line: &[u8]) -> usize {
    let inside = |at: &usize| line[*at] & 0xc0 == 0x80;
    (LINE_BYTES_MAX - 3..=LINE_BYTES_MAX).rev().find(|at| !inside(at)).unwrap_or(LINE_BYTES_MAX)
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
        // A CR inside of a line and a NUL would be refused by every careful server.
        lines.extend(line.iter().map(|byte| if matches!(byte, b'\r' | 0) { b' ' } else { *byte }));
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

/// Whether any line starts with a dot.
pub(super) fn has_line_dot(text: &[u8]) -> bool {
    text.first() == Some(&b'.') || text.windows(2).any(|pair| pair == b"\n.")
}

/// RFC 5321 4.5.2: a line that starts with a dot gets another one.
pub(super) fn double_dots(text: &[u8], doubled: &mut Vec<u8>) {
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        if line.first() == Some(&b'.') {
            doubled.push(b'.');
        }
        doubled.extend_from_slice(line);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn long_lines_are_broken_between_characters() {
        let line = "\u{e9}".repeat(600);
        let broken = fit_body(format!("{line}\r\n").as_bytes());
        let lines: Vec<&str> = std::str::from_utf8(&broken).unwrap().lines().collect();
        assert_eq!(lines.iter().map(|line| line.len()).collect::<Vec<_>>(), [998, 202]);
        assert_eq!(lines.concat(), line);
        // What is no text is broken at the limit.
        let bytes = fit_body(&[&[0xbf; 1_997][..], b"\r\n"].concat());
        assert_eq!(bytes.split(|byte| *byte == b'\n').map(<[u8]>::len).collect::<Vec<_>>(), [999, 999, 2, 0]);
    }

    #[test]
    fn marks_that_are_no_mail_are_left_out() {
        for mark in [&b"From a@b Thu Jan  1 00:00:00 1970\n"[..], b"\xef\xbb\xbf"] {
            let (fields, body) = mail(&[mark, b"A: b\n\nbody\n"].concat());
            assert_eq!((&fields[..], &body[..]), (&b"A: b\r\n"[..], &b"body\r\n"[..]));
        }
    }

    proptest! {
        #[test]
        fn bodies_have_no_long_lines(length in 0usize..5_000, byte: u8) {
            let (_, body) = mail(&vec![byte; length]);
            prop_assert!(body.split(|byte| *byte == b'\n').all(|line| line.len() <= LINE_BYTES_MAX + 1));
        }
    }
}
