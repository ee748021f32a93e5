//! Bodies of arbitrary bytes: stuffing is undone by unstuffing at any split, and unstuffing and
//! checking agree with their plain forms.

use smtp::data::{BodyError, BodyRules, Unstuffed, Unstuffer, check, stuff};

/// The first byte of `data` chooses the size of parts and reads, the rest is the body.
pub(crate) fn run(data: &[u8]) {
    let Some((&choice, body)) = data.split_first() else {
        return;
    };
    let bytes = usize::from(choice % 32) + 1;
    let parts: Vec<&[u8]> = body.chunks(bytes).collect();
    let mut wire = Vec::new();
    stuff(&parts, &mut wire);
    let mut expected = body.to_vec();
    if !(body.is_empty() || body.ends_with(b"\r\n")) {
        expected.extend_from_slice(b"\r\n");
    }
    assert_eq!(unstuff(&wire, bytes), Some(expected));
    assert_eq!(unstuff(body, bytes), unstuff(body, usize::MAX));
    let rules = BodyRules { line_bytes_max: usize::from(choice), ..BodyRules::default() };
    let found = check(body, &rules);
    assert_eq!(found.is_ok(), is_good(body, rules.line_bytes_max), "{found:?}");
    if let Err(BodyError::BareLineEnding { offset } | BodyError::Nul { offset }) = found {
        assert!(matches!(body[offset], b'\r' | b'\n' | 0));
    }
}

/// The body, where its end is found.
fn unstuff(input: &[u8], read_bytes: usize) -> Option<Vec<u8>> {
    let mut unstuffer = Unstuffer::new();
    let mut body = Vec::new();
    for read in input.chunks(read_bytes) {
        let mut at = 0;
        loop {
            let (consumed, event) = unstuffer.step(&read[at..]);
            at += consumed;
            match event {
                Unstuffed::Body(bytes) => body.extend_from_slice(bytes),
                Unstuffed::NeedMore => break,
                Unstuffed::End => return Some(body),
            }
        }
    }
    None
}

/// Every line ends in CRLF, the last may lack it; no other CR, LF or NUL; none is too long.
fn is_good(body: &[u8], line_bytes_max: usize) -> bool {
    let mut rest = body;
    while !rest.is_empty() {
        let end = rest.windows(2).position(|pair| pair == b"\r\n");
        let line = &rest[..end.unwrap_or(rest.len())];
        if line.len() > line_bytes_max || line.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)) {
            return false;
        }
        rest = end.map_or(&[], |end| &rest[end + 2..]);
    }
    true
}
