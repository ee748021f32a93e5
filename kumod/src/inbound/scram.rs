//! The keys with which a client's proof is judged, also of users that do not exist.
//!
//! Who asks for a user that is unknown gets a challenge as any other does, and learns with its proof that user or password is
//! wrong: salt, iterations and the work are those of the last user that was known, the keys nobody's. The secret behind them is as old as
//! the process and the same at all listeners. Fails only where the host has no random numbers.

use std::sync::{Mutex, OnceLock, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use rustls::crypto::ring::default_provider;
use smtp::scram::{ITERATIONS_MIN, Keys, KeysError, salt_for};

use crate::policy::Secret;

/// Bytes of the salt of a password that is kept without one.
const SALT_BYTES: usize = 16;
/// Random bytes of a nonce.
const NONCE_BYTES: usize = 18;
const SECRET_BYTES: usize = 32;

/// What hides who exists.
pub(super) struct Disguise {
    secret: [u8; SECRET_BYTES],
    last_known: Mutex<Shape>,
}

/// What a client sees, or could measure, of a user's keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shape {
    salt_bytes: usize,
    iterations: u32,
    /// The keys have to be made of a password first, which takes its time.
    derived: bool,
}

impl Disguise {
    /// The one of this process; `None` where there are no random numbers yet.
    pub(super) fn of_process() -> Option<&'static Self> {
        static DISGUISE: OnceLock<Disguise> = OnceLock::new();
        if let Some(made) = DISGUISE.get() {
            return Some(made);
        }
        let made = Self::new(random()?);
        Some(DISGUISE.get_or_init(|| made))
    }

    fn new(secret: [u8; SECRET_BYTES]) -> Self {
        let first = Shape { salt_bytes: SALT_BYTES, iterations: ITERATIONS_MIN, derived: true };
        Self { secret, last_known: Mutex::new(first) }
    }

    /// The keys for a user of whose password this is known.
    ///
    /// # Errors
    /// None that can come: all bounds are kept here.
    pub(super) fn keys(&self, user: &str, known: Option<Secret>) -> Result<Keys, KeysError> {
        match known {
            Some(Secret::Keys(keys)) => {
                let (salt_bytes, iterations) = (keys.salt().len(), keys.iterations());
                self.note(Shape { salt_bytes, iterations, derived: false });
                Ok(keys)
            }
            Some(Secret::Password(password)) => {
                self.note(Shape { salt_bytes: SALT_BYTES, iterations: ITERATIONS_MIN, derived: true });
                Keys::derive(&password, &salt_for(&self.secret, user, SALT_BYTES), ITERATIONS_MIN)
            }
            None => self.keys_of_nobody(user),
        }
    }

    fn keys_of_nobody(&self, user: &str) -> Result<Keys, KeysError> {
        let shape = *self.last_known.lock().unwrap_or_else(PoisonError::into_inner);
        let made = |purpose: &str| salt_for(&self.secret, &format!("{purpose}\0{user}"), SECRET_BYTES);
        // A salt may be longer than one hash.
        let mut salt = salt_for(&self.secret, user, shape.salt_bytes);
        salt.extend(made("salt"));
        salt.truncate(shape.salt_bytes);
        if shape.derived {
            return Keys::derive(&BASE64.encode(made("password")), &salt, shape.iterations);
        }
        Keys::new(&salt, shape.iterations, &made("stored"), &made("server"))
    }

    fn note(&self, shape: Shape) {
        *self.last_known.lock().unwrap_or_else(PoisonError::into_inner) = shape;
    }
}

/// A nonce for one exchange; `None` where there are no random numbers.
pub(super) fn nonce() -> Option<String> {
    random::<NONCE_BYTES>().map(|bytes| BASE64.encode(bytes))
}

fn random<const BYTES: usize>() -> Option<[u8; BYTES]> {
    let mut bytes = [0; BYTES];
    default_provider().secure_random.fill(&mut bytes).ok()?;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn shape(keys: &Keys) -> (usize, u32) {
        (keys.salt().len(), keys.iterations())
    }

    #[test]
    fn who_does_not_exist_looks_as_who_does() {
        let disguise = Disguise::new([7; SECRET_BYTES]);
        let nobody = |user: &str| disguise.keys(user, None).unwrap();
        let known = disguise.keys("known", Some(Secret::Password("pencil".to_owned()))).unwrap();
        assert_eq!(shape(&nobody("x")), shape(&known));
        assert_eq!(nobody("x"), nobody("x"), "asked twice, the answer is the same");
        assert_ne!(nobody("x").salt(), nobody("y").salt());
        let stored = Keys::new(&[1; 40], 10_000, &[2; 32], &[3; 32]).unwrap();
        assert_eq!(disguise.keys("known", Some(Secret::Keys(stored.clone()))).unwrap(), stored);
        assert_eq!(shape(&nobody("x")), (40, 10_000));
        assert_ne!(nobody("x").salt(), nobody("y").salt());
    }

    #[test]
    fn a_password_keeps_its_salt_and_a_nonce_is_new_each_time() {
        let disguise = Disguise::new([7; SECRET_BYTES]);
        let keys =
            |password: &str| disguise.keys("known", Some(Secret::Password(password.to_owned()))).unwrap();
        assert_eq!(keys("pencil"), keys("pencil"));
        assert_eq!(keys("pencil").salt(), keys("pen").salt());
        assert_ne!(nonce().unwrap(), nonce().unwrap());
    }
}
