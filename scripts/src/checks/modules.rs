//! Dead files: a source file that no `mod` line reaches is compiled by nobody and believed by everybody.

use super::Finding;
use crate::Tree;
use crate::code::words;

/// Every file under a `src` directory is a root or is named by a `mod` line of its parent.
pub fn files_are_reached(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, _) in tree.rust("") {
        let Some((module, parents)) = parents(path) else {
            continue;
        };
        let is_named = parents.iter().filter_map(|parent| tree.files().find(|(path, _)| path == parent));
        let is_named = is_named.into_iter().any(|(_, parent)| declares(&parent.code.all, module));
        if !is_named {
            let problem = format!("no `mod {module};` reaches this file: looked in {}", parents.join(", "));
            findings.push(Finding::new(path, 1, problem));
        }
    }
    findings
}

fn declares(code: &str, module: &str) -> bool {
    let declaration = format!("mod {module};");
    words(code, &declaration).next().is_some()
}

/// The module name of a file and the files that may declare it; nothing for the root of a crate or of a binary.
fn parents(path: &str) -> Option<(&str, Vec<String>)> {
    let (root, inside) = path.split_once("src/")?;
    let root = format!("{root}src");
    let stem = inside.strip_suffix("/mod.rs").or_else(|| inside.strip_suffix(".rs"))?;
    match stem.rsplit_once('/') {
        None if matches!(stem, "lib" | "main") => None,
        Some(("bin", _)) => None,
        None => Some((stem, vec![format!("{root}/lib.rs"), format!("{root}/main.rs")])),
        Some((directory, module)) => Some((
            module,
            vec![
                format!("{root}/{directory}.rs"),
                format!("{root}/{directory}/mod.rs"),
                // A binary with files of its own.
                format!("{root}/{directory}/main.rs"),
            ],
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::super::on;
    use super::*;

    #[test]
    fn a_file_that_nobody_names_is_dead() {
        let files = [
            ("a/src/lib.rs", "pub mod b;\nmod c;\n// mod d;\n"),
            ("a/src/b.rs", "mod e;"),
            ("a/src/b/e.rs", ""),
            ("a/src/c/mod.rs", "pub(super) mod f;"),
            ("a/src/c/f.rs", ""),
            ("a/src/d.rs", ""),
            ("a/src/c/g.rs", ""),
            ("a/src/bin/tool.rs", ""),
            ("a/tests/any.rs", ""),
        ];
        assert_eq!(
            on(files_are_reached, &files),
            [
                "a/src/c/g.rs:1: no `mod g;` reaches this file: looked in a/src/c.rs, a/src/c/mod.rs, a/src/c/main.rs",
                "a/src/d.rs:1: no `mod d;` reaches this file: looked in a/src/lib.rs, a/src/main.rs",
            ]
        );
    }
}
