//! What a message costs that the spool finds when it is opened. `spool_recovery` does the same with a million, and has limits.
//!
//! It owns one number, time per message with the page cache warm, on the disk under the target folder.

#![expect(clippy::unwrap_used, reason = "a bench that cannot write has nothing to say")]

use std::time::Duration;

use benches::micro::Operation;
use benches::micro::catalogue::RECOVERED_MESSAGES;
use benches::micro::spools::Recoveries;
use criterion::{Criterion, SamplingMode, Throughput, criterion_group, criterion_main};

fn openings(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("spool_recover");
    group.sample_size(10).measurement_time(Duration::from_secs(3));
    group.sampling_mode(SamplingMode::Flat).throughput(Throughput::Elements(RECOVERED_MESSAGES));
    let mut recoveries = Recoveries::of(env!("CARGO_TARGET_TMPDIR").as_ref(), RECOVERED_MESSAGES).unwrap();
    group.bench_function("20000 messages", |bencher| {
        bencher.iter_custom(|openings| recoveries.run(openings * RECOVERED_MESSAGES).unwrap().elapsed);
    });
    group.finish();
}

criterion_group!(benches, openings);
criterion_main!(benches);
