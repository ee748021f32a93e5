//! Instructions of an operation, counted by the processor through perf(1).
//!
//! It owns the command that counts and the reading of its answer. The operation runs in a process of its own, once so often and once
//! twice as often; the difference is what the operations took, because start and preparation are in both. Where the host cannot
//! count, the answer is the reason.

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::error::{During, Error, Result};
use crate::scratch::Scratch;

/// Only what runs outside of the kernel: what the kernel does for us depends on the rest of the machine.
const EVENT: &str = "instructions:u";

/// Something that counts instructions, found to work.
#[derive(Debug)]
pub struct Counter {
    /// The command, and whatever has to stand before its first argument.
    perf: Vec<OsString>,
    folder: Scratch,
}

/// Why instructions are unknown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unknown(pub String);

impl Counter {
    /// Counts the instructions of a program that does nothing, to see whether it can be done. `place` is where perf writes to.
    ///
    /// # Errors
    /// The place cannot be written to. That nothing can be counted is no error.
    pub fn find(place: &Path) -> Result<std::result::Result<Self, Unknown>> {
        Self::with(vec!["perf".into()], place)
    }

    fn with(perf: Vec<OsString>, place: &Path) -> Result<std::result::Result<Self, Unknown>> {
        let folder = Scratch::make(place, "instructions", 0, "--dir")?;
        let counter = Self { perf, folder };
        let counted = counter.count(&[OsString::from("true")])?;
        Ok(counted.map(|_| counter))
    }

    /// Instructions of one operation: `command` gives the command that does so many and ends.
    ///
    /// # Errors
    /// [`crate::error::Error::Host`] when the answer cannot be read.
    pub fn each(
        &self,
        operations: u64,
        command: impl Fn(u64) -> Vec<OsString>,
    ) -> Result<std::result::Result<f64, Unknown>> {
        let (once, twice) = (self.count(&command(operations))?, self.count(&command(2 * operations))?);
        Ok(once
            .and_then(|once| twice.map(|twice| twice.saturating_sub(once) as f64 / operations.max(1) as f64)))
    }

    /// Instructions of a whole command.
    fn count(&self, command: &[OsString]) -> Result<std::result::Result<u64, Unknown>> {
        let answer = self.folder.path().join("perf.csv");
        let (program, before) =
            self.perf.split_first().ok_or_else(|| Error::Operator("no perf was named".into()))?;
        let mut perf = Command::new(program);
        perf.args(before).args(["stat", "-x,", "-e", EVENT, "-o"]).arg(&answer).arg("--").args(command);
        // The language of numbers is that of C.
        let output = perf.env("LC_ALL", "C").stdin(Stdio::null()).stdout(Stdio::null()).output();
        let unknown = |reason: &str| Ok(Err(Unknown(reason.to_owned())));
        let output = match output {
            Ok(output) => output,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return unknown("perf is not installed");
            }
            Err(error) => return Err(error).during(|| format!("run {}", program.display())),
        };
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            let line = said.lines().find(|line| !line.trim().is_empty()).unwrap_or("it said nothing");
            let program = command.first().map(OsString::as_os_str).map(OsStr::to_string_lossy);
            let program = program.unwrap_or_default();
            return unknown(&format!("perf stat {program} failed: {}", line.trim()));
        }
        let text = std::fs::read_to_string(&answer).during(|| format!("read {}", answer.display()))?;
        Ok(counted(&text).map_err(|reason| Unknown(reason.to_owned())))
    }
}

/// The count in what `perf stat -x,` writes: a line for each event, the count before the unit and the event's name.
fn counted(text: &str) -> std::result::Result<u64, &'static str> {
    let line = text.lines().find(|line| line.contains(EVENT)).ok_or("perf stat did not answer")?;
    match line.split(',').next().unwrap_or_default() {
        "<not supported>" => Err("this host has no instruction counter"),
        "<not counted>" => Err("the instruction counter was busy"),
        count => count.parse().map_err(|_| "perf stat answered with something else than a number"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use std::path::PathBuf;

    use super::*;

    /// Stands for perf: counts a thousand instructions for the start and seven for each operation, which is the last argument.
    const FAKE_PERF: &str = r##"
while [ "$1" != -o ]; do shift; done
answer=$2
for last; do :; done
[ "$last" = true ] && last=0
[ "$last" = fails ] && { echo 'cannot attach' >&2; exit 255; }
echo started >"$answer"
echo "$((1000 + 7 * last)),,instructions:u,1000000,100.00,,insn per cycle," >>"$answer"
"##;

    fn place() -> PathBuf {
        std::env::current_exe().unwrap().parent().unwrap().to_owned()
    }

    #[test]
    fn what_both_runs_have_in_common_is_not_the_operations() {
        let folder = tempfile::tempdir_in(place()).unwrap();
        let perf = folder.path().join("perf");
        std::fs::write(&perf, FAKE_PERF).unwrap();
        let counter = Counter::with(vec!["sh".into(), perf.into()], folder.path()).unwrap().unwrap();
        let command = |operations: u64| vec![OsString::from("bench"), OsString::from(operations.to_string())];
        assert_eq!(counter.each(50, command).unwrap(), Ok(7.0));
        let Unknown(reason) = counter.each(1, |_| vec!["fails".into()]).unwrap().unwrap_err();
        assert_eq!(reason, "perf stat fails failed: cannot attach");
    }

    #[test]
    fn without_perf_the_answer_is_the_reason() {
        let folder = tempfile::tempdir_in(place()).unwrap();
        let Unknown(reason) = Counter::with(vec!["no-such-perf".into()], folder.path()).unwrap().unwrap_err();
        assert_eq!(reason, "perf is not installed");
    }

    #[test]
    fn the_answers_of_perf_are_told_apart() {
        let heading = "# started on Sat Jan  1 00:00:00 2000\n\n";
        let of = |line: &str| counted(&format!("{heading}{line}\n"));
        assert_eq!(of("123456,,instructions:u,1000000,100.00,,"), Ok(123_456));
        assert_eq!(
            of("<not supported>,,instructions:u,0,100.00,,"),
            Err("this host has no instruction counter")
        );
        assert_eq!(of("<not counted>,,instructions:u,0,0.00,,"), Err("the instruction counter was busy"));
        assert!(of("1.5,,instructions:u,0,0.00,,").is_err() && of("").is_err());
    }
}
