//! What a sender asked for about notifications (RFC 3461) and the body's way (RFC 3030), kept with the message from its reception to its end.
//!
//! Most messages ask for nothing and carry nothing of this; their stored form is what it always was.

use smtp::dsn::{Notify, Ret};

use super::{DecodeError, Reader, put_bytes, put_length};

/// What was asked for in MAIL and RCPT.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Requests {
    /// How much of the message a notification of failure holds.
    pub ret: Option<Ret>,
    /// The sender's name for the transaction, in xtext as it was written.
    pub envid: Option<String>,
    /// The body has no lines: it goes by BDAT, to servers with BINARYMIME only.
    pub binary: bool,
    /// No hop without TLS to a server that is who it says it is, and that promises the same (RFC 8689).
    pub require_tls: bool,
    /// For each recipient of the envelope.
    pub recipients: Vec<RecipientRequests>,
}

/// What was asked for in one RCPT.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecipientRequests {
    /// Of what the sender wants to be told; `None`: of failures, and of delays where that is usual.
    pub notify: Option<Notify>,
    /// The recipient as the sender first wrote it, in xtext as it was written.
    pub orcpt: Option<String>,
}

const FLAG_RET_FULL: u8 = 1;
const FLAG_RET_HEADERS: u8 = 2;
const FLAG_BINARY: u8 = 4;
/// A kumod that does not know of it refuses the envelope, rather than send it in the clear.
const FLAG_REQUIRE_TLS: u8 = 8;
const NOTIFY_GIVEN: u8 = 1;
const NOTIFY_SUCCESS: u8 = 2;
const NOTIFY_FAILURE: u8 = 4;
const NOTIFY_DELAY: u8 = 8;

impl Requests {
    /// Whether nothing was asked for.
    pub fn is_empty(&self) -> bool {
        self.ret.is_none()
            && !self.binary
            && !self.require_tls
            && self.envid.is_none()
            && self.recipients.iter().all(|recipient| *recipient == RecipientRequests::default())
    }

    /// Those of some recipients alone, in this order; `None` where that is nothing.
    pub fn of_recipients(&self, indexes: &[usize]) -> Option<Box<Self>> {
        let of = |index: &usize| self.recipients.get(*index).cloned().unwrap_or_default();
        let recipients = indexes.iter().map(of).collect();
        let requests = Self { recipients, envid: self.envid.clone(), ..*self };
        (!requests.is_empty()).then(|| Box::new(requests))
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let ret = match self.ret {
            None => 0,
            Some(Ret::Full) => FLAG_RET_FULL,
            Some(Ret::Headers) => FLAG_RET_HEADERS,
        };
        let binary = if self.binary { FLAG_BINARY } else { 0 };
        let require_tls = if self.require_tls { FLAG_REQUIRE_TLS } else { 0 };
        out.push(ret | binary | require_tls);
        put_bytes(out, self.envid.as_deref().unwrap_or_default().as_bytes());
        put_length(out, self.recipients.len());
        for RecipientRequests { notify, orcpt } in &self.recipients {
            out.push(notify.map_or(0, |Notify { success, failure, delay }| {
                let bits = [(success, NOTIFY_SUCCESS), (failure, NOTIFY_FAILURE), (delay, NOTIFY_DELAY)];
                bits.iter().filter(|(wanted, _)| *wanted).fold(NOTIFY_GIVEN, |sum, (_, bit)| sum | bit)
            }));
            put_bytes(out, orcpt.as_deref().unwrap_or_default().as_bytes());
        }
    }

    pub(super) fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        let flags = reader.array::<1>("ret")?[0];
        let ret = match flags & !(FLAG_BINARY | FLAG_REQUIRE_TLS) {
            0 => None,
            FLAG_RET_FULL => Some(Ret::Full),
            FLAG_RET_HEADERS => Some(Ret::Headers),
            _ => return Err(reader.short("ret")),
        };
        let envid = given(reader.text("envid")?);
        let count = u32::from_le_bytes(reader.array("recipients")?);
        let recipients = (0..count).map(|_| {
            let bits = reader.array::<1>("notify")?[0];
            let notify = (bits & NOTIFY_GIVEN != 0).then_some(Notify {
                success: bits & NOTIFY_SUCCESS != 0,
                failure: bits & NOTIFY_FAILURE != 0,
                delay: bits & NOTIFY_DELAY != 0,
            });
            Ok(RecipientRequests { notify, orcpt: given(reader.text("orcpt")?) })
        });
        let recipients = recipients.collect::<Result<_, _>>()?;
        let (binary, require_tls) = (flags & FLAG_BINARY != 0, flags & FLAG_REQUIRE_TLS != 0);
        Ok(Self { ret, envid, binary, require_tls, recipients })
    }
}

/// Neither value can be empty where it was given.
fn given(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use bytes::Bytes;

    use super::*;

    fn all_there_is() -> Requests {
        let notify = |success, failure, delay| Some(Notify { success, failure, delay });
        Requests {
            ret: Some(Ret::Headers),
            envid: Some("QQ314159".to_owned()),
            binary: true,
            require_tls: true,
            recipients: vec![
                RecipientRequests { notify: notify(true, false, true), orcpt: Some("rfc822;a@b".to_owned()) },
                RecipientRequests { notify: notify(false, false, false), orcpt: None },
                RecipientRequests::default(),
            ],
        }
    }

    fn decode(bytes: &[u8]) -> Result<Requests, DecodeError> {
        Requests::decode(&mut Reader { what: "requests", rest: Bytes::copy_from_slice(bytes) })
    }

    #[test]
    fn what_was_asked_for_comes_back_and_what_is_cut_short_does_not() {
        let mut bytes = Vec::new();
        all_there_is().encode(&mut bytes);
        assert_eq!(decode(&bytes).unwrap(), all_there_is());
        for end in 0..bytes.len() {
            assert!(decode(&bytes[..end]).is_err(), "{end}");
        }
    }

    #[test]
    fn each_recipient_has_its_own_and_who_asks_for_nothing_has_none() {
        let all = all_there_is();
        assert_eq!(all.of_recipients(&[1]).unwrap().recipients, all.recipients[1..2]);
        assert_eq!(all.of_recipients(&[1, 2]).unwrap().recipients, all.recipients[1..]);
        let only_one = Requests { ret: None, envid: None, binary: false, require_tls: false, ..all };
        assert!(only_one.of_recipients(&[0]).is_some() && only_one.of_recipients(&[2]).is_none());
        let through_tls = Requests { require_tls: true, ..only_one };
        assert!(through_tls.of_recipients(&[2]).unwrap().require_tls, "it holds for every recipient");
    }
}
