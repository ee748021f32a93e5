//! The client session against scripted peers: what it writes, what it asks of its caller, what it makes of replies.

#![allow(clippy::unwrap_used)]

use std::borrow::Cow;

use smtp::client::{BeginError, BodyForm, Config, DEADLINES, Next, PeerError, Phase, Session, Transaction};
use smtp::dsn::{Asked, AskedOfRecipient, Notify, Ret};

const FULL: &str =
    "250-mx\r\n250-PIPELINING\r\n250-CHUNKING\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250 SIZE 1000\r\n";
const PIPELINING: &str = "250-mx\r\n250 PIPELINING\r\n";
const CHUNKING: &str = "250-mx\r\n250 CHUNKING\r\n";
const BARE: &str = "250 mx\r\n";
const BINARY_BY_DATA: &str = "250-mx\r\n250 BINARYMIME\r\n";

const ONE: Transaction<'static> = Transaction {
    from: "a@client.test",
    recipients: &["b@mx.test"],
    body_bytes: 7,
    eight_bit: false,
    smtputf8: false,
    binary: false,
    require_tls: false,
};
const TWO: Transaction<'static> = Transaction { recipients: &["b@mx.test", "c@mx.test"], ..ONE };

/// A session, and what it wrote since last looked at.
struct Client {
    session: Session,
    out: Vec<u8>,
}

impl Client {
    /// Greeted by a peer that answers EHLO with `ehlo`.
    fn ready(ehlo: &str) -> Self {
        let mut client = Self::new();
        assert_eq!(client.hear("220 mx ready\r\n"), Next::Read);
        assert_eq!(client.said(), "EHLO client.test\r\n");
        assert_eq!(client.hear(ehlo), Next::Ready);
        client
    }

    fn new() -> Self {
        let config = Config { ehlo_domain: "client.test".into(), ..Config::default() };
        Self { session: Session::new(config), out: Vec::new() }
    }

    fn begin(&mut self, transaction: &Transaction<'_>) -> Next {
        self.session.begin(transaction, &mut self.out).unwrap()
    }

    /// The peer says something; all of it has to be consumed.
    fn hear(&mut self, text: &str) -> Next {
        let (consumed, next) = self.session.handle(text.as_bytes(), &mut self.out).unwrap();
        assert_eq!(consumed, text.len(), "left over: {}", &text[consumed..]);
        next
    }

    fn said(&mut self) -> String {
        String::from_utf8(std::mem::take(&mut self.out)).unwrap()
    }

    fn codes(&self, recipients: usize) -> Vec<u16> {
        (0..recipients).map(|index| self.session.result().recipient_reply(index).code).collect()
    }
}

#[test]
fn one_round_trip_where_the_peer_allows() {
    let mut client = Client::ready(FULL);
    assert_eq!(client.begin(&TWO), Next::WriteBody(BodyForm::Verbatim));
    assert_eq!(
        client.said(),
        "MAIL FROM:<a@client.test> SIZE=7\r\nRCPT TO:<b@mx.test>\r\nRCPT TO:<c@mx.test>\r\nBDAT 7 LAST\r\n"
    );
    assert_eq!(client.session.phase(), Phase::Body);
    client.session.body_written();
    assert_eq!(client.session.phase(), Phase::Mail);
    assert_eq!(client.hear("250 2.1.0 OK\r\n250 2.1.5 OK\r\n"), Next::Read);
    assert_eq!(client.session.phase(), Phase::Rcpt);
    assert_eq!(client.hear("550 5.1.1 no such user\r\n"), Next::Read);
    assert_eq!(client.session.phase(), Phase::FinalDot);
    assert_eq!(client.hear("250 2.0.0 taken\r\n"), Next::Ready);
    assert_eq!(client.codes(2), [250, 550]);
    assert!(client.session.result().is_delivered(0) && !client.session.result().is_delivered(1));
    assert_eq!(client.session.phase(), Phase::Idle);

    // No RSET after a message that was taken.
    client.begin(&ONE);
    assert!(client.said().starts_with("MAIL"));
}

