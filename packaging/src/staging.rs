//! The tree of files as it will lie on a host, in a folder of its own.
//!
//! Modes are set here and do not depend on the umask; owners and times are set when the tree is packed. A path is written once.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::{During, Error, Result};
use crate::programs::run;

/// What everybody may read.
pub const FILE_MODE: u32 = 0o644;
/// What everybody may run, and folders.
pub const PROGRAM_MODE: u32 = 0o755;

/// A tree that is being made.
#[derive(Debug)]
pub struct Staging {
    root: PathBuf,
}

impl Staging {
    /// An empty tree in `root`, which is made and must not be there.
    ///
    /// # Errors
    /// The folder is there or cannot be made.
    pub fn new(root: PathBuf) -> Result<Self> {
        fs::create_dir(&root).during(|| format!("make {}", root.display()))?;
        let staging = Self { root };
        set_mode(&staging.root, PROGRAM_MODE)?;
        Ok(staging)
    }

    /// The folder of the tree.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Writes a file.
    ///
    /// # Errors
    /// The path is written already, or the host refuses.
    pub fn write(&self, path: &str, content: &[u8], mode: u32) -> Result<PathBuf> {
        let to = self.place(path)?;
        fs::write(&to, content).during(|| format!("write {}", to.display()))?;
        set_mode(&to, mode)?;
        Ok(to)
    }

    /// Copies a file.
    ///
    /// # Errors
    /// The path is written already, or the host refuses.
    pub fn copy(&self, from: &Path, path: &str, mode: u32) -> Result<PathBuf> {
        let to = self.place(path)?;
        fs::copy(from, &to).during(|| format!("copy {} to {}", from.display(), to.display()))?;
        set_mode(&to, mode)?;
        Ok(to)
    }

    /// Writes a file and packs it, without its time and name in it; `.gz` is added to the path.
    ///
    /// # Errors
    /// The path is written already, or gzip fails.
    pub fn write_packed(&self, path: &str, content: &[u8]) -> Result<()> {
        let to = self.write(path, content, FILE_MODE)?;
        run(Command::new("gzip").arg("-9n").arg(&to))?;
        Ok(())
    }

    /// The path in the tree, whose folders are made.
    fn place(&self, path: &str) -> Result<PathBuf> {
        let to = self.root.join(path);
        if to.exists() {
            return Err(Error::Operator(format!("{path} is in the package already")));
        }
        let mut folder = self.root.clone();
        for part in Path::new(path).parent().into_iter().flat_map(Path::components) {
            folder.push(part);
            if !folder.is_dir() {
                fs::create_dir(&folder).during(|| format!("make {}", folder.display()))?;
                set_mode(&folder, PROGRAM_MODE)?;
            }
        }
        Ok(to)
    }

    /// All files of the tree by their paths in it, sorted.
    ///
    /// # Errors
    /// A folder cannot be read.
    pub fn files(&self) -> Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        let mut folders = vec![self.root.clone()];
        while let Some(folder) = folders.pop() {
            let entries = fs::read_dir(&folder).during(|| format!("read {}", folder.display()))?;
            for entry in entries {
                let path = entry.during(|| format!("read {}", folder.display()))?.path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    files.push(path.strip_prefix(&self.root).unwrap_or(&path).to_owned());
                }
            }
        }
        files.sort();
        Ok(files)
    }
}

fn set_mode(path: &Path, mode: u32) -> Result<()> {
    let permissions = fs::Permissions::from_mode(mode);
    fs::set_permissions(path, permissions).during(|| format!("set the mode of {}", path.display()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_tree_is_made_with_its_folders_and_modes_and_each_path_once() {
        let folder = tempfile::tempdir().unwrap();
        let staging = Staging::new(folder.path().join("tree")).unwrap();
        let file = staging.write("usr/bin/kumod", b"x", PROGRAM_MODE).unwrap();
        staging.write("etc/kumod/init.lua", b"y", FILE_MODE).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        assert_eq!([&file, &staging.root().join("usr/bin")].map(|path| mode(path)), [0o755, 0o755]);
        assert_eq!(mode(&staging.root().join("etc/kumod/init.lua")), 0o644);
        assert_eq!(staging.files().unwrap(), ["etc/kumod/init.lua", "usr/bin/kumod"].map(PathBuf::from));
        assert!(staging.write("usr/bin/kumod", b"z", FILE_MODE).unwrap_err().to_string().contains("already"));
        assert!(Staging::new(staging.root().to_owned()).is_err());
    }
}
