//! Which recipients of a message go in which transaction, and what became of each.
//!
//! A transaction takes as many as path and server allow; the others follow. A server that takes some and has no room for the rest
//! (RFC 5321 4.5.3.1.10) is offered the rest again at once, in a transaction that is as large as what it took. Who is refused once more is
//! refused for a reason of his own, and waits; unless somebody before him was taken, in which case the server may be full of recipients
//! again. Nobody who was taken is offered again, over whatever connections the message goes.

use std::borrow::Cow;

use smtp::client::TransactionResult;
use smtp::reply::Reply;

use super::classify;
use crate::envelope::Outcome;

/// One message's recipients that are still open, by their place in the list.
pub(super) struct Batches {
    outcomes: Vec<Option<Outcome>>,
    /// Whom a full server has refused once; empty where it has refused nobody.
    refused: Vec<bool>,
    /// What the server took when it was full.
    taken: Option<usize>,
}

/// The recipients of one transaction.
pub(super) enum Batch {
    /// All of them, and none has an outcome yet.
    All,
    /// Those at these places.
    Some(Vec<usize>),
}

impl Batch {
    /// Who they are.
    pub(super) fn of<'a>(&self, open: &'a [&'a str]) -> Cow<'a, [&'a str]> {
        match self {
            Self::All => Cow::Borrowed(open),
            Self::Some(places) => Cow::Owned(places.iter().map(|place| open[*place]).collect()),
        }
    }

    /// Where in the list the recipient at a place of the transaction stands.
    fn place(&self, at: usize) -> usize {
        match self {
            Self::All => at,
            Self::Some(places) => places[at],
        }
    }
}

impl Batches {
    pub(super) fn new(recipients: usize) -> Self {
        Self { outcomes: vec![None; recipients], refused: Vec::new(), taken: None }
    }

    /// Whether a recipient has an outcome already.
    pub(super) fn are_begun(&self) -> bool {
        self.outcomes.iter().any(Option::is_some)
    }

    /// The recipients of the next transaction, at most so many; `None` when every one has an outcome.
    pub(super) fn next(&self, batch_max: usize) -> Option<Batch> {
        let batch_max = self.taken.unwrap_or(batch_max).clamp(1, batch_max.max(1));
        if self.outcomes.len() <= batch_max && self.outcomes.iter().all(Option::is_none) {
            return (!self.outcomes.is_empty()).then_some(Batch::All);
        }
        let open = (0..self.outcomes.len()).filter(|place| self.outcomes[*place].is_none());
        let places: Vec<usize> = open.take(batch_max).collect();
        (!places.is_empty()).then_some(Batch::Some(places))
    }

    /// Takes the result of a transaction that came to its end, or was ended by the server's closing reply.
    pub(super) fn conclude(&mut self, batch: &Batch, result: &TransactionResult) {
        let length = result.recipients.len();
        let is_taken = (0..length).any(|at| result.is_delivered(at));
        let mut taken_before = 0;
        let mut is_full = false;
        for at in 0..length {
            let reply = result.recipient_reply(at);
            let place = batch.place(at);
            if is_taken
                && is_no_room(result.recipients[at].as_ref())
                && self.may_go_again(place, taken_before)
            {
                is_full = true;
                continue;
            }
            taken_before += usize::from(result.recipients[at].as_ref().is_some_and(Reply::is_positive));
            self.outcomes[place] = Some(classify::reply(reply));
        }
        if is_full {
            self.taken = Some(taken_before.max(1));
        }
    }

    /// Takes what is known of a transaction that broke: what was refused for good, or delivered in LMTP, stays so; all else is open.
    pub(super) fn conclude_broken(&mut self, batch: &Batch, result: &TransactionResult) {
        let mail_refused = result.mail.as_ref().filter(|reply| !reply.is_positive());
        for at in 0..result.recipients.len() {
            let refused = result.recipients[at].as_ref().filter(|reply| !reply.is_positive());
            let own = result.bodies.get(at).and_then(Option::as_ref);
            if let Some(reply) = mail_refused.or(refused).or(own) {
                self.outcomes[batch.place(at)] = Some(classify::reply(reply));
            }
        }
    }

