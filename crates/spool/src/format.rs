//! The bytes on disk, version 1: segment header and record header, with their checksums.
//! Owns every offset; `docs/spool-format.md` draws them. Refuses to decode what does not carry the checksum of its own
//! segment and generation. Pure: no I/O, no state.

use crc32c::{crc32c, crc32c_append};

use crate::options::Rules;
use crate::types::Id;

/// Alignment of batches and of the first record, in bytes: the logical block of every disk we know, and a page.
pub(crate) const BLOCK_BYTES: usize = 4096;
/// Alignment of records in bytes.
pub(crate) const RECORD_ALIGN_BYTES: usize = 8;
/// Length of a record's header in bytes.
pub(crate) const RECORD_HEADER_BYTES: usize = 64;
/// Length of a segment's header in bytes; the rest of its block is zero.
pub(crate) const SEGMENT_HEADER_BYTES: usize = 64;
/// Version of the format.
pub(crate) const FORMAT_VERSION: u32 = 1;
/// First bytes of a segment.
pub(crate) const SEGMENT_MAGIC: [u8; 8] = *b"spoolseg";
/// First bytes of a record.
pub(crate) const RECORD_MAGIC: [u8; 4] = [0xa7, b'R', b'e', b'c'];
/// Bits of a sequence that count records within one opening of the spool; the bits above number the openings.
pub(crate) const SEQUENCE_COUNT_BITS: u32 = 44;

const BLOCK_BYTES_U32: u32 = 4096;
const COMMIT_FLAG: u8 = 1;
/// Stands for "nothing is known to be durable" in the distance field.
const DISTANCE_NONE: u32 = u32::MAX;

/// Offsets within a record's header.
mod record_at {
    pub(super) const MAGIC: usize = 0;
    pub(super) const HEADER_CRC: usize = 4;
    pub(super) const PAYLOAD_CRC: usize = 8;
    pub(super) const PAYLOAD_BYTES: usize = 12;
    pub(super) const KIND: usize = 16;
    pub(super) const FLAGS: usize = 17;
    pub(super) const POSITION: usize = 18;
    pub(super) const DISTANCE: usize = 20;
    pub(super) const SEQUENCE: usize = 24;
    pub(super) const ID: usize = 32;
    pub(super) const BODY: usize = 48;
    pub(super) const END: usize = 64;
}

/// Offsets within a segment's header.
mod segment_at {
    pub(super) const MAGIC: usize = 0;
    pub(super) const VERSION: usize = 8;
    pub(super) const HEADER_CRC: usize = 12;
    pub(super) const NUMBER: usize = 16;
    pub(super) const BLOCK: usize = 20;
    pub(super) const GENERATION: usize = 24;
    pub(super) const SALT: usize = 32;
    pub(super) const SEGMENT_BYTES: usize = 40;
    pub(super) const RESERVED: usize = 48;
    pub(super) const END: usize = 64;
}

const _: () = {
    use record_at as r;
    assert!(r::MAGIC == 0 && r::HEADER_CRC == r::MAGIC + 4 && r::PAYLOAD_CRC == r::HEADER_CRC + 4);
    assert!(r::PAYLOAD_BYTES == r::PAYLOAD_CRC + 4 && r::KIND == r::PAYLOAD_BYTES + 4);
    assert!(r::FLAGS == r::KIND + 1 && r::POSITION == r::FLAGS + 1 && r::DISTANCE == r::POSITION + 2);
    assert!(r::SEQUENCE == r::DISTANCE + 4 && r::ID == r::SEQUENCE + 8 && r::BODY == r::ID + 16);
    assert!(r::END == r::BODY + 16 && r::END == RECORD_HEADER_BYTES);
    use segment_at as s;
    assert!(s::VERSION == s::MAGIC + 8 && s::HEADER_CRC == s::VERSION + 4 && s::NUMBER == s::HEADER_CRC + 4);
    assert!(s::BLOCK == s::NUMBER + 4 && s::GENERATION == s::BLOCK + 4 && s::SALT == s::GENERATION + 8);
    assert!(s::SEGMENT_BYTES == s::SALT + 8 && s::RESERVED == s::SEGMENT_BYTES + 8);
    assert!(s::END == s::RESERVED + 16 && s::END == SEGMENT_HEADER_BYTES);
    assert!(BLOCK_BYTES_U32 as usize == BLOCK_BYTES);
    assert!(BLOCK_BYTES.is_multiple_of(RECORD_ALIGN_BYTES) && SEGMENT_HEADER_BYTES <= 512);
    assert!(RECORD_HEADER_BYTES.is_multiple_of(RECORD_ALIGN_BYTES));
};

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    /// Bytes of a message.
    Body = 1,
    /// A message: names a body.
    Envelope = 2,
    /// State of a message after an attempt.
    Mark = 3,
    /// A message is done.
    Delete = 4,
    /// Last record of a segment; its sequence is that of the record that would have followed.
    Seal = 5,
}

