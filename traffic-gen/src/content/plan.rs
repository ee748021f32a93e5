//! What the operator asked the messages to contain.
//!
//! Plain data that can be written down and sent to another machine: files are here with their contents, not
//! with their paths. Owns the limits and the errors of content.

use std::path::PathBuf;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::recipients::{GROUPS_MAX, RECIPIENTS_MAX, USERS_MAX, ZIPF_MAX};
use super::sizes::SizeDistribution;

/// The largest body, in bytes.
pub const BODY_BYTES_MAX: usize = 256 << 20;

/// Different bodies of one run, at most.
pub const POOL_BODIES_MAX: usize = 100_000;

/// Memory that made bodies take unless the operator says otherwise, in bytes; small enough to stay in a
/// cache. One body is always made, however large.
pub const POOL_BYTES_DEFAULT: usize = 4 << 20;

/// What the operator gave us that no message can be made of.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ContentError {
    /// The body is too large.
    #[error("a body of {0} bytes is too large; {BODY_BYTES_MAX} are allowed")]
    TooLarge(usize),
    /// A folder or file of mail cannot be read.
    #[error("cannot read {}: {reason}", path.display())]
    Unreadable {
        /// What was to be read.
        path: PathBuf,
        /// What the host said.
        reason: String,
    },
    /// There is nothing to send in the folder.
    #[error("{} holds no file that ends in .eml and can be read; name a folder that does", folder.display())]
    NoMail {
        /// As the operator wrote it.
        folder: PathBuf,
    },
    /// A message cannot have so many recipients.
    #[error("{min} to {max} recipients of a message cannot be; 1 to {RECIPIENTS_MAX} are allowed")]
    Recipients {
        /// The smallest number asked for.
        min: usize,
        /// The largest.
        max: usize,
    },
    /// There are too few users, or too many.
    #[error(
        "{users} users at each domain cannot be; at least the {recipients} recipients of a message are needed, \
         and {USERS_MAX} are allowed"
    )]
    Users {
        /// Asked for.
        users: u64,
        /// Of one message, at most.
        recipients: usize,
    },
    /// The exponent of the shares of users is none.
    #[error("{0} is no exponent of Zipf's law; write a number from 0 (all alike) to {ZIPF_MAX}, such as 1.1")]
    Zipf(String),
    /// There are too many tenants or campaigns.
    #[error("{0} tenants or campaigns are too many; {GROUPS_MAX} are allowed")]
    Groups(u32),
    /// A body cannot be put into JSON.
    #[error("body {0} is not UTF-8, so it cannot be injected over HTTP; leave it out, or send it by SMTP")]
    NotUtf8(usize),
    /// An extra header is none.
    #[error(
        "{0:?} is no header; write it like 'X-Name: value', in one line of at most 998 characters that does \
         not start with a dot"
    )]
    Header(String),
}

/// Where bodies come from, and which fields stand before them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ContentPlan {
    /// How large made bodies are.
    pub sizes: SizeDistribution,
    /// Bodies or whole messages to send instead of made ones, each as often as the others.
    pub files: Vec<MailFile>,
    /// Extra header fields, each `Name: value`.
    pub headers: Vec<String>,
    /// How much of made bodies is random characters that do not compress, of a hundred; the rest is words.
    pub random_percent: u8,
    /// Different bodies to make, at most [`POOL_BODIES_MAX`]; `None` leaves it to the distribution.
    pub pool_bodies: Option<usize>,
    /// Memory that made bodies may take, in bytes; a body that is larger is made all the same.
    pub pool_bytes: usize,
}

impl Default for ContentPlan {
    fn default() -> Self {
        Self::fixed(1024)
    }
}

impl ContentPlan {
    /// Made bodies of one size.
    pub fn fixed(body_bytes: usize) -> Self {
        Self {
            sizes: SizeDistribution::Fixed(body_bytes),
            files: Vec::new(),
            headers: Vec::new(),
            random_percent: 100,
            pool_bodies: None,
            pool_bytes: POOL_BYTES_DEFAULT,
        }
    }

    /// One body, or one whole message.
    pub fn file(bytes: Vec<u8>) -> Self {
        Self { files: vec![MailFile { bytes }], ..Self::default() }
    }
}

/// The contents of one file. One that starts with header fields is a whole message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MailFile {
    /// As it lay on disk; in JSON this is base64.
    #[serde(serialize_with = "to_base64", deserialize_with = "from_base64")]
    pub bytes: Vec<u8>,
}

fn to_base64<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&BASE64_STANDARD.encode(bytes))
}

fn from_base64<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    let text = String::deserialize(deserializer)?;
    BASE64_STANDARD.decode(text).map_err(serde::de::Error::custom)
}

/// Whether the text is one header field in one line of ASCII. One that starts with a dot would have to be
/// changed on the way.
pub fn check_header(header: &str) -> Result<(), ContentError> {
    let name = header.split_once(':').map_or("", |(name, _)| name);
    let good = !name.is_empty()
        && !name.starts_with('.')
        && name.bytes().all(|byte| byte.is_ascii_graphic())
        && header.len() <= 998
        && header.bytes().all(|byte| byte == b'\t' || (b' '..0x7f).contains(&byte));
    if good { Ok(()) } else { Err(ContentError::Header(header.to_owned())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_checked() {
        for good in ["A: b", "C:", "X-Long: \t x"] {
            assert_eq!(check_header(good), Ok(()), "{good}");
        }
        for bad in ["", "no colon", ": x", "A b: c", "A: b\r\nX: y", "A: \u{e9}", ".A: b"] {
            assert!(check_header(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_plan_survives_being_written_down() {
        let plan = ContentPlan { headers: vec!["A: b".to_owned()], ..ContentPlan::file(vec![0, 255, b'x']) };
        let text = serde_json::to_string(&plan).unwrap();
        assert!(text.contains(r#""bytes":"AP94""#), "{text}");
        assert_eq!(serde_json::from_str::<ContentPlan>(&text).unwrap(), plan);
        let bad = text.replace("AP94", "A");
        assert!(serde_json::from_str::<ContentPlan>(&bad).is_err());
    }
}
