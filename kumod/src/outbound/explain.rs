//! How mail for a domain would leave from a source, value by value, and where each value came from: what an operator asks who wonders why.
//!
//! The policy and DNS are asked as for mail, and nothing is changed by it. What cannot be said has the reason that mail would have.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};

use super::Outbound;
use super::route::{self, Host, Site};
use crate::config::{CidrSet, PathConfig, SourceConfig, ThrottleSpec};
use crate::envelope::{Outcome, Response};
use crate::queue::{NamedRates, NamedSlots};

const DEFAULT: &str = "default";
const OF_PATH: &str = "get_egress_path_config";
const OF_SOURCE: &str = "get_egress_source";

/// The way of a domain's mail from one source.
#[derive(Debug, Serialize)]
pub struct EgressPath {
    /// The domain, as asked.
    pub domain: String,
    /// The source.
    pub source: String,
    /// `source->site@smtp_client`.
    pub ready_queue: String,
    /// The name that domains with the same hosts share.
    pub site_name: String,
    /// Who takes the mail, lowest preference value first.
    pub hosts: Vec<Value>,
    /// What holds on the way, by the name of its option, each as `{ value, from }`.
    pub values: Value,
    /// Each limit with the name under which it is counted; paths that name the same one share it.
    pub limits: Vec<Value>,
}

/// Why there is no answer.
#[derive(Debug)]
pub struct Unresolved {
    /// What mail would end with, or be put off with.
    pub response: Response,
    /// Whether asking later may help.
    pub may_pass: bool,
}

impl From<Outcome> for Unresolved {
    fn from(outcome: Outcome) -> Self {
        let may_pass = matches!(outcome, Outcome::Retry(_));
        match outcome {
            Outcome::Retry(response) | Outcome::Failed(response) | Outcome::Delivered(response) => {
                Self { response, may_pass }
            }
        }
    }
}

impl Outbound {
    /// Finds out how mail for a domain would leave from a source.
    ///
    /// # Errors
    /// There is no such source, the policy fails, or DNS knows no host; as mail would be told.
    pub async fn resolve_egress_path(&self, domain: &str, source: &str) -> Result<EgressPath, Unresolved> {
        let source = self.sources.one(&self.parts.policy, source)?;
        let (mut site, found, _) = route::site(self, None, domain).await?;
        let path = route::path_config(self, domain, &source.name, &site.name)?;
        if let Some(hosts) = found.filter(|_| path.enable_dane) {
            site.is_certain = self.security.are_certain(domain, &hosts).await?;
        }
        let counted = route::limits_name(&source.name, &site.name);
        let ready_queue = route::ready_queue_name(&counted, &site, &path);
        Ok(EgressPath {
            domain: domain.to_owned(),
            source: source.name.clone(),
            hosts: site.hosts.iter().map(host).collect(),
            values: self.values(&site, &source, &path),
            limits: limits(&counted, &path),
            site_name: site.name.to_string(),
            ready_queue,
        })
    }

    fn values(&self, site: &Site, source: &SourceConfig, path: &PathConfig) -> Value {
        let (defaults, spec) = (PathConfig::default(), &self.parts.spec);
        let of_policy = self.parts.policy.handles_egress_path_config();
        let mut values = serde_json::Map::new();
        for ((name, value), (_, default)) in plain(path).into_iter().zip(plain(&defaults)) {
            let from = match (value == default, of_policy) {
                (true, _) => DEFAULT,
                (false, true) => OF_PATH,
                (false, false) => "command line",
            };
            values.insert(name.to_owned(), explained(value, from));
        }
        let literal = site.hosts.iter().find_map(|host| host.port);
        let port = [
            (source.remote_port, "remote_port of get_egress_source"),
            (literal, "the destination"),
            (path.smtp_port, OF_PATH),
            (spec.smtp_port, "command line"),
        ];
        let port = port.into_iter().find_map(|(port, from)| Some(explained(json!(port?), from)));
        values.insert(
            "smtp_port".to_owned(),
            port.unwrap_or_else(|| explained(json!(route::SMTP_PORT), DEFAULT)),
        );
        let ehlo = match (&path.ehlo_domain, &source.ehlo_domain) {
            (Some(name), _) => explained(json!(name), OF_PATH),
            (None, Some(name)) => explained(json!(name), OF_SOURCE),
            (None, None) => explained(json!(self.parts.hostname), "the name of this host"),
        };
        values.insert("ehlo_domain".to_owned(), ehlo);
        let prohibited = match &path.prohibited_hosts {
            Some(hosts) => explained(json!(hosts.texts()), OF_PATH),
            None if site.loopback_allowed => {
                explained(json!([]), "the destination is of this host by its name")
            }
            None => explained(json!(CidrSet::loopback().texts()), DEFAULT),
        };
        values.insert("prohibited_hosts".to_owned(), prohibited);
        for (name, value) in of_source(source) {
            values.insert(name.to_owned(), explained(value, OF_SOURCE));
        }
        Value::Object(values)
    }
}

