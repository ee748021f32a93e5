//! How large bodies are.
//!
//! A distribution becomes a list of sizes with their weights before the run, and each message chooses one of
//! them. A continuous distribution is cut into parts of equal probability and each part gives one size, its
//! mean. So the sizes of a run have the distribution's mean, its quantiles to one part, and need no luck:
//! chance only decides how often each of them is chosen. A body of one byte becomes one of two, because DATA
//! can only carry whole lines.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::plan::{BODY_BYTES_MAX, ContentError};
use crate::parse;

/// Bodies made of one size, unless the operator says otherwise.
const BODIES_OF_ONE_SIZE: usize = 256;

/// Bodies made of a distribution, unless the operator says otherwise.
const BODIES_OF_MANY_SIZES: usize = 1_000;

/// Different sizes in one list.
const LIST_MAX: usize = 1_000;

/// The largest deviation of a lognormal distribution; beyond it the largest body is all there is.
const SIGMA_MAX: f64 = 4.0;

/// Points at which a part of a distribution is looked at for its mean.
const POINTS_PER_PART: usize = 64;

/// Bytes of CRLF, with which every body ends that is not empty.
const LINE_END_BYTES: usize = 2;

/// What a distribution may look like, for refusals.
const EXAMPLES: &str = "60kb, uniform:1k-100k, lognormal:25k:1.2 (median and sigma), \
    list:2k:60,20k:30,200k:10 (sizes and weights) or corpus:FOLDER";

/// The sizes of the bodies of one run, in bytes after the empty line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum SizeDistribution {
    /// All alike.
    Fixed(usize),
    /// Every size between the two, both included, alike.
    Uniform {
        /// The smallest.
        min: usize,
        /// The largest.
        max: usize,
    },
    /// The logarithm of the size has a normal distribution.
    LogNormal {
        /// Half of the bodies are smaller.
        median: usize,
        /// The standard deviation of the natural logarithm, from 0 to 4.
        sigma: f64,
    },
    /// Some sizes, each with its weight.
    List(Vec<(usize, f64)>),
}

impl SizeDistribution {
    /// The sizes of the bodies to make, with the weight of each.
    pub(super) fn sizes(&self, bodies: Option<usize>) -> Result<Vec<(usize, f64)>, ContentError> {
        if self.largest() > BODY_BYTES_MAX {
            return Err(ContentError::TooLarge(self.largest()));
        }
        let mut sizes = self.parts(bodies);
        sizes.iter_mut().filter(|(bytes, _)| *bytes == 1).for_each(|(bytes, _)| *bytes = LINE_END_BYTES);
        Ok(sizes)
    }

    fn parts(&self, bodies: Option<usize>) -> Vec<(usize, f64)> {
        let many = bodies.unwrap_or(BODIES_OF_MANY_SIZES).max(1);
        match self {
            Self::Fixed(bytes) => vec![(*bytes, 1.0); bodies.unwrap_or(BODIES_OF_ONE_SIZE)],
            Self::Uniform { min, max } => {
                let (min, max) = (*min, (*max).max(*min));
                // Every size is there where that takes no more bodies; it is exact then.
                let parts = many.min(max - min + 1);
                let size = |part: f64| min as f64 - 0.5 + part * (max - min + 1) as f64;
                (0..parts).map(|part| (rounded(size((part as f64 + 0.5) / parts as f64)), 1.0)).collect()
            }
            Self::LogNormal { median, sigma } => {
                let size = |below: f64| *median as f64 * (sigma * normal_quantile(below)).exp();
                (0..many).map(|part| (rounded(mean_of_part(part, many, size)), 1.0)).collect()
            }
            Self::List(sizes) => {
                let each = (many / sizes.len().max(1)).max(1);
                let bodies = |(bytes, weight): &(usize, f64)| vec![(*bytes, weight / each as f64); each];
                sizes.iter().flat_map(bodies).collect()
            }
        }
    }

    /// The largest size that was named.
    fn largest(&self) -> usize {
        match self {
            Self::Fixed(bytes) | Self::LogNormal { median: bytes, .. } => *bytes,
            Self::Uniform { min, max } => *min.max(max),
            Self::List(sizes) => sizes.iter().map(|(bytes, _)| *bytes).max().unwrap_or(0),
        }
    }
}

/// The mean of `quantile` over one of so many parts of equal probability.
fn mean_of_part(part: usize, parts: usize, quantile: impl Fn(f64) -> f64) -> f64 {
    let points = (parts * POINTS_PER_PART) as f64;
    let below = |point: usize| ((part * POINTS_PER_PART + point) as f64 + 0.5) / points;
    (0..POINTS_PER_PART).map(|point| quantile(below(point))).sum::<f64>() / POINTS_PER_PART as f64
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "sizes are not negative, and a cast from a float stays at the bounds"
)]
fn rounded(bytes: f64) -> usize {
    (bytes.round() as usize).min(BODY_BYTES_MAX)
}

