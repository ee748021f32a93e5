//! A version of kumod: a commit that is built, or a program that is there.
//!
//! It owns how the operator's word becomes a program. A path of a program, or of a folder with `kumod` in it, is taken as it is; all
//! else must be a commit, which is checked out beside the checkout's build files and built in release mode. Only kumod is built:
//! generator and sink are the laboratory's own for both sides. A build that is there is used again. It refuses a word that is
//! neither, and a commit that does not build, with the compiler's last lines.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use reports::software::Software;

use crate::error::{During, Error, Result};
use crate::processes::Programs;
use crate::stop::Stop;

/// Lines of a failed build that are shown.
const BUILD_LINES_MAX: usize = 20;

/// A kumod to measure.
#[derive(Debug, Clone)]
pub struct Version {
    /// What the operator called it.
    pub name: String,
    /// The program.
    pub kumod: PathBuf,
    /// The full hash, where it was built from a commit.
    pub commit: Option<String>,
}

impl Version {
    /// Finds or builds what `word` names; `checkout` is the repository that commits are looked up in.
    ///
    /// # Errors
    /// [`Error::Operator`] when it names nothing or does not build, [`Error::Host`] when git or cargo cannot be run.
    pub fn find(word: &str, checkout: &Path, stop: &Stop) -> Result<Self> {
        if let Some(kumod) = program(Path::new(word)) {
            let kumod = kumod.canonicalize().during(|| format!("find {word}"))?;
            return Ok(Self { name: word.into(), kumod, commit: None });
        }
        let commit = commit(word, checkout)?;
        let target = checkout.join(std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into()));
        let kumod = target.join("compare").join(&commit).join("kumod");
        if !kumod.is_file() {
            eprintln!("building kumod of {word} ({})", &commit[..12.min(commit.len())]);
            build(&commit, checkout, &target, &kumod)?;
            stop.check()?;
        }
        Ok(Self { name: word.into(), kumod, commit: Some(commit) })
    }

    /// Says in a record which commit ran; of a program that was given it is unknown.
    pub fn describe(&self, software: &mut Software) {
        software.git_dirty = self.commit.as_ref().map(|_| false);
        software.git_commit.clone_from(&self.commit);
    }
}

/// Generator and sink by version and contents: runs with other ones are measured with another clock.
///
/// # Errors
/// [`Error::Operator`] when one is not built, [`Error::Host`] when it cannot be read.
pub fn load_pair(programs: &Programs) -> Result<String> {
    let sum = |name: &str| {
        let path = programs.find(name)?;
        let program = std::fs::read(&path).during(|| format!("read {}", path.display()))?;
        Ok(format!("{name} {:08x}", crc32c::crc32c(&program)))
    };
    Ok(format!("{}, {}", sum("traffic-gen")?, sum("sink")?))
}

fn program(path: &Path) -> Option<PathBuf> {
    [path.to_owned(), path.join("kumod")].into_iter().find(|path| path.is_file())
}

fn commit(word: &str, checkout: &Path) -> Result<String> {
    let output = git(checkout)
        .args(["rev-parse", "--verify", "--quiet", "--end-of-options"])
        .arg(format!("{word}^{{commit}}"))
        .output()
        .during(|| "run git".into())?;
    let hash = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if output.status.success() && !hash.is_empty() {
        return Ok(hash);
    }
    Err(Error::Operator(format!(
        "{word} is neither a commit of {} nor a kumod or a folder with one; give for example HEAD~1, a tag, or target/release",
        checkout.display()
    )))
}