fn explained(value: Value, from: &str) -> Value {
    json!({ "value": value, "from": from })
}

fn host(host: &Host) -> Value {
    json!({ "name": &*host.name, "preference": host.preference, "address": host.address, "port": host.port })
}

/// The values of a path that stand for themselves. The others are put together with what else has a say.
fn plain(path: &PathConfig) -> Vec<(&'static str, Value)> {
    [of_limits(path), of_security(path), of_protocol(path), of_times(path)].concat()
}

fn of_limits(path: &PathConfig) -> Vec<(&'static str, Value)> {
    let rate = |rate: &Option<ThrottleSpec>| json!(rate.map(|rate| rate.to_string()));
    let rates = |rates: &BTreeMap<String, ThrottleSpec>| {
        rates.iter().map(|(name, rate)| (name.clone(), json!(rate.to_string()))).collect::<Value>()
    };
    let slots: Value = path
        .additional_connection_limits
        .iter()
        .map(|(name, limit)| (name.clone(), json!(limit.0)))
        .collect();
    vec![
        ("connection_limit", json!(path.connection_limit.0)),
        ("additional_connection_limits", slots),
        ("max_connection_rate", rate(&path.max_connection_rate)),
        ("max_message_rate", rate(&path.max_message_rate)),
        ("additional_message_rate_throttles", rates(&path.additional_message_rate_throttles)),
        ("source_selection_rate", rate(&path.source_selection_rate)),
        ("additional_source_selection_rates", rates(&path.additional_source_selection_rates)),
        ("max_ready", json!(path.max_ready)),
        ("max_deliveries_per_connection", json!(path.max_deliveries_per_connection)),
        ("max_recipients_per_batch", json!(path.max_recipients_per_batch)),
        ("aggressive_connection_opening", json!(path.aggressive_connection_opening)),
        (
            "consecutive_connection_failures_before_delay",
            json!(path.consecutive_connection_failures_before_delay),
        ),
        ("skip_hosts", json!(path.skip_hosts.texts())),
        ("ip_lookup_strategy", json!(path.ip_lookup_strategy.name())),
    ]
}

/// Keys and passwords stay where they are: only that there is one is told.
fn of_security(path: &PathConfig) -> Vec<(&'static str, Value)> {
    let suites = path.rustls_cipher_suites.chosen();
    let suites: Vec<String> = suites.iter().map(|suite| format!("{:?}", suite.suite())).collect();
    let mechanism = path.smtp_auth_mechanism.map(|chosen| chosen.0.name());
    vec![
        ("enable_tls", named(path.enable_tls)),
        ("enable_mta_sts", json!(path.enable_mta_sts)),
        ("enable_dane", json!(path.enable_dane)),
        (
            "opportunistic_tls_reconnect_on_failed_handshake",
            json!(path.opportunistic_tls_reconnect_on_failed_handshake),
        ),
        ("remember_broken_tls", json!(path.remember_broken_tls.map(|time| format!("{time:?}")))),
        ("tls_certificate", is_set(path.tls_certificate.is_some())),
        ("tls_private_key", is_set(path.tls_private_key.is_some())),
        ("rustls_cipher_suites", json!(suites)),
        ("smtp_auth_plain_username", json!(path.smtp_auth_plain_username)),
        ("smtp_auth_plain_password", is_set(path.smtp_auth_plain_password.is_some())),
        ("smtp_auth_mechanism", json!(mechanism)),
        ("allow_smtp_auth_plain_without_tls", json!(path.allow_smtp_auth_plain_without_tls)),
        (
            "allow_smtp_auth_plain_without_valid_certificate",
            json!(path.allow_smtp_auth_plain_without_valid_certificate),
        ),
    ]
}

