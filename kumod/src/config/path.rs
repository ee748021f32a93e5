//! Egress paths: what `make_egress_path` says of one `source->site`, with KumoMTA's names and defaults.

mod choices;

use std::collections::BTreeMap;
use std::time::Duration;

use rustls::crypto::ring::ALL_CIPHER_SUITES;
use rustls::{CipherSuite, SupportedCipherSuite};
use serde::{Deserialize, Deserializer};
use smtp::client::{DEADLINES, Phase, Secured};

use super::{CidrSet, CountLimit, KeySource, ThrottleSpec, duration, named};
pub use choices::{
    AuthMechanism, MemoryReduction, OpenSsl, ReconnectStrategy, RefreshStrategy, WakeupStrategy,
};

/// How mail to one site travels.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PathConfig {
    /// Connections to the site at once.
    pub connection_limit: CountLimit,
    /// New connections to the site over time.
    pub max_connection_rate: Option<ThrottleSpec>,
    /// Messages to the site over time.
    pub max_message_rate: Option<ThrottleSpec>,
    /// Further limits on connections at once; paths that name the same one share it.
    #[serde(deserialize_with = "named::deserialize")]
    pub additional_connection_limits: BTreeMap<String, CountLimit>,
    /// Further rates of messages; paths that name the same one share it.
    #[serde(deserialize_with = "named::deserialize")]
    pub additional_message_rate_throttles: BTreeMap<String, ThrottleSpec>,
    /// Connections in a row that failed before all mail for the site is put off.
    pub consecutive_connection_failures_before_delay: u32,
    /// Messages that may be ready at once; more wait in their scheduled queues.
    pub max_ready: usize,
    /// Messages over one connection, after which it is closed and another opened.
    pub max_deliveries_per_connection: u32,
    /// Recipients in one transaction; the others follow in further ones.
    pub max_recipients_per_batch: usize,
    /// Messages that may choose this source for the site over time; others choose another source of the pool, or wait.
    pub source_selection_rate: Option<ThrottleSpec>,
    /// Further rates of that kind; paths that name the same one share it.
    #[serde(deserialize_with = "named::deserialize")]
    pub additional_source_selection_rates: BTreeMap<String, ThrottleSpec>,
    /// Opens a connection for each message that is ready, up to the limit, where else a short queue is not worth all of them.
    pub aggressive_connection_opening: bool,
    /// Addresses that mail is never sent to. Unset: loopback, for hosts other than `.localhost` and `--relay-to`.
    pub prohibited_hosts: Option<CidrSet>,
    /// Addresses that are passed over; a site with no others is tried again later.
    pub skip_hosts: CidrSet,
    /// Which families of addresses hosts are looked up in.
    pub ip_lookup_strategy: IpLookupStrategy,
    /// Whether and how STARTTLS is used.
    pub enable_tls: EnableTls,
    /// Whether what a domain publishes by MTA-STS is stronger than `enable_tls`.
    pub enable_mta_sts: bool,
    /// Whether what hosts publish by DANE is stronger than both.
    pub enable_dane: bool,
    /// Where the handshake fails with a host that need not do TLS: whether to connect to it again, without.
    pub opportunistic_tls_reconnect_on_failed_handshake: bool,
    /// For how long a host whose handshake failed is not asked for TLS again, where it need not do TLS.
    #[serde(deserialize_with = "duration::deserialize_option")]
    pub remember_broken_tls: Option<Duration>,
    /// The certificate to show to a server that asks for one, with those that vouch for it.
    pub tls_certificate: Option<KeySource>,
    /// The key to it.
    pub tls_private_key: Option<KeySource>,
    /// The cipher suites to offer; empty: all that are known.
    pub rustls_cipher_suites: CipherSuites,
    /// Time for the reply to STARTTLS and for the handshake, each.
    #[serde(deserialize_with = "duration::deserialize")]
    pub starttls_timeout: Duration,
    /// The port of hosts found by DNS.
    pub smtp_port: Option<u16>,
    /// The name given in EHLO; the host's own unless set.
    pub ehlo_domain: Option<String>,
    /// Commands go ahead of replies where the server offers PIPELINING.
    pub enable_pipelining: bool,
    /// RSET goes before a message where remains of the one before are left. `false`: such a connection is closed.
    pub enable_rset: bool,
    /// LMTP (RFC 2033) is spoken instead of SMTP.
    pub use_lmtp: bool,
    /// Bytes over 127 go to servers without 8BITMIME, and headers in UTF-8 to servers without SMTPUTF8. `false`: such mail bounces.
    pub ignore_8bit_checks: bool,
    /// Who logs in at the server.
    pub smtp_auth_plain_username: Option<String>,
    /// With which password.
    pub smtp_auth_plain_password: Option<KeySource>,
    /// By which mechanism alone; the best that the server offers unless set.
    pub smtp_auth_mechanism: Option<AuthMechanism>,
    /// The password itself may go over a connection without TLS.
    pub allow_smtp_auth_plain_without_tls: bool,
    /// The password itself may go through TLS to a server whose certificate is not verified.
    pub allow_smtp_auth_plain_without_valid_certificate: bool,
    /// Where to connect next when a connection was lost.
    pub reconnect_strategy: ReconnectStrategy,
    /// A message whose connection broke goes to the next host of the site at once, and not with its next attempt.
    pub try_next_host_on_transport_error: bool,
    /// Names the provider in records.
    pub provider_name: Option<String>,
    /// How long what the policy said of this path holds.
    #[serde(deserialize_with = "duration::deserialize")]
    pub refresh_interval: Duration,
    /// What ends that time.
    pub refresh_strategy: RefreshStrategy,
    /// Time for a TCP connection to open.
    #[serde(deserialize_with = "duration::deserialize")]
    pub connect_timeout: Duration,
    /// Time for the server's greeting.
    #[serde(deserialize_with = "duration::deserialize")]
    pub banner_timeout: Duration,
    /// Time for the reply to EHLO.
    #[serde(deserialize_with = "duration::deserialize")]
    pub ehlo_timeout: Duration,
    /// Time for each reply to AUTH.
    #[serde(deserialize_with = "duration::deserialize")]
    pub auth_timeout: Duration,
    /// Time for the reply to RSET.
    #[serde(deserialize_with = "duration::deserialize")]
    pub rset_timeout: Duration,
    /// Time for the reply to MAIL.
    #[serde(deserialize_with = "duration::deserialize")]
    pub mail_from_timeout: Duration,
    /// Time for the reply to each RCPT.
    #[serde(deserialize_with = "duration::deserialize")]
    pub rcpt_to_timeout: Duration,
    /// Time for the reply to DATA.
    #[serde(deserialize_with = "duration::deserialize")]
    pub data_timeout: Duration,
    /// Time for the reply to the final dot, or to BDAT.
    #[serde(deserialize_with = "duration::deserialize")]
    pub data_dot_timeout: Duration,
    /// How long a connection is kept without mail to send.
    #[serde(deserialize_with = "duration::deserialize")]
    pub idle_timeout: Duration,
    /// How long a message that is being sent may go on when kumod stops. Unset: as long as kumod itself waits.
    #[serde(deserialize_with = "duration::deserialize_option")]
    pub system_shutdown_timeout: Option<Duration>,
    /// A session that makes no progress for so long, whatever it waits for, is given up. Unset: [`Self::watchdog`].
    #[serde(deserialize_with = "duration::deserialize_option")]
    pub dispatcher_progress_watchdog_timeout: Option<Duration>,
    /// Without effect: an idle connection is told of a message the moment there is one.
    pub dispatcher_wakeup_strategy: Option<WakeupStrategy>,
    /// Without effect: a ready queue has no maintainer that would sleep.
    pub maintainer_wakeup_strategy: Option<WakeupStrategy>,
    /// Without effect: bodies have one budget of memory, whatever the path.
    pub low_memory_reduction_policy: Option<MemoryReduction>,
    /// Without effect, for the same reason.
    pub no_memory_reduction_policy: Option<MemoryReduction>,
    /// Without effect: all connections share the threads.
    pub readyq_pool_name: Option<String>,
    /// No value but `false` is taken: there is no OpenSSL.
    pub tls_prefer_openssl: OpenSsl,
}