    /// Gives everybody who has none yet this outcome.
    pub(super) fn conclude_rest(&mut self, outcome: &Outcome) {
        for open in self.outcomes.iter_mut().filter(|outcome| outcome.is_none()) {
            *open = Some(outcome.clone());
        }
    }

    /// An outcome for each recipient; who has none is to be tried again.
    pub(super) fn into_outcomes(self) -> Vec<Outcome> {
        self.outcomes.into_iter().map(|outcome| outcome.unwrap_or_else(classify::not_tried)).collect()
    }

    /// Whether a recipient for whom there was no room is offered once more.
    fn may_go_again(&mut self, place: usize, taken_before: usize) -> bool {
        if self.refused.is_empty() {
            self.refused = vec![false; self.outcomes.len()];
        }
        let is_again = std::mem::replace(&mut self.refused[place], true);
        !is_again || taken_before > 0
    }
}

/// Whether a reply to RCPT can mean that the server takes no more recipients, or none for this mailbox now. RFC 5321 4.5.3.1.10: 452, and
/// 552 of old servers; a 552 that says what it means (RFC 3463 3.3, 3.6) is taken at its word.
fn is_no_room(reply: Option<&Reply>) -> bool {
    let too_many = |reply: &Reply| reply.enhanced.is_none_or(|code| (code.subject, code.detail) == (5, 3));
    reply.is_some_and(|reply| reply.code == 452 || reply.code == 552 && too_many(reply))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;
    use smtp::client::{Next, Session, Transaction};

    use super::*;

    /// A server that takes so many recipients of a transaction, and some of them never.
    struct Server {
        recipients_max: usize,
        /// By the recipient's place in the list.
        verdicts: Vec<Verdict>,
        full: &'static str,
        /// What it said to the body of each transaction that had recipients.
        body: &'static str,
        delivered: Vec<usize>,
        transactions: usize,
        offered: usize,
    }

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Verdict {
        Good,
        /// The mailbox is full.
        Full,
        Unknown,
        Later,
    }

    impl Server {
        fn of(recipients_max: usize, verdicts: Vec<Verdict>) -> Self {
            let full = "452 4.5.3 too many\r\n";
            Self {
                recipients_max,
                verdicts,
                full,
                body: "250 OK\r\n",
                delivered: Vec::new(),
                transactions: 0,
                offered: 0,
            }
        }

        /// Takes one message; says the code of each recipient's outcome.
        fn take(&mut self, batch_max: usize) -> Vec<u16> {
            let mut session = Session::new(smtp::client::Config::default());
            let mut out = Vec::new();
            session.handle(b"220 mx\r\n250-mx\r\n250 PIPELINING\r\n", &mut out).unwrap();
            let mut batches = Batches::new(self.verdicts.len());
            while let Some(batch) = batches.next(batch_max) {
                let length =
                    if let Batch::Some(places) = &batch { places.len() } else { self.verdicts.len() };
                let places: Vec<usize> = (0..length).map(|at| batch.place(at)).collect();
                let recipients = vec!["b@mx.test"; places.len()];
                let transaction = Transaction {
                    from: "a@b",
                    recipients: &recipients,
                    body_bytes: 1,
                    eight_bit: false,
                    smtputf8: false,
                    binary: false,
                    require_tls: false,
                };
                session.begin(&transaction, &mut out).unwrap();
                let replies = self.replies(&places, session.needs_rset() || out.starts_with(b"RSET"));
                out.clear();
                let (consumed, next) = session.handle(replies.as_bytes(), &mut out).unwrap();
                if let Next::WriteBody(_) = next {
                    session.body_written();
                    assert_eq!(
                        session.handle(&replies.as_bytes()[consumed..], &mut out).unwrap().1,
                        Next::Ready
                    );
                }
                out.clear();
                batches.conclude(&batch, session.result());
            }
            batches.into_outcomes().iter().map(|outcome| outcome.response().code).collect()
        }

        fn replies(&mut self, places: &[usize], rset: bool) -> String {
            self.transactions += 1;
            self.offered += places.len();
            let mut replies = String::from(if rset { "250 reset\r\n250 OK\r\n" } else { "250 OK\r\n" });
            let mut accepted = Vec::new();
            for &place in places {
                let reply = match self.verdicts[place] {
                    _ if accepted.len() >= self.recipients_max => self.full,
                    Verdict::Good => "250 OK\r\n",
                    Verdict::Full => "452 4.2.2 mailbox full\r\n",
                    Verdict::Unknown => "550 5.1.1 unknown\r\n",
                    Verdict::Later => "451 4.7.1 later\r\n",
                };
                if reply == "250 OK\r\n" {
                    accepted.push(place);
                }
                replies.push_str(reply);
            }
            if accepted.is_empty() {
                replies.push_str("554 5.5.1 nobody\r\n");
            } else {
                replies.push_str("354 go\r\n");
                replies.push_str(self.body);
                if self.body.starts_with('2') {
                    self.delivered.extend(&accepted);
                }
            }
            replies
        }
    }

    #[test]
    fn the_rest_follows_until_all_have_it() {
        for full in
            ["452 4.5.3 too many\r\n", "452 too many\r\n", "552 too many\r\n", "552 5.5.3 too many\r\n"]
        {
            let mut server = Server { full, ..Server::of(2, vec![Verdict::Good; 5]) };
            assert_eq!((server.take(100), server.transactions), (vec![250; 5], 3), "{full}");
            assert_eq!(server.delivered, [0, 1, 2, 3, 4]);
        }
    }

    #[test]
    fn a_batch_has_its_size() {
        let mut server = Server::of(100, vec![Verdict::Good; 5]);
        assert_eq!((server.take(2), server.transactions, server.offered), (vec![250; 5], 3, 5));
    }

    #[test]
    fn a_full_mailbox_is_asked_twice_and_then_waits() {
        let mut server = Server::of(100, vec![Verdict::Good, Verdict::Full, Verdict::Good]);
        assert_eq!((server.take(100), server.transactions), (vec![250, 452, 250], 2));
        // First in the list: it may have been a matter of the moment.
        let mut server = Server::of(100, vec![Verdict::Full, Verdict::Good]);
        assert_eq!((server.take(100), server.transactions), (vec![452, 250], 2));
    }

    #[test]
    fn who_is_refused_alone_waits_at_once() {
        assert_eq!(Server::of(1, vec![Verdict::Full]).take(100), [452]);
        // Nobody was taken: there is no room for anybody.
        let mut server = Server::of(0, vec![Verdict::Good; 3]);
        assert_eq!((server.take(100), server.transactions), (vec![452; 3], 1));
        // The body was refused: it is not about the recipients.
        let mut server = Server { body: "451 4.3.0 later\r\n", ..Server::of(1, vec![Verdict::Good; 2]) };
        assert_eq!((server.take(100), server.transactions), (vec![451, 452], 1));
    }

    #[test]
    fn a_552_that_means_the_mailbox_is_final() {
        let mut server = Server { full: "552 5.2.2 over quota\r\n", ..Server::of(1, vec![Verdict::Good; 2]) };
        assert_eq!((server.take(100), server.transactions), (vec![250, 552], 1));
    }

    proptest! {
        #[test]
        fn everybody_who_can_have_it_has_it_once(
            verdicts in prop::collection::vec(prop::sample::select(vec![Verdict::Good, Verdict::Good, Verdict::Full, Verdict::Unknown, Verdict::Later]), 1..40),
            recipients_max in 1_usize..12,
            batch_max in 1_usize..50,
        ) {
            let good: Vec<usize> = (0..verdicts.len()).filter(|at| verdicts[*at] == Verdict::Good).collect();
            let mut server = Server::of(recipients_max, verdicts.clone());
            let codes = server.take(batch_max);
            server.delivered.sort_unstable();
            prop_assert_eq!(&server.delivered, &good);
            for (verdict, code) in verdicts.iter().zip(&codes) {
                let expected = match verdict {
                    Verdict::Good => 250,
                    Verdict::Full => 452,
                    Verdict::Unknown => 550,
                    Verdict::Later => 451,
                };
                prop_assert_eq!(*code, expected);
            }
            // Each transaction but the first takes or decides somebody.
            prop_assert!(server.transactions <= verdicts.len() + 1);
        }
    }
}
