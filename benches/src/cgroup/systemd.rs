//! Limits by systemd: the command line of `systemd-run` for a scope.
//!
//! It owns the words. A scope, unlike a service, is executed by the one who asks, so that the program stays a child of the
//! laboratory, with its output and its number. Whether the manager really set the limits is read back like any other: a user's
//! manager that was not given `cpuset` drops that property without an error.

use std::ffi::OsString;
use std::path::Path;

use super::Limits;

/// Whom to ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manager {
    /// The host's.
    System,
    /// The user's own.
    User,
}

impl Manager {
    /// The manager that this user may ask; `None` where systemd does not run. `root` is `/` but in tests.
    pub(super) fn probe(root: &Path) -> Option<Self> {
        let runs = root.join("run/systemd/system").is_dir();
        let has_tool =
            ["usr/bin/systemd-run", "bin/systemd-run"].iter().any(|path| root.join(path).is_file());
        if !runs || !has_tool {
            return None;
        }
        let user = rustix::process::geteuid();
        if user.is_root() {
            return Some(Self::System);
        }
        let own = root.join(format!("run/user/{}/systemd/private", user.as_raw()));
        own.exists().then_some(Self::User)
    }
}

/// The arguments of `systemd-run` up to and including `--`.
pub(super) fn scope(manager: Manager, name: &str, limits: &Limits) -> Vec<OsString> {
    let mut words: Vec<OsString> = Vec::new();
    if manager == Manager::User {
        words.push("--user".into());
    }
    words.extend(["--scope", "--quiet", "--collect"].map(OsString::from));
    words.push(format!("--unit={name}").into());
    let properties = [
        format!("CPUQuota={}%", limits.cpus * 100.0),
        format!("AllowedCPUs={}", limits.cores),
        format!("MemoryMax={}", limits.memory_bytes),
        "MemorySwapMax=0".to_owned(),
    ];
    words.extend(properties.map(|property| format!("--property={property}").into()));
    words.push("--".into());
    words
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    #[test]
    fn the_command_line_of_a_scope() {
        let limits = Limits { cpus: 0.5, cores: "0,2".parse().unwrap(), memory_bytes: 1 << 30 };
        let line =
            |manager| scope(manager, "kumod-lab-7-0.5x1", &limits).join(" ".as_ref()).into_string().unwrap();
        let expected = "--scope --quiet --collect --unit=kumod-lab-7-0.5x1 --property=CPUQuota=50% \
                        --property=AllowedCPUs=0,2 --property=MemoryMax=1073741824 --property=MemorySwapMax=0 --";
        assert_eq!(line(Manager::System), expected);
        assert_eq!(line(Manager::User), format!("--user {expected}"));
    }
}
