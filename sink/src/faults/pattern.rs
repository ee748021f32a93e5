//! Patterns for names and addresses: text in which `*` stands for anything.
//!
//! Letters are compared as in DNS, ASCII upper and lower case alike. Nothing is refused: every text is a
//! pattern.

/// One pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pattern {
    /// What stands between the stars, at least one part.
    parts: Box<[Box<str>]>,
}

impl Pattern {
    pub(super) fn new(text: &str) -> Self {
        Self { parts: text.split('*').map(|part| part.to_ascii_lowercase().into()).collect() }
    }

    /// The text, where it has no star.
    pub(super) fn exact(&self) -> Option<&str> {
        match &*self.parts {
            [text] => Some(text),
            _ => None,
        }
    }

    /// What stands before the first star.
    pub(super) fn beginning(&self) -> &str {
        self.parts.first().map_or("", |part| part)
    }

    /// The text behind the last `@`, where there is one and no star behind it. The null sender has none.
    pub(super) fn exact_domain(&self) -> Option<&str> {
        self.parts.last()?.rsplit_once('@').map(|(_, domain)| domain)
    }

    pub(super) fn matches(&self, text: &str) -> bool {
        let text = text.as_bytes();
        match &*self.parts {
            [] => true,
            [exact] => text.eq_ignore_ascii_case(exact.as_bytes()),
            [first, middle @ .., last] => {
                let (first, last) = (first.as_bytes(), last.as_bytes());
                // Most texts differ from most patterns in a letter at their ends.
                if differ(first.first(), text.first()) || differ(last.last(), text.last()) {
                    return false;
                }
                let Some(inner_bytes) = text.len().checked_sub(first.len() + last.len()) else {
                    return false;
                };
                let (start, rest) = text.split_at(first.len());
                let (inner, end) = rest.split_at(inner_bytes);
                start.eq_ignore_ascii_case(first)
                    && end.eq_ignore_ascii_case(last)
                    && holds_in_order(inner, middle)
            }
        }
    }
}

/// Whether a pattern that begins or ends with a letter cannot match a text that has another one there.
fn differ(pattern: Option<&u8>, text: Option<&u8>) -> bool {
    pattern.is_some_and(|pattern| text.is_none_or(|text| !text.eq_ignore_ascii_case(pattern)))
}

fn holds_in_order(mut text: &[u8], parts: &[Box<str>]) -> bool {
    for part in parts.iter().map(|part| part.as_bytes()).filter(|part| !part.is_empty()) {
        match text.windows(part.len()).position(|window| window.eq_ignore_ascii_case(part)) {
            Some(at) => text = &text[at + part.len()..],
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_exact_is_told() {
        let exact = |text| Pattern::new(text).exact().map(str::to_owned);
        let domain = |text| Pattern::new(text).exact_domain().map(str::to_owned);
        assert_eq!([exact("Joe"), exact("j*")], [Some("joe".to_owned()), None]);
        assert_eq!(
            [domain("*@A.test"), domain("joe@a.test")],
            [Some("a.test".to_owned()), Some("a.test".to_owned())]
        );
        assert_eq!([domain("x@*.test"), domain(""), domain("*")], [None, None, None]);
    }

    #[test]
    fn stars_stand_for_anything() {
        let table = [
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("*", "anything", true),
            ("Gmail.com", "gmAIL.COM", true),
            ("gmail.com", "gmail.comm", false),
            ("*.example", "mx.EXAMPLE", true),
            ("*.example", "example", false),
            ("a*a", "a", false),
            ("a*a", "aa", true),
            ("user-*-x*", "user-1-xyz", true),
            ("user-*-x*", "user-x", false),
            ("*b*b*", "abcb", true),
            ("*b*b*", "ab", false),
            ("ä*", "äh", true),
            ("x*", "", false),
        ];
        for (pattern, text, expected) in table {
            assert_eq!(Pattern::new(pattern).matches(text), expected, "{pattern} {text}");
        }
    }
}
