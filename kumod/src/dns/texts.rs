//! TXT records of a name. Who asks remembers the answer; that it cannot be had is the same here as that there is none, for a shorter time.

use std::time::Instant;

use hickory_resolver::proto::rr::{RData, RecordType};

use super::Dns;
use super::resolver::{FAILURE_TTL, Refusal};

/// Records of a name that are looked at.
const TEXTS_MAX: usize = 64;

/// What DNS said.
#[derive(Clone, Debug)]
pub(super) struct Texts {
    /// Each record, its parts joined.
    pub(super) texts: Vec<Vec<u8>>,
    /// When this has to be asked again.
    pub(super) expires: Instant,
}

impl Dns {
    /// Asks for the TXT records of a name.
    pub(super) async fn texts(&self, name: &str) -> Texts {
        let none = |lasts| Texts { texts: Vec::new(), expires: Instant::now() + lasts };
        match self.inner.ask(name, RecordType::TXT).await {
            Ok(records) => {
                let texts = records.iter().filter_map(|record| match &record.data {
                    RData::TXT(text) => Some(text.txt_data.concat()),
                    _ => None,
                });
                Texts { texts: texts.take(TEXTS_MAX).collect(), expires: self.inner.expiry(&records) }
            }
            Err(Refusal::NoName { ttl } | Refusal::NoRecords { ttl }) => none(self.inner.negative_ttl(ttl)),
            Err(Refusal::Failed(reason)) => {
                tracing::debug!(name, reason, "no answer for TXT records");
                none(FAILURE_TTL)
            }
        }
    }
}
