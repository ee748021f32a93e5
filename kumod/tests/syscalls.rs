//! System calls that fail, and a kill in the middle of one: kumod says 250 or 4xx, or the connection ends, and what got a 250 is
//! delivered by the process that is started in its place. Only where a segment cannot be opened because of the medium it is set aside
//! with its mail, and counts as delivered if `kumod spool export` gives it back.
//!
//! strace breaks the Nth call of a kind on the files of the spool, for one N after the other; nothing else of kumod is touched. Mail goes to three
//! next hops: one takes it, so that deletes are under way; one refuses it for now, so that marks are; one says nothing, so that mail waits.
//! Where strace is missing, or may not trace, the tests say so and pass.

#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;

use support::client::{Client, transaction};
use support::home::{Home, Kumod, Refusal};
use support::policy;
use support::scripted::{Answer, At, MODERN, Scripted};
use support::spares::Spares;
use support::strace::{self, Fault, Injection, When};

const CONNECTIONS: usize = 3;
const MESSAGES_PER_CONNECTION: usize = 10;
const BODY_BYTES: usize = 9_000;
/// Numbers of segments that may come up in a case.
const SEGMENTS_MAX: usize = 40;
/// With so few spare segments new ones are made while mail comes in, and without them there is more than the reserve all the same.
const FEW_SPARES: usize = 4;

const FAULTS: [Fault; 3] = [Fault::InputOutputError, Fault::NoSpace, Fault::Kill];
/// Not every architecture has each of these.
const OPEN: &str = "?open,?openat";
const RENAME: &str = "?rename,?renameat,?renameat2";
const FALLOCATE: &str = "fallocate";
/// At start each spare segment gets a new header by one thread; later writes of a thread are batches.
const FIRST_BATCHES: [u32; 3] = [1, 2, 3];
const LATER_BATCHES: [u32; 4] = [9, 10, 11, 12];
/// Writes of a new segment that are tried, out of one for each MiB.
const FILLS: [u32; 3] = [1, 2, 40];
/// Opened twice: to be filled, and past the page cache.
const OPENINGS: [u32; 2] = [1, 2];
/// Each thread that scans syncs some of the segments.
const SYNCS: [u32; 3] = [1, 2, 3];

/// The files that the fault is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Files {
    /// Those that are there.
    Segments,
    /// Those that are made while mail comes in, because there are few: the start could not make them either.
    NewSegments,
    /// One that is missing and is made at the start.
    MissingSegment,
    /// The directory, which is synced for each new segment; there are few.
    Directory,
    Lock,
}

#[derive(Clone, Copy, Debug)]
struct Case {
    call: &'static str,
    files: Files,
    fault: Fault,
    when: When,
}

impl Case {
    /// Spare segments before the start, out of so many.
    fn spares(&self, spares: usize) -> usize {
        match self.files {
            Files::NewSegments | Files::Directory => FEW_SPARES,
            Files::MissingSegment => spares - 1,
            Files::Segments | Files::Lock => spares,
        }
    }

    fn injection(&self, home: &Home, spares: usize) -> Injection {
        let segments = |numbers: std::ops::RangeInclusive<usize>| {
            let names = numbers.flat_map(|number| {
                [format!("{number:08}.segment"), format!("{number:08}.segment.preparing")]
            });
            names.map(|name| home.segments().join(name)).collect()
        };
        let paths = match self.files {
            Files::Segments => segments(1..=spares),
            Files::NewSegments => segments(FEW_SPARES + 1..=SEGMENTS_MAX),
            Files::MissingSegment => segments(spares..=spares),
            Files::Directory => vec![home.segments()],
            Files::Lock => vec![home.segments().join("lock")],
        };
        Injection {
            call: self.call,
            fault: self.fault,
            when: self.when,
            first_fallocate_fails: self.files == Files::NewSegments && self.call != FALLOCATE,
            paths,
            trace: home.path().join("strace"),
        }
    }
}

/// What a client knows of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answered {
    Accepted,
    Refused,
    /// The connection ended before the reply came.
    Unknown,
}

/// What all cases of a sweep came to, for the reader, and to see that it could see something.
#[derive(Debug, Default)]
struct Tally {
    cases: usize,
    accepted: usize,
    refused: usize,
    unknown: usize,
    not_started: usize,
    delivered_twice: usize,
    /// In a segment that could not be opened; the operator has it.
    set_aside: usize,
    refused_and_delivered: usize,
}

/// The next hops: open, all take mail; closed, one refuses for now and one says nothing.
struct Hops {
    open: Arc<AtomicBool>,
    live: Scripted,
    busy: Scripted,
    silent: Scripted,
}

