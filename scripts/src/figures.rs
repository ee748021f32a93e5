//! Lengths of files and functions, crate by crate, beside those of codebases we admire. Figures, not rules: a long
//! function is named here so that someone may want to shorten it, and nothing fails.
//!
//! A function runs from the line of its `fn` to the closing brace at the same indent, which rustfmt makes exact enough.
//! Files with `test` in their path are left out, test modules at the end of a file are left in; the models were
//! counted the same way.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::Tree;

/// How many of our longest functions are named.
const LONGEST_NAMED: usize = 10;

/// Files, lines, and the lengths of files and functions: of ours, and of a model as it was counted.
#[derive(Debug, Default, PartialEq, Eq)]
struct Row {
    name: String,
    files: usize,
    lines: usize,
    file_median: usize,
    file_p90: usize,
    file_longest: usize,
    function_median: usize,
    function_p90: usize,
    function_p99: usize,
    function_longest: usize,
}

/// Codebases to learn from (the first four) and the two mail servers in Rust (the last two): name, files, lines, file
/// median, p90 and longest, function median, p90, p99 and longest. 0 where it was not counted.
const MODELS: [(&str, [usize; 9]); 6] = [
    ("mrecordlog", [27, 4_275, 113, 360, 464, 6, 23, 56, 70]),
    ("rustls", [83, 43_162, 368, 1_181, 1_802, 7, 29, 109, 382]),
    ("quinn-proto", [53, 30_028, 333, 1_008, 4_153, 7, 36, 125, 559]),
    ("chasquid", [107, 23_839, 182, 415, 1_298, 11, 44, 0, 159]),
    ("KumoMTA", [377, 124_058, 165, 750, 4_124, 11, 76, 358, 694]),
    ("Stalwart smtp", [58, 19_336, 260, 654, 1_604, 13, 96, 407, 1_343]),
];

/// A function and its length.
#[derive(Debug, PartialEq, Eq)]
struct Function {
    lines: usize,
    name: String,
    path: String,
    line: usize,
}

/// Both tables and our longest functions, as text.
pub fn report(tree: &Tree) -> String {
    let (rows, mut functions) = measure(tree);
    let mut text = String::from(
        "                     |------------- files --------------|  |-------- functions ---------|\n\
         crate                files    lines  median   p90  longest  median   p90   p99  longest\n",
    );
    for row in &rows {
        line(&mut text, row);
    }
    text.push_str("\nmodels\n");
    for (name, counts) in MODELS {
        line(&mut text, &model(name, counts));
    }
    functions.sort_by(|a, b| b.lines.cmp(&a.lines).then_with(|| a.path.cmp(&b.path)));
    text.push_str("\nour longest functions\n");
    for function in functions.iter().take(LONGEST_NAMED) {
        let Function { lines, name, path, line } = function;
        writeln!(text, "{lines:5}  {name}  {path}:{line}").expect("a String takes every write");
    }
    text.push('\n');
    text
}

fn line(text: &mut String, row: &Row) {
    let files = format!(
        "{:5} {:8} {:7} {:5} {:8}",
        row.files, row.lines, row.file_median, row.file_p90, row.file_longest
    );
    let functions = format!(
        "{:7} {:5} {:5} {:8}",
        row.function_median, row.function_p90, row.function_p99, row.function_longest
    );
    writeln!(text, "{:20} {files} {functions}", row.name).expect("a String takes every write");
}

fn model(name: &str, counts: [usize; 9]) -> Row {
    let [
        files,
        lines,
        file_median,
        file_p90,
        file_longest,
        function_median,
        function_p90,
        function_p99,
        function_longest,
    ] = counts;
    Row {
        name: name.to_owned(),
        files,
        lines,
        file_median,
        file_p90,
        file_longest,
        function_median,
        function_p90,
        function_p99,
        function_longest,
    }
}

fn measure(tree: &Tree) -> (Vec<Row>, Vec<Function>) {
    let mut by_crate: BTreeMap<&str, (Vec<usize>, Vec<usize>)> = BTreeMap::new();
    let mut all = (Vec::new(), Vec::new());
    let mut functions = Vec::new();
    for (path, file) in tree.rust("").filter(|(path, _)| !path.contains("test")) {
        let lines = file.text.lines().count();
        let found = functions_of(path, &file.code.all);
        for (files, lengths) in [by_crate.entry(crate_of(path)).or_default(), &mut all] {
            files.push(lines);
            lengths.extend(found.iter().map(|function| function.lines));
        }
        functions.extend(found);
    }
    let rows = by_crate.into_iter().chain([("all of ours", all)]);
    (rows.map(|(name, (files, lengths))| row(name, files, lengths)).collect(), functions)
}

