//! What a server keeps of a password (RFC 5802 3): with it a proof can be judged, and the password cannot be shown.

use std::fmt;
use std::num::NonZeroU32;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::{digest, hmac, pbkdf2};

use super::{HASH_BYTES, Hash, ITERATIONS_MAX, ITERATIONS_MIN, SALT_BYTES_MAX};

/// The name in front of keys that are written as text (RFC 5803).
const SCHEME: &str = "SCRAM-SHA-256";

/// The keys of one user.
#[derive(Clone, PartialEq, Eq)]
pub struct Keys {
    salt: Vec<u8>,
    iterations: u32,
    stored: Hash,
    server: Hash,
}

/// Why something cannot be the keys of a user. Says nothing of the keys themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeysError {
    /// The client would be told to work too little or too much.
    #[error("{given} iterations; from {ITERATIONS_MIN} (RFC 7677 4) to {ITERATIONS_MAX} are taken")]
    Iterations {
        /// What was given.
        given: u32,
    },
    /// No salt, or too much of it.
    #[error("a salt of {given} bytes; from 1 to {SALT_BYTES_MAX} are taken")]
    Salt {
        /// What was given.
        given: usize,
    },
    /// A key has another length.
    #[error("a key of {given} bytes; SHA-256 makes {HASH_BYTES}")]
    Length {
        /// What was given.
        given: usize,
    },
    /// The text is not what RFC 5803 describes.
    #[error(
        "not SCRAM-SHA-256$ITERATIONS:SALT$STORED_KEY:SERVER_KEY with the last three in base64 (RFC 5803)"
    )]
    Form,
}

/// Without the keys.
impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").field("iterations", &self.iterations).finish_non_exhaustive()
    }
}

impl Keys {
    /// Keys that were made elsewhere.
    ///
    /// # Errors
    /// Iterations, salt or a length out of bounds.
    pub fn new(salt: &[u8], iterations: u32, stored: &[u8], server: &[u8]) -> Result<Self, KeysError> {
        check(salt, iterations)?;
        let key = |bytes: &[u8]| Hash::try_from(bytes).map_err(|_| KeysError::Length { given: bytes.len() });
        Ok(Self { salt: salt.to_vec(), iterations, stored: key(stored)?, server: key(server)? })
    }

    /// The keys of a password, as it is: who wants it normalised (RFC 4013) does that before. Takes two SHA-256 for each
    /// iteration, which is about a millisecond at [`ITERATIONS_MIN`].
    ///
    /// # Errors
    /// Iterations or salt out of bounds.
    pub fn derive(password: &str, salt: &[u8], iterations: u32) -> Result<Self, KeysError> {
        let salted = salted(password, salt, iterations)?;
        let client = mac(&salted, b"Client Key");
        Ok(Self {
            salt: salt.to_vec(),
            iterations,
            stored: hash(&client),
            server: mac(&salted, b"Server Key"),
        })
    }

    /// `SCRAM-SHA-256$4096:c2FsdA==$...:...`, as RFC 5803 writes keys and as PostgreSQL stores them.
    ///
    /// # Errors
    /// The text has another form, or what it holds is out of bounds.
    pub fn parse(text: &str) -> Result<Self, KeysError> {
        let mut parts = text.split('$');
        let (Some(SCHEME), Some(salting), Some(keys), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(KeysError::Form);
        };
        let (iterations, salt) = salting.split_once(':').ok_or(KeysError::Form)?;
        let (stored, server) = keys.split_once(':').ok_or(KeysError::Form)?;
        let bytes = |text: &str| BASE64.decode(text).map_err(|_| KeysError::Form);
        let iterations = iterations.parse().map_err(|_| KeysError::Form)?;
        Self::new(&bytes(salt)?, iterations, &bytes(stored)?, &bytes(server)?)
    }

    /// How often the password was hashed.
    #[must_use]
    pub fn iterations(&self) -> u32 {
        self.iterations
    }

    /// What was hashed with it.
    #[must_use]
    pub fn salt(&self) -> &[u8] {
        &self.salt
    }

    /// Whether `proof` was made with the password for this exchange (RFC 5802 3). Takes the same time for every proof.
    pub(super) fn hold(&self, auth_message: &[u8], proof: &Hash) -> bool {
        let client = masked(proof, &mac(&self.stored, auth_message));
        is_same(&hash(&client), &self.stored)
    }

    /// With what the server shows that it knows the keys.
    pub(super) fn signature(&self, auth_message: &[u8]) -> Hash {
        mac(&self.server, auth_message)
    }
}

