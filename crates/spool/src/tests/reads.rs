//! Bodies read back: by many threads while everything moves, and after something was damaged.

use std::collections::VecDeque;
use std::os::unix::fs::FileExt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use tempfile::TempDir;

use crate::recover::segment_name;
use crate::{Change, Envelope, Id, Options, ReadError, Spool, Transaction};

const MESSAGES: u64 = 800;
/// Messages that live at once; older ones are deleted, but for one in so many.
const LIVING: usize = 80;
const KEPT_ONE_IN: u64 = 20;
const READERS: usize = 3;

fn open(directory: &TempDir) -> Spool {
    let mut options = Options::new(directory.path().join("spool"));
    (options.segment_bytes, options.segments_spare, options.free_bytes_min) = (256 << 10, 3, 0);
    Spool::open(options).unwrap().0
}

fn id(number: u64) -> Id {
    Id(u128::from(number).to_be_bytes())
}

fn body(number: u64) -> Bytes {
    let bytes = 200 + (number as usize * 7919) % 6000;
    format!("this is body {number}; ").bytes().cycle().take(bytes).collect()
}

fn append(runtime: &tokio::runtime::Runtime, spool: &Spool, number: u64) {
    let envelopes = vec![Envelope { id: id(number), body: id(number), bytes: Bytes::from_static(b"to") }];
    let transaction = Transaction { body: Some((id(number), vec![body(number)])), envelopes };
    let _ = runtime.block_on(spool.append(transaction)).unwrap();
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().build().unwrap()
}

/// Reads what lives at the moment, until told to stop. What is gone when it is looked for must have been deleted.
fn read_on(spool: &Spool, living: &Mutex<VecDeque<u64>>, over: &AtomicBool, read: &AtomicU64) {
    let mut choice = 0_usize;
    while !over.load(Ordering::Relaxed) {
        choice = choice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let chosen = {
            let living = living.lock().unwrap();
            if living.is_empty() { None } else { Some(living[(choice >> 33) % living.len()]) }
        };
        let Some(number) = chosen else { continue };
        match spool.read_body(id(number)) {
            Ok(bytes) => assert_eq!(bytes, body(number), "body {number}"),
            Err(ReadError::NotFound(_)) => {
                assert!(
                    !living.lock().unwrap().contains(&number),
                    "body {number} is gone and was not deleted"
                );
            }
            Err(error) => panic!("{error}"),
        }
        read.fetch_add(1, Ordering::Relaxed);
    }
}

/// Appends, and deletes so that most segments are mostly dead.
fn write_on(spool: &Spool, living: &Mutex<VecDeque<u64>>) {
    let runtime = runtime();
    let mut kept = Vec::new();
    for number in 1..=MESSAGES {
        append(&runtime, spool, number);
        let old = {
            let mut living = living.lock().unwrap();
            living.push_back(number);
            // Off the list before it is deleted, so that nobody misses it.
            if living.len() > LIVING { living.pop_front() } else { None }
        };
        match old {
            Some(old) if old.is_multiple_of(KEPT_ONE_IN) => kept.push(old),
            Some(old) => {
                let delete = Change::Delete { id: id(old), bytes: Bytes::new() };
                runtime.block_on(spool.settle(vec![delete])).unwrap();
            }
            None => {}
        }
        if number.is_multiple_of(MESSAGES / 8) {
            spool.compact().unwrap();
        }
    }
    living.lock().unwrap().extend(kept);
}

#[test]
fn bodies_are_read_while_others_come_and_go_and_move() {
    let directory = tempfile::tempdir().unwrap();
    let spool = open(&directory);
    let (living, over, read) = (Mutex::default(), AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..READERS {
            scope.spawn(|| read_on(&spool, &living, &over, &read));
        }
        // However it ends, the readers end, too.
        let written = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| write_on(&spool, &living)));
        over.store(true, Ordering::Relaxed);
        written.unwrap();
    });
    let stats = spool.stats();
    assert!(
        read.load(Ordering::Relaxed) > 0 && stats.compactions > 0 && stats.segments_recycled > 0,
        "{stats:?}"
    );
    assert_eq!(stats.damaged, 0);
    let living = living.into_inner().unwrap();
    assert!(living.len() > LIVING, "some outlived their neighbours");
    living.iter().for_each(|number| assert_eq!(spool.read_body(id(*number)).unwrap(), body(*number)));
}

#[test]
fn a_damaged_body_is_copied_aside_and_its_envelope_outlives_the_restart() {
    let directory = tempfile::tempdir().unwrap();
    let (spool, runtime) = (open(&directory), runtime());
    (1..=3).for_each(|number| append(&runtime, &spool, number));
    let dir = directory.path().join("spool");
    let path = (1..9)
        .map(|number| dir.join(segment_name(number)))
        .find(|path| std::fs::read(path).unwrap()[4096..].windows(14).any(|text| text == b"this is body 2"));
    let path = path.unwrap();
    let at = std::fs::read(&path).unwrap().windows(14).position(|text| text == b"this is body 2").unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all_at(b"T", at as u64).unwrap();

    let error = spool.read_body(id(2)).unwrap_err();
    let ReadError::Damaged { offset, .. } = error else { panic!("{error}") };
    assert_eq!(offset, at as u64 - 64);
    assert!(spool.read_body(id(1)).is_ok() && spool.read_body(id(3)).is_ok());
    let aside = |ending: &str| {
        let names = std::fs::read_dir(dir.join("damaged")).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.ends_with(ending)).collect::<Vec<_>>()
    };
    assert_eq!((aside(".bytes").len(), spool.stats().damaged), (1, 1));
    assert!(aside(".bytes")[0].ends_with(&format!("-{offset:010}.bytes")));
    // Its message is still there for whoever settles it.
    assert_eq!(spool.stats().messages, 3);
    spool.close().unwrap();

    let mut options = Options::new(&dir);
    (options.segment_bytes, options.segments_spare, options.free_bytes_min) = (256 << 10, 3, 0);
    let (_, recovery) = Spool::open(options).unwrap();
    assert_eq!((recovery.damaged, recovery.orphans, recovery.messages.len()), (1, 1, 2));
    assert_eq!(aside(".envelope"), [format!("{}.envelope", id(2))]);
}
