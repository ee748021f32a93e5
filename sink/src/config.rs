//! What the operator may choose, and the limits that nobody chooses.
//!
//! Owns the defaults. It refuses nothing itself; a port in use or an address that is not ours is found when
//! the server starts.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::thread::available_parallelism;
use std::time::Duration;

use crate::capture::CaptureConfig;
use crate::faults::RuleSet;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Files kept free for the HTTP side and the report, so that statistics can be read while connections wait.
const FILES_RESERVED: usize = 32;

/// Files that each worker needs beside its connections: listener, event queue, and the one connection that
/// it may be over the limit.
const FILES_RESERVED_PER_WORKER: usize = 8;

/// What a sink is started with.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where SMTP is served; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Where statistics are served; port 0 takes a free one.
    pub http: SocketAddr,
    /// What the banner and the reply to EHLO call this host.
    pub hostname: String,
    /// Threads that serve SMTP, each with its own listener.
    pub workers: usize,
    /// Connections that the kernel keeps ready for each listener; it clamps the number to
    /// `net.core.somaxconn`.
    pub backlog: i32,
    /// How long a connection may say nothing (RFC 5321 4.5.3.2.7 asks for five minutes). Measured in whole
    /// seconds.
    pub idle_timeout: Duration,
    /// Connections served at once; the rest waits in the backlog. Each worker looks before it accepts, so
    /// all together may be over by one connection per worker.
    pub connections_max: usize,
    /// Memory that the ledgers of all runs may take, in bytes.
    pub ledger_bytes_max: usize,
    /// The largest message, in bytes; it is what SIZE announces.
    pub message_bytes_max: u64,
    /// Where TLS comes before the banner; port 0 takes a free one.
    pub tls_listen: Option<SocketAddr>,
    /// Whether STARTTLS is on offer.
    pub starttls: bool,
    /// What is shown in a handshake; made at the start where there is none.
    pub certificate: Option<Certificate>,
    /// Who may log in. Nobody has to.
    pub auth: Auth,
    /// Speak LMTP (RFC 2033).
    pub lmtp: bool,
    /// What follows the host name in the banner.
    pub banner: String,
    /// The most recipients of one message.
    pub recipients_max: usize,
    /// What the reply to EHLO lists.
    pub extensions: Extensions,
    /// How much of what was sent the kernel keeps for each connection, in bytes; it decides itself where there
    /// is no number.
    pub receive_buffer_bytes: Option<usize>,
    /// When and how the sink misbehaves. HTTP may change it later.
    pub rules: RuleSet,
    /// Who takes the notifications of rules that accept mail and bounce it then.
    pub bounce_to: Option<SocketAddr>,
    /// Whether local parts such as `tempfail` and `450-x` are obeyed.
    pub magic: bool,
    /// From which all chance of the rules is drawn.
    pub seed: u64,
    /// Mail that is written to files.
    pub capture: Option<CaptureConfig>,
    /// Messages that are kept in memory to be looked at; none costs nothing.
    pub remember: usize,
    /// Messages after which [`crate::Server::ended`] says so.
    pub messages_max: Option<u64>,
    /// Sessions after whose end [`crate::Server::ended`] says so.
    pub sessions_max: Option<u64>,
}

/// Certificate and key in PEM, as their files hold them.
#[derive(Clone)]
pub struct Certificate {
    /// The sink's own first, then those that vouch for it.
    pub certificates: Vec<u8>,
    /// Not encrypted.
    pub key: Vec<u8>,
}

impl fmt::Debug for Certificate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The key is a secret.
        formatter.debug_struct("Certificate").finish_non_exhaustive()
    }
}

/// Who may log in by AUTH.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Auth {
    /// AUTH is not on offer.
    #[default]
    None,
    /// Everybody, whatever the password.
    Any,
    /// These.
    Users(Vec<Login>),
}

/// A user and the password.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    /// The user.
    pub user: String,
    /// The password.
    pub password: String,
}

impl fmt::Debug for Login {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Login").field("user", &self.user).finish_non_exhaustive()
    }
}

/// What the reply to EHLO lists, beside SIZE, STARTTLS and AUTH.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extensions {
    /// PIPELINING; pipelined input is read either way.
    pub pipelining: bool,
    /// CHUNKING, and BDAT is known.
    pub chunking: bool,
    /// 8BITMIME.
    pub eight_bit_mime: bool,
    /// SMTPUTF8.
    pub smtputf8: bool,
    /// ENHANCEDSTATUSCODES, and replies have them.
    pub enhanced_status_codes: bool,
}

impl Default for Extensions {
    fn default() -> Self {
        Self {
            pipelining: true,
            chunking: true,
            eight_bit_mime: true,
            smtputf8: true,
            enhanced_status_codes: true,
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        // The number knows about cgroup quotas and CPU affinity, which is what we may really use.
        let workers = available_parallelism().map_or(1, usize::from);
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 2026)),
            http: SocketAddr::from((Ipv4Addr::LOCALHOST, 8002)),
            hostname: "sink.localhost".to_owned(),
            workers,
            backlog: 4096,
            idle_timeout: Duration::from_secs(300),
            connections_max: connections_that_fit(workers),
            ledger_bytes_max: 1 << 30,
            message_bytes_max: 1 << 31,
            tls_listen: None,
            starttls: false,
            certificate: None,
            auth: Auth::None,
            lmtp: false,
            banner: "ESMTP sink, everything is discarded".to_owned(),
            recipients_max: 10_000,
            extensions: Extensions::default(),
            receive_buffer_bytes: None,
            rules: RuleSet::default(),
            bounce_to: None,
            magic: false,
            seed: 0,
            capture: None,
            remember: 0,
            messages_max: None,
            sessions_max: None,
        }
    }
}

impl Config {
    /// The defaults on two free loopback ports, for tests and for programs that run a sink inside.
    pub fn on_free_ports() -> Self {
        let free = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Self { listen: free, http: free, ..Self::default() }
    }

    pub(crate) fn protocol(&self) -> smtp::server::Config {
        smtp::server::Config {
            hostname: self.hostname.clone(),
            banner: self.banner.clone(),
            starttls: self.starttls,
            lmtp: self.lmtp,
            pipelining: self.extensions.pipelining,
            chunking: self.extensions.chunking,
            eight_bit_mime: self.extensions.eight_bit_mime,
            smtputf8: self.extensions.smtputf8,
            enhanced_status_codes: self.extensions.enhanced_status_codes,
            limits: smtp::server::Limits {
                recipients_max: self.recipients_max,
                message_bytes_max: self.message_bytes_max,
                messages_max: u32::MAX,
                ..Default::default()
            },
            ..Default::default()
        }
    }
}

/// Raises the soft limit of open files to the hard one and returns what is in force. For the whole process,
/// so only a `main` calls it.
pub fn file_limit_raise() -> usize {
    let limit = getrlimit(Resource::Nofile);
    // A refusal leaves the old limit in force, which is then what we report.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    file_limit()
}

fn file_limit() -> usize {
    getrlimit(Resource::Nofile)
        .current
        .map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX))
}

/// How many connections fit under the limit of open files, at least 1.
pub fn connections_that_fit(workers: usize) -> usize {
    file_limit().saturating_sub(FILES_RESERVED + workers * FILES_RESERVED_PER_WORKER).max(1)
}
