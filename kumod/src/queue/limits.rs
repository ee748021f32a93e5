//! The limits that hold for one queue or one path, with the names under which they are counted.
//!
//! The names are made when a configuration arrives and not for each message. What is limited by nothing has an empty list, and
//! asks nobody.

use crate::config::{PathConfig, QueueConfig, ThrottleSpec};
use crate::ports::{Rate, SlotLimit};
use crate::queue::QueueName;

/// Rates that hold together.
#[derive(Clone, Debug, Default)]
pub struct NamedRates(Vec<(String, ThrottleSpec)>);

impl NamedRates {
    /// The message rates of a scheduled queue: its own, its tenant's, and those that it names.
    pub fn of_queue(name: &QueueName, config: &QueueConfig) -> Self {
        let own = config.max_message_rate.map(|spec| (format!("queue:{name}"), spec));
        let tenant = name.tenant.as_deref();
        let overall = config.overall_max_message_rate.zip(tenant);
        let overall = overall.map(|(spec, tenant)| (format!("tenant:{tenant}"), spec));
        let named = named(config.additional_message_rate_throttles.iter());
        Self(own.into_iter().chain(overall).chain(named).collect())
    }

    /// The message rates of a path: its own, and those that it names.
    pub fn of_path(ready_queue: &str, config: &PathConfig) -> Self {
        let own = config.max_message_rate.map(|spec| (format!("path:{ready_queue}"), spec));
        Self(own.into_iter().chain(named(config.additional_message_rate_throttles.iter())).collect())
    }

    /// The rate of new connections of a path.
    pub fn of_connections(ready_queue: &str, config: &PathConfig) -> Self {
        Self(
            config
                .max_connection_rate
                .map(|spec| (format!("connect:{ready_queue}"), spec))
                .into_iter()
                .collect(),
        )
    }

    /// The rates at which a source may be chosen for a path: its own, and those that it names.
    pub fn of_selection(ready_queue: &str, config: &PathConfig) -> Self {
        let own = config.source_selection_rate.map(|spec| (format!("select:{ready_queue}"), spec));
        Self(own.into_iter().chain(named(config.additional_source_selection_rates.iter())).collect())
    }

    /// Whether nothing is limited.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many rates there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// What a permit source is asked.
    pub fn rates(&self) -> impl Iterator<Item = Rate<'_>> {
        self.0.iter().map(|(key, spec)| Rate { key, spec })
    }
}

/// Names of rates stand apart from those of queues and paths, and are one space for queues and paths together.
fn named<'a>(
    rates: impl Iterator<Item = (&'a String, &'a ThrottleSpec)>,
) -> impl Iterator<Item = (String, ThrottleSpec)> {
    rates.map(|(name, spec)| (format!("named:{name}"), *spec))
}

/// Connection limits that hold together, the smallest first: what is scarce is asked for before what is not.
#[derive(Clone, Debug, Default)]
pub struct NamedSlots(Vec<(String, usize)>);

impl NamedSlots {
    /// The connection limits of a path: its own, and those that it names.
    pub fn of_path(ready_queue: &str, config: &PathConfig) -> Self {
        let named = config.additional_connection_limits.iter();
        let named = named.map(|(name, limit)| (format!("named:{name}"), limit.0));
        let own = (format!("path:{ready_queue}"), config.connection_limit.0);
        let mut limits: Vec<_> = std::iter::once(own).chain(named).collect();
        limits.sort_by_key(|(_, limit)| *limit);
        Self(limits)
    }

    /// What a permit source is asked.
    pub fn limits(&self) -> Vec<SlotLimit<'_>> {
        self.0.iter().map(|(key, limit)| SlotLimit { key, limit: *limit }).collect()
    }

    /// The names to give back.
    pub fn keys(&self) -> Vec<&str> {
        self.0.iter().map(|(key, _)| key.as_str()).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::CountLimit;

    #[test]
    fn a_queue_is_limited_by_itself_its_tenant_and_what_it_names() {
        let mut config = QueueConfig::default();
        let keys = |name: &str, config: &QueueConfig| {
            let rates = NamedRates::of_queue(&name.parse().unwrap(), config);
            rates.rates().map(|rate| rate.key.to_owned()).collect::<Vec<_>>()
        };
        assert!(keys("c:t@x.net", &config).is_empty());
        config.max_message_rate = Some("1/s".parse().unwrap());
        config.overall_max_message_rate = Some("2/s".parse().unwrap());
        config.additional_message_rate_throttles.insert("spring".to_owned(), "3/s".parse().unwrap());
        assert_eq!(keys("c:t@x.net", &config), ["queue:c:t@x.net", "tenant:t", "named:spring"]);
        assert_eq!(keys("x.net", &config), ["queue:x.net", "named:spring"]);
    }

    #[test]
    fn the_scarcest_connections_are_asked_for_first() {
        let mut config = PathConfig::default();
        config.additional_connection_limits.insert("provider".to_owned(), CountLimit(5));
        let slots = NamedSlots::of_path("a->b@smtp_client", &config);
        assert_eq!(slots.keys(), ["named:provider", "path:a->b@smtp_client"]);
        assert_eq!(slots.limits()[0].limit, 5);
    }
}
