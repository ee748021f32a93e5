//! One metric of one cell: its numbers, its interval and its verdict.
//!
//! It owns the arithmetic of a row. It refuses to take logarithms of what is not above 0: such a row has no interval, and as
//! a gate it is undecided, unless both sides are 0 throughout.

use super::pairs::Cell;
use super::{Options, Row, Verdict};
use crate::metrics::{Better, Metric};
use crate::stats::{Interval, Sample, hodges_lehmann, mann_whitney, median_of, median_ratio, walsh_median};

/// The row of a metric; `None` where one side does not have it.
pub(super) fn row(cell: &Cell<'_>, metric: &'static Metric, options: &Options) -> Option<Row> {
    let (base, head) = values(cell, metric)?;
    let estimate = ratio_interval(cell.is_paired, &base, &head, options);
    let differences =
        || -> Vec<f64> { head.values().iter().zip(base.values()).map(|(h, b)| h - b).collect() };
    let shift = if cell.is_paired {
        Sample::new(&differences()).map_or(0.0, |differences| walsh_median(&differences))
    } else {
        hodges_lehmann(&base, &head)
    };
    let ratio = if cell.is_paired { paired_ratio(&base, &head) } else { median_ratio(&base, &head) };
    Some(Row {
        cell: cell.name.clone(),
        metric: metric.name,
        title: metric.title,
        unit: metric.unit,
        is_gate: options.gates.iter().any(|gate| gate.name == metric.name),
        base_runs: base.count(),
        head_runs: head.count(),
        is_paired: cell.is_paired,
        base: base.median(),
        head: head.median(),
        ratio,
        shift,
        ratio_shift: estimate.map(|interval| interval.estimate),
        low: estimate.map(|interval| interval.low),
        high: estimate.map(|interval| interval.high),
        probability: mann_whitney(&base, &head).probability,
        corrected: None,
        verdict: None,
        reason: None,
    })
}

/// Values of both sides; of a pair either both count or none.
fn values(cell: &Cell<'_>, metric: &Metric) -> Option<(Sample, Sample)> {
    let of = |runs: &[&crate::run::Run]| runs.iter().map(|run| metric.of(run)).collect::<Vec<_>>();
    let (base, head) = (of(&cell.base), of(&cell.head));
    let (base, head): (Vec<f64>, Vec<f64>) = if cell.is_paired {
        base.into_iter().zip(head).filter_map(|(base, head)| Some((base?, head?))).unzip()
    } else {
        (base.into_iter().flatten().collect(), head.into_iter().flatten().collect())
    };
    Some((Sample::new(&base).ok()?, Sample::new(&head).ok()?))
}

fn paired_ratio(base: &Sample, head: &Sample) -> Option<f64> {
    let pairs = base.values().iter().zip(head.values());
    let mut ratios: Vec<f64> =
        pairs.filter(|(base, _)| **base > 0.0).map(|(base, head)| head / base).collect();
    (ratios.len() == base.count()).then(|| median_of(&mut ratios))
}

/// The ratio that fits best and its interval, by logarithms, so that half and double are equally far from 1.
fn ratio_interval(is_paired: bool, base: &Sample, head: &Sample, options: &Options) -> Option<Interval> {
    let all = || base.values().iter().chain(head.values());
    if all().all(|value| *value == 0.0) {
        return Some(Interval { estimate: 1.0, low: 1.0, high: 1.0 });
    }
    if all().any(|value| *value <= 0.0) {
        return None;
    }
    let logarithms = |sample: &Sample| sample.values().iter().map(|value| value.ln()).collect::<Vec<_>>();
    let (base, head) = (logarithms(base), logarithms(head));
    let found = if is_paired {
        let ratios: Vec<f64> = head.iter().zip(&base).map(|(head, base)| head - base).collect();
        options.bootstrap.of_one(&Sample::new(&ratios).ok()?, |drawn| walsh(drawn))
    } else {
        options
            .bootstrap
            .of_two(&Sample::new(&base).ok()?, &Sample::new(&head).ok()?, |base, head| shift(base, head))
    };
    Some(Interval { estimate: found.estimate.exp(), low: found.low.exp(), high: found.high.exp() })
}

fn walsh(drawn: &[f64]) -> f64 {
    Sample::new(drawn).map_or(f64::NAN, |sample| walsh_median(&sample))
}

fn shift(base: &[f64], head: &[f64]) -> f64 {
    match (Sample::new(base), Sample::new(head)) {
        (Ok(base), Ok(head)) => hodges_lehmann(&base, &head),
        _ => f64::NAN,
    }
}

/// The judgement of a gate, and why where it is undecided.
pub(super) fn verdict(row: &Row, corrected: f64, options: &Options) -> (Verdict, Option<String>) {
    let runs = row.base_runs.min(row.head_runs);
    let needed = options.runs_min.max(2);
    if runs < needed {
        return (Verdict::Undecided, Some(format!("{runs} usable runs, {needed} are needed")));
    }
    let (Some(low), Some(high)) = (row.low, row.high) else {
        return (Verdict::Undecided, Some("some values are 0, so there is no ratio".to_owned()));
    };
    let smaller_is_better = Metric::named(row.metric).is_none_or(|metric| metric.better == Better::Smaller);
    // How many times worse, at best and at worst.
    let (best, worst) = if smaller_is_better { (low, high) } else { (1.0 / high, 1.0 / low) };
    // A cost that grows by half and a rate that shrinks by half are not the same: the one is half again, the other doubles the time.
    let limit = if smaller_is_better { 1.0 + options.limit } else { 1.0 / (1.0 - options.limit).max(0.0) };
    if worst <= limit {
        return (Verdict::Ok, None);
    }
    if best > limit && corrected < options.probability_max {
        return (Verdict::Regression, None);
    }
    let reason =
        if best > limit { "the rank test does not agree" } else { "the interval reaches over the limit" };
    (Verdict::Undecided, Some(reason.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is said of an interval that lies close around `ratio`, ten runs a side, without doubt.
    fn said(metric: &'static str, ratio: f64, limit: f64) -> Verdict {
        let row = Row {
            cell: String::new(),
            metric,
            title: "",
            unit: "",
            is_gate: true,
            base_runs: 10,
            head_runs: 10,
            is_paired: true,
            base: 1.0,
            head: ratio,
            ratio: Some(ratio),
            shift: ratio - 1.0,
            ratio_shift: Some(ratio),
            low: Some(ratio * 0.999),
            high: Some(ratio * 1.001),
            probability: 0.0,
            corrected: Some(0.0),
            verdict: None,
            reason: None,
        };
        verdict(&row, 0.0, &Options { limit, ..Options::default() }).0
    }

    #[test]
    fn a_rate_may_shrink_and_a_cost_may_grow_by_the_limit_and_no_more() {
        for (metric, ratio, limit, wanted) in [
            ("mmh", 0.56, 0.45, Verdict::Ok),
            ("mmh", 0.54, 0.45, Verdict::Regression),
            ("mmh", 2.0, 0.45, Verdict::Ok),
            ("mmh", 0.01, 1.0, Verdict::Ok),
            ("mmh", 0.97, 0.02, Verdict::Regression),
            ("cpu", 1.44, 0.45, Verdict::Ok),
            ("cpu", 1.46, 0.45, Verdict::Regression),
            ("cpu", 0.5, 0.0, Verdict::Ok),
        ] {
            assert_eq!(said(metric, ratio, limit), wanted, "{metric} {ratio} {limit}");
        }
    }
}
