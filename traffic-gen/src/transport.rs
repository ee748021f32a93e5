//! How the server is talked to: protocol, encryption, identity, and how long a connection is used.
//!
//! Owns the words of the plan and their defaults, which are plain SMTP with everything that the server
//! offers. What is asked for here and not offered by the server is an error of the run, never left out in
//! silence; `PIPELINING` and `CHUNKING` alone are used where they are offered, because they change how fast
//! mail goes and not who may read it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use smtp::client::Secured;

use crate::parse;

/// Messages over one connection unless the plan says otherwise: servers end a session that goes on for too
/// long (KumoMTA after 10,000), and a message must not be spent on finding out.
pub const MESSAGES_PER_CONNECTION: u32 = 5_000;

/// How a run talks to its servers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Transport {
    /// LMTP (RFC 2033) instead of SMTP.
    pub lmtp: bool,
    /// Whether and when the connection is encrypted.
    pub tls: Tls,
    /// What is asked of the server's certificate.
    pub verify: Verify,
    /// The name that the certificate must have and that SNI says; `None` means the host of the target.
    pub sni: Option<String>,
    /// Who we are; `None` means nobody in particular.
    pub auth: Option<Auth>,
    /// Use PIPELINING where it is offered.
    pub pipelining: bool,
    /// Use CHUNKING where it is offered.
    pub chunking: bool,
    /// After how many messages a connection is closed in good order and another one opened.
    pub messages_per_connection: Reuse,
}

impl Default for Transport {
    fn default() -> Self {
        Self {
            lmtp: false,
            tls: Tls::None,
            verify: Verify::Nothing,
            sni: None,
            auth: None,
            pipelining: true,
            chunking: true,
            messages_per_connection: Reuse::default(),
        }
    }
}

impl Transport {
    /// What TLS, once it is up, says of the server.
    pub(crate) fn secured(&self) -> Secured {
        Secured { verified: self.verify != Verify::Nothing }
    }
}

/// Encryption of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tls {
    /// In clear.
    None,
    /// After STARTTLS (RFC 3207), which the server must offer.
    StartTls,
    /// From the first byte (RFC 8314).
    Implicit,
}

/// What is asked of the server's certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verify {
    /// Nothing: a server in a laboratory signs for itself.
    Nothing,
    /// One of the host's own authorities has signed it, and the name is right.
    System,
    /// One of these authorities has signed it, in PEM, and the name is right.
    Ca(String),
}

/// A user and a password.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Auth {
    /// How they are said; `None` means the best way that the server offers.
    pub mechanism: Option<AuthType>,
    /// Who we are.
    pub user: String,
    /// What proves it.
    pub password: String,
}

impl fmt::Debug for Auth {
    /// Without the password.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { mechanism, user, password: _ } = self;
        formatter
            .debug_struct("Auth")
            .field("mechanism", mechanism)
            .field("user", user)
            .finish_non_exhaustive()
    }
}

/// The ways to say who we are (RFC 4954).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AuthType {
    /// RFC 4616.
    Plain,
    /// The older one, question by question.
    Login,
}

/// How many messages a connection carries: a number between the two, both included, drawn from the seed and
/// the number of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reuse {
    /// At least 1.
    pub min: u32,
    /// At least `min`; `u32::MAX` means that the connection is kept for the whole run.
    pub max: u32,
}

impl Reuse {
    /// One connection for the whole run.
    pub const ENDLESS: Self = Self { min: u32::MAX, max: u32::MAX };

    /// Exactly so many; 0 counts as 1.
    pub fn exactly(messages: u32) -> Self {
        Self { min: messages.max(1), max: messages.max(1) }
    }

    /// How many messages the connection with that number carries; `None` means no limit.
    pub(crate) fn draw(self, seed: u64, connection: u64) -> Option<u32> {
        let (min, max) = (self.min.max(1), self.max.max(self.min).max(1));
        let messages = if min == max {
            min
        } else {
            fastrand::Rng::with_seed(seed ^ connection.wrapping_mul(0xd1b5_4a32_d192_ed03)).u32(min..=max)
        };
        (messages < u32::MAX).then_some(messages)
    }
}

impl FromStr for Reuse {
    type Err = String;

    /// Reads `N`, `MIN:MAX` or `inf`.
    fn from_str(text: &str) -> Result<Self, String> {
        let refuse = || format!("{text:?} is no number of messages; write it like 1, 100, 5:50 or inf");
        if text == "inf" {
            return Ok(Self::ENDLESS);
        }
        let number = |text: &str| {
            let count = parse::count(text).map_err(|_| refuse())?;
            u32::try_from(count).ok().filter(|count| *count < u32::MAX).ok_or_else(refuse)
        };
        let (min, max) = text.split_once(':').unwrap_or((text, text));
        let (min, max) = (number(min)?, number(max)?);
        if min <= max { Ok(Self { min, max }) } else { Err(refuse()) }
    }
}

impl Default for Reuse {
    fn default() -> Self {
        Self::exactly(MESSAGES_PER_CONNECTION)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_per_connection_come_from_the_seed() {
        let draw =
            |seed| (0..200).map(|number| Reuse { min: 2, max: 5 }.draw(seed, number)).collect::<Vec<_>>();
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
        for messages in 2..=5 {
            assert!(draw(1).contains(&Some(messages)), "{messages}");
        }
        assert!(draw(1).iter().all(|messages| messages.is_some_and(|messages| (2..=5).contains(&messages))));
        assert_eq!(Reuse::ENDLESS.draw(1, 1), None);
        assert_eq!(Reuse::exactly(0).draw(1, 1), Some(1));
    }

    #[test]
    fn numbers_of_messages_are_read() {
        let read = |text: &str| text.parse::<Reuse>();
        assert_eq!(read("1"), Ok(Reuse::exactly(1)));
        assert_eq!(read("5:10k"), Ok(Reuse { min: 5, max: 10_000 }));
        assert_eq!(read("inf"), Ok(Reuse::ENDLESS));
        for text in ["", "0", "5:1", "1:", ":1", "-1", "1:inf", "4294967295"] {
            assert!(read(text).unwrap_err().contains("5:50"), "{text}");
        }
    }

    #[test]
    fn a_password_is_not_shown() {
        let auth = Auth { mechanism: None, user: "me".to_owned(), password: "geheim".to_owned() };
        assert!(format!("{auth:?}").contains("me") && !format!("{auth:?}").contains("geheim"));
    }
}
