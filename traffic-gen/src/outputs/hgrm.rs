//! The percentile spectrum of a run as text, in the form that HdrHistogram's tools print and plot.
//!
//! Values are in milliseconds with three decimals, which is every microsecond; a comment at the end says so.
//! An empty histogram has a head and a foot and no points.

use std::io::{self, Write};

use hdrhistogram::Histogram;

/// Points per halving of the distance to 100 %, as HdrHistogram's own tools have them.
const TICKS_PER_HALVING: u32 = 5;

const MICROSECONDS_PER_MILLISECOND: f64 = 1_000.0;

/// Writes the spectrum of a histogram of microseconds.
pub(crate) fn write(mut file: impl Write, histogram: &Histogram<u64>) -> io::Result<()> {
    write!(file, "{:>12} {:>14} {:>10} {:>14}\n\n", "Value", "Percentile", "TotalCount", "1/(1-Percentile)")?;
    let mut seen = 0;
    let points = (!histogram.is_empty()).then(|| histogram.iter_quantiles(TICKS_PER_HALVING));
    for point in points.into_iter().flatten() {
        seen += point.count_since_last_iteration();
        let value = milliseconds(point.value_iterated_to() as f64);
        let quantile = point.quantile_iterated_to();
        if quantile < 1.0 {
            writeln!(file, "{value:12.3} {quantile:.12} {seen:>10} {:14.2}", 1.0 / (1.0 - quantile))?;
        } else {
            writeln!(file, "{value:12.3} {quantile:.12} {seen:>10}")?;
        }
    }
    foot(file, histogram)
}

fn foot(mut file: impl Write, histogram: &Histogram<u64>) -> io::Result<()> {
    let (mean, deviation) = (milliseconds(histogram.mean()), milliseconds(histogram.stdev()));
    let (max, count) = (milliseconds(histogram.max() as f64), histogram.len());
    let (buckets, parts) = (histogram.buckets(), 2 * 10_u64.pow(histogram.sigfig().into()));
    writeln!(file, "#[Mean    = {mean:12.3}, StdDeviation   = {deviation:12.3}]")?;
    writeln!(file, "#[Max     = {max:12.3}, Total count    = {count:>12}]")?;
    writeln!(file, "#[Buckets = {buckets:>12}, SubBuckets     = {:>12}]", parts.next_power_of_two())?;
    writeln!(file, "#[Unit    = milliseconds]")?;
    file.flush()
}

fn milliseconds(microseconds: f64) -> f64 {
    microseconds / MICROSECONDS_PER_MILLISECOND
}

#[cfg(test)]
mod tests {
    use reports::latency::{new_histogram, record_ns};

    use super::*;

    fn text(histogram: &Histogram<u64>) -> String {
        let mut file = Vec::new();
        write(&mut file, histogram).unwrap();
        String::from_utf8(file).unwrap()
    }

    #[test]
    fn every_point_is_a_percentile_of_the_histogram() {
        let mut histogram = new_histogram();
        (1..=10_000_u64).for_each(|number| record_ns(&mut histogram, number * number * 1_000));
        let text = text(&histogram);
        let points: Vec<Vec<f64>> = text
            .lines()
            .skip(2)
            .filter(|line| !line.starts_with('#'))
            .map(|line| line.split_whitespace().map(|word| word.parse().unwrap()).collect())
            .collect();
        assert!(points.len() > 50, "{text}");
        for point in &points {
            let (value_ms, quantile, seen) = (point[0], point[1], point[2]);
            // The quantile was rounded to twelve decimals, which at a step may be just beside it.
            let at = |quantile: f64| histogram.value_at_quantile(quantile) as f64;
            let value_us = value_ms * 1_000.0;
            assert!((at(quantile - 1e-9)..=at(quantile + 1e-9)).contains(&value_us), "{quantile}");
            let below =
                histogram.iter_recorded().filter(|value| value.value_iterated_to() as f64 <= value_us);
            assert_eq!(seen, below.map(|value| value.count_at_value()).sum::<u64>() as f64, "{quantile}");
        }
        let last = points.last().unwrap();
        assert_eq!((last[1], last[2], last.len()), (1.0, 10_000.0, 3));
    }

    #[test]
    fn head_and_foot_are_those_of_the_tools() {
        let mut histogram = new_histogram();
        histogram.saturating_record(1_500);
        let text = text(&histogram);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "       Value     Percentile TotalCount 1/(1-Percentile)");
        assert_eq!(lines[1], "");
        assert_eq!(lines[2], "       1.500 0.000000000000          1           1.00");
        assert!(lines.contains(&"       1.500 1.000000000000          1"), "{text}");
        assert!(text.contains("#[Max     =        1.500, Total count    =            1]"), "{text}");
        assert!(text.contains("SubBuckets     =         2048]"), "{text}");
        assert!(text.ends_with("#[Unit    = milliseconds]\n"));
    }

    #[test]
    fn nothing_has_no_points() {
        assert_eq!(text(&new_histogram()).lines().count(), 6);
    }
}