/// Builds in a work tree of its own, so that nothing of the operator's checkout is touched; the program is moved into its place
/// whole, so that an interrupted build leaves none.
fn build(commit: &str, checkout: &Path, target: &Path, kumod: &Path) -> Result<()> {
    let folder = kumod.parent().unwrap_or(target);
    std::fs::create_dir_all(folder).during(|| format!("make {}", folder.display()))?;
    let source = folder.join("source");
    if source.exists() {
        remove(&source, checkout);
    }
    let mut add = git(checkout);
    add.args(["worktree", "add", "--force", "--detach"]).arg(&source).arg(commit);
    succeed(add, "check out the commit")?;
    let built = build_in(&source, &target.join("compare").join("build"));
    remove(&source, checkout);
    let built = built?;
    let beside = kumod.with_extension("part");
    std::fs::copy(&built, &beside).during(|| format!("copy {}", built.display()))?;
    std::fs::rename(&beside, kumod).during(|| format!("write {}", kumod.display()))
}

fn build_in(source: &Path, target: &Path) -> Result<PathBuf> {
    let mut cargo = Command::new("cargo");
    cargo.args(["build", "--release", "--locked", "-p", "kumod"]).current_dir(source);
    cargo.env("CARGO_TARGET_DIR", target);
    succeed(cargo, "build it")?;
    Ok(target.join("release").join("kumod"))
}

/// A work tree that stays costs disk space, nothing else.
fn remove(source: &Path, checkout: &Path) {
    let mut remove = git(checkout);
    remove.args(["worktree", "remove", "--force"]).arg(source);
    if let Err(error) = succeed(remove, "remove its work tree") {
        eprintln!("lab: {error}");
    }
}

fn git(checkout: &Path) -> Command {
    let mut command = Command::new("git");
    // The variables that git sets for its hooks would point it at another repository.
    command.env_remove("GIT_DIR").env_remove("GIT_WORK_TREE").env_remove("GIT_INDEX_FILE");
    command.arg("-C").arg(checkout);
    command
}

fn succeed(mut command: Command, what: &str) -> Result<()> {
    let output = command.stdin(Stdio::null()).output().during(|| format!("{what}: run {command:?}"))?;
    if output.status.success() {
        return Ok(());
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = errors.lines().collect();
    let last = lines[lines.len().saturating_sub(BUILD_LINES_MAX)..].join("\n");
    Err(Error::Operator(format!("could not {what} ({}):\n{last}", output.status)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    fn repository() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for arguments in [
            &["init", "--quiet"][..],
            &[
                "-c",
                "user.name=a",
                "-c",
                "user.email=a@example.com",
                "commit",
                "--quiet",
                "--allow-empty",
                "-m",
                "x",
            ],
        ] {
            assert!(git(folder.path()).args(arguments).status().unwrap().success());
        }
        folder
    }

    #[test]
    fn a_program_or_its_folder_is_taken_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("kumod"), "program").unwrap();
        for word in [folder.path().to_owned(), folder.path().join("kumod")] {
            let found = Version::find(word.to_str().unwrap(), Path::new("/"), &Stop::default()).unwrap();
            assert!(found.kumod.ends_with("kumod"));
            let mut software = Software { git_commit: Some("of the checkout".into()), ..Software::default() };
            found.describe(&mut software);
            assert_eq!(software.git_commit, None, "nobody knows what a program was built from");
        }
    }

    #[test]
    fn a_word_that_is_nothing_names_what_would_be() {
        let repository = repository();
        assert_eq!(commit("HEAD", repository.path()).unwrap().len(), 40);
        for word in ["no-such-branch", "--upload-pack=x", ""] {
            let error = Version::find(word, repository.path(), &Stop::default()).unwrap_err();
            assert!(error.to_string().contains("neither a commit"), "{word}: {error}");
        }
    }

    #[test]
    fn a_commit_that_does_not_build_shows_why_and_leaves_no_program() {
        let repository = repository();
        let target = tempfile::tempdir().unwrap();
        let hash = commit("HEAD", repository.path()).unwrap();
        let kumod = target.path().join("compare").join(&hash).join("kumod");
        let error = build(&hash, repository.path(), target.path(), &kumod).unwrap_err().to_string();
        assert!(error.contains("build it") && error.contains("Cargo.toml"), "{error}");
        assert!(!kumod.exists() && !kumod.with_file_name("source").exists());
    }
}
