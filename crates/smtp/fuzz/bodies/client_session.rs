//! A client session under arbitrary replies: no panic, bounded output, and the same commands whatever the reads.

use smtp::client::{Config, Credentials, Next, Secured, Session, StartTls, Transaction};

/// The first byte of `data` chooses what the caller insists on and the size of the reads. What the peer sends follows:
/// up to the first 0 in the clear, then through TLS, if that was begun.
pub(crate) fn run(data: &[u8]) {
    let Some((&choice, replies)) = data.split_first() else {
        return;
    };
    let whole = commands(choice, replies, usize::MAX);
    let split = commands(choice, replies, usize::from(choice >> 5) + 1);
    assert_eq!(whole, split, "reads of another size gave other commands");
    assert!(whole.len() <= 100 * replies.len() + 256, "too many commands");
}

fn commands(choice: u8, replies: &[u8], read_bytes: usize) -> String {
    let chosen = |bit: u8| choice & (1 << bit) != 0;
    let credentials = || Credentials {
        mechanism: None,
        user: "user".into(),
        password: "pencil".into(),
        password_needs: chosen(6).then_some(Secured { verified: true }),
        nonce: if chosen(7) { "rOprNGfwEbeRWgbNEkqO".into() } else { String::new() },
    };
    let mut session = Session::new(Config {
        ehlo_domain: "client".into(),
        pipelining: chosen(0),
        chunking: chosen(1),
        lmtp: chosen(2),
        starttls: match (chosen(3), chosen(5)) {
            (false, _) => StartTls::Off,
            (true, false) => StartTls::Required,
            (true, true) => StartTls::IfOffered,
        },
        auth: chosen(4).then(credentials),
    });
    let mut out = Vec::new();
    let mut parts = replies.splitn(2, |byte| *byte == 0);
    let clear = parts.next().unwrap_or_default();
    if talk(&mut session, clear, read_bytes, &mut out) == Some(Next::StartTls) {
        session.tls_started(Secured { verified: chosen(6) }, &mut out);
        talk(&mut session, parts.next().unwrap_or_default(), read_bytes, &mut out);
    }
    let result = session.result();
    let codes = [0, 1].map(|index| result.recipient_reply(index).code);
    format!("{}{codes:?}", String::from_utf8_lossy(&out))
}

/// All that the peer says; `None` where the session ended over it.
fn talk(session: &mut Session, replies: &[u8], read_bytes: usize, out: &mut Vec<u8>) -> Option<Next> {
    let transaction = Transaction {
        from: "",
        recipients: &["a@b", "c@d"],
        body_bytes: 1,
        eight_bit: false,
        smtputf8: false,
        binary: false,
        require_tls: false,
    };
    let (mut start, mut end) = (0, 0);
    loop {
        let (consumed, next) = session.handle(&replies[start..end], out).ok()?;
        start += consumed;
        match next {
            Next::Read | Next::StartTls if end == replies.len() => return Some(next),
            Next::Read | Next::StartTls => end = replies.len().min(end.saturating_add(read_bytes)),
            Next::WriteBody(_) => session.body_written(),
            Next::Closed => return None,
            Next::Ready => {
                let next = session.begin(&transaction, out);
                assert!(matches!(next, Ok(Next::Read | Next::WriteBody(_))), "{next:?}");
                if let Ok(Next::WriteBody(_)) = next {
                    session.body_written();
                }
            }
        }
    }
}