const LIVE: &str = "live.test";
const BUSY: &str = "busy.test";
const SILENT: &str = "silent.test";

impl Hops {
    fn start() -> Self {
        let open = Arc::new(AtomicBool::new(false));
        let closed_at = |place: At, answer: Answer| {
            let open = Arc::clone(&open);
            Scripted::start(MODERN, move |_, at| {
                if at == place && !open.load(Ordering::SeqCst) { answer } else { Answer::Accept }
            })
        };
        let busy = closed_at(At::Rcpt, Answer::Say("450 4.2.1 try later\r\n"));
        let silent = closed_at(At::Greeting, Answer::Silence);
        Self { live: Scripted::good(), busy, silent, open }
    }

    fn policy(&self) -> String {
        let hops = [(LIVE, self.live.address), (BUSY, self.busy.address), (SILENT, self.silent.address)];
        policy::hops(&hops)
    }

    /// How often each message of a case has arrived, by its number; each must be as it was sent.
    fn arrivals(&self, case: usize) -> BTreeMap<usize, usize> {
        let mut counts = BTreeMap::new();
        for arrival in [&self.live, &self.busy, &self.silent].iter().flat_map(|hop| hop.accepted()) {
            let message = arrival.original();
            let text = String::from_utf8_lossy(&message);
            let mut words = text.lines().next().unwrap().split(' ');
            let mut number = || words.find_map(|word| word.parse::<usize>().ok()).unwrap();
            if number() == case {
                let number = number();
                assert_eq!(message, contents(case, number), "a message changed on the way");
                *counts.entry(number).or_default() += 1;
            }
        }
        counts
    }
}

fn contents(case: usize, number: usize) -> Vec<u8> {
    let mut message = format!("Subject: case {case} message {number}\r\n\r\n").into_bytes();
    message.extend(b"a line of mail\r\n".iter().cycle().take(BODY_BYTES / 16 * 16));
    message
}

/// One fault after the other, each in a spool of its own.
struct Sweep {
    hops: Hops,
    spares: &'static Spares,
    tally: Tally,
}

impl Sweep {
    /// `None`, and said why, where faults cannot be injected.
    fn start() -> Option<Self> {
        static SPARES: OnceLock<Result<Spares, String>> = OnceLock::new();
        let spares = SPARES.get_or_init(|| match strace::refusal(Home::new().path()) {
            Some(reason) => Err(reason),
            None => Ok(Spares::make()),
        });
        let spares = spares.as_ref().inspect_err(|reason| eprintln!("skipped: {reason}")).ok()?;
        Some(Self { hops: Hops::start(), spares, tally: Tally::default() })
    }

    /// Runs one case and says how its messages were answered; `None` where kumod did not start.
    fn run(&mut self, case: Case) -> Option<Vec<Answered>> {
        let trial = self.begin(case, false);
        self.spares.put_into(&trial.home, case.spares(self.spares.count()));
        let answers = trial.with_fault(self.spares.count(), 0);
        self.finish(&trial, answers.as_deref().unwrap_or_default());
        self.tally.not_started += usize::from(answers.is_none());
        answers
    }

    /// The same with mail in the spool, taken by a process that was killed.
    fn run_with_mail(&mut self, case: Case) {
        let trial = self.begin(case, true);
        self.spares.put_into(&trial.home, self.spares.count());
        let before = trial.home.start(&trial.flags());
        let mut answers = send(&before, trial.number, 0);
        assert!(answers.iter().all(|answered| *answered == Answered::Accepted), "{answers:?}");
        before.kill();
        if case.files == Files::MissingSegment {
            let last = format!("{:08}.segment", self.spares.count());
            fs::remove_file(trial.home.segments().join(last)).unwrap();
        }
        let later = trial.with_fault(self.spares.count(), answers.len());
        self.tally.not_started += usize::from(later.is_none());
        answers.extend(later.into_iter().flatten());
        self.finish(&trial, &answers);
    }

    fn begin(&mut self, case: Case, had_mail: bool) -> Trial {
        self.tally.cases += 1;
        self.hops.open.store(false, Ordering::SeqCst);
        let home = Home::new();
        let policy = home.policy(&self.hops.policy()).display().to_string();
        Trial { case, number: self.tally.cases, had_mail, home, policy }
    }

