//! Paths: `a::b`, and groups `a::{b, c::d}` expanded to `a::b` and `a::c::d`.

use super::{closing, is_word, line_of};

/// A path as it stands in the code, with at least two segments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path {
    /// Its line, from 1.
    pub line: usize,
    /// Its segments; `*` for a glob.
    pub segments: Vec<String>,
}

impl Path {
    /// Whether the path begins with these segments.
    pub fn starts_with(&self, prefix: &[&str]) -> bool {
        self.segments.len() >= prefix.len() && self.segments.iter().zip(prefix).all(|(a, b)| a == b)
    }
}

/// Every path of a blanked text, in order.
pub(super) fn all(text: &str) -> Vec<Path> {
    let bytes = text.as_bytes();
    let mut paths = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let is_start = is_word(bytes[at]) && !bytes[at].is_ascii_digit();
        if is_start {
            at = read(text, at, &mut Vec::new(), &mut paths);
        } else {
            at += 1;
        }
    }
    paths.retain(|path| path.segments.len() > 1);
    paths
}

/// Reads one path from `at`, below `prefix`; returns the offset after it.
fn read(text: &str, at: usize, prefix: &mut Vec<String>, paths: &mut Vec<Path>) -> usize {
    let depth = prefix.len();
    let line = line_of(text, at);
    let mut at = at;
    loop {
        let end = word_end(text, at);
        prefix.push(text[at..end].to_owned());
        at = end;
        let Some(next) = text[skip_space(text, at)..].strip_prefix("::") else {
            break;
        };
        let next = skip_space(text, text.len() - next.len());
        match text.as_bytes().get(next) {
            Some(b'{') => {
                at = group(text, next, prefix, paths);
                prefix.truncate(depth);
                return at;
            }
            Some(b'*') => {
                prefix.push("*".into());
                at = next + 1;
                break;
            }
            Some(byte) if is_word(*byte) => at = next,
            _ => break,
        }
    }
    paths.push(Path { line, segments: prefix.clone() });
    prefix.truncate(depth);
    at
}

/// Reads the members of `{…}`; returns the offset after the closing brace.
fn group(text: &str, open: usize, prefix: &mut Vec<String>, paths: &mut Vec<Path>) -> usize {
    let end = closing(text, open).unwrap_or(text.len());
    let mut at = open + 1;
    while at < end {
        match text.as_bytes()[at] {
            b'*' => {
                let segments = prefix.iter().cloned().chain(["*".to_owned()]).collect();
                paths.push(Path { line: line_of(text, at), segments });
                at += 1;
            }
            byte if is_word(byte) => {
                at = read(text, at, prefix, paths);
                at = skip_alias(text, at);
            }
            _ => at += 1,
        }
    }
    end + 1
}

/// `as name` after a member of a group is no member.
fn skip_alias(text: &str, at: usize) -> usize {
    let next = skip_space(text, at);
    if text[next..].starts_with("as ") { word_end(text, skip_space(text, next + 3)) } else { at }
}

fn word_end(text: &str, at: usize) -> usize {
    at + text.as_bytes()[at..].iter().take_while(|byte| is_word(**byte)).count()
}

fn skip_space(text: &str, at: usize) -> usize {
    at + text.as_bytes()[at..].iter().take_while(|byte| byte.is_ascii_whitespace()).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_expanded() {
        let text =
            "use crate::{\n    a::{B, C as D},\n    e,\n    f::*,\n};\nlet x = g::h(i);\nuse j::k as l;";
        let paths: Vec<_> = all(text).into_iter().map(|path| (path.line, path.segments.join("::"))).collect();
        let expected = [
            (2, "crate::a::B"),
            (2, "crate::a::C"),
            (3, "crate::e"),
            (4, "crate::f::*"),
            (6, "g::h"),
            (7, "j::k"),
        ];
        assert_eq!(paths, expected.map(|(line, path)| (line, path.to_owned())));
    }

    #[test]
    fn an_open_end_is_no_crash() {
        assert_eq!(all("a::{b").len(), 1);
        assert_eq!(all("a::").len(), 0);
    }
}
