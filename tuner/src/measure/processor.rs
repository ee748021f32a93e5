//! Processor time, and what one processor does with bytes.

use std::hint::black_box;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// As large as the caches near a processor, and no larger: what a message meets on its way.
const BLOCK_BYTES: usize = 128 << 10;

/// User and system time of this process since its start, all threads.
pub(super) fn time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Bytes that one processor copies and compares each second: one pass over a message, as taking it in and scanning it
/// makes.
pub(super) fn pass_bytes_per_s(length: Duration) -> f64 {
    let source = vec![0x5a_u8; BLOCK_BYTES];
    let mut target = vec![0_u8; BLOCK_BYTES];
    let begun = Instant::now();
    let mut passes = 0_u32;
    loop {
        target.copy_from_slice(black_box(&source));
        black_box(black_box(&target) == &source);
        passes += 1;
        let elapsed = begun.elapsed();
        if elapsed >= length {
            return f64::from(passes) * BLOCK_BYTES as f64 / elapsed.as_secs_f64();
        }
    }
}