fn row(name: &str, mut files: Vec<usize>, mut functions: Vec<usize>) -> Row {
    files.sort_unstable();
    functions.sort_unstable();
    Row {
        name: name.to_owned(),
        files: files.len(),
        lines: files.iter().sum(),
        file_median: quantile(&files, 50),
        file_p90: quantile(&files, 90),
        file_longest: quantile(&files, 100),
        function_median: quantile(&functions, 50),
        function_p90: quantile(&functions, 90),
        function_p99: quantile(&functions, 99),
        function_longest: quantile(&functions, 100),
    }
}

/// The smallest value that at least `percent` of the sorted values do not exceed; 0 of none.
fn quantile(sorted: &[usize], percent: usize) -> usize {
    let rank = (sorted.len() * percent).div_ceil(100);
    rank.checked_sub(1).and_then(|index| sorted.get(index)).copied().unwrap_or(0)
}

/// `crates/smtp` or the top directory.
fn crate_of(path: &str) -> &str {
    let mut slashes = path.match_indices('/').map(|(offset, _)| offset);
    let first = slashes.next().unwrap_or(path.len());
    let end = if path.starts_with("crates/") { slashes.next().unwrap_or(path.len()) } else { first };
    &path[..end]
}

fn functions_of(path: &str, code: &str) -> Vec<Function> {
    let lines: Vec<&str> = code.lines().collect();
    let mut functions = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        let Some(name) = function_name(line) else { continue };
        let indent = line.len() - line.trim_start().len();
        let Some(length) = length(&lines[index..], indent) else {
            continue;
        };
        functions.push(Function {
            lines: length,
            name: name.to_owned(),
            path: path.to_owned(),
            line: index + 1,
        });
    }
    functions
}

/// The name, where a line begins a function: only words such as `pub`, `const` and `async` may stand before `fn`.
fn function_name(line: &str) -> Option<&str> {
    let (before, after) =
        line.trim_start().split_once("fn ").or_else(|| line.strip_prefix("fn ").map(|rest| ("", rest)))?;
    let is_head =
        before.chars().all(|character| character.is_ascii_alphabetic() || " ()_:\"".contains(character));
    let name = after.split(['(', '<']).next()?;
    (is_head && !name.is_empty() && !name.contains(' ')).then_some(name)
}

/// From the head to the brace that closes at its indent; nothing for a declaration without a body.
fn length(lines: &[&str], indent: usize) -> Option<usize> {
    for (index, line) in lines.iter().enumerate() {
        let is_at_indent = line.len() - line.trim_start().len() == indent;
        let end = line.trim_end();
        if index == 0 && (end.ends_with('}') || end.ends_with(';')) {
            return end.ends_with('}').then_some(1);
        }
        if index > 0 && is_at_indent && line.trim_start().starts_with('}') {
            return Some(index + 1);
        }
        if index > 0 && is_at_indent && end.ends_with(';') {
            return None;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_measured_by_their_braces() {
        let source = "//! x\npub const fn one() -> u8 { 1 }\nimpl A {\n    pub(crate) async fn four(\n        a: u8,\n    ) {\n    }\n}\n\
                      trait B {\n    fn declared(&self);\n    fn long(\n        &self,\n    ) -> u8;\n}\nlet f: fn(u8) = g;\n";
        let found = functions_of("a.rs", source);
        let found: Vec<_> = found.iter().map(|f| (f.name.as_str(), f.lines, f.line)).collect();
        assert_eq!(found, [("one", 1, 2), ("four", 4, 4)]);
    }

    #[test]
    fn quantiles_are_values_that_occur() {
        let values: Vec<usize> = (1..=10).collect();
        assert_eq!([50, 90, 99, 100].map(|percent| quantile(&values, percent)), [5, 9, 10, 10]);
        assert_eq!(quantile(&[], 50), 0);
        assert_eq!(quantile(&[7], 50), 7);
    }

    #[test]
    fn the_report_names_crates_models_and_the_longest() {
        let tree = Tree::fake(&[
            ("crates/smtp/src/lib.rs", "//! x\nfn f() {\n}\n"),
            ("kumod/src/main.rs", "//! x\nfn main() {\n    f();\n}\n"),
            ("kumod/tests/flow.rs", "fn left_out() {}"),
        ]);
        let text = report(&tree);
        for part in
            ["\ncrates/smtp ", "\nkumod ", "\nall of ours ", "\nrustls ", "3  main  kumod/src/main.rs:2"]
        {
            assert!(text.contains(part), "{part:?} is not in\n{text}");
        }
        assert!(!text.contains("left_out"));
    }
}
