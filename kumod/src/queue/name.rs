//! The name of a scheduled queue: `campaign:tenant@domain!routing_domain`, every part but the domain optional.
//!
//! `:` separates the campaign only to the left of `@`, because a routing domain may be a bracketed address with a port
//! (`[127.0.0.1]:2526`) and an IPv6 literal is full of colons.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// Bytes of a whole name. Two domains, a tenant and a campaign fit; a megabyte of header does not.
const NAME_BYTES_MAX: usize = 1024;

/// A name that is not one. Who set the meta value, or wrote the request, is to blame.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "queue name {name:?}: {rule}; write campaign:tenant@domain!routing_domain, where only the domain is needed"
)]
pub struct NameError {
    name: String,
    rule: &'static str,
}

/// The parts of a scheduled queue's name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct QueueName {
    /// Who the mail is sent for, within a tenant.
    pub campaign: Option<String>,
    /// Whose mail it is.
    pub tenant: Option<String>,
    /// The recipients' domain, in lower case.
    pub domain: String,
    /// Where it goes instead of the domain, in lower case.
    pub routing_domain: Option<String>,
}

impl QueueName {
    /// Puts a name together from what a message carries.
    ///
    /// # Errors
    /// [`NameError`] when a part holds a character that separates parts.
    pub fn from_parts(
        campaign: Option<&str>,
        tenant: Option<&str>,
        domain: &str,
        routing_domain: Option<&str>,
    ) -> Result<Self, NameError> {
        let name = Self {
            campaign: campaign.filter(|text| !text.is_empty()).map(str::to_owned),
            tenant: tenant.filter(|text| !text.is_empty()).map(str::to_owned),
            domain: domain.to_ascii_lowercase(),
            routing_domain: routing_domain.filter(|text| !text.is_empty()).map(str::to_ascii_lowercase),
        };
        let text = name.to_string();
        let again: Self = text.parse()?;
        if again == name {
            Ok(name)
        } else {
            Err(NameError { name: text, rule: "a part holds ':', '@' or '!'" })
        }
    }

    /// Where the mail goes: the routing domain if there is one, else the domain.
    pub fn destination(&self) -> &str {
        self.routing_domain.as_deref().unwrap_or(&self.domain)
    }
}

impl FromStr for QueueName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = |rule| NameError { name: text.chars().take(NAME_BYTES_MAX).collect(), rule };
        if text.len() > NAME_BYTES_MAX {
            return Err(refuse("it is longer than 1024 bytes"));
        }
        if text.chars().any(|c| c.is_control() || c == ' ') {
            return Err(refuse("blanks and control characters are not allowed"));
        }
        let (left, routing_domain) = match text.split_once('!') {
            Some((left, routing)) => (left, Some(routing)),
            None => (text, None),
        };
        let (who, domain) = match left.split_once('@') {
            Some((who, domain)) => (Some(who), domain),
            None => (None, left),
        };
        let (campaign, tenant) = match who.map(|who| who.split_once(':').ok_or(who)) {
            Some(Ok((campaign, tenant))) => (Some(campaign), Some(tenant)),
            Some(Err(tenant)) => (None, Some(tenant)),
            None => (None, None),
        };
        if domain.is_empty() {
            return Err(refuse("the domain is missing"));
        }
        if routing_domain.is_some_and(str::is_empty) {
            return Err(refuse("the routing domain after '!' is missing"));
        }
        let part = |text: Option<&str>| text.filter(|text| !text.is_empty()).map(str::to_owned);
        Ok(Self {
            campaign: part(campaign),
            tenant: part(tenant),
            domain: domain.to_ascii_lowercase(),
            routing_domain: routing_domain.map(str::to_ascii_lowercase),
        })
    }
}

impl fmt::Display for QueueName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.campaign, &self.tenant) {
            (Some(campaign), tenant) => write!(f, "{campaign}:{}@", tenant.as_deref().unwrap_or_default())?,
            (None, Some(tenant)) => write!(f, "{tenant}@")?,
            (None, None) => {}
        }
        f.write_str(&self.domain)?;
        match &self.routing_domain {
            Some(routing_domain) => write!(f, "!{routing_domain}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_form_of_a_name_is_read() {
        for (text, campaign, tenant, domain, routing) in [
            ("example.com", None, None, "example.com", None),
            ("Example.COM", None, None, "example.com", None),
            ("t@example.com", None, Some("t"), "example.com", None),
            ("c:t@example.com!mx.net", Some("c"), Some("t"), "example.com", Some("mx.net")),
            ("c:@example.com", Some("c"), None, "example.com", None),
            ("example.com![127.0.0.1]:2526", None, None, "example.com", Some("[127.0.0.1]:2526")),
            ("[::1]:2526", None, None, "[::1]:2526", None),
            ("t@[IPv6:::1]", None, Some("t"), "[ipv6:::1]", None),
        ] {
            let name: QueueName = text.parse().unwrap();
            assert_eq!(name.campaign.as_deref(), campaign, "{text}");
            assert_eq!(name.tenant.as_deref(), tenant, "{text}");
            assert_eq!(name.domain, domain, "{text}");
            assert_eq!(name.routing_domain.as_deref(), routing, "{text}");
        }
        for text in ["", "t@", "c:t@", "a!", "a b", "a\nb", &"x".repeat(2000)] {
            assert!(text.parse::<QueueName>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_tenant_cannot_forge_another_queue() {
        assert!(QueueName::from_parts(None, Some("a@evil.com!"), "example.com", None).is_err());
        assert!(QueueName::from_parts(None, Some("a:b"), "example.com", None).is_err());
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_back(
            campaign in proptest::option::of("[a-z0-9]{1,8}"),
            tenant in proptest::option::of("[a-z0-9]{1,8}"),
            domain in "[a-z0-9.]{1,20}",
            routing in proptest::option::of("[a-z0-9.:\\[\\]]{1,20}"),
        ) {
            let name = QueueName::from_parts(campaign.as_deref(), tenant.as_deref(), &domain, routing.as_deref()).unwrap();
            prop_assert_eq!(name.to_string().parse::<QueueName>().unwrap(), name);
        }

        #[test]
        fn any_text_is_read_or_refused(text in ".{0,60}") {
            if let Ok(name) = text.parse::<QueueName>() {
                prop_assert_eq!(name.to_string().parse::<QueueName>().unwrap(), name);
            }
        }
    }
}
