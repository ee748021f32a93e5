//! Changes: made as a whole or not at all, kept in a journal, taken back to the byte.
//!
//! The order is: journal (what was there), files, the running kernel, reading back, journal (done). When a step fails
//! everything is put back; when the process ends at a step, the next run puts it back first. Nothing is put back that
//! somebody else has changed since: that is a conflict, and told.

pub(crate) mod drop_in;
pub(crate) mod files;
mod guard;
pub mod journal;
pub(crate) mod kernel;
pub mod trial;
mod undo;

use std::io;
use std::path::{Path, PathBuf};

use crate::facts::normal;
use crate::finding::{Finding, Reach};
use crate::rule::{Read, built_in};
use drop_in::{Owner, Settings, owner};
use files::{Files, HostFiles, replace};
use journal::{Entry, FileChange, Journal, State, ValueChange};

/// The drop-in for sysctls, below the root.
pub const SYSCTL_FILE: &str = "etc/sysctl.d/60-kumod.conf";
/// Name of the drop-in of a unit.
pub const UNIT_FILE: &str = "60-kumod.conf";

/// What is to be changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// Sysctls with their new values.
    pub sysctls: Vec<(String, String)>,
    /// Lines of the unit with their new values.
    pub unit: Vec<(String, String)>,
}

impl Changes {
    /// What tuner writes of what the findings ask for. Ports are reserved before the range grows.
    pub fn of(findings: &[Finding]) -> Self {
        let mut changes = Self::default();
        for finding in findings.iter().filter(|finding| finding.verdict.asks_for_change()) {
            let rule = built_in().iter().find(|rule| rule.key == finding.key);
            let Some((rule, target)) = rule.zip(finding.target.clone()) else { continue };
            match rule.read {
                Read::Sysctl => changes.sysctls.push((finding.key.clone(), target)),
                Read::Unit(_) => changes.unit.push((finding.key.clone(), target)),
                _ => {}
            }
        }
        changes.sysctls.sort_by_key(|(key, _)| key != "net.ipv4.ip_local_reserved_ports");
        changes
    }

    /// Whether there is anything to do.
    pub fn is_empty(&self) -> bool {
        self.sysctls.is_empty() && self.unit.is_empty()
    }
}

/// What this process cannot change, of what `findings` ask for and tuner writes.
pub fn out_of_reach(findings: &[Finding]) -> Vec<&Finding> {
    let changes = Changes::of(findings);
    let written = |key: &String| changes.sysctls.iter().chain(&changes.unit).any(|(name, _)| name == key);
    findings.iter().filter(|finding| written(&finding.key) && finding.reach != Reach::Here).collect()
}

/// Where and how changes are made.
#[derive(Debug, Clone)]
pub struct Place {
    /// `/`, or a tree that looks like a host.
    pub root: PathBuf,
    /// The unit that limits are written for.
    pub unit: String,
    /// Release of the kernel, for the journal.
    pub kernel: Option<String>,
    /// Whether to leave files alone, so that the next boot forgets it.
    pub runtime_only: bool,
    /// Whether to replace a file that somebody else wrote or edited, and to take back what somebody else has changed.
    pub force: bool,
}

impl Place {
    /// Whether the values are those of a kernel, not files of a tree.
    pub(crate) fn is_running_host(&self) -> bool {
        self.root == Path::new("/")
    }
}

/// Why nothing was changed, or everything put back.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// A file cannot be used.
    #[error("{}: {error}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The journal is damaged.
    #[error("{}: the journal cannot be read: {problem}; nothing was changed. Look at it, and move it away if what it describes is no longer wanted back", path.display())]
    Journal {
        /// The entry.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// Another tuner is at work.
    #[error("{}: another tuner is changing this host", .0.display())]
    Locked(PathBuf),
    /// A file of another owner, a link, a value that changed since.
    #[error("{}", .0.join("\n"))]
    Conflict(Vec<String>),
    /// The kernel took another value than it was given.
    #[error("{key}: given {given}, the kernel says {found}; everything was put back")]
    ReadBack {
        /// The setting.
        key: String,
        /// What was written.
        given: String,
        /// What was read.
        found: String,
    },
    /// A step failed and the rest was put back.
    #[error("{cause}; everything was put back")]
    RolledBack {
        /// What failed.
        cause: Box<Self>,
    },
    /// A step failed and putting back failed too.
    #[error("{cause}; not everything could be put back: {}; the next run of tuner tries again", left.join("; "))]
    Half {
        /// What failed first.
        cause: Box<Self>,
        /// What could not be put back.
        left: Vec<String>,
    },
    /// There is nothing to check or take back.
    #[error("nothing was applied here")]
    Nothing,
}

