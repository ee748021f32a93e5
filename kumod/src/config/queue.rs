//! Scheduled queues: what `make_queue_config` says, with KumoMTA's names and defaults.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;

use super::{ThrottleSpec, duration, named};

/// How one scheduled queue retries and how long it keeps mail.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct QueueConfig {
    /// The first retry comes after this; it doubles with each attempt.
    #[serde(deserialize_with = "duration::deserialize")]
    pub retry_interval: Duration,
    /// The doubling stops here.
    #[serde(deserialize_with = "duration::deserialize_option")]
    pub max_retry_interval: Option<Duration>,
    /// A message older than this expires.
    #[serde(deserialize_with = "duration::deserialize")]
    pub max_age: Duration,
    /// Its share where several queues feed one ready queue: one of priority 4 sends four times as much in a round.
    pub priority: u32,
    /// Messages that may leave the queue over time.
    pub max_message_rate: Option<ThrottleSpec>,
    /// Messages that may leave all queues of the tenant together over time.
    pub overall_max_message_rate: Option<ThrottleSpec>,
    /// Further rates of messages; queues that name the same one, such as those of a campaign, share it.
    #[serde(deserialize_with = "named::deserialize")]
    pub additional_message_rate_throttles: BTreeMap<String, ThrottleSpec>,
}

impl Default for QueueConfig {
    fn default() -> Self {
        Self {
            retry_interval: Duration::from_secs(20 * 60),
            max_retry_interval: None,
            max_age: Duration::from_secs(7 * 86_400),
            priority: 1,
            max_message_rate: None,
            overall_max_message_rate: None,
            additional_message_rate_throttles: BTreeMap::new(),
        }
    }
}