    /// The next process delivers what is there.
    fn finish(&mut self, trial: &Trial, answers: &[Answered]) {
        self.hops.open.store(true, Ordering::SeqCst);
        // Nobody need wait until there are enough spare segments again.
        self.spares.put_into(&trial.home, self.spares.count());
        let kumod = trial.home.start(&trial.flags());
        kumod.drained();
        kumod.stop();
        let arrivals = self.hops.arrivals(trial.number);
        let set_aside = trial.home.export_damaged();
        for (message, answered) in answers.iter().enumerate() {
            let mut times = arrivals.get(&message).copied().unwrap_or(0);
            let contents = contents(trial.number, message);
            if times == 0 && set_aside.iter().any(|exported| exported.ends_with(&contents)) {
                (times, self.tally.set_aside) = (1, self.tally.set_aside + 1);
            }
            self.compare(trial, message, *answered, times);
        }
    }

    fn compare(&mut self, trial: &Trial, message: usize, answered: Answered, times: usize) {
        let case = trial.case;
        match answered {
            Answered::Accepted => {
                assert!(times > 0, "{case:?}: message {message} got a 250 and is lost");
                self.tally.accepted += 1;
            }
            Answered::Refused => {
                // A write that landed behind one that failed is refused with it.
                self.tally.refused += 1;
                self.tally.refused_and_delivered += usize::from(times > 0);
            }
            Answered::Unknown => self.tally.unknown += 1,
        }
        if times > 1 {
            let may_come_again = recipient(trial.number, message) == LIVE && trial.cuts_short();
            assert!(may_come_again, "{case:?}: message {message} came {times} times");
            self.tally.delivered_twice += 1;
        }
    }
}

/// One case under way.
struct Trial {
    case: Case,
    number: usize,
    had_mail: bool,
    home: Home,
    policy: String,
}

impl Trial {
    fn flags(&self) -> [&str; 4] {
        ["--policy", &self.policy, "--spool-backend", "threads"]
    }

    /// Whether deletions of delivered mail can be lost: without notice, or because nothing can be written any more.
    fn cuts_short(&self) -> bool {
        let Case { call, fault, .. } = self.case;
        self.had_mail || !ends_gently(self.number) || fault == Fault::Kill || call == "pwritev2"
    }

    /// Starts it, sends and ends it. Messages are numbered from `first`.
    fn with_fault(&self, spares: usize, first: usize) -> Option<Vec<Answered>> {
        let injection = self.case.injection(&self.home, spares);
        match self.home.start_behind(&injection.command(), &self.flags()) {
            Ok(kumod) => {
                let answers = send(&kumod, self.number, first);
                injection.assert_happened();
                end(kumod, self.case, self.number);
                Some(answers)
            }
            Err(refusal) => {
                injection.assert_happened();
                assert_said_why(self.case, &refusal);
                None
            }
        }
    }
}

/// Cases that end with SIGTERM have no mail that nobody answers.
fn ends_gently(case: usize) -> bool {
    case.is_multiple_of(2)
}

fn recipient(case: usize, message: usize) -> &'static str {
    let hops: &[&str] = if ends_gently(case) { &[LIVE, BUSY] } else { &[LIVE, BUSY, SILENT] };
    hops[message % hops.len()]
}

/// Sends over several connections at the same time, messages with numbers from `first` on; how each was answered.
fn send(kumod: &Kumod, case: usize, first: usize) -> Vec<Answered> {
    let address = kumod.smtp();
    let over_one = move |connection: usize| -> Vec<Answered> {
        let mut client = Client::try_greeted(address);
        let first = first + connection * MESSAGES_PER_CONNECTION;
        (first..first + MESSAGES_PER_CONNECTION)
            .map(|message| {
                let answered =
                    client.as_mut().map_or(Answered::Unknown, |client| offer(client, case, message));
                if answered == Answered::Unknown {
                    client = None;
                }
                answered
            })
            .collect()
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..CONNECTIONS).map(|number| scope.spawn(move || over_one(number))).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    })
}

/// All replies to one message are read; the first that is not 250 decides.
fn offer(client: &mut Client, case: usize, message: usize) -> Answered {
    let to = format!("b@{}", recipient(case, message));
    if client.try_write(&transaction(&[&to], &contents(case, message))).is_err() {
        return Answered::Unknown;
    }
    let mut refused = false;
    for _ in 0..3 {
        match client.reply() {
            reply if reply.is_empty() => return if refused { Answered::Refused } else { Answered::Unknown },
            reply if refused || reply.starts_with("250") => drop(reply),
            reply => {
                assert!(reply.starts_with('4'), "case {case}, message {message}: {reply}");
                refused = true;
            }
        }
    }
    if refused { Answered::Refused } else { Answered::Accepted }
}

