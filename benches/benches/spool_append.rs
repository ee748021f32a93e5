//! What a durable append costs by each way to the disk: 64 tasks that each append a message, wait, and delete it.
//!
//! It owns ratios between the ways, measured on the disk under the target folder. Absolute figures say more about that disk than
//! about the spool.

#![expect(clippy::unwrap_used, reason = "a bench that cannot write has nothing to say")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use spool::{Backend, Change, Envelope, Id, Options, Parts, Spool, Transaction, WriteMode};
use tokio::runtime::Runtime;

const TASKS: u64 = 64;

/// Ids are never used twice, as in kumod.
static NEXT: AtomicU64 = AtomicU64::new(0);

async fn append_and_delete(spool: &Spool, body: &Parts) {
    let number = u128::from(NEXT.fetch_add(2, Ordering::Relaxed));
    let (id, body_id) = (Id(number.to_be_bytes()), Id((number + 1).to_be_bytes()));
    let envelope = Envelope { id, body: body_id, bytes: vec![b'e'; 200].into() };
    let transaction = Transaction { body: Some((body_id, body.clone())), envelopes: vec![envelope] };
    let _durable = spool.append(transaction).await.unwrap();
    // The delete goes with a later batch and is not waited for, as in kumod.
    drop(spool.submit(vec![Change::Delete { id, bytes: vec![b'd'; 100].into() }]));
}

/// Time for `count` appends shared out among the tasks.
async fn timed(spool: &Spool, body: &Arc<Parts>, count: u64) -> Duration {
    let began = Instant::now();
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| {
            let (spool, body) = (spool.clone(), body.clone());
            let share = count / TASKS + u64::from(task < count % TASKS);
            tokio::spawn(async move {
                for _ in 0..share {
                    append_and_delete(&spool, &body).await;
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    began.elapsed()
}

fn ways(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let mut group = criterion.benchmark_group("spool_append");
    group.sample_size(10).measurement_time(Duration::from_secs(3)).throughput(Throughput::Elements(1));
    let ways = [
        ("threads-direct", Backend::Threads, WriteMode::Direct),
        ("uring-direct", Backend::Uring, WriteMode::Direct),
        ("threads-buffered", Backend::Threads, WriteMode::Buffered),
    ];
    for (name, backend, mode) in ways {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let options = Options { backend, mode, ..Options::new(folder.path()) };
        // A host may refuse io_uring; the other ways are still worth comparing.
        let Ok((spool, _)) = Spool::open(options) else {
            continue;
        };
        for body_bytes in [1_000, 100_000] {
            let body: Arc<Parts> = Arc::new(vec![vec![b'x'; body_bytes].into()]);
            group.bench_function(BenchmarkId::new(name, body_bytes), |bencher| {
                bencher.iter_custom(|count| runtime.block_on(timed(&spool, &body, count)));
            });
        }
        spool.close().unwrap();
    }
    group.finish();
}

criterion_group!(benches, ways);
criterion_main!(benches);
