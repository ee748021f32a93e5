//! Whether the figures of a run say more about the generator than about the server.
//!
//! Owns the thresholds and the words. What is judged is what the generator's own threads, its host and its
//! schedule show; a server that is slow, and a machine that is full because the server works on it too, are
//! no reason. In a closed loop the generator takes whatever processor time the server leaves, so hiccups and
//! lag say nothing there; in an open loop they are time that would be taken for the server's.

use hdrhistogram::Histogram;

/// Share of all processors that the threads that send may use. Over it the server's machine may have been
/// idle while messages waited for us.
const CORES_SHARE_MAX: f64 = 0.90;

/// Share of one processor that one thread may use. Its connections wait for it from then on.
const THREAD_SHARE_MAX: f64 = 0.95;

/// How late one message in a hundred may begin although a connection stood ready, in microseconds.
const OWN_LAG_P99_US_MAX: u64 = 10_000;

/// How long the host may keep a thread from running at one look in a hundred, in microseconds.
const HICCUP_P99_US_MAX: u64 = 10_000;

/// Seconds of figures below which processor time is not judged.
const JUDGED_S_MIN: f64 = 1.0;

/// Values below which a 99th percentile is not judged.
const JUDGED_VALUES_MIN: u64 = 100;

/// What is known about the generator of a run.
pub(crate) struct Evidence<'a> {
    pub(crate) open_loop: bool,
    /// Seconds over which processor time was looked at.
    pub(crate) looked_s: f64,
    /// Processors that each thread that sends kept busy.
    pub(crate) threads: &'a [f64],
    /// Processors that this process may use.
    pub(crate) cores: usize,
    pub(crate) own_lag: &'a Histogram<u64>,
    pub(crate) hiccup: &'a Histogram<u64>,
    pub(crate) connections_asked: usize,
    pub(crate) connections_allowed: usize,
    /// Connections that found no local port.
    pub(crate) without_port: u64,
    /// Connections that found no file or memory.
    pub(crate) without_file: u64,
}

/// Why the figures are the generator's; empty where they are the server's. Each is a clause without a full
/// stop.
pub(crate) fn reasons(evidence: &Evidence<'_>) -> Vec<String> {
    let mut reasons = Vec::new();
    processors(evidence, &mut reasons);
    if evidence.open_loop {
        let late = [
            (evidence.own_lag, OWN_LAG_P99_US_MAX, "messages began late although a connection stood ready"),
            (evidence.hiccup, HICCUP_P99_US_MAX, "the host kept the generator from running"),
        ];
        for (histogram, limit_us, what) in late {
            let p99_us = histogram.value_at_quantile(0.99);
            if histogram.len() >= JUDGED_VALUES_MIN && p99_us > limit_us {
                let (p99_ms, limit_ms) = (p99_us as f64 / 1e3, limit_us as f64 / 1e3);
                reasons.push(format!("{what}: {p99_ms:.1} ms at the 99th percentile, over {limit_ms:.0} ms"));
            }
        }
    }
    connections(evidence, &mut reasons);
    reasons
}

fn processors(evidence: &Evidence<'_>, reasons: &mut Vec<String>) {
    if evidence.looked_s < JUDGED_S_MIN {
        return;
    }
    let (used, cores): (f64, f64) = (evidence.threads.iter().sum(), evidence.cores as f64);
    if used > CORES_SHARE_MAX * cores {
        let percent = CORES_SHARE_MAX * 100.0;
        reasons.push(format!("its threads used {used:.2} of {cores} processors, over {percent:.0} %"));
    }
    let busiest = evidence.threads.iter().copied().fold(0.0, f64::max);
    if busiest > THREAD_SHARE_MAX {
        let (busy, percent) = (busiest * 100.0, THREAD_SHARE_MAX * 100.0);
        reasons.push(format!("one of its threads was busy {busy:.0} % of the time, over {percent:.0} %"));
    }
}

fn connections(evidence: &Evidence<'_>, reasons: &mut Vec<String>) {
    let Evidence { connections_asked: asked, connections_allowed: allowed, .. } = evidence;
    if allowed < asked {
        reasons.push(format!("the host allows {allowed} of {asked} connections"));
    }
    let lacking = [(evidence.without_port, "local port"), (evidence.without_file, "file or memory")];
    for (connections, what) in lacking.into_iter().filter(|(connections, _)| *connections > 0) {
        reasons.push(format!("the host had no {what} for {connections} connections"));
    }
}

#[cfg(test)]
mod tests {
    use reports::latency::new_histogram;

    use super::*;

    struct Case {
        open_loop: bool,
        looked_s: f64,
        threads: [f64; 2],
        own_lag_us: u64,
        hiccup_us: u64,
        asked: usize,
        without_port: u64,
        without_file: u64,
    }

    /// As good as a run can be that is not limited by the generator: everything at its limit.
    const GOOD: Case = Case {
        open_loop: true,
        looked_s: 10.0,
        threads: [0.85, 0.95],
        own_lag_us: 9_990,
        hiccup_us: 9_990,
        asked: 10,
        without_port: 0,
        without_file: 0,
    };

    fn found(case: &Case) -> Vec<String> {
        let values = |us| {
            let mut histogram = new_histogram();
            (0..JUDGED_VALUES_MIN).for_each(|_| histogram.saturating_record(us));
            histogram
        };
        reasons(&Evidence {
            open_loop: case.open_loop,
            looked_s: case.looked_s,
            threads: &case.threads,
            cores: 2,
            own_lag: &values(case.own_lag_us),
            hiccup: &values(case.hiccup_us),
            connections_asked: case.asked,
            connections_allowed: 10,
            without_port: case.without_port,
            without_file: case.without_file,
        })
    }

    #[test]
    fn each_threshold_has_its_reason() {
        let cases = [
            (Case { threads: [0.9, 0.94], ..GOOD }, "its threads used 1.84 of 2 processors, over 90 %"),
            (
                Case { threads: [0.1, 0.96], ..GOOD },
                "one of its threads was busy 96 % of the time, over 95 %",
            ),
            (
                Case { own_lag_us: 20_000, ..GOOD },
                "messages began late although a connection stood ready: 20.0 ms at the 99th percentile, over 10 ms",
            ),
            (
                Case { hiccup_us: 30_000, ..GOOD },
                "the host kept the generator from running: 30.0 ms at the 99th percentile, over 10 ms",
            ),
            (Case { asked: 11, ..GOOD }, "the host allows 10 of 11 connections"),
            (Case { without_port: 3, ..GOOD }, "the host had no local port for 3 connections"),
            (Case { without_file: 4, ..GOOD }, "the host had no file or memory for 4 connections"),
        ];
        assert_eq!(found(&GOOD), Vec::<String>::new());
        for (case, reason) in cases {
            assert_eq!(found(&case), [reason]);
        }
    }

    #[test]
    fn a_full_machine_is_no_reason_in_a_closed_loop() {
        let full = Case { own_lag_us: 1_000_000, hiccup_us: 1_000_000, ..GOOD };
        assert_eq!(found(&full).len(), 2);
        assert!(found(&Case { open_loop: false, ..full }).is_empty());
    }

    #[test]
    fn a_run_that_is_too_short_is_not_judged_by_processor_time() {
        assert!(found(&Case { looked_s: 0.9, threads: [1.0, 1.0], ..GOOD }).is_empty());
    }
}
