//! The secret that agents and their controller share.
//!
//! Read from a file or from the environment, never from the command line, where every user of the host
//! could see it; never written anywhere. Compared without telling by the time it takes how much of a guess
//! was right.

use std::fmt;
use std::fs;
use std::hint::black_box;
use std::path::Path;

/// The shortest token that is accepted, in bytes: 16 random letters cannot be guessed over a network.
pub(crate) const TOKEN_BYTES_MIN: usize = 16;

/// The longest token that is read, in bytes.
const TOKEN_BYTES_MAX: usize = 4_096;

/// Where the token stands if no file is named.
pub(crate) const VARIABLE: &str = "TRAFFIC_GEN_TOKEN";

/// A token that is long enough.
#[derive(Clone)]
pub(crate) struct Token(String);

impl Token {
    /// Reads it from the file, or from the environment where no file is named.
    pub(crate) fn read(file: Option<&Path>) -> Result<Self, String> {
        let text = match file {
            Some(path) => fs::read_to_string(path)
                .map_err(|error| format!("cannot read the token in {}: {error}", path.display()))?,
            None => std::env::var(VARIABLE).map_err(|_| {
                format!("agents need a shared token; name a file with --token-file or set {VARIABLE}")
            })?,
        };
        Self::new(text.trim())
    }

    /// Takes a token that is long enough and can stand in a header of HTTP.
    fn new(text: &str) -> Result<Self, String> {
        let remedy = "make one with: head -c 24 /dev/urandom | base64";
        let length = text.len();
        if length < TOKEN_BYTES_MIN {
            Err(format!("the token has {length} bytes, {TOKEN_BYTES_MIN} are the least; {remedy}"))
        } else if length > TOKEN_BYTES_MAX || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            Err(format!(
                "the token must be one word of at most {TOKEN_BYTES_MAX} visible ASCII characters; {remedy}"
            ))
        } else {
            Ok(Self(text.to_owned()))
        }
    }

    /// The header that shows it: RFC 6750 2.1.
    pub(crate) fn header(&self) -> String {
        format!("Bearer {}", self.0)
    }

    /// Whether a header shows it. Every byte is looked at, whether those before it were right or not.
    pub(crate) fn is_shown_by(&self, header: &[u8]) -> bool {
        let own = self.header();
        let mut different = u8::from(own.len() != header.len());
        for (index, byte) in own.bytes().enumerate() {
            different |= black_box(byte ^ header.get(index).copied().unwrap_or(0));
        }
        different == 0
    }
}

impl fmt::Debug for Token {
    /// Without the token.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Token(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_long_enough_or_refused_with_the_remedy() {
        for text in ["", "short", "fifteen-letters", "sixteen letters!", "with-a-bell\u{7}-inside-it"] {
            let error = Token::new(text).unwrap_err();
            assert!(error.contains("/dev/urandom") && (text.is_empty() || !error.contains(text)), "{error}");
        }
        assert!(Token::new("sixteen-letters!").is_ok());
    }

    #[test]
    fn only_the_whole_token_opens() {
        let token = Token::new("sixteen-letters!").unwrap();
        assert!(token.is_shown_by(token.header().as_bytes()));
        for header in [
            "",
            "Bearer ",
            "Bearer sixteen-letters",
            "Bearer sixteen-letters!!",
            "Bearer sixteen-letters?",
            "sixteen-letters!",
        ] {
            assert!(!token.is_shown_by(header.as_bytes()), "{header}");
        }
        assert!(!format!("{token:?}").contains("sixteen"));
    }
}
