//! The area under a schedule: how many messages are due by a time, and when each of them is.
//!
//! Owns the arithmetic and its direction: a message is due at the earliest time at which the area has reached
//! its number while the rate is above 0. Times are fractions of seconds in 53 bits, which is exact to the
//! nanosecond for a hundred days.

use crate::schedule::Stage;

/// One stage with what was due before it.
#[derive(Clone, Copy, Debug)]
struct Piece {
    begin_s: f64,
    /// Infinite for a stage without end.
    length_s: f64,
    from_per_s: f64,
    /// By how much the rate changes in each second.
    slope: f64,
    /// Messages due in the stages before.
    before: f64,
    /// Messages due in this one.
    messages: f64,
}

impl Piece {
    /// Messages of this stage that are due so many seconds after its beginning.
    fn area(&self, seconds: f64) -> f64 {
        seconds * (self.from_per_s + self.slope * seconds / 2.0)
    }

    /// When the area has that size, in seconds after the beginning of the stage.
    fn seconds(&self, area: f64) -> f64 {
        // The root of area = from * t + slope * t^2 / 2 in the form that loses no digits for small slopes.
        let under_root = self.from_per_s.mul_add(self.from_per_s, 2.0 * self.slope * area);
        let divisor = self.from_per_s + under_root.max(0.0).sqrt();
        if divisor > 0.0 { (2.0 * area / divisor).min(self.length_s) } else { 0.0 }
    }
}

/// The integral of a schedule over time.
#[derive(Clone, Debug)]
pub(crate) struct Integral {
    pieces: Vec<Piece>,
}

impl Integral {
    pub(crate) fn new(stages: &[Stage]) -> Self {
        let (mut begin_s, mut before) = (0.0, 0.0);
        let pieces = stages.iter().map(|stage| {
            let length_s = stage.length.map_or(f64::INFINITY, |length| length.as_secs_f64());
            let slope = if length_s.is_finite() && length_s > 0.0 {
                (stage.to_per_s - stage.from_per_s) / length_s
            } else {
                0.0
            };
            let mut piece =
                Piece { begin_s, length_s, from_per_s: stage.from_per_s, slope, before, messages: 0.0 };
            piece.messages = match length_s.is_finite() {
                true => length_s * (stage.from_per_s + stage.to_per_s) / 2.0,
                false if stage.from_per_s > 0.0 => f64::INFINITY,
                false => 0.0,
            };
            begin_s += length_s;
            before += piece.messages;
            piece
        });
        Self { pieces: pieces.collect() }
    }

    /// Messages due in the first `seconds`, with their fraction.
    pub(crate) fn due(&self, seconds: f64) -> f64 {
        let at = self.pieces.partition_point(|piece| piece.begin_s <= seconds);
        let Some(piece) = at.checked_sub(1).map(|at| &self.pieces[at]) else { return 0.0 };
        let inside = seconds - piece.begin_s;
        piece.before + if inside < piece.length_s { piece.area(inside) } else { piece.messages }
    }

    /// When the area reaches `number`, in seconds; `None` where it never does or only as the schedule ends.
    pub(crate) fn seconds(&self, number: f64) -> Option<f64> {
        // The pieces before have been filled by smaller numbers.
        let at = self.pieces.partition_point(|piece| piece.before + piece.messages <= number);
        let piece = self.pieces.get(at)?;
        Some(piece.begin_s + piece.seconds(number - piece.before))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn integral(text: &str) -> Integral {
        Integral::new(&Stage::parse_list(text).unwrap())
    }

    #[test]
    fn ramps_holds_and_pauses_have_their_area() {
        let integral = integral("0>100:10s,100:5s,0:10s,10");
        for (seconds, messages) in [
            (0.0, 0.0),
            (5.0, 125.0),
            (10.0, 500.0),
            (12.0, 700.0),
            (15.0, 1_000.0),
            (20.0, 1_000.0),
            (30.0, 1_050.0),
        ] {
            assert!((integral.due(seconds) - messages).abs() < 1e-9, "{seconds}: {}", integral.due(seconds));
        }
        for (number, seconds) in [(0.0, 0.0), (125.0, 5.0), (500.0, 10.0), (999.0, 14.99), (1_000.0, 25.0)] {
            assert!((integral.seconds(number).unwrap() - seconds).abs() < 1e-9, "{number}");
        }
    }

    #[test]
    fn a_schedule_that_ends_has_no_message_at_its_end() {
        let integral = integral("5k:1s");
        assert_eq!(integral.due(1.0), 5_000.0);
        assert!((integral.seconds(4_999.0).unwrap() - 0.9998).abs() < 1e-12);
        assert_eq!(integral.seconds(5_000.0), None);
        assert_eq!(integral.due(9.0), 5_000.0);
    }

    fn stages() -> impl Strategy<Value = Vec<Stage>> {
        let rate = || prop_oneof![Just(0.0), 0.01f64..1e5];
        let stage = (rate(), rate(), 1u64..100_000).prop_map(|(from_per_s, to_per_s, length_ms)| Stage {
            from_per_s,
            to_per_s,
            length: Some(Duration::from_millis(length_ms)),
        });
        proptest::collection::vec(stage, 1..6)
    }

    proptest! {
        #[test]
        fn time_and_area_are_each_others_inverse(stages in stages(), part in 0.0f64..1.0) {
            let integral = Integral::new(&stages);
            let total = integral.due(f64::MAX);
            let number = total * part;
            if let Some(seconds) = integral.seconds(number) {
                let error = (integral.due(seconds) - number).abs();
                prop_assert!(error <= 1e-6 * total.max(1.0), "{} off by {}", number, error);
            }
        }

        #[test]
        fn later_messages_are_due_later(stages in stages(), one in 0.0f64..1e6, more in 0.0f64..1e3) {
            let integral = Integral::new(&stages);
            if let (Some(first), Some(second)) = (integral.seconds(one), integral.seconds(one + more)) {
                prop_assert!(first <= second);
            }
        }
    }
}
