//! What ran: commit, compiler, versions, allocator.
//!
//! It owns that part of `run.json`. It refuses nothing: outside a git checkout the commit is unknown,
//! without a compiler its version is, and unknown is `null`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde::{Deserialize, Serialize};

/// What ran.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Software {
    /// Full hash of the commit checked out.
    pub git_commit: Option<String>,
    /// Whether tracked files differed from that commit.
    pub git_dirty: Option<bool>,
    /// First line of `rustc --version`.
    pub rustc: Option<String>,
    /// Version of each crate of the workspace, from `Cargo.lock`.
    #[serde(default)]
    pub crates: BTreeMap<String, String>,
    /// Memory allocator of kumod.
    #[serde(default)]
    pub allocator: Option<String>,
    /// Cargo profile of the binaries (`release`, `dev`).
    #[serde(default)]
    pub profile: Option<String>,
    /// What the compiler was allowed to use (`-C target-cpu`).
    #[serde(default)]
    pub target_cpu: Option<String>,
    /// `thin`, `fat`, `off`.
    #[serde(default)]
    pub link_time_optimization: Option<String>,
    /// Whether the binaries were optimised with a recorded profile.
    #[serde(default)]
    pub profile_guided: Option<bool>,
    /// Features of kumod beyond the default.
    #[serde(default)]
    pub features: Vec<String>,
    /// Hash of the configuration and the policy.
    #[serde(default)]
    pub config_hash: Option<String>,
    /// TLS library and cipher.
    #[serde(default)]
    pub tls: Option<String>,
}

impl Software {
    /// Looks at the checkout; allocator and profile are for the caller to say.
    pub fn probe(checkout: &Path) -> Self {
        Self {
            git_commit: git(checkout, &["rev-parse", "HEAD"]),
            git_dirty: git(checkout, &["status", "--porcelain", "--untracked-files=no"])
                .map(|changes| !changes.is_empty()),
            rustc: output(Command::new("rustc").arg("--version").current_dir(checkout)),
            crates: fs::read_to_string(checkout.join("Cargo.lock"))
                .map_or_else(|_| BTreeMap::new(), |lock| own_crates(&lock)),
            ..Self::default()
        }
    }
}

fn git(checkout: &Path, arguments: &[&str]) -> Option<String> {
    let mut command = Command::new("git");
    // The variables that git sets for its hooks would point it at another repository.
    command.env_remove("GIT_DIR").env_remove("GIT_WORK_TREE").env_remove("GIT_INDEX_FILE");
    output(command.arg("-C").arg(checkout).args(arguments))
}

/// Standard output without surrounding white space; `None` when the program is missing or failed.
fn output(command: &mut Command) -> Option<String> {
    let output = command.output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}

/// Packages of a lock file that come from no registry: the members of the workspace.
fn own_crates(lock: &str) -> BTreeMap<String, String> {
    let own = lock.split("[[package]]").skip(1).filter(|package| value(package, "source").is_none());
    own.filter_map(|package| Some((value(package, "name")?, value(package, "version")?))).collect()
}

/// The string of a line `key = "value"`.
fn value(package: &str, key: &str) -> Option<String> {
    package.lines().find_map(|line| {
        let (name, value) = line.split_once(" = ")?;
        (name == key).then(|| value.trim_matches('"').to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_crates_are_those_without_a_source() {
        let lock = "version = 4\n\n[[package]]\nname = \"spool\"\nversion = \"0.1.0\"\ndependencies = [\n]\n\n\
                    [[package]]\nname = \"serde\"\nversion = \"1.0.0\"\nsource = \"registry+x\"\n";
        let expected = BTreeMap::from([("spool".to_owned(), "0.1.0".to_owned())]);
        assert_eq!(own_crates(lock), expected);
    }

    #[test]
    fn outside_a_checkout_all_is_unknown() {
        let folder = tempfile::tempdir().unwrap();
        let software = Software::probe(folder.path());
        assert_eq!(software.git_commit, None);
        assert_eq!(software.git_dirty, None);
        assert!(software.crates.is_empty());
    }

    #[test]
    fn changes_make_a_checkout_dirty() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        fs::write(path.join("file"), "one").unwrap();
        git(path, &["init", "--quiet"]).unwrap();
        git(path, &["add", "file"]).unwrap();
        let identity = ["-c", "user.name=n", "-c", "user.email=e@example.com"];
        let commit = ["commit", "--quiet", "--message", "one", "--no-gpg-sign"];
        git(path, &[&identity[..], &commit[..]].concat()).unwrap();
        let clean = Software::probe(path);
        assert_eq!(clean.git_commit.unwrap().len(), 40);
        assert_eq!(clean.git_dirty, Some(false));
        fs::write(path.join("file"), "two").unwrap();
        assert_eq!(Software::probe(path).git_dirty, Some(true));
    }
}
