//! A change on trial: given to the running kernel and taken back as often as a comparison needs, then kept or put back.
//!
//! No file is written. The journal says what was there before the first value is touched, so a process that ends in between
//! is taken back by the next run of tuner. Whatever is not kept by [`Trial::keep`] is put back, when the trial is dropped
//! at the latest. A value that somebody else changes meanwhile ends the trial: what was compared is no longer known.

use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;

use super::files::{Files, HostFiles};
use super::journal::{self, Entry, Journal, State, ValueChange};
use super::undo::Trust;
use super::{ApplyError, Place, guard, kernel, undo};

/// A file of the running kernel, and the value that it is to hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// The rule's key; several files may belong to one.
    pub key: String,
    /// The file, below the root.
    pub path: PathBuf,
    /// The value.
    pub wanted: String,
}

/// A change that is in the journal as begun.
#[derive(Debug)]
pub struct Trial {
    place: Place,
    path: PathBuf,
    entry: Entry,
    files: HostFiles,
    is_on: bool,
    is_open: bool,
    trust: Trust,
    /// Held as long as the trial lasts.
    _lock: File,
}

impl Trial {
    /// Writes down what is there. Settings that hold the wanted value already are left out; `None` where all do.
    ///
    /// # Errors
    /// See [`ApplyError`]; nothing was changed.
    pub fn begin(place: &Place, settings: &[Setting]) -> Result<Option<Self>, ApplyError> {
        let lock = guard::lock(&place.root)?;
        let mut files = HostFiles;
        undo::recover(&mut files, place)?;
        let journal = Journal::read(&mut files, &place.root)?;
        let mut entry = Entry::begin(jiff::Timestamp::now().to_string(), place.kernel.as_deref());
        for setting in settings {
            let full = place.root.join(&setting.path);
            guard::refuse_kernel_of_another_root(place, &setting.path)?;
            let before = files.read(&full).map_err(|error| ApplyError::file(&full, error))?;
            let missing = || ApplyError::file(&full, std::io::ErrorKind::NotFound.into());
            let before = before.ok_or_else(missing)?;
            if kernel::shown(&before) != setting.wanted {
                let Setting { key, path, wanted } = setting.clone();
                entry.values.push(ValueChange { key, path, before, after: wanted });
            }
        }
        if entry.values.is_empty() {
            return Ok(None);
        }
        let path = journal.next_path(&entry.at_utc);
        guard::make_journal_directory(&mut files, &place.root)?;
        journal::write(&mut files, &path, &entry)?;
        let place = place.clone();
        let (is_on, is_open, trust) = (false, true, Trust::Checked);
        Ok(Some(Self { place, path, entry, files, is_on, is_open, trust, _lock: lock }))
    }

    /// Each file with its value before and the one on trial.
    pub fn values(&self) -> impl Iterator<Item = (&str, String, &str)> {
        let values = self.entry.values.iter();
        values.map(|value| (value.key.as_str(), kernel::shown(&value.before), value.after.as_str()))
    }

    /// Gives the kernel the values on trial, or those that were there before.
    ///
    /// # Errors
    /// Somebody else has changed a value; a value that the kernel does not take.
    pub fn switch(&mut self, on: bool) -> Result<(), ApplyError> {
        self.look()?;
        if on == self.is_on {
            return Ok(());
        }
        self.is_on = on;
        if on {
            let given = self
                .entry
                .values
                .iter()
                .try_for_each(|value| kernel::give(&mut self.files, &self.place, value));
            if matches!(given, Err(ApplyError::ReadBack { .. })) {
                // The kernel made something of its own of it, which is nobody else's change.
                self.trust = Trust::OwnValues;
            }
            return given;
        }
        let left = undo::put_back(&mut self.files, &self.place, &self.entry, Trust::Checked);
        if left.is_empty() { Ok(()) } else { Err(ApplyError::Conflict(left)) }
    }

    /// What somebody else has changed since the last switch.
    fn look(&mut self) -> Result<(), ApplyError> {
        let mut foreign = Vec::new();
        for value in &self.entry.values {
            let path = self.place.root.join(&value.path);
            let found = self.files.read(&path).map_err(|error| ApplyError::file(&path, error))?;
            let found = kernel::shown(&found.unwrap_or_default());
            let expected = if self.is_on { value.after.clone() } else { kernel::shown(&value.before) };
            if found != expected {
                foreign.push(format!(
                    "{} is {found}, not {expected} as it was a moment ago: somebody else changes it",
                    value.key
                ));
            }
        }
        if foreign.is_empty() { Ok(()) } else { Err(ApplyError::Conflict(foreign)) }
    }

    /// Leaves the values on trial in force; `tuner revert` takes them back.
    ///
    /// # Errors
    /// As [`Self::switch`], or the journal cannot be written; then everything is put back.
    pub fn keep(mut self) -> Result<(), ApplyError> {
        self.switch(true)?;
        self.entry.state = State::Applied;
        journal::write(&mut self.files, &self.path, &self.entry)?;
        self.is_open = false;
        Ok(())
    }

    /// Puts back exactly what was there.
    ///
    /// # Errors
    /// What could not be put back, or is somebody else's by now.
    pub fn put_back(mut self) -> Result<(), ApplyError> {
        self.end()
    }

    fn end(&mut self) -> Result<(), ApplyError> {
        if !self.is_open {
            return Ok(());
        }
        self.is_open = false;
        let left = undo::put_back(&mut self.files, &self.place, &self.entry, self.trust);
        if !left.is_empty() {
            return Err(ApplyError::Conflict(left));
        }
        self.entry.state = State::RolledBack;
        journal::write(&mut self.files, &self.path, &self.entry)
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            // Nobody may be there to read it; `tuner verify` tells it again.
            let _ = writeln!(
                std::io::stderr(),
                "tuner: not everything could be put back: {error}; `tuner revert` tries again"
            );
        }
    }
}
