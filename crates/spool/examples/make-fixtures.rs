//! Makes the fixtures of the format that this source writes: small spools, sound and broken, each with a file that says what must
//! be found in it.
//! `cargo run -p spool --example make-fixtures -- DIR` writes `DIR/NAME/{spool,expected.json}`; DIR must not exist.
//!
//! It is for the next version of the format. Those of a released version are never made again: they are what that version wrote,
//! and salts are random, so that no two runs give the same bytes. What is expected follows from what was appended and what was
//! broken here, not from what recovery says about it.
#![expect(clippy::print_stdout, reason = "a command-line tool")]
#![expect(clippy::unwrap_used, reason = "an example stops at the first error")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use spool::{Backend, Change, Envelope, Id, Options, Spool, Transaction, scan_segment_bytes};

const SEGMENT_BYTES: u64 = 16 << 10;
const BLOCK_BYTES: usize = 4096;
/// Offset of the generation in a segment's header.
const GENERATION_AT: usize = 24;
const RECORD_MAGIC: [u8; 4] = [0xa7, b'R', b'e', b'c'];
/// Offsets in a record's header; of an id only the second half is used here.
const KIND_AT: usize = 16;
const NUMBER_AT: usize = 40;
const ENVELOPE: u8 = 2;
const DELETE: u8 = 4;
/// Numbers of bodies begin here, so that no id is that of a body and of a message.
const BODY_NUMBERS: u64 = 1000;
/// A body of these lengths makes a transaction of one block, or of two.
const ONE_BLOCK: usize = 3_500;
const TWO_BLOCKS: usize = 7_000;
/// Segments in use again before `recycled` is taken.
const RECYCLED_MIN: u64 = 6;
/// Housekeeping that changes nothing for so long has nothing to do.
const REST: Duration = Duration::from_millis(300);

fn main() {
    let out = PathBuf::from(std::env::args().nth(1).expect("usage: make-fixtures DIR"));
    fs::create_dir(&out).unwrap();
    clean(&out);
    torn(&out);
    flipped(&out);
    truncated(&out);
    recycled(&out);
    foreign(&out);
    println!("fixtures in {}", out.display());
}

/// Everything that the format knows, closed in order.
fn clean(out: &Path) {
    let mut maker = Maker::new(out, "clean");
    let shared = maker.append(TWO_BLOCKS, 3);
    let alone = maker.append(ONE_BLOCK, 1);
    maker.append(0, 1);
    maker.append(ONE_BLOCK, 2);
    maker.mark(shared[0], "first attempt failed");
    maker.mark(shared[0], "second attempt failed");
    maker.rewrite(shared[1], shared[1]);
    maker.rewrite(alone[0], shared[0]);
    maker.delete(shared[2], "250 2.0.0 delivered");
    maker.close();
    maker.finish("Everything that the format knows, closed in order.", json!({}));
}

/// The process was killed, and the last write reached the disk in part: the middle of a body is missing.
fn torn(out: &Path) {
    let mut maker = Maker::new(out, "torn");
    let first = maker.append(ONE_BLOCK, 2);
    maker.append(ONE_BLOCK, 1);
    maker.mark(first[1], "first attempt failed");
    let kept = maker.append(ONE_BLOCK, 1);
    let unfinished = maker.append(TWO_BLOCKS, 2);
    maker.abandon();
    let (segment, offset) = maker.body_place(unfinished[0]);
    assert_eq!(
        segment,
        maker.body_place(kept[0]).0,
        "the segment is kept for what stands before the torn tail"
    );
    maker.edit(&segment, |bytes| bytes[offset + 2_048..offset + BLOCK_BYTES].fill(0));
    maker.forget(&unfinished);
    maker.finish(
        "Killed during its last write, of which the disk has a part. Nobody was told that it was done.",
        json!({ "torn": 1, "torn_again": 1 }),
    );
}

/// One bit of a body changed at rest. Its messages are gone, but for the one whose envelope was written again elsewhere, which is
/// known and has no body.
fn flipped(out: &Path) {
    let mut maker = Maker::new(out, "flipped");
    maker.append(ONE_BLOCK, 1);
    let hurt = maker.append(ONE_BLOCK, 2);
    for _ in 0..3 {
        maker.append(ONE_BLOCK, 1);
    }
    maker.rewrite(hurt[1], hurt[1]);
    maker.close();
    let (segment, offset) = maker.body_place(hurt[0]);
    maker.edit(&segment, |bytes| bytes[offset + 300] ^= 4);
    // From the end of the record before, padding included, to the envelope behind the body, which verifies.
    let start = maker.first_end(&segment);
    let region = maker.aside_name(&segment, start);
    let bytes = offset + ONE_BLOCK.next_multiple_of(8) - start;
    maker.forget(&hurt);
    maker.finish(
        "A bit of a body changed after it was durable.",
        json!({ "damaged": 1, "damaged_again": 1, "orphans": 1, "aside": { region: bytes } }),
    );
}

