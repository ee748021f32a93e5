//! `--user`: becomes an unprivileged user once the ports are bound, before anything a stranger sends is read.
//!
//! Of what root may do one thing is kept: to bind ports below 1024, and addresses with them, when the process was started with it.

use std::fs;
use std::io;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};

use rustix::process::{Gid, Uid, geteuid};
use rustix::thread::{self, CapabilitySet, CapabilitySets};
use thiserror::Error;

/// Why the user could not be changed, or a folder not be made for it.
#[derive(Debug, Error)]
pub enum PrivilegeError {
    /// There is no such user.
    #[error("--user {0}: there is no such user in /etc/passwd; make it with: adduser --system --group {0}")]
    Unknown(String),
    /// Only root may become somebody else.
    #[error("--user {0}: only root can change the user; start kumod as root or leave --user away")]
    NotRoot(String),
    /// The host refused.
    #[error("--user {name}: {source}")]
    Refused {
        /// The user.
        name: String,
        /// What the host said.
        source: io::Error,
    },
    /// A folder cannot be made.
    #[error("{}: the folder cannot be made: {source}; make it by hand, or choose another", .dir.display())]
    Dir {
        /// The folder.
        dir: PathBuf,
        /// What the host said.
        source: io::Error,
    },
}

/// A user of this host.
#[derive(Clone, Debug)]
pub struct User {
    name: String,
    uid: u32,
    gid: u32,
}

impl User {
    /// Looks a user up by name in `/etc/passwd`.
    ///
    /// # Errors
    /// No such user, or the file cannot be read.
    pub fn find(name: &str) -> Result<Self, PrivilegeError> {
        let passwd = fs::read_to_string("/etc/passwd");
        let passwd = passwd.map_err(|source| PrivilegeError::Refused { name: name.to_owned(), source })?;
        Self::find_in(&passwd, name).ok_or_else(|| PrivilegeError::Unknown(name.to_owned()))
    }

    fn find_in(passwd: &str, name: &str) -> Option<Self> {
        let line = passwd.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut fields = line.split(':').skip(2);
        let uid = fields.next()?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        Some(Self { name: name.to_owned(), uid, gid })
    }

    /// Gives up what we were, but for binding ports below 1024. To be called while the process has one thread, because the kernel keeps users per thread and new
    /// threads take over the user of the one that starts them.
    ///
    /// # Errors
    /// We are somebody else and not root, or the host refused.
    pub fn become_it(&self) -> Result<(), PrivilegeError> {
        if geteuid().as_raw() == self.uid {
            return Ok(());
        }
        if !geteuid().is_root() {
            return Err(PrivilegeError::NotRoot(self.name.clone()));
        }
        let (uid, gid) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid));
        let change = || {
            // What root may do would be gone with root; one thing is kept, and all else given up right after.
            let kept = thread::capabilities(None)?.permitted & CapabilitySet::NET_BIND_SERVICE;
            thread::set_keep_capabilities(true)?;
            thread::set_thread_groups(&[gid])?;
            thread::set_thread_res_gid(gid, gid, gid)?;
            thread::set_thread_res_uid(uid, uid, uid)?;
            let sets =
                CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
            thread::set_capabilities(None, sets)?;
            thread::set_keep_capabilities(false)
        };
        change().map_err(|errno| PrivilegeError::Refused { name: self.name.clone(), source: errno.into() })
    }
}

/// Makes a folder, with its parents, that belongs to the user if there is one.
pub(super) fn make_dir(dir: &Path, user: Option<&User>) -> Result<(), PrivilegeError> {
    let refuse = |source| PrivilegeError::Dir { dir: dir.to_owned(), source };
    fs::create_dir_all(dir).map_err(refuse)?;
    match user {
        Some(user) if geteuid().is_root() => chown(dir, Some(user.uid), Some(user.gid)).map_err(refuse),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn users_are_found_by_their_whole_name() {
        let passwd =
            "root:x:0:0:root:/root:/bin/bash\nmail:x:8:12:mail:/var/mail:/usr/sbin/nologin\nbroken:x:\n";
        let mail = User::find_in(passwd, "mail").unwrap();
        assert_eq!((mail.uid, mail.gid), (8, 12));
        for name in ["mai", "nobody", "broken", ""] {
            assert!(User::find_in(passwd, name).is_none(), "{name:?}");
        }
    }
}
