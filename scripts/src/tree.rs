//! The files of a checkout, in memory: what the checks look at instead of the disk, so that a test can give them a fake.
//!
//! Reads text files only. What git ignores and what a build leaves behind is left out by name; a file that is not
//! UTF-8 is not text and is left out as well.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use crate::code::Code;

/// Directories that hold nothing written by hand.
const DIRECTORIES_SKIPPED: [&str; 7] =
    [".git", "target", "results", "corpus", "artifacts", "coverage", "node_modules"];

/// A larger file is data, not text for people, and is left out. In bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The text files of a checkout by their path from its root, with `/` between the parts.
#[derive(Debug, Default)]
pub struct Tree {
    files: BTreeMap<String, File>,
}

/// One text file.
#[derive(Debug)]
pub struct File {
    /// The whole text.
    pub text: String,
    /// The same as source code; empty for what is not Rust.
    pub code: Code,
}

impl Tree {
    /// Reads the checkout at `root`.
    ///
    /// # Errors
    /// A directory or file that cannot be read.
    pub fn read(root: &Path) -> io::Result<Self> {
        let mut tree = Self::default();
        tree.read_directory(root, "")?;
        Ok(tree)
    }

    /// A tree that exists only in memory.
    pub fn fake(files: &[(&str, &str)]) -> Self {
        let mut tree = Self::default();
        for (path, text) in files {
            tree.add((*path).to_owned(), (*text).to_owned());
        }
        tree
    }

    /// The text of a file, if there is one.
    pub fn text(&self, path: &str) -> Option<&str> {
        self.files.get(path).map(|file| file.text.as_str())
    }

    /// All files, by path.
    pub fn files(&self) -> impl Iterator<Item = (&str, &File)> {
        self.files.iter().map(|(path, file)| (path.as_str(), file))
    }

    /// The Rust files below a directory, which is written with its closing `/`; all of them for `""`.
    pub fn rust(&self, directory: &str) -> impl Iterator<Item = (&str, &File)> {
        self.files().filter(move |(path, _)| path.starts_with(directory) && path.ends_with(".rs"))
    }

    fn add(&mut self, path: String, text: String) {
        let mut code = if path.ends_with(".rs") { Code::new(&text) } else { Code::default() };
        if path.ends_with("/tests.rs") || path.contains("/tests/") {
            code.shipped.clear();
        }
        self.files.insert(path, File { text, code });
    }

    fn read_directory(&mut self, directory: &Path, prefix: &str) -> io::Result<()> {
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let kind = entry.file_type()?;
            if kind.is_dir() && !DIRECTORIES_SKIPPED.contains(&name.as_str()) {
                self.read_directory(&entry.path(), &format!("{prefix}{name}/"))?;
            } else if kind.is_file() && entry.metadata()?.len() <= FILE_BYTES_MAX {
                match fs::read_to_string(entry.path()) {
                    Ok(text) => self.add(format!("{prefix}{name}"), text),
                    Err(error) if error.kind() == io::ErrorKind::InvalidData => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkout_is_read_without_what_a_build_left() {
        let root = tempfile::tempdir().unwrap();
        for directory in ["src", "target"] {
            fs::create_dir(root.path().join(directory)).unwrap();
            fs::write(root.path().join(directory).join("lib.rs"), "//! x\n").unwrap();
        }
        fs::write(root.path().join("picture"), [0xff, 0xfe]).unwrap();
        let tree = Tree::read(root.path()).unwrap();
        assert_eq!(tree.files().map(|(path, _)| path).collect::<Vec<_>>(), ["src/lib.rs"]);
    }
}
