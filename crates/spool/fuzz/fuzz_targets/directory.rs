//! A whole small spool made of any bytes: recovery ends, does not panic, and invents nothing. The input is a list of steps that
//! write segments, good ones and bad ones, with an encoder of its own, so that most inputs get past the checksums; what recovery
//! then reports is looked up in the segments with a decoder of its own, after docs/spool-format.md.
//! Its twin for the stable compiler is `any_directory_is_survived` in `src/tests/recovery.rs`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use spool::examine_bytes;

const SEGMENT_BYTES: usize = 64 << 10;
const SEGMENTS_MAX: usize = 6;
const FIRST_OFFSET: usize = 4096;

fuzz_target!(|input: &[u8]| {
    let segments = Builder::default().build(input);
    let found = examine_bytes(&segments);
    for message in &found.messages {
        assert!(holds(&segments, 2, &message.id.0, &message.envelope), "an envelope was invented");
        for mark in &message.marks {
            assert!(holds(&segments, 3, &message.id.0, mark), "a mark was invented");
        }
        let body = found.read_body(message.body).expect("a living message has a body that verifies");
        assert_eq!(body.len() as u64, message.body_bytes);
        assert!(holds(&segments, 1, &message.body.0, &body), "a body was invented");
    }
    for orphan in &found.orphans {
        assert!(holds(&segments, 2, &orphan.id.0, &orphan.envelope), "an orphan was invented");
    }
});

/// Whether some segment has a record of this kind and id whose checksums are right and whose payload is this.
fn holds(segments: &[(u32, Vec<u8>)], kind: u8, id: &[u8; 16], payload: &[u8]) -> bool {
    segments.iter().any(|(number, bytes)| {
        let Some(seed) = seed_of(*number, bytes) else { return false };
        (FIRST_OFFSET..bytes.len()).step_by(8).any(|at| {
            let Some(header) = bytes.get(at..at + 64) else { return false };
            let length = u32_at(header, 12) as usize;
            header[..4] == [0xa7, b'R', b'e', b'c']
                && u32_at(header, 4) == header_crc(seed, header)
                && header[16] == kind
                && header[32..48] == id[..]
                && bytes.get(at + 64..at + 64 + length) == Some(payload)
                && u32_at(header, 8) == crc32c::crc32c(payload)
        })
    })
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn header_crc(seed: u32, header: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c_append(seed, &header[..4]), &header[8..64])
}

/// Number, generation and salt of a segment whose header verifies.
fn seed_of(number: u32, bytes: &[u8]) -> Option<u32> {
    let header = bytes.get(..64)?;
    let crc = crc32c::crc32c_append(crc32c::crc32c(&header[..12]), &header[16..64]);
    (header[..8] == *b"spoolseg" && u32_at(header, 12) == crc && u32_at(header, 16) == number)
        .then(|| crc32c::crc32c(&[&header[16..20], &header[24..40]].concat()))
}

/// Takes steps off the input.
#[derive(Default)]
struct Builder {
    segments: Vec<(u32, Vec<u8>)>,
    at: usize,
    sequence: u64,
}

impl Builder {
    fn build(mut self, input: &[u8]) -> Vec<(u32, Vec<u8>)> {
        let mut rest = input.iter().copied();
        let mut next = || rest.next();
        self.begin(1, 1);
        while let Some(step) = next() {
            let mut word = || u16::from_le_bytes([next().unwrap_or(0), next().unwrap_or(0)]);
            match step % 16 {
                0 if self.segments.len() < SEGMENTS_MAX => self.begin(word() % 8 + 1, word()),
                1 => self.at = (self.at + 1).next_multiple_of(4096),
                2 => self.sequence = self.sequence.wrapping_add(u64::from(word() % 5)),
                3 => self.sequence = self.sequence.wrapping_sub(u64::from(word() % 5)),
                4 => self.sequence = (u64::from(word() % 3) << 44) + u64::from(word() % 64),
                5 => self.flip(word(), word()),
                6 => self.truncate(word()),
                7 => self.seal(),
                _ => self.record(step / 16, word(), word(), word()),
            }
        }
        self.segments
    }

