//! The summary that a person reads when the run is over.

use std::fmt::Write;

use hdrhistogram::Histogram;
use traffic_gen::Report;
use traffic_gen::threshold::Outcome;

use crate::agents::merge::Part;

/// Quantiles of the latency table, with their names.
const QUANTILES: [(&str, f64); 8] = [
    ("p50", 0.5),
    ("p75", 0.75),
    ("p90", 0.9),
    ("p95", 0.95),
    ("p99", 0.99),
    ("p99.9", 0.999),
    ("p99.99", 0.9999),
    ("max", 1.0),
];

/// The whole summary, with a line end.
pub(crate) fn text(report: &Report) -> String {
    let mut lines = Lines::default();
    lines.add("run", &format!("{} to {} (seed {})", report.run_id, report.target, report.seed));
    lines.count("sent", report.sent);
    lines.count("failed", report.failed);
    lines.count_if("partial", report.partial);
    lines.count("unknown", report.unknown);
    lines.count_if("not begun", report.unsent());
    lines.count_if("due, not begun", report.behind);
    let number = |number: u64| grouped(number as f64);
    let (opened, lost) = (number(report.connections), number(report.connections_lost));
    lines.add("connections", &format!("{opened} opened, {lost} lost"));
    lines.add("elapsed", &format!("{:.3} s", report.elapsed_s));
    lines.add("rate", &rate(report));
    for reason in &report.generator_limited {
        lines.add("limited", &format!("by the generator: {reason}"));
    }
    latencies(report, &mut lines);
    phases(report, &mut lines);
    let hiccup = latency(report.hiccup_us.p99);
    let (used, cores) = (report.cpu_cores, report.cores);
    lines.add("generator", &format!("{used:.2} of {cores} cores, hiccups p99 {hiccup}"));
    for (code, count) in report.reply_codes.iter().filter(|(code, _)| **code != 250) {
        lines.add("reply", &format!("{code}: {}", number(*count)));
    }
    for (kind, count) in &report.errors {
        lines.add("error", &format!("{kind}: {}", number(*count)));
    }
    if report.interrupted {
        lines.add("ended", "by a signal");
    }
    lines.0
}

fn rate(report: &Report) -> String {
    let length_s = report.measured.length_s;
    let per_second = |count: u64| if length_s > 0.0 { count as f64 / length_s } else { 0.0 };
    let megabytes = per_second(report.measured.bytes) / 1e6;
    let mmh = match report.mmh {
        Some(mmh) => format!("{mmh:.2} MMH"),
        None => "MMH withdrawn".to_owned(),
    };
    format!("{} msg/s, {mmh}, {megabytes:.1} MB/s", grouped(per_second(report.measured.accepted)))
}

/// The table of percentiles; in an open loop with the raw latency and the lag beside it.
fn latencies(report: &Report, lines: &mut Lines) {
    if report.sent == 0 {
        return;
    }
    let has_schedule = !report.lag.is_empty();
    let from = if has_schedule { "from the intended time" } else { "from MAIL" };
    lines.add("latency", &format!("{from} to the final reply of accepted messages"));
    let mut columns: Vec<&Histogram<u64>> = vec![&report.latency];
    if has_schedule {
        columns.extend([&report.raw, &report.lag]);
        lines.add("", &format!("{:<8}{:>10}{:>12}{:>12}", "", "latency", "from MAIL", "lag"));
    }
    for (name, quantile) in QUANTILES {
        let mut line = format!("{name:<8}");
        for (index, histogram) in columns.iter().enumerate() {
            let width = if index == 0 { 10 } else { 12 };
            let value = latency(histogram.value_at_quantile(quantile) as f64);
            // Writing to a String cannot fail.
            let _ = write!(line, "{value:>width$}");
        }
        lines.add("", &line);
    }
}

