//! A client session under arbitrary replies: no panic, bounded output, and the same commands whatever the reads.

use smtp::client::{Config, Next, Session, Transaction};

/// The first byte of `data` chooses extensions and the size of the reads, the rest is what the peer sends.
pub(crate) fn run(data: &[u8]) {
    let Some((&choice, replies)) = data.split_first() else {
        return;
    };
    let whole = commands(choice, replies, usize::MAX);
    let split = commands(choice, replies, usize::from(choice >> 4) + 1);
    assert_eq!(whole, split, "reads of another size gave other commands");
    assert!(whole.len() <= 100 * replies.len() + 256, "too many commands");
}

fn commands(choice: u8, replies: &[u8], read_bytes: usize) -> String {
    let mut session = Session::new(Config {
        ehlo_domain: "client".into(),
        pipelining: choice & 1 != 0,
        chunking: choice & 2 != 0,
        ..Config::default()
    });
    let transaction = Transaction {
        from: "",
        recipients: &["a@b", "c@d"],
        body_bytes: 1,
        eight_bit: false,
        smtputf8: false,
    };
    let mut out = Vec::new();
    let (mut start, mut end) = (0, 0);
    while let Ok((consumed, next)) = session.handle(&replies[start..end], &mut out) {
        start += consumed;
        match next {
            Next::Read if end == replies.len() => break,
            Next::Read => end = replies.len().min(end.saturating_add(read_bytes)),
            Next::WriteBody(_) => session.body_written(),
            Next::Closed | Next::StartTls => break,
            Next::Ready => {
                let next = session.begin(&transaction, &mut out);
                assert!(matches!(next, Ok(Next::Read | Next::WriteBody(_))), "{next:?}");
                if let Ok(Next::WriteBody(_)) = next {
                    session.body_written();
                }
            }
        }
    }
    let result = session.result();
    let codes = [0, 1].map(|index| result.recipient_reply(index).code);
    format!("{}{codes:?}", String::from_utf8_lossy(&out))
}