impl Kind {
    fn of(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Body,
            2 => Self::Envelope,
            3 => Self::Mark,
            4 => Self::Delete,
            5 => Self::Seal,
            _ => return None,
        })
    }
}

/// Start value of a segment's record checksums. It holds number, generation and a secret salt, so that what an earlier
/// use of the segment left behind, a copy of another segment, or a record forged inside a body never verifies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seed {
    value: u32,
    verify: bool,
}

/// First block of a segment, decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    /// Number of the file, as in its name.
    pub(crate) number: u32,
    /// Grows with every use of any segment, never repeats.
    pub(crate) generation: u64,
    /// Random, so that nobody outside can forge a record.
    pub(crate) salt: u64,
    /// Length of the file.
    pub(crate) segment_bytes: u64,
}

impl SegmentHeader {
    pub(crate) fn seed(&self, rules: Rules) -> Seed {
        let mut value = crc32c(&self.number.to_le_bytes());
        if rules.generation {
            value = crc32c_append(value, &self.generation.to_le_bytes());
            value = crc32c_append(value, &self.salt.to_le_bytes());
        }
        Seed { value, verify: rules.checksums }
    }

    pub(crate) fn encode(&self) -> [u8; SEGMENT_HEADER_BYTES] {
        let mut bytes = [0; SEGMENT_HEADER_BYTES];
        put(&mut bytes, segment_at::MAGIC, SEGMENT_MAGIC);
        put(&mut bytes, segment_at::VERSION, FORMAT_VERSION.to_le_bytes());
        put(&mut bytes, segment_at::NUMBER, self.number.to_le_bytes());
        put(&mut bytes, segment_at::BLOCK, BLOCK_BYTES_U32.to_le_bytes());
        put(&mut bytes, segment_at::GENERATION, self.generation.to_le_bytes());
        put(&mut bytes, segment_at::SALT, self.salt.to_le_bytes());
        put(&mut bytes, segment_at::SEGMENT_BYTES, self.segment_bytes.to_le_bytes());
        let crc = segment_crc(&bytes);
        put(&mut bytes, segment_at::HEADER_CRC, crc.to_le_bytes());
        bytes
    }

    /// `Err` says which check failed.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, &'static str> {
        let bytes: &[u8; SEGMENT_HEADER_BYTES] =
            bytes.first_chunk().ok_or("shorter than a segment header")?;
        if take::<8>(bytes, segment_at::MAGIC) != SEGMENT_MAGIC {
            return Err("no segment magic");
        }
        if u32::from_le_bytes(take(bytes, segment_at::HEADER_CRC)) != segment_crc(bytes) {
            return Err("segment header checksum differs");
        }
        if u32::from_le_bytes(take(bytes, segment_at::VERSION)) != FORMAT_VERSION {
            return Err("unknown format version");
        }
        if u32::from_le_bytes(take(bytes, segment_at::BLOCK)) as usize != BLOCK_BYTES {
            return Err("unknown block size");
        }
        Ok(Self {
            number: u32::from_le_bytes(take(bytes, segment_at::NUMBER)),
            generation: u64::from_le_bytes(take(bytes, segment_at::GENERATION)),
            salt: u64::from_le_bytes(take(bytes, segment_at::SALT)),
            segment_bytes: u64::from_le_bytes(take(bytes, segment_at::SEGMENT_BYTES)),
        })
    }
}

fn segment_crc(bytes: &[u8; SEGMENT_HEADER_BYTES]) -> u32 {
    crc32c_append(crc32c(&bytes[..segment_at::HEADER_CRC]), &bytes[segment_at::NUMBER..])
}

/// A record's header, decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RecordHeader {
    pub(crate) kind: Kind,
    /// Last record of its transaction.
    pub(crate) commit: bool,
    /// Place in the transaction, from 0.
    pub(crate) position: u16,
    pub(crate) payload_bytes: u32,
    pub(crate) payload_crc: u32,
    pub(crate) sequence: u64,
    /// Highest sequence known to be durable when this was written; `None` where nothing was synced.
    pub(crate) durable_sequence: Option<u64>,
    pub(crate) id: Id,
    /// The body that an envelope names; zero otherwise.
    pub(crate) body: Id,
}

