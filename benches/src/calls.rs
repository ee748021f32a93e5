//! Calls of a running process, counted from outside: into the kernel by perf or strace, for memory by perf.
//!
//! It owns the choice between the two, their start and end, and the reading of what they write. perf counts at a trace point and
//! hardly disturbs; strace stops the process at each call, so that a server under it gathers other batches than at speed, which
//! every number taken so says. Where neither works the reasons are told and nothing is counted. Allocations are counted by perf at the
//! entries of the C library's functions, which stop the process for a microsecond each. A counter that is dropped ends its program
//! and takes its entries back; those of a laboratory that was killed stay in the kernel until the next one removes them.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use reports::run::{Run, counter};
use rustix::process::{Pid, Signal};

/// The C library's functions that hand out memory (malloc(3), posix_memalign(3)).
const ALLOCATING: [&str; 5] = ["malloc", "calloc", "realloc", "posix_memalign", "aligned_alloc"];
/// The group of our entries in the kernel's list.
const ENTRIES: &str = "kumod_lab";
/// The trace point that every system call passes.
const TRACE_POINT: &str = "raw_syscalls:sys_enter";
/// Lines that a program may say before it has to have begun.
const LINES_MAX: usize = 4096;
/// Bytes of an answer that are read.
const ANSWER_BYTES_MAX: u64 = 1 << 20;

/// What counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// `perf stat` at a trace point.
    Perf,
    /// `strace -c`.
    Strace,
}

impl Method {
    /// perf where it works, else strace.
    ///
    /// # Errors
    /// Why neither does.
    pub fn find() -> Result<Self, String> {
        let no_perf =
            match answer(Command::new("perf").args(["stat", "-x,", "-e", TRACE_POINT, "--", "true"])) {
                Ok(text) => match perf_count(&text, TRACE_POINT) {
                    Ok(_) => return Ok(Self::Perf),
                    Err(reason) => reason,
                },
                Err(reason) => reason,
            };
        match answer(Command::new("strace").arg("--version")) {
            Ok(_) => Ok(Self::Strace),
            Err(no_strace) => Err(format!("perf: {no_perf}; strace: {no_strace}")),
        }
    }

    /// What a number that was taken so is worth, as a sentence's end.
    fn remark(self) -> &'static str {
        match self {
            Self::Perf => "perf, which hardly disturbs",
            Self::Strace => "strace, which slows kumod so much that it gathers other batches than at speed",
        }
    }
}

/// Standard error of a program that succeeded, or why it did not.
fn answer(command: &mut Command) -> Result<String, String> {
    let output = command.stdin(Stdio::null()).output().map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() { Ok(text) } else { Err(first_line(&text)) }
}

fn first_line(text: &str) -> String {
    text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("no reason given").to_owned()
}

/// A count under way.
#[derive(Debug)]
pub struct Counting {
    method: Method,
    program: Child,
    answer: PathBuf,
    /// Where the kernel was told to look, for as long as this counts.
    entries: Option<Entries>,
}

/// Our entries in the kernel's list of places to count at; taken back when dropped.
#[derive(Debug)]
struct Entries;

impl Entries {
    /// Entries at the functions that hand out memory in the C library of `process`.
    fn add(process: u32) -> Result<Self, String> {
        let library = c_library(process)?;
        // What a killed laboratory left; mostly nothing, which is an error of perf's.
        drop(Self);
        let mut command = Command::new("perf");
        command.args(["probe", "-q", "-x"]).arg(library);
        for function in ALLOCATING {
            command.arg("--add").arg(format!("{ENTRIES}:{function}={function}"));
        }
        answer(&mut command).map(|_| Self)
    }
}

impl Drop for Entries {
    fn drop(&mut self) {
        let _ = answer(Command::new("perf").args(["probe", "-q", "--del", &format!("{ENTRIES}:*")]));
    }
}