/// A segment that ends in the middle of its second record, and one that ends in its header.
fn truncated(out: &Path) {
    let mut maker = Maker::new(out, "truncated");
    maker.append(ONE_BLOCK, 1);
    let cut = maker.append(ONE_BLOCK, 1);
    let cut_too = maker.append(ONE_BLOCK, 1);
    let gone: Vec<u64> = (0..3).flat_map(|_| maker.append(ONE_BLOCK, 1)).collect();
    maker.append(ONE_BLOCK, 1);
    maker.close();
    let (short, offset) = maker.body_place(cut[0]);
    let (shorter, _) = maker.body_place(gone[0]);
    assert!(short != shorter && maker.body_place(cut_too[0]).0 == short);
    maker.edit(&short, |bytes| bytes.truncate(offset + 100));
    maker.edit(&shorter, |bytes| bytes.truncate(30));
    let start = maker.first_end(&short);
    let region = maker.aside_name(&short, start);
    let bytes = offset + 100 - start;
    [cut, cut_too, gone].iter().for_each(|messages| maker.forget(messages));
    maker.finish(
        "Two segments cut short: one behind its first message, one in its header.",
        json!({ "damaged": 2, "damaged_again": 1, "aside": { region: bytes, shorter: 30 } }),
    );
}

/// Segments used again and again, and then a crash: behind the valid records lie those of earlier generations, whose deletes have
/// been wiped.
fn recycled(out: &Path) {
    let mut maker = Maker::new(out, "recycled");
    maker.append(ONE_BLOCK, 2);
    loop {
        let round: Vec<u64> = (0..3).flat_map(|_| maker.append(ONE_BLOCK, 1)).collect();
        maker.mark(round[2], "first attempt failed");
        if maker.spool().stats().segments_recycled >= RECYCLED_MIN && maker.could_raise_the_dead() {
            break;
        }
        round.iter().for_each(|message| maker.delete(*message, "250 2.0.0 delivered"));
    }
    maker.abandon();
    // Deletes in segments that were wiped since are not handed back.
    let deletes: Vec<Value> = maker.deletes_on_disk();
    maker.finish(
        "Killed after its segments had been used several times; the remains of earlier uses lie behind the records.",
        json!({ "deletes": deletes }),
    );
}

/// Files of somebody else beside a sound log.
fn foreign(out: &Path) {
    let mut maker = Maker::new(out, "foreign");
    let messages: Vec<u64> = (0..4).flat_map(|_| maker.append(ONE_BLOCK, 1)).collect();
    let (first, _) = maker.body_place(messages[0]);
    let copy = fs::read(maker.log().join(first)).unwrap();
    maker.delete(messages[0], "250 2.0.0 delivered");
    maker.close();
    let log = maker.log();
    fs::write(log.join("README"), "Not ours.\n").unwrap();
    fs::write(log.join("1.segment"), "Not by our naming.\n").unwrap();
    fs::write(log.join("00000099.segment.preparing"), [0; 100]).unwrap();
    fs::create_dir(log.join("attic")).unwrap();
    fs::write(log.join("attic").join("00000001.segment"), "Not in our directory.\n").unwrap();
    let bytes = copy.len();
    fs::write(log.join("00000077.segment"), copy).unwrap();
    maker.finish(
        "Files of somebody else beside a sound log, and a copy of one of its segments under another number.",
        json!({
            "damaged": 1,
            "aside": { "00000077.segment": bytes },
            "foreign": ["1.segment", "README", "attic"],
        }),
    );
}

struct Known {
    body: u64,
    body_bytes: usize,
    envelope: String,
    mark: Option<String>,
}

/// A spool that is being made, and what it must give.
struct Maker {
    folder: PathBuf,
    spool: Option<Spool>,
    runtime: tokio::runtime::Runtime,
    next: u64,
    messages: BTreeMap<u64, Known>,
    deletes: BTreeMap<u64, String>,
}