impl Default for PathConfig {
    fn default() -> Self {
        Self {
            connection_limit: CountLimit(32),
            max_connection_rate: None,
            max_message_rate: None,
            additional_connection_limits: BTreeMap::new(),
            additional_message_rate_throttles: BTreeMap::new(),
            consecutive_connection_failures_before_delay: 100,
            max_ready: 1024,
            max_deliveries_per_connection: 1024,
            max_recipients_per_batch: 100,
            source_selection_rate: None,
            additional_source_selection_rates: BTreeMap::new(),
            aggressive_connection_opening: false,
            prohibited_hosts: None,
            skip_hosts: CidrSet::default(),
            ip_lookup_strategy: IpLookupStrategy::default(),
            enable_tls: EnableTls::Opportunistic,
            enable_mta_sts: true,
            enable_dane: false,
            opportunistic_tls_reconnect_on_failed_handshake: false,
            remember_broken_tls: None,
            tls_certificate: None,
            tls_private_key: None,
            rustls_cipher_suites: CipherSuites::default(),
            starttls_timeout: Duration::from_secs(5),
            smtp_port: None,
            ehlo_domain: None,
            enable_pipelining: true,
            enable_rset: true,
            use_lmtp: false,
            ignore_8bit_checks: false,
            smtp_auth_plain_username: None,
            smtp_auth_plain_password: None,
            smtp_auth_mechanism: None,
            allow_smtp_auth_plain_without_tls: false,
            allow_smtp_auth_plain_without_valid_certificate: false,
            reconnect_strategy: ReconnectStrategy::ConnectNextHost,
            try_next_host_on_transport_error: false,
            provider_name: None,
            refresh_interval: Duration::from_secs(60),
            refresh_strategy: RefreshStrategy::Ttl,
            connect_timeout: Duration::from_secs(60),
            banner_timeout: Duration::from_secs(60),
            ehlo_timeout: Duration::from_secs(300),
            auth_timeout: Duration::from_secs(300),
            rset_timeout: Duration::from_secs(5),
            mail_from_timeout: Duration::from_secs(300),
            rcpt_to_timeout: Duration::from_secs(300),
            data_timeout: Duration::from_secs(30),
            data_dot_timeout: Duration::from_secs(60),
            idle_timeout: Duration::from_secs(60),
            system_shutdown_timeout: None,
            dispatcher_progress_watchdog_timeout: None,
            dispatcher_wakeup_strategy: None,
            maintainer_wakeup_strategy: None,
            low_memory_reduction_policy: None,
            no_memory_reduction_policy: None,
            readyq_pool_name: None,
            tls_prefer_openssl: OpenSsl,
        }
    }
}

