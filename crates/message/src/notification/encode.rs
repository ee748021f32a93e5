//! How bytes go into a part of a report: as they are where every relay takes them so, quoted-printable otherwise.
//!
//! Owns the rules of RFC 2045 6.2 and 6.7. Refuses nothing: every sequence of bytes has an encoding that gives it back.

/// Longest line without its end that mail may have (RFC 5321 4.5.3.1.6).
const LINE_BYTES_MAX: usize = 998;
/// Longest line of quoted-printable without its end (RFC 2045 6.7).
const QUOTED_LINE_BYTES_MAX: usize = 76;
const HEXADECIMAL: &[u8; 16] = b"0123456789ABCDEF";

/// Whether the bytes are lines of printable ASCII, which nothing on the way changes.
pub(super) fn is_plain_text(bytes: &[u8]) -> bool {
    has_lines(bytes) && bytes.iter().all(|byte| matches!(byte, b' '..=b'~' | b'\t' | b'\r' | b'\n'))
}

/// The encoding that leaves the bytes as they are; `None` where they are not lines (RFC 2045 2.7, 2.8).
pub(super) fn identity_encoding(bytes: &[u8]) -> Option<&'static str> {
    let is_text = has_lines(bytes) && !bytes.contains(&0);
    is_text.then(|| if bytes.is_ascii() { "7bit" } else { "8bit" })
}

/// Whether every line ends in CRLF and none is too long; the last may lack its end.
fn has_lines(bytes: &[u8]) -> bool {
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let is_short = |line: &[u8]| line.len() <= LINE_BYTES_MAX && !line.contains(&b'\r');
    let last_is_good = lines.next_back().is_none_or(is_short);
    last_is_good && lines.all(|line| line.strip_suffix(b"\r").is_some_and(is_short))
}

/// The bytes in quoted-printable. A line end stays one; a CR or LF alone is encoded, so that what comes out is what went in.
pub(super) fn quoted_printable(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len() + bytes.len() / 4);
    let mut line_start = 0;
    let mut rest = bytes;
    while let [byte, after @ ..] = rest {
        if let [b'\r', b'\n', next @ ..] = rest {
            out.extend_from_slice(b"\r\n");
            (line_start, rest) = (out.len(), next);
            continue;
        }
        // A blank at the end of a line could be lost on the way.
        let ends_line = after.is_empty() || after.starts_with(b"\r\n");
        let stands = match byte {
            b' ' | b'\t' => !ends_line,
            byte => byte.is_ascii_graphic() && *byte != b'=',
        };
        let width = if stands { 1 } else { 3 };
        // Room for the `=` that says that the line goes on.
        if out.len() - line_start + width >= QUOTED_LINE_BYTES_MAX {
            out.extend_from_slice(b"=\r\n");
            line_start = out.len();
        }
        if stands {
            out.push(*byte);
        } else {
            let digit = |value: u8| HEXADECIMAL[usize::from(value)];
            out.extend_from_slice(&[b'=', digit(byte >> 4), digit(byte & 15)]);
        }
        rest = after;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_and_what_is_encoded() {
        let text = |bytes: &[u8]| String::from_utf8(quoted_printable(bytes)).unwrap_or_default();
        assert_eq!(text(b"a=b \r\n\tc\r\n"), "a=3Db=20\r\n\tc\r\n");
        assert_eq!(text("\u{e4}\r\n".as_bytes()), "=C3=A4\r\n");
        assert_eq!(text(b"a\rb\nc\0 "), "a=0Db=0Ac=00=20");
        let long = text(&[b'x'; 200]);
        assert_eq!(long.split("\r\n").map(str::len).collect::<Vec<_>>(), [76, 76, 50]);
        assert_eq!(long.replace("=\r\n", ""), "x".repeat(200));
    }

    #[test]
    fn lines_are_told_from_what_is_none() {
        for bytes in [&b""[..], b"a", b"a\r\n", b"a\r\n\r\nb\r\n"] {
            assert!(is_plain_text(bytes), "{bytes:?}");
        }
        for bytes in [&b"a\n"[..], b"a\rb\r\n", b"a\r", b"\0", &[b'x'; 999]] {
            assert!(!is_plain_text(bytes), "{bytes:?}");
        }
        assert_eq!(identity_encoding(b"\xff\r\n"), Some("8bit"));
        assert_eq!(identity_encoding(b"a\r\n"), Some("7bit"));
        for bytes in [&b"\xff\n"[..], b"a\0\r\n"] {
            assert_eq!(identity_encoding(bytes), None, "{bytes:?}");
        }
    }
}
