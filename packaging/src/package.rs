//! Puts the package together: programs, unit, policy, documentation, man pages, completion, and what dpkg has to know.
//!
//! The same programs, sources and time give the same bytes. Nothing is written but the output folder; what is being made lies in a
//! folder there that goes when it is done, whatever the end.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use jiff::Timestamp;

use crate::control::{self, Fields};
use crate::error::{During, Error, Result};
use crate::help::{self, Page};
use crate::programs::{PROGRAMS, Program, is_there, run};
use crate::roff::Head;
use crate::staging::{FILE_MODE, PROGRAM_MODE, Staging};
use crate::{completion, manual, markdown};

/// The revision of the package, raised when only the packaging changes.
const REVISION: u32 = 1;
const DOC: &str = "usr/share/doc/kumod";
/// Example policies, and the one that the service starts with.
const POLICIES: [&str; 2] = ["relay.lua", "sink.lua"];
const FIRST_POLICY: &str = "relay.lua";
/// What the page of the policy is called in `apropos`.
const POLICY_ABOUT: &str = "policies of kumod, in Lua";
const POLICY_PAGE: &str = "kumod.lua";
const POLICY_SECTION: u8 = 5;

/// What to make, and of what.
#[derive(Clone, Debug)]
pub struct Order {
    /// The folder with the programs.
    pub binaries: PathBuf,
    /// The checkout.
    pub source: PathBuf,
    /// Where the package goes; made when it is not there.
    pub out: PathBuf,
    /// Seconds since 1970 that all files carry.
    pub epoch: i64,
    /// Who answers for the package.
    pub maintainer: String,
    /// As `dpkg-deb -Z` takes it.
    pub compression: String,
    /// Leave symbols in the programs.
    pub keep_symbols: bool,
}

/// Makes the package and says where it is.
///
/// # Errors
/// A program or source is missing, programs differ in their version, or a tool fails.
pub fn build(order: &Order) -> Result<PathBuf> {
    fs::create_dir_all(&order.out).during(|| format!("make {}", order.out.display()))?;
    let work = Work::new(&order.out)?;
    let version = version(order)?;
    let date = day(order.epoch)?;
    let staging = Staging::new(work.path().join("tree"))?;
    let programs = install_programs(order, &staging)?;
    install_pages(order, &staging, &version, &date)?;
    install_service(order, &staging)?;
    install_documents(order, &staging, &version)?;
    let description = read(&order.source.join("packaging/debian/description"))?;
    let fields = Fields {
        version: format!("{version}-{REVISION}"),
        architecture: control::architecture()?,
        maintainer: order.maintainer.clone(),
        libraries: control::libraries(&programs, work.path())?,
        description,
    };
    control::write(&staging, &fields, &order.source.join("packaging/debian"))?;
    pack(order, &staging, &fields)
}

/// Writes the man pages alone into a folder.
///
/// # Errors
/// As [`build`].
pub fn write_manuals(order: &Order) -> Result<()> {
    let staging = Staging::new(order.out.clone())?;
    let (version, date) = (version(order)?, day(order.epoch)?);
    for (path, text) in manuals(order, &version, &date)? {
        staging.write(&path, text.as_bytes(), FILE_MODE)?;
    }
    Ok(())
}

/// A folder that goes when this is dropped.
struct Work(PathBuf);

impl Work {
    fn new(out: &Path) -> Result<Self> {
        let path = out.join(format!(".kumod-package-{}", std::process::id()));
        fs::create_dir(&path).during(|| format!("make {}", path.display()))?;
        // dpkg-shlibdeps runs with a folder of its own, and wants the others by their whole names.
        Ok(Self(path.canonicalize().during(|| format!("find {}", path.display()))?))
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("package: {} stays: {error}", self.0.display());
        }
    }
}

/// The version that all programs say they have.
fn version(order: &Order) -> Result<String> {
    let versions: Result<Vec<String>> =
        PROGRAMS.iter().map(|program| help::version(&program.in_folder(&order.binaries)?)).collect();
    let versions = versions?;
    match versions.iter().find(|version| **version != versions[0]) {
        None => Ok(versions[0].clone()),
        Some(other) => Err(Error::Operator(format!(
            "{}: the programs are of versions {} and {other}; build all of them",
            order.binaries.display(),
            versions[0]
        ))),
    }
}

fn moment(epoch: i64) -> Result<Timestamp> {
    Timestamp::from_second(epoch).map_err(|error| {
        Error::Operator(format!("SOURCE_DATE_EPOCH={epoch}: {error}; give seconds since 1970"))
    })
}

fn day(epoch: i64) -> Result<String> {
    Ok(moment(epoch)?.strftime("%Y-%m-%d").to_string())
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).during(|| format!("read {}", path.display()))
}

