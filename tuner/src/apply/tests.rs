//! Changes that are stopped at every step, on a tree that looks like a host.

use std::collections::BTreeMap;
use std::fs;

use tempfile::TempDir;

use super::*;

/// Files of a tree whose operations fail from one step on: once, or as if the process had ended there.
struct StoppingFiles {
    inner: HostFiles,
    left: usize,
    for_good: bool,
}

impl StoppingFiles {
    fn step(&mut self) -> io::Result<bool> {
        if self.left > 0 {
            self.left -= 1;
            return Ok(self.left == 0);
        }
        if self.for_good { Err(io::Error::other("stopped")) } else { Ok(false) }
    }

    /// Does the operation, or a part of it and fails.
    fn act<T>(
        &mut self,
        whole: impl FnOnce(&mut HostFiles) -> io::Result<T>,
        part: impl FnOnce(&mut HostFiles),
    ) -> io::Result<T> {
        if self.step()? {
            part(&mut self.inner);
            return Err(io::Error::other("stopped"));
        }
        whole(&mut self.inner)
    }
}

impl Files for StoppingFiles {
    fn read(&mut self, path: &Path) -> io::Result<Option<String>> {
        self.inner.read(path)
    }
    fn make_directory(&mut self, path: &Path) -> io::Result<bool> {
        self.act(|files| files.make_directory(path), |_| ())
    }
    fn remove_directory(&mut self, path: &Path) -> io::Result<()> {
        self.act(|files| files.remove_directory(path), |_| ())
    }
    fn write(&mut self, path: &Path, text: &str) -> io::Result<()> {
        self.act(|files| files.write(path, text), |_| fs::write(path, &text[..text.len() / 2]).unwrap())
    }
    fn sync(&mut self, path: &Path) -> io::Result<()> {
        self.act(|files| files.sync(path), |_| ())
    }
    fn sync_directory(&mut self, path: &Path) -> io::Result<()> {
        self.act(|files| files.sync_directory(path), |_| ())
    }
    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        self.act(|files| files.rename(from, to), |_| ())
    }
    fn remove(&mut self, path: &Path) -> io::Result<()> {
        self.act(|files| files.remove(path), |_| ())
    }
    fn set(&mut self, path: &Path, value: &str) -> io::Result<()> {
        self.act(|files| files.set(path, value), |_| drop(fs::write(path, "")))
    }
}

const VALUES: [(&str, &str, &str); 2] = [
    ("net.core.somaxconn", "128\n", "4096"),
    ("net.ipv4.ip_local_port_range", "32768\t60999\n", "10240 65535"),
];

fn host() -> (TempDir, Place, Changes) {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir_all(root.path().join("etc")).unwrap();
    let mut changes = Changes::default();
    for (key, before, after) in VALUES {
        let path = root.path().join("proc/sys").join(key.replace('.', "/"));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, before).unwrap();
        changes.sysctls.push((key.into(), after.into()));
    }
    changes.unit.push(("unit.LimitNOFILE".into(), "1048576".into()));
    let place = Place {
        root: root.path().to_owned(),
        unit: "kumod.service".into(),
        kernel: None,
        runtime_only: false,
        force: false,
    };
    (root, place, changes)
}

/// Every file and directory but the journal.
fn everything(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut open = vec![root.join("etc"), root.join("proc")];
    while let Some(directory) = open.pop() {
        found.insert(directory.clone(), String::new());
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                found.insert(path.clone(), fs::read_to_string(&path).unwrap());
            }
        }
    }
    found
}

fn run(files: &mut dyn Files, place: &Place, changes: &Changes) -> Result<Done, ApplyError> {
    apply_with(files, place, changes, "2026-11-22T13:00:00Z".into())
}

#[test]
fn a_process_that_ends_at_any_step_is_taken_back_by_the_next_run() {
    for steps in 1.. {
        let (root, place, changes) = host();
        let before = everything(root.path());
        let mut files = StoppingFiles { inner: HostFiles, left: steps, for_good: true };
        let first = run(&mut files, &place, &changes);
        let done = first.is_ok();
        // The state on disk is whatever the first run left; this one knows nothing of it.
        if steps % 2 == 0 {
            run(&mut HostFiles, &place, &changes).unwrap();
            assert_eq!(run(&mut HostFiles, &place, &changes).unwrap(), Done::default(), "step {steps}");
        }
        match undo::revert(&mut HostFiles, &place) {
            Ok(_) | Err(ApplyError::Nothing) => {}
            Err(error) => panic!("step {steps}: {error}"),
        }
        assert_eq!(everything(root.path()), before, "step {steps}");
        if done {
            assert!(steps > 20, "only {steps} steps");
            return;
        }
    }
}

