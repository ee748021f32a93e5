//! Domains that a listener takes mail for, or from: `make_listener_domain` of a policy.

use serde::Deserialize;

use super::CidrSet;

/// What strangers may do with a domain. By default nothing.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct ListenerDomain {
    /// Mail to the domain is taken from anybody.
    pub relay_to: bool,
    /// Mail from senders in the domain is taken from these clients, to anywhere.
    pub relay_from: CidrSet,
}