fn install_programs(order: &Order, staging: &Staging) -> Result<Vec<PathBuf>> {
    let mut programs = Vec::new();
    for program in PROGRAMS {
        let from = program.in_folder(&order.binaries)?;
        programs.push(staging.copy(&from, &format!("usr/bin/{}", program.name), PROGRAM_MODE)?);
    }
    if !order.keep_symbols && is_there("strip") {
        let options = ["--strip-unneeded", "--remove-section=.comment", "--remove-section=.note", "--"];
        run(Command::new("strip").args(options).args(&programs))?;
    } else if !order.keep_symbols {
        eprintln!("package: strip (binutils) is not installed; symbols stay");
    }
    Ok(programs)
}

/// Paths and texts of all man pages.
fn manuals(order: &Order, version: &str, date: &str) -> Result<Vec<(String, String)>> {
    let mut pages = Vec::new();
    for (program, page) in helps(order)? {
        let Program { name, section, .. } = program;
        let text = manual::of(&program, &page, Head { name, section, date, version });
        pages.push((format!("man{section}/{name}.{section}"), text));
    }
    let policy = read(&order.source.join("docs/policy.md"))?;
    let head = Head { name: POLICY_PAGE, section: POLICY_SECTION, date, version };
    let text = markdown::manual(&policy, POLICY_ABOUT, head);
    pages.push((format!("man{POLICY_SECTION}/{POLICY_PAGE}.{POLICY_SECTION}"), text));
    Ok(pages)
}

fn helps(order: &Order) -> Result<Vec<(Program, Page)>> {
    let ask = |program: Program| {
        let path = program.in_folder(&order.binaries)?;
        Ok((program, help::ask(&path, program.name)?))
    };
    PROGRAMS.into_iter().map(ask).collect()
}

fn install_pages(order: &Order, staging: &Staging, version: &str, date: &str) -> Result<()> {
    for (path, text) in manuals(order, version, date)? {
        staging.write_packed(&format!("usr/share/man/{path}"), text.as_bytes())?;
    }
    for (program, page) in helps(order)? {
        let path = format!("usr/share/bash-completion/completions/{}", program.name);
        staging.write(&path, completion::of(&page).as_bytes(), FILE_MODE)?;
    }
    Ok(())
}

fn install_service(order: &Order, staging: &Staging) -> Result<()> {
    let source = &order.source;
    let files = [
        ("packaging/systemd/kumod.service", "usr/lib/systemd/system/kumod.service"),
        ("packaging/systemd/kumo-proxy.service", "usr/lib/systemd/system/kumo-proxy.service"),
        ("packaging/debian/kumo-proxy.default", "etc/default/kumo-proxy"),
        ("packaging/debian/kumod.sysusers", "usr/lib/sysusers.d/kumod.conf"),
        ("packaging/debian/kumod.tmpfiles", "usr/lib/tmpfiles.d/kumod.conf"),
    ];
    for (from, to) in files {
        staging.copy(&source.join(from), to, FILE_MODE)?;
    }
    let policies = source.join("kumod/policies");
    staging.copy(&policies.join(FIRST_POLICY), "etc/kumod/init.lua", FILE_MODE)?;
    for policy in POLICIES {
        staging.copy(&policies.join(policy), &format!("{DOC}/examples/{policy}"), FILE_MODE)?;
    }
    Ok(())
}

fn install_documents(order: &Order, staging: &Staging, version: &str) -> Result<()> {
    let Order { source, epoch, maintainer, .. } = order;
    let docs = source.join("docs");
    let entries = fs::read_dir(&docs).during(|| format!("read {}", docs.display()))?;
    let mut paths = vec![source.join("README.md")];
    for entry in entries {
        let path = entry.during(|| format!("read {}", docs.display()))?.path();
        if path.extension().is_some_and(|extension| extension == "md") {
            paths.push(path);
        }
    }
    paths.sort();
    for path in paths {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        staging.copy(&path, &format!("{DOC}/{name}"), FILE_MODE)?;
    }
    staging.copy(&source.join("packaging/debian/copyright"), &format!("{DOC}/copyright"), FILE_MODE)?;
    staging.write_packed(&format!("{DOC}/changelog"), read(&source.join("CHANGELOG.md"))?.as_bytes())?;
    let date = moment(*epoch)?.strftime("%a, %d %b %Y %H:%M:%S +0000");
    let changes = format!(
        "kumod ({version}-{REVISION}) unstable; urgency=medium\n\n  * See changelog.gz.\n\n -- {maintainer}  {date}\n"
    );
    staging.write_packed(&format!("{DOC}/changelog.Debian"), changes.as_bytes())
}

fn pack(order: &Order, staging: &Staging, fields: &Fields) -> Result<PathBuf> {
    let name = format!("kumod_{}_{}.deb", fields.version, fields.architecture);
    let package = order.out.join(name);
    let mut command = Command::new("dpkg-deb");
    command.arg("--root-owner-group").arg(format!("-Z{}", order.compression)).arg("--build");
    command.arg(staging.root()).arg(&package);
    run(command.env("SOURCE_DATE_EPOCH", order.epoch.to_string()))?;
    Ok(package)
}
