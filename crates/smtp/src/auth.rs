//! AUTH (RFC 4954): the mechanisms PLAIN (RFC 4616) and LOGIN, seen from both sides, and the names of all.
//!
//! Owns names, credentials and their coding in base64. Refuses what does not decode to what the mechanism
//! asks for; who may log in is for the caller to say. These two mechanisms send the password as it is: on a
//! connection without TLS whoever listens has it. No credential appears in `Debug` output or in an error.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

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
    /// A proof in place of the password (RFC 7677). Our server knows it; our client does not.
    ScramSha256,
}

impl Mechanism {
    /// All mechanisms.
    pub const ALL: [Self; 3] = [Self::ScramSha256, Self::Plain, Self::Login];
    /// Those that send the password, the preferred one first.
    pub const WITH_PASSWORD: [Self; 2] = [Self::Plain, Self::Login];

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
    /// The only mechanism to use, of [`Mechanism::WITH_PASSWORD`]; `None`: the first of these that the server offers.
    pub mechanism: Option<Mechanism>,
    /// Without NUL, which PLAIN could not carry: the server would refuse it.
    pub user: String,
    /// Without NUL, for the same reason.
    pub password: String,
}

/// Without user and password.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("mechanism", &self.mechanism).finish_non_exhaustive()
    }
}

impl Credentials {
    /// Appends the AUTH command; returns how many responses have to follow, each after a 334.
    pub(crate) fn write_command(&self, mechanism: Mechanism, out: &mut Vec<u8>) -> usize {
        let start = out.len();
        out.extend_from_slice(b"AUTH ");
        out.extend_from_slice(mechanism.name().as_bytes());
        if mechanism == Mechanism::Login {
            out.extend_from_slice(b"\r\n");
            return 2;
        }
        let bare = out.len();
        out.push(b' ');
        self.write_response(mechanism, 1, out);
        if out.len() - start <= COMMAND_LINE_BYTES_MAX {
            return 0;
        }
        out.truncate(bare);
        out.extend_from_slice(b"\r\n");
        1
    }

    /// Appends one response, where `left` of them are due, this one included.
    pub(crate) fn write_response(&self, mechanism: Mechanism, left: usize, out: &mut Vec<u8>) {
        let encoded = match (mechanism, left) {
            (Mechanism::Plain, _) => BASE64.encode(format!("\0{}\0{}", self.user, self.password)),
            (_, 2) => BASE64.encode(&self.user),
            _ => BASE64.encode(&self.password),
        };
        out.extend_from_slice(encoded.as_bytes());
        out.extend_from_slice(b"\r\n");
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
        Credentials { mechanism: None, user: user.into(), password: password.into() }
    }

    #[test]
    fn plain_comes_apart_as_it_was_put_together() {
        let mut out = Vec::new();
        assert_eq!(credentials("tim", "tanstaaftanstaaf").write_command(Mechanism::Plain, &mut out), 0);
        // The example of RFC 4616 4, with the user as its own identity left out.
        assert_eq!(out, b"AUTH PLAIN AHRpbQB0YW5zdGFhZnRhbnN0YWFm\r\n");
        let login = Login::plain("AHRpbQB0YW5zdGFhZnRhbnN0YWFm").unwrap();
        assert_eq!((login.user.as_str(), login.password.as_str()), ("tim", "tanstaaftanstaaf"));
    }

    #[test]
    fn a_long_first_response_waits_for_its_turn() {
        let mut out = Vec::new();
        assert_eq!(credentials("u", &"p".repeat(600)).write_command(Mechanism::Plain, &mut out), 1);
        assert_eq!(out, b"AUTH PLAIN\r\n");
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