fn of_protocol(path: &PathConfig) -> Vec<(&'static str, Value)> {
    vec![
        ("enable_pipelining", json!(path.enable_pipelining)),
        ("enable_rset", json!(path.enable_rset)),
        ("use_lmtp", json!(path.use_lmtp)),
        ("ignore_8bit_checks", json!(path.ignore_8bit_checks)),
        ("reconnect_strategy", named(path.reconnect_strategy)),
        ("try_next_host_on_transport_error", json!(path.try_next_host_on_transport_error)),
        ("provider_name", json!(path.provider_name)),
        ("refresh_strategy", named(path.refresh_strategy)),
    ]
}

fn of_times(path: &PathConfig) -> Vec<(&'static str, Value)> {
    let duration = |duration| json!(format!("{duration:?}"));
    let if_set = |time: Option<Duration>| time.map_or(Value::Null, duration);
    vec![
        ("refresh_interval", duration(path.refresh_interval)),
        ("connect_timeout", duration(path.connect_timeout)),
        ("banner_timeout", duration(path.banner_timeout)),
        ("ehlo_timeout", duration(path.ehlo_timeout)),
        ("starttls_timeout", duration(path.starttls_timeout)),
        ("auth_timeout", duration(path.auth_timeout)),
        ("rset_timeout", duration(path.rset_timeout)),
        ("mail_from_timeout", duration(path.mail_from_timeout)),
        ("rcpt_to_timeout", duration(path.rcpt_to_timeout)),
        ("data_timeout", duration(path.data_timeout)),
        ("data_dot_timeout", duration(path.data_dot_timeout)),
        ("idle_timeout", duration(path.idle_timeout)),
        ("system_shutdown_timeout", if_set(path.system_shutdown_timeout)),
        ("dispatcher_progress_watchdog_timeout", duration(path.watchdog())),
    ]
}

fn named(choice: impl std::fmt::Debug) -> Value {
    json!(format!("{choice:?}"))
}

fn is_set(is_set: bool) -> Value {
    json!(is_set.then_some("set"))
}

/// What the source has set. Passwords stay where they are.
fn of_source(source: &SourceConfig) -> Vec<(&'static str, Value)> {
    let texts = [
        ("source_address", source.source_address.map(|address| address.to_string())),
        ("ha_proxy_server", source.ha_proxy_server.as_ref().map(ToString::to_string)),
        ("ha_proxy_source_address", source.ha_proxy_source_address.map(|address| address.to_string())),
        ("socks5_proxy_server", source.socks5_proxy_server.as_ref().map(ToString::to_string)),
        (
            "socks5_proxy_source_address",
            source.socks5_proxy_source_address.map(|address| address.to_string()),
        ),
    ];
    texts.into_iter().filter_map(|(name, text)| Some((name, json!(text?)))).collect()
}

fn limits(ready_queue: &str, path: &PathConfig) -> Vec<Value> {
    let slots = NamedSlots::of_path(ready_queue, path);
    let connections = slots.limits().into_iter();
    let connections = connections.map(|slot| json!({ "connections": slot.limit, "counted_as": slot.key }));
    let messages = NamedRates::of_path(ready_queue, path);
    let messages =
        messages.rates().map(|rate| json!({ "messages": rate.spec.to_string(), "counted_as": rate.key }));
    let opened = NamedRates::of_connections(ready_queue, path);
    let opened = opened
        .rates()
        .map(|rate| json!({ "new_connections": rate.spec.to_string(), "counted_as": rate.key }));
    connections.chain(messages).chain(opened).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Those that have no effect here, and those that are put together with what else has a say.
    const NOT_PLAIN: [&str; 9] = [
        "dispatcher_wakeup_strategy",
        "ehlo_domain",
        "low_memory_reduction_policy",
        "maintainer_wakeup_strategy",
        "no_memory_reduction_policy",
        "prohibited_hosts",
        "readyq_pool_name",
        "smtp_port",
        "tls_prefer_openssl",
    ];

    #[test]
    fn no_option_of_a_path_is_left_out() {
        let told: Vec<&str> = plain(&PathConfig::default()).into_iter().map(|(name, _)| name).collect();
        let refusal = serde_json::from_str::<PathConfig>(r#"{"no such option": 1}"#).unwrap_err().to_string();
        let options: Vec<&str> = refusal.split('`').skip(3).step_by(2).collect();
        assert!(options.len() > 50, "{refusal}");
        let left_out = |name: &&&str| !told.contains(name) && !NOT_PLAIN.contains(name);
        assert_eq!(options.iter().filter(left_out).collect::<Vec<_>>(), Vec::<&&str>::new());
        assert!(told.iter().all(|name| options.contains(name)), "{told:?}");
    }
}
