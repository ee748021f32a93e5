//! AUTH (RFC 4954): the mechanisms PLAIN (RFC 4616) and LOGIN, seen from both sides, and the names of all.
//!
//! Owns names, credentials and their coding in base64. Refuses what does not decode to what the mechanism
//! asks for; who may log in is for the caller to say. These two mechanisms send the password as it is: on a
//! connection without TLS whoever listens has it, which is why credentials say what they need. No credential appears in `Debug` output or in an error.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::client::Secured;
use crate::error::PeerMisbehaved;

/// Longest line of an exchange after the command AUTH, line ending included (RFC 4954 4).
pub const AUTH_LINE_BYTES_MAX: usize = 12_288;
/// Longest AUTH command that carries the first response; where it would be longer, the response waits for 334
/// (RFC 4954 4, RFC 5321 4.5.3.1.4).
const COMMAND_LINE_BYTES_MAX: usize = 512;

/// The prompt for the user name in LOGIN: `Username:`.
pub(crate) const USER_PROMPT: &str = "VXNlcm5hbWU6";
/// The prompt for the password in LOGIN: `Password:`.
pub(crate) const PASSWORD_PROMPT: &str = "UGFzc3dvcmQ6";

/// How a client shows who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mechanism {
    /// Both in one response (RFC 4616).
    Plain,
    /// One after the other; never standardised, offered by nearly all.
    Login,
    /// A proof in place of the password (RFC 7677).
    ScramSha256,
}

impl Mechanism {
    /// All mechanisms, the preferred one first.
    pub const ALL: [Self; 3] = [Self::ScramSha256, Self::Plain, Self::Login];
    /// Whether the password itself is sent.
    #[must_use]
    pub fn sends_password(self) -> bool {
        self != Self::ScramSha256
    }

    /// As in EHLO and AUTH, in capitals.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::Login => "LOGIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
        }
    }

    /// The mechanism of that name, in any case.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mechanism| mechanism.name().eq_ignore_ascii_case(name))
    }
}

impl fmt::Display for Mechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// With what a client logs in.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The only mechanism to use; `None`: the first of [`Mechanism::ALL`] that the server offers.
    pub mechanism: Option<Mechanism>,
    /// Without NUL, which PLAIN could not carry: the server would refuse it.
    pub user: String,
    /// Without NUL, for the same reason.
    pub password: String,
    /// What the connection must be at least before the password itself is sent; `None`: it may be in the clear.
    pub password_needs: Option<Secured>,
    /// For SCRAM: 1 to [`NONCE_BYTES_MAX`](crate::scram::NONCE_BYTES_MAX) printable characters without a comma, never used before.
    /// Empty: SCRAM is not used.
    pub nonce: String,
}

/// Without user and password.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("mechanism", &self.mechanism).finish_non_exhaustive()
    }
}

impl Credentials {
    /// The only response of PLAIN.
    pub(crate) fn plain(&self) -> String {
        format!("\0{}\0{}", self.user, self.password)
    }
}

/// Appends the AUTH command, with the first response where it fits; says whether it does.
pub(crate) fn write_command(mechanism: Mechanism, first: Option<&str>, out: &mut Vec<u8>) -> bool {
    let start = out.len();
    out.extend_from_slice(b"AUTH ");
    out.extend_from_slice(mechanism.name().as_bytes());
    let bare = out.len();
    if let Some(first) = first {
        out.push(b' ');
        write_response(first, out);
        if out.len() - start <= COMMAND_LINE_BYTES_MAX {
            return true;
        }
    }
    out.truncate(bare);
    out.extend_from_slice(b"\r\n");
    false
}

/// Appends one response, in base64.
pub(crate) fn write_response(text: &str, out: &mut Vec<u8>) {
    for part in [&BASE64.encode(text), "\r\n"] {
        out.extend_from_slice(part.as_bytes());
    }
}

/// What a client has shown, seen from the server.
#[derive(Debug)]
pub(crate) enum Shown {
    /// A password.
    Password(Login),
    /// That it knows the password of this user, or that it does not.
    Proof { user: User, good: bool },
}

/// A name that does not show in `Debug` output.
pub(crate) struct User(pub(crate) String);

impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("User")
    }
}

/// What a client logs in with, seen from the server.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Login {
    pub(crate) mechanism: Mechanism,
    pub(crate) user: String,
    pub(crate) password: String,
}

