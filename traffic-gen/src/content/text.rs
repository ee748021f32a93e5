//! Lines of text, and what makes a file fit for mail.
//!
//! Made text has CRLF at the end of every line and no line that starts with a dot. Text of others gets both
//! its line ends and its dots put right, because a server may refuse anything else.

use message::header::{self, Field};

/// Characters of the lines of made text, without CRLF. They differ, so that a body of any size can begin
/// inside of one and end with another.
const LINE_CHARACTERS: [usize; 3] = [68, 72, 76];

/// The alphabet of base64 (RFC 4648 4).
const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Many lines in one piece, and where each ends.
#[derive(Clone, Debug)]
pub(super) struct Lines {
    pub(super) text: Vec<u8>,
    /// The offset behind each CRLF.
    ends: Vec<usize>,
}

impl Lines {
    /// At least so many bytes of lines that hardly compress. The last line has one character.
    pub(super) fn made(bytes: usize, random: &mut fastrand::Rng) -> Self {
        let mut lines = Self { text: Vec::with_capacity(bytes + 100), ends: Vec::new() };
        while lines.text.len() < bytes {
            let characters = LINE_CHARACTERS[random.usize(..LINE_CHARACTERS.len())];
            lines.text.extend((0..characters).map(|_| BASE64[random.usize(..64)]));
            lines.end_line();
        }
        lines.text.push(b'x');
        lines.end_line();
        lines
    }

    fn end_line(&mut self) {
        self.text.extend_from_slice(b"\r\n");
        self.ends.push(self.text.len());
    }

    /// Where a piece of exactly so many bytes starts and ends that is whole lines but for the beginning of
    /// its first. The text has at least as many bytes without its last line.
    pub(super) fn piece(&self, bytes: usize, random: &mut fastrand::Rng) -> std::ops::Range<usize> {
        if bytes < 2 {
            // No room for a line end: nothing, or one character.
            return 0..bytes;
        }
        let first = self.ends.partition_point(|end| *end < bytes);
        let end = self.ends[random.usize(first..self.ends.len())];
        // A piece that starts at the LF of a line end moves to the end of the text. If it starts at one
        // there too, it starts at none when it ends one line earlier: the last line has three bytes, and no
        // other line is so short.
        let whole = self.text.len();
        let good = |end: &usize| *end >= bytes && self.text[end - bytes] != b'\n';
        let end = [end, whole, whole - 3].into_iter().find(good).unwrap_or(whole);
        end - bytes..end
    }
}

/// The text with every line end as CRLF, and with one at the end.
pub(super) fn with_crlf(text: &[u8]) -> Vec<u8> {
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
pub(super) fn starts_with_header(text: &[u8]) -> bool {
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
    fn pieces_of_every_size_are_whole_lines_but_for_the_first() {
        let mut random = fastrand::Rng::with_seed(3);
        let lines = Lines::made(2_000, &mut random);
        for bytes in 0..=2_000 {
            for _ in 0..20 {
                let piece = &lines.text[lines.piece(bytes, &mut random)];
                assert_eq!(piece.len(), bytes);
                assert!(bytes < 2 || piece.ends_with(b"\r\n"), "{bytes}");
                assert_ne!(piece.first(), Some(&b'\n'), "{bytes}");
            }
        }
    }

    proptest! {
        #[test]
        fn a_text_with_no_room_to_spare_has_every_piece(bytes in 0usize..1_000, seed: u64) {
            let mut random = fastrand::Rng::with_seed(seed);
            let lines = Lines::made(bytes, &mut random);
            let piece = &lines.text[lines.piece(bytes, &mut random)];
            prop_assert_eq!(piece.len(), bytes);
            prop_assert!(bytes < 2 || (piece.ends_with(b"\r\n") && piece[0] != b'\n'));
        }
    }
}
