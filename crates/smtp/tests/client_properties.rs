//! Properties of the client session: any split of the replies gives the same results, arbitrary
//! replies never panic, and against our own server every accepted message arrives as it was sent.

#![allow(clippy::unwrap_used)]

mod support;

use proptest::prelude::*;
use smtp::client::{
    BodyForm, Config, Credentials, Mechanism, Next, PeerError, Secured, Session, StartTls, Transaction,
    TransactionResult,
};
use smtp::data;
use smtp::server;
use support::Caller;

const VERIFIED: Secured = Secured { verified: true };
const RECIPIENTS: [&str; 3] = ["one@mx", "refuse@mx", "defer@mx"];

/// What a client wrote, asked for and made of the replies, until it was closed or the replies ran out.
#[derive(Debug, PartialEq)]
struct Story {
    wrote: Vec<u8>,
    results: Vec<String>,
    error: Option<PeerError>,
    closed: bool,
}

/// A caller of the client session that begins a transaction whenever it can.
struct Driver {
    session: Session,
    story: Story,
    input: Vec<u8>,
    awaits_tls: bool,
}

impl Driver {
    /// Reads before the handshake, and through TLS where the peer got that far.
    fn run_tls<'a>(
        config: &Config,
        clear: impl IntoIterator<Item = &'a [u8]>,
        secure: impl IntoIterator<Item = &'a [u8]>,
    ) -> Story {
        let story = Story { wrote: Vec::new(), results: Vec::new(), error: None, closed: false };
        let mut driver =
            Self { session: Session::new(config.clone()), story, input: Vec::new(), awaits_tls: false };
        for read in clear {
            driver.input.extend_from_slice(read);
            driver.hear();
        }
        if driver.awaits_tls && driver.story.error.is_none() {
            assert_eq!(driver.session.tls_started(VERIFIED, &mut driver.story.wrote), Next::Read);
            driver.awaits_tls = false;
            assert!(driver.input.is_empty(), "something of before TLS is left");
        }
        for read in secure {
            driver.input.extend_from_slice(read);
            driver.hear();
        }
        driver.note();
        driver.story
    }

    fn run<'a>(config: &Config, reads: impl IntoIterator<Item = &'a [u8]>) -> Story {
        Self::run_tls(config, reads, [])
    }

    fn hear(&mut self) {
        while !self.story.closed && self.story.error.is_none() {
            match self.session.handle(&self.input, &mut self.story.wrote) {
                Err(error) => self.story.error = Some(error),
                Ok((consumed, next)) => {
                    self.input.drain(..consumed);
                    if !self.follow(next) {
                        return;
                    }
                }
            }
        }
    }

    fn note(&mut self) {
        let TransactionResult { mail, recipients, body, bodies, closing, .. } = self.session.result();
        self.story.results.push(format!("{mail:?} {recipients:?} {body:?} {bodies:?} {closing:?}"));
    }

    /// Whether there may be more to take from the input.
    fn follow(&mut self, next: Next) -> bool {
        match next {
            Next::Read => false,
            // Until the handshake nothing may come; what does is an error, whatever the reads.
            Next::StartTls => {
                self.awaits_tls = true;
                !self.input.is_empty()
            }
            Next::Closed => {
                self.story.closed = true;
                false
            }
            Next::WriteBody(form) => {
                self.story.wrote.extend(format!("{form:?}\r\n").bytes());
                self.session.body_written();
                true
            }
            Next::Ready => {
                self.note();
                let transaction = Transaction {
                    from: "",
                    recipients: &RECIPIENTS,
                    body_bytes: 9,
                    eight_bit: false,
                    smtputf8: false,
                    binary: false,
                    require_tls: false,
                };
                let next = self.session.begin(&transaction, &mut self.story.wrote).unwrap();
                // Replies that came too early are still in the input.
                if let Next::WriteBody(_) = next { self.follow(next) } else { true }
            }
        }
    }
}

