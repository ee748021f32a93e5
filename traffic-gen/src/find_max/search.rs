//! The search itself: a rate and what came of it go in, the next rate comes out.
//!
//! Doubles from the first rate until one is missed, or halves until one is met; then halves the distance
//! between the highest rate met and the lowest missed until it is within the precision; then asks for 80,
//! 100 and 120 % of the rate that it would claim. It reads no clock and runs nothing. A server that is
//! noisy makes it lower the claim or look higher again, a bounded number of times: every search ends.

use serde::Serialize;

/// How often the first rate is doubled or halved; beyond a thousandfold the start was a mistake.
pub const DOUBLINGS_MAX: u32 = 20;

/// How often a claim that its confirmation did not bear out is lowered and confirmed again.
pub const LOWERED_MAX: u32 = 4;

/// How often a claim of which even 120 % was met is raised and confirmed again.
pub const RAISED_MAX: u32 = 1;

/// Tries of one search at most, whatever the server does; a step that is repeated longer is one try.
pub const TRIES_MAX: u32 = 80;

/// The lowest rate that is tried, in messages per second; below it a try would see a handful of messages.
pub const RATE_PER_S_MIN: f64 = 1.0;

/// The highest rate that is tried, in messages per second.
pub const RATE_PER_S_MAX: f64 = 1e8;

/// The shares of the claimed rate at which it is confirmed, as SPECmail's rules show them.
pub const CONFIRMED_PERCENT: [u32; 3] = [80, 100, 120];

/// Where the search begins, and when it is content.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// The first rate, in messages per second; clamped to what is tried.
    pub first_per_s: f64,
    /// How far apart the highest rate met and the lowest missed may be, as a share of the former; at least
    /// a thousandth.
    pub precision: f64,
}

/// Why a rate is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// To get the maximum between two rates.
    Bracket,
    /// To halve the distance between the two.
    Bisect,
    /// To confirm the claim at this percentage of it.
    Confirm {
        /// 80, 100 or 120.
        percent: u32,
    },
}

/// What came of a try.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Every objective was met in a steady state.
    Met,
    /// An objective was missed, or the state was not steady: the server cannot keep this rate.
    Missed,
    /// The generator could not keep its promise: this says nothing about the server.
    GeneratorLimited,
}

/// What is to be done next.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Next {
    /// Run at this rate and [`Search::judged`].
    Try {
        /// Messages per second.
        per_s: f64,
        /// Why.
        purpose: Purpose,
    },
    /// There is nothing left to try.
    Done(Outcome),
}

/// How a search ends.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "outcome")]
pub enum Outcome {
    /// A rate that was met and confirmed.
    Found {
        /// Messages per second.
        rate_per_s: f64,
        /// Whether 120 % of it was met, too: the server was noisy, and the claim is a careful one.
        more_was_met: bool,
    },
    /// No rate was met, or none could be confirmed.
    None {
        /// The highest rate that was met once, in messages per second.
        met_once_per_s: Option<f64>,
    },
    /// The generator was the limit, so the server's is higher and unknown.
    GeneratorLimited {
        /// The rate that the generator could not keep, in messages per second.
        at_per_s: f64,
        /// The highest rate that the server met, in messages per second.
        met_per_s: Option<f64>,
    },
}

/// A search on its way.
#[derive(Clone, Debug)]
pub struct Search {
    settings: Settings,
    met: Option<f64>,
    missed: Option<f64>,
    tries: u32,
    doublings: u32,
    lowered: u32,
    raised: u32,
    stage: Stage,
}

#[derive(Clone, Copy, Debug)]
enum Stage {
    Bracket { per_s: f64 },
    Bisect { per_s: f64 },
    Confirm { claim_per_s: f64, index: usize },
    Done(Outcome),
}

impl Search {
    /// A search that has tried nothing yet.
    pub fn new(settings: Settings) -> Self {
        let per_s = settings.first_per_s.clamp(RATE_PER_S_MIN, RATE_PER_S_MAX);
        let precision = settings.precision.clamp(0.001, 1.0);
        Self {
            settings: Settings { first_per_s: per_s, precision },
            met: None,
            missed: None,
            tries: 0,
            doublings: 0,
            lowered: 0,
            raised: 0,
            stage: Stage::Bracket { per_s },
        }
    }

    /// What is to be done now.
    pub fn next(&self) -> Next {
        match self.stage {
            Stage::Bracket { per_s } => Next::Try { per_s, purpose: Purpose::Bracket },
            Stage::Bisect { per_s } => Next::Try { per_s, purpose: Purpose::Bisect },
            Stage::Confirm { claim_per_s, index } => {
                let percent = CONFIRMED_PERCENT[index];
                Next::Try { per_s: share(claim_per_s, percent), purpose: Purpose::Confirm { percent } }
            }
            Stage::Done(outcome) => Next::Done(outcome),
        }
    }

