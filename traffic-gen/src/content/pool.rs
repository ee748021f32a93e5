//! All bodies of a run, rendered before it begins.
//!
//! Made bodies are pieces of one text, so that the memory they take is bounded by `pool_bytes` (or by the
//! largest of them) however many there are. Each is kept with its CRC-32C and, where dots need doubling, a
//! second form for DATA, so that sending costs no work on the body. Files bring their own header fields.

use std::ops::Range;

use message::header::{self, Field};
use message::traffic::body_crc;

use super::foreign::{double_dots, has_line_dot, is_too_long, mail};
use super::plan::{BODY_BYTES_MAX, ContentError, ContentPlan, POOL_BODIES_MAX};
use super::text::{LINE_BYTES_MAX, Lines};
use super::weights::Weights;

/// Fields that every message gets from us; a file's own are left out.
const OURS: [&str; 5] = ["From", "To", "Message-ID", "Date", message::traffic::NAME];

/// Bytes between the places of a text for which the checksum of all that is before is kept.
const CHECKPOINT_BYTES: usize = 4096;

/// One body, as places in the bytes of the [`Pool`].
#[derive(Clone, Debug)]
struct Body {
    /// Whole lines of header fields of its own.
    fields: Range<usize>,
    /// As BDAT sends it; ends in CRLF unless it is empty.
    verbatim: Range<usize>,
    /// As DATA sends it, without the final dot.
    dotted: Range<usize>,
    crc: u32,
    eight_bit: bool,
}

/// The bodies, and which of them a random number stands for.
#[derive(Clone, Debug)]
pub(super) struct Pool {
    bytes: Vec<u8>,
    bodies: Vec<Body>,
    choice: Weights,
    mean_bytes: f64,
}

impl Pool {
    /// `defaults` are whole header lines for bodies that do not bring a field of the same name.
    pub(super) fn new(plan: &ContentPlan, seed: u64, defaults: &[u8]) -> Result<Self, ContentError> {
        if plan.files.is_empty() { Self::made(plan, seed, defaults) } else { Self::of_files(plan, defaults) }
    }

    /// Makes bodies from the seed.
    fn made(plan: &ContentPlan, seed: u64, defaults: &[u8]) -> Result<Self, ContentError> {
        let bodies_max = plan.pool_bodies.map(|bodies| bodies.clamp(1, POOL_BODIES_MAX));
        let mut sizes = plan.sizes.sizes(bodies_max)?;
        if sizes.is_empty() {
            // A list of nothing is a list of empty bodies.
            sizes.push((0, 1.0));
        }
        let mut random = fastrand::Rng::with_seed(seed);
        let room = |bytes: usize| bytes + LINE_BYTES_MAX;
        let all = sizes.iter().fold(0usize, |sum, (bytes, _)| sum.saturating_add(room(*bytes)));
        let largest = sizes.iter().map(|(bytes, _)| *bytes).max().unwrap_or(0);
        let mut lines = Lines::made(all.min(plan.pool_bytes).max(largest), plan.random_percent, &mut random);
        let (sums, mut from) = (Sums::new(&lines.text), 0);
        let bodies = sizes.iter().map(|(bytes, _)| {
            // One behind the other; where the text is not long enough for all, from the beginning again, at
            // another place.
            if from + bytes > lines.text.len() {
                from = random.usize(..=(lines.text.len() - bytes).min(*bytes));
            }
            let piece = lines.piece(*bytes, from);
            from = piece.end;
            let crc = sums.of(&lines.text, &piece);
            let fields = lines.text.len()..lines.text.len() + defaults.len();
            Body { fields, dotted: piece.clone(), verbatim: piece, crc, eight_bit: false }
        });
        let bodies = bodies.collect();
        lines.text.extend_from_slice(defaults);
        let weights: Vec<f64> = sizes.iter().map(|(_, weight)| *weight).collect();
        Ok(Self::with(lines.text, bodies, &weights))
    }

    /// Takes the bodies from files. A file that starts with header fields is a whole message: its fields are
    /// kept, except those that every message gets from us.
    fn of_files(plan: &ContentPlan, defaults: &[u8]) -> Result<Self, ContentError> {
        let (mut bytes, mut bodies) = (Vec::new(), Vec::new());
        for file in &plan.files {
            if file.bytes.len() > BODY_BYTES_MAX {
                return Err(ContentError::TooLarge(file.bytes.len()));
            }
            bodies.push(Body::of_file(&file.bytes, defaults, &mut bytes));
        }
        let weights = vec![1.0; bodies.len()];
        Ok(Self::with(bytes, bodies, &weights))
    }

    fn with(bytes: Vec<u8>, bodies: Vec<Body>, weights: &[f64]) -> Self {
        let sum: f64 = weights.iter().sum();
        let weighted = bodies.iter().zip(weights).map(|(body, weight)| body.verbatim.len() as f64 * weight);
        let mean_bytes = weighted.sum::<f64>() / sum;
        Self { mean_bytes, choice: Weights::new(weights), bytes, bodies }
    }

