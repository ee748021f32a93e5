//! What a source file must be: it opens with its paragraph, and where it must be free of I/O or of `unsafe`, it is.

use super::Finding;
use crate::Tree;
use crate::code::{line_of, words};

/// The first line of every Rust file is a `//!` line with words on it.
pub fn opening_paragraph(tree: &Tree) -> Vec<Finding> {
    let silent = tree.rust("").filter(|(_, file)| {
        let first = file.text.lines().next().unwrap_or_default();
        first.strip_prefix("//!").is_none_or(|words| words.trim().is_empty())
    });
    let problem =
        "the file does not open with its `//!` paragraph: what it owns, what it refuses, how it fails";
    silent.map(|(path, _)| Finding::new(path, 1, problem)).collect()
}

/// Sources that are deterministic: bytes and `now` come in, actions go out.
const PURE: [&str; 4] = ["crates/smtp/src/", "crates/message/src/", "kumod/src/queue/", "kumod/src/queue.rs"];

/// What such a source may not name, as paths; `*` at the end stands for the rest of a name.
const IMPURE: [&str; 14] = [
    "Instant::now",
    "SystemTime::now",
    "Timestamp::now",
    "Zoned::now",
    "time::SystemTime",
    "std::fs",
    "std::env",
    "std::process",
    "std::thread",
    "net::Tcp*",
    "net::UdpSocket",
    "io::stdin",
    "tokio::*",
    "fastrand::*",
];

/// No clock, file, socket, thread, runtime or dice in a deterministic source, outside its tests.
pub fn no_input_or_output(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (file, source) in PURE.iter().flat_map(|place| tree.rust(place)) {
        for path in source.code.paths() {
            if let Some(banned) = IMPURE.iter().find(|banned| names(&path.segments, banned)) {
                let problem =
                    format!("`{banned}` in a source without I/O: take the time or the bytes as a parameter");
                findings.push(Finding::new(file, path.line, problem));
            }
        }
    }
    findings
}

/// Whether the pattern's segments stand one after another in the path.
fn names(segments: &[String], pattern: &str) -> bool {
    let pattern: Vec<&str> = pattern.split("::").collect();
    segments.windows(pattern.len()).any(|window| {
        window.iter().zip(&pattern).all(|(segment, pattern)| match pattern.strip_suffix('*') {
            Some(start) => segment.starts_with(start),
            None => segment == pattern,
        })
    })
}

/// The only files with `unsafe`, each with the reason.
const UNSAFE_ALLOWED: [(&str, &str); 2] = [
    ("crates/spool/src/disk/uring.rs", "the kernel reads and writes its buffers"),
    ("benches/src/allocator.rs", "an allocator that counts; no product is linked with it"),
];

/// `unsafe` stands in one file of the product and one of the benches, so that these are to be read for it.
pub fn unsafe_code(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, file) in tree.rust("") {
        if UNSAFE_ALLOWED.iter().any(|(allowed, _)| *allowed == path) {
            continue;
        }
        let code = &file.code.all;
        let problem =
            format!("`unsafe` stands only in {}", UNSAFE_ALLOWED.map(|(allowed, _)| allowed).join(" and "));
        let offsets = words(code, "unsafe");
        findings.extend(offsets.map(|offset| Finding::new(path, line_of(code, offset), problem.clone())));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::on;
    use super::*;

    #[test]
    fn a_file_opens_with_its_paragraph() {
        let files = [
            ("a.rs", "//! What it owns.\n"),
            ("b.rs", "use x;\n//! late\n"),
            ("c.rs", "//!\n//! x"),
            ("d.rs", ""),
        ];
        let found = on(opening_paragraph, &files);
        assert_eq!(found.iter().map(|finding| &finding[..4]).collect::<Vec<_>>(), ["b.rs", "c.rs", "d.rs"]);
    }

    #[test]
    fn impure_names_are_found_however_they_are_imported() {
        let pure = |source: &str| on(no_input_or_output, &[("crates/smtp/src/data.rs", source)]);
        assert_eq!(
            pure("use std::time::{Duration, Instant};\nfn f(now: Instant) {}\n// std::fs::read\n"),
            [""; 0]
        );
        assert_eq!(pure("use std::net::IpAddr;\nlet s = \"tokio::spawn\";"), [""; 0]);
        assert_eq!(pure("#[cfg(test)]\nmod tests { use std::fs; fn f() { Instant::now(); } }"), [""; 0]);
        assert_eq!(pure("//! x\nuse std::{fmt, fs};\n").len(), 1);
        assert_eq!(pure("fn f() { let now = std::time::Instant::now(); }").len(), 1);
        assert_eq!(pure("use std::net::{IpAddr, TcpStream};").len(), 1);
        assert_eq!(pure("use tokio::sync::Mutex;").len(), 1);
        let queue = on(no_input_or_output, &[("kumod/src/queue/wheel.rs", "fn f() { SystemTime::now() }")]);
        assert_eq!(
            queue,
            [
                "kumod/src/queue/wheel.rs:1: `SystemTime::now` in a source without I/O: take the time or the bytes as a parameter"
            ]
        );
        assert_eq!(on(no_input_or_output, &[("kumod/src/dns/mx.rs", "use tokio::net;")]), [""; 0]);
    }

    #[test]
    fn unsafe_has_its_homes() {
        let source = "//! unsafe\n#![deny(unsafe_code)]\nfn f() { unsafe { g() } }\n";
        for (allowed, _) in UNSAFE_ALLOWED {
            assert_eq!(on(unsafe_code, &[(allowed, source)]), [""; 0]);
        }
        assert_eq!(
            on(unsafe_code, &[("sink/src/lib.rs", source)]),
            [
                "sink/src/lib.rs:3: `unsafe` stands only in crates/spool/src/disk/uring.rs and benches/src/allocator.rs"
            ]
        );
    }
}
