//! What ran: commit, compiler, versions, allocator.
//!
//! It owns that part of `run.json`. It refuses nothing: outside a git checkout the commit is unknown,
//! without a compiler its version is, and unknown is `null`. What the build was told is read from the checkout and from how this
//! program itself was built, since the programs of a laboratory are built together.

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
    /// Hash of the configuration and the policy, without folders and ports, so that equal ones have equal hashes.
    #[serde(default)]
    pub config_hash: Option<String>,
    /// TLS library, by the lock file; whether connections used it stands in the workload.
    #[serde(default)]
    pub tls: Option<String>,
}

impl Software {
    /// Looks at the checkout; allocator and profile are for the caller to say.
    pub fn probe(checkout: &Path) -> Self {
        let lock = fs::read_to_string(checkout.join("Cargo.lock")).unwrap_or_default();
        let manifest = fs::read_to_string(checkout.join("Cargo.toml")).unwrap_or_default();
        let settings = fs::read_to_string(checkout.join(".cargo/config.toml")).unwrap_or_default();
        Self {
            git_commit: git(checkout, &["rev-parse", "HEAD"]),
            git_dirty: git(checkout, &["status", "--porcelain", "--untracked-files=no"])
                .map(|changes| !changes.is_empty()),
            rustc: output(Command::new("rustc").arg("--version").current_dir(checkout)),
            crates: own_crates(&lock),
            target_cpu: target_cpu(option_env!("RUSTFLAGS").unwrap_or_default(), &settings),
            link_time_optimization: link_time_optimization(&manifest),
            tls: tls(&lock),
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

/// What `-C target-cpu` says in the flags of this build or in the settings of the checkout; without it the compiler takes the
/// least of the architecture.
fn target_cpu(flags: &str, settings: &str) -> Option<String> {
    let told = [flags, settings].into_iter().find_map(|text| text.split("target-cpu=").nth(1));
    let name = told.map(|rest| rest.split(|c: char| !c.is_ascii_alphanumeric() && !"-_.".contains(c)).next());
    Some(name.flatten().unwrap_or("baseline of the architecture").to_owned())
}

/// `lto` of the release profile in a manifest.
fn link_time_optimization(manifest: &str) -> Option<String> {
    let profile = manifest.split("[profile.release]").nth(1)?;
    let own = profile.split("\n[").next()?;
    value(own, "lto")
}

/// `rustls 0.23.46, ring 0.17.14`, as far as the lock file names them.
fn tls(lock: &str) -> Option<String> {
    let version = |name: &str| {
        let package =
            lock.split("[[package]]").find(|package| value(package, "name").as_deref() == Some(name))?;
        Some(format!("{name} {}", value(package, "version")?))
    };
    let names: Vec<String> = ["rustls", "ring"].into_iter().filter_map(version).collect();
    (!names.is_empty()).then(|| names.join(", "))
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
    fn what_the_build_was_told_is_read() {
        assert_eq!(target_cpu("-g -C target-cpu=native -D warnings", "").as_deref(), Some("native"));
        let settings = "[build]\nrustflags = [\"-Ctarget-cpu=x86-64-v3\"]\n";
        assert_eq!(target_cpu("", settings).as_deref(), Some("x86-64-v3"));
        assert!(target_cpu("-g", "").unwrap().contains("baseline"));
        let manifest = "[profile.release]\ndebug = 1\nlto = \"thin\"\n\n[profile.dev]\nlto = \"off\"\n";
        assert_eq!(link_time_optimization(manifest).as_deref(), Some("thin"));
        assert_eq!(link_time_optimization("[profile.release]\n\n[profile.dev]\nlto = \"off\"\n"), None);
        let lock = "[[package]]\nname = \"ring\"\nversion = \"0.17.14\"\n\n[[package]]\nname = \"rustls\"\nversion = \"0.23.46\"\n";
        assert_eq!(tls(lock).as_deref(), Some("rustls 0.23.46, ring 0.17.14"));
        assert_eq!(tls(""), None);
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
