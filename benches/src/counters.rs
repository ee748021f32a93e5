//! What happened on the machine while a run was measured: time taken away, other programs, waits for memory, heat.
//!
//! It owns the reading of `/proc/stat`, `/proc/pressure/memory` and the throttle counters of `/sys`, and the names under which
//! their growth goes into a run. [`reports::disturbance`] judges it. It refuses nothing: what a host does not count is left out.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Instant;

use reports::run::counter;
use reports::sample::ProcessSampler;

/// What the host had counted at one moment.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    at: Instant,
    /// Seconds that all processors worked for programs and for the kernel in their name.
    busy_s: Option<f64>,
    steal_s: Option<f64>,
    memory_stall_s: Option<f64>,
    throttles: Option<f64>,
    /// Seconds that the laboratory itself used.
    laboratory_s: f64,
}

impl Moment {
    /// Now, on this machine.
    pub fn now() -> Self {
        Self::below(Path::new("/"))
    }

    fn below(root: &Path) -> Self {
        let stat = fs::read_to_string(root.join("proc/stat")).unwrap_or_default();
        let pressure = fs::read_to_string(root.join("proc/pressure/memory")).unwrap_or_default();
        let own = ProcessSampler::read(std::process::id(), root);
        Self {
            at: Instant::now(),
            busy_s: processor_s(&stat, &[0, 1, 2]),
            steal_s: processor_s(&stat, &[7]),
            memory_stall_s: stall_s(&pressure),
            throttles: throttles(&root.join("sys/devices/system/cpu")),
            laboratory_s: own.map_or(0.0, |sample| sample.cpu_s()),
        }
    }

    /// Counters of the time from `self` to `later`, in which the programs under measurement used `programs_s` seconds of
    /// processor time.
    pub fn until(&self, later: &Self, programs_s: f64) -> BTreeMap<String, f64> {
        let grown = |before: Option<f64>, after: Option<f64>| Some((after? - before?).max(0.0));
        let ours_s = programs_s + (later.laboratory_s - self.laboratory_s);
        let foreign_s = grown(self.busy_s, later.busy_s).map(|busy_s| (busy_s - ours_s).max(0.0));
        let observed_s = later.at.saturating_duration_since(self.at).as_secs_f64();
        let all = [
            (counter::OBSERVED_S, foreign_s.map(|_| observed_s)),
            (counter::STEAL_S, grown(self.steal_s, later.steal_s)),
            (counter::FOREIGN_CPU_S, foreign_s),
            (counter::MEMORY_STALL_S, grown(self.memory_stall_s, later.memory_stall_s)),
            (counter::THERMAL_THROTTLES, grown(self.throttles, later.throttles)),
        ];
        all.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
    }
}

/// Seconds in some fields of the first line of `/proc/stat` (proc(5): user nice system idle iowait irq softirq steal).
/// Interrupts are left out: the kernel bills those of loopback to nobody, so they would look like another program's.
fn processor_s(stat: &str, fields: &[usize]) -> Option<f64> {
    let all = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let all: Vec<u64> = all.split_ascii_whitespace().filter_map(|field| field.parse().ok()).collect();
    let ticks: Option<u64> = fields.iter().map(|field| all.get(*field).copied()).sum();
    Some(ticks? as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// Seconds in which all tasks waited for memory (`full ... total=MICROSECONDS`).
fn stall_s(pressure: &str) -> Option<f64> {
    let full = pressure.lines().find_map(|line| line.strip_prefix("full "))?;
    let total = full.split(' ').find_map(|field| field.strip_prefix("total="))?;
    total.parse::<u64>().ok().map(|us| us as f64 / 1e6)
}

/// Throttle events of all cores; `None` where the processor does not count them.
fn throttles(processors: &Path) -> Option<f64> {
    let counts = fs::read_dir(processors).ok()?.flatten().filter_map(|processor| {
        let path = processor.path().join("thermal_throttle/core_throttle_count");
        fs::read_to_string(path).ok()?.trim().parse::<u64>().ok()
    });
    counts.fold(None, |sum, count| Some(sum.unwrap_or(0.0) + count as f64))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    fn host(root: &Path, stat: &str, stall_us: u64, throttles: u64) -> Moment {
        let core = root.join("sys/devices/system/cpu/cpu0/thermal_throttle");
        fs::create_dir_all(&core).unwrap();
        fs::create_dir_all(root.join("proc/pressure")).unwrap();
        fs::write(core.join("core_throttle_count"), format!("{throttles}\n")).unwrap();
        fs::write(root.join("proc/stat"), format!("cpu  {stat}\ncpu0 1 1 1\n")).unwrap();
        let line = "avg10=0.00 avg60=0.00 avg300=0.00 total=";
        let pressure = format!("some {line}9\nfull {line}{stall_us}\n");
        fs::write(root.join("proc/pressure/memory"), pressure).unwrap();
        Moment::below(root)
    }

    #[test]
    fn growth_is_counted_and_own_work_is_not_foreign() {
        let root = tempfile::tempdir().unwrap();
        let ticks = rustix::param::clock_ticks_per_second();
        let first = host(root.path(), "0 0 0 0 0 0 0 0 0 0", 1_000_000, 3);
        let stat =
            format!("{} {} {} 77 77 {} 77 {} 0 0", 5 * ticks, ticks, 2 * ticks, 900 * ticks, 4 * ticks);
        let last = host(root.path(), &stat, 3_500_000, 5);
        let found = first.until(&last, 6.0);
        assert_eq!(found[counter::STEAL_S], 4.0);
        assert_eq!(
            found[counter::FOREIGN_CPU_S],
            2.0,
            "8 s of work, 6 of them ours; interrupts are not counted"
        );
        assert_eq!(found[counter::MEMORY_STALL_S], 2.5);
        assert_eq!(found[counter::THERMAL_THROTTLES], 2.0);
    }

    #[test]
    fn what_a_host_does_not_count_is_left_out() {
        let nothing = Moment::below(Path::new("/nowhere"));
        assert!(nothing.until(&nothing, 0.0).is_empty());
    }

    #[test]
    fn this_host_counts_processor_time() {
        assert!(Moment::now().busy_s.is_some_and(|busy_s| busy_s > 0.0));
    }
}
