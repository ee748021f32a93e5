//! The statistics agree with SciPy on committed data, and keep their laws on any data.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

use proptest::prelude::*;
use reports::stats::{
    Bootstrap, Changes, Method, Random, Sample, band, fit, hodges_lehmann, holm, mann_whitney, median_of,
    median_ratio, normal_cdf, walsh_median,
};
use serde_json::Value;

/// Made by `tests/data/make_statistics.py`; names the versions that made it.
fn scipy() -> Value {
    serde_json::from_str(include_str!("data/statistics.json")).unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}

fn sample(value: &Value) -> Sample {
    Sample::new(&numbers(value)).unwrap()
}

fn assert_near(found: f64, expected: &Value, tolerance: f64, what: &str) {
    let expected = expected.as_f64().unwrap();
    let error = (found - expected).abs() / expected.abs().max(1e-300);
    assert!(error <= tolerance, "{what}: {found}, SciPy says {expected}");
}

#[test]
fn centres_and_ranks_agree_with_scipy() {
    for pair in scipy()["pairs"].as_array().unwrap() {
        let name = pair["name"].as_str().unwrap();
        let (base, head) = (sample(&pair["base"]), sample(&pair["head"]));
        assert_near(base.median(), &pair["medians"][0], 1e-12, name);
        assert_near(head.median(), &pair["medians"][1], 1e-12, name);
        for (quantile, expected) in [0.05, 0.25, 0.9].into_iter().zip(pair["quantiles"].as_array().unwrap()) {
            assert_near(base.quantile(quantile), expected, 1e-12, name);
        }
        assert_near(hodges_lehmann(&base, &head), &pair["hodges_lehmann"], 1e-9, name);
        assert_near(walsh_median(&base), &pair["walsh_median"], 1e-12, name);
        let test = mann_whitney(&base, &head);
        assert_near(test.u, &pair["u"], 1e-12, name);
        // SciPy counts where a sample has at most 8 values and no ties, as we do.
        assert_near(test.probability, &pair["p"], 1e-9, name);
        let counts = base.count().min(head.count()) <= 8 && pair["p"] != pair["p_asymptotic"];
        assert_eq!(test.is_exact, counts, "{name}");
    }
}

/// Another generator draws other samples, so the ends agree within a part of the interval's width.
#[test]
fn intervals_agree_with_scipy() {
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    for pair in scipy()["pairs"].as_array().unwrap() {
        let (base, head) = (sample(&pair["base"]), sample(&pair["head"]));
        let check = |method, expected: &Value, tolerance: f64, of: &dyn Fn(&mut [f64], &mut [f64]) -> f64| {
            let bootstrap = Bootstrap { resamples: 40_000, seed: 3, method, ..Bootstrap::default() };
            let found = bootstrap.of_two(&base, &head, |a, b| of(a, b));
            let ends = numbers(expected);
            let width = ends[1] - ends[0];
            for (found, expected) in [(found.low, ends[0]), (found.high, ends[1])] {
                let error = (found - expected).abs() / width;
                assert!(error < tolerance, "{} {method:?}: {found}, SciPy says {expected}", pair["name"]);
            }
        };
        let ratio = |base: &mut [f64], head: &mut [f64]| mean(head) / mean(base);
        check(Method::Percentile, &pair["ratio_percentile"], 0.025, &ratio);
        check(Method::BiasCorrected, &pair["ratio_bca"], 0.025, &ratio);
        let of_medians = |base: &mut [f64], head: &mut [f64]| median_of(head) / median_of(base);
        // Medians of few values jump from one to the next.
        check(Method::Percentile, &pair["median_ratio_percentile"], 0.06, &of_medians);
    }
}

#[test]
fn scaling_agrees_with_scipy() {
    for curve in scipy()["curves"].as_array().unwrap() {
        let name = curve["name"].as_str().unwrap();
        let points: Vec<(f64, f64)> =
            numbers(&curve["processors"]).into_iter().zip(numbers(&curve["rates"])).collect();
        let found = fit(&points).unwrap();
        let squares: f64 = points.iter().map(|(n, rate)| (rate - found.at(*n)).powi(2)).sum();
        // Never worse than SciPy's solution, and where the minimum is inside the bounds, the same.
        let expected = curve["squares"].as_f64().unwrap();
        assert!(squares <= expected * (1.0 + 1e-6) + 1e-12, "{name}: {squares}, SciPy reaches {expected}");
        assert_near(found.single, &curve["parameters"][0], 1e-3, name);
        for (found, expected) in [(found.contention, 1), (found.coherence, 2)] {
            let expected = curve["parameters"][expected].as_f64().unwrap();
            assert!((found - expected).abs() < 1e-4, "{name}: {found}, SciPy says {expected}");
        }
    }
}

#[test]
fn corrections_and_the_bell_curve_agree_with_scipy() {
    let scipy = scipy();
    let adjusted = holm(&numbers(&scipy["holm"]["probabilities"]));
    for (found, expected) in adjusted.into_iter().zip(scipy["holm"]["adjusted"].as_array().unwrap()) {
        assert_near(found, expected, 1e-12, "holm");
    }
    for pair in scipy["normal"].as_array().unwrap() {
        assert_near(normal_cdf(pair[0].as_f64().unwrap()), &pair[1], 1e-12, "normal");
    }
}

fn measured() -> impl Strategy<Value = Vec<f64>> {
    prop::collection::vec(0.1_f64..1000.0, 1..40)
}