/// The file of the C library that a process has in its memory.
fn c_library(process: u32) -> Result<PathBuf, String> {
    let maps = format!("/proc/{process}/maps");
    let text = std::fs::read_to_string(&maps).map_err(|error| format!("{maps}: {error}"))?;
    let paths = text.lines().filter_map(|line| Some(Path::new(&line[line.find('/')?..])));
    let library = paths.into_iter().find(|path| {
        path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with("libc."))
    });
    library.map(Path::to_owned).ok_or_else(|| format!("{maps}: no C library that could be looked into"))
}

impl Counting {
    /// Begins to count the calls of all threads of `process`; returns once it has begun. The answer is written to `answer`.
    ///
    /// # Errors
    /// Why the process cannot be counted.
    pub fn start(method: Method, process: u32, answer: &Path) -> Result<Self, String> {
        let command = match method {
            Method::Perf => perf(TRACE_POINT, process, answer),
            Method::Strace => {
                let mut command = Command::new("strace");
                command.args(["-c", "-f", "-p"]).arg(process.to_string()).arg("-o").arg(answer);
                command
            }
        };
        Self::begin(method, command, answer, None)
    }

    /// The same for the calls with which it asks for memory, by perf.
    ///
    /// # Errors
    /// Why they cannot be counted.
    pub fn start_allocations(process: u32, answer: &Path) -> Result<Self, String> {
        let entries = Entries::add(process)?;
        let events: Vec<String> = ALLOCATING.iter().map(|function| format!("{ENTRIES}:{function}")).collect();
        Self::begin(Method::Perf, perf(&events.join(","), process, answer), answer, Some(entries))
    }

    fn begin(
        method: Method,
        mut command: Command,
        answer: &Path,
        entries: Option<Entries>,
    ) -> Result<Self, String> {
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let program = command.spawn().map_err(|error| error.to_string())?;
        let mut counting = Self { method, program, answer: answer.to_owned(), entries };
        counting.wait_for_begin()?;
        Ok(counting)
    }

    /// Reads what the program says until that it is attached.
    fn wait_for_begin(&mut self) -> Result<(), String> {
        let Some(stderr) = self.program.stderr.take() else { return Err("it has no standard error".into()) };
        let mut said = String::new();
        let mut lines = BufReader::new(stderr.take(ANSWER_BYTES_MAX));
        for _ in 0..LINES_MAX {
            let start = said.len();
            if lines.read_line(&mut said).is_ok_and(|bytes| bytes > 0) {
                if said[start..].contains("attached") {
                    // The rest of what it says goes nowhere; without a reader it would wait for one.
                    let rest = std::thread::Builder::new().name("syscalls-log".into());
                    let read =
                        move || std::io::copy(&mut lines.into_inner().into_inner(), &mut std::io::sink());
                    return rest.spawn(read).map(|_| ()).map_err(|error| error.to_string());
                }
            } else {
                break;
            }
        }
        Err(first_line(&said))
    }

    /// Ends the count.
    ///
    /// # Errors
    /// Why there is no number.
    pub fn finish(mut self) -> Result<u64, String> {
        drop(self.program.stdin.take());
        if self.method == Method::Strace {
            // It lets go of the process and writes its table; a refusal means that it has ended already.
            let _ = rustix::process::kill_process(Pid::from_child(&self.program), Signal::INT);
        }
        self.program.wait().map_err(|error| error.to_string())?;
        let file = std::fs::File::open(&self.answer).map_err(|error| error.to_string())?;
        let mut text = String::new();
        file.take(ANSWER_BYTES_MAX).read_to_string(&mut text).map_err(|error| error.to_string())?;
        match self.method {
            Method::Perf if self.entries.is_some() => {
                ALLOCATING.iter().map(|function| perf_count(&text, &format!("{ENTRIES}:{function}"))).sum()
            }
            Method::Perf => perf_count(&text, TRACE_POINT),
            Method::Strace => strace_count(&text),
        }
    }
}