    fn begin(&mut self, number: u16, generation: u16) {
        let mut bytes = vec![0; SEGMENT_BYTES];
        bytes[..8].copy_from_slice(b"spoolseg");
        bytes[8..12].copy_from_slice(&1_u32.to_le_bytes());
        bytes[16..20].copy_from_slice(&u32::from(number).to_le_bytes());
        bytes[20..24].copy_from_slice(&4096_u32.to_le_bytes());
        bytes[24..32].copy_from_slice(&u64::from(generation).to_le_bytes());
        bytes[32..40].copy_from_slice(&0x5a17_u64.to_le_bytes());
        bytes[40..48].copy_from_slice(&(SEGMENT_BYTES as u64).to_le_bytes());
        let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes[..12]), &bytes[16..64]);
        bytes[12..16].copy_from_slice(&crc.to_le_bytes());
        self.segments.retain(|(other, _)| *other != u32::from(number));
        self.segments.push((u32::from(number), bytes));
        self.at = FIRST_OFFSET;
    }

    fn seal(&mut self) {
        self.put(5, true, 0, 0, 0, &[], u32::MAX);
        self.sequence = self.sequence.wrapping_sub(1);
    }

    fn record(&mut self, choice: u8, ids: u16, shape: u16, length: u16) {
        let payload: Vec<u8> = (0..length % 700).map(|index| (index as u8).wrapping_mul(choice | 1)).collect();
        let distance = match choice % 4 {
            0 => u32::MAX,
            small => u32::from(small) - 1 + u32::from(ids % 3),
        };
        let kind = (shape % 4) as u8 + 1;
        self.put(kind, shape & 16 != 0, shape >> 8 & 3, ids & 15, ids >> 4 & 15, &payload, distance);
    }

    #[expect(clippy::too_many_arguments, reason = "a record has as many fields")]
    fn put(&mut self, kind: u8, last: bool, position: u16, id: u16, body: u16, payload: &[u8], distance: u32) {
        let at = self.at;
        let Some((number, bytes)) = self.segments.last_mut() else { return };
        let Some(seed) = seed_of(*number, bytes) else { return };
        let Some(place) = bytes.get_mut(at..at + 64 + payload.len()) else { return };
        let (header, room) = place.split_at_mut(64);
        header.fill(0);
        header[..4].copy_from_slice(&[0xa7, b'R', b'e', b'c']);
        header[8..12].copy_from_slice(&crc32c::crc32c(payload).to_le_bytes());
        header[12..16].copy_from_slice(&(payload.len() as u32).to_le_bytes());
        (header[16], header[17]) = (kind, u8::from(last));
        header[18..20].copy_from_slice(&position.to_le_bytes());
        header[20..24].copy_from_slice(&distance.to_le_bytes());
        header[24..32].copy_from_slice(&self.sequence.to_le_bytes());
        header[46..48].copy_from_slice(&id.to_le_bytes());
        if kind == 2 {
            header[62..64].copy_from_slice(&body.to_le_bytes());
        }
        let crc = header_crc(seed, header);
        header[4..8].copy_from_slice(&crc.to_le_bytes());
        room.copy_from_slice(payload);
        self.at = (at + 64 + payload.len()).next_multiple_of(8);
        self.sequence = self.sequence.wrapping_add(1);
    }

    fn flip(&mut self, at: u16, bits: u16) {
        if let Some((_, bytes)) = self.segments.last_mut()
            && let Some(byte) = bytes.get_mut(usize::from(at))
        {
            *byte ^= bits as u8;
        }
    }

    fn truncate(&mut self, bytes_left: u16) {
        if let Some((_, bytes)) = self.segments.last_mut() {
            bytes.truncate(usize::from(bytes_left).max(64));
        }
    }
}
