//! How mail for a domain would leave from a source, value by value, and where each value came from: what an operator asks who wonders why.
//!
//! The policy and DNS are asked as for mail, and nothing is changed by it. What cannot be said has the reason that mail would have.

use serde::Serialize;
use serde_json::{Value, json};

use super::Outbound;
use super::route::{self, Host, Site};
use crate::config::{CidrSet, PathConfig, SourceConfig};
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
    let duration = |duration| json!(format!("{duration:?}"));
    vec![
        ("connection_limit", json!(path.connection_limit.0)),
        ("max_connection_rate", json!(path.max_connection_rate.map(|rate| rate.to_string()))),
        ("max_message_rate", json!(path.max_message_rate.map(|rate| rate.to_string()))),
        ("max_ready", json!(path.max_ready)),
        ("max_deliveries_per_connection", json!(path.max_deliveries_per_connection)),
        (
            "consecutive_connection_failures_before_delay",
            json!(path.consecutive_connection_failures_before_delay),
        ),
        ("skip_hosts", json!(path.skip_hosts.texts())),
        ("ip_lookup_strategy", json!(path.ip_lookup_strategy.name())),
        ("enable_tls", json!(format!("{:?}", path.enable_tls))),
        ("connect_timeout", duration(path.connect_timeout)),
        ("idle_timeout", duration(path.idle_timeout)),
        ("starttls_timeout", duration(path.starttls_timeout)),
    ]
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
