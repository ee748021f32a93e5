//! The scripts of continuous integration: the right comment is written, once, a hostile verdict stays text, and what cannot be done is said.
//!
//! It owns no network: `fakes/` holds what stands for gh and curl. Without jq, which a script or a fake needs, a test says so and passes.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

const MARK: &str = "<!-- kumod: compare -->";
const HEAD: &str = "0123456789abcdef0123456789abcdef01234567";
const VERDICT: &str = "| metric | verdict |\n|---|---|\n| cpu | ok |\n";

/// Runs one of the scripts with the fakes in front; the folder is theirs.
fn script(name: &str, folder: &Path, variables: &[(&str, &str)]) -> Output {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let path = format!("{}:{}", root.join("tests/fakes").display(), std::env::var("PATH").unwrap());
    let mut command = Command::new(root.join("../.ci").join(name));
    command.arg(folder.join("verdict.md")).env("PATH", path).env("FAKES", folder).stdin(Stdio::null());
    command.env_remove("COMPARE_TOKEN").envs(variables.iter().copied()).output().unwrap()
}

fn jq_is_missing() -> bool {
    let missing = Command::new("jq").arg("--version").output().is_err();
    if missing {
        eprintln!("skipped: jq is not installed");
    }
    missing
}

fn folder(verdict: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("verdict.md"), verdict).unwrap();
    folder
}

fn written(folder: &Path) -> Option<String> {
    fs::read_to_string(folder.join("written")).ok()
}

#[test]
fn what_cannot_be_done_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let run = |name: &str, arguments: &[&str]| {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.ci").join(name);
        let output = Command::new(script).args(arguments).stdin(Stdio::null()).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, said) = run("compare", &["HEAD"]);
    assert!(code == Some(2) && said.contains("BASE HEAD"), "{said}");
    let (code, said) = run("compare", &["no-such-commit", "HEAD"]);
    assert!(code == Some(2) && said.contains("no-such-commit and HEAD have no common commit"), "{said}");
    let empty = folder.path().to_str().unwrap();
    let (code, said) = run("tiers-page", &[empty]);
    assert!(code == Some(1) && said.contains(empty) && said.contains("run.json"), "{said}");
}

#[test]
fn a_hostile_verdict_stays_text() {
    let hostile =
        "@team <script> ![x](http://evil.example/x.png) [y]: //evil www.evil.example #1 &lt; \u{fc}\n";
    let folder = folder(hostile);
    let output = script("comment-text", folder.path(), &[]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.starts_with(MARK) && text.contains('\u{fc}'), "{text}");
    let shown = text.strip_prefix(MARK).unwrap();
    for live in ["@t", "<", "[", "://", "www.", "#1 "] {
        assert!(!shown.contains(live), "{live} is in {shown}");
    }
    assert!(shown.contains("&amp;lt; ") && shown.contains("&lt;script>"), "{shown}");
}

#[test]
fn a_long_verdict_is_cut_and_says_so() {
    // A letter of two bytes lies across the cut.
    let folder = folder(&format!("x{}", "\u{e4}".repeat(50_000)));
    let text = String::from_utf8(script("comment-text", folder.path(), &[]).stdout).unwrap();
    assert!(text.contains("Cut short here") && text.len() < 65_000, "{} bytes", text.len());
}

#[test]
fn github_gets_one_comment_below_the_right_pull_request() {
    if jq_is_missing() {
        return;
    }
    let folder = folder(VERDICT);
    let path = folder.path();
    let pulls = format!(
        r#"[{{"number": 6, "head": {{"sha": "{}"}}}}, {{"number": 7, "head": {{"sha": "{HEAD}"}}}}]"#,
        "f".repeat(40)
    );
    fs::write(path.join("pulls.json"), pulls).unwrap();
    // Somebody else's comment with the mark is left alone.
    let other = format!(r#"{{"id": 1, "user": {{"login": "someone"}}, "body": "{MARK} mine"}}"#);
    let ours = format!(r#"{{"id": 22, "user": {{"login": "github-actions[bot]"}}, "body": "{MARK} old"}}"#);
    let url = "https://forge.example/run/1";
    let variables = [("REPOSITORY", "owner/name"), ("HEAD_SHA", HEAD), ("RUN_URL", url)];
    let cases = [
        (format!("[{other}]"), "POST repos/owner/name/issues/7/comments\n"),
        (format!("[{other}, {ours}]"), "PATCH repos/owner/name/issues/comments/22\n"),
    ];
    for (comments, expected) in cases {
        fs::write(path.join("comments.json"), comments).unwrap();
        let output = script("comment-github", path, &variables);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let written = written(path).unwrap();
        assert!(written.starts_with(expected) && written.contains(VERDICT), "{written}");
        assert!(written.contains(&format!("]({url})")), "{written}");
    }
}

#[test]
fn github_gets_nothing_where_there_is_nothing_to_say() {
    if jq_is_missing() {
        return;
    }
    let folder = folder(VERDICT);
    let path = folder.path();
    fs::write(path.join("pulls.json"), "[]").unwrap();
    let moved_on = script("comment-github", path, &[("REPOSITORY", "owner/name"), ("HEAD_SHA", HEAD)]);
    assert!(moved_on.status.success() && written(path).is_none());
    // A name that is no commit never reaches a filter.
    let forged = [("REPOSITORY", "owner/name"), ("HEAD_SHA", "\") or true")];
    assert_eq!(script("comment-github", path, &forged).status.code(), Some(2));
    fs::remove_file(path.join("verdict.md")).unwrap();
    let without = script("comment-github", path, &[("REPOSITORY", "owner/name"), ("HEAD_SHA", HEAD)]);
    assert!(without.status.success() && written(path).is_none());
}

#[test]
fn gitlab_gets_one_note_if_there_is_a_token() {
    if jq_is_missing() {
        return;
    }
    let folder = folder(VERDICT);
    let path = folder.path();
    let without = script("comment-gitlab", path, &[]);
    assert!(without.status.success() && String::from_utf8_lossy(&without.stdout).contains("COMPARE_TOKEN"));
    let variables = [
        ("COMPARE_TOKEN", "secret"),
        ("CI_API_V4_URL", "https://forge.example/api/v4"),
        ("CI_MERGE_REQUEST_PROJECT_ID", "5"),
        ("CI_MERGE_REQUEST_IID", "9"),
    ];
    let notes = "https://forge.example/api/v4/projects/5/merge_requests/9/notes";
    let old = format!(
        r#"[{{"id": 3, "system": true, "body": "{MARK}"}}, {{"id": 4, "system": false, "body": "{MARK}"}}]"#
    );
    for (answer, expected) in [("[]", format!("POST {notes}\n")), (&old, format!("PUT {notes}/4\n"))] {
        fs::write(path.join("notes.json"), answer).unwrap();
        let output = script("comment-gitlab", path, &variables);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let written = written(path).unwrap();
        assert!(written.starts_with(&expected) && written.contains(VERDICT), "{written}");
    }
}