    /// Which body a random number of 64 bits stands for.
    #[inline]
    pub(super) fn choose(&self, random: u64) -> usize {
        self.choice.choose(random)
    }

    /// Header fields that come with the body: whole lines with CRLF.
    pub(super) fn fields(&self, body: usize) -> &[u8] {
        &self.bytes[self.bodies[body].fields.clone()]
    }

    /// The body as BDAT sends it.
    pub(super) fn verbatim(&self, body: usize) -> &[u8] {
        &self.bytes[self.bodies[body].verbatim.clone()]
    }

    /// The body as DATA sends it, without the final dot.
    pub(super) fn dotted(&self, body: usize) -> &[u8] {
        &self.bytes[self.bodies[body].dotted.clone()]
    }

    /// Where a body stands in [`Pool::bytes`].
    pub(super) fn place(&self, body: usize) -> Range<usize> {
        self.bodies[body].verbatim.clone()
    }

    /// All bodies and fields.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How many bodies there are.
    pub(super) fn len(&self) -> usize {
        self.bodies.len()
    }

    pub(super) fn crc(&self, body: usize) -> u32 {
        self.bodies[body].crc
    }

    /// Whether the body or a field of its own has bytes over 127.
    pub(super) fn is_eight_bit(&self, body: usize) -> bool {
        self.bodies[body].eight_bit
    }

    /// The mean size of the bodies of many messages.
    pub(super) fn mean_bytes(&self) -> f64 {
        self.mean_bytes
    }
}

impl Body {
    /// Appends what the file becomes to `bytes`.
    fn of_file(file: &[u8], defaults: &[u8], bytes: &mut Vec<u8>) -> Self {
        let (fields, body) = mail(file);
        let start = bytes.len();
        push_fields(&fields, defaults, bytes);
        let fields = start..bytes.len();
        bytes.extend_from_slice(&body);
        let verbatim = fields.end..bytes.len();
        let dotted = if has_line_dot(&body) {
            double_dots(&body, bytes);
            verbatim.end..bytes.len()
        } else {
            verbatim.clone()
        };
        let eight_bit = !bytes[start..].is_ascii();
        Self { crc: body_crc(&body), eight_bit, fields, verbatim, dotted }
    }
}

/// Keeps the fields that are not ours and can be sent, and adds the defaults that are missing.
fn push_fields(fields: &[u8], defaults: &[u8], to: &mut Vec<u8>) {
    let own = |field: &Field<'_>| header::fields(fields).any(|own| own.name.eq_ignore_ascii_case(field.name));
    let missing = header::fields(defaults).filter(|default| !own(default));
    for field in missing.chain(header::fields(fields).filter(|field| !is_left_out(field))) {
        to.extend_from_slice(field.name);
        to.push(b':');
        to.extend_from_slice(field.raw);
        to.extend_from_slice(b"\r\n");
    }
}

fn is_left_out(field: &Field<'_>) -> bool {
    // DATA would change a field that starts with a dot.
    field.name.starts_with(b".") || is_too_long(field) || OURS.iter().any(|name| field.is(name))
}

/// Checksums of all beginnings of a text, so that the checksum of a piece costs a few thousand bytes of work
/// however long it is.
struct Sums {
    checkpoints: Vec<u32>,
}

impl Sums {
    fn new(text: &[u8]) -> Self {
        let mut sum = body_crc(&[]);
        let mut checkpoints = vec![sum];
        for part in text.chunks(CHECKPOINT_BYTES) {
            sum = crc32c::crc32c_append(sum, part);
            checkpoints.push(sum);
        }
        Self { checkpoints }
    }

    /// The checksum of `text` up to `end`.
    fn before(&self, text: &[u8], end: usize) -> u32 {
        let checkpoint = end / CHECKPOINT_BYTES;
        crc32c::crc32c_append(self.checkpoints[checkpoint], &text[checkpoint * CHECKPOINT_BYTES..end])
    }

