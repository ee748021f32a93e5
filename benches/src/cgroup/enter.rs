//! The last step before a program: join the groups, keep to the processors, and become it.
//!
//! It owns a hidden subcommand of the laboratory, because a process can only be put into a group before it does anything if
//! it goes there itself, and code between fork and exec would be unsafe. Nothing of the program runs outside of its limits,
//! and every page that it touches is charged to its group. Where a group or a set of processors refuses the process, the program
//! is not started.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::cores::Cores;
use crate::arguments;
use crate::error::{During, Error, Result};

/// Where a program goes before it starts; also the arguments of the subcommand.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
pub struct Seat {
    /// Folder of a control group to join; may be given several times.
    #[arg(long = "group", value_name = "FOLDER")]
    pub groups: Vec<PathBuf>,
    /// Processors to keep to.
    #[arg(long, value_name = "LIST")]
    pub cores: Option<Cores>,
    /// The program to become, and its arguments.
    #[arg(last = true, required = true)]
    pub command: Vec<OsString>,
}

impl Seat {
    /// A place in these groups, on these processors.
    pub fn at(groups: &[PathBuf], cores: Option<&Cores>) -> Self {
        Self { groups: groups.to_vec(), cores: cores.cloned(), command: Vec::new() }
    }

    /// What stands in front of a command line to start it there; `lab` is the laboratory's executable.
    pub fn before(&self, lab: &Path) -> Vec<OsString> {
        let mut words = arguments![lab, "enter"];
        words.extend(self.groups.iter().flat_map(|group| arguments!["--group", group]));
        words.extend(self.cores.iter().flat_map(|cores| arguments!["--cores", cores.to_string()]));
        words.push("--".into());
        words
    }

    /// Goes there and becomes the program.
    ///
    /// # Errors
    /// [`Error::Host`] when the kernel refuses one of the steps. There is no other way to return.
    pub fn enter(&self) -> Result<std::convert::Infallible> {
        for group in &self.groups {
            let path = group.join("cgroup.procs");
            let own = std::process::id().to_string();
            std::fs::write(&path, own).during(|| format!("join the group with {}", path.display()))?;
        }
        if let Some(cores) = &self.cores {
            cores.pin()?;
        }
        let (Some(program), arguments) = (self.command.first(), self.command.get(1..).unwrap_or_default())
        else {
            return Err(Error::Operator("a program to start is expected behind --".into()));
        };
        let error = Command::new(program).args(arguments).exec();
        Err(error).during(|| format!("start {}", Path::new(program).display()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        seat: Seat,
    }

    #[test]
    fn what_stands_in_front_is_understood_behind() {
        let groups = ["/sys/fs/cgroup/cpu/a".into(), "/sys/fs/cgroup/memory/a".into()];
        let cores = "0,2-3".parse().unwrap();
        let seat = Seat::at(&groups, Some(&cores));
        let mut line = seat.before(Path::new("/bin/lab"));
        line.extend(arguments!["/bin/kumod", "--spool", "x", "--", "-y"]);
        assert_eq!(line[1], "enter");
        let command = arguments!["/bin/kumod", "--spool", "x", "--", "-y"];
        assert_eq!(Line::try_parse_from(&line[1..]).unwrap().seat, Seat { command, ..seat });
    }
}
