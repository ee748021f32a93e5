//! Properties of the server session over generated conversations.
//!
//! However the bytes are split into reads, events and replies are the same; nothing panics; what the
//! session says is bounded by what it reads; a body comes out as it was sent.

#![allow(clippy::unwrap_used)]

mod support;

use proptest::prelude::*;
use smtp::data;
use smtp::server::{Config, Mechanism, Questions};
use support::{Caller, Trace, small_limits};

/// The messages of RFC 7677 3 in base64, the first also within the command.
const SCRAM_OPENING: &str = "AUTH SCRAM-SHA-256 biwsbj11c2VyLHI9ck9wck5HZndFYmVSV2diTkVrcU8=\r\n";
const SCRAM_FIRST: &str = "biwsbj11c2VyLHI9ck9wck5HZndFYmVSV2diTkVrcU8=\r\n";
const SCRAM_PROOF: &str = "Yz1iaXdzLHI9ck9wck5HZndFYmVSV2diTkVrcU8laHZZRHBXVWEyUmFUQ0FmdXhGSWxqKWhObEYkazAscD1kSHpiWmFwV0lrNGpVaE4rVXRlOXl0YWc5empmTUhnc3FtbWl6N0FuZFZRPQ==\r\n";

/// Pieces of conversations, good and bad.
fn fragment() -> impl Strategy<Value = Vec<u8>> {
    let lines = prop::sample::select(vec![
        "EHLO client\r\n",
        "HELO client\r\n",
        "MAIL FROM:<a@b>\r\n",
        "MAIL FROM:<a@b> SIZE=100 BODY=8BITMIME\r\n",
        "MAIL FROM:<a@b> SIZE=121\r\n",
        "mail from:<refuse@b>\r\n",
        "MAIL FROM:<> SMTPUTF8\r\n",
        "RCPT TO:<a@b>\r\n",
        "RCPT TO:<refuse@b>\r\n",
        "RCPT TO:<ä@b>\r\n",
        "DATA\r\n",
        "RSET\r\n",
        "NOOP\r\n",
        "HELP\r\n",
        "VRFY a\r\n",
        "BDAT x\r\n",
        "LHLO client\r\n",
        "STARTTLS\r\n",
        "AUTH PLAIN AHVzZXIAcGFzc3dvcmQ=\r\n",
        "AUTH PLAIN\r\n",
        "AUTH LOGIN\r\n",
        "AUTH SCRAM-SHA-256\r\n",
        SCRAM_OPENING,
        SCRAM_FIRST,
        SCRAM_PROOF,
        "\r\n",
        "AHVzZXIAcGFzc3dvcmQ=\r\n",
        "dXNlcg==\r\n",
        "*\r\n",
        "QUIT\r\n",
        "WHAT\r\n",
        "NOOP\n",
        "NO\rOP\r\n",
        ".\r\n",
        "\r\n.\r\n",
        "text\r\n",
        "\r\n..\r",
    ]);
    let envelope = "MAIL FROM:<a@b>\r\nRCPT TO:<a@b>\r\nRCPT TO:<defer@b>\r\n";
    prop_oneof![
        6 => lines.prop_map(|line| line.as_bytes().to_vec()),
        2 => Just(envelope.as_bytes().to_vec()),
        2 => (body(), any::<bool>()).prop_map(|(body, last)| chunk(&body, last)),
        2 => body().prop_map(|body| [b"DATA\r\n".as_slice(), &stuffed(&body)].concat()),
        1 => (90_usize..110).prop_map(|bytes| [vec![b'N'; bytes], b"\r\n".to_vec()].concat()),
        1 => prop::collection::vec(any::<u8>(), 0..20),
    ]
}

fn body() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop::sample::select(vec!["\r\n", ".", "\r", "\n", "a", "QUIT", "\r\n.", "0123456789abcdef"]);
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat().into_bytes())
}

fn chunk(body: &[u8], last: bool) -> Vec<u8> {
    let last = if last { " LAST" } else { "" };
    [format!("BDAT {}{last}\r\n", body.len()).as_bytes(), body].concat()
}

fn stuffed(body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    data::stuff(&[body], &mut out);
    out
}

fn conversation() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(fragment(), 0..14).prop_map(|fragments| fragments.concat())
}

