//! Properties of the body: stuffing and unstuffing are inverse whatever the borders, and the fast
//! check agrees with a plain one.

#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use smtp::data::{
    BodyError, BodyRules, LineEndings, Unstuffed, Unstuffer, check, needs_stuffing, stuff, terminator,
};

/// Bytes with all that matters close together.
fn bytes(bytes_max: usize) -> impl Strategy<Value = Vec<u8>> {
    let byte =
        prop_oneof![3 => Just(b'\r'), 4 => Just(b'\n'), 3 => Just(b'.'), 4 => Just(b'a'), 1 => Just(0xe4)];
    prop::collection::vec(byte, 0..bytes_max)
}

/// Mostly good bodies with now and then a fault, long enough for several folds.
fn long_body() -> impl Strategy<Value = Vec<u8>> {
    let line = (0_usize..1200).prop_map(|bytes| [vec![b'x'; bytes], b"\r\n".to_vec()].concat());
    let short = (0_usize..80).prop_map(|bytes| [vec![b'x'; bytes], b"\r\n".to_vec()].concat());
    let fault =
        prop::sample::select(vec![&b"\r"[..], b"\n", b"\0", b"\xe4", b".", b""]).prop_map(<[u8]>::to_vec);
    let piece = prop_oneof![1 => line, 8 => short, 1 => fault];
    prop::collection::vec(piece, 0..120).prop_map(|pieces| pieces.concat())
}

fn cut<'a>(input: &'a [u8], cuts: &[prop::sample::Index]) -> Vec<&'a [u8]> {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(input.len() + 1)).collect();
    cuts.sort_unstable();
    let mut parts = Vec::new();
    let mut start = 0;
    for end in cuts.into_iter().chain([input.len()]) {
        parts.push(&input[start..end]);
        start = end;
    }
    parts
}

/// The body, and the bytes after its end.
fn unstuff(reads: &[&[u8]]) -> Option<(Vec<u8>, Vec<u8>)> {
    let mut unstuffer = Unstuffer::new();
    let mut body = Vec::new();
    for (index, read) in reads.iter().enumerate() {
        let mut at = 0;
        loop {
            let (consumed, event) = unstuffer.step(&read[at..]);
            at += consumed;
            match event {
                Unstuffed::Body(bytes) => body.extend_from_slice(bytes),
                Unstuffed::NeedMore => break,
                Unstuffed::End => return Some((body, [&read[at..], &reads[index + 1..].concat()].concat())),
            }
        }
    }
    None
}

/// Byte by byte as RFC 5321 4.5.2 tells it.
fn unstuff_plainly(input: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let mut body = Vec::new();
    let mut at = 0;
    let mut line_start = true;
    while at < input.len() {
        if line_start && input[at] == b'.' {
            if input[at..].starts_with(b".\r\n") {
                return Some((body, input[at + 3..].to_vec()));
            }
            at += 1;
            line_start = false;
            continue;
        }
        body.push(input[at]);
        line_start = input[at] == b'\n' && at > 0 && input[at - 1] == b'\r';
        at += 1;
    }
    None
}

/// Line by line, byte by byte.
fn check_plainly(body: &[u8], rules: &BodyRules) -> Result<bool, BodyError> {
    let deny = rules.line_endings == LineEndings::Deny;
    for (offset, &byte) in body.iter().enumerate() {
        let next = body.get(offset + 1).copied();
        let before = offset.checked_sub(1).map(|before| body[before]);
        let bare = (byte == b'\r' && next != Some(b'\n')) || (byte == b'\n' && before != Some(b'\r'));
        if deny && bare {
            return Err(BodyError::BareLineEnding { offset });
        }
        if byte == 0 {
            return Err(BodyError::Nul { offset });
        }
    }
    let mut offset = 0;
    for line in body.split_inclusive(|&byte| byte == b'\n') {
        let allowed = rules.line_bytes_max + if line.ends_with(b"\n") { 2 } else { 0 };
        if line.len() > allowed {
            return Err(BodyError::LineTooLong { offset });
        }
        offset += line.len();
    }
    Ok(body.iter().any(|&byte| byte > 127))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn unstuffing_undoes_stuffing(
        body in bytes(60),
        parts in prop::collection::vec(any::<prop::sample::Index>(), 0..4),
        reads in prop::collection::vec(any::<prop::sample::Index>(), 0..4),
    ) {
        let parts = cut(&body, &parts);
        let mut wire = Vec::new();
        stuff(&parts, &mut wire);
        let mut whole = Vec::new();
        stuff(&[&body], &mut whole);
        prop_assert_eq!(&wire, &whole, "part borders matter");
        prop_assert_eq!(needs_stuffing(&parts), wire.len() != body.len() + terminator(&parts).len());

        wire.extend_from_slice(b"QUIT\r\n");
        let (found, rest) = unstuff(&cut(&wire, &reads)).unwrap();
        let complete = body.is_empty() || body.ends_with(b"\r\n");
        let expected = if complete { body } else { [body.as_slice(), b"\r\n"].concat() };
        prop_assert_eq!(found, expected);
        prop_assert_eq!(rest, b"QUIT\r\n");
    }

    #[test]
    fn unstuffing_agrees_with_the_plain_form(
        input in bytes(60),
        reads in prop::collection::vec(any::<prop::sample::Index>(), 0..4),
    ) {
        prop_assert_eq!(unstuff(&cut(&input, &reads)), unstuff_plainly(&input));
    }

    #[test]
    fn checking_agrees_with_the_plain_form(body in bytes(40), line_bytes_max in 1_usize..12, allow in any::<bool>()) {
        let line_endings = if allow { LineEndings::Allow } else { LineEndings::Deny };
        let rules = BodyRules { line_bytes_max, line_endings };
        prop_assert_eq!(check(&body, &rules).map(|facts| facts.eight_bit), check_plainly(&body, &rules));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn checking_long_bodies_agrees_too(body in long_body(), allow in any::<bool>()) {
        let line_endings = if allow { LineEndings::Allow } else { LineEndings::Deny };
        let rules = BodyRules { line_endings, ..BodyRules::default() };
        prop_assert_eq!(check(&body, &rules).map(|facts| facts.eight_bit), check_plainly(&body, &rules));
    }
}
