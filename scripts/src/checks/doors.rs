//! The two doors of mail in kumod: it is born in `intake`, and dies in `settle`. When mail is missing, there are two
//! places to look, and these rules keep it so.

use super::Finding;
use crate::Tree;
use crate::code::{is_word, line_of, words};

const SOURCES: &str = "kumod/src/";

/// A method of the mail store, and the only file that may call it.
const DOORS: [(&str, &str); 2] = [("accept", "kumod/src/intake.rs"), ("settle", "kumod/src/settle.rs")];

/// `store.accept(…)` stands in intake only, `store.settle(…)` in settle only. The variable or field is called `store`
/// everywhere, which is part of the rule: a socket has an `accept` too.
pub fn callers(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, file) in tree.rust(SOURCES) {
        for (method, door) in DOORS.iter().filter(|(_, door)| *door != path) {
            let code = &file.code.shipped;
            for offset in words(code, method).filter(|offset| is_call_on_store(code, *offset, method)) {
                let problem = format!("only {door} calls `{method}` of the mail store");
                findings.push(Finding::new(path, line_of(code, offset), problem));
            }
        }
    }
    findings
}

/// `store.method(` with any white space between, also `store().method(` and `MailStore::method(`.
fn is_call_on_store(code: &str, offset: usize, method: &str) -> bool {
    let is_call = code[offset + method.len()..].trim_start().starts_with('(');
    let before = code[..offset].trim_end();
    let receiver = match (before.strip_suffix('.'), before.strip_suffix("::")) {
        (Some(receiver), _) => {
            let receiver = receiver.trim_end();
            receiver.strip_suffix("()").unwrap_or(receiver)
        }
        (_, Some(owner)) => owner,
        _ => return false,
    };
    let is_store = ["store", "Store"].iter().any(|name| receiver.ends_with(name));
    is_call && is_store
}

/// Only `store` names the log itself: everything else of kumod knows the trait.
pub fn spool_is_behind_the_store(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (file, source) in tree.rust(SOURCES) {
        if file.starts_with("kumod/src/store/") || file == "kumod/src/store.rs" {
            continue;
        }
        for path in source.code.paths().iter().filter(|path| path.starts_with(&["spool", "Spool"])) {
            findings.push(Finding::new(
                file,
                path.line,
                "only kumod/src/store names `spool::Spool`: use MailStore",
            ));
        }
    }
    findings
}

/// The proof that mail is stored is built in intake only. The compiler guards the private field; this guards the reader.
pub fn accepted_is_made_in_intake(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, file) in tree.rust(SOURCES).filter(|(path, _)| *path != DOORS[0].1) {
        let code = &file.code.shipped;
        for offset in words(code, "Accepted").filter(|offset| is_construction(code, *offset)) {
            let problem = format!("only {} makes an `Accepted`", DOORS[0].1);
            findings.push(Finding::new(path, line_of(code, offset), problem));
        }
    }
    findings
}

fn is_construction(code: &str, offset: usize) -> bool {
    let is_braced = code[offset + "Accepted".len()..].trim_start().starts_with('{');
    let before = code[..offset].trim_end();
    let word_start = before.bytes().rposition(|byte| !is_word(byte)).map_or(0, |index| index + 1);
    let is_type = matches!(&before[word_start..], "struct" | "impl" | "for" | "enum" | "union" | "trait");
    is_braced && !is_type && !before.ends_with("->")
}

#[cfg(test)]
mod tests {
    use super::super::on;
    use super::*;

    #[test]
    fn the_door_itself_and_other_accepts_are_fine() {
        let files = [
            ("kumod/src/intake.rs", "fn f() { self.store.accept(x).await }"),
            ("kumod/src/inbound/listener.rs", "fn f() { listener.accept().await; session.accept(out); }"),
            (
                "kumod/src/store/mod.rs",
                "impl MailStore for Local { fn accept(&self) {} }\n// store.accept(x)\n",
            ),
            ("kumod/src/store/tests.rs", "fn f() { store.accept(x) }"),
            ("kumod/src/recover.rs", "#[cfg(test)]\nmod tests { fn f() { store.settle(x) } }"),
        ];
        assert_eq!(on(callers, &files), [""; 0]);
    }

    #[test]
    fn another_caller_is_found_in_every_spelling() {
        let caller = |source: &str| on(callers, &[("kumod/src/recover.rs", source)]);
        assert_eq!(
            caller("fn f() {\n self.store\n  .accept(x)\n}"),
            ["kumod/src/recover.rs:3: only kumod/src/intake.rs calls `accept` of the mail store"]
        );
        assert_eq!(caller("fn f() { node.store().settle(lease, x) }").len(), 1);
        assert_eq!(caller("fn f() { MailStore::settle(&*s, lease, x) }").len(), 1);
        assert_eq!(caller("fn f() { mail_store.accept (x) }").len(), 1);
    }

    #[test]
    fn the_log_is_named_in_store_only() {
        let source = "use spool::{Durability, Spool};";
        assert_eq!(on(spool_is_behind_the_store, &[("kumod/src/store/local.rs", source)]), [""; 0]);
        assert_eq!(
            on(spool_is_behind_the_store, &[("kumod/src/config/mod.rs", "use spool::Durability;")]),
            [""; 0]
        );
        assert_eq!(
            on(spool_is_behind_the_store, &[("kumod/src/recover.rs", source)]),
            ["kumod/src/recover.rs:1: only kumod/src/store names `spool::Spool`: use MailStore"]
        );
    }

    #[test]
    fn the_proof_is_built_in_intake_only() {
        let uses = "pub struct Accepted { x: u8 }\nimpl Accepted { fn f() -> Accepted { g() } }\nfn h(a: Accepted) {}\n";
        assert_eq!(on(accepted_is_made_in_intake, &[("kumod/src/ports.rs", uses)]), [""; 0]);
        let made = "fn f() -> Accepted {\n    Accepted { durability }\n}";
        assert_eq!(on(accepted_is_made_in_intake, &[("kumod/src/intake.rs", made)]), [""; 0]);
        assert_eq!(
            on(accepted_is_made_in_intake, &[("kumod/src/inbound/connection.rs", made)]),
            ["kumod/src/inbound/connection.rs:2: only kumod/src/intake.rs makes an `Accepted`"]
        );
    }
}