/// How long each step took, where that is known.
fn phases(report: &Report, lines: &mut Lines) {
    let mut name = "phases";
    for (phase, times) in &report.phases_us {
        let [p50, p99, max] = [times.p50, times.p99, times.max].map(latency);
        lines.add(name, &format!("{phase:<10} p50 {p50:>8}  p99 {p99:>8}  max {max:>8}"));
        name = "";
    }
}

/// The agents and their parts, one a line; nothing where there is none.
pub(crate) fn parts(parts: &[Part]) -> String {
    let mut lines = Lines::default();
    for part in parts {
        let (offset_us, uncertainty_us) =
            (part.clock.offset_ns as f64 / 1e3, part.clock.uncertainty_ns as f64 / 1e3);
        let did = match &part.lost {
            Some(why) => format!("LOST with {} messages begun: {why}", grouped(part.unknown as f64)),
            None => format!("sent {}", grouped(part.sent as f64)),
        };
        let clock = format!("clock off by {offset_us:.0} us, give or take {uncertainty_us:.0}");
        lines.add("agent", &format!("{}  {did}  ({clock})", part.address));
    }
    lines.0
}

/// The table of thresholds, one a line; nothing where there is none.
pub(crate) fn thresholds(outcomes: &[Outcome]) -> String {
    let mut lines = Lines::default();
    let width = outcomes.iter().map(|outcome| outcome.threshold.chars().count()).max().unwrap_or(0);
    for outcome in outcomes {
        let measured = match (outcome.measured, outcome.unit) {
            (None, _) => "nothing measured".to_owned(),
            (Some(measured), "us") => latency(measured),
            (Some(measured), "%") => format!("{measured:.3} %"),
            (Some(measured), "MMH") => format!("{measured:.2} MMH"),
            (Some(measured), unit) => format!("{} {unit}", grouped(measured)),
        };
        let verdict = if outcome.met { "met" } else { "MISSED" };
        lines.add("threshold", &format!("{:<width$}  {verdict:<6}  {measured}", outcome.threshold));
    }
    lines.0
}

/// Names in one column, values in the next.
#[derive(Default)]
struct Lines(String);

impl Lines {
    fn add(&mut self, name: &str, value: &str) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.0, "{name:<16}{value}");
    }

    fn count(&mut self, name: &str, count: u64) {
        self.add(name, &grouped(count as f64));
    }

    fn count_if(&mut self, name: &str, count: u64) {
        if count > 0 {
            self.count(name, count);
        }
    }
}

/// A whole number with commas between thousands.
pub(crate) fn grouped(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Microseconds with three digits and the unit that fits.
pub(crate) fn latency(microseconds: f64) -> String {
    match microseconds {
        us if us < 1e3 => format!("{us:.0} us"),
        us if us < 1e4 => format!("{:.2} ms", us / 1e3),
        us if us < 1e5 => format!("{:.1} ms", us / 1e3),
        us if us < 1e6 => format!("{:.0} ms", us / 1e3),
        us => format!("{:.2} s", us / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_are_a_table_with_what_was_measured() {
        let outcome = |threshold: &str, measured, unit, met| Outcome {
            threshold: threshold.to_owned(),
            measured,
            unit,
            met,
        };
        let text = thresholds(&[
            outcome("p99<50ms", Some(61_200.0), "us", false),
            outcome("errors<0.1%", Some(0.0), "%", true),
            outcome("lag<5ms", None, "us", false),
        ]);
        assert_eq!(
            text,
            "threshold       p99<50ms     MISSED  61.2 ms\n\
             threshold       errors<0.1%  met     0.000 %\n\
             threshold       lag<5ms      MISSED  nothing measured\n"
        );
        assert_eq!(thresholds(&[]), "");
    }

    #[test]
    fn numbers_are_easy_to_read() {
        assert_eq!([0.0, 999.0, 1_000.4, 1_234_567.0].map(grouped), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(
            [0.0, 950.0, 1_250.0, 12_340.0, 123_400.0, 61_000_000.0].map(latency),
            ["0 us", "950 us", "1.25 ms", "12.3 ms", "123 ms", "61.00 s"]
        );
    }
}
