//! A folder of messages to send: every file in it whose name ends in `.eml`, in the order of names.
//!
//! Bounded in files and in bytes. What cannot be read or does not fit is left out, counted, and named in the
//! notes; only a folder of which nothing is left is an error. Subfolders are not entered.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::plan::{BODY_BYTES_MAX, ContentError, MailFile, POOL_BODIES_MAX};

/// Bytes of all files of a corpus, unless the operator says otherwise.
pub const CORPUS_BYTES_DEFAULT: usize = 64 << 20;

/// Names of a folder that are looked at.
const NAMES_MAX: usize = 1_000_000;

/// Files that are named when they cannot be read; the others are counted.
const NAMED_MAX: usize = 10;

/// Mail read from a folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Corpus {
    /// What can be sent.
    pub files: Vec<MailFile>,
    /// What was left out and why, in sentences for the operator.
    pub notes: Vec<String>,
}

impl Corpus {
    /// Reads at most so many files with so many bytes altogether.
    pub fn read(folder: &Path, files_max: usize, bytes_max: usize) -> Result<Self, ContentError> {
        let unreadable =
            |error: io::Error| ContentError::Unreadable { path: folder.into(), reason: error.to_string() };
        let mut corpus = Self::default();
        let (mut bytes, mut beyond, mut failed) = (0, 0, 0);
        for path in names(folder).map_err(unreadable)? {
            if corpus.files.len() >= files_max.min(POOL_BODIES_MAX) || bytes >= bytes_max {
                beyond += 1;
                continue;
            }
            match read(&path, bytes_max - bytes) {
                Ok(Some(file)) => {
                    bytes += file.len();
                    corpus.files.push(MailFile { bytes: file });
                }
                Ok(None) => beyond += 1,
                Err(error) => {
                    failed += 1;
                    if failed <= NAMED_MAX {
                        corpus.notes.push(format!("cannot read {}: {error}; left out", path.display()));
                    }
                }
            }
        }
        if failed > NAMED_MAX {
            corpus.notes.push(format!("{} more files cannot be read; left out", failed - NAMED_MAX));
        }
        if beyond > 0 {
            corpus.notes.push(format!(
                "{beyond} files of {} left out: {} files with {bytes_max} bytes are the limit; --pool and \
                 --pool-bytes raise it",
                folder.display(),
                files_max.min(POOL_BODIES_MAX)
            ));
        }
        if corpus.files.is_empty() {
            return Err(match corpus.notes.into_iter().next() {
                None => ContentError::NoMail { folder: folder.into() },
                Some(note) => ContentError::Unreadable { path: folder.into(), reason: note },
            });
        }
        Ok(corpus)
    }
}

/// The files that end in `.eml`, in order.
fn names(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let is_mail = |path: &PathBuf| path.extension().is_some_and(|kind| kind.eq_ignore_ascii_case("eml"));
    let paths = fs::read_dir(folder)?.take(NAMES_MAX).map(|entry| Ok(entry?.path()));
    let mut names: Vec<PathBuf> =
        paths.filter(|path| path.as_ref().map_or(true, is_mail)).collect::<io::Result<_>>()?;
    names.sort_unstable();
    Ok(names)
}

/// The file, or `None` where it is larger than the room that is left.
fn read(path: &Path, room: usize) -> io::Result<Option<Vec<u8>>> {
    // Opening a pipe would wait for somebody to write to it.
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    let (mut bytes, limit) = (Vec::new(), room.min(BODY_BYTES_MAX));
    File::open(path)?.take(limit as u64 + 1).read_to_end(&mut bytes)?;
    Ok((bytes.len() <= limit).then_some(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, bytes) in files {
            fs::write(folder.path().join(name), bytes).unwrap();
        }
        folder
    }

    fn texts(corpus: &Corpus) -> Vec<&[u8]> {
        corpus.files.iter().map(|file| &file.bytes[..]).collect()
    }

    #[test]
    fn mail_is_read_in_the_order_of_names_and_nothing_else_is() {
        let folder =
            folder(&[("b.eml", b"2"), ("a.EML", b"1"), ("c.txt", b"3"), ("eml", b"4"), ("d.eml", b"")]);
        let corpus = Corpus::read(folder.path(), 100, 100).unwrap();
        assert_eq!(texts(&corpus), [&b"1"[..], b"2", b""]);
        assert!(corpus.notes.is_empty());
    }

    #[test]
    fn limits_are_kept_and_told() {
        let folder = folder(&[("a.eml", b"12345"), ("b.eml", b"1234567"), ("c.eml", b"12")]);
        let few = Corpus::read(folder.path(), 2, 100).unwrap();
        assert_eq!(few.files.len(), 2);
        assert!(few.notes[0].contains("1 files") && few.notes[0].contains("2 files"), "{:?}", few.notes);
        let small = Corpus::read(folder.path(), 100, 8).unwrap();
        assert_eq!(texts(&small), [&b"12345"[..], b"12"]);
        assert!(small.notes[0].contains("--pool-bytes"), "{:?}", small.notes);
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let folder = folder(&[("good.eml", b"1")]);
        fs::create_dir(folder.path().join("folder.eml")).unwrap();
        std::os::unix::fs::symlink("nowhere", folder.path().join("lost.eml")).unwrap();
        let corpus = Corpus::read(folder.path(), 100, 100).unwrap();
        assert_eq!(texts(&corpus), [b"1"]);
        assert!(corpus.notes[0].contains("folder.eml") && corpus.notes[1].contains("lost.eml"));
        fs::remove_file(folder.path().join("good.eml")).unwrap();
        let refused = Corpus::read(folder.path(), 100, 100).unwrap_err();
        assert!(refused.to_string().contains("folder.eml"), "{refused}");
    }

    #[test]
    fn an_empty_folder_and_none_at_all_are_refused() {
        let empty = folder(&[("a.txt", b"1")]);
        let refused = Corpus::read(empty.path(), 100, 100).unwrap_err();
        assert!(refused.to_string().contains(".eml"), "{refused}");
        let refused = Corpus::read(&empty.path().join("none"), 100, 100).unwrap_err();
        assert!(refused.to_string().starts_with("cannot read"), "{refused}");
    }
}