proptest! {
    #[test]
    fn a_shift_moves_the_estimate_by_itself(values in measured(), shift in -50.0_f64..50.0) {
        let base = Sample::new(&values).unwrap();
        let moved: Vec<f64> = values.iter().map(|value| value + shift).collect();
        let head = Sample::new(&moved).unwrap();
        prop_assert!((hodges_lehmann(&base, &head) - shift).abs() < 1e-6);
        prop_assert!((hodges_lehmann(&base, &head) + hodges_lehmann(&head, &base)).abs() < 1e-6);
    }

    #[test]
    fn a_factor_multiplies_the_ratio(values in measured(), factor in 0.1_f64..10.0) {
        let base = Sample::new(&values).unwrap();
        let scaled: Vec<f64> = values.iter().map(|value| value * factor).collect();
        let ratio = median_ratio(&base, &Sample::new(&scaled).unwrap()).unwrap();
        prop_assert!((ratio / factor - 1.0).abs() < 1e-9);
    }

    #[test]
    fn the_rank_test_is_symmetric_and_a_probability(a in measured(), b in measured()) {
        let (a, b) = (Sample::new(&a).unwrap(), Sample::new(&b).unwrap());
        let (one, other) = (mann_whitney(&a, &b), mann_whitney(&b, &a));
        prop_assert!((one.probability - other.probability).abs() < 1e-9);
        prop_assert!((0.0..=1.0).contains(&one.probability));
        prop_assert!((one.u + other.u - (a.count() * b.count()) as f64).abs() < 1e-9);
    }

    #[test]
    fn intervals_are_ordered_and_within_the_values(values in measured(), seed in any::<u64>()) {
        let sample = Sample::new(&values).unwrap();
        let (least, most) = (sample.quantile(0.0), sample.quantile(1.0));
        for method in [Method::Percentile, Method::BiasCorrected] {
            let bootstrap = Bootstrap { resamples: 200, seed, method, ..Bootstrap::default() };
            let found = bootstrap.of_one(&sample, median_of);
            prop_assert!(least <= found.low && found.low <= found.high && found.high <= most);
        }
    }

    #[test]
    fn correction_never_helps_and_keeps_the_order(probabilities in prop::collection::vec(0.0_f64..1.0, 0..20)) {
        let adjusted = holm(&probabilities);
        for (index, one) in probabilities.iter().enumerate() {
            prop_assert!(adjusted[index] >= *one && adjusted[index] <= 1.0);
            for (other_index, other) in probabilities.iter().enumerate() {
                prop_assert!(one > other || adjusted[index] <= adjusted[other_index]);
            }
        }
    }

    #[test]
    fn change_points_are_inside_and_ascend(series in prop::collection::vec(0.0_f64..100.0, 0..60)) {
        let found = Changes { permutations: 49, probability_max: 0.1, ..Changes::default() }.find(&series);
        prop_assert!(found.windows(2).all(|pair| pair[0].index < pair[1].index));
        prop_assert!(found.iter().all(|point| point.index >= 2 && point.index + 2 <= series.len()));
    }

    #[test]
    fn a_fit_is_never_negative_and_its_band_is_ordered(
        rates in prop::collection::vec(0.1_f64..1e6, 4..9),
        seed in any::<u64>(),
    ) {
        let points: Vec<(f64, f64)> = rates.iter().zip(1_u32..).map(|(rate, n)| (f64::from(n), *rate)).collect();
        let found = fit(&points).unwrap();
        prop_assert!(found.single > 0.0 && found.contention >= 0.0 && found.coherence >= 0.0);
        for place in band(&points, &[1.0, 20.0], 0.95, 20, seed).unwrap() {
            prop_assert!(place.low <= place.high && place.low >= 0.0 && place.high.is_finite());
        }
    }

    #[test]
    fn any_order_of_a_shuffle_keeps_the_values(mut values in prop::collection::vec(any::<u8>(), 0..50), seed in any::<u64>()) {
        let mut shuffled = values.clone();
        Random::new(seed).shuffle(&mut shuffled);
        shuffled.sort_unstable();
        values.sort_unstable();
        prop_assert_eq!(values, shuffled);
    }
}

/// What the gate promises, on made-up runs: 10 pairs with a spread of 2 %, judged by the interval of the ratio of medians.
#[test]
fn intervals_hold_the_truth_about_as_often_as_they_say() {
    let mut random = Random::new(11);
    let mut draw = |centre: f64| {
        let bell: f64 = (0..12).map(|_| random.unit()).sum::<f64>() - 6.0;
        centre * (1.0 + 0.02 * bell)
    };
    let rounds = 400;
    let held = (0..rounds).filter(|round| {
        let base: Vec<f64> = (0..10).map(|_| draw(100.0)).collect();
        let head: Vec<f64> = (0..10).map(|_| draw(105.0)).collect();
        let bootstrap =
            Bootstrap { resamples: 400, seed: *round, method: Method::Percentile, ..Bootstrap::default() };
        let found = bootstrap.of_two(&Sample::new(&base).unwrap(), &Sample::new(&head).unwrap(), |a, b| {
            median_of(b) / median_of(a)
        });
        found.low <= 1.05 && 1.05 <= found.high
    });
    let share = held.count() as f64 / rounds as f64;
    assert!((0.90..=1.0).contains(&share), "{share}");
}
