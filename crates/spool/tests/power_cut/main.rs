//! The power goes on a real file system: ext4 in a file, on a loop device, shut down under load by its own ioctl.
//!
//! Many appenders write, mark, rewrite and delete; at a random number of acknowledgements the file system stops, with and without
//! its journal flushed. It is mounted again, the spool is opened again, and what is there is held against what was acknowledged.
//! One image sees several cuts, so that segments used again lie beside what earlier cuts left behind.
//!
//! What this can see: names, lengths, extents, and pages that nobody synced. What it cannot see is a disk's own cache: the loop
//! device keeps whatever reached it, so a direct write without its barrier would pass here. The disk in memory, which drops those
//! too, is for that (`src/tests/power.rs`).
//!
//! `SPOOL_POWER_CYCLES` says how many cuts, `SPOOL_POWER_SEED` repeats the choices of a run that failed (the threads choose their
//! order anew). Without root, a loop device, mkfs.ext4 or python3 the tests say so and pass.

#![allow(clippy::unwrap_used)]

mod image;
mod ledger;
mod load;

use std::path::Path;

use spool::{Backend, Durability, Options, Recovery, Spool, WriteMode};

use image::{Image, Power};
use ledger::Ledger;
use load::{close, run_until_cut};

/// Cuts in an ordinary run of the tests: each back end with each kind of cut and each way of writing.
const CYCLES: u64 = 8;
/// Cuts that one file system and one log see.
const CYCLES_ON_ONE_IMAGE: u64 = 4;
/// Cuts without barriers that may lose nothing before the test is taken to be blind.
const BLIND_CYCLES_MAX: u64 = 6;
/// Sizes of segments: small ones change often, large ones hold several batches.
const SEGMENT_BYTES: [u64; 2] = [128 << 10, 1 << 20];
const SEGMENTS_SPARE: u32 = 3;
/// At most 2 to this power acknowledgements before the cut.
const ACKNOWLEDGED_BITS_MAX: u32 = 12;

/// How one cut is made.
#[derive(Clone, Copy, Debug)]
struct Cycle {
    /// `Auto` is io_uring where the host has it.
    backend: Backend,
    mode: WriteMode,
    durability: Durability,
    segment_bytes: u64,
    /// Whether the file system's journal reaches the disk before it stops.
    journal_flushed: bool,
    /// 0: while the spool is being opened.
    acknowledged_before: u64,
}

impl Cycle {
    /// Every combination comes up in eight cycles; the moment is random, and early ones are as likely as late ones.
    fn choose(number: u64, segment_bytes: u64, random: &mut fastrand::Rng) -> Self {
        let bits = random.u32(0..=ACKNOWLEDGED_BITS_MAX);
        Self {
            backend: if number & 1 == 0 { Backend::Auto } else { Backend::Threads },
            mode: if number & 4 == 0 { WriteMode::Direct } else { WriteMode::Buffered },
            durability: Durability::Commit,
            segment_bytes,
            journal_flushed: number & 2 == 0,
            acknowledged_before: random.u64(0..1 << bits),
        }
    }

    fn options(&self, disk: &Path) -> Options {
        // The directory and its parent are made by the spool, on the disk whose power goes.
        let mut options = Options::new(disk.join("var").join("spool"));
        options.segment_bytes = self.segment_bytes;
        options.segments_spare = SEGMENTS_SPARE;
        options.backend = self.backend;
        options.mode = self.mode;
        options.durability = self.durability;
        options.batch_bytes_max = 128 << 10;
        options.free_bytes_min = 0;
        options
    }
}

fn number_from(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is {text:?}: a whole number is wanted")))
}

/// Opens what a cut left behind and compares. What is there from then on must stay, and what is not must not come back.
fn look(ledger: &mut Ledger, options: Options) -> Result<(), String> {
    let (spool, recovery) = Spool::open(options).map_err(|error| format!("it does not open: {error}"))?;
    let looked = sound(&recovery).and_then(|()| ledger.compare(&recovery, &spool));
    ledger.adopt(&recovery);
    close(spool);
    looked
}

/// Power cuts tear and drop; they damage nothing that was promised.
fn sound(recovery: &Recovery) -> Result<(), String> {
    let Recovery { damaged, orphans, foreign, .. } = recovery;
    if *damaged == 0 && *orphans == 0 && foreign.is_empty() {
        return Ok(());
    }
    Err(format!("{damaged} damaged regions, {orphans} messages without a body, foreign: {foreign:?}"))
}

/// One image with some cuts, and a look after each. The error names the first broken promise.
fn cuts_on_one_image(
    power: &mut Power,
    ledger: &mut Ledger,
    cycles: impl Iterator<Item = Cycle>,
    random: &mut fastrand::Rng,
) -> Result<(), String> {
    let image = Image::new()?;
    for cycle in cycles {
        let explain = |broken: String| format!("{cycle:?}: {broken}");
        let disk = image.mount()?;
        run_until_cut(cycle, power, &disk, ledger, random).map_err(explain)?;
        disk.unmount();
        let disk = image.mount()?;
        let looked = look(ledger, cycle.options(disk.path()));
        disk.unmount();
        looked.map_err(explain)?;
    }
    Ok(())
}

#[test]
fn what_was_acknowledged_survives_power_cuts() {
    let mut power = match Power::find() {
        Ok(power) => power,
        Err(reason) => return eprintln!("skipped: {reason}"),
    };
    let seed = number_from("SPOOL_POWER_SEED").unwrap_or_else(|| fastrand::u64(..));
    let cycles = number_from("SPOOL_POWER_CYCLES").unwrap_or(CYCLES);
    eprintln!("{cycles} power cuts, SPOOL_POWER_SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut seen = ledger::Seen::default();
    for first in (0..cycles).step_by(usize::try_from(CYCLES_ON_ONE_IMAGE).unwrap()) {
        let numbers = first..cycles.min(first + CYCLES_ON_ONE_IMAGE);
        let segment_bytes = random.choice(SEGMENT_BYTES).unwrap();
        let choices: Vec<Cycle> =
            numbers.map(|number| Cycle::choose(number, segment_bytes, &mut random)).collect();
        let mut ledger = Ledger::default();
        cuts_on_one_image(&mut power, &mut ledger, choices.into_iter(), &mut random)
            .unwrap_or_else(|broken| panic!("seed {seed}, cycles from {first}: {broken}"));
        seen.add(&ledger.seen);
    }
    eprintln!("{seen:?}");
    assert!(seen.survived > 0 && seen.deleted > 0, "there was nothing to lose: {seen:?}");
}

/// The same without barriers: who sees nothing lost here would see nothing there.
#[test]
fn without_barriers_the_test_fails() {
    let mut power = match Power::find() {
        Ok(power) => power,
        Err(reason) => return eprintln!("skipped: {reason}"),
    };
    let mut random = fastrand::Rng::with_seed(number_from("SPOOL_POWER_SEED").unwrap_or(1));
    let broken = (0..BLIND_CYCLES_MAX).find_map(|number| {
        let cycle = Cycle {
            mode: WriteMode::Buffered,
            durability: Durability::Written,
            journal_flushed: false,
            acknowledged_before: 500,
            ..Cycle::choose(number, SEGMENT_BYTES[1], &mut random)
        };
        cuts_on_one_image(&mut power, &mut Ledger::default(), std::iter::once(cycle), &mut random).err()
    });
    let broken = broken.expect("writes without a barrier survived the power cut: this test cannot see");
    assert!(broken.contains("acknowledged"), "{broken}");
    eprintln!("without barriers: {broken}");
}
