//! The lines of made bodies.
//!
//! Made text has CRLF at the end of every line and no line that starts with a dot. Lines of random characters,
//! which do not compress beyond the six bits that each carries, are mixed with lines of words, which do.

use std::ops::Range;

/// Characters of a line of random characters, without CRLF.
const RANDOM_CHARACTERS: [usize; 3] = [68, 72, 76];

/// Characters after which a line of words ends, and those it never exceeds.
const WORD_CHARACTERS: [usize; 2] = [60, 76];

/// The longest line with its CRLF.
pub(super) const LINE_BYTES_MAX: usize = 78;

/// The last line with its CRLF.
const LAST_LINE_BYTES: usize = 3;

/// The alphabet of base64 (RFC 4648 4).
const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// What lines of words are made of; each has at most 12 letters.
const WORDS: [&str; 64] = [
    "about",
    "account",
    "address",
    "after",
    "again",
    "also",
    "answer",
    "any",
    "because",
    "before",
    "below",
    "between",
    "book",
    "call",
    "change",
    "choose",
    "click",
    "company",
    "customer",
    "day",
    "delivery",
    "email",
    "every",
    "find",
    "first",
    "for",
    "free",
    "from",
    "have",
    "help",
    "here",
    "how",
    "in",
    "information",
    "its",
    "last",
    "letter",
    "list",
    "month",
    "more",
    "never",
    "new",
    "number",
    "offer",
    "one",
    "only",
    "order",
    "our",
    "people",
    "please",
    "price",
    "product",
    "reply",
    "season",
    "service",
    "team",
    "thank",
    "the",
    "this",
    "time",
    "today",
    "visit",
    "with",
    "your",
];

/// Many lines in one piece, and where each ends.
#[derive(Clone, Debug)]
pub(super) struct Lines {
    pub(super) text: Vec<u8>,
    /// The offset behind each CRLF.
    ends: Vec<usize>,
}

impl Lines {
    /// At least so many bytes of lines, of which `random_percent` of a hundred are random characters: in
    /// every part of the text alike, to one line. The last line has one character.
    pub(super) fn made(bytes: usize, random_percent: u8, random: &mut fastrand::Rng) -> Self {
        let mut lines = Self { text: Vec::with_capacity(bytes + 100), ends: Vec::new() };
        let mut random_bytes = 0;
        while lines.text.len() < bytes {
            let start = lines.text.len();
            let is_random = random_bytes * 100 < (start + 1) * usize::from(random_percent);
            if is_random {
                let characters = RANDOM_CHARACTERS[random.usize(..RANDOM_CHARACTERS.len())];
                lines.text.extend((0..characters).map(|_| BASE64[random.usize(..64)]));
            } else {
                push_words(random, &mut lines.text);
            }
            lines.end_line();
            random_bytes += if is_random { lines.text.len() - start } else { 0 };
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
    /// its first; the next one at or behind `from`, or the last one. One byte is no line. The text has at
    /// least as many bytes without its last line.
    pub(super) fn piece(&self, bytes: usize, from: usize) -> Range<usize> {
        if bytes == 0 {
            return from.min(self.text.len())..from.min(self.text.len());
        }
        let first = self.ends.partition_point(|end| *end < from.saturating_add(bytes));
        // A piece must not start at the LF of a line end. If it does so with the next two line ends and with
        // the end of the text, it does not when it ends one line before that: the last line has three bytes,
        // and no other line is so short.
        let whole = self.text.len();
        let next = self.ends[first..].iter().take(2).copied();
        let good = |end: &usize| *end >= bytes && self.text[end - bytes] != b'\n';
        let end = next.chain([whole, whole - LAST_LINE_BYTES]).find(good).unwrap_or(whole);
        end - bytes..end
    }
}

/// Appends words up to a line's length.
fn push_words(random: &mut fastrand::Rng, text: &mut Vec<u8>) {
    let [enough, most] = WORD_CHARACTERS;
    let start = text.len();
    while text.len() - start < enough {
        if text.len() > start {
            text.push(b' ');
        }
        text.extend_from_slice(WORDS[random.usize(..WORDS.len())].as_bytes());
    }
    text.truncate(start + most);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn pieces_of_every_size_are_whole_lines_but_for_the_first() {
        let mut random = fastrand::Rng::with_seed(3);
        let lines = Lines::made(2_000, 50, &mut random);
        for bytes in (0..=2_000).filter(|bytes| *bytes != 1) {
            for from in (0..2_100).step_by(37) {
                let piece = &lines.text[lines.piece(bytes, from)];
                assert_eq!(piece.len(), bytes);
                assert!(bytes == 0 || piece.ends_with(b"\r\n"), "{bytes}");
                assert_ne!(piece.first(), Some(&b'\n'), "{bytes}");
            }
        }
    }

    #[test]
    fn so_much_of_the_text_is_random_as_was_asked_for() {
        for percent in [0, 1, 30, 99, 100] {
            let lines = Lines::made(100_000, percent, &mut fastrand::Rng::with_seed(1));
            // In every tenth of the text, not only in all of it.
            for part in lines.text.chunks(10_000).filter(|part| part.len() == 10_000) {
                let words = |line: &&[u8]| line.contains(&b' ');
                let of_words: usize =
                    part.split_inclusive(|byte| *byte == b'\n').filter(words).map(<[u8]>::len).sum();
                let random = (part.len() - of_words) as f64 / 100.0;
                assert!((random - f64::from(percent)).abs() <= 2.0, "{random} for {percent}");
            }
        }
    }

    proptest! {
        #[test]
        fn a_text_with_no_room_to_spare_has_every_piece(
            bytes in 2usize..1_000,
            percent in 0u8..=100,
            seed: u64,
            from in 0usize..2_000,
        ) {
            let mut random = fastrand::Rng::with_seed(seed);
            let lines = Lines::made(bytes, percent, &mut random);
            let piece = &lines.text[lines.piece(bytes, from)];
            prop_assert_eq!(piece.len(), bytes);
            prop_assert!(piece.ends_with(b"\r\n") && piece[0] != b'\n');
        }
    }
}
