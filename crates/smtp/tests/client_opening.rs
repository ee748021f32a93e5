//! The client session from the banner to the first transaction: STARTTLS and AUTH, in good order and in bad.

#![allow(clippy::unwrap_used)]

use smtp::client::{
    BeginError, BodyForm, Config, Credentials, Mechanism, Next, PeerError, Phase, Secured, Session, StartTls,
    Transaction,
};
use smtp::error::Blame;

const ONE: Transaction<'static> = Transaction {
    from: "a@client.test",
    recipients: &["b@mx.test"],
    body_bytes: 7,
    eight_bit: false,
    smtputf8: false,
    binary: false,
    require_tls: false,
};
const WITH_TLS: &str = "250-mx\r\n250-PIPELINING\r\n250-CHUNKING\r\n250-AUTH PLAIN\r\n250 STARTTLS\r\n";
const VERIFIED: Secured = Secured { verified: true };
const USER: &str = "user-1";
const PASSWORD: &str = "secret-1";
/// `\0user-1\0secret-1`.
const PLAIN: &str = "AHVzZXItMQBzZWNyZXQtMQ==";

struct Client {
    session: Session,
    out: Vec<u8>,
}

impl Client {
    fn new(config: Config) -> Self {
        let mut client = Self { session: Session::new(config), out: Vec::new() };
        assert_eq!(client.hear("220 mx\r\n"), Ok(Next::Read));
        assert!(client.said().ends_with("LO client.test\r\n"));
        client
    }

    /// The peer says something; all of it has to be consumed, unless it is an error.
    fn hear(&mut self, text: &str) -> Result<Next, PeerError> {
        let (consumed, next) = self.session.handle(text.as_bytes(), &mut self.out)?;
        assert_eq!(consumed, text.len(), "left over: {}", &text[consumed..]);
        Ok(next)
    }

    fn said(&mut self) -> String {
        String::from_utf8(std::mem::take(&mut self.out)).unwrap()
    }

    fn closing(&self) -> u16 {
        self.session.result().closing.as_ref().unwrap().code
    }
}

fn plain() -> Config {
    Config { ehlo_domain: "client.test".into(), ..Config::default() }
}

fn tls() -> Config {
    Config { starttls: StartTls::Required, ..plain() }
}

fn auth(mechanism: Option<Mechanism>) -> Config {
    auth_with(mechanism, PASSWORD)
}

fn auth_with(mechanism: Option<Mechanism>, password: &str) -> Config {
    let (user, password) = (USER.into(), password.into());
    let credentials = Credentials { mechanism, user, password, password_needs: None, nonce: String::new() };
    Config { auth: Some(credentials), ..plain() }
}

/// As in the exchange of RFC 7677 3.
fn scram() -> Config {
    let nonce = "rOprNGfwEbeRWgbNEkqO".to_owned();
    let (user, password) = ("user".into(), "pencil".into());
    let credentials = Credentials { mechanism: None, user, password, password_needs: None, nonce };
    Config { auth: Some(credentials), ..plain() }
}

const FIRST: &str = "AUTH SCRAM-SHA-256 biwsbj11c2VyLHI9ck9wck5HZndFYmVSV2diTkVrcU8=\r\n";
const CHALLENGE: &str = "334 cj1yT3ByTkdmd0ViZVJXZ2JORWtxTyVodllEcFdVYTJSYVRDQWZ1eEZJbGopaE5sRiRrMCxzPVcyMlphSjBTTlk3c29Fc1VFamI2Z1E9PSxpPTQwOTY=\r\n";
const PROOF: &str = "Yz1iaXdzLHI9ck9wck5HZndFYmVSV2diTkVrcU8laHZZRHBXVWEyUmFUQ0FmdXhGSWxqKWhObEYkazAscD1kSHpiWmFwV0lrNGpVaE4rVXRlOXl0YWc5empmTUhnc3FtbWl6N0FuZFZRPQ==\r\n";
const SIGNATURE: &str = "334 dj02cnJpVFJCaTIzV3BSUi93dHVwK21NaFVaVW4vZEI1bkxUSlJzamw5NUc0PQ==\r\n";

