//! The summary that a person reads when the run is over.

use std::fmt::Write;

use traffic_gen::Report;

/// Quantiles of the latency table, with their names.
const QUANTILES: [(&str, f64); 7] = [
    ("p50", 0.5),
    ("p75", 0.75),
    ("p90", 0.9),
    ("p95", 0.95),
    ("p99", 0.99),
    ("p99.9", 0.999),
    ("p99.99", 0.9999),
];

/// The whole summary, with a line end.
pub(crate) fn text(report: &Report) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{name:<12}{value}");
    };
    line(
        "run",
        format!("{} to {} (seed {})", report.run_id, report.target, report.seed),
    );
    line("sent", grouped(report.sent as f64));
    line("failed", grouped(report.failed as f64));
    line("unknown", grouped(report.unknown as f64));
    if report.unsent() > 0 {
        line("not begun", grouped(report.unsent() as f64));
    }
    if report.behind > 0 {
        line(
            "behind",
            format!(
                "{} messages were due and never begun",
                grouped(report.behind as f64)
            ),
        );
    }
    line(
        "connections",
        format!(
            "{} opened, {} lost",
            grouped(report.connections as f64),
            grouped(report.connections_lost as f64)
        ),
    );
    line("elapsed", format!("{:.3} s", report.elapsed_s));
    let per_second = |count: u64| {
        if report.elapsed_s > 0.0 {
            count as f64 / report.elapsed_s
        } else {
            0.0
        }
    };
    line(
        "rate",
        format!(
            "{} msg/s, {:.2} MMH, {:.1} MB/s",
            grouped(per_second(report.sent)),
            report.mmh,
            per_second(report.bytes) / 1e6
        ),
    );
    if report.sent > 0 {
        let measured = if report.rate_per_s.is_some() {
            "from the intended time"
        } else {
            "from MAIL"
        };
        line(
            "latency",
            format!("{measured} to the final reply of accepted messages"),
        );
        for (name, quantile) in QUANTILES {
            line(
                "",
                format!(
                    "{name:<8}{:>10}",
                    latency(report.latency.value_at_quantile(quantile) as f64)
                ),
            );
        }
        line(
            "",
            format!("{:<8}{:>10}", "max", latency(report.latency.max() as f64)),
        );
    }
    for (code, count) in report.reply_codes.iter().filter(|(code, _)| **code != 250) {
        line("reply", format!("{code}: {}", grouped(*count as f64)));
    }
    for (kind, count) in &report.errors {
        line("error", format!("{kind}: {}", grouped(*count as f64)));
    }
    if report.interrupted {
        line("ended", "by a signal".to_owned());
    }
    text
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
    fn numbers_are_easy_to_read() {
        assert_eq!(
            [0.0, 999.0, 1_000.4, 1_234_567.0].map(grouped),
            ["0", "999", "1,000", "1,234,567"]
        );
        assert_eq!(
            [0.0, 950.0, 1_250.0, 12_340.0, 123_400.0, 61_000_000.0].map(latency),
            ["0 us", "950 us", "1.25 ms", "12.3 ms", "123 ms", "61.00 s"]
        );
    }
}
