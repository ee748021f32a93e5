//! SCRAM-SHA-256 with a client of its own: the right password leads in, whatever the user, the salt and the nonces are; nothing
//! else does.

#![allow(clippy::unwrap_used)]

#[path = "support/prover.rs"]
mod prover;

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use proptest::prelude::*;
use prover::{challenge, prove};
use smtp::reply::Reply;
use smtp::scram::{ITERATIONS_MIN, Keys};
use smtp::server::{Config, Event, Mechanism, Session};

const WRONG: Reply = Reply::new(535, (5, 7, 8), "wrong");

/// One conversation with a server that has the keys of one user.
struct Conversation {
    session: Session,
    keys: Keys,
    user: String,
    nonce: String,
    out: Vec<u8>,
}

impl Conversation {
    fn new(keys: Keys, user: &str, nonce: &str) -> Self {
        let config = Config { auth: vec![Mechanism::ScramSha256], ..Config::default() };
        let mut session = Session::new(Arc::new(config));
        session.greet(&mut Vec::new());
        Self { session, keys, user: user.to_owned(), nonce: nonce.to_owned(), out: Vec::new() }
    }

    /// Says one line; returns what the server answers.
    fn say(&mut self, line: &str) -> String {
        let input = format!("{line}\r\n").into_bytes();
        let mut at = 0;
        loop {
            let step = self.session.handle(&input[at..], &mut self.out);
            at += step.consumed;
            match step.event {
                Event::AuthKeys => {
                    assert_eq!(self.session.keys_wanted_of(), Some(self.user.as_str()));
                    self.session.challenge(&self.keys, &self.nonce, &mut self.out);
                }
                Event::Auth { mechanism: Mechanism::ScramSha256 } => {
                    match self.session.proof().unwrap() {
                        (user, true) if user == self.user => self.session.accept(&mut self.out),
                        _ => self.session.reject(&WRONG, &mut self.out),
                    };
                }
                Event::NeedMore => break,
                other => panic!("{other:?}"),
            }
        }
        String::from_utf8(std::mem::take(&mut self.out)).unwrap()
    }

    fn say_in_base64(&mut self, text: &str) -> String {
        self.say(&BASE64.encode(text))
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_right_password_leads_in_and_no_other(
        user in "[^\\x00]{1,12}",
        password in ".{0,12}",
        tried in prop::option::of(".{0,12}"),
        salt in prop::collection::vec(any::<u8>(), 1..40),
        client_nonce in "[!-+.-~]{1,30}",
        server_nonce in "[!-+.-~]{1,30}",
    ) {
        let keys = Keys::derive(&password, &salt, ITERATIONS_MIN).unwrap();
        let mut conversation = Conversation::new(keys, &user, &server_nonce);
        let bare = format!("n={},r={client_nonce}", user.replace('=', "=3D").replace(',', "=2C"));
        prop_assert_eq!(conversation.say("AUTH SCRAM-SHA-256"), "334 \r\n");
        let reply = conversation.say_in_base64(&format!("n,,{bare}"));
        let (proof, signature) = prove(tried.as_ref().unwrap_or(&password), &bare, &challenge(&reply));
        let reply = conversation.say_in_base64(&proof);
        if tried.is_none_or(|tried| tried == password) {
            prop_assert_eq!(challenge(&reply), signature);
            prop_assert!(conversation.say("").starts_with("235 2.7.0"));
            prop_assert!(conversation.say("AUTH SCRAM-SHA-256").starts_with("503"));
        } else {
            prop_assert_eq!(reply, "535 5.7.8 wrong\r\n");
            prop_assert!(conversation.say("").starts_with("500"));
        }
    }

    #[test]
    fn a_message_that_is_changed_on_its_way_does_not_lead_in(at in any::<prop::sample::Index>(), other in b' '..=b'~') {
        let keys = Keys::derive("pencil", b"salt", ITERATIONS_MIN).unwrap();
        let mut conversation = Conversation::new(keys, "user", "server");
        let reply = conversation.say(&format!("AUTH SCRAM-SHA-256 {}", BASE64.encode("n,,n=user,r=client")));
        let (proof, _) = prove("pencil", "n=user,r=client", &challenge(&reply));
        let mut changed = proof.clone().into_bytes();
        let at = at.index(changed.len());
        changed[at] = other;
        let reply = conversation.say(&BASE64.encode(&changed));
        if changed == proof.as_bytes() {
            prop_assert!(reply.starts_with("334 "));
        } else {
            prop_assert!(reply.starts_with("535") || reply.starts_with("501"), "{}", reply);
        }
    }
}