/// The value below which a standard normal variable lies with that probability. Peter Acklam's rational
/// approximation; its relative error is below 1.2e-9.
fn normal_quantile(below: f64) -> f64 {
    const A: [f64; 6] = [
        -3.969_683_028_665_376e1,
        2.209_460_984_245_205e2,
        -2.759_285_104_469_687e2,
        1.383_577_518_672_69e2,
        -3.066_479_806_614_716e1,
        2.506_628_277_459_239,
    ];
    const B: [f64; 6] = [
        -5.447_609_879_822_406e1,
        1.615_858_368_580_409e2,
        -1.556_989_798_598_866e2,
        6.680_131_188_771_972e1,
        -1.328_068_155_288_572e1,
        1.0,
    ];
    const C: [f64; 6] = [
        -7.784_894_002_430_293e-3,
        -3.223_964_580_411_365e-1,
        -2.400_758_277_161_838,
        -2.549_732_539_343_734,
        4.374_664_141_464_968,
        2.938_163_982_698_783,
    ];
    const D: [f64; 5] = [
        7.784_695_709_041_462e-3,
        3.224_671_290_700_398e-1,
        2.445_134_137_142_996,
        3.754_408_661_907_416,
        1.0,
    ];
    const TAIL: f64 = 0.02425;
    let polynomial =
        |factors: &[f64], value: f64| factors.iter().fold(0.0, |sum, factor| sum * value + factor);
    let tail = |below: f64| {
        let value = (-2.0 * below.ln()).sqrt();
        polynomial(&C, value) / polynomial(&D, value)
    };
    if below < TAIL {
        tail(below)
    } else if below > 1.0 - TAIL {
        -tail(1.0 - below)
    } else {
        let centre = below - 0.5;
        let square = centre * centre;
        centre * polynomial(&A, square) / polynomial(&B, square)
    }
}

impl FromStr for SizeDistribution {
    type Err = String;

    /// Reads `SIZE`, `fixed:SIZE`, `uniform:MIN-MAX`, `lognormal:MEDIAN:SIGMA` or `list:SIZE:WEIGHT,…`.
    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, rest) = text.split_once(':').unwrap_or(("fixed", text));
        let unknown = || format!("{text:?} is no distribution of sizes; write it like {EXAMPLES}");
        match kind {
            "fixed" => size(rest).map(Self::Fixed),
            "uniform" => {
                let (min, max) = rest.split_once('-').ok_or_else(unknown)?;
                let (min, max) = (size(min)?, size(max)?);
                if min > max {
                    return Err(format!("{text:?} ends before it begins; write it like uniform:1k-100k"));
                }
                Ok(Self::Uniform { min, max })
            }
            "lognormal" => {
                let (median, sigma) = rest.split_once(':').ok_or_else(unknown)?;
                let deviation = sigma.parse().ok().filter(|sigma| (0.0..=SIGMA_MAX).contains(sigma));
                let refused = || {
                    format!(
                        "{sigma:?} is no sigma; write the standard deviation of the natural logarithm, from \
                         0 to {SIGMA_MAX}, like lognormal:25k:1.2"
                    )
                };
                Ok(Self::LogNormal { median: size(median)?, sigma: deviation.ok_or_else(refused)? })
            }
            "list" => list(rest).map(Self::List),
            _ => Err(unknown()),
        }
    }
}

fn list(text: &str) -> Result<Vec<(usize, f64)>, String> {
    let sizes: Vec<(usize, f64)> = text.split(',').map(size_and_weight).collect::<Result<_, _>>()?;
    if sizes.len() > LIST_MAX {
        return Err(format!("a list of {} sizes is too long; {LIST_MAX} are allowed", sizes.len()));
    }
    Ok(sizes)
}

fn size_and_weight(item: &str) -> Result<(usize, f64), String> {
    let (bytes, weight) = item.split_once(':').unwrap_or((item, "1"));
    let good = weight.parse().ok().filter(|weight: &f64| weight.is_finite() && *weight > 0.0);
    let refused = || format!("{weight:?} is no weight; write a number above 0, like list:2k:60,20k:40");
    Ok((size(bytes)?, good.ok_or_else(refused)?))
}

fn size(text: &str) -> Result<usize, String> {
    let size = parse::size(text).map_err(|error| error.to_string())?;
    if size > BODY_BYTES_MAX { Err(ContentError::TooLarge(size).to_string()) } else { Ok(size) }
}

