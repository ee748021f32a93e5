//! The ceiling of the machine: the least of what its disk, its sockets and its processors allow.
//!
//! A model, and an optimistic one: a message comes in over one connection, is stored once, and goes out over another; its
//! bytes are passed over four times (copied and read, in and out); nothing else costs anything. A mail server
//! that stores each message durably stays below it, as long as nobody disturbed the probes; how far below is what there is
//! to gain.

use reports::machine::{Ceiling, Resource};

use super::{DiskPoint, LoopbackPoint};

/// Times that a message crosses a socket.
const CROSSINGS: f64 = 2.0;
/// Times that its bytes are passed over.
const PASSES: f64 = 4.0;

pub(super) fn ceilings(
    disk: &[DiskPoint],
    loopback: &[LoopbackPoint],
    pass_bytes_per_s: f64,
    cores: f64,
) -> Vec<Ceiling> {
    let ceiling = |sockets: &LoopbackPoint| {
        let of_size = disk.iter().filter(|point| point.body_bytes == sockets.body_bytes);
        let best = of_size.max_by(|left, right| left.per_s.total_cmp(&right.per_s))?;
        let passes_us = PASSES * sockets.body_bytes as f64 / pass_bytes_per_s * 1e6;
        let each_us = CROSSINGS * sockets.processor_us + best.processor_us + passes_us;
        let rates = [
            (Resource::Disk, best.per_s),
            (Resource::Loopback, sockets.per_s / CROSSINGS),
            (Resource::Processor, cores * 1e6 / each_us),
        ];
        let mmh = |rate: f64| rate * 3600.0 / 1e6;
        let (set_by, least) = rates.into_iter().min_by(|left, right| left.1.total_cmp(&right.1))?;
        Some(Ceiling {
            body_bytes: sockets.body_bytes as u64,
            mmh: mmh(least),
            set_by,
            disk_mmh: mmh(rates[0].1),
            loopback_mmh: mmh(rates[1].1),
            processor_mmh: mmh(rates[2].1),
        })
    };
    loopback.iter().filter_map(ceiling).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(writers: usize, per_s: f64) -> DiskPoint {
        DiskPoint {
            body_bytes: 1000,
            writers,
            per_s,
            bytes_per_s: per_s * 1000.0,
            latency_us: reports::run::Latency::default(),
            batch: 1.0,
            processor_us: 10.0,
            backend: "uring",
        }
    }

    fn set_by(disk_per_s: f64, loopback_per_s: f64, loopback_us: f64) -> Resource {
        let sockets = [LoopbackPoint { body_bytes: 1000, per_s: loopback_per_s, processor_us: loopback_us }];
        ceilings(&[disk(1, 10.0), disk(64, disk_per_s)], &sockets, 1e9, 2.0)[0].set_by
    }

    #[test]
    fn the_scarcest_resource_sets_the_ceiling() {
        assert_eq!(set_by(1000.0, 100_000.0, 5.0), Resource::Disk);
        assert_eq!(set_by(90_000.0, 100_000.0, 5.0), Resource::Loopback);
        assert_eq!(set_by(90_000.0, 900_000.0, 50.0), Resource::Processor);
    }

    #[test]
    fn a_message_crosses_two_sockets_and_costs_the_sum() {
        let sockets = [LoopbackPoint { body_bytes: 1000, per_s: 100_000.0, processor_us: 18.0 }];
        let found = &ceilings(&[disk(64, 1e6)], &sockets, 1e9, 2.0)[0];
        // 2 x 18 for sockets, 10 for the disk, 4 for the passes: 50 microseconds of two processors.
        assert!((found.processor_mmh - 144.0).abs() < 1e-6, "{found:?}");
        assert!((found.loopback_mmh - 180.0).abs() < 1e-6, "{found:?}");
        assert!((found.mmh - 144.0).abs() < 1e-6, "{found:?}");
    }
}
