//! What a message costs in the protocol alone: a server session over pipelined transactions, no socket, no disk.
//!
//! It owns one number, time per transaction; compare it only with the same bench on the same machine a minute ago.

use benches::micro::protocol::Transactions;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

fn transactions(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("smtp_parse");
    group.throughput(Throughput::Elements(1));
    for (name, mut transactions) in [("bdat", Transactions::by_bdat()), ("data", Transactions::by_data())] {
        group.bench_function(name, |bencher| bencher.iter(|| transactions.once()));
    }
    group.finish();
}

criterion_group!(benches, transactions);
criterion_main!(benches);