/// Which families of addresses a host is looked up in. An address that the source cannot reach does not count as found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum IpLookupStrategy {
    /// Both, IPv4 first.
    #[default]
    V4AndV6,
    /// IPv4 alone.
    V4Only,
    /// IPv6 alone.
    V6Only,
    /// IPv6 where there is no address of IPv4.
    V4ThenV6,
    /// IPv4 where there is no address of IPv6.
    V6ThenV4,
}

impl IpLookupStrategy {
    /// As policies write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::V4AndV6 => "V4AndV6",
            Self::V4Only => "V4Only",
            Self::V6Only => "V6Only",
            Self::V4ThenV6 => "V4ThenV6",
            Self::V6ThenV4 => "V6ThenV4",
        }
    }
}

/// The watchdog waits for so long at least, unless it is set.
const WATCHDOG_MIN: Duration = Duration::from_secs(60);

impl PathConfig {
    /// The longest wait in each phase of a session. Nobody sets how long a server may take for a part of a body, or for QUIT.
    pub fn deadline(&self, phase: Phase) -> Duration {
        match phase {
            Phase::Banner => self.banner_timeout,
            Phase::Ehlo => self.ehlo_timeout,
            Phase::StartTls => self.starttls_timeout,
            Phase::Auth => self.auth_timeout,
            Phase::Rset => self.rset_timeout,
            Phase::Mail => self.mail_from_timeout,
            Phase::Rcpt => self.rcpt_to_timeout,
            Phase::Data => self.data_timeout,
            Phase::FinalDot => self.data_dot_timeout,
            Phase::Idle => self.idle_timeout,
            Phase::Body | Phase::Quit => DEADLINES[phase as usize],
        }
    }

