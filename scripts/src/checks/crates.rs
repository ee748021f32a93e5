//! Crate arrows: which crate of the workspace may use which. Cargo itself refuses cycles; this refuses short cuts.

use std::collections::BTreeSet;

use toml::Table;

use super::Finding;
use crate::Tree;

/// A crate, and the crates of the workspace that it may use.
struct Arrows {
    name: &'static str,
    uses: &'static [&'static str],
    /// May be used by its tests and benches as well.
    tests_use: &'static [&'static str],
}

const fn arrows_of(
    name: &'static str,
    uses: &'static [&'static str],
    tests_use: &'static [&'static str],
) -> Arrows {
    Arrows { name, uses, tests_use }
}

const ARROWS: [Arrows; 12] = [
    arrows_of("smtp", &[], &[]),
    arrows_of("message", &[], &[]),
    arrows_of("spool", &[], &[]),
    arrows_of("reports", &[], &[]),
    arrows_of("sink", &["smtp", "message", "reports"], &[]),
    arrows_of("traffic-gen", &["smtp", "message", "reports"], &["sink"]),
    arrows_of("tuner", &["spool", "reports"], &[]),
    arrows_of("kumod", &["smtp", "message", "spool"], &["kumo-proxy", "sink", "traffic-gen"]),
    arrows_of(
        "benches",
        &["smtp", "message", "spool", "reports", "sink", "traffic-gen", "tuner", "kumod"],
        &[],
    ),
    arrows_of("kumo-proxy", &[], &[]),
    arrows_of("packaging", &[], &[]),
    arrows_of("scripts", &[], &[]),
];

/// Every dependency between crates of the workspace follows an arrow.
pub fn arrows(tree: &Tree) -> Vec<Finding> {
    let manifests = tree.files().filter(|(path, _)| path.ends_with("Cargo.toml") && !path.contains("fuzz/"));
    manifests.flat_map(|(path, file)| arrows_of_manifest(path, &file.text)).collect()
}

fn arrows_of_manifest(path: &str, text: &str) -> Vec<Finding> {
    let manifest: Table = match text.parse() {
        Ok(manifest) => manifest,
        Err(error) => return vec![Finding::new(path, 1, format!("not a manifest: {error}"))],
    };
    let name = manifest.get("package").and_then(|package| package.get("name")).and_then(|name| name.as_str());
    let Some(name) = name else { return Vec::new() };
    let Some(arrows) = ARROWS.iter().find(|arrows| arrows.name == name) else {
        let problem =
            format!("the crate `{name}` has no row of arrows: add it to scripts/src/checks/crates.rs");
        return vec![Finding::new(path, 1, problem)];
    };
    let mut findings = Vec::new();
    for used in dependencies(&manifest, &["dependencies", "build-dependencies"]) {
        if !arrows.uses.contains(&used.as_str()) {
            findings.push(refused(path, text, name, &used, "may not use"));
        }
    }
    for used in dependencies(&manifest, &["dev-dependencies"]) {
        if !arrows.uses.contains(&used.as_str()) && !arrows.tests_use.contains(&used.as_str()) {
            findings.push(refused(path, text, name, &used, "may not use, not even in tests,"));
        }
    }
    findings
}

fn refused(path: &str, text: &str, name: &str, used: &str, verb: &str) -> Finding {
    let line = text.lines().position(|line| line.starts_with(used)).map_or(1, |index| index + 1);
    Finding::new(
        path,
        line,
        format!("the crate `{name}` {verb} `{used}`: the arrows stand in ARCHITECTURE.md"),
    )
}

/// The crates of the workspace among the dependencies of these tables, those under `[target.…]` too.
fn dependencies(manifest: &Table, tables: &[&str]) -> BTreeSet<String> {
    let targets = manifest.get("target").and_then(|target| target.as_table());
    let targets =
        targets.into_iter().flat_map(|targets| targets.values()).filter_map(|value| value.as_table());
    let mut used = BTreeSet::new();
    for section in std::iter::once(manifest).chain(targets) {
        for table in tables.iter().filter_map(|name| section.get(*name)?.as_table()) {
            for (key, value) in table {
                let package = value.get("package").and_then(|package| package.as_str()).unwrap_or(key);
                used.insert(package.to_owned());
            }
        }
    }
    used.retain(|name| ARROWS.iter().any(|arrows| arrows.name == name));
    used
}

#[cfg(test)]
mod tests {
    use super::super::on;
    use super::*;

    #[test]
    fn the_drawn_arrows_hold() {
        let manifest = "[package]\nname = \"kumod\"\n[dependencies]\nspool.workspace = true\ntokio = \"1\"\n\
                        [dev-dependencies]\nsink.workspace = true\n";
        assert_eq!(on(arrows, &[("kumod/Cargo.toml", manifest)]), [""; 0]);
    }

    #[test]
    fn a_short_cut_is_found_in_every_table_and_under_another_name() {
        let finding = |manifest: &str| on(arrows, &[("Cargo.toml", manifest)]).join("\n");
        let plain = finding("[package]\nname = \"smtp\"\n[dependencies]\nspool.workspace = true\n");
        assert_eq!(
            plain,
            "Cargo.toml:4: the crate `smtp` may not use `spool`: the arrows stand in ARCHITECTURE.md"
        );
        let renamed =
            "[package]\nname = \"smtp\"\n[build-dependencies]\nlog = { package = \"spool\", path = \"x\" }\n";
        assert!(finding(renamed).contains("`smtp` may not use `spool`"));
        let target =
            "[package]\nname = \"sink\"\n[target.'cfg(unix)'.dependencies]\nkumod.workspace = true\n";
        assert!(finding(target).contains("`sink` may not use `kumod`"));
        let tests = "[package]\nname = \"sink\"\n[dev-dependencies]\nkumod.workspace = true\n";
        assert!(finding(tests).contains("not even in tests"));
        assert!(finding("[package]\nname = \"attic\"\n").contains("has no row of arrows"));
        assert!(finding("[package\n").contains("not a manifest"));
    }
}