/// A fault that does not kill leaves kumod running, until it is asked to end, or made to.
fn end(mut kumod: Kumod, case: Case, number: usize) {
    assert!(!kumod.said().contains("panicked"), "{case:?}");
    if case.fault == Fault::Kill {
        return kumod.kill();
    }
    assert!(kumod.is_running(), "{case:?}");
    if ends_gently(number) {
        kumod.stop();
    } else {
        kumod.kill();
    }
}

fn assert_said_why(case: Case, refusal: &Refusal) {
    assert!(!refusal.said.contains("panicked"), "{case:?}: {}", refusal.said);
    let lines: Vec<&str> = refusal.said.lines().filter(|line| line.starts_with("kumod: ")).collect();
    let why = match case.fault {
        Fault::Kill => {
            return assert_eq!((refusal.code, lines.len()), (None, 0), "{case:?}: {}", refusal.said);
        }
        Fault::InputOutputError => "Input/output error",
        Fault::NoSpace => "No space left on device",
    };
    assert_eq!((refusal.code, lines.len()), (Some(1), 1), "{case:?}: {}", refusal.said);
    assert!(lines[0].contains(why) && lines[0].contains("segments"), "{case:?}: {}", lines[0]);
}

/// Each fault at each of these calls.
fn each(
    call: &'static str,
    files: Files,
    faults: &[Fault],
    times: &[u32],
    when: fn(u32) -> When,
) -> Vec<Case> {
    let cases = faults
        .iter()
        .flat_map(|fault| times.iter().map(move |at| Case { call, files, fault: *fault, when: when(*at) }));
    cases.collect()
}

#[test]
fn batches_that_cannot_be_written_are_refused_or_written_elsewhere() {
    let Some(mut sweep) = Sweep::start() else { return };
    let lasting = [Fault::InputOutputError, Fault::NoSpace];
    let cases = [
        each("pwritev2", Files::Segments, &FAULTS[..1], &FIRST_BATCHES, When::Once),
        each("pwritev2", Files::Segments, &FAULTS, &LATER_BATCHES, When::Once),
        each("pwritev2", Files::Segments, &lasting, &LATER_BATCHES, When::From),
    ];
    for case in cases.concat() {
        sweep.run(case);
    }
    let tally = sweep.tally;
    eprintln!("{tally:?}");
    assert!(tally.accepted > 0 && tally.refused > 0 && tally.unknown > 0, "{tally:?}");
}

#[test]
fn segments_that_cannot_be_made_stop_nobody_while_there_are_others() {
    let Some(mut sweep) = Sweep::start() else { return };
    let cases = [
        each(OPEN, Files::NewSegments, &FAULTS, &OPENINGS, When::Once),
        each(FALLOCATE, Files::NewSegments, &FAULTS[1..2], &[1], When::From),
        each("pwrite64", Files::NewSegments, &FAULTS, &FILLS, When::Once),
        each("fsync", Files::NewSegments, &FAULTS, &[1], When::Once),
        each(RENAME, Files::NewSegments, &FAULTS, &[1], When::Once),
        each("fsync", Files::Directory, &FAULTS[..1], &[1], When::From),
    ];
    for case in cases.concat() {
        let answers = sweep.run(case).unwrap_or_default();
        if case.fault != Fault::Kill {
            assert!(answers.iter().all(|answered| *answered == Answered::Accepted), "{case:?}: {answers:?}");
        }
    }
    let tally = sweep.tally;
    eprintln!("{tally:?}");
    assert!(tally.accepted > tally.cases * 20, "{tally:?}");
}

#[test]
fn a_start_that_fails_says_why_and_harms_nothing() {
    let Some(mut sweep) = Sweep::start() else { return };
    let some = [Fault::InputOutputError, Fault::Kill];
    let cases = [
        each(OPEN, Files::Lock, &FAULTS, &[1], When::Once),
        each(OPEN, Files::Segments, &some, &[1], When::Once),
        each("fdatasync", Files::Segments, &some, &SYNCS, When::Once),
        each("pwritev2", Files::Segments, &some[1..], &FIRST_BATCHES, When::Once),
        each("pwrite64", Files::MissingSegment, &FAULTS, &FILLS, When::Once),
        each("fsync", Files::MissingSegment, &some, &[1], When::Once),
        each(RENAME, Files::MissingSegment, &some, &[1], When::Once),
    ];
    for case in cases.concat() {
        sweep.run_with_mail(case);
    }
    let tally = sweep.tally;
    eprintln!("{tally:?}");
    assert!(tally.not_started > 0 && tally.not_started < tally.cases, "{tally:?}");
}
