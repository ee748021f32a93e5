//! Everything that the spool counts, under names of metrics. All of them begin with `spool_`.

use spool::{Latencies, Stats};

use crate::metrics::{LATENCY_BUCKETS_SECONDS, Sample};
use crate::ports::MailStore;
use crate::store::LocalStore;

/// Upper bounds of the buckets for the records of a batch.
const BATCH_RECORDS_BUCKETS: [f64; 8] = [1.0, 2.0, 4.0, 16.0, 64.0, 256.0, 1024.0, 4096.0];
/// Upper bounds of the buckets for the bytes of a batch: from one block to what makes a batch of its own.
const BATCH_BYTES_BUCKETS: [f64; 8] =
    [4096.0, 16_384.0, 65_536.0, 262_144.0, 1_048_576.0, 4_194_304.0, 16_777_216.0, 67_108_864.0];

/// Reads all of them.
pub(super) fn of(store: &LocalStore) -> Vec<Sample> {
    let stats = store.stats();
    let mut samples = written(&stats);
    samples.extend(kept(&stats));
    samples.extend(trouble(&stats, store.orphans()));
    samples.extend(distributions(&store.latencies()));
    let takes_mail = i64::from(store.refusal().is_none());
    samples.push(Sample::gauge(
        "spool_takes_mail",
        "1 while new mail is taken, 0 while it is refused",
        takes_mail,
    ));
    samples.extend(in_force(&stats));
    samples
}

fn gauge(name: &'static str, help: &'static str, value: u64) -> Sample {
    Sample::gauge(name, help, i64::try_from(value).unwrap_or(i64::MAX))
}

/// What was written, and how.
fn written(stats: &Stats) -> Vec<Sample> {
    vec![
        Sample::counter("spool_appends_total", "Transactions appended to the spool", stats.appends),
        Sample::counter("spool_records_total", "Records the spool wrote, copies included", stats.records),
        Sample::counter(
            "spool_changes_skipped_total",
            "Changes to messages that were settled already",
            stats.changes_skipped,
        ),
        Sample::counter("spool_barriers_total", "Durable writes and syncs of the spool", stats.barriers),
        Sample::counter(
            "spool_bytes_written_total",
            "Bytes the spool wrote, padding included",
            stats.bytes_written,
        ),
        Sample::counter("spool_batches_total", "Batches the spool wrote", stats.batches),
        Sample::counter("spool_segments_made_total", "Segment files made anew", stats.segments_made),
        Sample::counter("spool_segments_recycled_total", "Segment files used again", stats.segments_recycled),
        Sample::counter(
            "spool_compactions_total",
            "Segments that compaction went through",
            stats.compactions,
        ),
        Sample::counter(
            "spool_compacted_bytes_total",
            "Bytes of living records that compaction wrote again",
            stats.compacted_bytes,
        ),
    ]
}

/// What there is now.
fn kept(stats: &Stats) -> Vec<Sample> {
    vec![
        gauge("spool_messages", "Messages in the spool", stats.messages),
        gauge("spool_live_bytes", "Bytes of records that are still needed", stats.live_bytes),
        gauge("spool_dead_bytes", "Bytes in segments in use that nothing needs any more", stats.dead_bytes),
        gauge("spool_segments", "Segment files in use", stats.segments),
        gauge("spool_segments_spare", "Segment files ready to be written to", stats.segments_spare),
        gauge("spool_deferred_messages", "Messages that are in memory only", stats.deferred_messages),
        gauge("spool_deferred_bytes", "Bytes of messages that are in memory only", stats.deferred_bytes),
        gauge("spool_free_bytes", "Bytes free on the spool's file system", stats.free_bytes),
        gauge("spool_free_inodes", "Inodes free on the spool's file system", stats.free_inodes),
    ]
}

/// What is not as it should be.
fn trouble(stats: &Stats, orphans: u64) -> Vec<Sample> {
    vec![
        Sample::counter("spool_damaged_total", "Records set aside as damaged", stats.damaged),
        Sample::counter("spool_torn_total", "Writes cut short by a crash, found at start", stats.torn),
        Sample::counter(
            "spool_orphans_total",
            "Envelopes set aside at start because their body is gone",
            orphans,
        ),
        Sample::counter(
            "spool_segments_poisoned_total",
            "Segments given up after a failed write",
            stats.segments_poisoned,
        ),
    ]
}

fn distributions(latencies: &Latencies) -> Vec<Sample> {
    let Latencies { append_us, barrier_us, batch_records, batch_bytes } = latencies;
    let seconds = |value: u64| value as f64 / 1e6;
    let plain = |value: u64| value as f64;
    let append = append_us.iter_recorded().map(|at| (seconds(at.value_iterated_to()), at.count_at_value()));
    let barrier = barrier_us.iter_recorded().map(|at| (seconds(at.value_iterated_to()), at.count_at_value()));
    let records =
        batch_records.iter_recorded().map(|at| (plain(at.value_iterated_to()), at.count_at_value()));
    let bytes = batch_bytes.iter_recorded().map(|at| (plain(at.value_iterated_to()), at.count_at_value()));
    let bounds = &LATENCY_BUCKETS_SECONDS;
    vec![
        Sample::distribution(
            "spool_append_latency_seconds",
            "Time from an append to its being as safe as the durability says",
            bounds,
            append,
        ),
        Sample::distribution(
            "spool_barrier_latency_seconds",
            "Time from handing a batch to the kernel to its answer",
            bounds,
            barrier,
        ),
        Sample::distribution("spool_batch_records", "Records in a batch", &BATCH_RECORDS_BUCKETS, records),
        Sample::distribution(
            "spool_batch_bytes",
            "Bytes of a batch, padding included",
            &BATCH_BYTES_BUCKETS,
            bytes,
        ),
    ]
}

/// How it writes, and what it promises.
fn in_force(stats: &Stats) -> Vec<Sample> {
    let durability = stats.durability;
    vec![
        Sample::gauge("spool_info", "How the spool writes", 1)
            .label("backend", stats.backend)
            .label("mode", stats.mode)
            .label("durability", durability.name())
            .label("file_system", stats.file_system.clone())
            .label("fallback_reason", stats.fallback_reason.clone().unwrap_or_default()),
        Sample::gauge("spool_durability", "What a 250 promises", 1)
            .label("name", durability.name())
            .label("promise", durability.promise()),
    ]
}
