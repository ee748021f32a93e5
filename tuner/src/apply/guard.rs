//! What is refused before anything is written: a second tuner, links, paths that leave the root.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;

use super::ApplyError;
use super::files::Files;
use super::journal::DIRECTORY;

/// Holds the root for one tuner, until it is dropped or the process ends. A root that has no journal yet is held by its
/// own directory.
pub(super) fn lock(root: &Path) -> Result<File, ApplyError> {
    let file = File::open(root).map_err(|error| ApplyError::file(root, error))?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(ApplyError::Locked(root.to_owned())),
        Err(error) => Err(ApplyError::file(root, error.into())),
    }
}

/// A link at the place of our file, or a directory that lies outside of the root.
pub(super) fn refuse_links(root: &Path, path: &str) -> Result<(), ApplyError> {
    let full = root.join(path);
    if let Ok(link) = fs::read_link(&full) {
        return Err(ApplyError::Conflict(vec![format!(
            "{} is a symbolic link to {}: tuner writes only a file of its own; remove the link",
            full.display(),
            link.display()
        )]));
    }
    let parent = full.ancestors().skip(1).find(|directory| directory.exists()).unwrap_or(root);
    let inside = parent.canonicalize().and_then(|parent| Ok(parent.starts_with(root.canonicalize()?)));
    if inside.map_err(|error| ApplyError::file(parent, error))? {
        return Ok(());
    }
    Err(ApplyError::Conflict(vec![format!(
        "{} leads out of {}: tuner changes nothing there",
        parent.display(),
        root.display()
    )]))
}

/// Directories that have to be made for these files, outer ones first; all below the root.
pub(super) fn missing_directories<'p>(root: &Path, paths: impl Iterator<Item = &'p PathBuf>) -> Vec<PathBuf> {
    let mut missing = Vec::new();
    for path in paths {
        let mut above: Vec<&Path> =
            path.ancestors().skip(1).take_while(|directory| !root.join(directory).exists()).collect();
        above.reverse();
        for directory in above {
            if !missing.iter().any(|known| known == directory) {
                missing.push(directory.to_owned());
            }
        }
    }
    missing
}

/// The journal's directory stays when everything is taken back: it tells what was.
pub(super) fn make_journal_directory(files: &mut dyn Files, root: &Path) -> Result<(), ApplyError> {
    refuse_links(root, &format!("{DIRECTORY}/entry"))?;
    let mut path = root.to_owned();
    for part in Path::new(DIRECTORY) {
        path.push(part);
        let made: io::Result<bool> = files.make_directory(&path);
        made.map_err(|error| ApplyError::file(&path, error))?;
    }
    Ok(())
}
