//! The client session in LMTP (RFC 2033): one final reply for each recipient that was accepted.

#![allow(clippy::unwrap_used)]

use smtp::client::{BodyForm, Config, Next, PeerError, Phase, Session, Transaction};

const BARE: &str = "250 mx\r\n";
const PIPELINING: &str = "250-mx\r\n250 PIPELINING\r\n";
const FULL: &str = "250-mx\r\n250-PIPELINING\r\n250 CHUNKING\r\n";
const THREE: Transaction<'static> = Transaction {
    from: "a@client.test",
    recipients: &["b@mx.test", "c@mx.test", "d@mx.test"],
    body_bytes: 7,
    eight_bit: false,
    smtputf8: false,
    binary: false,
    require_tls: false,
};

struct Client {
    session: Session,
    out: Vec<u8>,
}

impl Client {
    fn ready(lhlo: &str) -> Self {
        let config = Config { lmtp: true, ..Config::default() };
        let mut client = Self { session: Session::new(config), out: Vec::new() };
        client.hear("220 mx\r\n");
        assert_eq!(client.said(), "LHLO localhost\r\n");
        assert_eq!(client.hear(lhlo), Next::Ready);
        client
    }

    fn begin(&mut self) -> Next {
        self.session.begin(&THREE, &mut self.out).unwrap()
    }

    fn hear(&mut self, text: &str) -> Next {
        let (consumed, next) = self.session.handle(text.as_bytes(), &mut self.out).unwrap();
        assert_eq!(consumed, text.len(), "left over: {}", &text[consumed..]);
        next
    }

    fn said(&mut self) -> String {
        String::from_utf8(std::mem::take(&mut self.out)).unwrap()
    }

    /// Code and fate of each recipient.
    fn fates(&self) -> Vec<(u16, bool)> {
        let result = self.session.result();
        (0..3).map(|index| (result.recipient_reply(index).code, result.is_delivered(index))).collect()
    }
}

#[test]
fn each_accepted_recipient_has_its_own_reply() {
    let mut client = Client::ready(PIPELINING);
    client.begin();
    assert_eq!(
        client.hear("250 OK\r\n250 OK\r\n550 no\r\n250 OK\r\n354 go\r\n"),
        Next::WriteBody(BodyForm::DotStuffed)
    );
    client.session.body_written();
    assert_eq!(client.session.phase(), Phase::FinalDot);
    assert_eq!(client.hear("250 2.0.0 taken\r\n"), Next::Read);
    assert_eq!(client.session.phase(), Phase::FinalDot);
    assert_eq!(client.hear("452 4.2.2 full\r\n"), Next::Ready);
    assert_eq!(client.fates(), [(250, true), (550, false), (452, false)]);
    // The body is over, whatever the replies: no RSET.
    client.said();
    client.begin();
    assert!(client.said().starts_with("MAIL"));
}

#[test]
fn chunks_too() {
    let mut client = Client::ready(FULL);
    assert_eq!(client.begin(), Next::WriteBody(BodyForm::Verbatim));
    client.session.body_written();
    let replies = "250 OK\r\n250 OK\r\n250 OK\r\n550 no\r\n550 5.7.1 spam\r\n250 2.0.0 taken\r\n";
    assert_eq!(client.hear(replies), Next::Ready);
    assert_eq!(client.fates(), [(550, false), (250, true), (550, false)]);
    client.said();
    client.begin();
    assert!(client.said().starts_with("RSET\r\nMAIL"), "a refused BDAT may leave remains");

    // The result of the message before is gone.
    client.session.body_written();
    client.hear("250 OK\r\n250 OK\r\n250 OK\r\n250 OK\r\n250 OK\r\n250 OK\r\n250 OK\r\n250 OK\r\n");
    assert_eq!(client.fates(), [(250, true); 3]);
}

#[test]
fn nobody_accepted_is_one_reply() {
    let mut client = Client::ready(FULL);
    client.begin();
    client.session.body_written();
    let refused = "550 no\r\n550 no\r\n550 no\r\n";
    assert_eq!(client.hear(&format!("250 OK\r\n{refused}503 RCPT first\r\n")), Next::Ready);
    assert_eq!(client.fates(), [(550, false); 3]);

    let mut client = Client::ready(PIPELINING);
    client.begin();
    assert_eq!(client.hear(&format!("250 OK\r\n{refused}503 RCPT first\r\n")), Next::Ready);

    // 354 with nobody to send to is against RFC 2033 4.2, and its body would have no reply at all.
    client.begin();
    let replies = format!("250 reset\r\n250 OK\r\n{refused}354 go\r\n");
    let error = client.session.handle(replies.as_bytes(), &mut client.out);
    assert_eq!(error, Err(PeerError::UnexpectedReply { code: 354 }));
}

#[test]
fn a_refusal_of_data_stands_for_all() {
    let mut client = Client::ready(BARE);
    client.begin();
    assert_eq!(client.hear("250 OK\r\n250 OK\r\n550 no\r\n250 OK\r\n"), Next::Read);
    assert_eq!(client.hear("451 4.3.0 later\r\n"), Next::Ready);
    assert_eq!(client.fates(), [(451, false), (550, false), (451, false)]);
}

#[test]
fn going_down_decides_what_is_undecided() {
    let mut client = Client::ready(FULL);
    client.begin();
    client.session.body_written();
    let replies = "250 OK\r\n250 OK\r\n250 OK\r\n250 OK\r\n250 2.0.0 taken\r\n421 4.3.2 bye\r\n";
    assert_eq!(client.hear(replies), Next::Closed);
    assert_eq!(client.fates(), [(250, true), (421, false), (421, false)]);
}

#[test]
fn a_lost_connection_leaves_the_rest_open() {
    let mut client = Client::ready(FULL);
    client.begin();
    client.session.body_written();
    client.hear("250 OK\r\n250 OK\r\n250 OK\r\n250 OK\r\n250 2.0.0 taken\r\n");
    assert_eq!(client.fates()[0], (250, true));
    assert_eq!(client.session.result().recipient_reply(1), &smtp::client::NO_REPLY);
}

#[test]
fn there_is_no_other_name_for_lhlo() {
    let mut session = Session::new(Config { lmtp: true, ..Config::default() });
    let mut out = Vec::new();
    let (_, next) = session.handle(b"220 mx\r\n500 5.5.1 what\r\n", &mut out).unwrap();
    assert_eq!(next, Next::Closed);
    assert_eq!(out, b"LHLO localhost\r\nQUIT\r\n");
}
