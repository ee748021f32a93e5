//! Module levels inside kumod: a module uses lower levels only. The levels are read from ARCHITECTURE.md, from the block
//! fenced as `levels`, so that the drawing and the rule cannot drift apart.

use std::collections::BTreeMap;

use super::Finding;
use crate::Tree;
use crate::code::Path;

const MAP: &str = "ARCHITECTURE.md";
const SOURCES: &str = "kumod/src/";

/// The level of each module, and the line of the block's fence.
struct Levels {
    line: usize,
    of: BTreeMap<String, u32>,
}

/// Reads the block: each line is a number and names. Level 0 names crates, which Cargo knows already.
fn levels(tree: &Tree) -> Result<Levels, Finding> {
    let text = tree.text(MAP).ok_or_else(|| Finding::new(MAP, 1, "the file is missing"))?;
    let mut lines = text.lines().enumerate().skip_while(|(_, line)| line.trim() != "```levels");
    let Some((fence, _)) = lines.next() else {
        return Err(Finding::new(
            MAP,
            1,
            "there is no block fenced as ```levels: tidy reads kumod's levels there",
        ));
    };
    let mut of = BTreeMap::new();
    for (index, line) in lines.take_while(|(_, line)| line.trim() != "```") {
        let mut words = line.split_whitespace();
        let level: u32 = words.next().unwrap_or_default().parse().map_err(|_| {
            Finding::new(MAP, index + 1, "a line of the block is a level, then the modules on it")
        })?;
        for name in words.filter(|name| !name.contains('/')) {
            if of.insert(name.to_owned(), level).is_some() {
                return Err(Finding::new(MAP, index + 1, format!("`{name}` stands on two levels")));
            }
        }
    }
    Ok(Levels { line: fence + 1, of })
}

/// The module that a file of kumod belongs to: its first directory or its own name.
fn module_of(path: &str) -> &str {
    let inside = path.strip_prefix(SOURCES).unwrap_or(path);
    let first = inside.split('/').next().unwrap_or(inside);
    let name = first.strip_suffix(".rs").unwrap_or(first);
    if name == "bin" { "main" } else { name }
}

/// How many modules deep a file of kumod lies: 1 for `intake.rs` and `store/mod.rs`, 2 for `store/local.rs`.
fn depth_of(path: &str) -> usize {
    let inside = path.strip_prefix(SOURCES).unwrap_or(path);
    inside.split('/').count() - usize::from(inside.ends_with("/mod.rs"))
}

/// The module of kumod that a path leads to from a file at this depth, if it leads to one.
fn target(path: &Path, depth: usize) -> Option<&str> {
    let segments = &path.segments;
    let supers = segments.iter().take_while(|segment| *segment == "super").count();
    match segments[0].as_str() {
        "crate" => segments.get(1).map(String::as_str),
        "super" if supers == depth => segments.get(supers).map(String::as_str),
        _ => None,
    }
}

/// Every path from one module of kumod to another leads downwards. `lib.rs` is the map of all and stands outside.
pub fn arrows(tree: &Tree) -> Vec<Finding> {
    let levels = match levels(tree) {
        Ok(levels) => levels,
        Err(finding) => return vec![finding],
    };
    let mut findings = Vec::new();
    for (file, source) in tree.rust(SOURCES).filter(|(path, _)| *path != "kumod/src/lib.rs") {
        let module = module_of(file);
        let Some(own) = levels.of.get(module) else {
            continue;
        };
        for path in source.code.paths() {
            let Some(used) = target(&path, depth_of(file)) else {
                continue;
            };
            if used == module {
                continue;
            }
            if let Some(level) = levels.of.get(used).filter(|level| *level >= own) {
                let problem = format!(
                    "`{module}` (level {own}) may not use `{used}` (level {level}): a module uses lower levels only; \
                     a trait in `ports` lets a higher one serve a lower one"
                );
                findings.push(Finding::new(file, path.line, problem));
            }
        }
    }
    findings
}