impl ApplyError {
    pub(crate) fn file(path: &Path, error: io::Error) -> Self {
        Self::File { path: path.to_owned(), error }
    }

    /// Whether it is missing rights, or a file system that cannot be written.
    pub fn is_permission(&self) -> bool {
        match self {
            Self::File { error, .. } => {
                matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem)
            }
            Self::RolledBack { cause } | Self::Half { cause, .. } => cause.is_permission(),
            _ => false,
        }
    }
}

/// What was done.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// Settings of the running kernel: key, before, after.
    pub values: Vec<(String, String, String)>,
    /// Files that were written or removed.
    pub files: Vec<PathBuf>,
    /// What an earlier run had left and was put back first.
    pub recovered: Vec<String>,
}

/// Takes back what an earlier run began and did not finish, and says so. What a host needs can only be told after that: a
/// value that is half of a change looks like one that was there.
///
/// # Errors
/// See [`ApplyError`].
pub fn recover(place: &Place) -> Result<Vec<String>, ApplyError> {
    let _lock = guard::lock(&place.root)?;
    undo::recover(&mut HostFiles, place)
}

/// Makes changes, as a whole or not at all.
///
/// # Errors
/// See [`ApplyError`]; in every case but [`ApplyError::Half`] the host is as it was.
pub fn apply(place: &Place, changes: &Changes) -> Result<Done, ApplyError> {
    let _lock = guard::lock(&place.root)?;
    apply_with(&mut HostFiles, place, changes, jiff::Timestamp::now().to_string())
}

/// Whether what was applied still holds; each line says what does not.
///
/// # Errors
/// The journal cannot be read, or nothing was applied.
pub fn verify(place: &Place, findings: &[Finding]) -> Result<Vec<String>, ApplyError> {
    undo::verify(&mut HostFiles, place, findings)
}

/// Takes everything back that is in force, the newest first.
///
/// # Errors
/// See [`ApplyError`]. On a conflict nothing is changed.
pub fn revert(place: &Place) -> Result<Done, ApplyError> {
    let _lock = guard::lock(&place.root)?;
    undo::revert(&mut HostFiles, place)
}

pub(crate) fn apply_with(
    files: &mut dyn Files,
    place: &Place,
    changes: &Changes,
    at_utc: String,
) -> Result<Done, ApplyError> {
    let recovered = undo::recover(files, place)?;
    let journal = Journal::read(files, &place.root)?;
    let mut entry = Entry::begin(at_utc, place.kernel.as_deref());
    plan_values(files, place, changes, &mut entry)?;
    if !place.runtime_only {
        plan_files(files, place, changes, &journal, &mut entry)?;
    }
    if entry.files.is_empty() && entry.values.is_empty() {
        return Ok(Done { recovered, ..Done::default() });
    }
    entry.directories = guard::missing_directories(&place.root, entry.files.iter().map(|file| &file.path));
    let path = journal.next_path(&entry.at_utc);
    guard::make_journal_directory(files, &place.root)?;
    journal::write(files, &path, &entry)?;
    if let Err(cause) = make(files, place, &entry).and_then(|()| {
        entry.state = State::Applied;
        journal::write(files, &path, &entry)
    }) {
        return Err(give_up(files, place, &path, entry, cause));
    }
    let values =
        entry.values.iter().map(|value| (value.key.clone(), normal(&value.before), value.after.clone()));
    Ok(Done {
        values: values.collect(),
        files: entry.files.into_iter().map(|file| file.path).collect(),
        recovered,
    })
}

/// What the running kernel is to be given, and holds now.
fn plan_values(
    files: &mut dyn Files,
    place: &Place,
    changes: &Changes,
    entry: &mut Entry,
) -> Result<(), ApplyError> {
    for (key, after) in &changes.sysctls {
        let path = PathBuf::from(format!("proc/sys/{}", key.replace('.', "/")));
        let full = place.root.join(&path);
        guard::refuse_kernel_of_another_root(place, &path)?;
        let before = files.read(&full).map_err(|error| ApplyError::file(&full, error))?;
        let missing = || ApplyError::file(&full, io::ErrorKind::NotFound.into());
        let before = before.ok_or_else(missing)?;
        if normal(&before) != *after {
            entry.values.push(ValueChange { key: key.clone(), path, before, after: after.clone() });
        }
    }
    Ok(())
}

