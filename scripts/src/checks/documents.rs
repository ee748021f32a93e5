//! A document that must keep pace with the code: the spool's format.

use super::Finding;
use crate::Tree;
use crate::code::is_word;

const FORMAT_SOURCES: [&str; 2] = ["crates/spool/src/format.rs", "crates/spool/src/record.rs"];
const FORMAT_DOCUMENT: &str = "docs/spool-format.md";

/// Every constant of the format stands in the document with its name and, where it is a plain number, with that number
/// on the same line: who changes the layout meets this rule before the reader meets the old drawing.
pub fn spool_format(tree: &Tree) -> Vec<Finding> {
    let document = tree.text(FORMAT_DOCUMENT).unwrap_or_default();
    let mut findings = Vec::new();
    for (path, source) in FORMAT_SOURCES.iter().flat_map(|path| tree.rust(path)) {
        for (line, name, value) in public_constants(&source.code.shipped) {
            findings.extend(undrawn(document, name, value).map(|problem| Finding::new(path, line, problem)));
        }
    }
    findings
}

/// What the document lacks of a constant, if it lacks anything.
fn undrawn(document: &str, name: &str, value: &str) -> Option<String> {
    let rows: Vec<&str> = document.lines().filter(|row| has_word(row, name)).collect();
    if rows.is_empty() {
        return Some(format!("the format's constant `{name}` is not in {FORMAT_DOCUMENT}"));
    }
    let value = plain_number(value)?;
    let is_drawn = rows.iter().any(|row| holds_number(row, value));
    (!is_drawn)
        .then(|| format!("{FORMAT_DOCUMENT} names `{name}` without its value {value}: draw the new layout"))
}

/// `pub const NAME: type = value;` and `pub(crate)` ones, with their lines.
fn public_constants(code: &str) -> Vec<(usize, &str, &str)> {
    let constants = code.lines().enumerate().filter_map(|(index, line)| {
        let line = line.strip_prefix("pub const ").or_else(|| line.strip_prefix("pub(crate) const "))?;
        let (name, rest) = line.split_once(':')?;
        let (_, value) = rest.split_once('=')?;
        let is_constant = name.bytes().all(is_word);
        is_constant.then(|| (index + 1, name, value.trim().trim_end_matches(';')))
    });
    constants.collect()
}

fn plain_number(text: &str) -> Option<u64> {
    let digits = text.replace('_', "");
    match digits.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => digits.parse().ok(),
    }
}

fn has_word(row: &str, word: &str) -> bool {
    row.split(|character: char| !character.is_ascii() || !is_word(character as u8)).any(|found| found == word)
}

fn holds_number(row: &str, value: u64) -> bool {
    let words = row.split(|character: char| !character.is_ascii() || !is_word(character as u8));
    words.filter_map(plain_number).any(|number| number == value)
}

#[cfg(test)]
mod tests {
    use super::super::on;
    use super::*;

    #[test]
    fn the_drawing_follows_the_format() {
        let source =
            "//! x\npub const HEADER_BYTES: usize = 6_4;\npub(crate) const MAGIC: [u8; 4] = *b\"abcd\";\n";
        let check = |document| on(spool_format, &[(FORMAT_SOURCES[0], source), (FORMAT_DOCUMENT, document)]);
        assert_eq!(check("| `HEADER_BYTES` | 64 |\n`MAGIC` is abcd"), [""; 0]);
        assert_eq!(check("| `HEADER_BYTES` | 0x40 |\n`MAGIC`"), [""; 0]);
        assert_eq!(
            check("| `HEADER_BYTES` | 48 |\n64 MAGICAL"),
            [
                "crates/spool/src/format.rs:2: docs/spool-format.md names `HEADER_BYTES` without its value 64: draw the new layout",
                "crates/spool/src/format.rs:3: the format's constant `MAGIC` is not in docs/spool-format.md",
            ]
        );
    }
}
