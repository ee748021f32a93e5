//! When to try again: a pure function of attempts, age and the queue's configuration.

use std::time::Duration;

use crate::clock::UnixMs;
use crate::config::QueueConfig;

/// Jitter is at most this part of `retry_interval` either way, and never more than [`JITTER_MAX`], as in KumoMTA; it keeps a burst of
/// failures from coming back as a burst.
const JITTER_PART: u32 = 40;
const JITTER_MAX: Duration = Duration::from_secs(60);
/// Doubling further than this overflows nothing and means nothing: 20 minutes times 2^20 is forty years.
const DOUBLINGS_MAX: u32 = 20;

/// The time of the attempt that follows `attempts` failed ones, or `None` when the message has expired by then.
///
/// `luck` is any number that differs between messages, such as the low bytes of the id: neighbours among them get times that are far
/// apart, and other ones at each attempt.
pub fn next_attempt(
    config: &QueueConfig,
    attempts: u32,
    created: UnixMs,
    now: UnixMs,
    luck: u64,
) -> Option<UnixMs> {
    let doublings = attempts.saturating_sub(1).min(DOUBLINGS_MAX);
    let delay = config.retry_interval.saturating_mul(1 << doublings);
    let delay = config.max_retry_interval.map_or(delay, |most| delay.min(most));
    let jitter =
        u64::try_from((config.retry_interval / JITTER_PART).min(JITTER_MAX).as_millis()).unwrap_or(0);
    let shift = spread(luck.wrapping_add(u64::from(attempts) << 48), 2 * jitter + 1);
    let due = UnixMs(now.after(delay).0.saturating_add(shift).saturating_sub(jitter)).max(now);
    (due.since(created) < config.max_age).then_some(due)
}

/// A number below `width`; neighbours in `luck` are spread evenly over it. `width` fits into 32 bits.
fn spread(luck: u64, width: u64) -> u64 {
    ((luck.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) * width) >> 32
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn config(interval: u64, most: Option<u64>, age: u64) -> QueueConfig {
        QueueConfig {
            retry_interval: Duration::from_secs(interval),
            max_retry_interval: most.map(Duration::from_secs),
            max_age: Duration::from_secs(age),
            ..QueueConfig::default()
        }
    }

    #[test]
    fn the_delay_doubles_up_to_the_most_and_ends_with_the_age() {
        let config = config(60, Some(200), 1000);
        let born = UnixMs(1_000_000);
        let delay =
            |attempts| next_attempt(&config, attempts, born, born, 7).map(|due| due.since(born).as_millis());
        // A fortieth of the interval is 1500 ms, whatever the delay has grown to.
        for (attempts, wanted) in [(1, 60_000), (2, 120_000), (3, 200_000), (30, 200_000)] {
            assert!(delay(attempts).unwrap().abs_diff(wanted) <= 1500, "{attempts}: {:?}", delay(attempts));
        }
        assert_eq!(next_attempt(&config, 3, born, born.after(Duration::from_secs(900)), 0), None);
    }

    #[test]
    fn a_burst_of_failures_comes_back_spread_over_two_minutes_at_most() {
        let born = UnixMs(1_000_000);
        for (interval, width_ms) in [(60, 3000), (1200, 60_000), (86_400, 120_000)] {
            let config = config(interval, None, 10_000_000);
            let due = |luck| next_attempt(&config, 1, born, born, luck).unwrap().0;
            let first = born.0 + interval * 1000 - width_ms / 2;
            let mut tenths = [0; 10];
            for luck in 0..1000 {
                let at = due(luck) - first;
                assert!(at <= width_ms, "{at}");
                tenths[usize::try_from((at * 10 / (width_ms + 1)).min(9)).unwrap()] += 1;
            }
            assert!(tenths.iter().all(|count| (90..=110).contains(count)), "{tenths:?}");
        }
    }

    proptest! {
        #[test]
        fn it_is_never_before_now_and_never_past_the_age(
            interval in 0_u64..100_000, age in 0_u64..1_000_000, attempts: u32, elapsed in 0_u64..1_000_000_000, luck: u64,
        ) {
            let (born, now) = (UnixMs(5), UnixMs(5 + elapsed));
            if let Some(due) = next_attempt(&config(interval, None, age), attempts, born, now, luck) {
                prop_assert!(due >= now);
                prop_assert!(due.since(born) < Duration::from_secs(age));
            }
        }
    }
}
