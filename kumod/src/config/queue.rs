//! Scheduled queues: what `make_queue_config` says, with KumoMTA's names and defaults.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use smtp::dsn::Notify;

use super::{ThrottleSpec, UNSPECIFIED, duration, named};

/// How one scheduled queue retries and how long it keeps mail.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct QueueConfig {
    /// The sources that its mail may leave from.
    pub egress_pool: String,
    /// The first retry comes after this; it doubles with each attempt. RFC 5321 4.5.4.1 asks for 30 minutes; the default is KumoMTA's.
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
    /// Of what senders are told.
    pub dsn: Dsn,
    /// A sender who asked to be told of delays is told when the message is so old.
    #[serde(deserialize_with = "duration::deserialize")]
    pub dsn_delay: Duration,
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
            egress_pool: UNSPECIFIED.to_owned(),
            retry_interval: Duration::from_secs(20 * 60),
            max_retry_interval: None,
            max_age: Duration::from_secs(7 * 86_400),
            priority: 1,
            dsn: Dsn::default(),
            dsn_delay: Duration::from_secs(4 * 3600),
            max_message_rate: None,
            overall_max_message_rate: None,
            additional_message_rate_throttles: BTreeMap::new(),
        }
    }
}

/// When a sender gets a delivery status notification. A message from nobody never causes one, whatever stands here.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
pub enum Dsn {
    /// When it asked for one with NOTIFY; a message that asks for nothing ends in the log alone, as with KumoMTA.
    Requested,
    /// As RFC 3461 4.1 has it: a message that asks for nothing is treated as one that asked to be told of failures.
    #[default]
    Failure,
    /// Never: all is left to whoever reads the log.
    Never,
}

impl Dsn {
    /// Of what to tell the sender of a recipient, given what was asked for.
    pub fn wish(self, asked: Option<Notify>) -> Notify {
        match (self, asked) {
            (Self::Never, _) | (Self::Requested, None) => Notify::default(),
            (Self::Failure, None) => Notify { failure: true, ..Notify::default() },
            (_, Some(asked)) => asked,
        }
    }
}
