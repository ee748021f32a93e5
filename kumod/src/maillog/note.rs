//! The note that goes with a deletion: enough to write the log line again when a power cut took it.
//!
//! Little-endian: time in milliseconds (8 bytes), kind (1), reply code (2), then recipient and reply text, each behind its
//! length (4). A deletion that concerns several recipients carries their notes one after another; what is cut short ends the list.

use bytes::{Buf, BufMut, Bytes};

use crate::clock::UnixMs;
use crate::envelope::{Outcome, Response};

/// What became of one recipient, in short.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// When the attempt ended.
    pub at: UnixMs,
    /// `D` delivered, `B` bounced, `E` expired.
    pub kind: u8,
    /// The reply code.
    pub code: u16,
    /// The recipient.
    pub recipient: String,
    /// The text of the reply.
    pub content: String,
}

impl Note {
    /// The note of an outcome after which the recipient needs nothing more.
    pub fn of(at: UnixMs, recipient: &str, outcome: &Outcome) -> Self {
        let kind = match outcome {
            Outcome::Delivered(_) => b'D',
            Outcome::Retry(_) => b'E',
            Outcome::Failed(_) => b'B',
        };
        let Response { code, content, .. } = outcome.response();
        Self { at, kind, code: *code, recipient: recipient.to_owned(), content: content.clone() }
    }

    /// Appends the stored form.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.put_u64_le(self.at.0);
        out.put_u8(self.kind);
        out.put_u16_le(self.code);
        for text in [&self.recipient, &self.content] {
            out.put_u32_le(u32::try_from(text.len()).unwrap_or(u32::MAX));
            out.put_slice(text.as_bytes());
        }
    }

    /// Takes one note off the front; `None` when nothing whole is left.
    pub fn decode(bytes: &mut Bytes) -> Option<Self> {
        let at = UnixMs(bytes.try_get_u64_le().ok()?);
        let kind = bytes.try_get_u8().ok()?;
        let code = bytes.try_get_u16_le().ok()?;
        let recipient = text(bytes)?;
        let content = text(bytes)?;
        Some(Self { at, kind, code, recipient, content })
    }
}

fn text(bytes: &mut Bytes) -> Option<String> {
    let length = bytes.try_get_u32_le().ok()? as usize;
    if bytes.len() < length {
        return None;
    }
    String::from_utf8(bytes.split_to(length).to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn notes_come_back_one_after_another(notes in proptest::collection::vec((any::<u64>(), any::<u16>(), ".*", ".*"), 0..4)) {
            let notes: Vec<Note> = notes
                .into_iter()
                .map(|(at, code, recipient, content)| Note { at: UnixMs(at), kind: b'D', code, recipient, content })
                .collect();
            let mut stored = Vec::new();
            notes.iter().for_each(|note| note.encode(&mut stored));
            let mut stored = Bytes::from(stored);
            let read: Vec<Note> = std::iter::from_fn(|| Note::decode(&mut stored)).collect();
            prop_assert_eq!(read, notes);
        }

        #[test]
        fn notes_of_any_bytes_end(bytes: Vec<u8>) {
            let mut bytes = Bytes::from(bytes);
            while Note::decode(&mut bytes).is_some() {}
        }
    }
}
