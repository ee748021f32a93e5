//! From the banner to the first transaction: EHLO, STARTTLS, and the beginning of AUTH.
//!
//! Owns their order (RFC 3207 4, RFC 4954 4): AUTH comes after TLS, and only what the peer announces through TLS
//! counts then. What the caller insists on and the peer lacks ends the session; there is no going on without it.
//! Where TLS was only wished for, the session goes on in the clear. A refusal of the peer is its closing reply.

use super::authentication::ExpectAuth;
use super::state::{Advance, Context, State};
use super::{Next, PeerError, Secured, StartTls};
use crate::command;
use crate::extension::Capabilities;
use crate::reply::Reply;

impl Context {
    pub(super) fn greeted(&mut self, reply: Reply, out: &mut Vec<u8>) -> Advance {
        if !reply.is_positive() {
            return self.turn_away(reply, out);
        }
        self.result.discard(reply);
        Advance::on(self.introduce(out))
    }

    fn introduce(&self, out: &mut Vec<u8>) -> State {
        let verb = if self.config.lmtp { "LHLO" } else { "EHLO" };
        command::write_ehlo(verb, &self.config.ehlo_domain, out);
        State::Ehlo
    }

    /// A server that does not know EHLO is asked with HELO (RFC 5321 3.2); LMTP has no other name for LHLO.
    pub(super) fn introduced(&mut self, reply: Reply, out: &mut Vec<u8>) -> Result<Advance, PeerError> {
        if reply.is_permanent() && !self.config.lmtp {
            self.result.discard(reply);
            command::write_ehlo("HELO", &self.config.ehlo_domain, out);
            return Ok(Advance::on(State::Helo));
        }
        if !reply.is_positive() {
            return Ok(self.turn_away(reply, out));
        }
        self.capabilities = Capabilities::parse(&reply.text);
        self.result.discard(reply);
        self.secured_and_known(out)
    }

    pub(super) fn introduced_plainly(
        &mut self,
        reply: Reply,
        out: &mut Vec<u8>,
    ) -> Result<Advance, PeerError> {
        if !reply.is_positive() {
            return Ok(self.turn_away(reply, out));
        }
        self.result.discard(reply);
        self.secured_and_known(out)
    }

    /// Asks for what the caller insists on, in its order.
    fn secured_and_known(&self, out: &mut Vec<u8>) -> Result<Advance, PeerError> {
        if self.config.starttls != StartTls::Off && self.secured.is_none() {
            if self.capabilities.starttls {
                out.extend_from_slice(b"STARTTLS\r\n");
                return Ok(Advance::on(State::StartTls));
            }
            if self.config.starttls == StartTls::Required {
                return Err(PeerError::StartTlsNotOffered);
            }
        }
        self.known(out)
    }

    /// Asks for AUTH, if the caller insists on it; else the session is ready.
    fn known(&self, out: &mut Vec<u8>) -> Result<Advance, PeerError> {
        let Some(credentials) = &self.config.auth else {
            return Ok(Advance::ready(false));
        };
        let exchange = ExpectAuth::begin(credentials, &self.capabilities.auth, self.secured, out)?;
        Ok(Advance::on(State::Auth(exchange)))
    }

    /// The reply to STARTTLS. A refusal leaves the connection as it was (RFC 3207 4).
    pub(super) fn consented(&mut self, reply: Reply, out: &mut Vec<u8>) -> Result<Advance, PeerError> {
        if reply.is_positive() {
            self.result.discard(reply);
            return Ok(Advance { state: State::Handshake, next: Some(Next::StartTls) });
        }
        if self.config.starttls == StartTls::Required {
            return Ok(self.turn_away(reply, out));
        }
        self.starttls_refusal = Some(reply);
        self.known(out)
    }

    /// What was announced in the clear may be anybody's (RFC 3207 4.2).
    pub(super) fn tls_started(&mut self, secured: Secured, out: &mut Vec<u8>) -> State {
        self.secured = Some(secured);
        self.capabilities = Capabilities::default();
        self.introduce(out)
    }

    /// The peer will not talk to us: QUIT for politeness' sake.
    pub(super) fn turn_away(&mut self, reply: Reply, out: &mut Vec<u8>) -> Advance {
        out.extend_from_slice(b"QUIT\r\n");
        self.result.closing = Some(reply);
        Advance::closed()
    }
}
