//! The messages (RFC 5802 5, 7): what a client says first, what it is asked to prove, and how it did.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::{HASH_BYTES, Hash, Keys, NONCE_BYTES_MAX};
use crate::error::PeerMisbehaved;

/// Who wants in, and for which exchange.
#[derive(PartialEq, Eq)]
pub(crate) struct ClientFirst {
    pub(crate) user: String,
    /// The part that says that no channel is bound, to be repeated by the client.
    header: String,
    /// The rest, which is signed.
    bare: String,
    nonce: String,
}

/// An exchange that waits for the proof.
#[derive(PartialEq, Eq)]
pub(crate) struct Challenged {
    pub(crate) user: String,
    header: String,
    /// Of both sides.
    nonce: String,
    /// Both first messages.
    signed: String,
    keys: Keys,
}

/// Without user and nonces.
impl fmt::Debug for ClientFirst {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientFirst").finish_non_exhaustive()
    }
}

/// Without user, nonces and keys.
impl fmt::Debug for Challenged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Challenged").finish_non_exhaustive()
    }
}

impl ClientFirst {
    /// `n,,n=user,r=nonce`. The identity to act for has to be the user's own, or empty. An extension that must be understood
    /// (`m=`) is not, and stands where the user should: malformed.
    pub(crate) fn parse(text: &str) -> Result<Self, PeerMisbehaved> {
        let mut parts = text.splitn(3, ',');
        let (Some("n" | "y"), Some(identity), Some(bare)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(PeerMisbehaved::AuthMalformed);
        };
        let mut attributes = bare.split(',');
        let user = attributes.next().and_then(|first| first.strip_prefix("n=")).and_then(name);
        let nonce = attributes.next().and_then(|second| second.strip_prefix("r="));
        let (Some(user), Some(nonce)) = (user, nonce.filter(|nonce| is_nonce(nonce))) else {
            return Err(PeerMisbehaved::AuthMalformed);
        };
        if !identity.is_empty() {
            let named = identity.strip_prefix("a=").and_then(name).ok_or(PeerMisbehaved::AuthMalformed)?;
            if named != user {
                return Err(PeerMisbehaved::AuthForAnother);
            }
        }
        let header = text[..text.len() - bare.len()].to_owned();
        Ok(Self { user, header, nonce: nonce.to_owned(), bare: bare.to_owned() })
    }

    /// Asks for the proof with a nonce of the server's; returns the text for the client.
    pub(crate) fn challenge(self, keys: &Keys, server_nonce: &str) -> (Challenged, String) {
        let Self { user, header, bare, nonce } = self;
        let nonce = nonce + server_nonce;
        let text = format!("r={nonce},s={},i={}", BASE64.encode(keys.salt()), keys.iterations());
        let signed = format!("{bare},{text}");
        (Challenged { user, header, nonce, signed, keys: keys.clone() }, text)
    }
}

impl Challenged {
    /// `c=biws,r=nonce,p=proof`. Returns the server's own signature where the proof is good and belongs to this exchange.
    pub(crate) fn judge(&self, text: &str) -> Result<Option<String>, PeerMisbehaved> {
        let (said, proof) = text.rsplit_once(",p=").ok_or(PeerMisbehaved::AuthMalformed)?;
        let mut attributes = said.split(',');
        let header = attributes.next().and_then(|first| first.strip_prefix("c="));
        let nonce = attributes.next().and_then(|second| second.strip_prefix("r="));
        let (Some(header), Some(nonce)) = (header, nonce) else {
            return Err(PeerMisbehaved::AuthMalformed);
        };
        let proof = BASE64.decode(proof).ok().and_then(|proof| Hash::try_from(proof).ok());
        let proof = proof.ok_or(PeerMisbehaved::AuthMalformed)?;
        let auth_message = format!("{},{said}", self.signed);
        let holds = self.keys.hold(auth_message.as_bytes(), &proof);
        if !holds || nonce != self.nonce || header != BASE64.encode(&self.header) {
            return Ok(None);
        }
        Ok(Some(format!("v={}", BASE64.encode(self.keys.signature(auth_message.as_bytes())))))
    }
}

/// A name with its commas and equals signs back in place (RFC 5802 5.1); none may be empty.
fn name(written: &str) -> Option<String> {
    let mut parts = written.split('=');
    let mut name = parts.next()?.to_owned();
    for part in parts {
        let (sign, rest) = part.split_at_checked(2)?;
        name.push(match sign {
            "2C" => ',',
            "3D" => '=',
            _ => return None,
        });
        name.push_str(rest);
    }
    (!name.is_empty() && !name.contains('\0')).then_some(name)
}