fn config() -> Config {
    Config { limits: small_limits(), ..Config::default() }
}

/// With and without all that is off by default.
fn configs() -> impl Strategy<Value = Config> {
    let auth = prop::sample::select(vec![vec![], vec![Mechanism::Plain], Mechanism::ALL.to_vec()]);
    let questions = prop::sample::select(vec![Questions::Few, Questions::All]);
    (any::<bool>(), auth, any::<bool>(), questions).prop_map(|(starttls, auth, lmtp, questions)| Config {
        starttls,
        auth,
        lmtp,
        questions,
        ..config()
    })
}

fn run<'a>(config: &Config, reads: impl IntoIterator<Item = &'a [u8]>, takes_chunks: bool) -> Trace {
    let mut caller = Caller::new(config.clone());
    caller.takes_chunks = takes_chunks;
    for read in reads {
        caller.read(read);
    }
    caller.trace
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn any_split_gives_the_same_trace(config in configs(), input in conversation(), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6)) {
        let run = |reads: &mut dyn Iterator<Item = &[u8]>, takes_chunks| run(&config, reads, takes_chunks);
        let whole = run(&mut [input.as_slice()].into_iter(), false);
        prop_assert_eq!(&run(&mut input.chunks(1), false), &whole);
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(input.len() + 1)).collect();
        cuts.sort_unstable();
        let ends = cuts.iter().copied().chain([input.len()]);
        let starts = [0].into_iter().chain(cuts.iter().copied());
        let reads: Vec<&[u8]> = starts.zip(ends).map(|(start, end)| &input[start..end]).collect();
        prop_assert_eq!(&run(&mut reads.iter().copied(), false), &whole);
        // A caller that reads chunks itself sees the same.
        prop_assert_eq!(&run(&mut reads.iter().copied(), true), &whole);
        prop_assert_eq!(&run(&mut [input.as_slice()].into_iter(), true), &whole);
    }

    #[test]
    fn what_came_before_tls_does_not_matter_after_it(config in configs(), before in conversation(), injected in conversation(), after in conversation()) {
        let config = Config { starttls: true, ..config };
        let told = |injected: &[u8]| {
            let mut caller = Caller::new(config.clone());
            caller.read(&before);
            let waits = caller.awaits_tls;
            caller.read(b"\r\nSTARTTLS\r\n");
            if waits || !caller.awaits_tls {
                return None;
            }
            caller.read(injected);
            caller.tls();
            caller.read(&after);
            Some(caller.trace)
        };
        // Whatever is put behind STARTTLS in the clear changes nothing.
        prop_assert_eq!(told(&injected), told(b""));
    }

    #[test]
    fn output_is_bounded(config in configs(), input in conversation()) {
        let limits = smtp::server::Limits { errors_max: 16, ..small_limits() };
        let mut caller = Caller::new(Config { limits, ..config });
        caller.read(&input);
        prop_assert!(caller.trace.replies().len() <= 20 * input.len() + 1024);
    }

    #[test]
    fn arbitrary_bytes_do_not_panic(input in prop::collection::vec(any::<u8>(), 0..400)) {
        let whole = run(&config(), [input.as_slice()], false);
        prop_assert_eq!(run(&config(), input.chunks(3), true), whole);
    }

    #[test]
    fn bodies_come_out_as_sent(lines in prop::collection::vec("[ -~]{0,20}", 0..5), borders in prop::collection::vec(0_usize..40, 0..3)) {
        let body: Vec<u8> = lines.iter().flat_map(|line| [line.as_bytes(), b"\r\n"].concat()).collect();
        let mut input = b"MAIL FROM:<a@b>\r\nRCPT TO:<a@b>\r\nDATA\r\n".to_vec();
        input.extend(stuffed(&body));
        input.extend(b"MAIL FROM:<a@b>\r\nRCPT TO:<a@b>\r\n");
        let mut rest = body.as_slice();
        for border in borders {
            let (head, tail) = rest.split_at(border.min(rest.len()));
            input.extend(chunk(head, false));
            rest = tail;
        }
        input.extend(chunk(rest, true));
        let mut caller = Caller::new(config());
        for read in input.chunks(5) {
            caller.read(read);
        }
        prop_assert_eq!(caller.messages, vec![body.clone(), body]);
    }
}
