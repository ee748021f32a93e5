//! What a message costs in the queues alone: put on the wheel, due, in its site's ready queue, taken.
//!
//! It owns one number, time per message, with ten thousand others waiting.

use benches::micro::queue::Queues;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

fn cycles(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("queue_cycle");
    group.throughput(Throughput::Elements(1));
    let mut queues = Queues::default();
    group.bench_function("10000 waiting", |bencher| bencher.iter(|| queues.cycle(1)));
    group.finish();
}

criterion_group!(benches, cycles);
criterion_main!(benches);
