//! The client's half of SCRAM-SHA-256, for tests: written from RFC 5802 3, and not from the server's half.

use std::num::NonZeroU32;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::{digest, hmac, pbkdf2};

/// What a challenge says, decoded.
pub(crate) fn challenge(reply: &str) -> String {
    let text = reply.strip_prefix("334 ").unwrap().trim_end();
    String::from_utf8(BASE64.decode(text).unwrap()).unwrap()
}

/// The client's last message, and the server's signature that it expects.
pub(crate) fn prove(password: &str, bare: &str, challenge: &str) -> (String, String) {
    let value = |name: &str| challenge.split(',').find_map(|part| part.strip_prefix(name)).unwrap();
    let rounds = NonZeroU32::new(value("i=").parse().unwrap()).unwrap();
    let mut salted = [0; 32];
    let salt = BASE64.decode(value("s=")).unwrap();
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, rounds, &salt, password.as_bytes(), &mut salted);
    let said = format!("c=biws,r={}", value("r="));
    let signed = format!("{bare},{challenge},{said}");
    let mut proof = mac(&salted, b"Client Key");
    let stored = digest::digest(&digest::SHA256, &proof);
    proof.iter_mut().zip(mac(stored.as_ref(), signed.as_bytes())).for_each(|(byte, mask)| *byte ^= mask);
    let signature = mac(&mac(&salted, b"Server Key"), signed.as_bytes());
    (format!("{said},p={}", BASE64.encode(proof)), format!("v={}", BASE64.encode(signature)))
}

fn mac(key: &[u8], text: &[u8]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text).as_ref().to_vec()
}
