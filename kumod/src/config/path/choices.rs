//! Options of a path that are one of a few words, with KumoMTA's words.

use serde::{Deserialize, Deserializer};
use smtp::client::Mechanism;

/// Where to connect next when a server has ended a connection, or it broke.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
pub enum ReconnectStrategy {
    /// To the next host of the site; behind the last comes the first.
    #[default]
    ConnectNextHost,
    /// To the same address, as long as it can be reached: a server that says 421 after so many messages is used on.
    ReconnectSameHost,
    /// Nowhere: the dispatcher ends, and its queue opens another connection where the mail is worth one.
    TerminateSession,
}

/// What ends the time for which the policy's answer about a path holds.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
pub enum RefreshStrategy {
    /// `refresh_interval`.
    #[default]
    Ttl,
    /// As [`Self::Ttl`] here: there is no event that would tell of a changed policy, so it is asked in turns.
    Epoch,
}

/// How sleepers are woken in KumoMTA.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
pub enum WakeupStrategy {
    /// All of them.
    Aggressive,
    /// One.
    Relaxed,
}

/// What KumoMTA drops of messages when memory is short.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
pub enum MemoryReduction {
    /// Envelope and body.
    ShrinkDataAndMeta,
    /// The body.
    ShrinkData,
    /// Nothing.
    NoShrink,
}

/// The only mechanism of AUTH to use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuthMechanism(pub Mechanism);

impl<'de> Deserialize<'de> for AuthMechanism {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        Mechanism::parse(&name).map(Self).ok_or_else(|| {
            let known = Mechanism::ALL.map(Mechanism::name).join(", ");
            serde::de::Error::custom(format!("there is no mechanism {name:?}; known are: {known}"))
        })
    }
}

/// That OpenSSL is not preferred.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenSsl;

impl<'de> Deserialize<'de> for OpenSsl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if bool::deserialize(deserializer)? {
            return Err(serde::de::Error::custom("there is no OpenSSL here: TLS is rustls; write false"));
        }
        Ok(Self)
    }
}
