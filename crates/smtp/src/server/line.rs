//! Cuts a command line off the input.
//!
//! Owns the rule of what a line is: text that ends in CRLF and holds no other CR or LF, within
//! `Limits::command_line_bytes_max`. What is decided depends on the bytes alone, never on how reads
//! split them.

/// What the input begins with.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line<'i> {
    /// No complete line yet.
    Partial,
    /// A line without its CRLF.
    Complete { consumed: usize, text: &'i [u8] },
    /// A line with a bare CR or LF in it; it ends with the first LF.
    Bare { consumed: usize },
    /// The limit is reached before the line ends; the rest of it is still to be skipped.
    TooLong { consumed: usize },
}

/// Reads one line of at most `bytes_max` bytes, CRLF included.
pub(super) fn read(input: &[u8], bytes_max: usize) -> Line<'_> {
    let window = &input[..input.len().min(bytes_max)];
    let Some(end) = memchr::memchr(b'\n', window) else {
        let full = window.len() == bytes_max;
        return if full { Line::TooLong { consumed: bytes_max } } else { Line::Partial };
    };
    let consumed = end + 1;
    match window[..end].split_last() {
        Some((b'\r', text)) if memchr::memchr(b'\r', text).is_none() => Line::Complete { consumed, text },
        _ => Line::Bare { consumed },
    }
}

/// Skips the rest of a line. Returns the bytes to consume and whether its end was among them.
pub(super) fn skip(input: &[u8]) -> (usize, bool) {
    memchr::memchr(b'\n', input).map_or((input.len(), false), |end| (end + 1, true))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts() {
        let table: [(&[u8], Line<'_>); 11] = [
            (b"", Line::Partial),
            (b"NOOP", Line::Partial),
            (b"NOOP\r", Line::Partial),
            (b"\r\n", Line::Complete { consumed: 2, text: b"" }),
            (b"NOOP\r\nQUIT\r\n", Line::Complete { consumed: 6, text: b"NOOP" }),
            (b"NOOP\nQUIT\r\n", Line::Bare { consumed: 5 }),
            (b"\nQUIT\r\n", Line::Bare { consumed: 1 }),
            (b"NO\rOP\r\n", Line::Bare { consumed: 7 }),
            (b"NOOP\r\r\n", Line::Bare { consumed: 7 }),
            (b"12345678\r\n", Line::Complete { consumed: 10, text: b"12345678" }),
            (b"123456789\r\n", Line::TooLong { consumed: 10 }),
        ];
        for (input, expected) in table {
            assert_eq!(read(input, 10), expected, "{}", input.escape_ascii());
        }
        assert_eq!(skip(b"rest\nQUIT"), (5, true));
        assert_eq!(skip(b"rest"), (4, false));
    }
}
