//! The client that hands over mail, as messages and handlers know it.
//!
//! One value stands for a client between two commands that change what is known of it (EHLO, STARTTLS, AUTH, XCLIENT); all
//! messages in between share it. What a handler may ask for by name is listed in one place, [`Client::meta`].

use std::net::SocketAddr;
use std::sync::Arc;

use serde_json::Value;

use crate::config::SmtpListener;

/// Who is at the other end of a connection, and how it got there.
#[derive(Clone, Debug)]
pub struct Client {
    /// The address that the connection is from.
    pub received_from: SocketAddr,
    /// The address of ours that it came to.
    pub received_via: SocketAddr,
    /// Where the connection is from and to in truth, where a proxy has said for whom it speaks.
    pub original: Option<Box<(SocketAddr, SocketAddr)>>,
    /// What the client called itself.
    pub helo: String,
    /// Whether it said EHLO.
    pub extended: bool,
    /// The user, where the client has shown a password.
    pub user: Option<Arc<str>>,
    /// What the handshake agreed on, where TLS is up.
    pub tls: Option<Arc<TlsFacts>>,
    /// The name of the listener, in `Received` and replies.
    pub hostname: Arc<str>,
    /// The listener, as it is for this client.
    pub listener: Arc<SmtpListener>,
}

/// What a TLS handshake agreed on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFacts {
    /// The cipher suite.
    pub cipher: String,
    /// The version of the protocol.
    pub version: String,
    /// The subject of the client's certificate, where it had to show one.
    pub subject: Option<String>,
}

impl Client {
    /// The name of the protocol for `Received` and the log (RFC 3848).
    pub fn protocol(&self) -> &'static str {
        match (self.extended, self.tls.is_some(), self.user.is_some()) {
            (true, true, true) => "ESMTPSA",
            (true, true, false) => "ESMTPS",
            (true, false, true) => "ESMTPA",
            (true, false, false) => "ESMTP",
            (false, _, _) => "SMTP",
        }
    }

    /// What a handler reads with `connection:get_meta(NAME)`: what is known of the connection, then the listener's `meta`.
    pub fn meta(&self, name: &str) -> Option<Value> {
        let known = match name {
            "received_from" => self.received_from.to_string(),
            "received_via" => self.received_via.to_string(),
            "orig_received_from" => self.original.as_ref()?.0.to_string(),
            "orig_received_via" => self.original.as_ref()?.1.to_string(),
            "reception_protocol" => self.protocol().to_owned(),
            "hostname" => self.hostname.to_string(),
            "ehlo_domain" => self.helo.clone(),
            "authn_id" | "authz_id" => self.user.as_ref()?.to_string(),
            "tls_cipher" => self.tls.as_ref()?.cipher.clone(),
            "tls_protocol_version" => self.tls.as_ref()?.version.clone(),
            "tls_peer_subject_name" => self.tls.as_ref()?.subject.clone()?,
            other => return self.listener.meta.get(other).cloned(),
        };
        Some(Value::String(known))
    }
}