#[test]
fn pipelining_alone_stops_at_data() {
    let mut client = Client::ready(PIPELINING);
    assert_eq!(client.begin(&ONE), Next::Read);
    assert_eq!(client.said(), "MAIL FROM:<a@client.test>\r\nRCPT TO:<b@mx.test>\r\nDATA\r\n");
    assert_eq!(client.hear("250 OK\r\n250 OK\r\n354 go\r\n"), Next::WriteBody(BodyForm::DotStuffed));
    assert_eq!(client.session.phase(), Phase::Body);
    client.session.body_written();
    assert_eq!(client.hear("451 4.3.0 later\r\n"), Next::Ready);
    assert_eq!(client.codes(1), [451]);
    // The final dot ends the transaction whatever the reply.
    client.begin(&ONE);
    assert!(client.said().starts_with("MAIL"));
}

#[test]
fn one_by_one_without_pipelining() {
    for (ehlo, last, form) in
        [(BARE, "DATA\r\n", BodyForm::DotStuffed), (CHUNKING, "BDAT 7 LAST\r\n", BodyForm::Verbatim)]
    {
        let mut client = Client::ready(ehlo);
        assert_eq!(client.begin(&TWO), Next::Read);
        assert_eq!(client.said(), "MAIL FROM:<a@client.test>\r\n");
        assert_eq!(client.hear("250 OK\r\n"), Next::Read);
        assert_eq!(client.said(), "RCPT TO:<b@mx.test>\r\n");
        assert_eq!(client.hear("450 4.2.0 busy\r\n"), Next::Read);
        assert_eq!(client.said(), "RCPT TO:<c@mx.test>\r\n");
        let next = client.hear("250 OK\r\n");
        assert_eq!(client.said(), last);
        let next = if form == BodyForm::DotStuffed { client.hear("354 go\r\n") } else { next };
        assert_eq!(next, Next::WriteBody(form));
        client.session.body_written();
        assert_eq!(client.hear("250 OK\r\n"), Next::Ready);
        assert_eq!(client.codes(2), [450, 250]);
    }
}

#[test]
fn configuration_can_forgo_extensions() {
    let config =
        Config { ehlo_domain: "client.test".into(), pipelining: false, chunking: false, ..Config::default() };
    let mut client = Client { session: Session::new(config), out: Vec::new() };
    client.hear("220 mx\r\n");
    client.hear(FULL);
    client.said();
    assert_eq!(client.begin(&ONE), Next::Read);
    assert_eq!(client.said(), "MAIL FROM:<a@client.test> SIZE=7\r\n");
}

#[test]
fn rset_goes_ahead_after_a_transaction_that_was_left_open() {
    // Lockstep: all recipients refused, no DATA is written.
    let mut client = Client::ready(BARE);
    client.begin(&ONE);
    client.hear("250 OK\r\n");
    assert_eq!(client.hear("550 no\r\n"), Next::Ready);
    client.said();
    client.begin(&ONE);
    assert_eq!(client.said(), "RSET\r\n");
    assert_eq!(client.session.phase(), Phase::Rset);
    client.hear("250 OK\r\n");
    assert_eq!(client.said(), "MAIL FROM:<a@client.test>\r\n");

    // Pipelined: RSET travels with the next transaction.
    let mut client = Client::ready(FULL);
    client.begin(&ONE);
    client.session.body_written();
    assert_eq!(client.hear("451 4.7.1 slow down\r\n503 MAIL first\r\n503 MAIL first\r\n"), Next::Ready);
    assert_eq!(client.codes(1), [451]);
    client.said();
    assert_eq!(client.begin(&ONE), Next::WriteBody(BodyForm::Verbatim));
    assert!(client.said().starts_with("RSET\r\nMAIL FROM:"));
    client.session.body_written();
    assert_eq!(client.hear("250 reset\r\n250 OK\r\n250 OK\r\n250 OK\r\n"), Next::Ready);
    assert_eq!(client.codes(1), [250]);
}

#[test]
fn a_go_ahead_for_nobody_is_ended_by_an_empty_body() {
    let mut client = Client::ready(PIPELINING);
    client.begin(&ONE);
    client.said();
    assert_eq!(client.hear("250 OK\r\n550 5.1.1 no\r\n354 go\r\n"), Next::Read);
    assert_eq!(client.said(), ".\r\n");
    assert_eq!(client.hear("250 OK\r\n"), Next::Ready);
    assert_eq!(client.codes(1), [550]);
    assert!(!client.session.result().is_delivered(0));
}

