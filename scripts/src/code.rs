//! A Rust source file as the checks read it: the same text with comments and the contents of strings blanked, so that a
//! word in prose is never taken for code.
//!
//! This is not a parser. It knows comments, string and character literals, `#[cfg(test)]` items, and paths such as
//! `a::{b::c, d}`; text that it misreads costs a wrong finding, never a crash. Offsets and lines stay those of the file.

mod blank;
mod path;

pub use path::Path;

/// A source file, blanked.
#[derive(Debug, Default)]
pub struct Code {
    /// Everything, comments and strings blanked.
    pub all: String,
    /// The same without the items under `#[cfg(test)]`.
    pub shipped: String,
}

impl Code {
    /// Blanks `text`.
    pub fn new(text: &str) -> Self {
        let all = blank::comments_and_strings(text);
        let shipped = blank::tests(&all);
        Self { all, shipped }
    }

    /// Every path in the shipped code, groups expanded.
    pub fn paths(&self) -> Vec<Path> {
        path::all(&self.shipped)
    }
}

/// The line of an offset, from 1.
pub fn line_of(text: &str, offset: usize) -> usize {
    1 + text.as_bytes()[..offset].iter().filter(|byte| **byte == b'\n').count()
}

/// Whether a byte can stand in an identifier.
pub fn is_word(byte: u8) -> bool {
    byte == b'_' || byte.is_ascii_alphanumeric()
}

/// The offsets at which `word` stands with no identifier byte on either side of it.
pub fn words<'a>(text: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let bytes = text.as_bytes();
    let open = |byte: Option<&u8>| byte.is_none_or(|byte| !is_word(*byte));
    let starts_as_word = word.as_bytes().first().is_some_and(|byte| is_word(*byte));
    let ends_as_word = word.as_bytes().last().is_some_and(|byte| is_word(*byte));
    text.match_indices(word).map(|(offset, _)| offset).filter(move |offset| {
        (!starts_as_word || open(offset.checked_sub(1).and_then(|before| bytes.get(before))))
            && (!ends_as_word || open(bytes.get(offset + word.len())))
    })
}

/// The offset of the bracket that closes the one at `open`, which is `(`, `[` or `{`.
pub fn closing(text: &str, open: usize) -> Option<usize> {
    let mut depth = 0_usize;
    for (index, byte) in text.bytes().enumerate().skip(open) {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.checked_sub(1)?,
            _ => continue,
        }
        if depth == 0 {
            return Some(index);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_stop_at_identifiers() {
        let offsets = |word| words("unsafe_code unsafe(unsafe)", word).collect::<Vec<_>>();
        assert_eq!(offsets("unsafe"), [12, 19]);
        assert_eq!(offsets("(unsafe"), [18]);
    }

    #[test]
    fn brackets_close() {
        assert_eq!(closing("f(a[0], {b})", 1), Some(11));
        assert_eq!(closing("f(a", 1), None);
    }
}