    /// Takes what came of the try that [`Search::next`] asked for.
    #[must_use]
    pub fn judged(mut self, verdict: Verdict) -> Self {
        self.tries += 1;
        self.stage = match self.stage {
            Stage::Bracket { per_s } | Stage::Bisect { per_s } => self.after_try(per_s, verdict),
            Stage::Confirm { claim_per_s, index } => self.after_confirmation(claim_per_s, index, verdict),
            done @ Stage::Done(_) => done,
        };
        if self.tries >= TRIES_MAX && !matches!(self.stage, Stage::Done(_)) {
            self.stage = self.none();
        }
        self
    }

    fn after_try(&mut self, per_s: f64, verdict: Verdict) -> Stage {
        match verdict {
            Verdict::GeneratorLimited => {
                return Stage::Done(Outcome::GeneratorLimited { at_per_s: per_s, met_per_s: self.met });
            }
            Verdict::Met => self.met = Some(self.met.map_or(per_s, |met| met.max(per_s))),
            Verdict::Missed => self.missed = Some(per_s),
        }
        self.between()
    }

    /// Where to look, given the highest rate met and the lowest missed.
    fn between(&mut self) -> Stage {
        match (self.met, self.missed) {
            (Some(met), Some(missed)) if missed - met <= met * self.settings.precision => {
                Stage::Confirm { claim_per_s: met, index: 0 }
            }
            (Some(met), Some(missed)) => Stage::Bisect { per_s: f64::midpoint(met, missed) },
            (Some(met), None) => self.bracket(met * 2.0),
            (None, Some(missed)) => self.bracket(missed / 2.0),
            (None, None) => self.none(),
        }
    }

    fn bracket(&mut self, per_s: f64) -> Stage {
        self.doublings += 1;
        if self.doublings > DOUBLINGS_MAX || !(RATE_PER_S_MIN..=RATE_PER_S_MAX).contains(&per_s) {
            self.none()
        } else {
            Stage::Bracket { per_s }
        }
    }

    fn after_confirmation(&mut self, claim_per_s: f64, index: usize, verdict: Verdict) -> Stage {
        let above = CONFIRMED_PERCENT[index] > 100;
        let last = index + 1 == CONFIRMED_PERCENT.len();
        match verdict {
            // What lies above the claim is shown and not claimed.
            Verdict::GeneratorLimited if !above => {
                let at_per_s = share(claim_per_s, CONFIRMED_PERCENT[index]);
                Stage::Done(Outcome::GeneratorLimited { at_per_s, met_per_s: self.met })
            }
            Verdict::Missed if !above => self.lower(claim_per_s),
            Verdict::Met if above && self.raised < RAISED_MAX => self.raise(claim_per_s),
            verdict if last => {
                let more_was_met = verdict == Verdict::Met;
                Stage::Done(Outcome::Found { rate_per_s: claim_per_s, more_was_met })
            }
            _ => Stage::Confirm { claim_per_s, index: index + 1 },
        }
    }

    /// The claim was luck: claims less by twice the precision.
    fn lower(&mut self, claim_per_s: f64) -> Stage {
        self.lowered += 1;
        self.missed = Some(claim_per_s);
        let claim_per_s = claim_per_s * (1.0 - 2.0 * self.settings.precision).max(0.5);
        if self.lowered > LOWERED_MAX || claim_per_s < RATE_PER_S_MIN {
            self.none()
        } else {
            Stage::Confirm { claim_per_s, index: 0 }
        }
    }

    /// The rate missed before was bad luck: looks for a higher one from there.
    fn raise(&mut self, claim_per_s: f64) -> Stage {
        self.raised += 1;
        self.met = Some(share(claim_per_s, 120));
        self.missed = None;
        self.between()
    }

    fn none(&self) -> Stage {
        Stage::Done(Outcome::None { met_once_per_s: self.met })
    }
}