#[test]
fn data_refused() {
    let mut client = Client::ready(PIPELINING);
    client.begin(&ONE);
    assert_eq!(client.hear("250 OK\r\n250 OK\r\n554 5.7.0 not today\r\n"), Next::Ready);
    assert_eq!(client.codes(1), [554]);
    client.said();
    client.begin(&ONE);
    assert!(client.said().starts_with("RSET\r\n"));
}

#[test]
fn helo_where_ehlo_is_unknown() {
    let mut client = Client::new();
    client.hear("220-mx\r\n220 ready\r\n");
    client.said();
    assert_eq!(client.hear("502 what\r\n"), Next::Read);
    assert_eq!(client.said(), "HELO client.test\r\n");
    assert_eq!(client.hear("250 mx\r\n"), Next::Ready);
    assert!(!client.session.capabilities().pipelining);
}

#[test]
fn a_peer_that_refuses_to_talk() {
    for (banner, ehlo) in [("554 no\r\n", None), ("220 mx\r\n", Some("450 later\r\n"))] {
        let mut client = Client::new();
        let mut next = client.hear(banner);
        if let Some(ehlo) = ehlo {
            next = client.hear(ehlo);
        }
        assert_eq!(next, Next::Closed);
        assert!(client.said().ends_with("QUIT\r\n"));
        let result = client.session.result();
        assert_eq!(result.recipient_reply(0), result.closing.as_ref().unwrap());
        assert_eq!(client.session.begin(&ONE, &mut Vec::new()), Err(BeginError::NotReady));
    }
}

#[test]
fn going_down_decides_what_is_undecided() {
    let table: [(&str, &[u16]); 5] = [
        ("421 4.3.2 bye\r\n", &[421, 421]),
        ("250 OK\r\n421 4.3.2 bye\r\n", &[421, 421]),
        ("250 OK\r\n550 no\r\n421 4.3.2 bye\r\n", &[550, 421]),
        ("250 OK\r\n250 OK\r\n250 OK\r\n421 bye\r\n", &[421, 421]),
        ("250 OK\r\n550 no\r\n250 OK\r\n421 bye\r\n", &[550, 421]),
    ];
    for (replies, codes) in table {
        let mut client = Client::ready(FULL);
        client.begin(&TWO);
        // Whether the body was written by then or not.
        assert_eq!(client.hear(replies), Next::Closed, "{replies}");
        client.session.body_written();
        assert_eq!(client.codes(2), codes, "{replies}");
    }
}

#[test]
fn a_lost_connection_is_nobodys_verdict() {
    let mut client = Client::ready(FULL);
    client.begin(&TWO);
    client.session.body_written();
    client.hear("250 OK\r\n550 no\r\n250 OK\r\n");
    assert_eq!(client.codes(2), [550, 421]);
    assert_eq!(client.session.result().body, None);
    assert_eq!(client.session.result().recipient_reply(1), &smtp::client::NO_REPLY);
}

#[test]
fn an_early_final_reply_waits_for_the_body() {
    let mut client = Client::ready(FULL);
    client.begin(&ONE);
    let replies = b"250 OK\r\n250 OK\r\n552 too large\r\n";
    let (consumed, next) = client.session.handle(replies, &mut client.out).unwrap();
    assert_eq!((consumed, next), (16, Next::WriteBody(BodyForm::Verbatim)));
    client.session.body_written();
    assert_eq!(client.hear("552 too large\r\n"), Next::Ready);
    assert_eq!(client.codes(1), [552]);
}

