//! strace as a hand that breaks the system calls of kumod.
//!
//! It stays out of the way: the process that was started becomes kumod, and the tracer is a process of its own that ends with it. strace
//! counts the calls of each thread by themselves, so "the third write" is the third of every thread that writes. A call that is made to
//! fail is not carried out.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::eventually;

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    InputOutputError,
    NoSpace,
    Kill,
}

/// Which of the calls it hits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    Once(u32),
    /// That one and all that follow.
    From(u32),
}

/// Why there is no strace to be had; `None` where there is.
pub(crate) fn refusal(folder: &Path) -> Option<String> {
    let trace = folder.join("probe.strace");
    let program = "strace";
    let tried = Command::new(program)
        .args(["-D", "-f", "--seccomp-bpf", "-e", "trace=execve", "-e", "inject=fsync:error=EIO", "-o"])
        .arg(&trace)
        .arg("true")
        .stdin(Stdio::null())
        .output();
    match tried {
        Err(error) => return Some(format!("{program}: {error}")),
        Ok(output) if !output.status.success() => {
            return Some(format!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim()));
        }
        Ok(_) => {}
    }
    // Where tracing is refused the program runs all the same, and nothing is written.
    let written = fs::read_to_string(&trace).unwrap_or_default();
    (!written.contains("execve")).then(|| format!("{program} may not trace here"))
}

/// One fault, and where it shows whether it happened.
pub(crate) struct Injection {
    /// Name of the call, or several with commas between, each of which is counted by itself; `?` before one that not every host has.
    pub(crate) call: &'static str,
    pub(crate) fault: Fault,
    pub(crate) when: When,
    /// Before it, each thread's first fallocate finds no space.
    pub(crate) first_fallocate_fails: bool,
    /// The files that it must be about.
    pub(crate) paths: Vec<PathBuf>,
    /// Where strace writes.
    pub(crate) trace: PathBuf,
}

impl Injection {
    /// The command line before kumod's own.
    pub(crate) fn command(&self) -> Vec<String> {
        let mut command: Vec<String> = ["strace", "-D", "-f", "-y"].map(Into::into).into();
        if self.fault != Fault::Kill {
            // Spares all other calls the tracer, and with them the signal that is to be injected.
            command.push("--seccomp-bpf".into());
        }
        // Into a file it would write when its buffer is full, into a pipe it writes line by line.
        command.extend(["-o".into(), format!("|exec cat >'{}'", self.trace.display())]);
        command.extend(["-e".into(), format!("trace={},fallocate", self.call)]);
        let what = match self.fault {
            Fault::InputOutputError => "error=EIO",
            Fault::NoSpace => "error=ENOSPC",
            Fault::Kill => "signal=KILL",
        };
        let when = match self.when {
            When::Once(at) => at.to_string(),
            When::From(at) => format!("{at}+"),
        };
        command.extend(["-e".into(), format!("inject={}:{what}:when={when}", self.call)]);
        if self.first_fallocate_fails {
            command.extend(["-e".into(), "inject=fallocate:error=ENOSPC:when=1".into()]);
        }
        for path in &self.paths {
            command.extend(["-P".into(), path.display().to_string()]);
        }
        command
    }

    /// Waits until the trace shows that it happened.
    pub(crate) fn assert_happened(&self) {
        eventually(&format!("{:?} of {}, {:?}", self.fault, self.call, self.when), || {
            let trace = fs::read_to_string(&self.trace).unwrap_or_default();
            trace.lines().any(|line| self.shows(line)).then_some(())
        });
    }

    fn shows(&self, line: &str) -> bool {
        if self.fault == Fault::Kill {
            return line.contains("killed by SIGKILL");
        }
        let is_about = |call: &str| {
            let call = call.trim_start_matches('?');
            line.contains(&format!("{call}(")) || line.contains(&format!("<... {call} resumed>"))
        };
        line.contains("(INJECTED)") && self.call.split(',').any(is_about)
    }
}