fn replies() -> impl Strategy<Value = Vec<u8>> {
    let line = prop::sample::select(vec![
        "250 OK\r\n",
        "250 2.0.0 OK\r\n",
        "250-one\r\n250 two\r\n",
        "354 go\r\n",
        "450 later\r\n",
        "550 5.1.1 no\r\n",
        "503 what\r\n",
        "220 go\r\n",
        "334 x\r\n",
        "235 in\r\n",
        "334 cj1yT3ByTkdmd0ViZVJXZ2JORWtxTyVodllEcFdVYTJSYVRDQWZ1eEZJbGopaE5sRiRrMCxzPVcyMlphSjBTTlk3c29Fc1VFamI2Z1E9PSxpPTQwOTY=\r\n",
        "334 dj02cnJpVFJCaTIzV3BSUi93dHVwK21NaFVaVW4vZEI1bkxUSlJzamw5NUc0PQ==\r\n",
        "421 bye\r\n",
        "454 4.7.0 no TLS now\r\n",
        "221 bye\r\n",
        "250 bare\n",
        "250-",
        "\r\n",
        "25",
    ]);
    let ehlo = prop::sample::select(vec![
        "250 mx\r\n",
        "250-mx\r\n250 PIPELINING\r\n",
        "250-mx\r\n250 CHUNKING\r\n",
        "250-mx\r\n250-CHUNKING\r\n250 PIPELINING\r\n",
        "502 what\r\n250 mx\r\n",
        "250-mx\r\n250-STARTTLS\r\n250-CHUNKING\r\n250-AUTH PLAIN LOGIN\r\n250 PIPELINING\r\n",
        "250-mx\r\n250-STARTTLS\r\n250 AUTH LOGIN\r\n",
        "250-mx\r\n250 AUTH PLAIN SCRAM-SHA-256\r\n",
    ]);
    (ehlo, prop::collection::vec(line, 0..16))
        .prop_map(|(ehlo, lines)| format!("220 mx\r\n{ehlo}{}", lines.concat()).into_bytes())
}

/// With and without all that a caller may insist on.
fn configs() -> impl Strategy<Value = Config> {
    let mechanism = prop::sample::select(vec![None, Some(Mechanism::Plain), Some(Mechanism::Login)]);
    let credentials = (mechanism, any::<bool>()).prop_map(|(mechanism, may_prove)| Credentials {
        mechanism,
        user: "user".into(),
        password: "pencil".into(),
        password_needs: None,
        nonce: if may_prove { "rOprNGfwEbeRWgbNEkqO".into() } else { String::new() },
    });
    let starttls = prop::sample::select(vec![StartTls::Off, StartTls::IfOffered, StartTls::Required]);
    let flags = (any::<bool>(), any::<bool>(), any::<bool>(), starttls);
    (flags, prop::option::of(credentials)).prop_map(|((pipelining, chunking, lmtp, starttls), auth)| Config {
        ehlo_domain: "client".into(),
        pipelining,
        chunking,
        lmtp,
        starttls,
        auth,
    })
}

/// One transaction of the conversation between the two sides.
#[derive(Clone, Debug)]
struct Mail {
    refused_sender: bool,
    recipients: Vec<&'static str>,
    body: Vec<u8>,
}

fn mail() -> impl Strategy<Value = Mail> {
    let recipients = prop::collection::vec(prop::sample::select(RECIPIENTS.to_vec()), 1..4);
    let line = prop::sample::select(vec!["hello", ".", "..", ".dot", "", "a longer line of text"]);
    let body = prop::collection::vec(line, 0..9)
        .prop_map(|lines| lines.iter().flat_map(|line| format!("{line}\r\n").into_bytes()).collect());
    (prop::bool::weighted(0.2), recipients, body).prop_map(|(refused_sender, recipients, body)| Mail {
        refused_sender,
        recipients,
        body,
    })
}