#[test]
fn what_cannot_be_sent_is_not_begun() {
    let table = [
        (FULL, Transaction { body_bytes: 1001, ..ONE }, BeginError::SizeExceeded { limit: 1000 }),
        (BARE, Transaction { eight_bit: true, ..ONE }, BeginError::EightBitUnsupported),
        (FULL, Transaction { binary: true, ..ONE }, BeginError::BinaryUnsupported),
        (BINARY_BY_DATA, Transaction { binary: true, ..ONE }, BeginError::BinaryUnsupported),
        (BARE, Transaction { smtputf8: true, ..ONE }, BeginError::Utf8Unsupported),
        (FULL, Transaction { from: "ä@b", ..ONE }, BeginError::Utf8Unsupported),
        (FULL, Transaction { recipients: &["b@ü"], ..ONE }, BeginError::Utf8Unsupported),
        (FULL, Transaction { recipients: &[], ..ONE }, BeginError::BadAddress),
        (FULL, Transaction { recipients: &["b@c", ""], ..ONE }, BeginError::BadAddress),
        (FULL, Transaction { recipients: &["b@c>\r\nDATA\r\n"], ..ONE }, BeginError::BadAddress),
        (FULL, Transaction { from: "a b@c", ..ONE }, BeginError::BadAddress),
    ];
    for (ehlo, transaction, error) in table {
        let mut client = Client::ready(ehlo);
        let mut out = Vec::new();
        assert_eq!(client.session.begin(&transaction, &mut out), Err(error), "{transaction:?}");
        assert!(out.is_empty());
        client.begin(&ONE);
        assert_eq!(client.session.begin(&ONE, &mut out), Err(BeginError::NotReady));
    }
    assert_eq!(Client::new().session.begin(&ONE, &mut Vec::new()), Err(BeginError::NotReady));
}

#[test]
fn parameters_are_written_where_offered() {
    let mut client = Client::ready(FULL);
    let transaction =
        Transaction { from: "", recipients: &["ä@ü"], eight_bit: true, smtputf8: true, ..ONE };
    client.begin(&transaction);
    assert!(client.said().starts_with("MAIL FROM:<> SIZE=7 BODY=8BITMIME SMTPUTF8\r\nRCPT TO:<ä@ü>\r\n"));
    let mut client = Client::ready("250-mx\r\n250-CHUNKING\r\n250-BINARYMIME\r\n250 PIPELINING\r\n");
    client.begin(&Transaction { eight_bit: true, binary: true, ..ONE });
    assert!(client.said().contains("> BODY=BINARYMIME\r\n"), "{}", client.said());
}

/// RFC 3461 5.2.1, 5.2.2: what the sender asked for goes on to a server that knows what it means, as it was written.
#[test]
fn notifications_are_asked_for_where_offered() {
    let notify = Some(Notify { success: true, failure: false, delay: true });
    let recipients = [
        AskedOfRecipient { notify, orcpt: Some("rfc822;old+2Bb@a.test") },
        AskedOfRecipient { notify: Some(Notify::default()), orcpt: Some("rfc822;x\r\nDATA") },
    ];
    let asked = Asked { ret: Some(Ret::Headers), envid: Some("QQ+2B1"), recipients: &recipients };
    let begin = |ehlo: &str| {
        let mut client = Client::ready(ehlo);
        client.session.begin_asking(&TWO, &asked, &mut client.out).unwrap();
        client.said()
    };
    assert_eq!(
        begin("250-mx\r\n250-PIPELINING\r\n250 DSN\r\n"),
        "MAIL FROM:<a@client.test> RET=HDRS ENVID=QQ+2B1\r\n\
         RCPT TO:<b@mx.test> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;old+2Bb@a.test\r\n\
         RCPT TO:<c@mx.test> NOTIFY=NEVER\r\nDATA\r\n"
    );
    assert_eq!(
        begin(PIPELINING),
        "MAIL FROM:<a@client.test>\r\nRCPT TO:<b@mx.test>\r\nRCPT TO:<c@mx.test>\r\nDATA\r\n"
    );
}

#[test]
fn peers_that_cannot_be_understood() {
    let table = [
        ("garbage\r\n", PeerError::ReplyMalformed),
        ("250-a\r\n550 b\r\n", PeerError::ReplyCodesDiffer),
        // Taking 354 for an acceptance, or 250 for a go-ahead, would lose mail.
        ("354 go\r\n", PeerError::UnexpectedReply { code: 354 }),
        ("250 OK\r\n250 OK\r\n250 OK\r\n", PeerError::UnexpectedReply { code: 250 }),
    ];
    for (replies, error) in table {
        let mut client = Client::ready(PIPELINING);
        client.begin(&ONE);
        assert_eq!(client.session.handle(replies.as_bytes(), &mut client.out), Err(error), "{replies}");
        assert_eq!(client.session.handle(b"250 OK\r\n", &mut client.out), Ok((0, Next::Closed)));
        assert!(!client.session.result().is_delivered(0));
    }
    let mut client = Client::ready(FULL);
    let error = PeerError::UnexpectedReply { code: 250 };
    assert_eq!(client.session.handle(b"250 hello?\r\n", &mut client.out), Err(error));
}