/// The drop-ins with what stands in them already, what was applied to the running kernel only, and what is new.
fn plan_files(
    files: &mut dyn Files,
    place: &Place,
    changes: &Changes,
    journal: &Journal,
    entry: &mut Entry,
) -> Result<(), ApplyError> {
    let mut sysctls = Settings::new();
    for (_, earlier) in journal.in_force().iter().rev() {
        let kept = earlier.values.iter().filter(|value| value.is_sysctl());
        sysctls.extend(kept.map(|value| (value.key.clone(), value.after.clone())));
    }
    let unit_file = format!("etc/systemd/system/{}.d/{UNIT_FILE}", place.unit);
    let drop_ins = [
        DropIn { path: SYSCTL_FILE, prefix: "", earlier: sysctls, new: &changes.sysctls },
        DropIn { path: &unit_file, prefix: "unit.", earlier: Settings::new(), new: &changes.unit },
    ];
    for drop_in in drop_ins {
        entry.files.extend(drop_in.change(files, place)?);
    }
    Ok(())
}

/// A file of ours as it is to be.
struct DropIn<'a> {
    path: &'a str,
    /// What the rules put before the keys of the file.
    prefix: &'a str,
    earlier: Settings,
    new: &'a [(String, String)],
}

impl DropIn<'_> {
    fn change(self, files: &mut dyn Files, place: &Place) -> Result<Option<FileChange>, ApplyError> {
        let full = place.root.join(self.path);
        guard::refuse_links(&place.root, self.path)?;
        let before = files.read(&full).map_err(|error| ApplyError::file(&full, error))?;
        if let Some(text) = &before {
            refuse_foreign(&full, text, place.force)?;
        }
        let present =
            before.as_deref().map_or_else(Settings::new, |text| drop_in::settings(text, self.prefix));
        let mut settings = self.earlier;
        settings.extend(present.clone());
        settings.extend(self.new.iter().cloned());
        let after =
            if self.prefix.is_empty() { drop_in::sysctl(&settings) } else { drop_in::unit(&settings) };
        // A file that another version of this program wrote says the same in other words.
        Ok((settings != present).then(|| FileChange { path: self.path.into(), before, after }))
    }
}

fn refuse_foreign(path: &Path, text: &str, force: bool) -> Result<(), ApplyError> {
    let whose = match owner(text) {
        _ if force => return Ok(()),
        Owner::Tuner => return Ok(()),
        Owner::Edited => "was edited since tuner wrote it",
        Owner::Other => "was not written by tuner",
    };
    let path = path.display();
    Err(ApplyError::Conflict(vec![format!(
        "{path} {whose}: move its lines to a file of another name, or --force"
    )]))
}

/// Files first, so that a kernel that crashes on a value does not forget it; then the kernel, read back.
fn make(files: &mut dyn Files, place: &Place, entry: &Entry) -> Result<(), ApplyError> {
    for directory in &entry.directories {
        let path = place.root.join(directory);
        files.make_directory(&path).map_err(|error| ApplyError::file(&path, error))?;
    }
    for file in &entry.files {
        let path = place.root.join(&file.path);
        replace(files, &path, &file.after).map_err(|error| ApplyError::file(&path, error))?;
    }
    entry.values.iter().try_for_each(|value| kernel::give(files, place, value))
}

/// Puts everything back and says what failed.
fn give_up(
    files: &mut dyn Files,
    place: &Place,
    path: &Path,
    mut entry: Entry,
    cause: ApplyError,
) -> ApplyError {
    let mut left = undo::put_back(files, place, &entry, undo::Trust::OwnValues);
    if left.is_empty() {
        entry.state = State::RolledBack;
        left.extend(journal::write(files, path, &entry).err().map(|error| error.to_string()));
    }
    match (left.is_empty(), cause) {
        (true, cause @ ApplyError::ReadBack { .. }) => cause,
        (true, cause) => ApplyError::RolledBack { cause: Box::new(cause) },
        (false, cause) => ApplyError::Half { cause: Box::new(cause), left },
    }
}

#[cfg(test)]
mod tests;
