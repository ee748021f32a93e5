//! What may be done to files, one operation at a time.
//!
//! Everything that changes something goes through [`Files`], so that a test can stop after any operation, as a power cut
//! would. A file is replaced as a whole: written beside its place, synced, renamed, its directory synced.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

/// The most that is read of a drop-in or a journal entry, bytes.
pub(crate) const FILE_BYTES_MAX: u64 = 4 << 20;

/// Operations on files that change something, and reading back.
pub(crate) trait Files {
    /// The content; `None` where there is no file.
    fn read(&mut self, path: &Path) -> io::Result<Option<String>>;
    /// Makes one directory; false where it was there.
    fn make_directory(&mut self, path: &Path) -> io::Result<bool>;
    /// Removes an empty directory.
    fn remove_directory(&mut self, path: &Path) -> io::Result<()>;
    /// Writes a whole file, made where it is missing, and not synced.
    fn write(&mut self, path: &Path, text: &str) -> io::Result<()>;
    /// Makes a file's content durable.
    fn sync(&mut self, path: &Path) -> io::Result<()>;
    /// Makes a directory's names durable.
    fn sync_directory(&mut self, path: &Path) -> io::Result<()>;
    /// Puts one file in place of another.
    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&mut self, path: &Path) -> io::Result<()>;
    /// Gives a setting of the kernel a value, in one write.
    fn set(&mut self, path: &Path, value: &str) -> io::Result<()>;
}

/// The name under which a file is written before it takes its place. Nothing reads a name that does not end in `.conf`.
pub(crate) fn beside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.new"))
}

/// Whether a name is one that [`beside`] gives.
pub(crate) fn is_beside(name: &str) -> bool {
    name.starts_with('.') && name.ends_with(".new")
}

/// Replaces a file, or makes it; after an error the file is as it was.
pub(crate) fn replace(files: &mut dyn Files, path: &Path, text: &str) -> io::Result<()> {
    let new = beside(path);
    let written =
        files.write(&new, text).and_then(|()| files.sync(&new)).and_then(|()| files.rename(&new, path));
    if written.is_err() {
        // What cannot be removed now is removed when the journal is next read.
        let _ = files.remove(&new);
    }
    written?;
    files.sync_directory(path.parent().unwrap_or(path))
}

/// Removes a file that may be gone already.
pub(crate) fn remove_if_there(files: &mut dyn Files, path: &Path) -> io::Result<()> {
    match files.remove(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(()) => files.sync_directory(path.parent().unwrap_or(path)),
    }
}

/// The files of this host, or of the tree that a path lies in.
#[derive(Debug, Default)]
pub(crate) struct HostFiles;

impl Files for HostFiles {
    fn read(&mut self, path: &Path) -> io::Result<Option<String>> {
        let mut text = String::new();
        match File::open(path).and_then(|file| file.take(FILE_BYTES_MAX).read_to_string(&mut text)) {
            Ok(_) => Ok(Some(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn make_directory(&mut self, path: &Path) -> io::Result<bool> {
        match fs::create_dir(path) {
            Ok(()) => self.sync_directory(path.parent().unwrap_or(path)).map(|()| true),
            Err(_) if path.is_dir() => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn remove_directory(&mut self, path: &Path) -> io::Result<()> {
        fs::remove_dir(path)
    }

    fn write(&mut self, path: &Path, text: &str) -> io::Result<()> {
        fs::write(path, text)
    }

    fn sync(&mut self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn sync_directory(&mut self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&mut self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn set(&mut self, path: &Path, value: &str) -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).truncate(true).open(path)?;
        file.write_all(value.as_bytes())
    }
}