fn id(number: u64) -> Id {
    Id(u128::from(number).to_be_bytes())
}

fn text(body: u64) -> String {
    format!("this is body {body}; ")
}

impl Maker {
    fn new(out: &Path, name: &str) -> Self {
        let folder = out.join(name);
        let mut options = Options::new(folder.join("spool"));
        options.segment_bytes = SEGMENT_BYTES;
        options.segments_spare = 1;
        options.backend = Backend::Threads;
        options.free_bytes_min = 0;
        let (spool, _) = Spool::open(options).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        Self {
            folder,
            spool: Some(spool),
            runtime,
            next: 1,
            messages: BTreeMap::new(),
            deletes: BTreeMap::new(),
        }
    }

    fn log(&self) -> PathBuf {
        self.folder.join("spool")
    }

    fn spool(&self) -> &Spool {
        self.spool.as_ref().unwrap()
    }

    /// One transaction; returns the numbers of its messages.
    fn append(&mut self, body_bytes: usize, messages: u64) -> Vec<u64> {
        let numbers: Vec<u64> = (self.next..self.next + messages).collect();
        self.next += messages;
        let body = BODY_NUMBERS + numbers[0];
        let contents: Bytes = text(body).bytes().cycle().take(body_bytes).collect();
        let envelope = |number: &u64| format!("envelope of message {number}");
        let envelopes = numbers
            .iter()
            .map(|number| Envelope { id: id(*number), body: id(body), bytes: envelope(number).into() })
            .collect();
        let transaction = Transaction { body: Some((id(body), vec![contents])), envelopes };
        let _ = self.runtime.block_on(self.spool().append(transaction)).unwrap();
        for number in &numbers {
            let known = Known { body, body_bytes, envelope: envelope(number), mark: None };
            self.messages.insert(*number, known);
        }
        numbers
    }

    fn settle(&self, change: Change) {
        self.runtime.block_on(self.spool().settle(vec![change])).unwrap();
    }

    fn mark(&mut self, number: u64, mark: &str) {
        self.settle(Change::Mark { id: id(number), bytes: mark.to_owned().into() });
        self.messages.get_mut(&number).unwrap().mark = Some(mark.to_owned());
    }

    /// Gives it another envelope and the body of `other`.
    fn rewrite(&mut self, number: u64, other: u64) {
        let other = &self.messages[&other];
        let (body, body_bytes) = (other.body, other.body_bytes);
        let envelope = format!("envelope of message {number}, written again");
        self.settle(Change::Rewrite { id: id(number), body: id(body), bytes: envelope.clone().into() });
        let mark = self.messages[&number].mark.clone();
        self.messages.insert(number, Known { body, body_bytes, envelope, mark });
    }

    fn delete(&mut self, number: u64, reply: &str) {
        self.settle(Change::Delete { id: id(number), bytes: reply.to_owned().into() });
        self.messages.remove(&number);
        self.deletes.insert(number, reply.to_owned());
    }

    /// What was broken is not expected any more.
    fn forget(&mut self, numbers: &[u64]) {
        numbers.iter().for_each(|number| assert!(self.messages.remove(number).is_some()));
    }

    fn close(&mut self) {
        self.spool.take().unwrap().close().unwrap();
    }

    /// Keeps the files as they are once housekeeping rests, as kill -9 would.
    fn abandon(&mut self) {
        let mut kept = self.contents();
        loop {
            std::thread::park_timeout(REST);
            let later = self.contents();
            if kept == later {
                break;
            }
            kept = later;
        }
        self.close();
        fs::remove_dir_all(self.log()).unwrap();
        fs::create_dir(self.log()).unwrap();
        kept.iter().for_each(|(name, bytes)| fs::write(self.log().join(name), bytes).unwrap());
    }

    fn contents(&self) -> BTreeMap<String, Vec<u8>> {
        self.segments().map(|name| (name.clone(), fs::read(self.log().join(&name)).unwrap())).collect()
    }