#[test]
fn a_step_that_fails_puts_everything_back_at_once() {
    for steps in 1.. {
        let (root, place, changes) = host();
        let before = everything(root.path());
        let mut files = StoppingFiles { inner: HostFiles, left: steps, for_good: false };
        match run(&mut files, &place, &changes) {
            Ok(_) if files.left > 0 => return,
            // What failed was the removal of something that is not there: the change is whole.
            Ok(done) => assert_eq!((done.values.len(), done.files.len()), (2, 2), "step {steps}"),
            Err(error @ ApplyError::Half { .. }) => panic!("step {steps}: {error}"),
            Err(_) => assert_eq!(everything(root.path()), before, "step {steps}"),
        }
    }
}

#[test]
fn a_revert_that_ends_at_any_step_is_completed_by_the_next() {
    for steps in 1.. {
        let (root, place, changes) = host();
        let before = everything(root.path());
        run(&mut HostFiles, &place, &changes).unwrap();
        let mut files = StoppingFiles { inner: HostFiles, left: steps, for_good: true };
        let done = undo::revert(&mut files, &place).is_ok() && files.left > 0;
        match undo::revert(&mut HostFiles, &place) {
            Ok(_) | Err(ApplyError::Nothing) => {}
            Err(error) => panic!("step {steps}: {error}"),
        }
        assert_eq!(everything(root.path()), before, "step {steps}");
        if done {
            return;
        }
    }
}

#[test]
fn what_somebody_changed_since_stays_and_so_does_the_rest() {
    let (root, place, changes) = host();
    run(&mut HostFiles, &place, &changes).unwrap();
    let somaxconn = root.path().join("proc/sys/net/core/somaxconn");
    fs::write(&somaxconn, "9000\n").unwrap();
    let before = everything(root.path());
    let Err(ApplyError::Conflict(told)) = undo::revert(&mut HostFiles, &place) else { panic!("no conflict") };
    assert!(told[0].starts_with("net.core.somaxconn was changed since"), "{told:?}");
    assert_eq!(everything(root.path()), before);
    undo::revert(&mut HostFiles, &Place { force: true, ..place }).unwrap();
    assert_eq!(fs::read_to_string(somaxconn).unwrap(), "128\n");
}

#[test]
fn a_value_that_the_kernel_does_not_take_puts_everything_back() {
    /// A kernel that rounds.
    struct RoundingFiles(HostFiles);
    impl Files for RoundingFiles {
        fn read(&mut self, path: &Path) -> io::Result<Option<String>> {
            self.0.read(path)
        }
        fn make_directory(&mut self, path: &Path) -> io::Result<bool> {
            self.0.make_directory(path)
        }
        fn remove_directory(&mut self, path: &Path) -> io::Result<()> {
            self.0.remove_directory(path)
        }
        fn write(&mut self, path: &Path, text: &str) -> io::Result<()> {
            self.0.write(path, text)
        }
        fn sync(&mut self, path: &Path) -> io::Result<()> {
            self.0.sync(path)
        }
        fn sync_directory(&mut self, path: &Path) -> io::Result<()> {
            self.0.sync_directory(path)
        }
        fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
            self.0.rename(from, to)
        }
        fn remove(&mut self, path: &Path) -> io::Result<()> {
            self.0.remove(path)
        }
        fn set(&mut self, path: &Path, value: &str) -> io::Result<()> {
            self.0.set(path, if value.starts_with("10240") { "10240 65534" } else { value })
        }
    }
    let (root, place, changes) = host();
    let before = everything(root.path());
    let error = run(&mut RoundingFiles(HostFiles), &place, &changes).unwrap_err();
    assert!(error.to_string().contains("given 10240 65535, the kernel says 10240 65534"), "{error}");
    assert_eq!(everything(root.path()), before);
}

#[test]
fn what_was_applied_to_the_kernel_only_is_kept_for_boot_by_the_next_apply() {
    let (root, place, changes) = host();
    let runtime = Place { runtime_only: true, ..place.clone() };
    assert!(run(&mut HostFiles, &runtime, &changes).unwrap().files.is_empty());
    run(&mut HostFiles, &place, &Changes::default()).unwrap();
    let text = fs::read_to_string(root.path().join(SYSCTL_FILE)).unwrap();
    assert!(text.contains("net.core.somaxconn = 4096\n"), "{text}");
}
