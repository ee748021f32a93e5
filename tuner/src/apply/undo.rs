//! Taking back: after a failure, after a crash, and when it is asked for.
//!
//! A file or a value is put back only where it is still what tuner made of it, or already what was there before. Anything
//! else is somebody's own change: it stays and is named, unless force is asked for.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::files::{Files, beside, remove_if_there, replace};
use super::journal::{self, Entry, Journal, State};
use super::kernel::{give_back, shown};
use super::{ApplyError, Done, Place};
use crate::finding::Finding;

/// What may be put back although it is not as tuner set it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trust {
    /// Nothing.
    Checked,
    /// Values, because this process has just set them, and the kernel may have made something else of them.
    OwnValues,
    /// Everything, because the operator says so.
    Everything,
}

/// Puts back what an entry changed; returns what could not be or must not be.
pub(super) fn put_back(files: &mut dyn Files, place: &Place, entry: &Entry, trust: Trust) -> Vec<String> {
    let mut left = Vec::new();
    for value in entry.values.iter().rev() {
        let path = place.root.join(&value.path);
        left.extend(put_back_value(files, place, &path, value, trust != Trust::Checked).err());
    }
    for file in entry.files.iter().rev() {
        let path = place.root.join(&file.path);
        left.extend(put_back_file(files, &path, file, trust == Trust::Everything).err());
    }
    for directory in entry.directories.iter().rev() {
        // A directory that somebody else uses by now stays.
        let _ = files.remove_directory(&place.root.join(directory));
    }
    left
}

fn put_back_value(
    files: &mut dyn Files,
    place: &Place,
    path: &Path,
    value: &journal::ValueChange,
    force: bool,
) -> Result<(), String> {
    let wrong = |error: std::io::Error| format!("{}: {error}", path.display());
    let found = files.read(path).map_err(wrong)?.unwrap_or_default();
    if found == value.before {
        return Ok(());
    }
    let found = shown(&found);
    // Nothing is what a process that ended within the write to a tree leaves; the kernel takes a write as a whole.
    if force || found == value.after || found.is_empty() || found == shown(&value.before) {
        return give_back(files, place, path, &value.before).map_err(wrong);
    }
    Err(format!("{} is {found} by now, not {} as tuner set it", value.key, value.after))
}

fn put_back_file(
    files: &mut dyn Files,
    path: &Path,
    file: &journal::FileChange,
    force: bool,
) -> Result<(), String> {
    let wrong = |error: std::io::Error| format!("{}: {error}", path.display());
    // Left by a process that ended before the rename.
    let _ = files.remove(&beside(path));
    let found = files.read(path).map_err(wrong)?;
    if found == file.before {
        return Ok(());
    }
    if !force && found.as_ref() != Some(&file.after) {
        return Err(format!("{} was changed since tuner wrote it", path.display()));
    }
    match &file.before {
        Some(before) => replace(files, path, before),
        None => remove_if_there(files, path),
    }
    .map_err(wrong)
}

/// Takes back what an earlier run began and did not finish; returns what was taken back.
pub(super) fn recover(files: &mut dyn Files, place: &Place) -> Result<Vec<String>, ApplyError> {
    let journal = Journal::read(files, &place.root)?;
    journal::tidy_up(files, &place.root);
    let newest_first = journal.entries.into_iter().rev();
    let mut told = Vec::new();
    for (path, mut entry) in
        newest_first.filter(|(_, entry)| matches!(entry.state, State::Begun | State::Reverting))
    {
        let trust = if place.force { Trust::Everything } else { Trust::Checked };
        let left = put_back(files, place, &entry, trust);
        if !left.is_empty() {
            return Err(unfinished(&entry, left));
        }
        let reverting = entry.state == State::Reverting;
        entry.state = if reverting { State::Reverted } else { State::RolledBack };
        journal::write(files, &path, &entry)?;
        told.push(format!("the change begun {} was not finished; it was taken back", entry.at_utc));
    }
    Ok(told)
}

fn unfinished(entry: &Entry, mut left: Vec<String>) -> ApplyError {
    left.push(format!(
        "the change begun {} was not finished, and what is told above was changed by somebody else since: put it back by hand, \
         or take it back all the same with `tuner revert --force`",
        entry.at_utc
    ));
    ApplyError::Conflict(left)
}

