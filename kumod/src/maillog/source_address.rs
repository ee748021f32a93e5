//! Where a connection came from, as a record has it: `source_address { address, protocol, server }`.

use std::net::SocketAddr;

use serde::ser::{Serialize, SerializeStruct, Serializer};

/// The address that the other side saw, and the proxy that has it, if it is not this host's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourceAddress {
    /// Address and port; port 0 where only the proxy knows it.
    pub address: SocketAddr,
    /// How the proxy was asked, and where it is.
    pub proxy: Option<(ProxyProtocol, SocketAddr)>,
}

/// How a proxy is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyProtocol {
    /// HAProxy's PROXY protocol, version 2.
    HaProxy,
    /// SOCKS5 (RFC 1928).
    Socks5,
}

impl ProxyProtocol {
    /// As the record has it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::HaProxy => "haproxy",
            Self::Socks5 => "socks5",
        }
    }
}

impl SourceAddress {
    /// An address of this host.
    pub const fn direct(address: SocketAddr) -> Self {
        Self { address, proxy: None }
    }
}

impl Serialize for SourceAddress {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("source_address", 3)?;
        fields.serialize_field("address", &self.address)?;
        fields.serialize_field("protocol", &self.proxy.map(|(protocol, _)| protocol.name()))?;
        fields.serialize_field("server", &self.proxy.map(|(_, server)| server))?;
        fields.end()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn a_proxy_is_named_with_its_address() {
        let address = "192.0.2.1:0".parse().unwrap();
        let own = serde_json::to_value(SourceAddress::direct(address)).unwrap();
        assert_eq!(own, json!({"address": "192.0.2.1:0", "protocol": null, "server": null}));
        let server = "10.0.0.5:5000".parse().unwrap();
        let proxied = SourceAddress { address, proxy: Some((ProxyProtocol::Socks5, server)) };
        let wanted = json!({"address": "192.0.2.1:0", "protocol": "socks5", "server": "10.0.0.5:5000"});
        assert_eq!(serde_json::to_value(proxied).unwrap(), wanted);
    }
}
