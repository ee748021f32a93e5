//! What no file may hold: channels without a limit, checks that cannot fail, unfinished places, and words of the machine
//! that a file was written on. This crate's own sources are left out of the last two, because they must name the words.

use super::Finding;
use crate::Tree;
use crate::code::{closing, line_of, words};

const OWN_SOURCES: &str = "scripts/src/";

/// Every queue has a named limit: no constructor or type of a channel without one.
pub fn unbounded_channels(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, file) in tree.rust("") {
        let code = &file.code.all;
        let mut offsets: Vec<usize> =
            ["unbounded_channel", "unbounded", "UnboundedSender", "UnboundedReceiver"]
                .iter()
                .flat_map(|word| words(code, word))
                .chain(words(code, "channel").filter(|offset| is_channel_without_limit(code, *offset)))
                .collect();
        offsets.sort_unstable();
        let problem = "a channel without a limit: every queue has a named limit with a unit";
        findings.extend(offsets.into_iter().map(|offset| Finding::new(path, line_of(code, offset), problem)));
    }
    findings
}

/// `channel()` with no argument, which is the standard library's; a one-shot holds one value and is bounded by that.
fn is_channel_without_limit(code: &str, offset: usize) -> bool {
    let mut after = code[offset + "channel".len()..].trim_start();
    if let Some(generics) = after.strip_prefix("::<") {
        after = generics.find('(').map_or("", |open| &generics[open..]);
    }
    let is_empty_call = after.strip_prefix('(').is_some_and(|inner| inner.trim_start().starts_with(')'));
    let before = code[..offset].trim_end();
    is_empty_call && !["oneshot::", ".", "fn"].iter().any(|prefix| before.ends_with(prefix))
}

/// A bare `matches!(…);` decides nothing, and `assert!(true)` cannot fail.
pub fn checks_that_cannot_fail(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, file) in tree.rust("") {
        let code = &file.code.all;
        for offset in words(code, "matches!(").filter(|offset| is_bare_statement(code, *offset)) {
            let problem = "a bare `matches!(…);` checks nothing: wrap it in assert!";
            findings.push(Finding::new(path, line_of(code, offset), problem));
        }
        for offset in words(code, "assert!(true") {
            findings.push(Finding::new(path, line_of(code, offset), "`assert!(true` cannot fail"));
        }
    }
    findings
}

fn is_bare_statement(code: &str, offset: usize) -> bool {
    let before = code[..offset].trim_end();
    let is_statement = before.ends_with([';', '{', '}']) || before.ends_with("let _ =");
    let close = closing(code, offset + "matches!".len());
    is_statement && close.is_some_and(|close| code[close + 1..].trim_start().starts_with(';'))
}

/// Marks of unfinished work, in code and in comments.
pub fn unfinished(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, file) in tree.rust("").filter(|(path, _)| !path.starts_with(OWN_SOURCES)) {
        for mark in ["#[ignore", "todo!", "unimplemented!"] {
            let code = &file.code.all;
            findings.extend(words(code, mark).map(|offset| left_open(path, code, offset, mark)));
        }
    }
    let texts = [".rs", ".toml", ".sh", ".yml", ".lua", ".html"];
    for (path, file) in tree.files().filter(|(path, _)| texts.iter().any(|end| path.ends_with(end))) {
        if path.starts_with(OWN_SOURCES) {
            continue;
        }
        for mark in ["TODO", "FIXME", "XXX"] {
            findings.extend(words(&file.text, mark).map(|offset| left_open(path, &file.text, offset, mark)));
        }
    }
    findings
}

fn left_open(path: &str, text: &str, offset: usize, mark: &str) -> Finding {
    Finding::new(
        path,
        line_of(text, offset),
        format!("`{mark}`: finish it, or write it where work is planned"),
    )
}

/// Directories that exist on one machine only, and hosts that serve packages: neither belongs in a checkout.
const MACHINE_WORDS: [&str; 8] = [
    "/work/",
    "/home/",
    "/root/",
    "/tmp/target",
    "/Users/",
    "index.crates.io",
    "static.crates.io",
    "deb.debian.org",
];

/// No path of a development machine and no host of a package registry in any text.
pub fn machine_words(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, file) in tree.files().filter(|(path, _)| !path.starts_with(OWN_SOURCES)) {
        for word in MACHINE_WORDS {
            let offsets = words(&file.text, word).filter(|offset| starts_a_path(&file.text, *offset));
            findings.extend(offsets.map(|offset| {
                let line = line_of(&file.text, offset);
                Finding::new(path, line, format!("`{word}` belongs to one machine, not to the checkout"))
            }));
        }
    }
    findings
}

/// `/home/` is a path of a machine at the start of a path only: `docs/home/page` is not one.
fn starts_a_path(text: &str, offset: usize) -> bool {
    let before = text[..offset].bytes().next_back();
    before.is_none_or(|byte| !byte.is_ascii_alphanumeric() && !b"_-./>}".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::super::on;
    use super::*;

    fn lines(rule: fn(&Tree) -> Vec<Finding>, source: &str) -> Vec<usize> {
        rule(&Tree::fake(&[("a.rs", source)])).iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn channels_have_limits() {
        let bounded = "use tokio::sync::mpsc;\nlet a = mpsc::channel(LIMIT);\nlet b = oneshot::channel();\n\
                       let c = sync_channel(1); // unbounded\nfn channel() {}\nlet d = x.channel();";
        assert_eq!(lines(unbounded_channels, bounded), [0; 0]);
        let open = "let a = mpsc::channel();\nlet b = channel::<Vec<u8>>( );\nlet c = mpsc::unbounded_channel();\n\
                    let d = crossbeam::unbounded();\nlet e: UnboundedSender<u8>;";
        assert_eq!(lines(unbounded_channels, open), [1, 2, 3, 4, 5]);
    }

    #[test]
    fn a_check_can_fail() {
        let good = "fn f() {\n assert!(matches!(a, B));\n let x = matches!(a, B);\n matches!(a, B)\n}\n\
                    fn g() { return matches!(a, B); }\nassert!(trueish);";
        assert_eq!(lines(checks_that_cannot_fail, good), [0; 0]);
        let bad =
            "fn f() {\n matches!(a, B { .. });\n let _ = matches!(\n  a, B);\n assert!(true, \"x\");\n}";
        assert_eq!(lines(checks_that_cannot_fail, bad), [2, 3, 5]);
    }

    #[test]
    fn nothing_is_left_open() {
        assert_eq!(lines(unfinished, "let s = \"todo!\";\nfn todo() {}\n#[test]\nfn f() {}"), [0; 0]);
        assert_eq!(lines(unfinished, "#[ignore]\nfn f() { todo!() }\n// TODO: more\n// FIXME"), [1, 2, 3, 4]);
        let toml = on(unfinished, &[("a.toml", "# TODO\n")]);
        assert_eq!(toml, ["a.toml:1: `TODO`: finish it, or write it where work is planned"]);
    }

    #[test]
    fn a_checkout_speaks_of_no_machine() {
        assert_eq!(on(machine_words, &[("a.md", "docs/home/x, ./work/x, $ROOT/work/x, target/")]), [""; 0]);
        assert_eq!(
            on(machine_words, &[("a.md", "x\nsee `/home/me/x`\n"), ("b", "cd /tmp/target/x")]),
            [
                "a.md:2: `/home/` belongs to one machine, not to the checkout",
                "b:1: `/tmp/target` belongs to one machine, not to the checkout",
            ]
        );
    }
}