#[test]
fn tls_comes_first_and_everything_is_asked_again() {
    let mut client = Client::new(tls());
    assert_eq!(client.hear(WITH_TLS), Ok(Next::Read));
    assert_eq!((client.said().as_str(), client.session.phase()), ("STARTTLS\r\n", Phase::StartTls));
    assert_eq!(client.hear("220 go\r\n"), Ok(Next::StartTls));
    assert_eq!(client.session.phase(), Phase::StartTls);
    // Asked once more before the handshake, the answer is the same.
    assert_eq!(client.hear(""), Ok(Next::StartTls));
    assert_eq!(client.session.tls_started(VERIFIED, &mut client.out), Next::Read);
    assert_eq!((client.said().as_str(), client.session.phase()), ("EHLO client.test\r\n", Phase::Ehlo));
    // What was announced in the clear is forgotten.
    assert!(!client.session.capabilities().pipelining);
    assert_eq!(client.hear("250 mx\r\n"), Ok(Next::Ready));
    assert_eq!(client.session.begin(&ONE, &mut client.out), Ok(Next::Read));
    assert_eq!(client.said(), "MAIL FROM:<a@client.test>\r\n");
}

#[test]
fn no_falling_back_to_the_clear() {
    let helo = "502 what\r\n250 mx\r\n";
    for (ehlo, auth) in
        [("250 mx\r\n", None), (helo, None), ("250-mx\r\n250 AUTH PLAIN\r\n", auth(None).auth)]
    {
        let mut client = Client::new(Config { auth, ..tls() });
        let error = client.hear(ehlo).unwrap_err();
        assert_eq!((error, error.blame()), (PeerError::StartTlsNotOffered, Blame::PeerIncapable));
        assert!(!client.said().contains("AUTH"));
        assert_eq!(client.hear(""), Ok(Next::Closed));
    }
    let mut client = Client::new(tls());
    client.hear(WITH_TLS).unwrap();
    assert_eq!(client.hear("454 4.7.0 not now\r\n"), Ok(Next::Closed));
    assert_eq!((client.said().as_str(), client.closing()), ("STARTTLS\r\nQUIT\r\n", 454));
}

#[test]
fn tls_that_was_only_wished_for() {
    let wished = |auth| Config { starttls: StartTls::IfOffered, auth, ..plain() };
    // Not offered, or by a server that knows HELO only: in the clear.
    for ehlo in ["250-mx\r\n250 PIPELINING\r\n", "502 what\r\n250 mx\r\n"] {
        let mut client = Client::new(wished(None));
        assert_eq!(client.hear(ehlo), Ok(Next::Ready), "{ehlo}");
        assert!(!client.said().contains("STARTTLS"));
        assert_eq!((client.session.secured(), client.session.starttls_refusal()), (None, None));
    }
    // Offered: as if it had been insisted on.
    let mut client = Client::new(wished(None));
    client.hear(WITH_TLS).unwrap();
    assert_eq!((client.said().as_str(), client.hear("220 go\r\n")), ("STARTTLS\r\n", Ok(Next::StartTls)));
    client.session.tls_started(Secured { verified: false }, &mut client.out);
    assert_eq!(client.hear("250 mx\r\n"), Ok(Next::Ready));
    assert_eq!(client.session.secured(), Some(Secured { verified: false }));
    // Offered and refused: in the clear, with what was announced there.
    for refusal in ["454 4.7.0 not now\r\n", "554 5.7.3 never\r\n", "501 5.5.4 what\r\n"] {
        let mut client = Client::new(wished(auth(None).auth));
        client.hear(WITH_TLS).unwrap();
        client.said();
        assert_eq!(client.hear(refusal), Ok(Next::Read), "{refusal}");
        assert_eq!(client.said(), format!("AUTH PLAIN {PLAIN}\r\n"));
        assert_eq!(client.hear("235 2.7.0 welcome\r\n"), Ok(Next::Ready));
        assert_eq!(client.session.starttls_refusal().unwrap().code.to_string(), refusal[..3]);
        assert!(client.session.secured().is_none() && client.session.capabilities().pipelining);
        assert_eq!(client.session.begin(&ONE, &mut client.out), Ok(Next::WriteBody(BodyForm::Verbatim)));
    }
    // Going down is not a refusal of TLS.
    let mut client = Client::new(wished(None));
    client.hear(WITH_TLS).unwrap();
    assert_eq!((client.hear("421 4.3.2 bye\r\n"), client.closing()), (Ok(Next::Closed), 421));
}