/// The client's bytes to the server, and the server's back, in reads of so many bytes.
fn exchange(
    client: &mut Session,
    server: &mut Caller,
    wrote: &mut Vec<u8>,
    heard: &mut usize,
    read_bytes: usize,
) -> Next {
    loop {
        for part in std::mem::take(wrote).chunks(read_bytes) {
            server.read(part);
        }
        let replies = server.trace.replies();
        let end = replies.len().min(*heard + read_bytes);
        let (consumed, next) = client.handle(&replies.as_bytes()[*heard..end], wrote).unwrap();
        *heard += consumed;
        if next != Next::Read {
            return next;
        }
        assert!(consumed > 0 || !wrote.is_empty() || read_bytes < 512, "both sides wait");
        if consumed == 0 && wrote.is_empty() {
            // A line longer than the reads: offer all there is.
            let (consumed, next) = client.handle(&replies.as_bytes()[*heard..], wrote).unwrap();
            assert!(consumed > 0, "both sides wait");
            *heard += consumed;
            if next != Next::Read {
                return next;
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_split_gives_the_same_story(config in configs(), clear in replies(), secure in replies(), cut in any::<prop::sample::Index>()) {
        // Without a handshake between them, the second greeting is one reply too many.
        let secure = &secure[b"220 mx\r\n".len()..];
        let whole = Driver::run_tls(&config, [clear.as_slice()], [secure]);
        prop_assert_eq!(&Driver::run_tls(&config, clear.chunks(1), secure.chunks(1)), &whole);
        let (head, tail) = clear.split_at(cut.index(clear.len() + 1));
        let (first, rest) = secure.split_at(cut.index(secure.len() + 1));
        prop_assert_eq!(&Driver::run_tls(&config, [head, tail], [first, rest]), &whole);
    }

    #[test]
    fn arbitrary_bytes_do_not_panic(input in prop::collection::vec(any::<u8>(), 0..300)) {
        let config = Config::default();
        let greeting: &[u8] = b"220 mx\r\n250-mx\r\n250 PIPELINING\r\n";
        Driver::run(&config, [input.as_slice()]);
        let story = Driver::run(&config, [greeting, &input]);
        prop_assert!(story.wrote.len() < 200 + 150 * input.len());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn both_sides_agree(
        mails in prop::collection::vec(mail(), 1..5),
        offered in (any::<bool>(), any::<bool>()),
        config in configs(),
        read_bytes in prop::sample::select(vec![1_usize, 7, 64, 100_000]),
    ) {
        let limits = server::Limits { message_bytes_max: 100, errors_max: 4, ..server::Limits::default() };
        let (pipelining, chunking) = offered;
        let mut server = Caller::new(server::Config {
            limits,
            pipelining,
            chunking,
            lmtp: config.lmtp,
            starttls: true,
            auth: Mechanism::ALL.to_vec(),
            ..server::Config::default()
        });
        let mut client = Session::new(config.clone());
        let (mut wrote, mut heard) = (Vec::new(), 0);
        let mut next = exchange(&mut client, &mut server, &mut wrote, &mut heard, read_bytes);
        if config.starttls != StartTls::Off {
            prop_assert_eq!(next, Next::StartTls);
            prop_assert!(server.awaits_tls);
            server.tls();
            client.tls_started(VERIFIED, &mut wrote);
            next = exchange(&mut client, &mut server, &mut wrote, &mut heard, read_bytes);
        }
        prop_assert_eq!(next, Next::Ready);
        let mut expected = Vec::new();
        for mail in &mails {
            let transaction = Transaction {
                from: if mail.refused_sender { "refuse@client" } else { "a@client" },
                recipients: &mail.recipients,
                body_bytes: mail.body.len() as u64,
                eight_bit: false,
                smtputf8: false,
                binary: false,
                require_tls: false,
            };
            let mut next = match client.begin(&transaction, &mut wrote) {
                Ok(next) => next,
                Err(error) => {
                    prop_assert!(mail.body.len() > 100, "{}", error);
                    continue;
                }
            };
            while next != Next::Ready {
                if let Next::WriteBody(form) = next {
                    match form {
                        BodyForm::Verbatim => wrote.extend_from_slice(&mail.body),
                        BodyForm::DotStuffed => data::stuff(&[&mail.body], &mut wrote),
                    }
                    client.body_written();
                }
                next = exchange(&mut client, &mut server, &mut wrote, &mut heard, read_bytes);
                prop_assert_ne!(next, Next::Closed);
            }
            let codes: Vec<u16> = (0..mail.recipients.len()).map(|at| client.result().recipient_reply(at).code).collect();
            prop_assert_eq!(&codes, &mail.codes());
            if codes.contains(&250) {
                expected.push(mail.body.clone());
            }
        }
        prop_assert_eq!(&server.messages, &expected);
    }
}

impl Mail {
    /// What the server's policy makes of it.
    fn codes(&self) -> Vec<u16> {
        let verdict = |recipient: &&str| match *recipient {
            _ if self.refused_sender => 550,
            "refuse@mx" => 550,
            "defer@mx" => 451,
            _ => 250,
        };
        self.recipients.iter().map(verdict).collect()
    }
}
