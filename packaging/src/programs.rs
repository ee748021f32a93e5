//! Which programs there are, and how another program is run.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::error::{During, Error, Result};

/// One of our programs, as it is installed.
#[derive(Clone, Copy, Debug)]
pub struct Program {
    /// The file, in the folder of binaries and in `/usr/bin`.
    pub name: &'static str,
    /// The section of its man page: 8 for what runs a host, 1 for what is called by hand.
    pub section: u8,
    /// Parts of the man page that `--help` does not have, as roff.
    pub more: &'static str,
}

/// All of them, in the order in which the package tells of them.
pub const PROGRAMS: [Program; 7] = [
    Program { name: "kumod", section: 8, more: include_str!("../man/kumod.8.part") },
    Program { name: "kumo-proxy", section: 8, more: "" },
    Program { name: "traffic-gen", section: 1, more: "" },
    Program { name: "sink", section: 8, more: "" },
    Program { name: "tuner", section: 8, more: "" },
    Program { name: "reports", section: 1, more: "" },
    Program { name: "lab", section: 1, more: "" },
];

impl Program {
    /// Where it is in a folder of binaries.
    ///
    /// # Errors
    /// It is not there.
    pub fn in_folder(&self, binaries: &Path) -> Result<PathBuf> {
        let path = binaries.join(self.name);
        if path.is_file() {
            return Ok(path);
        }
        Err(Error::Operator(format!(
            "{} is missing; build it with: cargo build --release, or name another folder with --binaries",
            path.display()
        )))
    }
}

/// Whether a program can be found.
pub fn is_there(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(name).is_file())
}

/// Runs a program to its end, with nothing to read, and hands over what it wrote.
///
/// # Errors
/// It is not there, or it did not end with 0; then its own words are in the error.
pub fn run(command: &mut Command) -> Result<Output> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output().during(|| format!("start {program}"))?;
    if output.status.success() {
        return Ok(output);
    }
    let arguments: Vec<_> = command.get_args().map(|argument| argument.to_string_lossy()).collect();
    let said = format!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    Err(Error::Program { program: format!("{program} {}", arguments.join(" ")), said })
}