#[test]
fn mail_that_needs_tls_to_its_end() {
    let needs = Transaction { require_tls: true, ..ONE };
    let unsupported = Err(BeginError::RequireTlsUnsupported);
    // Announced in the clear, where it means nothing (RFC 8689 2).
    let mut client = Client::new(plain());
    client.hear("250-mx\r\n250 REQUIRETLS\r\n").unwrap();
    assert_eq!(client.session.begin(&needs, &mut client.out), unsupported);
    for (ehlo, begun) in [("250-mx\r\n250 REQUIRETLS\r\n", Ok(Next::Read)), ("250 mx\r\n", unsupported)] {
        let mut client = Client::new(tls());
        client.hear(WITH_TLS).unwrap();
        client.hear("220 go\r\n").unwrap();
        client.session.tls_started(VERIFIED, &mut client.out);
        client.hear(ehlo).unwrap();
        client.said();
        assert_eq!(client.session.begin(&needs, &mut client.out), begun);
        let said = if begun.is_ok() { "MAIL FROM:<a@client.test> REQUIRETLS\r\n" } else { "" };
        assert_eq!(client.said(), said);
    }
    assert_eq!(BeginError::RequireTlsUnsupported.blame(), Blame::PeerIncapable);
}

#[test]
fn nothing_said_in_the_clear_passes_for_tls() {
    // CVE-2011-0411, seen from the client: replies behind the 220 would be taken for the server's.
    let error = Err(PeerError::InputBehindStartTls);
    for (first, second) in [("220 go\r\n250 mx\r\n", ""), ("220 go\r\n2", ""), ("220 go\r\n", "250 mx\r\n")] {
        let mut client = Client::new(tls());
        client.hear(WITH_TLS).unwrap();
        let heard = client.hear(first);
        if second.is_empty() {
            assert_eq!(heard, error, "{first}");
        } else {
            assert_eq!((heard, client.hear(second)), (Ok(Next::StartTls), error));
        }
        assert_eq!(client.hear(""), Ok(Next::Closed));
    }
}

#[test]
fn giving_up_before_the_handshake_says_nothing() {
    let mut client = Client::new(tls());
    client.hear(WITH_TLS).unwrap();
    client.hear("220 go\r\n").unwrap();
    client.said();
    assert_eq!(client.session.quit(&mut client.out), Next::Closed);
    assert_eq!(client.said(), "");
}

#[test]
fn plain_in_one_command() {
    for mechanism in [None, Some(Mechanism::Plain)] {
        let mut client = Client::new(auth(mechanism));
        assert_eq!(client.hear("250-mx\r\n250 AUTH LOGIN PLAIN\r\n"), Ok(Next::Read));
        assert_eq!(client.said(), format!("AUTH PLAIN {PLAIN}\r\n"));
        assert_eq!(client.session.phase(), Phase::Auth);
        assert_eq!(client.hear("235 2.7.0 welcome\r\n"), Ok(Next::Ready));
    }
}

#[test]
fn a_response_too_long_for_a_command_waits_for_its_turn() {
    let mut client = Client::new(auth_with(None, &"p".repeat(600)));
    client.hear("250-mx\r\n250 AUTH PLAIN\r\n").unwrap();
    assert_eq!(client.said(), "AUTH PLAIN\r\n");
    assert_eq!(client.hear("334 \r\n"), Ok(Next::Read));
    assert!(client.said().len() > 800);
    assert_eq!(client.hear("235 2.7.0 welcome\r\n"), Ok(Next::Ready));
}

#[test]
fn login_word_by_word() {
    let mut client = Client::new(auth(None));
    client.hear("250-mx\r\n250 AUTH LOGIN\r\n").unwrap();
    assert_eq!(client.said(), "AUTH LOGIN\r\n");
    assert_eq!(client.hear("334 VXNlcm5hbWU6\r\n"), Ok(Next::Read));
    assert_eq!(client.said(), "dXNlci0x\r\n");
    assert_eq!(client.hear("334 UGFzc3dvcmQ6\r\n"), Ok(Next::Read));
    assert_eq!(client.said(), "c2VjcmV0LTE=\r\n");
    assert_eq!(client.hear("235 2.7.0 welcome\r\n"), Ok(Next::Ready));
}

