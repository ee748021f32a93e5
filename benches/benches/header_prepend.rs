//! What a message costs for its trace header and the stored form of its envelope.
//!
//! It owns one number, time per recipient.

use benches::micro::header::Headers;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

fn headers(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("header_prepend");
    group.throughput(Throughput::Elements(1));
    let mut headers = Headers::default();
    group.bench_function("received and envelope", |bencher| bencher.iter(|| headers.once()));
    group.finish();
}

criterion_group!(benches, headers);
criterion_main!(benches);
