//! SCRAM-SHA-256 (RFC 5802, RFC 7677), both sides: a client shows that it knows a password without sending it, and a server that it
//! knows it too.
//!
//! Owns the keys that a server keeps of a password, the messages of the exchange, and the judgement of proof and signature. Refuses a
//! channel binding, which is neither offered nor asked for, and an iteration count out of bounds. Nonces come from the caller, because this crate
//! has no dice. A proof that is wrong is told as such after the same work as one that is right; no key, user or proof appears in
//! `Debug` output or in an error.

mod exchange;

mod keys;

mod prover;

pub(crate) use exchange::{Challenged, ClientFirst};
pub use keys::{Keys, KeysError, salt_for};
pub(crate) use prover::{Asked, Begun};

/// Fewest iterations of a key (RFC 7677 4).
pub const ITERATIONS_MIN: u32 = 4096;
/// Most iterations of a key: the client has to do them all, at the word of whoever claims to be the server.
pub const ITERATIONS_MAX: u32 = 1_000_000;
/// Longest salt in bytes.
pub const SALT_BYTES_MAX: usize = 64;
/// Longest nonce of a client in bytes; the server has to repeat it. Longer ones are refused as malformed.
pub const NONCE_BYTES_MAX: usize = 256;

/// Bytes of a hash, a key, a proof.
const HASH_BYTES: usize = 32;

type Hash = [u8; HASH_BYTES];