/// A salt of up to 32 bytes that is always the same for a user and a secret, and cannot be told from a random one without
/// the secret: for passwords that are kept without one, and for users that do not exist.
#[must_use]
pub fn salt_for(secret: &[u8], user: &str, salt_bytes: usize) -> Vec<u8> {
    mac(secret, user.as_bytes())[..salt_bytes.min(HASH_BYTES)].to_vec()
}

/// What both sides make of a password first (RFC 5802 3).
pub(super) fn salted(password: &str, salt: &[u8], iterations: u32) -> Result<Hash, KeysError> {
    check(salt, iterations)?;
    let rounds = NonZeroU32::new(iterations).ok_or(KeysError::Iterations { given: iterations })?;
    let mut salted: Hash = [0; HASH_BYTES];
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, rounds, salt, password.as_bytes(), &mut salted);
    Ok(salted)
}

fn check(salt: &[u8], iterations: u32) -> Result<(), KeysError> {
    if !(ITERATIONS_MIN..=ITERATIONS_MAX).contains(&iterations) {
        return Err(KeysError::Iterations { given: iterations });
    }
    if salt.is_empty() || salt.len() > SALT_BYTES_MAX {
        return Err(KeysError::Salt { given: salt.len() });
    }
    Ok(())
}

/// One under the other, bit by bit.
pub(super) fn masked(hash: &Hash, mask: &Hash) -> Hash {
    let mut masked = *hash;
    masked.iter_mut().zip(mask).for_each(|(byte, mask)| *byte ^= mask);
    masked
}

/// Compares under a MAC, which does not tell by its time how far the two agree.
pub(super) fn is_same(given: &Hash, expected: &Hash) -> bool {
    let key = hmac::Key::new(hmac::HMAC_SHA256, expected);
    hmac::verify(&key, given, hmac::sign(&key, expected).as_ref()).is_ok()
}

pub(super) fn mac(key: &[u8], text: &[u8]) -> Hash {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text);
    let mut hash = [0; HASH_BYTES];
    hash.copy_from_slice(tag.as_ref());
    hash
}

pub(super) fn hash(text: &[u8]) -> Hash {
    let digest = digest::digest(&digest::SHA256, text);
    let mut hash = [0; HASH_BYTES];
    hash.copy_from_slice(digest.as_ref());
    hash
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// `pencil` with the salt of RFC 7677 3, the keys worked out by Python's hashlib and hmac.
    const PENCIL: &str = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";

    #[test]
    fn keys_of_a_password_are_those_that_others_make_of_it() {
        let salt = BASE64.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        assert_eq!(Keys::derive("pencil", &salt, 4096), Keys::parse(PENCIL));
        assert_ne!(Keys::derive("Pencil", &salt, 4096), Keys::parse(PENCIL));
    }

    #[test]
    fn what_cannot_be_keys_is_refused_with_the_bound() {
        let salt = [1; 16];
        for iterations in [0, 4095, ITERATIONS_MAX + 1] {
            assert_eq!(
                Keys::derive("p", &salt, iterations),
                Err(KeysError::Iterations { given: iterations })
            );
        }
        assert_eq!(Keys::derive("p", &[], 4096), Err(KeysError::Salt { given: 0 }));
        assert_eq!(Keys::new(&[0; 65], 4096, &[0; 32], &[0; 32]), Err(KeysError::Salt { given: 65 }));
        assert_eq!(Keys::new(&salt, 4096, &[0; 32], &[0; 31]), Err(KeysError::Length { given: 31 }));
        for text in [
            "",
            "SCRAM-SHA-1$4096:AA==$AA==:AA==",
            "SCRAM-SHA-256$4096$x:y",
            &format!("{PENCIL}$"),
            &PENCIL[1..],
        ] {
            assert_eq!(Keys::parse(text), Err(KeysError::Form), "{text}");
        }
        let few = PENCIL.replace("$4096:", "$1000:");
        assert!(Keys::parse(&few).unwrap_err().to_string().starts_with("1000 iterations; from 4096"));
    }

    #[test]
    fn a_salt_is_its_users_and_its_secrets() {
        assert_eq!(salt_for(b"secret", "user", 16), salt_for(b"secret", "user", 16));
        assert_ne!(salt_for(b"secret", "user", 16), salt_for(b"secret", "other", 16));
        assert_ne!(salt_for(b"secret", "user", 16), salt_for(b"hidden", "user", 16));
    }

    #[test]
    fn keys_do_not_show() {
        assert_eq!(format!("{:?}", Keys::parse(PENCIL).unwrap()), "Keys { iterations: 4096, .. }");
    }
}