/// The block names every module of kumod, and only what is there.
pub fn map_is_true(tree: &Tree) -> Vec<Finding> {
    let Ok(levels) = levels(tree) else {
        return Vec::new();
    };
    let mut present = BTreeMap::new();
    for (path, _) in tree.rust(SOURCES).filter(|(path, _)| *path != "kumod/src/lib.rs") {
        present.entry(module_of(path)).or_insert(path);
    }
    let unmapped = present.iter().filter(|(module, _)| !levels.of.contains_key(**module));
    let unmapped = unmapped.map(|(module, path)| {
        Finding::new(path, 1, format!("the module `{module}` has no level: add it to the block in {MAP}"))
    });
    let gone = levels.of.keys().filter(|module| !present.contains_key(module.as_str()));
    let gone =
        gone.map(|module| Finding::new(MAP, levels.line, format!("there is no module `{module}` in kumod")));
    unmapped.chain(gone).collect()
}

#[cfg(test)]
mod tests {
    use super::super::on;
    use super::*;

    const BLOCK: &str = "# x\n```levels\n3 main\n2 intake\n1 queue config\n0 crates/smtp\n```\n";

    fn broken(path: &str, source: &str) -> Vec<String> {
        on(arrows, &[(MAP, BLOCK), (path, source)])
    }

    #[test]
    fn downwards_is_fine_and_so_is_home() {
        let source = "use crate::queue::Queue;\nuse super::config;\nmod tests { }\n// crate::main::x\n";
        assert_eq!(broken("kumod/src/intake.rs", source), [""; 0]);
        assert_eq!(
            broken("kumod/src/queue/wheel.rs", "use crate::queue::name;\nuse super::retry::x;"),
            [""; 0]
        );
        let test_only = "#[cfg(test)]\nmod tests {\n use crate::main::x;\n}";
        assert_eq!(broken("kumod/src/queue/mod.rs", test_only), [""; 0]);
    }

    #[test]
    fn upwards_and_sideways_is_found_in_every_spelling() {
        let finding = broken("kumod/src/queue/mod.rs", "//! x\nuse crate::{config::A, intake::B};\n");
        assert_eq!(finding.len(), 2);
        assert!(
            finding[0]
                .starts_with("kumod/src/queue/mod.rs:2: `queue` (level 1) may not use `config` (level 1)")
        );
        assert!(finding[1].contains("may not use `intake` (level 2)"));
        assert_eq!(broken("kumod/src/queue/wheel.rs", "fn f() { crate::intake::take() }").len(), 1);
        assert_eq!(broken("kumod/src/queue/wheel.rs", "use super::super::intake::take;").len(), 1);
        assert_eq!(broken("kumod/src/queue/mod.rs", "use super::intake;").len(), 1);
    }

    #[test]
    fn the_block_must_be_there_and_true() {
        assert!(on(arrows, &[]).concat().contains("the file is missing"));
        assert!(on(arrows, &[(MAP, "# x\n")]).concat().contains("no block fenced"));
        assert!(
            on(arrows, &[(MAP, "```levels\nmain\n```\n")]).concat().contains("a level, then the modules")
        );
        assert!(on(arrows, &[(MAP, "```levels\n2 a\n1 a\n```\n")]).concat().contains("two levels"));
        let files =
            [(MAP, BLOCK), ("kumod/src/attic.rs", ""), ("kumod/src/main.rs", ""), ("kumod/src/lib.rs", "")];
        assert_eq!(
            on(map_is_true, &files),
            [
                "kumod/src/attic.rs:1: the module `attic` has no level: add it to the block in ARCHITECTURE.md",
                "ARCHITECTURE.md:2: there is no module `config` in kumod",
                "ARCHITECTURE.md:2: there is no module `intake` in kumod",
                "ARCHITECTURE.md:2: there is no module `queue` in kumod",
            ]
        );
    }
}