impl fmt::Display for SizeDistribution {
    /// As it is read.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(bytes) => write!(formatter, "{bytes}"),
            Self::Uniform { min, max } => write!(formatter, "uniform:{min}-{max}"),
            Self::LogNormal { median, sigma } => write!(formatter, "lognormal:{median}:{sigma}"),
            Self::List(sizes) => {
                for (number, (bytes, weight)) in sizes.iter().enumerate() {
                    write!(formatter, "{}{bytes}:{weight}", if number == 0 { "list:" } else { "," })?;
                }
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sizes(text: &str, bodies: usize) -> Vec<(usize, f64)> {
        text.parse::<SizeDistribution>().unwrap().sizes(Some(bodies)).unwrap()
    }

    fn mean(sizes: &[(usize, f64)]) -> f64 {
        let weights: f64 = sizes.iter().map(|(_, weight)| weight).sum();
        sizes.iter().map(|(bytes, weight)| *bytes as f64 * weight).sum::<f64>() / weights
    }

    #[test]
    fn distributions_are_read_as_people_write_them() {
        let list = SizeDistribution::List(vec![(2_000, 60.0), (20_000, 30.0), (200_000, 10.0)]);
        for (text, meant) in [
            ("60kb", SizeDistribution::Fixed(60_000)),
            ("fixed:1KiB", SizeDistribution::Fixed(1_024)),
            ("uniform:1k-100k", SizeDistribution::Uniform { min: 1_000, max: 100_000 }),
            ("lognormal:25k:1.2", SizeDistribution::LogNormal { median: 25_000, sigma: 1.2 }),
            ("list:2k:60,20k:30,200k:10", list),
            ("list:7", SizeDistribution::List(vec![(7, 1.0)])),
        ] {
            assert_eq!(text.parse(), Ok(meant), "{text}");
        }
    }

    #[test]
    fn what_is_none_is_refused_with_the_rule() {
        for (text, rule) in [
            ("60 parrots", "64KiB"),
            ("normal:1k:2", "lognormal:25k:1.2"),
            ("uniform:1k", "uniform:1k-100k"),
            ("uniform:2k-1k", "ends before it begins"),
            ("lognormal:25k", "lognormal:25k:1.2"),
            ("lognormal:25k:-1", "from 0 to 4"),
            ("lognormal:25k:NaN", "from 0 to 4"),
            ("list:", "64KiB"),
            ("list:2k:0", "above 0"),
            ("list:2k:inf", "above 0"),
            ("uniform:1-1GB", "are allowed"),
        ] {
            let refused = text.parse::<SizeDistribution>().unwrap_err();
            assert!(refused.contains(rule), "{text}: {refused}");
        }
    }

    #[test]
    fn a_uniform_distribution_has_every_size_or_the_middle_of_every_part() {
        let all: Vec<usize> = sizes("uniform:10-19", 100).into_iter().map(|(bytes, _)| bytes).collect();
        assert_eq!(all, (10..=19).collect::<Vec<_>>());
        let parts = sizes("uniform:1000-100999", 100);
        assert_eq!((parts[0].0, parts[1].0, parts[99].0), (1_500, 2_500, 100_500));
        assert!((mean(&parts) - 50_999.5).abs() < 1.0, "{}", mean(&parts));
    }

    #[test]
    fn a_lognormal_distribution_has_its_median_its_mean_and_its_tail() {
        let parts = sizes("lognormal:25k:1.2", 1_000);
        let share_below = |bytes: f64| parts.iter().filter(|(size, _)| (*size as f64) < bytes).count();
        assert_eq!(share_below(25_000.0), 500);
        // One deviation above the median lie 15.87 of a hundred, two above 2.275.
        assert_eq!(share_below(25_000.0 * 1.2f64.exp()), 841);
        assert_eq!(share_below(25_000.0 * 2.4f64.exp()), 977);
        let exact = 25_000.0 * (1.2f64 * 1.2 / 2.0).exp();
        assert!((mean(&parts) / exact - 1.0).abs() < 0.003, "{} of {exact}", mean(&parts));
        assert!(sizes("lognormal:25k:0", 10).iter().all(|(bytes, _)| *bytes == 25_000));
    }

    #[test]
    fn a_list_has_its_weights_however_many_bodies_there_are() {
        for bodies in [1, 3, 10, 1_000] {
            let list = sizes("list:2k:60,20k:30,200k:10", bodies);
            let weight = |bytes| list.iter().filter(|size| size.0 == bytes).map(|size| size.1).sum::<f64>();
            for (bytes, expected) in [(2_000, 60.0), (20_000, 30.0), (200_000, 10.0)] {
                assert!((weight(bytes) - expected).abs() < 1e-9, "{bodies} bodies: {}", weight(bytes));
            }
        }
    }

    #[test]
    fn quantiles_are_those_of_the_tables() {
        for (below, expected) in
            [(0.5, 0.0), (0.975, 1.959_963_985), (0.025, -1.959_963_985), (0.999, 3.090_232_306)]
        {
            assert!((normal_quantile(below) - expected).abs() < 1e-8, "{below}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused_and_read_again_as_written(
            text in "((fixed|uniform|lognormal|list|corpus):)?[0-9kKmMiBb.:,-]{0,16}",
            noise in "\\PC{0,20}",
        ) {
            for text in [&text, &noise] {
                if let Ok(read) = text.parse::<SizeDistribution>() {
                    prop_assert_eq!(read.to_string().parse(), Ok(read.clone()));
                    prop_assert!(read.sizes(Some(10)).unwrap().iter().all(|size| size.0 <= BODY_BYTES_MAX));
                }
            }
        }
    }
}