    /// The checksum of a piece of the text.
    fn of(&self, text: &[u8], piece: &Range<usize>) -> u32 {
        // Appending is linear: the sum of the whole is the sum of the beginning, moved by the length of the
        // piece, xor the sum of the piece.
        let moved = crc32c::crc32c_combine(self.before(text, piece.start), 0, piece.len());
        self.before(text, piece.end) ^ moved
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn of_file(file: &[u8]) -> Pool {
        Pool::new(&ContentPlan::file(file.to_vec()), 1, b"Subject: default\r\n").unwrap()
    }

    #[test]
    fn bodies_have_the_size_asked_for_and_come_from_the_seed() {
        for bytes in [0, 1, 2, 3, 73, 74, 75, 76, 1024, 20_000] {
            let pool = Pool::new(&ContentPlan::fixed(bytes), 1, b"A: b\r\n").unwrap();
            for body in 0..pool.bodies.len() {
                let verbatim = pool.verbatim(body);
                assert_eq!(verbatim.len(), if bytes == 1 { 2 } else { bytes });
                assert!(bytes == 0 || verbatim.ends_with(b"\r\n"));
                assert!(!has_line_dot(verbatim) && pool.dotted(body) == verbatim);
                assert_eq!(pool.fields(body), b"A: b\r\n");
            }
            assert_eq!(pool.mean_bytes(), if bytes == 1 { 2.0 } else { bytes as f64 });
        }
        let pool = Pool::new(&ContentPlan::fixed(1024), 1, b"").unwrap();
        let distinct: BTreeSet<&[u8]> = (0..pool.bodies.len()).map(|body| pool.verbatim(body)).collect();
        assert_eq!(distinct.len(), 256);
        let bodies = |seed| Pool::new(&ContentPlan::fixed(1024), seed, b"").unwrap().bytes;
        assert_eq!(bodies(1), bodies(1));
        assert_ne!(bodies(1), bodies(2));
        let too_large = ContentPlan::fixed(BODY_BYTES_MAX + 1);
        assert_eq!(Pool::new(&too_large, 1, b"").unwrap_err(), ContentError::TooLarge(BODY_BYTES_MAX + 1));
    }

    #[test]
    fn memory_is_bounded_and_every_checksum_holds() {
        let plan = ContentPlan { pool_bytes: 50_000, pool_bodies: Some(300), ..ContentPlan::fixed(20_000) };
        let pool = Pool::new(&plan, 7, b"").unwrap();
        assert_eq!(pool.bodies.len(), 300);
        assert!(pool.bytes.len() < 50_200, "{}", pool.bytes.len());
        for body in 0..300 {
            assert_eq!(pool.crc(body), body_crc(pool.verbatim(body)));
        }
    }

    #[test]
    fn draws_follow_the_distribution() {
        let draws = 100_000;
        for (text, bounds) in [
            ("uniform:1k-101k", [21_000, 41_000, 61_000, 81_000]),
            // The quantiles of a fifth, two, three and four.
            ("lognormal:25k:1.2", [9_106, 18_446, 33_882, 68_636]),
        ] {
            let plan = ContentPlan { sizes: text.parse().unwrap(), ..ContentPlan::default() };
            let pool = Pool::new(&plan, 1, b"").unwrap();
            let (mut random, mut seen) = (fastrand::Rng::with_seed(2), [0u32; 5]);
            for _ in 0..draws {
                let bytes = pool.verbatim(pool.choose(random.u64(..))).len();
                seen[bounds.partition_point(|bound| *bound <= bytes)] += 1;
            }
            let expected = f64::from(draws) / 5.0;
            let chi_square: f64 =
                seen.iter().map(|seen| (f64::from(*seen) - expected).powi(2) / expected).sum();
            // Four degrees of freedom: one seed in a thousand is worse.
            assert!(chi_square < 18.5, "{text}: {seen:?}");
        }
    }

    #[test]
    fn a_file_is_a_body_or_a_whole_message() {
        let plain = of_file(b"hello\nworld: wide");
        assert_eq!(plain.verbatim(0), b"hello\r\nworld: wide\r\n");
        assert_eq!(plain.fields(0), b"Subject: default\r\n");
        let whole = of_file(b"From: me\nSUBJECT: own\nX-Tag: a\n b\n.X: y\n\n.dot\n");
        assert_eq!(whole.fields(0), b"SUBJECT: own\r\nX-Tag: a\r\n b\r\n");
        assert_eq!(whole.verbatim(0), b".dot\r\n");
        assert_eq!(whole.dotted(0), b"..dot\r\n");
        assert!(!whole.is_eight_bit(0) && of_file(b"\xe9").is_eight_bit(0));
    }

    /// Any byte, and often one that means something.
    fn bytes() -> impl Strategy<Value = u8> {
        prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'.'), Just(b':'), any::<u8>()]
    }

    proptest! {
        #[test]
        fn any_file_becomes_clean_lines(file in proptest::collection::vec(bytes(), 0..200)) {
            let pool = of_file(&file);
            for text in [pool.verbatim(0), pool.fields(0)] {
                prop_assert!(text.is_empty() || text.ends_with(b"\r\n"));
                let ends = text.windows(2).filter(|pair| pair == b"\r\n").count();
                prop_assert_eq!(text.iter().filter(|byte| **byte == b'\r').count(), ends);
                prop_assert_eq!(text.iter().filter(|byte| **byte == b'\n').count(), ends);
            }
            prop_assert!(!pool.dotted(0).starts_with(b".\r\n"));
            prop_assert!(!pool.dotted(0).windows(5).any(|five| five == b"\r\n.\r\n"));
            prop_assert_eq!(pool.crc(0), body_crc(pool.verbatim(0)));
        }

        #[test]
        fn sums_of_pieces_are_sums(text in proptest::collection::vec(any::<u8>(), 0..20_000), at: (u16, u16)) {
            let (one, other) = (usize::from(at.0) % (text.len() + 1), usize::from(at.1) % (text.len() + 1));
            let piece = one.min(other)..one.max(other);
            prop_assert_eq!(Sums::new(&text).of(&text, &piece), body_crc(&text[piece.clone()]));
        }
    }
}
