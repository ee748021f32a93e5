//! What the tests share: the programs that were built for the tests, and a package made of them.

#![allow(dead_code, reason = "each test program uses its part")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use packaging::package::{self, Order};
use packaging::programs::{PROGRAMS, is_there};

/// Some day.
pub(crate) const EPOCH: i64 = 1_790_000_000;

/// The checkout.
pub(crate) fn source() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// The folder of the programs; `None`, said aloud, where the workspace was not built as a whole.
pub(crate) fn binaries() -> Option<&'static Path> {
    let folder = Path::new(env!("CARGO_BIN_EXE_package")).parent().unwrap();
    let missing = PROGRAMS.iter().find(|program| !folder.join(program.name).is_file());
    if let Some(missing) = missing {
        eprintln!("skipped: {} is not built; cargo test --workspace builds it", missing.name);
    }
    missing.is_none().then_some(folder)
}

/// Whether these programs are installed; names the first that is not.
pub(crate) fn have(programs: &[&str]) -> bool {
    let missing = programs.iter().find(|program| !is_there(program));
    if let Some(missing) = missing {
        eprintln!("skipped: {missing} is not installed");
    }
    missing.is_none()
}

/// An order for `out`, as quick as it can be done.
pub(crate) fn order(binaries: &Path, out: &Path) -> Order {
    Order {
        binaries: binaries.to_owned(),
        source: source().to_owned(),
        out: out.to_owned(),
        epoch: EPOCH,
        maintainer: "Packager <packager@package.test>".into(),
        compression: "none".into(),
        keep_symbols: false,
    }
}

/// A package in `out`, if it can be made here.
pub(crate) fn package(out: &Path) -> Option<PathBuf> {
    let binaries = binaries()?;
    have(&["dpkg", "dpkg-deb", "strip"]).then(|| package::build(&order(binaries, out)).unwrap())
}

pub(crate) fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

/// Both outputs of a command, with its words.
pub(crate) fn said(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned()).concat()
}

pub(crate) fn run(program: &str, arguments: &[&str]) -> Output {
    Command::new(program).args(arguments).stdin(Stdio::null()).output().unwrap()
}