impl Drop for Counting {
    fn drop(&mut self) {
        drop(self.program.stdin.take());
        if let Ok(None) = self.program.try_wait() {
            // perf ends with its input; strace lets go of the process when it is asked.
            let _ = rustix::process::kill_process(Pid::from_child(&self.program), Signal::INT);
            let _ = self.program.wait();
        }
    }
}

/// perf that counts `events` of all threads of `process`.
fn perf(events: &str, process: u32, answer: &Path) -> Command {
    let mut command = Command::new("perf");
    command.args(["stat", "-x,", "-e", events, "-p"]).arg(process.to_string());
    // It counts as long as what it starts; that ends when we close its input, or end ourselves.
    command.arg("-o").arg(answer).args(["--", "sh", "-c", "echo attached >&2; exec cat"]);
    command
}

/// `12345,,raw_syscalls:sys_enter,...` is 12,345 of that event.
fn perf_count(text: &str, event: &str) -> Result<u64, String> {
    let line = text.lines().find(|line| line.split(',').nth(2) == Some(event));
    let number = line.and_then(|line| line.split(',').next()).map(str::trim);
    number.and_then(|number| number.parse().ok()).ok_or_else(|| match number {
        Some(word) if word.starts_with('<') => format!("it says {word} at {event}"),
        _ => first_line(text),
    })
}

/// The calls of the line `total` in strace's table: percent, seconds, microseconds a call, calls, perhaps errors.
fn strace_count(text: &str) -> Result<u64, String> {
    let total = text.lines().find(|line| line.trim_end().ends_with(" total"));
    let calls = total.and_then(|line| line.split_ascii_whitespace().nth(3));
    calls.and_then(|calls| calls.parse().ok()).ok_or_else(|| first_line(text))
}

/// What another pass of the same workload counted.
#[derive(Debug, Clone, Copy)]
pub struct Counted {
    /// Of what: [`counter::SYSCALLS`] or [`counter::ALLOCATIONS`].
    pub name: &'static str,
    /// By what.
    pub method: Method,
    /// How many.
    pub calls: u64,
    /// For so many messages.
    pub delivered: u64,
}

