//! The proxy of an egress source: a host or address with a port, as `ha_proxy_server` and `socks5_proxy_server` name it.
//!
//! Unlike other destinations it needs its port: there is none that everybody agrees on.

use std::net::IpAddr;

use serde::de::Error;
use serde::{Deserialize, Deserializer};

use super::{Destination, KeySource, SourceConfig};

/// Bytes of a user or password that SOCKS5 can carry (RFC 1929 2).
const CREDENTIAL_BYTES_MAX: usize = 255;

/// For `#[serde(deserialize_with)]`.
pub(super) fn deserialize<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Destination>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let server: Destination = text.parse().map_err(D::Error::custom)?;
    if server.port.is_none_or(|port| port == 0) {
        return Err(D::Error::custom(format!(
            "{text:?} names no port; write for example 'proxy.example.com:5000'"
        )));
    }
    Ok(Some(server))
}

/// Whether TLS is spoken with a SOCKS5 server, with the names that `enable_tls` has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum ProxyTls {
    /// Never.
    #[default]
    Disabled,
    /// Always, with a valid certificate for its name.
    Required,
    /// Always, whatever the certificate.
    RequiredInsecure,
}

impl SourceConfig {
    /// Whether mail leaves through a proxy.
    pub fn has_proxy(&self) -> bool {
        self.ha_proxy_server.is_some() || self.socks5_proxy_server.is_some()
    }

    /// The address that next hops see, where the source has one: a proxy's, or one of this host.
    pub fn visible_address(&self) -> Option<IpAddr> {
        match (&self.ha_proxy_server, &self.socks5_proxy_server) {
            (Some(_), _) => self.ha_proxy_source_address,
            (None, Some(_)) => self.socks5_proxy_source_address,
            (None, None) => self.source_address,
        }
    }

    /// Whether the options of proxies fit each other.
    ///
    /// # Errors
    /// Names the options that do not, and why.
    pub(crate) fn check_proxy(&self) -> Result<(), String> {
        let lonely = |option: &str, needed: &str| Err(format!("option '{option}' needs '{needed}'"));
        match (&self.ha_proxy_server, self.ha_proxy_source_address) {
            (Some(_), None) => return lonely("ha_proxy_server", "ha_proxy_source_address"),
            (None, Some(_)) => return lonely("ha_proxy_source_address", "ha_proxy_server"),
            _ => {}
        }
        if self.socks5_proxy_server.is_none() {
            for (option, is_set) in [
                ("socks5_proxy_source_address", self.socks5_proxy_source_address.is_some()),
                ("socks5_proxy_tls", self.socks5_proxy_tls != ProxyTls::Disabled),
                ("socks5_proxy_username", self.socks5_proxy_username.is_some()),
                ("socks5_proxy_password", self.socks5_proxy_password.is_some()),
            ] {
                if is_set {
                    return lonely(option, "socks5_proxy_server");
                }
            }
        } else if self.ha_proxy_server.is_some() {
            return Err("a source has one proxy: set 'ha_proxy_server' or 'socks5_proxy_server'".to_owned());
        }
        self.check_credentials()?;
        self.check_families()
    }

    fn check_credentials(&self) -> Result<(), String> {
        let fits = |text: &str| (1..=CREDENTIAL_BYTES_MAX).contains(&text.len());
        match (&self.socks5_proxy_username, &self.socks5_proxy_password) {
            (Some(_), None) => Err("option 'socks5_proxy_username' needs 'socks5_proxy_password'".to_owned()),
            (None, Some(_)) => Err("option 'socks5_proxy_password' needs 'socks5_proxy_username'".to_owned()),
            (Some(user), _) if !fits(user) => {
                Err(format!("option 'socks5_proxy_username' has 1 to {CREDENTIAL_BYTES_MAX} bytes"))
            }
            (_, Some(KeySource::Inline(password))) if !fits(password) => {
                Err(format!("option 'socks5_proxy_password' has 1 to {CREDENTIAL_BYTES_MAX} bytes"))
            }
            _ => Ok(()),
        }
    }

    /// A connection to the proxy goes between addresses of one family.
    fn check_families(&self) -> Result<(), String> {
        let server = self.ha_proxy_server.as_ref().or(self.socks5_proxy_server.as_ref());
        let Some((server, own)) = server.and_then(Destination::address).zip(self.source_address) else {
            return Ok(());
        };
        if server.is_ipv4() == own.is_ipv4() {
            return Ok(());
        }
        Err(format!(
            "option 'source_address', {own}, and the proxy, {server}, are of different families; with a proxy it is the address of \
             this host that the connection to the proxy comes from, and can be left out"
        ))
    }
}
