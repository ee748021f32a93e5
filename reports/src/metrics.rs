//! What is compared, followed over time and exported: one list of numbers that a run has.
//!
//! It owns their names, units and which way is better. It refuses nothing; a number that a run does not have is `None`.

use crate::run::{Latency, Run, counter};

/// Which way is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Better {
    /// Costs and latencies.
    Smaller,
    /// Rates.
    Larger,
}

/// A number that a run has.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// The name on the command line and in exports.
    pub name: &'static str,
    /// What it is, in words.
    pub title: &'static str,
    /// Its unit; empty for plain counts.
    pub unit: &'static str,
    /// Which way is better.
    pub better: Better,
    /// Whether a comparison fails because of it unless told otherwise: costs that hardly depend on the load or the disk.
    pub is_gate: bool,
    of: fn(&Run) -> Option<f64>,
}

impl Metric {
    /// The value of a run; `None` where it was not measured.
    pub fn of(&self, run: &Run) -> Option<f64> {
        (self.of)(run).filter(|value| value.is_finite())
    }

    /// The metric of that name.
    pub fn named(name: &str) -> Option<&'static Self> {
        ALL.iter().find(|metric| metric.name == name)
    }

    /// The same for a command line.
    ///
    /// # Errors
    /// The names that there are.
    pub fn parse(name: &str) -> Result<&'static Self, String> {
        Self::named(name).ok_or_else(|| {
            let names: Vec<&str> = ALL.iter().map(|metric| metric.name).collect();
            format!("no such metric; there are {}", names.join(", "))
        })
    }
}

/// A limit of a command line: percent, with or without the sign.
///
/// # Errors
/// What is expected.
pub fn parse_percent(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').unwrap_or(text).trim().parse::<f64>();
    let percent = number.ok().filter(|percent| (0.0..=1000.0).contains(percent));
    percent.ok_or_else(|| "a percentage from 0 to 1000 is expected".to_owned())
}

const fn cost(
    name: &'static str,
    title: &'static str,
    unit: &'static str,
    of: fn(&Run) -> Option<f64>,
) -> Metric {
    Metric { name, title, unit, better: Better::Smaller, is_gate: false, of }
}

const fn gate(
    name: &'static str,
    title: &'static str,
    unit: &'static str,
    of: fn(&Run) -> Option<f64>,
) -> Metric {
    Metric { is_gate: true, ..cost(name, title, unit, of) }
}

/// The name of the processor time of the relay in units of that of generator and sink. On a shared host the same work takes
/// ten percent more or less time from one minute to the next, for all programs alike; generator and sink, the same
/// programs in all runs of a comparison, are the clock that slows down with it.
pub const CPU_RELATIVE: &str = "cpu_relative";

/// The name of the processor time of the relay in microseconds.
pub const CPU: &str = "cpu";

/// All metrics, in the order in which tables show them.
pub const ALL: [Metric; 16] = [
    gate(CPU_RELATIVE, "CPU of the relay, relative", "×", cpu_relative),
    cost(CPU, "CPU of the relay", "µs/msg", |run| run.cpu_us_per_message(run.processes.kumod)),
    gate("instructions", "Instructions of the relay", "/msg", |run| counted(run, counter::INSTRUCTIONS)),
    gate("syscalls", "System calls of the relay", "/msg", |run| counted(run, counter::SYSCALLS)),
    gate("allocations", "Allocations of the relay", "/msg", |run| counted(run, counter::ALLOCATIONS)),
    cost("cpu_all", "CPU of all programs", "µs/msg", cpu_all),
    cost("switches", "Context switches of the relay", "/msg", |run| counted(run, counter::CONTEXT_SWITCHES)),
    cost("barriers", "Waits for stable storage", "/msg", Run::barriers_per_message),
    cost("written", "Bytes written by the relay", "B/msg", written),
    cost("memory", "Peak resident set of the relay", "B", |run| {
        run.processes.kumod.map(|used| used.rss_peak_bytes as f64)
    }),
    Metric {
        better: Better::Larger,
        ..cost("mmh", "Delivered", "MMH", |run| (run.delivered > 0).then_some(run.mmh_delivered))
    },
    cost("inject_p50", "Until the 250, p50", "µs", |run| inject(run, |latency| latency.p50)),
    cost("inject_p99", "Until the 250, p99", "µs", |run| inject(run, |latency| latency.p99)),
    cost("p50", "End to end, p50", "µs", |run| end_to_end(run, |latency| latency.p50)),
    cost("p99", "End to end, p99", "µs", |run| end_to_end(run, |latency| latency.p99)),
    cost("p99_9", "End to end, p99.9", "µs", |run| end_to_end(run, |latency| latency.p99_9)),
];

fn counted(run: &Run, name: &str) -> Option<f64> {
    let count = run.counters.get(name)?;
    (run.delivered > 0).then(|| count / run.delivered as f64)
}

fn cpu_relative(run: &Run) -> Option<f64> {
    let used = &run.processes;
    let pair_s = used.sink?.cpu_s + used.traffic_gen?.cpu_s;
    (run.delivered > 0 && pair_s > 0.0).then_some(used.kumod?.cpu_s / pair_s)
}

fn cpu_all(run: &Run) -> Option<f64> {
    let used = &run.processes;
    let all = [used.kumod, used.sink, used.traffic_gen];
    let seconds: f64 = all.iter().flatten().map(|used| used.cpu_s).sum();
    (run.delivered > 0 && seconds > 0.0).then(|| seconds * 1e6 / run.delivered as f64)
}

fn written(run: &Run) -> Option<f64> {
    let used = run.processes.kumod?;
    (run.delivered > 0).then(|| used.write_bytes as f64 / run.delivered as f64)
}

fn inject(run: &Run, of: fn(&Latency) -> f64) -> Option<f64> {
    run.latency_us.inject.as_ref().map(of)
}

fn end_to_end(run: &Run, of: fn(&Latency) -> f64) -> Option<f64> {
    run.latency_us.end_to_end.as_ref().map(of)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::ProcessUse;

    #[test]
    fn costs_are_per_delivered_message() {
        let mut run = Run { delivered: 1000, barriers: Some(14), ..Run::default() };
        run.processes.kumod =
            Some(ProcessUse { cpu_s: 0.05, write_bytes: 2_000_000, ..ProcessUse::default() });
        run.counters.insert(counter::SYSCALLS.into(), 7500.0);
        for (name, expected) in [("cpu", 50.0), ("syscalls", 7.5), ("written", 2000.0), ("barriers", 0.014)] {
            assert_eq!(Metric::named(name).unwrap().of(&run), Some(expected), "{name}");
        }
        assert_eq!(Metric::named("allocations").unwrap().of(&run), None);
        assert_eq!(Metric::named(CPU_RELATIVE).unwrap().of(&run), None, "without a clock there is no time");
        run.processes.sink = Some(ProcessUse { cpu_s: 0.01, ..ProcessUse::default() });
        run.processes.traffic_gen = Some(ProcessUse { cpu_s: 0.015, ..ProcessUse::default() });
        assert_eq!(Metric::named(CPU_RELATIVE).unwrap().of(&run), Some(2.0));
        assert!(Metric::named("speed").is_none());
        run.delivered = 0;
        assert!(ALL.iter().filter(|metric| metric.name != "memory").all(|metric| metric.of(&run).is_none()));
    }

    #[test]
    fn names_are_unique() {
        let mut names: Vec<&str> = ALL.iter().map(|metric| metric.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ALL.len());
    }
}
