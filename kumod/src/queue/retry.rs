//! When to try again: a pure function of attempts, age and the queue's configuration.

use std::time::Duration;

use crate::clock::UnixMs;
use crate::config::QueueConfig;

/// Jitter is at most this part of the delay either way, and never more than [`JITTER_MAX`]; it keeps a burst of failures from
/// coming back as a burst.
const JITTER_PART: u32 = 40;
const JITTER_MAX: Duration = Duration::from_secs(60);
/// Doubling further than this overflows nothing and means nothing: 20 minutes times 2^20 is forty years.
const DOUBLINGS_MAX: u32 = 20;

/// The time of the attempt that follows `attempts` failed ones, or `None` when the message has expired by then.
///
/// `luck` is any number that differs between messages, such as the low bytes of the id.
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
    let due = now.after(delay);
    let jitter = u64::try_from((delay / JITTER_PART).min(JITTER_MAX).as_millis()).unwrap_or(0);
    let due = UnixMs((due.0 + luck % (2 * jitter + 1)).saturating_sub(jitter)).max(now);
    (due.since(created) < config.max_age).then_some(due)
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
            |attempts| next_attempt(&config, attempts, born, born, 1500).map(|due| due.since(born).as_secs());
        // Luck 1500 is no jitter for the first (60 s / 40 = 1500 ms either way).
        assert_eq!(delay(1), Some(60));
        assert!((117..=123).contains(&delay(2).unwrap()));
        assert!((195..=205).contains(&delay(3).unwrap()));
        assert!((195..=205).contains(&delay(30).unwrap()));
        assert_eq!(next_attempt(&config, 3, born, born.after(Duration::from_secs(900)), 0), None);
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
