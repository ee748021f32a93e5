//! What is refused before anything is written: a second tuner, links, paths that leave the root, a kernel that is not the root's.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;

use super::files::Files;
use super::journal::DIRECTORY;
use super::{ApplyError, Place};

/// `statfs` names proc and sysfs so (linux/magic.h).
const KERNEL_FILE_SYSTEMS: [u64; 2] = [0x9fa0, 0x6265_6572];

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

/// A value of a tree that is in truth one of this host's kernel: a link out of the tree, or a mounted /proc or /sys.
pub(super) fn refuse_kernel_of_another_root(place: &Place, path: &Path) -> Result<(), ApplyError> {
    if place.is_running_host() {
        return Ok(());
    }
    refuse_links(&place.root, &path.to_string_lossy())?;
    let full = place.root.join(path);
    let kind = match rustix::fs::statfs(&full) {
        Ok(system) => system.f_type,
        // What is not there is told by whoever reads it.
        Err(_) => return Ok(()),
    };
    if !KERNEL_FILE_SYSTEMS.iter().any(|known| u64::try_from(kind).is_ok_and(|kind| kind == *known)) {
        return Ok(());
    }
    Err(ApplyError::Conflict(vec![format!(
        "{} is a setting of the kernel that runs here, not a file of the tree {}: unmount it there first, or leave out --root",
        full.display(),
        place.root.display()
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
