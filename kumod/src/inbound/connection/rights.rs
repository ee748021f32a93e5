//! Who a client is, and where it may send mail: never to anywhere, unless something says so (RFC 5321 3.6.2, 7.9).
//!
//! A client may send to anywhere that is among the `relay_hosts`, or has shown a user's password. Anybody may send to a domain with
//! `relay_to`; those in `relay_from` of the sender's domain may send to anywhere. What the policy said of a domain is kept for the
//! connection, for a few domains. Passwords, and proofs of them, are asked for through TLS only.

use std::sync::Arc;

use smtp::reply::Reply;

use super::Connection;
use crate::config::ListenerDomain;
use crate::inbound::scram::{self, Disguise};
use crate::policy::{Verdict, WRONG_PASSWORD};

/// Domains of which a connection remembers what the policy said.
const DOMAINS_MAX: usize = 16;

const DENIED: Reply = Reply::new(
    550,
    (5, 7, 1),
    "Relaying denied: this host is not among the relay_hosts, nor the domain ours",
);

const NO_EXCHANGE: Reply = Reply::new(454, (4, 7, 0), "Authentication is not to be had now; try again later");

impl Connection {
    /// Whether the client may send to this domain.
    fn may_send_to(&mut self, domain: &str) -> Result<(), Reply> {
        if !self.context.inbound.intake.policy.handles_listener_domain() {
            return Err(DENIED);
        }
        // RFC 5321 4.5.1: <postmaster> without a domain is this host's.
        let own = Arc::clone(&self.profile.hostname);
        let domain = if domain.is_empty() { &*own } else { domain };
        if self.domain(domain)?.relay_to {
            return Ok(());
        }
        let sender = self.transaction.sender.rsplit_once('@').map(|(_, domain)| domain.to_owned());
        let peer = self.peer.ip();
        match sender {
            Some(sender) if self.domain(&sender)?.relay_from.contains(peer) => Ok(()),
            _ => Err(DENIED),
        }
    }

    /// Answers RCPT of a client that may not relay.
    pub(super) fn answer_stranger(&mut self, to: String, domain: &str) {
        match self.may_send_to(domain) {
            Ok(()) => {
                self.transaction.recipients.push(to);
                self.session.accept(&mut self.out);
            }
            Err(reply) => {
                self.context.inbound.metrics.reject("relaying denied");
                self.session.reject(&reply, &mut self.out);
            }
        }
    }

    fn domain(&mut self, domain: &str) -> Result<&ListenerDomain, Reply> {
        let domain = domain.to_ascii_lowercase();
        let known = self.domains.iter().position(|(known, _)| *known == domain);
        let at = match known {
            Some(at) => at,
            None => {
                let client = self.client();
                let said = self.context.inbound.intake.policy.listener_domain(&client, &domain)?;
                if self.domains.len() == DOMAINS_MAX {
                    self.domains.remove(0);
                }
                self.domains.push((domain, said));
                self.domains.len() - 1
            }
        };
        Ok(&self.domains[at].1)
    }

    /// Asks the client to prove that it knows the password of the user that it named.
    pub(super) fn challenge(&mut self) {
        let client = self.client();
        let Some(user) = self.session.keys_wanted_of() else {
            return;
        };
        let known = self.context.inbound.intake.policy.auth_scram(&client, user);
        let keys = known.and_then(|known| {
            let keys = Disguise::of_process().and_then(|disguise| disguise.keys(user, known).ok());
            keys.zip(scram::nonce()).ok_or(NO_EXCHANGE)
        });
        match keys {
            Ok((keys, nonce)) => self.session.challenge(&keys, &nonce, &mut self.out),
            Err(reply) => self.refuse_login(&reply),
        }
    }

    /// Answers AUTH.
    pub(super) fn log_in(&mut self) {
        let client = self.client();
        let (user, verdict) = match (self.session.login(), self.session.proof()) {
            (Some((user, password)), _) => {
                (user, self.context.inbound.intake.policy.auth_plain(&client, user, password))
            }
            (None, Some((user, true))) => (user, Verdict::Accept),
            (None, Some((user, false))) => (user, Verdict::Reject(WRONG_PASSWORD)),
            (None, None) => return,
        };
        match verdict {
            Verdict::Accept => {
                self.user = Some(user.into());
                self.may_relay = true;
                self.client = None;
                self.session.accept(&mut self.out);
            }
            Verdict::Reject(reply) => self.refuse_login(&reply),
        }
    }

    fn refuse_login(&mut self, reply: &Reply) {
        self.context.inbound.metrics.reject("authentication failed");
        self.session.reject(reply, &mut self.out);
    }

    /// Forgets who the client said it was; what its address allows stays.
    pub(super) fn log_out(&mut self) {
        self.user = None;
        self.client = None;
        self.domains.clear();
        self.may_relay = self.profile.listener.relay_hosts.contains(self.peer.ip());
    }
}
