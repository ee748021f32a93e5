//! The line that shows how the run goes, once a second on standard error.
//!
//! On a terminal the line is written over itself; elsewhere each second gets a line of its own. An error on
//! standard error is ignored: the run matters more than its picture.

use std::io::{IsTerminal, Write, stderr};

use traffic_gen::Second;

use crate::summary::{grouped, latency};

/// Writes over the line before it where it can.
pub(crate) struct Progress {
    terminal: bool,
    sent_before: u64,
}

impl Progress {
    pub(crate) fn new() -> Self {
        Self { terminal: stderr().is_terminal(), sent_before: 0 }
    }

    pub(crate) fn show(&mut self, second: &Second<'_>) {
        let rate = (second.sent - self.sent_before) as f64 / second.length.as_secs_f64().max(1e-9);
        self.sent_before = second.sent;
        let line = line(second, rate);
        let _ = if self.terminal { write!(stderr(), "\r\x1b[K{line}") } else { writeln!(stderr(), "{line}") };
    }

    pub(crate) fn finish(self) {
        if self.terminal {
            let _ = writeln!(stderr());
        }
    }
}

fn line(second: &Second<'_>, rate: f64) -> String {
    format!(
        "{:>5.1} s  {} msg/s  {:.2} MMH  sent {}  \
        failed {}  unknown {}  in flight {}  connections {}  p99 {}",
        (second.offset + second.length).as_secs_f64(),
        grouped(rate),
        rate * 3600.0 / 1e6,
        grouped(second.sent as f64),
        grouped(second.failed as f64),
        grouped(second.unknown as f64),
        grouped(second.in_flight as f64),
        grouped(second.connections as f64),
        latency(second.latency.value_at_quantile(0.99) as f64),
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use traffic_gen::{Phases, Window};

    use super::*;

    #[test]
    fn the_line_says_what_matters() {
        let mut histogram = reports::latency::new_histogram();
        histogram.saturating_record(1_234);
        let second = Second {
            offset: Duration::from_secs(2),
            length: Duration::from_secs(1),
            window: Window::Measured,
            latency: &histogram,
            raw: &histogram,
            lag: &histogram,
            hiccup: &histogram,
            phases: &Phases::new(),
            sent: 734_448,
            failed: 0,
            partial: 0,
            unknown: 1,
            in_flight: 64,
            connections: 64,
            due: 0,
            cpu_cores: 1.0,
            reply_codes: &BTreeMap::new(),
            errors: &BTreeMap::new(),
        };
        assert_eq!(
            line(&second, 61_204.0),
            "  3.0 s  61,204 msg/s  220.33 MMH  sent 734,448  \
             failed 0  unknown 1  in flight 64  connections 64  p99 1.23 ms"
        );
    }
}
