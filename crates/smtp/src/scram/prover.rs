//! The client's half (RFC 5802 5, 7): what it says first, how it answers the challenge, and whether the server knew the password too.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::exchange::is_nonce;
use super::keys::{hash, is_same, mac, masked, salted};
use super::{Hash, KeysError};

/// `n,,` in base64: no channel is bound, and nobody else is acted for.
const HEADER: &str = "n,,";

/// An exchange whose first message is written, or about to be.
#[derive(PartialEq, Eq)]
pub(crate) struct Begun {
    /// The part that is signed.
    bare: String,
    nonce: String,
}

/// An exchange that waits for the server's signature.
#[derive(PartialEq, Eq)]
pub(crate) struct Asked {
    signature: Hash,
}

/// Without user and nonce.
impl fmt::Debug for Begun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Begun").finish_non_exhaustive()
    }
}

/// Without the signature.
impl fmt::Debug for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Asked").finish_non_exhaustive()
    }
}

/// The server's challenge cannot be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unanswerable;

impl From<KeysError> for Unanswerable {
    fn from(_: KeysError) -> Self {
        Self
    }
}

impl Begun {
    /// `None` where the nonce is none: empty, too long, or not printable ASCII without commas.
    pub(crate) fn new(user: &str, nonce: &str) -> Option<Self> {
        // RFC 5802 5.1: the two signs that mean something in a message are written out.
        let user = user.replace('=', "=3D").replace(',', "=2C");
        is_nonce(nonce).then(|| Self { bare: format!("n={user},r={nonce}"), nonce: nonce.to_owned() })
    }

    /// The first message.
    pub(crate) fn message(&self) -> String {
        format!("{HEADER}{}", self.bare)
    }

    /// Answers `r=nonce,s=salt,i=iterations`; returns the text for the server. An extension that must be understood (`m=`) stands
    /// where the nonce should, and is not understood.
    pub(crate) fn prove(self, password: &str, challenge: &str) -> Result<(Asked, String), Unanswerable> {
        let mut attributes = challenge.split(',');
        let mut value = |name| attributes.next().and_then(|part| part.strip_prefix(name)).ok_or(Unanswerable);
        let (nonce, salt, iterations) = (value("r=")?, value("s=")?, value("i=")?);
        // A server that adds nothing would let an exchange be played again.
        let added = nonce.strip_prefix(self.nonce.as_str()).filter(|added| !added.is_empty());
        let added = added.ok_or(Unanswerable)?;
        if !added.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Unanswerable);
        }
        let salt = BASE64.decode(salt).map_err(|_| Unanswerable)?;
        let salted = salted(password, &salt, iterations.parse().map_err(|_| Unanswerable)?)?;
        let said = format!("c={},r={nonce}", BASE64.encode(HEADER));
        let signed = format!("{},{challenge},{said}", self.bare);
        let client = mac(&salted, b"Client Key");
        let proof = masked(&client, &mac(&hash(&client), signed.as_bytes()));
        let signature = mac(&mac(&salted, b"Server Key"), signed.as_bytes());
        Ok((Asked { signature }, format!("{said},p={}", BASE64.encode(proof))))
    }
}

impl Asked {
    /// Whether `v=signature` shows that the server knows the password.
    pub(crate) fn is_answered_by(&self, text: &str) -> bool {
        let signature = text.split(',').next().and_then(|first| first.strip_prefix("v="));
        let signature = signature.and_then(|signature| BASE64.decode(signature).ok());
        signature
            .and_then(|signature| Hash::try_from(signature).ok())
            .is_some_and(|signature| is_same(&signature, &self.signature))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// The exchange of RFC 7677 3.
    const NONCE: &str = "rOprNGfwEbeRWgbNEkqO";
    const CHALLENGE: &str =
        "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
    const FINAL: &str = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
    const SIGNATURE: &str = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";

    fn begun() -> Begun {
        Begun::new("user", NONCE).unwrap()
    }

    #[test]
    fn the_exchange_of_the_standard() {
        assert_eq!(begun().message(), "n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
        let (asked, text) = begun().prove("pencil", CHALLENGE).unwrap();
        assert_eq!(text, FINAL);
        assert!(asked.is_answered_by(SIGNATURE));
        for forged in ["", "v=", "v=AAAA", "e=other-error", &SIGNATURE.replace("6rr", "6rs")] {
            assert!(!asked.is_answered_by(forged), "{forged}");
        }
        let (asked, text) = begun().prove("Pencil", CHALLENGE).unwrap();
        assert!(text != FINAL && !asked.is_answered_by(SIGNATURE));
    }

    #[test]
    fn a_challenge_that_is_none_is_not_answered() {
        for challenge in [
            "",
            "r=,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
            // Another nonce, nothing added to ours, something unprintable.
            &CHALLENGE.replace("r=rOpr", "r=rOpR"),
            "r=rOprNGfwEbeRWgbNEkqO,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
            &CHALLENGE.replace("%hv", "\u{7f}hv"),
            // No salt, too few and too many iterations, an extension.
            &CHALLENGE.replace("W22ZaJ0SNY7soEsUEjb6gQ==", ""),
            &CHALLENGE.replace("i=4096", "i=4095"),
            &CHALLENGE.replace("i=4096", "i=1000001"),
            &format!("m=must,{CHALLENGE}"),
        ] {
            assert_eq!(begun().prove("pencil", challenge).unwrap_err(), Unanswerable, "{challenge}");
        }
        // What is added at the end may be left aside (RFC 5802 7), but is signed.
        assert!(begun().prove("pencil", &format!("{CHALLENGE},x=1")).is_ok());
    }

    #[test]
    fn names_and_nonces() {
        assert_eq!(Begun::new("a,b=c", "x").unwrap().message(), "n,,n=a=2Cb=3Dc,r=x");
        for nonce in ["", "a,b", "a b", "ü", &"x".repeat(super::super::NONCE_BYTES_MAX + 1)] {
            assert!(Begun::new("user", nonce).is_none(), "{nonce}");
        }
    }

    #[test]
    fn secrets_do_not_show() {
        let shown = format!("{:?} {:?}", begun(), begun().prove("pencil", CHALLENGE).unwrap().0);
        assert_eq!(shown, "Begun { .. } Asked { .. }");
    }
}