#[test]
fn a_proof_before_a_password() {
    let mut client = Client::new(scram());
    client.hear("250-mx\r\n250 AUTH PLAIN SCRAM-SHA-256-PLUS SCRAM-SHA-256 LOGIN\r\n").unwrap();
    assert_eq!(client.said(), FIRST);
    assert_eq!(client.hear(CHALLENGE), Ok(Next::Read));
    assert_eq!(client.said(), PROOF);
    assert_eq!(client.hear(SIGNATURE), Ok(Next::Read));
    assert_eq!(client.said(), "\r\n");
    assert_eq!(client.hear("235 2.7.0 welcome\r\n"), Ok(Next::Ready));

    // A first message that is too long for a command.
    let mut config = scram();
    config.auth.as_mut().unwrap().user = "u".repeat(600);
    let mut client = Client::new(config);
    client.hear("250-mx\r\n250 AUTH SCRAM-SHA-256\r\n").unwrap();
    assert_eq!(client.said(), "AUTH SCRAM-SHA-256\r\n");
    assert_eq!(client.hear("334 \r\n"), Ok(Next::Read));
    assert!(client.said().len() > 800);
    assert_eq!(client.hear("535 5.7.8 no\r\n"), Ok(Next::Closed));
}

#[test]
fn a_server_that_does_not_know_the_password_is_not_trusted() {
    let unusable = Err(PeerError::AuthChallengeUnusable);
    let unproven = Err(PeerError::AuthServerUnproven);
    for (replies, error) in [
        (vec!["334 \r\n"], unusable),
        (vec!["334 %%%\r\n"], unusable),
        // The challenge of another exchange: `r=x,s=AA==,i=4096`.
        (vec!["334 cj14LHM9QUE9PSxpPTQwOTY=\r\n"], unusable),
        // In without a word, with another signature, with the challenge once more.
        (vec![CHALLENGE, "235 2.7.0 welcome\r\n"], unproven),
        (vec![CHALLENGE, "334 dj1BQUFB\r\n"], unproven),
        (vec![CHALLENGE, CHALLENGE], unproven),
        (vec!["235 2.7.0 welcome\r\n"], Err(PeerError::UnexpectedReply { code: 235 })),
        (vec![CHALLENGE, SIGNATURE, "334 \r\n"], Err(PeerError::UnexpectedReply { code: 334 })),
    ] {
        let mut client = Client::new(scram());
        client.hear("250-mx\r\n250 AUTH SCRAM-SHA-256\r\n").unwrap();
        let (last, before) = replies.split_last().unwrap();
        before.iter().for_each(|reply| assert_eq!(client.hear(reply), Ok(Next::Read)));
        assert_eq!(client.hear(last), error, "{replies:?}");
        assert_eq!(client.hear(""), Ok(Next::Closed));
    }
}

#[test]
fn a_password_goes_only_where_it_is_safe() {
    let offered = "250-mx\r\n250-STARTTLS\r\n250 AUTH PLAIN LOGIN\r\n";
    let verified = Secured { verified: true };
    let encrypted = Secured { verified: false };
    for (needed, is, may) in [
        (None, None, true),
        (Some(encrypted), None, false),
        (Some(encrypted), Some(encrypted), true),
        (Some(verified), None, false),
        (Some(verified), Some(encrypted), false),
        (Some(verified), Some(verified), true),
    ] {
        let mut config = auth(None);
        config.auth.as_mut().unwrap().password_needs = needed;
        config.starttls = if is.is_some() { StartTls::Required } else { StartTls::Off };
        let mut client = Client::new(config);
        let mut heard = client.hear(offered);
        if let Some(secured) = is {
            client.hear("220 go\r\n").unwrap();
            client.session.tls_started(secured, &mut client.out);
            heard = client.hear(offered);
        }
        let error = PeerError::AuthNeedsTls { secured: is };
        assert_eq!(heard, if may { Ok(Next::Read) } else { Err(error) }, "{needed:?} {is:?}");
        assert_eq!(client.said().contains("AUTH"), may);
        assert_eq!(error.blame(), Blame::PeerIncapable);
    }
    // A proof is safe anywhere.
    let mut config = scram();
    config.auth.as_mut().unwrap().password_needs = Some(verified);
    let mut client = Client::new(config);
    client.hear("250-mx\r\n250 AUTH PLAIN SCRAM-SHA-256\r\n").unwrap();
    assert_eq!(client.said(), FIRST);
}

