//! What a message costs from generator through kumod to sink, all in one process.
//!
//! It owns one number, time per message over loopback and the disk under the target folder. Processors are shared by all three.

#![expect(clippy::unwrap_used, reason = "a bench whose mail does not arrive has nothing to say")]

use std::time::Duration;

use benches::micro::Operation;
use benches::micro::end_to_end::EndToEnd;
use criterion::{Criterion, SamplingMode, Throughput, criterion_group, criterion_main};

/// Messages of one iteration: fewer would measure how connections are opened.
const MESSAGES: u64 = 10_000;

fn messages(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("end_to_end");
    group.sample_size(10).measurement_time(Duration::from_secs(10));
    group.sampling_mode(SamplingMode::Flat).throughput(Throughput::Elements(MESSAGES));
    let mut way = EndToEnd::start(env!("CARGO_TARGET_TMPDIR").as_ref(), 1000).unwrap();
    group.bench_function("10000 messages of 1k", |bencher| {
        bencher.iter_custom(|times| way.run(times * MESSAGES).unwrap().elapsed);
    });
    group.finish();
}

criterion_group!(benches, messages);
criterion_main!(benches);