impl Counted {
    /// Writes it into `run`, for as many messages as `run` delivered.
    pub fn describe(&self, run: &mut Run) {
        let Self { name, method, calls, delivered } = *self;
        if delivered == 0 {
            return;
        }
        let each = calls as f64 / delivered as f64;
        run.counters.insert(name.into(), (each * run.delivered as f64).round());
        let (what, remark) = match name {
            counter::ALLOCATIONS => ("Allocations", "perf, which stops kumod for a microsecond at each"),
            _ => ("System calls", method.remark()),
        };
        run.notes.push(format!(
            "{what} were counted in a pass of their own: {calls} for {delivered} messages, {each:.2} each, by {remark}."
        ));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;
    use std::io::Write;

    #[test]
    fn answers_are_read() {
        let perf = "# started on Sun Nov 22\n\n6783904,,raw_syscalls:sys_enter,200338,100.00,,\n";
        assert_eq!(perf_count(perf, TRACE_POINT), Ok(6_783_904));
        assert!(perf_count(perf, "raw_syscalls:sys").is_err(), "another event");
        let unsupported =
            perf_count("<not supported>,,raw_syscalls:sys_enter,0,100.00,,\n", TRACE_POINT).unwrap_err();
        assert!(unsupported.contains("<not supported>"), "{unsupported}");
        let unknown = "event syntax error: unknown\n";
        assert_eq!(perf_count(unknown, TRACE_POINT), Err(unknown.trim_end().into()));
        let strace = "% time     seconds  usecs/call     calls    errors syscall\n\
            ------ ----------- ----------- --------- --------- ----------------\n \
            99.00    0.010000          10      1000        12 read\n\
            100.00    0.010100          10      1010        12 total\n";
        assert_eq!(strace_count(strace), Ok(1010));
        assert_eq!(strace_count(&strace.replace("12 total", "total")), Ok(1010));
        assert!(strace_count("").is_err());
    }

    #[test]
    fn another_pass_is_scaled_to_the_run_and_told() {
        let mut run = Run { delivered: 500, ..Run::default() };
        let strace =
            Counted { name: counter::SYSCALLS, method: Method::Strace, calls: 2_000, delivered: 1_000 };
        strace.describe(&mut run);
        assert_eq!(run.counters[counter::SYSCALLS], 1_000.0);
        assert!(
            run.notes[0].contains("2.00 each") && run.notes[0].contains("slows kumod"),
            "{:?}",
            run.notes
        );
        Counted { delivered: 0, ..strace }.describe(&mut run);
        assert_eq!(run.notes.len(), 1, "nothing was delivered, so nothing is known");
        Counted { name: counter::ALLOCATIONS, method: Method::Perf, ..strace }.describe(&mut run);
        assert_eq!(run.counters[counter::ALLOCATIONS], 1_000.0);
    }

    /// A process that waits for a line and then reads and writes a thousand times.
    #[test]
    fn the_calls_of_a_process_are_counted() {
        let folder = tempfile::tempdir().unwrap();
        for (method, program) in [(Method::Perf, "perf"), (Method::Strace, "strace")] {
            let script = "read line; exec dd if=/dev/zero of=/dev/null bs=1 count=1000 status=none";
            let mut command = Command::new("sh");
            let mut process = command.args(["-c", script]).stdin(Stdio::piped()).spawn().unwrap();
            let counting = match Counting::start(method, process.id(), &folder.path().join(program)) {
                Ok(counting) => counting,
                Err(reason) => {
                    eprintln!("skipped: {program}: {reason}");
                    drop(process.stdin.take());
                    process.wait().unwrap();
                    continue;
                }
            };
            process.stdin.take().unwrap().write_all(b"go\n").unwrap();
            process.wait().unwrap();
            let calls = counting.finish().unwrap();
            assert!((2_000..4_000).contains(&calls), "{program}: {calls}");
        }
    }

    /// A shell that asks for memory when it is told to go on.
    #[test]
    fn the_allocations_of_a_process_are_counted_and_nothing_stays_in_the_kernel() {
        let folder = tempfile::tempdir().unwrap();
        let script = "import sys; sys.stdin.readline(); [bytearray(100_000) for _ in range(1_000)]";
        let mut command = Command::new("python3");
        let Ok(mut process) = command.args(["-c", script]).stdin(Stdio::piped()).spawn() else {
            eprintln!("skipped: no python3");
            return;
        };
        let counting = loaded(process.id())
            .and_then(|()| Counting::start_allocations(process.id(), &folder.path().join("answer")));
        let Ok(mut input) = process.stdin.take().ok_or(()) else { panic!("it has an input") };
        input.write_all(b"go\n").unwrap();
        process.wait().unwrap();
        match counting {
            Ok(counting) => {
                let calls = counting.finish().unwrap();
                assert!((1_000..20_000).contains(&calls), "{calls}");
                let left = Command::new("perf").args(["probe", "--list"]).output().unwrap();
                assert!(!String::from_utf8_lossy(&left.stdout).contains(ENTRIES));
            }
            Err(reason) => eprintln!("skipped: {reason}"),
        }
    }

    /// Waits until a process that was just started has its C library.
    fn loaded(process: u32) -> Result<(), String> {
        let begun = std::time::Instant::now();
        while let Err(reason) = c_library(process) {
            if begun.elapsed().as_secs() > 30 {
                return Err(reason);
            }
            std::thread::yield_now();
        }
        Ok(())
    }

    #[test]
    fn a_process_that_is_gone_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let answer = folder.path().join("answer");
        for method in [Method::Perf, Method::Strace] {
            let reason = Counting::start(method, u32::MAX >> 2, &answer).unwrap_err();
            assert!(!reason.is_empty());
        }
        assert!(Counting::start_allocations(u32::MAX >> 2, &answer).unwrap_err().contains("maps"));
    }
}