impl RecordHeader {
    pub(crate) fn encode(&self, seed: Seed) -> [u8; RECORD_HEADER_BYTES] {
        let mut bytes = [0; RECORD_HEADER_BYTES];
        put(&mut bytes, record_at::MAGIC, RECORD_MAGIC);
        put(&mut bytes, record_at::PAYLOAD_CRC, self.payload_crc.to_le_bytes());
        put(&mut bytes, record_at::PAYLOAD_BYTES, self.payload_bytes.to_le_bytes());
        bytes[record_at::KIND] = self.kind as u8;
        bytes[record_at::FLAGS] = if self.commit { COMMIT_FLAG } else { 0 };
        put(&mut bytes, record_at::POSITION, self.position.to_le_bytes());
        put(&mut bytes, record_at::DISTANCE, self.distance().to_le_bytes());
        put(&mut bytes, record_at::SEQUENCE, self.sequence.to_le_bytes());
        put(&mut bytes, record_at::ID, self.id.0);
        put(&mut bytes, record_at::BODY, self.body.0);
        let crc = header_crc(seed, &bytes);
        put(&mut bytes, record_at::HEADER_CRC, crc.to_le_bytes());
        bytes
    }

    fn distance(&self) -> u32 {
        let distance = self.durable_sequence.map(|durable| self.sequence.saturating_sub(durable));
        distance.and_then(|distance| u32::try_from(distance).ok()).unwrap_or(DISTANCE_NONE)
    }

    /// `None` unless the bytes are a record of this very segment and generation.
    pub(crate) fn decode(bytes: &[u8], seed: Seed) -> Option<Self> {
        let bytes: &[u8; RECORD_HEADER_BYTES] = bytes.first_chunk()?;
        if take::<4>(bytes, record_at::MAGIC) != RECORD_MAGIC {
            return None;
        }
        let crc = u32::from_le_bytes(take(bytes, record_at::HEADER_CRC));
        if seed.verify && crc != header_crc(seed, bytes) {
            return None;
        }
        let sequence = u64::from_le_bytes(take(bytes, record_at::SEQUENCE));
        let distance = u32::from_le_bytes(take(bytes, record_at::DISTANCE));
        Some(Self {
            kind: Kind::of(bytes[record_at::KIND])?,
            commit: bytes[record_at::FLAGS] & COMMIT_FLAG != 0,
            position: u16::from_le_bytes(take(bytes, record_at::POSITION)),
            payload_bytes: u32::from_le_bytes(take(bytes, record_at::PAYLOAD_BYTES)),
            payload_crc: u32::from_le_bytes(take(bytes, record_at::PAYLOAD_CRC)),
            sequence,
            durable_sequence: (distance != DISTANCE_NONE)
                .then(|| sequence.saturating_sub(u64::from(distance))),
            id: Id(take(bytes, record_at::ID)),
            body: Id(take(bytes, record_at::BODY)),
        })
    }

    /// Bytes from this record to the next one.
    pub(crate) fn stride_bytes(&self) -> u64 {
        record_stride_bytes(u64::from(self.payload_bytes))
    }

    /// Whether `payload` is what was written after this header.
    pub(crate) fn verifies(&self, payload: &[u8], seed: Seed) -> bool {
        !seed.verify || crc32c(payload) == self.payload_crc
    }
}

fn header_crc(seed: Seed, bytes: &[u8; RECORD_HEADER_BYTES]) -> u32 {
    let crc = crc32c_append(seed.value, &bytes[..record_at::HEADER_CRC]);
    crc32c_append(crc, &bytes[record_at::PAYLOAD_CRC..])
}

/// Gives the record at the start of `bytes` the checksum of another segment; the payload is not touched.
pub(crate) fn reseed(bytes: &mut [u8], seed: Seed) {
    if let Some(header) = bytes.first_chunk_mut::<RECORD_HEADER_BYTES>() {
        let crc = header_crc(seed, header);
        put(header, record_at::HEADER_CRC, crc.to_le_bytes());
    }
}

/// Bytes that a record with such a payload takes up.
pub(crate) const fn record_stride_bytes(payload_bytes: u64) -> u64 {
    (RECORD_HEADER_BYTES as u64 + payload_bytes).next_multiple_of(RECORD_ALIGN_BYTES as u64)
}

/// A length on disk as a length in memory; where memory is narrower it saturates, and the allocation fails.
pub(crate) fn in_memory(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

/// Rounded up to whole blocks.
pub(crate) const fn aligned_block(bytes: usize) -> usize {
    bytes.next_multiple_of(BLOCK_BYTES)
}

/// Which opening of the spool a sequence belongs to.
pub(crate) const fn epoch_of(sequence: u64) -> u64 {
    sequence >> SEQUENCE_COUNT_BITS
}

fn put<const N: usize>(bytes: &mut [u8], at: usize, value: [u8; N]) {
    bytes[at..at + N].copy_from_slice(&value);
}

fn take<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut value = [0; N];
    value.copy_from_slice(&bytes[at..at + N]);
    value
}
