//! The line that shows how the run goes, once a second on standard error.
//!
//! On a terminal the line is written over itself; elsewhere each second gets a line of its own. An error on
//! standard error is ignored: the run matters more than its picture.

use std::io::{IsTerminal, Write, stderr};

use traffic_gen::Window;

use crate::outputs::sample::Sample;
use crate::summary::{grouped, latency};

/// Writes over the line before it where it can.
pub(crate) struct Progress {
    terminal: bool,
}

impl Progress {
    pub(crate) fn new() -> Self {
        Self { terminal: stderr().is_terminal() }
    }

    pub(crate) fn show(&mut self, sample: &Sample) {
        let line = line(sample);
        let _ = if self.terminal { write!(stderr(), "\r\x1b[K{line}") } else { writeln!(stderr(), "{line}") };
    }

    /// Writes a line that stays.
    pub(crate) fn say(&mut self, text: &str) {
        let start = if self.terminal { "\r\x1b[K" } else { "" };
        let _ = writeln!(stderr(), "{start}{text}");
    }

    pub(crate) fn finish(self) {
        if self.terminal {
            let _ = writeln!(stderr());
        }
    }
}

fn line(sample: &Sample) -> String {
    let window = match sample.window {
        Window::WarmUp => "  warm-up",
        Window::Measured => "",
        Window::Drain => "  drain",
    };
    format!(
        "{:>5.1} s  {} msg/s  {:.2} MMH  sent {}  \
        failed {}  unknown {}  in flight {}  connections {}  p99 {}{window}",
        sample.offset_s + sample.length_s,
        grouped(sample.rate_per_s),
        sample.rate_per_s * 3600.0 / 1e6,
        grouped(sample.sent as f64),
        grouped(sample.failed as f64),
        grouped(sample.unknown as f64),
        grouped(sample.in_flight as f64),
        grouped(sample.connections as f64),
        latency(sample.latency.p99_us),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_says_what_matters() {
        let mut sample = Sample { sent: 734_448, unknown: 1, rate_per_s: 61_204.0, ..Sample::example() };
        (sample.latency.p99_us, sample.window) = (1_234.0, Window::Measured);
        let said = "  3.0 s  61,204 msg/s  220.33 MMH  sent 734,448  \
             failed 0  unknown 1  in flight 64  connections 64  p99 1.23 ms";
        assert_eq!(line(&sample), said);
        sample.window = Window::Drain;
        assert_eq!(line(&sample), format!("{said}  drain"));
    }
}