/// That percentage of a rate; exactly the rate at 100.
fn share(per_s: f64, percent: u32) -> f64 {
    per_s * (f64::from(percent) / 100.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Plays a search against a server and returns its end and its tries.
    fn play(
        settings: Settings,
        mut server: impl FnMut(f64) -> Verdict,
    ) -> (Outcome, Vec<(f64, Purpose, Verdict)>) {
        let (mut search, mut tries) = (Search::new(settings), Vec::new());
        loop {
            match search.next() {
                Next::Done(outcome) => return (outcome, tries),
                Next::Try { per_s, purpose } => {
                    let verdict = server(per_s);
                    tries.push((per_s, purpose, verdict));
                    search = search.judged(verdict);
                }
            }
            assert!(tries.len() <= TRIES_MAX as usize, "a search ends");
        }
    }

    fn up_to(capacity_per_s: f64) -> impl Fn(f64) -> Verdict {
        move |per_s| if per_s <= capacity_per_s { Verdict::Met } else { Verdict::Missed }
    }

    const SETTINGS: Settings = Settings { first_per_s: 1_000.0, precision: 0.05 };

    #[test]
    fn brackets_bisects_and_confirms() {
        let (outcome, tries) = play(SETTINGS, up_to(5_000.0));
        let Outcome::Found { rate_per_s, more_was_met: false } = outcome else { panic!("{outcome:?}") };
        assert!((4_750.0..=5_000.0).contains(&rate_per_s), "{rate_per_s}");
        let bracket: Vec<_> = tries.iter().take(4).map(|(per_s, ..)| *per_s).collect();
        assert_eq!(bracket, [1_000.0, 2_000.0, 4_000.0, 8_000.0]);
        let confirmed: Vec<_> = tries.iter().rev().take(3).rev().map(|(_, purpose, _)| *purpose).collect();
        assert_eq!(confirmed, CONFIRMED_PERCENT.map(|percent| Purpose::Confirm { percent }));
    }

    #[test]
    fn a_generator_at_its_limit_ends_the_search_and_claims_nothing() {
        let server = |per_s| if per_s <= 4_000.0 { Verdict::Met } else { Verdict::GeneratorLimited };
        let (outcome, _) = play(SETTINGS, server);
        assert_eq!(outcome, Outcome::GeneratorLimited { at_per_s: 8_000.0, met_per_s: Some(4_000.0) });
    }

    #[test]
    fn a_generator_that_cannot_make_120_percent_takes_nothing_from_the_claim() {
        let (server, mut seen) = (up_to(5_000.0), 0);
        let (outcome, tries) = play(SETTINGS, |per_s| {
            // Once while bisecting, and again as 120 % of 5,000.
            seen += u32::from(per_s == 6_000.0);
            if seen == 2 { Verdict::GeneratorLimited } else { server(per_s) }
        });
        assert!(matches!(outcome, Outcome::Found { .. }), "{outcome:?}");
        assert_eq!(tries.last().map(|(_, _, verdict)| *verdict), Some(Verdict::GeneratorLimited));
    }

    #[test]
    fn a_server_that_meets_nothing_has_no_maximum() {
        let (outcome, tries) = play(SETTINGS, |_| Verdict::Missed);
        assert_eq!(outcome, Outcome::None { met_once_per_s: None });
        assert!(tries.len() <= DOUBLINGS_MAX as usize + 1);
    }

    #[test]
    fn a_claim_that_was_luck_is_lowered() {
        let mut met_above = 0;
        let (outcome, tries) = play(SETTINGS, |per_s| {
            // The bracket is lucky once above what the server can keep.
            let lucky = per_s > 3_000.0 && per_s <= 4_000.0 && met_above == 0;
            met_above += u32::from(lucky);
            if per_s <= 3_000.0 || lucky { Verdict::Met } else { Verdict::Missed }
        });
        let Outcome::Found { rate_per_s, .. } = outcome else { panic!("{outcome:?}") };
        assert!((2_500.0..=3_000.0).contains(&rate_per_s), "{rate_per_s} {tries:?}");
    }

    proptest! {
        #[test]
        fn a_monotone_capacity_is_found_within_the_precision(
            capacity_per_s in 2f64..5e6,
            first_per_s in 1f64..1e5,
            precision in 0.005f64..0.3,
        ) {
            prop_assume!((first_per_s / capacity_per_s).log2().abs() < f64::from(DOUBLINGS_MAX) - 1.0);
            let (outcome, tries) = play(Settings { first_per_s, precision }, up_to(capacity_per_s));
            let found = match outcome {
                Outcome::Found { rate_per_s, .. } => rate_per_s,
                other => return Err(TestCaseError::fail(format!("{other:?}"))),
            };
            prop_assert!(found <= capacity_per_s);
            // At a precision above 20 % the confirmation itself may be met above the claim.
            prop_assert!(capacity_per_s <= found * (1.0 + precision.max(0.2)), "{found} {tries:?}");
        }

        #[test]
        fn a_noisy_server_ends_the_search_with_what_was_confirmed(
            capacity_per_s in 10f64..1e5,
            noise in 0.0f64..0.6,
            seed in any::<u64>(),
        ) {
            let mut random = fastrand::Rng::with_seed(seed);
            let (outcome, tries) = play(SETTINGS, |per_s| {
                let capacity_per_s = capacity_per_s * (1.0 + noise * (random.f64() - 0.5) * 2.0);
                up_to(capacity_per_s)(per_s)
            });
            if let Outcome::Found { rate_per_s, .. } = outcome {
                let confirmed = tries.iter().any(|(per_s, purpose, verdict)| {
                    *per_s == rate_per_s
                        && *purpose == Purpose::Confirm { percent: 100 }
                        && *verdict == Verdict::Met
                });
                prop_assert!(confirmed, "{rate_per_s} {tries:?}");
            }
        }
    }
}
