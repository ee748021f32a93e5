//! What dpkg reads of a package: its fields, sums, and the names of the files that belong to the operator.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::{During, Error, Result};
use crate::programs::{is_there, run};
use crate::staging::{FILE_MODE, PROGRAM_MODE, Staging};

/// What the scripts call, on hosts with systemd and without.
const SCRIPTS_NEED: [&str; 2] = [
    "systemd | systemd-standalone-sysusers | systemd-sysusers",
    "systemd | systemd-standalone-tmpfiles | systemd-tmpfiles",
];
/// What the programs link to, where nobody can say it more exactly.
const LIBRARIES: &str = "libc6, libgcc-s1";
/// Scripts that dpkg runs.
const SCRIPTS: [&str; 3] = ["postinst", "prerm", "postrm"];
/// dpkg counts in these.
const KIB: u64 = 1024;

/// The fields that differ from build to build.
#[derive(Clone, Debug)]
pub struct Fields {
    /// With the revision: `0.1.0-1`.
    pub version: String,
    /// As dpkg names it: `amd64`.
    pub architecture: String,
    /// Who answers for the package, as `Name <address>`.
    pub maintainer: String,
    /// Libraries that the programs link to.
    pub libraries: String,
    /// The first line is the synopsis.
    pub description: String,
}

impl Fields {
    /// The text of `DEBIAN/control`.
    pub fn text(&self, installed_bytes: u64) -> String {
        let Self { version, architecture, maintainer, libraries, description } = self;
        let depends = [&[libraries.as_str()], SCRIPTS_NEED.as_slice()].concat().join(", ");
        let size = installed_bytes.div_ceil(KIB);
        let mut text = format!(
            "Package: kumod\nVersion: {version}\nArchitecture: {architecture}\nMaintainer: {maintainer}\n\
             Installed-Size: {size}\nDepends: {depends}\nRecommends: ca-certificates\nSection: mail\nPriority: optional\n"
        );
        let mut lines = description.lines();
        let _ = writeln!(text, "Description: {}", lines.next().unwrap_or_default());
        lines.for_each(|line| text.push_str(&format!(" {}\n", line.trim())));
        text
    }
}

/// The architecture that this host's dpkg builds for.
///
/// # Errors
/// There is no dpkg.
pub fn architecture() -> Result<String> {
    let output = run(Command::new("dpkg").arg("--print-architecture"))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The libraries that these programs link to, with the versions they need, as `dpkg-shlibdeps` finds them; without it, the names
/// alone, and a word about that on standard error.
///
/// # Errors
/// It is there and fails.
pub fn libraries(programs: &[PathBuf], work: &Path) -> Result<String> {
    if !is_there("dpkg-shlibdeps") {
        eprintln!("package: dpkg-shlibdeps (dpkg-dev) is not installed; versions of libraries are left out");
        return Ok(LIBRARIES.to_owned());
    }
    let source = work.join("source");
    let stanza = "Source: kumod\n\nPackage: kumod\nArchitecture: any\n";
    fs::create_dir_all(source.join("debian")).during(|| format!("make {}", source.display()))?;
    fs::write(source.join("debian/control"), stanza)
        .during(|| format!("write below {}", source.display()))?;
    let mut command = Command::new("dpkg-shlibdeps");
    let output = run(command.arg("-O").args(programs).current_dir(&source))?;
    let said = String::from_utf8_lossy(&output.stdout);
    let found = said.lines().find_map(|line| line.strip_prefix("shlibs:Depends="));
    found.map(str::to_owned).ok_or_else(|| Error::Operator(format!("dpkg-shlibdeps says {said:?}")))
}

/// Writes the folder `DEBIAN` of a tree that is complete otherwise.
///
/// # Errors
/// The host refuses, or md5sum fails.
pub fn write(staging: &Staging, fields: &Fields, scripts: &Path) -> Result<()> {
    let files = staging.files()?;
    let mut bytes = 0;
    for file in &files {
        let path = staging.root().join(file);
        bytes += fs::metadata(&path).during(|| format!("look at {}", path.display()))?.len();
    }
    // dpkg keeps what the operator made of these; their sums are its own affair.
    let (conffiles, others): (Vec<_>, Vec<_>) = files.iter().partition(|file| file.starts_with("etc"));
    let sums = run(Command::new("md5sum").arg("--").args(others).current_dir(staging.root()))?;
    staging.write("DEBIAN/control", fields.text(bytes).as_bytes(), FILE_MODE)?;
    staging.write("DEBIAN/md5sums", &sums.stdout, FILE_MODE)?;
    let conffiles: String = conffiles.iter().map(|file| format!("/{}\n", file.display())).collect();
    staging.write("DEBIAN/conffiles", conffiles.as_bytes(), FILE_MODE)?;
    for script in SCRIPTS {
        staging.copy(&scripts.join(script), &format!("DEBIAN/{script}"), PROGRAM_MODE)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_written_as_dpkg_reads_them() {
        let fields = Fields {
            version: "0.1.0-1".into(),
            architecture: "amd64".into(),
            maintainer: "A <a@b.example>".into(),
            libraries: "libc6 (>= 2.34)".into(),
            description: "relays mail\nand more\n.\n of it\n".into(),
        };
        let text = fields.text(1025);
        assert!(text.contains("\nInstalled-Size: 2\n"), "{text}");
        assert!(text.contains("\nDepends: libc6 (>= 2.34), systemd | systemd-standalone-sysusers"), "{text}");
        assert!(text.ends_with("\nDescription: relays mail\n and more\n .\n of it\n"), "{text}");
    }
}
