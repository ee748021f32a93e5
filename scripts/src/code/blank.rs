//! Blanking: comments, the contents of literals, and test items become spaces; line breaks stay.

use super::{closing, is_word};

/// Blanks comments (nested ones too) and what stands between the quotes of strings and characters.
pub(super) fn comments_and_strings(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        let end = match rest {
            [b'/', b'/', ..] => at + find(rest, b"\n").unwrap_or(rest.len()),
            [b'/', b'*', ..] => at + block_comment(rest),
            [b'"', ..] => at + quoted(rest, b'"'),
            [b'\'', ..] => at + character(rest),
            [b'r' | b'b' | b'c', ..] if at == 0 || !is_word(bytes[at - 1]) => at + raw_string(rest),
            _ => at,
        };
        // A literal keeps its quotes, so that it still reads as an argument; a comment leaves nothing.
        let is_literal = !rest.starts_with(b"/");
        let inner = if is_literal { at + 1..end.saturating_sub(1) } else { at..end };
        if inner.start < inner.end {
            blank(&mut out[inner]);
        }
        at = end.max(at + 1);
    }
    into_text(out)
}

/// Blanks every item that follows `#[cfg(test)]`, to its closing brace or semicolon.
pub(super) fn tests(blanked: &str) -> String {
    let mut out = blanked.as_bytes().to_vec();
    for (start, attribute) in blanked.match_indices("#[cfg(test)]") {
        let after = start + attribute.len();
        let end = blanked[after..].find(['{', ';']).map(|offset| after + offset);
        let end = end
            .and_then(|end| if blanked.as_bytes()[end] == b'{' { closing(blanked, end) } else { Some(end) });
        let end = end.map_or(blanked.len(), |end| end + 1);
        blank(&mut out[start..end]);
    }
    into_text(out)
}

fn into_text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

fn blank(bytes: &mut [u8]) {
    for byte in bytes.iter_mut().filter(|byte| **byte != b'\n') {
        *byte = b' ';
    }
}

fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    bytes.windows(needle.len()).position(|window| window == needle)
}

fn block_comment(bytes: &[u8]) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < bytes.len() {
        match &bytes[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] if depth == 1 => return at + 2,
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
    }
    bytes.len()
}

/// The length of a literal that begins with a quote and may hold escapes.
fn quoted(bytes: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            byte if byte == quote => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// The length of a character literal; 1 for a lifetime, whose quote opens nothing.
fn character(bytes: &[u8]) -> usize {
    match bytes {
        [_, b'\\', ..] => quoted(bytes, b'\''),
        [_, first, ..] => {
            let length = match first {
                0..0x80 => 1,
                0x80..0xe0 => 2,
                0xe0..0xf0 => 3,
                _ => 4,
            };
            if bytes.get(1 + length) == Some(&b'\'') { length + 2 } else { 1 }
        }
        _ => 1,
    }
}

/// The length of a raw string with its prefix (`r"`, `br#"`, `cr##"`); 0 where none begins here.
fn raw_string(bytes: &[u8]) -> usize {
    let prefix = match bytes {
        [b'b' | b'c', b'r', ..] => 2,
        [b'r', ..] => 1,
        _ => return 0,
    };
    let hashes = bytes[prefix..].iter().take_while(|byte| **byte == b'#').count();
    let open = prefix + hashes;
    if bytes.get(open) != Some(&b'"') {
        return 0;
    }
    let close: Vec<u8> = std::iter::once(b'"').chain(std::iter::repeat_n(b'#', hashes)).collect();
    find(&bytes[open + 1..], &close).map_or(bytes.len(), |offset| open + 1 + offset + close.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(before: &str, after: &str) {
        assert_eq!(comments_and_strings(before), after);
    }

    #[test]
    fn comments_vanish() {
        check("a // b\nc", "a     \nc");
        check("a /* b /* c */ */ d", "a                 d");
    }

    #[test]
    fn literals_keep_their_quotes() {
        check(r#"f("x // y", 'z', '\'', 'a)"#, r#"f("      ", ' ', '  ', 'a)"#);
        check(r##"r#"a " b"# c"##, r##"r        # c"##);
        check("fn f<'a>(x: &'a str)", "fn f<'a>(x: &'a str)");
        check("'ü' b", "'  ' b");
    }

    #[test]
    fn test_items_are_not_shipped() {
        let text =
            "fn a() {}\n#[cfg(test)]\nmod tests {\n fn b() {}\n}\nfn c() {}\n#[cfg(test)]\nmod d;\nfn e() {}";
        let kept: Vec<_> = tests(text).split_whitespace().map(str::to_owned).collect();
        assert_eq!(kept, ["fn", "a()", "{}", "fn", "c()", "{}", "fn", "e()", "{}"]);
    }
}
