//! Whether and where policies of MTA-STS (RFC 8461) are looked for.

/// For the whole process; what a path makes of a policy is its own affair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MtaStsSpec {
    /// Whether at all.
    pub enabled: bool,
    /// The port of the servers with the policies.
    pub port: u16,
    /// Whether they may be on this host.
    pub loopback_allowed: bool,
}

impl Default for MtaStsSpec {
    fn default() -> Self {
        Self { enabled: true, port: 443, loopback_allowed: false }
    }
}