/// Without user and password.
impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").field("mechanism", &self.mechanism).finish_non_exhaustive()
    }
}

impl Login {
    /// Takes the response of PLAIN apart. The identity to act for has to be the user's own, or empty.
    pub(crate) fn plain(response: &str) -> Result<Self, PeerMisbehaved> {
        let text = decode(response)?;
        let mut parts = text.split('\0');
        let (Some(identity), Some(user), Some(password), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(PeerMisbehaved::AuthMalformed);
        };
        if user.is_empty() {
            return Err(PeerMisbehaved::AuthMalformed);
        }
        if !identity.is_empty() && identity != user {
            return Err(PeerMisbehaved::AuthForAnother);
        }
        Ok(Self { mechanism: Mechanism::Plain, user: user.into(), password: password.into() })
    }
}

/// Text to base64, as a challenge.
pub(crate) fn write_challenge(text: &str, out: &mut Vec<u8>) {
    for part in ["334 ", &BASE64.encode(text), "\r\n"] {
        out.extend_from_slice(part.as_bytes());
    }
}

/// Base64 to text. `=` alone is the empty response (RFC 4954 4), which only a command can carry.
pub(crate) fn decode(response: &str) -> Result<String, PeerMisbehaved> {
    if response == "=" {
        return Ok(String::new());
    }
    let bytes = BASE64.decode(response).map_err(|_| PeerMisbehaved::AuthMalformed)?;
    String::from_utf8(bytes).map_err(|_| PeerMisbehaved::AuthMalformed)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn credentials(user: &str, password: &str) -> Credentials {
        let (user, password) = (user.into(), password.into());
        Credentials { mechanism: None, user, password, password_needs: None, nonce: String::new() }
    }

    #[test]
    fn plain_comes_apart_as_it_was_put_together() {
        let mut out = Vec::new();
        let response = credentials("tim", "tanstaaftanstaaf").plain();
        assert!(write_command(Mechanism::Plain, Some(&response), &mut out));
        // The example of RFC 4616 4, with the user as its own identity left out.
        assert_eq!(out, b"AUTH PLAIN AHRpbQB0YW5zdGFhZnRhbnN0YWFm\r\n");
        let login = Login::plain("AHRpbQB0YW5zdGFhZnRhbnN0YWFm").unwrap();
        assert_eq!((login.user.as_str(), login.password.as_str()), ("tim", "tanstaaftanstaaf"));
    }

    #[test]
    fn a_long_first_response_waits_for_its_turn() {
        let mut out = Vec::new();
        assert!(!write_command(Mechanism::Plain, Some(&"p".repeat(600)), &mut out));
        assert!(!write_command(Mechanism::Login, None, &mut out));
        assert_eq!(out, b"AUTH PLAIN\r\nAUTH LOGIN\r\n");
    }

    #[test]
    fn what_is_not_plain_is_refused() {
        let table = [
            ("%%%", PeerMisbehaved::AuthMalformed),
            ("=", PeerMisbehaved::AuthMalformed),
            ("dGlt", PeerMisbehaved::AuthMalformed),
            // No user.
            ("AABw", PeerMisbehaved::AuthMalformed),
            // Four parts.
            ("AHUAcABx", PeerMisbehaved::AuthMalformed),
            // Not UTF-8.
            ("AP8AcA==", PeerMisbehaved::AuthMalformed),
            // `v` for `u`.
            ("dgB1AHA=", PeerMisbehaved::AuthForAnother),
        ];
        for (response, error) in table {
            assert_eq!(Login::plain(response), Err(error), "{response}");
        }
        assert_eq!(Login::plain("dQB1AHA=").unwrap().user, "u");
    }

    #[test]
    fn secrets_do_not_show() {
        let shown = format!("{:?} {:?}", credentials("user-7", "secret-7"), Login::plain("AHRpbQBwYXNz"));
        for secret in ["user-7", "secret-7", "tim", "pass"] {
            assert!(!shown.contains(secret), "{shown}");
        }
    }

    #[test]
    fn names() {
        for mechanism in Mechanism::ALL {
            assert_eq!(Mechanism::parse(&mechanism.to_string().to_lowercase()), Some(mechanism));
        }
        assert_eq!(Mechanism::parse("CRAM-MD5"), None);
    }
}
