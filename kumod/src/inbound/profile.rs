//! What a listener is for one client: its options with `peer` and `via` applied, ready for use.
//!
//! Made once for each combination of overrides that some client has met, and shared from then on, so that a connection costs a
//! look-up. A listener without overrides has one profile and looks nothing up.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use smtp::data::BodyRules;
use smtp::server;

use super::tls::{Tls, TlsError};
use crate::config::{Change, LineEndings, ListenerTls, SmtpListener, SmtpOverride};

/// Options in the form in which a connection uses them.
#[derive(Debug)]
pub(super) struct Profile {
    pub(super) listener: Arc<SmtpListener>,
    pub(super) hostname: Arc<str>,
    pub(super) session: Arc<server::Config>,
    /// The same with XCLIENT, for those who may use it.
    session_of_proxies: Option<Arc<server::Config>>,
    pub(super) body_rules: BodyRules,
    pub(super) tls: Tls,
}

impl Profile {
    fn new(listener: SmtpListener, hostname: &str, mechanisms: &[server::Mechanism]) -> Self {
        let hostname: Arc<str> = listener.hostname.as_deref().unwrap_or(hostname).into();
        let limits = server::Limits {
            recipients_max: listener.max_recipients_per_message,
            message_bytes_max: listener.max_message_size,
            messages_max: listener.max_messages_per_connection,
            errors_max: listener.max_errors_per_connection,
            ..server::Limits::default()
        };
        let session = server::Config {
            hostname: hostname.to_string(),
            banner: listener.banner.clone(),
            limits,
            auth: mechanisms.to_vec(),
            auth_needs_tls: true,
            dsn: true,
            binary_mime: true,
            require_tls: true,
            announce_limits: true,
            starttls: matches!(listener.enable_tls, ListenerTls::Opportunistic | ListenerTls::Required),
            tls_needed: listener.enable_tls == ListenerTls::Required,
            ..server::Config::default()
        };
        let line_endings = match listener.invalid_line_endings {
            // What is to be mended has to be found first.
            LineEndings::Deny | LineEndings::Fix => smtp::data::LineEndings::Deny,
            LineEndings::Allow => smtp::data::LineEndings::Allow,
        };
        let body_rules = BodyRules { line_bytes_max: listener.line_length_hard_limit, line_endings };
        let tls = Tls::new(&listener, &hostname);
        let session_of_proxies =
            listener.allow_xclient.then(|| Arc::new(server::Config { xclient: true, ..session.clone() }));
        let (listener, session) = (Arc::new(listener), Arc::new(session));
        Self { listener, hostname, session, session_of_proxies, body_rules, tls }
    }
}

impl Profile {
    /// What is on offer for a client at `peer`: XCLIENT only where it is trusted.
    pub(super) fn session_for(&self, peer: SocketAddr) -> Arc<server::Config> {
        let proxies = self.session_of_proxies.as_ref();
        let proxies = proxies.filter(|_| self.listener.trusted_hosts.contains(peer.ip()));
        Arc::clone(proxies.unwrap_or(&self.session))
    }

    /// A pair that was given has to be good from the start; one that is made in memory is made when it is needed.
    fn check_tls(&self) -> Result<(), TlsError> {
        let given = self.listener.tls_certificate.is_some() || self.listener.tls_required_client_ca.is_some();
        if given && self.listener.enable_tls != ListenerTls::Disabled {
            self.tls.config()?;
        }
        Ok(())
    }
}

/// All profiles of one listener.
pub(super) struct Profiles {
    /// As written, overrides included.
    listener: SmtpListener,
    /// The name of this host.
    hostname: String,
    /// How users can show who they are.
    mechanisms: Vec<server::Mechanism>,
    /// For clients of which no override speaks.
    common: Arc<Profile>,
    /// By the addresses of the overrides that apply, which stay where they are. The policy bounds how many there can be.
    special: Mutex<HashMap<Vec<usize>, Arc<Profile>>>,
}

impl Profiles {
    /// # Errors
    /// A certificate or key, here or in an override, cannot be used.
    pub(super) fn new(
        listener: SmtpListener,
        hostname: &str,
        mechanisms: Vec<server::Mechanism>,
    ) -> Result<Self, TlsError> {
        let common = Arc::new(Profile::new(listener.with(&[]), hostname, &mechanisms));
        common.check_tls()?;
        for options in listener.overrides() {
            let change = Change { network: None, options };
            Profile::new(listener.with(&[change]), hostname, &mechanisms).check_tls()?;
        }
        Ok(Self { listener, hostname: hostname.to_owned(), mechanisms, common, special: Mutex::default() })
    }

    /// The profile for a client at `peer` that came to our address `via`.
    pub(super) fn of(&self, peer: SocketAddr, via: SocketAddr) -> Arc<Profile> {
        if self.listener.peer.is_empty() && self.listener.via.is_empty() {
            return Arc::clone(&self.common);
        }
        let overrides = self.listener.overrides_for(peer.ip(), via.ip());
        if overrides.is_empty() {
            return Arc::clone(&self.common);
        }
        let key = overrides
            .iter()
            .map(|change| std::ptr::from_ref::<SmtpOverride>(change.options).addr())
            .collect();
        let mut special = self.special.lock().unwrap_or_else(PoisonError::into_inner);
        let made = special.entry(key).or_insert_with(|| {
            Arc::new(Profile::new(self.listener.with(&overrides), &self.hostname, &self.mechanisms))
        });
        Arc::clone(made)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::ClientOverrides;

    #[test]
    fn clients_with_the_same_overrides_share_a_profile() {
        let small = SmtpOverride { max_message_size: Some(1000), ..SmtpOverride::default() };
        let listener = SmtpListener {
            peer: ClientOverrides::new(vec![("10.0.0.0/8".parse().unwrap(), small)]),
            ..SmtpListener::default()
        };
        let profiles = Profiles::new(listener, "mx.test", Vec::new()).unwrap();
        let of = |peer: &str| profiles.of(peer.parse().unwrap(), "127.0.0.1:25".parse().unwrap());
        let (one, two, other) = (of("10.0.0.1:1"), of("10.0.0.2:2"), of("192.0.2.1:3"));
        assert!(Arc::ptr_eq(&one, &two) && Arc::ptr_eq(&other, &of("192.0.2.2:4")));
        assert_eq!(one.session.limits.message_bytes_max, 1000);
        assert_eq!(other.session.limits.message_bytes_max, 20 << 20);
    }
}
