//! What a policy says of a message: take it, or refuse it with a reply of its own.
//!
//! `kumo.reject` travels through Lua as an error, so that it ends the handler wherever it is called; here it is turned back
//! into a reply. Refuses codes that are not refusals (RFC 5321 4.2.1). Any other error is no verdict at all.

use std::fmt;

use smtp::reply::Reply;
use thiserror::Error;

/// The answer to one question about a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Take it, with whatever the handler changed.
    Accept,
    /// Answer with this 4xx or 5xx reply; the connection goes on.
    Reject(Reply),
}

/// `kumo.reject(code, text)` on its way out of a handler.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub(super) struct Rejection(pub(super) Reply);

impl Rejection {
    /// A text that begins with an enhanced code (RFC 3463) of the same class keeps it; any other gets `X.0.0`.
    pub(super) fn new(code: i64, text: &str) -> Result<Self, String> {
        let code = u16::try_from(code).ok().filter(|code| (400..600).contains(code));
        let code = code.ok_or("the code must be from 400 to 599")?;
        let reply = Reply::parse(&format!("{code} {text}")).map_err(|error| error.to_string())?;
        let class = if code < 500 { 4 } else { 5 };
        match reply.enhanced {
            Some(enhanced) if enhanced.class == class => Ok(Self(reply)),
            _ => Ok(Self(Reply::owned(code, (class, 0, 0), text.to_owned()))),
        }
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "kumo.reject answers a client, and no client is waiting here; it was given '{}'", self.0)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_text_may_bring_its_own_enhanced_code() {
        for (code, text, reply) in [
            (550, "5.7.1 Not from you", "550 5.7.1 Not from you"),
            (550, "Not from you", "550 5.0.0 Not from you"),
            (451, "Later", "451 4.0.0 Later"),
            (451, "5.7.1 Later", "451 4.0.0 5.7.1 Later"),
            (550, "", "550 5.0.0 "),
        ] {
            assert_eq!(Rejection::new(code, text).unwrap().0.to_string(), reply);
        }
    }

    #[test]
    fn a_code_that_refuses_nothing_is_refused() {
        for code in [-1, 0, 250, 399, 600, 65_536 + 550] {
            assert_eq!(Rejection::new(code, "x").unwrap_err(), "the code must be from 400 to 599");
        }
    }
}
