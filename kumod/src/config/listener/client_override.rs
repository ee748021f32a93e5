//! `peer` and `via`: options that differ by the client's address, or by the address of ours that it came to.
//!
//! An address that several networks hold belongs to the smallest of them. Networks that are written twice are refused.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use super::SmtpOverride;

/// One override that applies to a client.
#[derive(Clone, Copy, Debug)]
pub struct Change<'a> {
    /// The network of clients under which it stands; `None` where it stands under `via`.
    pub network: Option<IpNet>,
    /// What it changes.
    pub options: &'a SmtpOverride,
}

/// Changes by network.
#[derive(Clone, Debug, Default)]
pub struct ClientOverrides(Vec<(IpNet, SmtpOverride)>);

impl ClientOverrides {
    /// Orders the networks from the smallest to the largest, so that the first that holds an address is its own.
    pub fn new(mut entries: Vec<(IpNet, SmtpOverride)>) -> Self {
        entries.sort_by_key(|(network, _)| std::cmp::Reverse(network.prefix_len()));
        Self(entries)
    }

    /// Whether nothing differs for anybody.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of them, small networks first.
    pub fn iter(&self) -> impl Iterator<Item = &(IpNet, SmtpOverride)> {
        self.0.iter()
    }

    fn of(&self, address: IpAddr) -> Option<&(IpNet, SmtpOverride)> {
        let address = address.to_canonical();
        self.0.iter().find(|(network, _)| network.contains(&address))
    }
}

/// A network as a key, `10.0.0.0/8`, or a single address.
///
/// # Errors
/// Names the text that is neither.
pub(crate) fn parse_network(text: &str) -> Result<IpNet, String> {
    text.parse::<IpNet>()
        .map(|network| network.trunc())
        .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
        .map_err(|_| format!("{text:?} is not an address or a network such as 10.0.0.0/8"))
}

impl<'de> Deserialize<'de> for ClientOverrides {
    /// An empty Lua table may come as an empty list.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum MapOrEmpty {
            Map(BTreeMap<String, SmtpOverride>),
            Empty([(); 0]),
        }
        let MapOrEmpty::Map(map) = MapOrEmpty::deserialize(deserializer).map_err(|_| {
            D::Error::custom(
                "networks with tables of options are wanted, such as { ['10.0.0.0/8'] = { ... } }",
            )
        })?
        else {
            return Ok(Self::default());
        };
        let mut entries: Vec<(IpNet, SmtpOverride)> = Vec::with_capacity(map.len());
        for (text, changes) in map {
            let network = parse_network(&text).map_err(D::Error::custom)?;
            if entries.iter().any(|(other, _)| *other == network) {
                return Err(D::Error::custom(format!("the network {network} stands there twice")));
            }
            entries.push((network, changes));
        }
        Ok(Self::new(entries))
    }
}

/// Adds what `peer` and `via` say of a client, and what is nested in that.
pub(super) fn collect<'a>(
    (by_peer, by_via): (&'a ClientOverrides, &'a ClientOverrides),
    peer: IpAddr,
    via: IpAddr,
    found: &mut Vec<Change<'a>>,
) {
    let by_peer = by_peer.of(peer).map(|(network, options)| Change { network: Some(*network), options });
    let by_via = by_via.of(via).map(|(_, options)| Change { network: None, options });
    for change in [by_peer, by_via].into_iter().flatten() {
        found.push(change);
        collect((&change.options.peer, &change.options.via), peer, via, found);
    }
}
