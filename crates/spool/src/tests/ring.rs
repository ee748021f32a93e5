//! The ring on real files: every set of flags down to that of old kernels, both barriers, one piece of memory and several,
//! and queues that are too small for what is asked of them.

use std::fs::File;
use std::os::fd::AsFd;
use std::sync::Arc;

use io_uring::IoUring;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::disk::ladder::{RUNGS, build_rung};
use crate::disk::uring::RING_ENTRIES;
use crate::disk::{
    AlignedBuffer, Barrier, Disk, HostDisk, Lane, Load, Piece, UringLane, Waker, Write, read_through,
};
use crate::format::BLOCK_BYTES;

const BATCHES: usize = 40;
const BATCH_BYTES: usize = 2 * BLOCK_BYTES;

/// One batch in pieces: half of it from the buffer, half from elsewhere.
fn load(number: usize, in_pieces: bool) -> Load {
    let mut buffer = AlignedBuffer::new(BATCH_BYTES).unwrap();
    buffer.fill(number as u8);
    let lent = Piece::Lent(vec![!(number as u8); BLOCK_BYTES].into());
    let pieces = if in_pieces { vec![Piece::Own(0..BLOCK_BYTES), lent] } else { Vec::new() };
    Load { buffer, pieces, bytes: BATCH_BYTES }
}

/// Submits many batches at once and reads them back.
fn writes_all(ring: IoUring, barrier: Barrier, in_pieces: bool) {
    let executable = std::env::current_exe().unwrap();
    let dir = tempfile::tempdir_in(executable.parent().unwrap()).unwrap();
    let disk = HostDisk::new(dir.path(), !in_pieces && barrier == Barrier::InWrite);
    let file = disk.create("file", (BATCHES * BATCH_BYTES) as u64, &[]).unwrap();
    let mut lane = UringLane::over(ring, Arc::new(Waker::new().unwrap()), &mut [], barrier, None).unwrap();
    for number in 0..BATCHES {
        let (file, offset) = (Arc::clone(&file), (number * BATCH_BYTES) as u64);
        lane.submit(Write { token: number as u64, file, offset, load: load(number, in_pieces), sync: true });
    }
    let mut done = Vec::new();
    while done.len() < BATCHES {
        lane.collect(true, &mut done);
    }
    assert!(done.iter().all(|done| done.result.is_ok()));
    for number in 0..BATCHES {
        let mut read = vec![0; BATCH_BYTES];
        assert_eq!(read_through(&*file, &mut read, (number * BATCH_BYTES) as u64).unwrap(), BATCH_BYTES);
        let second = if in_pieces { !(number as u8) } else { number as u8 };
        assert!(read[..BLOCK_BYTES].iter().all(|byte| *byte == number as u8));
        assert!(read[BLOCK_BYTES..].iter().all(|byte| *byte == second));
    }
}

/// Every kind of ring, with both barriers, from one piece of memory and from several. A ring of two entries has room for
/// four answers: with forty batches on their way both of its queues overflow.
#[test]
fn every_rung_of_the_ladder_carries_batches_also_when_its_queues_overflow() {
    for (rung, name) in RUNGS {
        for entries in [2, RING_ENTRIES] {
            for barrier in [Barrier::InWrite, Barrier::Linked] {
                for in_pieces in [false, true] {
                    match build_rung(rung, entries) {
                        Ok(ring) => writes_all(ring, barrier, in_pieces),
                        Err(error) => eprintln!("skipped: {name}: {error}"),
                    }
                }
            }
        }
    }
}

/// What a killed process leaves behind: its descriptors are closed at once, its ring goes when its writes have landed.
#[test]
fn a_ring_keeps_the_lock_of_a_process_that_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let lock = || File::create(dir.path().join("lock")).unwrap();
    let try_lock = |file: &File| flock(file, FlockOperation::NonBlockingLockExclusive);
    let first = lock();
    try_lock(&first).unwrap();
    let waker = Arc::new(Waker::new().unwrap());
    let Ok(lane) = UringLane::new(waker, &mut [], Barrier::InWrite, Some(first.as_fd())) else {
        eprintln!("skipped: this host has no io_uring");
        return;
    };
    drop(first);
    let second = lock();
    assert_eq!(try_lock(&second), Err(Errno::WOULDBLOCK));
    drop(lane);
    // The kernel takes the ring apart in its own time.
    flock(&second, FlockOperation::LockExclusive).unwrap();
}
