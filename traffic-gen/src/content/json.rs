//! Bodies as they stand inside of a JSON string, for injection over HTTP.
//!
//! Escaped once before the run; a request borrows its body from here without copying it. JSON is Unicode, so
//! a body that is not UTF-8 has no such form and is refused with its number.

use std::ops::Range;

use bytes::Bytes;

use super::catalogue::{Catalogue, Message};
use super::plan::ContentError;

/// Bytes between the places of a text whose place in the escaped text is kept.
const CHECKPOINT_BYTES: usize = 4096;

/// All bodies of a catalogue, escaped.
#[derive(Clone, Debug)]
pub(crate) struct JsonBodies {
    text: Bytes,
    bodies: Vec<Range<usize>>,
}

impl JsonBodies {
    /// Escapes the bodies of a catalogue. Takes about as much memory as they do.
    pub(crate) fn new(catalogue: &Catalogue) -> Result<Self, ContentError> {
        let pool = catalogue.pool();
        let escaped = Escaped::new(pool.bytes());
        let place = |body: usize| {
            let clean = |part: &[u8]| std::str::from_utf8(part).is_ok();
            if !clean(pool.verbatim(body)) || !clean(pool.fields(body)) {
                return Err(ContentError::NotUtf8(body + 1));
            }
            let Range { start, end } = pool.place(body);
            Ok(escaped.at(pool.bytes(), start)..escaped.at(pool.bytes(), end))
        };
        let bodies = (0..pool.len()).map(place).collect::<Result<_, _>>()?;
        Ok(Self { text: escaped.text.into(), bodies })
    }

    /// The body of a message.
    pub(crate) fn body(&self, message: &Message) -> Bytes {
        self.text.slice(self.bodies[message.body()].clone())
    }
}

/// A text inside of a JSON string, and where its parts have gone.
struct Escaped {
    text: Vec<u8>,
    checkpoints: Vec<usize>,
}

impl Escaped {
    fn new(raw: &[u8]) -> Self {
        let mut text = Vec::with_capacity(raw.len() + raw.len() / 16);
        let mut checkpoints = vec![0];
        for part in raw.chunks(CHECKPOINT_BYTES) {
            push_escaped(part, &mut text);
            checkpoints.push(text.len());
        }
        Self { text, checkpoints }
    }

    /// Where a place of the raw text is.
    fn at(&self, raw: &[u8], place: usize) -> usize {
        let checkpoint = place / CHECKPOINT_BYTES;
        let rest = &raw[checkpoint * CHECKPOINT_BYTES..place];
        self.checkpoints[checkpoint] + rest.iter().map(|byte| escaped_bytes(*byte)).sum::<usize>()
    }
}

/// Appends a text as it stands inside of a JSON string (RFC 8259 7).
pub(crate) fn push_escaped(text: &[u8], to: &mut Vec<u8>) {
    let mut plain_from = 0;
    for (at, byte) in text.iter().enumerate() {
        if escaped_bytes(*byte) == 1 {
            continue;
        }
        to.extend_from_slice(&text[plain_from..at]);
        plain_from = at + 1;
        match byte {
            b'\r' => to.extend_from_slice(b"\\r"),
            b'\n' => to.extend_from_slice(b"\\n"),
            b'"' | b'\\' => to.extend_from_slice(&[b'\\', *byte]),
            _ => {
                let digit = |nibble: u8| b"0123456789abcdef"[usize::from(nibble & 15)];
                to.extend_from_slice(&[b'\\', b'u', b'0', b'0', digit(byte >> 4), digit(*byte)]);
            }
        }
    }
    to.extend_from_slice(&text[plain_from..]);
}

fn escaped_bytes(byte: u8) -> usize {
    match byte {
        b'\r' | b'\n' | b'"' | b'\\' => 2,
        0..0x20 => 6,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_text_comes_back_from_json(text in "[\\PC\\x00-\\x1f\"\\\\]{0,60}") {
            let mut json = b"\"".to_vec();
            push_escaped(text.as_bytes(), &mut json);
            json.push(b'"');
            prop_assert_eq!(serde_json::from_slice::<String>(&json).unwrap(), text);
        }

        #[test]
        fn every_piece_of_a_text_is_found(
            text in proptest::collection::vec(prop_oneof![0u8..128, Just(b'\n')], 0..10_000),
            at: (u16, u16),
        ) {
            let (one, other) = (usize::from(at.0) % (text.len() + 1), usize::from(at.1) % (text.len() + 1));
            let piece = one.min(other)..one.max(other);
            let escaped = Escaped::new(&text);
            let mut alone = Vec::new();
            push_escaped(&text[piece.clone()], &mut alone);
            let found = escaped.at(&text, piece.start)..escaped.at(&text, piece.end);
            prop_assert_eq!(&escaped.text[found], &alone[..]);
        }
    }
}