pub(super) fn revert(files: &mut dyn Files, place: &Place) -> Result<Done, ApplyError> {
    let recovered = recover(files, place)?;
    let journal = Journal::read(files, &place.root)?;
    let entries = journal.in_force();
    if entries.is_empty() && recovered.is_empty() {
        return Err(ApplyError::Nothing);
    }
    if !place.force {
        let foreign = foreign(files, place, &entries)?;
        if !foreign.is_empty() {
            return Err(ApplyError::Conflict(foreign));
        }
    }
    let trust = if place.force { Trust::Everything } else { Trust::Checked };
    let mut done = Done { recovered, ..Done::default() };
    for (path, mut entry) in entries {
        entry.state = State::Reverting;
        journal::write(files, &path, &entry)?;
        let left = put_back(files, place, &entry, trust);
        if !left.is_empty() {
            return Err(ApplyError::Conflict(left));
        }
        entry.state = State::Reverted;
        journal::write(files, &path, &entry)?;
        let values = entry.values.into_iter();
        done.values.extend(values.map(|value| (value.key, value.after, shown(&value.before))));
        done.files.extend(entry.files.into_iter().map(|file| file.path));
    }
    Ok(done)
}

/// What is no longer as the entries, taken back one after the other, would find it.
fn foreign(
    files: &mut dyn Files,
    place: &Place,
    entries: &[(PathBuf, Entry)],
) -> Result<Vec<String>, ApplyError> {
    let mut now: BTreeMap<PathBuf, Option<String>> = BTreeMap::new();
    let mut told = Vec::new();
    for (_, entry) in entries {
        let values = entry.values.iter().map(|value| {
            (&value.path, value.key.clone(), Some(value.after.clone()), Some(value.before.clone()), true)
        });
        let written = entry.files.iter().map(|file| {
            (
                &file.path,
                file.path.display().to_string(),
                Some(file.after.clone()),
                file.before.clone(),
                false,
            )
        });
        for (path, name, after, before, is_value) in values.chain(written) {
            if !now.contains_key(path) {
                let full = place.root.join(path);
                let found = files.read(&full).map_err(|error| ApplyError::file(&full, error))?;
                now.insert(path.clone(), found);
            }
            let shape = |text: &Option<String>| {
                text.as_deref().map(|text| if is_value { shown(text) } else { text.into() })
            };
            let found = shape(&now[path]);
            if found != shape(&after) && found != shape(&before) {
                told.push(format!("{name} was changed since tuner set it; it stays, and so does everything else (--force takes it back)"));
            }
            now.insert(path.clone(), before);
        }
    }
    Ok(told)
}

pub(super) fn verify(
    files: &mut dyn Files,
    place: &Place,
    findings: &[Finding],
) -> Result<Vec<String>, ApplyError> {
    let journal = Journal::read(files, &place.root)?;
    let in_force = journal.in_force();
    let unfinished =
        journal.entries.iter().any(|(_, entry)| matches!(entry.state, State::Begun | State::Reverting));
    if in_force.is_empty() && !unfinished {
        return Err(ApplyError::Nothing);
    }
    let mut told = Vec::new();
    if unfinished {
        told.push(
            "a change was begun and not finished: `tuner apply` or `tuner revert` takes it back first".into(),
        );
    }
    let mut seen = BTreeMap::new();
    for (_, entry) in &in_force {
        for file in &entry.files {
            let path = place.root.join(&file.path);
            if seen.insert(path.clone(), ()).is_none() {
                let found = files.read(&path).map_err(|error| ApplyError::file(&path, error))?;
                if found.as_ref() != Some(&file.after) {
                    told.push(format!("{} is not as tuner wrote it", path.display()));
                }
            }
        }
        for value in &entry.values {
            if seen.insert(value.path.clone(), ()).is_some() {
                continue;
            }
            let path = place.root.join(&value.path);
            let found = files.read(&path).map_err(|error| ApplyError::file(&path, error))?;
            let found = shown(&found.unwrap_or_default());
            // Somebody may have gone further in the same direction; then the rule has nothing to ask for.
            let asks =
                findings.iter().any(|finding| finding.key == value.key && finding.verdict.asks_for_change());
            if found != value.after && asks {
                told.push(format!("{} is {found}, not {} as tuner set it", value.key, value.after));
            }
        }
    }
    Ok(told)
}