/// Printable ASCII without a comma (RFC 5802 7).
pub(super) fn is_nonce(nonce: &str) -> bool {
    (1..=NONCE_BYTES_MAX).contains(&nonce.len())
        && nonce.bytes().all(|byte| byte.is_ascii_graphic() && byte != b',')
}

const _: () = assert!(HASH_BYTES == 32, "SHA-256");

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// The exchange of RFC 7677 3.
    const FIRST: &str = "n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
    const SERVER_NONCE: &str = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
    const CHALLENGE: &str =
        "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
    const FINAL: &str = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
    const SIGNATURE: &str = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";

    fn pencil() -> Keys {
        Keys::derive("pencil", &BASE64.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap(), 4096).unwrap()
    }

    #[test]
    fn the_exchange_of_the_standard() {
        let first = ClientFirst::parse(FIRST).unwrap();
        assert_eq!(first.user, "user");
        let (challenged, text) = first.challenge(&pencil(), SERVER_NONCE);
        assert_eq!(text, CHALLENGE);
        assert_eq!(challenged.judge(FINAL).unwrap().unwrap(), SIGNATURE);
    }

    #[test]
    fn a_proof_of_something_else_is_none() {
        let challenged = || ClientFirst::parse(FIRST).unwrap().challenge(&pencil(), SERVER_NONCE).0;
        for (what, changed) in [
            ("proof", FINAL.replace("p=dHz", "p=dHy")),
            ("nonce", FINAL.replace("r=rOpr", "r=rOpR")),
            ("binding", FINAL.replace("c=biws", "c=eSws")),
            ("extension", FINAL.replace(",p=", ",x=1,p=")),
        ] {
            assert_eq!(challenged().judge(&changed), Ok(None), "{what}");
        }
        let other = Keys::derive("Pencil", pencil().salt(), 4096).unwrap();
        let (challenged, _) = ClientFirst::parse(FIRST).unwrap().challenge(&other, SERVER_NONCE);
        assert_eq!(challenged.judge(FINAL), Ok(None), "password");
    }

    #[test]
    fn what_is_no_final_message_is_malformed() {
        let (challenged, _) = ClientFirst::parse(FIRST).unwrap().challenge(&pencil(), SERVER_NONCE);
        for text in ["", ",p=", "c=biws,p=AAAA", "c=biws,r=x,p=%%%", "c=biws,r=x,p=AAAA", "r=x,c=biws,p=AAAA"]
        {
            assert_eq!(challenged.judge(text), Err(PeerMisbehaved::AuthMalformed), "{text}");
        }
    }

    #[test]
    fn who_wants_in_is_read_as_it_is_written() {
        for (text, user) in [
            ("n,,n=a=2Cb=3Dc,r=x", "a,b=c"),
            ("y,,n=user,r=x,ext=1", "user"),
            ("n,a=user,n=user,r=x", "user"),
            ("n,,n=ü,r=x", "ü"),
        ] {
            assert_eq!(ClientFirst::parse(text).unwrap().user, user, "{text}");
        }
        assert_eq!(ClientFirst::parse("n,a=root,n=user,r=x"), Err(PeerMisbehaved::AuthForAnother));
        let long = format!("n,,n=user,r={}", "x".repeat(NONCE_BYTES_MAX + 1));
        for text in [
            "",
            "n,",
            "n,,",
            "n,,n=,r=x",
            "n,,n=user",
            "n,,n=user,r=",
            "n,,n=user,r=\u{7f}",
            "n,,n=a=2cb,r=x",
            "n,,n=a=,r=x",
            "n,,n=a=ü,r=x",
            "n,b=user,n=user,r=x",
            "n,,m=must,n=user,r=x",
            "p=tls-exporter,,n=user,r=x",
            &long,
        ] {
            assert_eq!(ClientFirst::parse(text), Err(PeerMisbehaved::AuthMalformed), "{text}");
        }
    }

    #[test]
    fn secrets_do_not_show() {
        let first = ClientFirst::parse(FIRST).unwrap();
        let mut shown = format!("{first:?}");
        shown.push_str(&format!("{:?}", first.challenge(&pencil(), SERVER_NONCE).0));
        assert_eq!(shown, "ClientFirst { .. }Challenged { .. }");
    }
}