    fn segments(&self) -> impl Iterator<Item = String> + use<> {
        let entries = fs::read_dir(self.log()).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.ends_with(".segment"))
    }

    /// The segment in which a message's body lies, and the offset of its bytes.
    fn body_place(&self, message: u64) -> (String, usize) {
        let wanted = text(self.messages[&message].body);
        let found = self.segments().find_map(|name| {
            let bytes = fs::read(self.log().join(&name)).unwrap();
            let at = bytes.windows(wanted.len()).position(|window| window == wanted.as_bytes());
            at.map(|at| (name, at))
        });
        found.unwrap()
    }

    fn edit(&self, segment: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let path = self.log().join(segment);
        let mut bytes = fs::read(&path).unwrap();
        change(&mut bytes);
        fs::write(path, bytes).unwrap();
    }

    /// The name under which a damaged region is kept.
    fn aside_name(&self, segment: &str, offset: usize) -> String {
        let bytes = fs::read(self.log().join(segment)).unwrap();
        let generation = u64::from_le_bytes(bytes[GENERATION_AT..GENERATION_AT + 8].try_into().unwrap());
        format!("{}-{generation:016x}-{offset:010}.bytes", &segment[..8])
    }

    /// Where the first transaction of a segment ends, if it has one message.
    fn first_end(&self, segment: &str) -> usize {
        let (number, known) = self.messages.iter().find(|(n, _)| self.body_place(**n).0 == segment).unwrap();
        let (_, offset) = self.body_place(*number);
        let envelope = 64 + known.envelope.len().next_multiple_of(8);
        offset + known.body_bytes.next_multiple_of(8) + envelope
    }

    /// Deletes whose records verify.
    fn deletes_on_disk(&self) -> Vec<Value> {
        let valid = self.segments().flat_map(|name| self.records(&name).0);
        let deletes = valid.filter(|record| record.kind == DELETE);
        let deletes: BTreeMap<u64, &String> =
            deletes.map(|record| (record.number, &self.deletes[&record.number])).collect();
        deletes.iter().map(|(number, reply)| json!([id(*number).to_string(), reply])).collect()
    }

    /// Whether behind valid records there lies an envelope that was deleted, and whose delete is nowhere any more.
    fn could_raise_the_dead(&self) -> bool {
        let deletes = self.deletes_on_disk();
        let is_forgotten = |record: &Record| {
            let name = id(record.number).to_string();
            record.kind == ENVELOPE
                && !self.messages.contains_key(&record.number)
                && deletes.iter().all(|delete| delete[0] != name.as_str())
        };
        self.segments().any(|name| {
            let (valid, remains) = self.records(&name);
            !valid.is_empty() && remains.iter().any(is_forgotten)
        })
    }

    /// The records of a segment: those that verify, which come first, and those of earlier uses.
    fn records(&self, segment: &str) -> (Vec<Record>, Vec<Record>) {
        let bytes = fs::read(self.log().join(segment)).unwrap();
        let found = scan_segment_bytes(&bytes).unwrap();
        let is_magic = |at: &usize| bytes[*at..].starts_with(&RECORD_MAGIC);
        let mut valid: Vec<Record> =
            (BLOCK_BYTES..bytes.len()).step_by(8).filter(is_magic).map(|at| Record::at(&bytes, at)).collect();
        let mut remains = valid.split_off(usize::try_from(found.records).unwrap());
        remains.drain(..usize::from(found.sealed));
        (valid, remains)
    }

    fn finish(self, what: &str, differs: Value) {
        let messages: Vec<Value> = self
            .messages
            .iter()
            .map(|(number, known)| {
                json!({
                    "id": id(*number).to_string(),
                    "envelope": known.envelope,
                    "mark": known.mark,
                    "body": id(known.body).to_string(),
                    "body_repeats": text(known.body),
                    "body_bytes": known.body_bytes,
                })
            })
            .collect();
        let deletes: Vec<Value> =
            self.deletes.iter().map(|(number, reply)| json!([id(*number).to_string(), reply])).collect();
        let mut expected = json!({
            "what": what,
            "messages": messages,
            "deletes": deletes,
            "torn": 0,
            "torn_again": 0,
            "damaged": 0,
            "damaged_again": 0,
            "orphans": 0,
            "aside": {},
            "foreign": [],
        });
        for (key, value) in differs.as_object().unwrap() {
            expected[key] = value.clone();
        }
        let lock = self.log().join("lock");
        if lock.exists() {
            fs::remove_file(lock).unwrap();
        }
        fs::write(self.folder.join("expected.json"), format!("{expected:#}\n")).unwrap();
    }
}

/// What may be a record, of whichever use of its segment.
struct Record {
    kind: u8,
    number: u64,
}

impl Record {
    fn at(bytes: &[u8], at: usize) -> Self {
        let number = bytes[at + NUMBER_AT..at + NUMBER_AT + 8].try_into().unwrap();
        Self { kind: bytes[at + KIND_AT], number: u64::from_be_bytes(number) }
    }
}
