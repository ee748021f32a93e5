//! Servers of others, each on a picture of this host that goes with it: they find their users and paths, and the host keeps none of it.
//!
//! It takes root, namespaces and overlayfs; where one of them is missing, or the package was not unpacked by scripts/setup, the test is
//! told why it has to skip. All processes of a jail end with it, because they share a process namespace.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::support::until;

/// A server at work.
pub(crate) struct Jail {
    child: Child,
    folder: tempfile::TempDir,
}

impl Jail {
    /// A folder that the server will see as /srv.
    pub(crate) fn folder() -> tempfile::TempDir {
        tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
    }

    /// Runs `command` with the files of a package over the host's, until dropped. `users` are those that the package would have made.
    pub(crate) fn start(
        folder: tempfile::TempDir,
        package: Option<&Path>,
        users: &str,
        command: &str,
    ) -> Self {
        let output = File::create(folder.path().join("output")).unwrap();
        let child = Command::new("unshare")
            .args(["--mount", "--pid", "--fork", "--kill-child", "sh"])
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/next_hops/jail.sh"))
            .arg(folder.path())
            .arg(package.unwrap_or_else(|| Path::new("")))
            .args([users, command])
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .spawn()
            .unwrap();
        Self { child, folder }
    }

    /// What it sees as /srv.
    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Waits until somebody answers there.
    pub(crate) fn answers(mut self, address: SocketAddr) -> Self {
        until(&format!("an answer at {address}: {}", self.said()), || {
            assert!(self.child.try_wait().unwrap().is_none(), "it has ended: {}", self.said());
            TcpStream::connect(address).is_ok()
        });
        self
    }

    /// All that it has written on standard output and error, and to files named *log in its folder.
    pub(crate) fn said(&self) -> String {
        let is_told = |path: &PathBuf| path.ends_with("output") || path.to_string_lossy().ends_with("log");
        let files = fs::read_dir(self.path()).unwrap().map(|entry| entry.unwrap().path()).filter(is_told);
        files.map(|file| fs::read_to_string(file).unwrap_or_default()).collect()
    }
}

impl Drop for Jail {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("the server said:\n{}", self.said());
        }
    }
}

/// Where a Debian package was unpacked.
///
/// # Errors
/// Why there can be no jail with it.
pub(crate) fn package(name: &str) -> Result<PathBuf, String> {
    can_jail()?;
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let unpacked = target.join("tools/servers").join(name);
    if unpacked.exists() { Ok(unpacked) } else { Err(format!("scripts/setup has not unpacked {name}")) }
}

/// Whether there can be jails at all.
pub(crate) fn can_jail() -> Result<(), String> {
    if !rustix::process::geteuid().is_root() {
        return Err("not root".to_owned());
    }
    let folder = Jail::folder();
    let mut jail = Jail::start(folder, None, "", "true");
    if jail.child.wait().unwrap().success() {
        Ok(())
    } else {
        Err(format!("no mount namespace or no overlayfs here: {}", jail.said()))
    }
}

/// On an address of its own, which nothing else that runs here takes a port of.
pub(crate) fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.3:0").unwrap().local_addr().unwrap()
}
