//! What a durable append costs by each way to the disk: 64 tasks that each append a message, wait, and delete it.
//!
//! It owns ratios between the ways, measured on the disk under the target folder. Absolute figures say more about that disk than
//! about the spool.

#![expect(clippy::unwrap_used, reason = "a bench that cannot write has nothing to say")]

use std::time::Duration;

use benches::micro::Operation;
use benches::micro::spools::Appends;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use spool::{Backend, WriteMode};

fn ways(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("spool_append");
    group.sample_size(10).measurement_time(Duration::from_secs(3)).throughput(Throughput::Elements(1));
    let ways = [
        ("threads-direct", Backend::Threads, WriteMode::Direct),
        ("uring-direct", Backend::Uring, WriteMode::Direct),
        ("threads-buffered", Backend::Threads, WriteMode::Buffered),
    ];
    for (name, backend, mode) in ways {
        for body_bytes in [1_000, 100_000] {
            let place = env!("CARGO_TARGET_TMPDIR").as_ref();
            // A host may refuse io_uring; the other ways are still worth comparing.
            let Ok(mut appends) = Appends::open(place, body_bytes, backend, mode) else {
                continue;
            };
            group.bench_function(BenchmarkId::new(name, body_bytes), |bencher| {
                bencher.iter_custom(|count| appends.run(count).unwrap().elapsed);
            });
        }
    }
    group.finish();
}

criterion_group!(benches, ways);
criterion_main!(benches);