#[test]
fn quitting() {
    let mut client = Client::ready(FULL);
    assert_eq!(client.session.quit(&mut client.out), Next::Read);
    assert_eq!((client.said().as_str(), client.session.phase()), ("QUIT\r\n", Phase::Quit));
    assert_eq!(client.hear("221 2.0.0 bye\r\n"), Next::Closed);
    assert_eq!(client.session.quit(&mut client.out), Next::Closed);

    // Given up in the middle of a body: QUIT would be content.
    let mut client = Client::ready(FULL);
    client.begin(&ONE);
    client.said();
    assert_eq!(client.session.quit(&mut client.out), Next::Closed);
    assert_eq!(client.said(), "");
}

#[test]
fn an_idle_peer_may_leave() {
    let mut client = Client::ready(FULL);
    assert_eq!(client.session.handle(b"", &mut client.out), Ok((0, Next::Ready)));
    assert_eq!(client.hear("421 4.4.2 idle too long\r\n"), Next::Closed);
    assert_eq!(client.session.result().closing.as_ref().unwrap().code, 421);
}

#[test]
fn texts_are_kept_in_buffers_of_earlier_transactions() {
    let mut client = Client::ready(FULL);
    let mut texts = Vec::new();
    for round in 0..6 {
        client.begin(&TWO);
        client.session.body_written();
        client.hear(
            "250 2.1.0 sender OK\r\n250 2.1.5 recipient OK\r\n250 2.1.5 recipient OK\r\n250 2.0.0 taken\r\n",
        );
        let result = client.session.result();
        let replies = result.recipients.iter().chain([&result.mail, &result.body]).flatten();
        let pointers: Vec<*const u8> = replies
            .map(|reply| match &reply.text {
                Cow::Owned(text) => text.as_ptr(),
                Cow::Borrowed(text) => text.as_ptr(),
            })
            .collect();
        if round > 2 {
            assert!(pointers.iter().all(|pointer| texts.contains(pointer)), "round {round} allocated");
        }
        texts.extend(pointers);
    }
}

#[test]
fn every_phase_has_a_deadline() {
    let phases = [
        Phase::Banner,
        Phase::Ehlo,
        Phase::StartTls,
        Phase::Auth,
        Phase::Rset,
        Phase::Mail,
        Phase::Rcpt,
        Phase::Data,
        Phase::Body,
        Phase::FinalDot,
        Phase::Quit,
        Phase::Idle,
    ];
    for phase in phases {
        assert_eq!(phase.deadline(), DEADLINES[phase as usize]);
        assert!(phase.deadline().as_secs() > 0);
    }
    assert_eq!(Session::DEADLINES, DEADLINES);
}

#[test]
fn limits_of_the_peer_are_told() {
    let mut client = Client::ready("250-mx\r\n250-PIPELINING\r\n250 LIMITS MAILMAX=2 RCPTMAX=50\r\n");
    assert_eq!(client.session.recipients_max(), 50);
    for used_up in [false, true] {
        assert!(!client.session.is_used_up());
        client.begin(&ONE);
        client.hear("250 OK\r\n250 OK\r\n354 go\r\n");
        client.session.body_written();
        assert_eq!(client.hear("250 OK\r\n"), Next::Ready);
        assert_eq!(client.session.is_used_up(), used_up);
    }
    let client = Client::ready(FULL);
    assert_eq!((client.session.recipients_max(), client.session.is_used_up()), (usize::MAX, false));
}

#[test]
fn a_session_that_rests_goes_on_as_before() {
    let mut client = Client::ready(PIPELINING);
    for _ in 0..2 {
        client.begin(&ONE);
        assert_eq!(client.session.replies() % 4, 2);
        client.session.rest();
        assert_eq!(client.hear("250 OK\r\n250 OK\r\n550 no\r\n"), Next::Ready);
        client.session.rest();
        assert!(client.session.needs_rset() && client.session.result().mail.is_none());
        client.said();
        client.begin(&ONE);
        assert!(client.said().starts_with("RSET"));
        client.hear("250 OK\r\n250 OK\r\n250 OK\r\n354 go\r\n");
        client.session.body_written();
        assert_eq!((client.hear("250 OK\r\n"), client.codes(1)), (Next::Ready, vec![250]));
        assert!(!client.session.needs_rset());
    }
}
