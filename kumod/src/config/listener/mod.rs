//! SMTP listeners: `start_esmtp_listener` of a policy, with KumoMTA's names and defaults.
//!
//! Owns the one list of options. From it come [`SmtpListener`], where every option has a value, and [`SmtpOverride`], where none
//! need have one: what `peer` and `via` change for some clients. Refuses, in [`SmtpListener::check`], values with which no mail
//! would pass or a reply would not be one; Lua and Rust go through the same check.

mod client_override;
mod http;
mod value;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use serde::Deserialize;

use super::{CidrSet, KeySource};
use value::{given, value};

pub(crate) use client_override::parse_network;
pub use client_override::{Change, ClientOverrides};
pub use http::HttpListener;

/// Values by name, as policies attach them to connections and messages.
pub type Constants = serde_json::Map<String, serde_json::Value>;

/// Makes the two types from one list of options.
macro_rules! listener_options {
    ($( $(#[doc = $doc:literal])+ $name:ident: $type:ty = $default:expr; )+) => {
        /// One SMTP listener.
        #[derive(Clone, Debug, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub struct SmtpListener {
            /// Address and port; port 0 takes a free one.
            pub listen: SocketAddr,
            $( $(#[doc = $doc])+ #[serde(deserialize_with = "value")] pub $name: $type, )+
            /// Connections at once; over it a client is told 421 4.3.2.
            pub max_connections: usize,
            /// Messages are written only when their first attempt fails. The spool makes one promise for all, so listeners agree on it.
            pub deferred_spool: bool,
            /// What is different for clients with certain addresses.
            pub peer: ClientOverrides,
            /// What is different for clients that came to certain addresses of ours; applied after `peer`.
            pub via: ClientOverrides,
        }

        /// What is different for some clients of a listener. `None`: as the listener has it.
        #[derive(Clone, Debug, Default, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub struct SmtpOverride {
            $( $(#[doc = $doc])+ #[serde(deserialize_with = "given")] pub $name: Option<$type>, )+
            /// Among these, what is different for clients with certain addresses.
            pub peer: ClientOverrides,
            /// Among these, what is different for clients that came to certain addresses of ours.
            pub via: ClientOverrides,
        }

        impl Default for SmtpListener {
            fn default() -> Self {
                Self {
                    listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 2025),
                    $( $name: $default, )+
                    max_connections: 32_768,
                    deferred_spool: false,
                    peer: ClientOverrides::default(),
                    via: ClientOverrides::default(),
                }
            }
        }

        impl SmtpListener {
            fn apply(&mut self, changes: &SmtpOverride) {
                $( if let Some(changed) = &changes.$name { self.$name = changed.clone(); } )+
            }
        }
    };
}

listener_options! {
    /// The name in banner, replies and `Received`; the host's own unless set.
    hostname: Option<String> = None;
    /// The text after the name in the 220.
    banner: String = "kumod".to_owned();
    /// Clients that may relay to anywhere. Everybody else gets 550 5.7.1 at RCPT.
    relay_hosts: CidrSet = CidrSet::parse(&["127.0.0.1", "::1"]).unwrap_or_default();
    /// Bytes of one message, announced as SIZE (RFC 1870).
    max_message_size: u64 = 20 << 20;
    /// How the recipients of one transaction become messages.
    batch_handling: BatchHandling = BatchHandling::BifurcateAlways;
    /// A 250 before it is known where the message goes. Not available: only `false` is taken.
    deferred_queue: bool = false;
    /// Recipients of one transaction; over it 452 4.5.3.
    max_recipients_per_message: usize = 1024;
    /// Messages of one connection; over it 421 4.5.3.
    max_messages_per_connection: u32 = 10_000;
    /// Bad commands without an accepted message between them; at the last one 421 4.7.0.
    max_errors_per_connection: u32 = 16;
    /// Connections at once of one client address (of IPv6, of one network of 64 bits) that is not among the `relay_hosts`; over it 421 4.7.0.
    max_connections_per_client: usize = 100;
    /// How long a client waits for the replies to bad commands; zero: not at all.
    tarpit_delay: Duration = Duration::ZERO;
    /// How long a client is listened to before the banner; who speaks gets 421 4.7.0. Zero: not at all.
    banner_delay: Duration = Duration::ZERO;
    /// Bytes a second of a body, on average after the first `client_timeout`; zero: any.
    min_data_rate: u64 = 512;
    /// A PROXY header has to come first, from one of the `trusted_hosts`.
    require_proxy_protocol: bool = false;
    /// XCLIENT is there for the `trusted_hosts`.
    allow_xclient: bool = false;
    /// Proxies that are believed when they say for whom they speak.
    trusted_hosts: CidrSet = CidrSet::parse(&["127.0.0.1", "::1"]).unwrap_or_default();
    /// Bytes of one body line without its CRLF (RFC 5321 4.5.3.1.6).
    line_length_hard_limit: usize = 998;
    /// What to do with a lone CR or LF in a body.
    invalid_line_endings: LineEndings = LineEndings::Deny;
    /// Bytes read at once while a body comes by DATA.
    data_buffer_size: usize = 64 << 10;
    /// How long a client may be silent.
    client_timeout: Duration = Duration::from_secs(60);
    /// How long the work after the final dot may take before the client gets 451 4.4.5.
    data_processing_timeout: Duration = Duration::from_secs(300);
    /// Whether TLS is there, and whether it is needed.
    enable_tls: ListenerTls = ListenerTls::Opportunistic;
    /// The server's certificate, then those that vouch for it; made in memory where none is given.
    tls_certificate: Option<KeySource> = None;
    /// Its key.
    tls_private_key: Option<KeySource> = None;
    /// Clients have to show a certificate of one of these authorities (RFC 3207 4.1).
    tls_required_client_ca: Option<KeySource> = None;
    /// What is written in front of a message.
    trace_headers: TraceHeaders = TraceHeaders::default();
    /// What a handler reads of every connection, beside what is known of it.
    meta: Constants = Constants::new();
}

/// A client waits five minutes for the banner and for most replies (RFC 5321 4.5.3.2).
const BANNER_DELAY_MAX: Duration = Duration::from_secs(300);
const TARPIT_DELAY_MAX: Duration = Duration::from_secs(300);
/// Bounds of `data_buffer_size`.
const DATA_BUFFER_BYTES: std::ops::RangeInclusive<usize> = 4 << 10..=16 << 20;

impl SmtpListener {
    /// What is different for a client at `peer` that came to our address `via`, in the order in which it applies: `peer` before
    /// `via`, of several networks the smallest, and what is nested in one right after it.
    pub fn overrides_for(&self, peer: IpAddr, via: IpAddr) -> Vec<Change<'_>> {
        let mut found = Vec::new();
        client_override::collect((&self.peer, &self.via), peer, via, &mut found);
        found
    }

    /// The listener with these changes; they are gone from it then.
    #[must_use]
    pub fn with(&self, changes: &[Change<'_>]) -> Self {
        let mut changed =
            Self { peer: ClientOverrides::default(), via: ClientOverrides::default(), ..self.clone() };
        for Change { network, options } in changes {
            changed.apply(options);
            // Who makes one network's clients proxies trusts that network, unless somebody else is named.
            let proxies = options.allow_xclient == Some(true) || options.require_proxy_protocol == Some(true);
            if let (Some(network), true, None) = (network, proxies, &options.trusted_hosts) {
                changed.trusted_hosts = CidrSet::of(*network);
            }
        }
        changed
    }

    /// Every override, with what is nested in it.
    pub fn overrides(&self) -> Vec<&SmtpOverride> {
        let mut all: Vec<&SmtpOverride> = Vec::new();
        let mut next: Vec<&ClientOverrides> = vec![&self.peer, &self.via];
        while let Some(overrides) = next.pop() {
            for (_, changes) in overrides.iter() {
                all.push(changes);
                next.extend([&changes.peer, &changes.via]);
            }
        }
        all
    }

    /// Looks for values that cannot be meant.
    ///
    /// # Errors
    /// Names the first such option, where it stands, and the rule.
    pub fn check(&self) -> Result<(), String> {
        self.check_values()?;
        for (option, overrides) in [("peer", &self.peer), ("via", &self.via)] {
            for (network, options) in overrides.iter() {
                let mut changed = self.with(&[Change { network: None, options }]);
                (changed.peer, changed.via) = (options.peer.clone(), options.via.clone());
                changed.check().map_err(|reason| format!("option '{option}', '{network}': {reason}"))?;
            }
        }
        Ok(())
    }

    fn check_values(&self) -> Result<(), String> {
        check_name("hostname", self.hostname.as_deref())?;
        if self.deferred_queue {
            return Err("option 'deferred_queue' = true is not available: where a message goes is known before its 250, so that a 250 is \
                        never taken back; leave the option out. To spare the disk where the first attempt succeeds, set 'deferred_spool'"
                .to_owned());
        }
        if self.banner.chars().any(char::is_control) {
            return Err("option 'banner' has a control character".to_owned());
        }
        not_zero(&[
            ("max_connections", self.max_connections == 0),
            ("max_message_size", self.max_message_size == 0),
            ("max_recipients_per_message", self.max_recipients_per_message == 0),
            ("max_messages_per_connection", self.max_messages_per_connection == 0),
            ("max_errors_per_connection", self.max_errors_per_connection == 0),
            ("max_connections_per_client", self.max_connections_per_client == 0),
            ("line_length_hard_limit", self.line_length_hard_limit == 0),
            ("client_timeout", self.client_timeout == Duration::ZERO),
            ("data_processing_timeout", self.data_processing_timeout == Duration::ZERO),
        ])?;
        if self.banner_delay >= BANNER_DELAY_MAX || self.tarpit_delay >= TARPIT_DELAY_MAX {
            return Err(format!(
                "option 'banner_delay' must be below {BANNER_DELAY_MAX:?} and 'tarpit_delay' below {TARPIT_DELAY_MAX:?}: a client waits \
                 no longer (RFC 5321 4.5.3.2)"
            ));
        }
        if !DATA_BUFFER_BYTES.contains(&self.data_buffer_size) {
            let (min, max) = DATA_BUFFER_BYTES.into_inner();
            return Err(format!(
                "option 'data_buffer_size' = {} must lie between {min} and {max}",
                self.data_buffer_size
            ));
        }
        if self.tls_certificate.is_some() != self.tls_private_key.is_some() {
            return Err(
                "options 'tls_certificate' and 'tls_private_key' belong together; give both or neither"
                    .to_owned(),
            );
        }
        self.trace_headers.check()
    }
}

/// What to do with a lone CR or LF in a body, the raw material of SMTP smuggling.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
pub enum LineEndings {
    /// Refuse the message with 552 5.6.0.
    Deny,
    /// Take it as it is. Only for peers that are known.
    Allow,
    /// Make CRLF of each.
    Fix,
}

/// How the recipients of one transaction become messages.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
pub enum BatchHandling {
    /// One for each recipient.
    BifurcateAlways,
    /// One for all recipients of a domain, up to a named number; policy is asked once for each, and the next hop gets it once.
    BatchByDomain,
}

/// How a listener does TLS.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
pub enum ListenerTls {
    /// STARTTLS is offered (RFC 3207).
    Opportunistic,
    /// STARTTLS is offered, and no mail is taken without it.
    Required,
    /// From the first byte (RFC 8314 3.3), as on port 465.
    Implicit,
    /// There is none.
    Disabled,
}

/// What is written in front of a message.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct TraceHeaders {
    /// `Received` (RFC 5321 4.4).
    pub received_header: bool,
    /// A header with recipient and chosen metadata in base64, by which a complaint about the message can be matched.
    pub supplemental_header: bool,
    /// The name of that header.
    pub header_name: String,
    /// The metadata in it.
    #[serde(deserialize_with = "super::list_of_strings")]
    pub include_meta_names: Vec<String>,
}

impl Default for TraceHeaders {
    fn default() -> Self {
        Self {
            received_header: true,
            supplemental_header: false,
            header_name: "X-KumoRef".to_owned(),
            include_meta_names: Vec::new(),
        }
    }
}

impl TraceHeaders {
    /// RFC 5322 2.2: the name of a field is printable ASCII without a colon.
    fn check(&self) -> Result<(), String> {
        let name = self.header_name.as_bytes();
        let good = name.iter().all(|byte| byte.is_ascii_graphic() && *byte != b':');
        if good && (1..=64).contains(&name.len()) {
            return Ok(());
        }
        let given = &self.header_name;
        Err(format!("option 'trace_headers', 'header_name' = {given:?} is not the name of a header field"))
    }
}

/// Refuses the first option that is zero where that would stop all mail.
pub(crate) fn not_zero(options: &[(&str, bool)]) -> Result<(), String> {
    match options.iter().find(|(_, zero)| *zero) {
        Some((name, _)) => Err(format!("option '{name}' = 0 would stop all mail")),
        None => Ok(()),
    }
}

/// A name that goes into replies and EHLO must be one word of visible ASCII (RFC 5321 2.3.5).
pub(crate) fn check_name(option: &str, name: Option<&str>) -> Result<(), String> {
    match name {
        Some(name) if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_graphic()) => {
            Err(format!("option '{option}' must be a host name such as 'mail.example.com'"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn banner(text: &str) -> SmtpOverride {
        SmtpOverride { banner: Some(text.to_owned()), ..SmtpOverride::default() }
    }

    fn overrides(entries: Vec<(&str, SmtpOverride)>) -> ClientOverrides {
        ClientOverrides::new(
            entries.into_iter().map(|(net, change)| (net.parse().unwrap(), change)).collect(),
        )
    }

    fn banner_for(listener: &SmtpListener, peer: &str, via: &str) -> String {
        listener.with(&listener.overrides_for(peer.parse().unwrap(), via.parse().unwrap())).banner
    }

    #[test]
    fn peer_applies_before_via_and_the_smallest_network_wins() {
        let nested =
            SmtpOverride { via: overrides(vec![("127.0.0.9/32", banner("nested"))]), ..banner("ten") };
        let listener = SmtpListener {
            peer: overrides(vec![("10.0.0.0/8", nested), ("10.1.0.0/16", banner("ten-one"))]),
            via: overrides(vec![("127.0.0.2/32", banner("via"))]),
            ..SmtpListener::default()
        };
        for (peer, via, expected) in [
            ("192.0.2.1", "127.0.0.1", "kumod"),
            ("10.2.0.1", "127.0.0.1", "ten"),
            ("::ffff:10.2.0.1", "127.0.0.1", "ten"),
            ("10.1.0.1", "127.0.0.1", "ten-one"),
            ("10.1.0.1", "127.0.0.2", "via"),
            ("10.2.0.1", "127.0.0.9", "nested"),
            ("10.1.0.1", "127.0.0.9", "ten-one"),
        ] {
            assert_eq!(banner_for(&listener, peer, via), expected, "{peer} to {via}");
        }
    }

    #[test]
    fn a_mistake_in_an_override_is_named_with_its_place() {
        let deep = SmtpOverride { max_message_size: Some(0), ..SmtpOverride::default() };
        let outer = SmtpOverride { via: overrides(vec![("::1/128", deep)]), ..SmtpOverride::default() };
        let listener =
            SmtpListener { peer: overrides(vec![("10.0.0.0/8", outer)]), ..SmtpListener::default() };
        assert_eq!(
            listener.check().unwrap_err(),
            "option 'peer', '10.0.0.0/8': option 'via', '::1/128': option 'max_message_size' = 0 would stop all mail"
        );
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        let header = TraceHeaders { header_name: "X Ref".to_owned(), ..TraceHeaders::default() };
        for (listener, part) in [
            (SmtpListener { trace_headers: header, ..SmtpListener::default() }, "'header_name' = \"X Ref\""),
            (
                SmtpListener { deferred_queue: true, ..SmtpListener::default() },
                "'deferred_queue' = true is not available",
            ),
            (SmtpListener { data_buffer_size: 5, ..SmtpListener::default() }, "'data_buffer_size' = 5"),
            (SmtpListener { hostname: Some("a b".to_owned()), ..SmtpListener::default() }, "'hostname'"),
        ] {
            let error = listener.check().unwrap_err();
            assert!(error.contains(part), "{error}");
        }
        SmtpListener::default().check().unwrap();
    }
}
