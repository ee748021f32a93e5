//! Folders for what is measured and thrown away.
//!
//! It owns a folder below a place that the operator chose, and removes it when it is dropped. It refuses file systems in memory,
//! where nothing is durable and every number would flatter, and disks without room.

use std::path::{Path, PathBuf};

use crate::error::{During, Error, Result};

/// A folder that goes when this is dropped.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// Makes `NAME-PID` in `place`, on a disk with `needed_bytes` free. `option` is what the operator would change.
    ///
    /// # Errors
    /// [`Error::Operator`] where the place lies in memory or has no room, [`Error::Host`] where it cannot be made.
    pub fn make(place: &Path, name: &str, needed_bytes: u64, option: &str) -> Result<Self> {
        let path = place.join(format!("{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).during(|| format!("make {}", path.display()))?;
        let scratch = Self { path };
        refuse_memory(&scratch.path, option)?;
        let shown = place.display();
        let found = rustix::fs::statvfs(&scratch.path).during(|| format!("look at {shown}"))?;
        let free_bytes = found.f_bavail.saturating_mul(found.f_frsize);
        if free_bytes < needed_bytes {
            let (free, needed) = (free_bytes >> 20, needed_bytes >> 20);
            return Err(Error::Operator(format!(
                "{shown} has {free} MiB free and {needed} MiB are needed; choose another folder with {option}"
            )));
        }
        Ok(scratch)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.path) {
            eprintln!("{} could not be removed: {error}", self.path.display());
        }
    }
}

/// A spool in memory would make every durable number a lie. `option` is what the operator would change.
///
/// # Errors
/// [`Error::Operator`] when `folder` is on tmpfs or ramfs.
pub fn refuse_memory(folder: &Path, option: &str) -> Result<()> {
    /// Magic numbers of statfs(2).
    const MEMORY_FILE_SYSTEMS: [u32; 2] = [0x0102_1994, 0x8584_58f6];
    let found = rustix::fs::statfs(folder).during(|| format!("look at {}", folder.display()))?;
    if MEMORY_FILE_SYSTEMS.iter().any(|magic| i64::from(*magic) == found.f_type as i64) {
        let shown = folder.display();
        return Err(Error::Operator(format!(
            "{shown} lies in memory (tmpfs), where nothing is durable; choose a folder on a disk with {option}"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    /// Beside the test's own executable: a real disk, unlike a temporary directory may be.
    fn place() -> PathBuf {
        std::env::current_exe().unwrap().parent().unwrap().to_owned()
    }

    #[test]
    fn memory_is_no_place_for_a_spool() {
        let error = refuse_memory(Path::new("/dev/shm"), "--results");
        // Not every machine has this mount; where it is there, it is tmpfs.
        if Path::new("/dev/shm").is_dir() {
            assert!(error.unwrap_err().to_string().contains("--results"));
        }
        assert!(refuse_memory(Path::new("/proc"), "--results").is_ok());
    }

    #[test]
    fn a_folder_goes_with_what_is_in_it() {
        let scratch = Scratch::make(&place(), "scratch-test", 0, "--dir").unwrap();
        let path = scratch.path().to_owned();
        std::fs::write(path.join("file"), "x").unwrap();
        drop(scratch);
        assert!(!path.exists());
    }

    #[test]
    fn a_full_disk_is_refused_before_anything_is_written() {
        let error = Scratch::make(&place(), "scratch-full", u64::MAX, "--dir").unwrap_err();
        assert!(error.to_string().contains("choose another folder with --dir"), "{error}");
    }
}
