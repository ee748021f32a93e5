//! What came of a transaction, and the buffers behind it.
//!
//! Owns the replies of the last transaction and the rule which of them decides a recipient. Texts of
//! earlier replies are kept to be filled again, so that a session in its stride allocates nothing.

use std::borrow::Cow;

use crate::reply::Reply;

/// Stands where the connection ended before a reply came.
pub static NO_REPLY: Reply = Reply::new(421, (4, 4, 2), "connection lost before the reply");

/// Most reply texts that are kept for the next transaction.
const SPARE_TEXTS_MAX: usize = 128;
/// Largest text buffer in bytes that is kept for the next transaction.
const SPARE_TEXT_BYTES_MAX: usize = 1024;

/// The replies of one transaction; `None` where none came.
#[derive(Debug, Default)]
pub struct TransactionResult {
    /// To MAIL.
    pub mail: Option<Reply>,
    /// To each RCPT, in the order of `Transaction::recipients`.
    pub recipients: Vec<Option<Reply>>,
    /// To the body: to the final dot, to BDAT LAST, or to DATA where that was refused.
    pub body: Option<Reply>,
    /// LMTP only: the final reply to each recipient, in the order of `Transaction::recipients`; none for those whose
    /// RCPT was refused. Empty in SMTP. [`Self::body`] then holds a reply that stands for all of them, such as a
    /// refused DATA.
    pub bodies: Vec<Option<Reply>>,
    /// The reply with which the peer ended or refused the session: a banner, EHLO, STARTTLS or AUTH
    /// that is not 2xx, 421, 221.
    pub closing: Option<Reply>,
    spare: Vec<String>,
}

impl TransactionResult {
    /// The reply that decides what became of recipient `index`: the refusal of MAIL, else the
    /// refusal of its RCPT, else the reply to the body (in LMTP its own, if it came), else the one that ended the
    /// session, else [`NO_REPLY`].
    #[must_use]
    pub fn recipient_reply(&self, index: usize) -> &Reply {
        let refusal = |reply: &Option<Reply>| reply.as_ref().is_some_and(|reply| !reply.is_positive());
        if refusal(&self.mail) {
            return self.mail.as_ref().unwrap_or(&NO_REPLY);
        }
        match self.recipients.get(index) {
            Some(Some(reply)) if !reply.is_positive() => reply,
            _ => {
                let own = self.bodies.get(index).and_then(Option::as_ref);
                own.or(self.body.as_ref()).or(self.closing.as_ref()).unwrap_or(&NO_REPLY)
            }
        }
    }

    /// Whether recipient `index` was accepted and the body behind it too.
    #[must_use]
    pub fn is_delivered(&self, index: usize) -> bool {
        let positive = |reply: &Option<Reply>| reply.as_ref().is_some_and(Reply::is_positive);
        let body = self.bodies.get(index).unwrap_or(&self.body);
        positive(body) && self.recipients.get(index).is_some_and(positive)
    }

    /// Empties the result for a transaction of so many recipients, each with a final reply of its own in LMTP.
    pub(super) fn reset(&mut self, recipients: usize, lmtp: bool) {
        let Self { mail, recipients: slots, body, bodies, closing, spare } = self;
        let old = [mail.take(), body.take(), closing.take()];
        for reply in slots.drain(..).chain(bodies.drain(..)).chain(old).flatten() {
            keep(spare, reply);
        }
        slots.resize_with(recipients, || None);
        if lmtp {
            bodies.resize_with(recipients, || None);
        }
    }

    /// A text buffer for the next reply.
    pub(super) fn buffer(&mut self) -> String {
        self.spare.pop().unwrap_or_default()
    }

    /// A reply that is not part of the result gives its buffer back.
    pub(super) fn discard(&mut self, reply: Reply) {
        keep(&mut self.spare, reply);
    }
}

fn keep(spare: &mut Vec<String>, reply: Reply) {
    if let Cow::Owned(text) = reply.text
        && spare.len() < SPARE_TEXTS_MAX
        && (1..=SPARE_TEXT_BYTES_MAX).contains(&text.capacity())
    {
        spare.push(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(mail: u16, recipients: &[u16], body: u16, closing: u16) -> TransactionResult {
        let reply = |code| (code > 0).then(|| Reply::plain(code, ""));
        TransactionResult {
            mail: reply(mail),
            recipients: recipients.iter().map(|&code| reply(code)).collect(),
            body: reply(body),
            bodies: Vec::new(),
            closing: reply(closing),
            spare: Vec::new(),
        }
    }

    #[test]
    fn the_first_refusal_decides() {
        let table = [
            (result(250, &[250], 250, 0), 250, true),
            (result(250, &[250], 451, 0), 451, false),
            (result(250, &[550], 250, 0), 550, false),
            // Pipelined RCPT after a refused MAIL gets 503, which says nothing.
            (result(451, &[503], 503, 0), 451, false),
            (result(250, &[250], 0, 421), 421, false),
            (result(250, &[250], 250, 421), 250, true),
            (result(250, &[0], 0, 0), NO_REPLY.code, false),
            (result(0, &[], 0, 554), 554, false),
        ];
        for (result, code, delivered) in table {
            assert_eq!(result.recipient_reply(0).code, code, "{result:?}");
            assert_eq!(result.is_delivered(0), delivered, "{result:?}");
        }
    }

    #[test]
    fn buffers_come_back() {
        let mut result = result(250, &[250], 250, 0);
        result.mail = Some(Reply::owned(250, (2, 0, 0), "a text".into()));
        result.reset(2, false);
        assert_eq!((result.recipients.len(), result.spare.len()), (2, 1));
        assert!(result.buffer().capacity() >= 6);
        result.discard(Reply::owned(250, (2, 0, 0), "x".repeat(SPARE_TEXT_BYTES_MAX + 1)));
        assert_eq!(result.spare.len(), 0);
    }
}
