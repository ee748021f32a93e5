//! Where the mail of a domain goes: MX and address records, and the name of the site that they make up.
//!
//! [`mx`] turns answers into [`MailHosts`] and knows no network; [`cache`] keeps them for as long as they hold and lets only one
//! question for a name be on its way; [`resolver`] asks. What DNS says for good (no such domain, a null MX) ends in a bounce;
//! what it could not say this time ends in a retry. Names under `.localhost` never leave the host.

mod answer;
mod cache;
mod lookup;
mod mta_sts;
mod mx;
mod resolver;
mod texts;
mod tlsa;

use thiserror::Error;

use crate::envelope::Response;

pub use answer::read_answer;
pub use lookup::reversed;
pub use mta_sts::{MtaSts, StsMode, StsPolicy, Trust};
pub use mx::{MX_HOSTS_MAX, MailHost, MailHosts};
pub use resolver::{ADDRESSES_MAX, Dns, DnsOptions};
pub use tlsa::{Dane, Tlsa, Tlsas};

/// Why there is no host to send to.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum DnsError {
    /// The recipient's domain does not exist.
    #[error("domain {domain} does not exist (NXDOMAIN)")]
    NoSuchDomain {
        /// The domain.
        domain: String,
    },
    /// The domain says that it takes no mail (RFC 7505).
    #[error("domain {domain} accepts no mail (null MX)")]
    NullMx {
        /// The domain.
        domain: String,
    },
    /// A host or domain exists, perhaps, but has no address.
    #[error("{host} has neither an A nor an AAAA record")]
    NoAddress {
        /// The host, or the domain that has no MX either.
        host: String,
    },
    /// The question was not answered this time: a server failed, refused or was silent.
    #[error("DNS gave no answer for {name}: {reason}")]
    Temporary {
        /// The name that was asked for.
        name: String,
        /// What went wrong.
        reason: String,
    },
    /// What stands after the `@` is neither a domain name nor an address.
    #[error("{domain:?} is not a domain: {reason}")]
    Invalid {
        /// What was given.
        domain: String,
        /// The rule that it breaks.
        reason: &'static str,
    },
    /// This host is not set up to ask anybody.
    #[error("the resolver cannot be set up: {0}; put a nameserver into /etc/resolv.conf")]
    Setup(String),
}

impl DnsError {
    /// Whether asking again is vain.
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::NoSuchDomain { .. }
            | Self::NullMx { .. }
            | Self::NoAddress { .. }
            | Self::Invalid { .. } => true,
            Self::Temporary { .. } | Self::Setup(_) => false,
        }
    }

    /// What is said of a recipient in place of a server's reply. Codes after RFC 3463, for the null MX after RFC 7505 4.
    pub fn response(&self) -> Response {
        let (code, enhanced) = match self {
            Self::NoSuchDomain { .. } => (550, (5, 1, 2)),
            Self::NullMx { .. } => (556, (5, 1, 10)),
            Self::NoAddress { .. } => (550, (5, 4, 4)),
            Self::Temporary { .. } => (451, (4, 4, 3)),
            Self::Invalid { .. } => (553, (5, 1, 2)),
            Self::Setup(_) => (451, (4, 3, 5)),
        };
        Response::internal(code, enhanced, self.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_permanent_gets_a_code_that_says_so() {
        let name = || "a.example".to_owned();
        for error in [
            DnsError::NoSuchDomain { domain: name() },
            DnsError::NullMx { domain: name() },
            DnsError::NoAddress { host: name() },
            DnsError::Temporary { name: name(), reason: "SERVFAIL".to_owned() },
            DnsError::Invalid { domain: name(), reason: "too long" },
            DnsError::Setup("no file".to_owned()),
        ] {
            let response = error.response();
            assert_eq!(response.code >= 500, error.is_permanent(), "{error}");
            assert_eq!(response.enhanced.map(|code| u16::from(code.0)), Some(response.code / 100), "{error}");
        }
    }
}
