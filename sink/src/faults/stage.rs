//! The places in a conversation at which a rule may act, in the order in which they are passed.
//!
//! Owns their names, which are those of the rule files. A name that is none is refused where the file is
//! read.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Where in a conversation a rule acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
#[repr(usize)]
pub enum Stage {
    /// The connection is open and nothing has been said; before TLS where the port begins with it.
    Connect,
    /// In place of, or before, the greeting.
    Banner,
    /// HELO.
    Helo,
    /// EHLO, and LHLO where LMTP is spoken.
    Ehlo,
    /// STARTTLS.
    Starttls,
    /// AUTH, once user and password are known.
    Auth,
    /// MAIL.
    Mail,
    /// RCPT, once for each recipient.
    Rcpt,
    /// DATA, before 354, or the first BDAT of a message.
    Data,
    /// The first byte of a body is wanted, by DATA or by BDAT.
    Body,
    /// The body is complete, by DATA or by BDAT.
    FinalDot,
    /// RSET.
    Rset,
    /// NOOP.
    Noop,
    /// VRFY.
    Vrfy,
    /// QUIT.
    Quit,
}

impl Stage {
    /// All of them, in order.
    pub const ALL: [Self; 15] = [
        Self::Connect,
        Self::Banner,
        Self::Helo,
        Self::Ehlo,
        Self::Starttls,
        Self::Auth,
        Self::Mail,
        Self::Rcpt,
        Self::Data,
        Self::Body,
        Self::FinalDot,
        Self::Rset,
        Self::Noop,
        Self::Vrfy,
        Self::Quit,
    ];

    /// As the rule files write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Banner => "banner",
            Self::Helo => "helo",
            Self::Ehlo => "ehlo",
            Self::Starttls => "starttls",
            Self::Auth => "auth",
            Self::Mail => "mail",
            Self::Rcpt => "rcpt",
            Self::Data => "data",
            Self::Body => "body",
            Self::FinalDot => "final_dot",
            Self::Rset => "rset",
            Self::Noop => "noop",
            Self::Vrfy => "vrfy",
            Self::Quit => "quit",
        }
    }

    /// Whether the protocol asks about it only when it is told to ask about every command.
    pub(crate) const fn is_asked_on_demand(self) -> bool {
        matches!(self, Self::Starttls | Self::Data | Self::Rset | Self::Noop | Self::Vrfy | Self::Quit)
    }

    /// Whether a sender is known there.
    pub(crate) const fn has_sender(self) -> bool {
        matches!(self, Self::Mail | Self::Rcpt | Self::Data | Self::Body | Self::FinalDot)
    }

    /// Whether a recipient is known there.
    pub(crate) const fn has_recipient(self) -> bool {
        matches!(self, Self::Rcpt | Self::Data | Self::Body | Self::FinalDot)
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// Some stages, as a rule of the language lists them.
pub(super) fn names(stages: &[Stage]) -> String {
    stages.iter().map(|stage| stage.name()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_are_those_of_the_files_and_the_order_is_that_of_the_numbers() {
        for (number, stage) in Stage::ALL.into_iter().enumerate() {
            assert_eq!(stage as usize, number);
            assert_eq!(serde_json::to_value(stage).unwrap(), stage.name());
        }
    }
}
