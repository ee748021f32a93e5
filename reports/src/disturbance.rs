//! Whether somebody else was at work while a run was measured.
//!
//! It owns the limits beyond which a number is thrown away. It refuses to judge what was not counted: a run without
//! such counters is taken as it is.

use crate::run::{Run, counter};

/// The largest share of the processors' time that the host may take away.
pub const STEAL_SHARE_MAX: f64 = 0.02;

/// The largest share of the processors' time that programs outside the laboratory may use.
pub const FOREIGN_SHARE_MAX: f64 = 0.05;

/// The largest share of the run in which all tasks may wait for memory at once.
pub const MEMORY_STALL_SHARE_MAX: f64 = 0.01;

/// What disturbed a run on a machine with so many processors, one sentence each; empty for a quiet run.
pub fn disturbances(run: &Run, processors: f64) -> Vec<String> {
    let mut found = Vec::new();
    let counted = |name: &str| run.counters.get(name).copied().unwrap_or(0.0);
    // A run of two seconds may have been watched for four, while programs started and mail drained.
    let watched_s =
        run.counters.get(counter::OBSERVED_S).copied().unwrap_or(run.elapsed_s).max(run.elapsed_s);
    let time_s = watched_s * processors;
    let percent = |share: f64| format!("{:.1} %", share * 100.0);
    if time_s > 0.0 {
        let stolen = counted(counter::STEAL_S) / time_s;
        if stolen > STEAL_SHARE_MAX {
            found.push(format!("the host took {} of the processors' time away", percent(stolen)));
        }
        let foreign = counted(counter::FOREIGN_CPU_S) / time_s;
        if foreign > FOREIGN_SHARE_MAX {
            found.push(format!("other programs used {} of the processors' time", percent(foreign)));
        }
    }
    if watched_s > 0.0 {
        let stalled = counted(counter::MEMORY_STALL_S) / watched_s;
        if stalled > MEMORY_STALL_SHARE_MAX {
            found.push(format!("all tasks waited for memory for {} of the run", percent(stalled)));
        }
    }
    let throttled = counted(counter::THERMAL_THROTTLES);
    if throttled > 0.0 {
        found.push(format!("the processors were slowed down {throttled:.0} times because of heat"));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_limit_has_its_sentence() {
        let mut run = Run { elapsed_s: 10.0, ..Run::default() };
        assert!(disturbances(&run, 2.0).is_empty());
        run.counters.insert(counter::STEAL_S.into(), 0.39);
        run.counters.insert(counter::FOREIGN_CPU_S.into(), 0.99);
        run.counters.insert(counter::MEMORY_STALL_S.into(), 0.09);
        assert!(disturbances(&run, 2.0).is_empty());
        run.counters.insert(counter::STEAL_S.into(), 0.5);
        run.counters.insert(counter::FOREIGN_CPU_S.into(), 1.2);
        run.counters.insert(counter::MEMORY_STALL_S.into(), 0.2);
        run.counters.insert(counter::THERMAL_THROTTLES.into(), 3.0);
        let found = disturbances(&run, 2.0);
        assert_eq!(found.len(), 4, "{found:?}");
        assert!(found[0].contains("2.5 %"), "{found:?}");
        run.counters.insert(counter::OBSERVED_S.into(), 30.0);
        assert_eq!(disturbances(&run, 2.0).len(), 1, "only the heat: the rest is little for half a minute");
    }
}