#[test]
fn who_is_not_let_in_goes() {
    for replies in ["535 5.7.8 no\r\n", "454 4.7.0 later\r\n", "421 4.3.2 bye\r\n"] {
        let mut client = Client::new(auth(None));
        client.hear("250-mx\r\n250 AUTH PLAIN\r\n").unwrap();
        assert_eq!(client.hear(replies), Ok(Next::Closed));
        assert_eq!(client.closing().to_string(), replies[..3]);
    }
}

#[test]
fn auth_that_is_not_offered_is_an_error() {
    let table = [
        ("250 mx\r\n", None, "peer does not offer AUTH SCRAM-SHA-256, PLAIN or LOGIN, which was asked for"),
        (
            "250-mx\r\n250 AUTH CRAM-MD5\r\n",
            None,
            "peer does not offer AUTH SCRAM-SHA-256, PLAIN or LOGIN, which was asked for",
        ),
        (
            "250-mx\r\n250 AUTH PLAIN\r\n",
            Some(Mechanism::Login),
            "peer does not offer AUTH LOGIN, which was asked for",
        ),
        (
            "502 what\r\n250 mx\r\n",
            Some(Mechanism::Plain),
            "peer does not offer AUTH PLAIN, which was asked for",
        ),
    ];
    for (ehlo, mechanism, text) in table {
        let mut client = Client::new(auth(mechanism));
        let error = client.hear(ehlo).unwrap_err();
        assert_eq!((error.to_string().as_str(), error.blame()), (text, Blame::PeerIncapable));
    }
}

#[test]
fn replies_that_fit_no_exchange() {
    // PLAIN is complete: there is nothing more to ask for. LOGIN is not: it cannot have succeeded.
    for (offered, replies, code) in [("PLAIN", "334 x\r\n", 334), ("LOGIN", "235 2.7.0 in\r\n", 235)] {
        let mut client = Client::new(auth(None));
        client.hear(&format!("250-mx\r\n250 AUTH {offered}\r\n")).unwrap();
        assert_eq!(client.hear(replies), Err(PeerError::UnexpectedReply { code }));
    }
    // And 334 answers nothing but AUTH and DATA.
    let mut client = Client::new(tls());
    client.hear(WITH_TLS).unwrap();
    assert_eq!(client.hear("334 \r\n"), Err(PeerError::UnexpectedReply { code: 334 }));
}

#[test]
fn auth_goes_through_tls_only() {
    let mut client = Client::new(Config { starttls: StartTls::Required, ..auth(None) });
    client.hear(WITH_TLS).unwrap();
    assert_eq!(client.said(), "STARTTLS\r\n");
    client.hear("220 go\r\n").unwrap();
    client.session.tls_started(VERIFIED, &mut client.out);
    // Offered in the clear, and not through TLS: it counts for nothing.
    let mut other = Client::new(Config { starttls: StartTls::Required, ..auth(None) });
    other.hear(WITH_TLS).unwrap();
    other.hear("220 go\r\n").unwrap();
    other.session.tls_started(VERIFIED, &mut other.out);
    assert_eq!(other.hear("250 mx\r\n"), Err(PeerError::AuthNotOffered { mechanism: None }));

    client.said();
    assert_eq!(client.hear("250-mx\r\n250 AUTH PLAIN\r\n"), Ok(Next::Read));
    assert_eq!(client.said(), format!("AUTH PLAIN {PLAIN}\r\n"));
    assert_eq!(client.hear("235 2.7.0 welcome\r\n"), Ok(Next::Ready));
}

#[test]
fn credentials_do_not_show() {
    for offered in ["PLAIN", "LOGIN"] {
        let mut client = Client::new(auth(None));
        let mut shown = format!("{:?}", client.session);
        client.hear(&format!("250-mx\r\n250 AUTH {offered}\r\n")).unwrap();
        shown += &format!("{:?}", client.session);
        if offered == "LOGIN" {
            client.hear("334 u\r\n334 p\r\n").unwrap();
            shown += &format!("{:?}", client.session);
        }
        let error = client.hear("garbage\r\n").unwrap_err();
        shown += &format!("{:?} {error} {error:?}", client.session);
        for secret in [USER, PASSWORD, PLAIN, "dXNlci0x", "c2VjcmV0LTE"] {
            assert!(!shown.contains(secret), "{secret} in {shown}");
        }
    }
}
