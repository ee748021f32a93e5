//! The command `tidy [ROOT]`: prints the figures, then whatever breaks a rule.
//!
//! Exit codes: 0 tidy, 1 a rule is broken or the tree cannot be read, 2 usage.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use scripts::{Tree, check, figures};

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let root = arguments.next().map_or_else(|| PathBuf::from("."), PathBuf::from);
    if arguments.next().is_some() || root.to_string_lossy().starts_with('-') {
        eprintln!(
            "usage: tidy [ROOT]\n\nChecks the workspace at ROOT (default: here) and prints its figures."
        );
        return ExitCode::from(2);
    }
    let tree = match Tree::read(&root) {
        Ok(tree) => tree,
        Err(error) => {
            eprintln!("tidy: {}: {error}", root.display());
            return ExitCode::FAILURE;
        }
    };
    let findings = check(&tree);
    let mut text = figures::report(&tree);
    for finding in &findings {
        text.push_str(&format!("{finding}\n"));
    }
    text.push_str(&match findings.len() {
        0 => "tidy: every rule holds\n".to_owned(),
        count => format!("tidy: {count} broken rules\n"),
    });
    // A reader that has seen enough closes the pipe; the exit code still tells the verdict.
    let _reader_may_be_gone = io::stdout().write_all(text.as_bytes());
    if findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
