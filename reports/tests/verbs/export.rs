//! `reports export`: every form holds for those who read it, whatever the labels say.

use std::io::Write;
use std::process::Stdio;

use super::*;

fn exported(folder: &Path, format: &[&str]) -> String {
    let output = reports().arg("export").arg(folder).arg("--format").args(format).output().unwrap();
    assert!(output.status.success(), "{}", complaint(&output));
    text(&output)
}

#[test]
fn json_exports_follow_their_schemas() {
    let folder = tempfile::tempdir().unwrap();
    hostile_results(folder.path());
    let number = json!({"type": "number"});
    let measure = json!({"type": "object", "required": ["value"], "additionalProperties": false,
        "properties": {"value": number, "lower_value": number, "upper_value": number}});
    let bmf = json!({"type": "object", "minProperties": 9, "additionalProperties":
        {"type": "object", "minProperties": 1, "propertyNames": {"pattern": "^[a-z0-9-]+$"}, "additionalProperties": measure}});
    let item = json!({"type": "object", "required": ["name", "unit", "value"], "additionalProperties": false,
        "properties": {"name": {"type": "string", "minLength": 1}, "unit": {"type": "string", "minLength": 1}, "value": number,
            "range": {"type": "string"}, "extra": {"type": "string"}}});
    let list = json!({"type": "array", "minItems": 9, "items": item});
    for (format, schema) in
        [(&["bmf"][..], bmf), (&["github-action"], list.clone()), (&["github-action", "--bigger"], list)]
    {
        let value: Value = serde_json::from_str(&exported(folder.path(), format)).unwrap();
        let validator = jsonschema::validator_for(&schema).unwrap();
        let errors: Vec<String> = validator.iter_errors(&value).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{format:?}: {errors:?}");
    }
    let names = |text: String| {
        let list: Vec<Value> = serde_json::from_str(&text).unwrap();
        let mut names: Vec<String> = list.iter().map(|item| item["name"].to_string()).collect();
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all, "names are unique");
        names
    };
    let costs = names(exported(folder.path(), &["github-action"]));
    let rates = names(exported(folder.path(), &["github-action", "--bigger"]));
    assert!(rates.iter().all(|name| name.ends_with(" mmh\"") && !costs.contains(name)));
}

/// Elements that open are closed in order, attributes are quoted, and nothing stands raw that must not.
fn assert_well_formed(xml: &str) -> Vec<String> {
    let (mut open, mut seen) = (Vec::new(), Vec::new());
    for piece in xml.split('<').skip(1) {
        let (tag, content) = piece.split_once('>').unwrap();
        assert!(!content.contains(['"']) || !content.contains('>'), "{content}");
        assert_eq!(
            content.matches('&').count(),
            content.matches(';').count().min(content.matches('&').count())
        );
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop().as_deref(), Some(name));
            continue;
        }
        assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
        let name = tag.split([' ', '\n']).next().unwrap().to_owned();
        if !tag.starts_with('?') && !tag.ends_with('/') {
            open.push(name.clone());
        }
        seen.push(name);
    }
    assert!(open.is_empty(), "{open:?}");
    seen
}

#[test]
fn junit_fails_where_mail_was_lost() {
    let folder = tempfile::tempdir().unwrap();
    hostile_results(folder.path());
    let xml = exported(folder.path(), &["junit"]);
    let seen = assert_well_formed(&xml);
    assert_eq!(seen.iter().filter(|name| *name == "testcase").count(), 9);
    assert_eq!(seen.iter().filter(|name| *name == "failure").count(), 1);
    assert!(xml.contains("tests=\"9\" failures=\"1\"") && xml.contains("7 messages lost"));
    assert!(!xml.contains('\u{1}') && !xml.contains("<script>"));
    if let Ok(mut lint) = Command::new("xmllint").args(["--noout", "-"]).stdin(Stdio::piped()).spawn() {
        lint.stdin.take().unwrap().write_all(xml.as_bytes()).unwrap();
        assert!(lint.wait().unwrap().success());
    } else {
        eprintln!("skipped: xmllint is not installed");
    }
}

/// RFC 4180: fields of one record.
fn csv_records(text: &str) -> Vec<Vec<String>> {
    let (mut records, mut record, mut field, mut quoted) = (Vec::new(), Vec::new(), String::new(), false);
    let mut characters = text.chars().peekable();
    while let Some(c) = characters.next() {
        match c {
            '"' if quoted && characters.peek() == Some(&'"') => field.extend(characters.next()),
            '"' => quoted = !quoted,
            ',' if !quoted => record.push(std::mem::take(&mut field)),
            '\r' if !quoted => {
                assert_eq!(characters.next(), Some('\n'));
                record.push(std::mem::take(&mut field));
                records.push(std::mem::take(&mut record));
            }
            c => field.push(c),
        }
    }
    assert!(!quoted && field.is_empty() && record.is_empty());
    records
}

#[test]
fn tables_keep_their_columns() {
    let folder = tempfile::tempdir().unwrap();
    hostile_results(folder.path());
    let records = csv_records(&exported(folder.path(), &["csv"]));
    assert_eq!(records.len(), 10);
    assert!(records.iter().all(|record| record.len() == records[0].len()));
    let column = |name: &str| records[0].iter().position(|title| title == name).unwrap();
    assert_eq!(records[1][column("run_id")], HOSTILE);
    assert_eq!(records[3][column("lost")], "7");
    assert!(records[3][column("mmh")].parse::<f64>().unwrap() > 1.0);
    let markdown = exported(folder.path(), &["markdown"]);
    assert_eq!(markdown.lines().count(), 11);
    let pipes = |line: &str| line.matches('|').count() - line.matches("\\|").count();
    assert!(markdown.lines().all(|line| pipes(line) == 13), "{markdown}");
    assert!(!markdown.contains("<script>"));
}

#[test]
fn prometheus_lines_follow_the_text_format() {
    let folder = tempfile::tempdir().unwrap();
    hostile_results(folder.path());
    let text = exported(folder.path(), &["prometheus"]);
    let mut typed = Vec::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            typed.push(rest.split(' ').next().unwrap().to_owned());
            assert!(rest.ends_with(" gauge"));
            continue;
        }
        if line.starts_with("# HELP ") {
            continue;
        }
        let (name, rest) = line.split_once('{').unwrap();
        assert!(name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'), "{name}");
        assert_eq!(typed.last().map(String::as_str), Some(name), "a type stands before its values");
        let (labels, value) = rest.rsplit_once("} ").unwrap();
        assert!(value.parse::<f64>().is_ok(), "{value}");
        // Without what is escaped, quotes stand around values only.
        let plain = labels.replace("\\\\", "").replace("\\\"", "").replace("\\n", "");
        assert_eq!(plain.matches('"').count(), 10, "{labels}");
        assert!(!plain.contains('\\'), "{labels}");
    }
    assert!(typed.len() >= 8, "{typed:?}");
}
