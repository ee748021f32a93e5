//! A process under real limits of this machine's kernel: it is in its group before it runs, the limits are read back, and the
//! group goes with its handle.
//!
//! Where the machine has no way to limit a program, or this user may not use it, the tests say so and end.

#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::path::{Path, PathBuf};

use benches::arguments;
use benches::cgroup::cores::Cores;
use benches::cgroup::{InForce, Limiter, Limits, Place, remove_leftovers};
use benches::processes::{Launch, Process};
use benches::stop::Stop;

fn lab() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_lab"))
}

/// A way that needs nobody's manager: a group of the session would not outlive a test that fails.
fn limiter() -> Option<Limiter> {
    match Limiter::probe(Path::new("/")) {
        Ok(Limiter::Systemd(_)) => eprintln!("skipped: groups belong to systemd here"),
        Ok(limiter) => return Some(limiter),
        Err(error) => eprintln!("skipped: {error}"),
    }
    None
}

fn limits(cpus: f64) -> Limits {
    let allowed = Cores::allowed().unwrap();
    let cores = allowed.by_core(Path::new("/")).into_iter().take(1).collect();
    Limits { cpus, cores, memory_bytes: 64 << 20 }
}

fn shell(folder: &Path, place: &Place, script: &str) -> Launch {
    Launch {
        name: "script",
        before: place.before.clone(),
        program: "/bin/sh".into(),
        arguments: arguments!["-c", script],
        environment: &[],
        log_folder: folder.to_path_buf(),
    }
}

fn groups_of(limiter: &Limiter, purpose: &str) -> Vec<PathBuf> {
    let name = format!("kumod-lab-{}-{purpose}", std::process::id());
    limiter.parents().iter().map(|parent| parent.join(&name)).collect()
}

#[test]
fn a_process_is_limited_from_its_first_instruction_on() {
    let Some(limiter) = limiter() else { return };
    let folder = tempfile::tempdir().unwrap();
    let limits = limits(0.5);
    let place = limiter.prepare("first", &limits, lab()).unwrap();
    let groups = groups_of(&limiter, "first");
    assert!(groups.iter().all(|group| group.is_dir()));
    let script = "echo initialization complete >&2; exec sleep 1000";
    let process = Process::start_server(&shell(folder.path(), &place, script), &Stop::default()).unwrap();
    let found = InForce::verify(Path::new("/"), process.id(), &limits).unwrap();
    assert_eq!((found.cpus, found.memory_bytes), (0.5, 64 << 20));
    assert_eq!(found.cores, limits.cores);
    assert_eq!(found.group, format!("kumod-lab-{}-first", std::process::id()));
    assert_eq!(found.account.usage().killed, Some(0));
    let tighter = Limits { cpus: 0.25, ..limits };
    assert!(InForce::verify(Path::new("/"), process.id(), &tighter).is_err());
    // A living laboratory's groups are not left over.
    assert!(remove_leftovers(Path::new("/"), &limiter.parents()).is_empty());
    assert!(groups.iter().all(|group| group.is_dir()));
    process.stop().unwrap();
    drop(place);
    assert!(groups.iter().all(|group| !group.exists()));
}

#[test]
fn who_takes_more_memory_than_it_may_is_killed_and_counted() {
    let Some(limiter) = limiter() else { return };
    let folder = tempfile::tempdir().unwrap();
    let limits = limits(1.0);
    let place = limiter.prepare("memory", &limits, lab()).unwrap();
    // The shell keeps every line, in a variable that doubles until the kernel ends it.
    let script = "echo initialization complete >&2; x=0123456789abcdef; while :; do x=$x$x; done";
    let mut process = Process::start_server(&shell(folder.path(), &place, script), &Stop::default()).unwrap();
    let found = InForce::verify(Path::new("/"), process.id(), &limits);
    let status = process.wait(std::time::Duration::from_secs(60), &Stop::default(), || Ok(())).unwrap();
    assert!(!status.success());
    // It may be gone before it could be looked at.
    if let Ok(found) = found {
        assert_eq!(found.account.usage().killed, Some(1));
    }
}

#[test]
fn an_earlier_laboratory_that_died_leaves_nothing() {
    let Some(limiter) = limiter() else { return };
    // A process that has ended and was waited for: its number is free.
    let mut ended = std::process::Command::new("/bin/true").spawn().unwrap();
    ended.wait().unwrap();
    let left =
        limiter.parents().into_iter().map(|parent| parent.join(format!("kumod-lab-{}-left", ended.id())));
    let left: Vec<PathBuf> = left.collect();
    left.iter().for_each(|group| std::fs::create_dir(group).unwrap());
    assert!(remove_leftovers(Path::new("/"), &limiter.parents()).is_empty());
    assert!(left.iter().all(|group| !group.exists()));
}

#[test]
fn a_place_that_is_gone_starts_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let seat = benches::cgroup::enter::Seat::at(&[folder.path().join("gone")], None);
    let place = Place { before: seat.before(lab()), group: None };
    let script = "echo initialization complete >&2";
    let error = Process::start_server(&shell(folder.path(), &place, script), &Stop::default()).unwrap_err();
    assert!(error.to_string().contains("join the group with"), "{error}");
}

#[test]
fn a_program_keeps_to_its_processors() {
    let folder = tempfile::tempdir().unwrap();
    let one = limits(1.0).cores;
    let seat = benches::cgroup::enter::Seat::at(&[], Some(&one));
    let place = Place { before: seat.before(lab()), group: None };
    let script = "while read -r word list; do [ \"$word\" = Cpus_allowed_list: ] && echo $list; done </proc/self/status";
    let mut process = Process::start(&shell(folder.path(), &place, script)).unwrap();
    process.wait(std::time::Duration::from_secs(60), &Stop::default(), || Ok(())).unwrap();
    assert_eq!(process.output().unwrap().trim(), one.to_string());
}