    /// How long a session may make no progress: twice the longest wait for a reply, and a minute at least, as with KumoMTA, unless set.
    pub fn watchdog(&self) -> Duration {
        const PHASES: [Phase; 8] = [
            Phase::Banner,
            Phase::Ehlo,
            Phase::StartTls,
            Phase::Auth,
            Phase::Mail,
            Phase::Rcpt,
            Phase::Data,
            Phase::FinalDot,
        ];
        self.dispatcher_progress_watchdog_timeout.unwrap_or_else(|| {
            let longest = PHASES.iter().map(|phase| self.deadline(*phase)).max().unwrap_or_default();
            WATCHDOG_MIN.max(2 * longest)
        })
    }

    /// What a connection must be before the password itself is sent.
    pub fn password_needs(&self) -> Option<Secured> {
        if self.allow_smtp_auth_plain_without_tls {
            return None;
        }
        Some(Secured { verified: !self.allow_smtp_auth_plain_without_valid_certificate })
    }
}

/// Whether and how STARTTLS is used, with KumoMTA's names. docs/outbound-tls.md says what each does when a server does not play along.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
pub enum EnableTls {
    /// Where it is offered; the certificate must then be a valid one for the host.
    #[default]
    Opportunistic,
    /// Where it is offered, whatever the certificate.
    OpportunisticInsecure,
    /// Always, with a valid certificate for the host.
    Required,
    /// Always, whatever the certificate.
    RequiredInsecure,
    /// Never.
    Disabled,
}

/// Cipher suites by their numbers, in the order in which they are offered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct CipherSuites(Vec<u16>);

impl CipherSuites {
    /// What is offered: those that are named, or all that are known.
    pub fn chosen(&self) -> Vec<SupportedCipherSuite> {
        if self.0.is_empty() {
            return ALL_CIPHER_SUITES.to_vec();
        }
        let known = |number: &u16| ALL_CIPHER_SUITES.iter().find(|suite| u16::from(suite.suite()) == *number);
        self.0.iter().filter_map(known).copied().collect()
    }
}

impl<'de> Deserialize<'de> for CipherSuites {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let known = || ALL_CIPHER_SUITES.iter().map(|suite| suite.suite());
        let named = |suite: CipherSuite| format!("{suite:?}");
        let find = |name: String| {
            known().find(|suite| named(*suite) == name).map(u16::from).ok_or_else(|| {
                let known = known().map(named).collect::<Vec<_>>().join(", ");
                serde::de::Error::custom(format!("there is no cipher suite {name:?}; known are: {known}"))
            })
        };
        Vec::<String>::deserialize(deserializer)?.into_iter().map(find).collect::<Result<_, _>>().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_waits_as_long_as_its_path_says() {
        let path = PathConfig { data_dot_timeout: Duration::from_secs(600), ..PathConfig::default() };
        assert_eq!(path.deadline(Phase::FinalDot).as_secs(), 600);
        assert_eq!(path.deadline(Phase::Body), Phase::Body.deadline());
        assert_eq!(path.watchdog().as_secs(), 1200);
        let short = |seconds| Some(Duration::from_secs(seconds));
        let path = PathConfig { dispatcher_progress_watchdog_timeout: short(7), ..path };
        assert_eq!(path.watchdog().as_secs(), 7);
    }

    #[test]
    fn a_password_needs_a_verified_server_unless_the_path_says_less() {
        let needs = |without_tls, without_certificate| {
            PathConfig {
                allow_smtp_auth_plain_without_tls: without_tls,
                allow_smtp_auth_plain_without_valid_certificate: without_certificate,
                ..PathConfig::default()
            }
            .password_needs()
        };
        assert_eq!(needs(false, false), Some(Secured { verified: true }));
        assert_eq!(needs(false, true), Some(Secured { verified: false }));
        assert_eq!([needs(true, false), needs(true, true)], [None, None]);
    }
}
