//! Spools that version 1 of the format wrote, sound and broken, opened by the spool of today.
//!
//! `tests/fixtures/v1/NAME/spool` is what was on the disk, `expected.json` beside it what must be found in it. They were written
//! once, by the release that they are named after (`examples/make-fixtures.rs`), and are never made again.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use serde::Deserialize;
use spool::{Change, Envelope, Id, Options, Recovery, Spool, Transaction, scan_segment_bytes};
use tempfile::TempDir;

const NAMES: [&str; 6] = ["clean", "flipped", "foreign", "recycled", "torn", "truncated"];
const RECORD_MAGIC: [u8; 4] = [0xa7, b'R', b'e', b'c'];
/// No fixture has this id.
const NEW_ID: Id = Id([0xff; 16]);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Expected {
    #[expect(dead_code, reason = "for the reader")]
    what: String,
    messages: Vec<Message>,
    /// Id and contents.
    deletes: Vec<(String, String)>,
    torn: u64,
    damaged: u64,
    orphans: u64,
    /// At the second opening: regions are found again, files that were set aside are gone.
    torn_again: u64,
    damaged_again: u64,
    /// Names in `damaged/` with their lengths in bytes.
    aside: BTreeMap<String, u64>,
    foreign: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Message {
    id: String,
    envelope: String,
    mark: Option<String>,
    body: String,
    /// The body is this text over and over, up to its length.
    body_repeats: String,
    body_bytes: usize,
}

impl Message {
    fn contents(&self) -> Bytes {
        self.body_repeats.bytes().cycle().take(self.body_bytes).collect()
    }
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/v1")
}

/// A copy that may be changed.
struct Fixture {
    expected: Expected,
    folder: TempDir,
}

impl Fixture {
    fn copy(name: &str) -> Self {
        let from = fixtures().join(name);
        let expected = fs::read_to_string(from.join("expected.json")).unwrap();
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        copy_folder(&from.join("spool"), &folder.path().join("spool"));
        Self { expected: serde_json::from_str(&expected).unwrap(), folder }
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("spool")
    }

    fn open(&self) -> (Spool, Recovery) {
        let mut options = Options::new(self.log());
        options.segment_bytes = 16 << 10;
        options.segments_spare = 1;
        options.free_bytes_min = 0;
        Spool::open(options).unwrap()
    }

    /// Every message, its envelope, mark and body, and nothing else.
    fn assert_messages(&self, spool: &Spool, recovery: &Recovery) {
        let ids: Vec<&str> = self.expected.messages.iter().map(|message| message.id.as_str()).collect();
        let found: Vec<String> = recovery.messages.iter().map(|message| message.id.to_string()).collect();
        assert_eq!(found, ids);
        for (found, message) in recovery.messages.iter().zip(&self.expected.messages) {
            assert_eq!(found.body.to_string(), message.body);
            assert_eq!(found.envelope, message.envelope);
            assert_eq!(found.marks, message.mark.iter().map(String::as_str).collect::<Vec<_>>());
            assert_eq!(found.body_bytes, message.body_bytes as u64);
            assert_eq!(spool.read_body(found.body).unwrap(), message.contents());
        }
    }

    fn assert_set_aside(&self) {
        let found: BTreeMap<String, u64> = match fs::read_dir(self.log().join("damaged")) {
            Ok(entries) => entries
                .map(Result::unwrap)
                .map(|entry| (entry.file_name().into_string().unwrap(), entry.metadata().unwrap().len()))
                .collect(),
            Err(_) => BTreeMap::new(),
        };
        assert_eq!(found, self.expected.aside);
    }
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

/// Opens it twice, then writes to it, and opens it once more.
fn check(name: &str) {
    let fixture = Fixture::copy(name);
    let expected = &fixture.expected;
    let (spool, recovery) = fixture.open();
    fixture.assert_messages(&spool, &recovery);
    let deletes: Vec<(String, String)> = recovery
        .deletes
        .iter()
        .map(|(id, bytes)| (id.to_string(), String::from_utf8(bytes.to_vec()).unwrap()))
        .collect();
    assert_eq!(deletes, expected.deletes);
    let Recovery { torn, damaged, orphans, foreign, .. } = &recovery;
    assert_eq!((*torn, *damaged, *orphans), (expected.torn, expected.damaged, expected.orphans));
    assert_eq!(*foreign, expected.foreign);
    fixture.assert_set_aside();
    spool.close().unwrap();

    let (spool, recovery) = fixture.open();
    fixture.assert_messages(&spool, &recovery);
    assert_eq!((recovery.torn, recovery.damaged), (expected.torn_again, expected.damaged_again));
    assert_eq!((recovery.orphans, &recovery.foreign), (expected.orphans, &expected.foreign));
    fixture.assert_set_aside();
    check_writing(&fixture, spool, &recovery);
}

/// A new message comes, and an old one goes.
fn check_writing(fixture: &Fixture, spool: Spool, before: &Recovery) {
    let body = Bytes::from_static(b"written today");
    let envelopes = vec![Envelope { id: NEW_ID, body: NEW_ID, bytes: Bytes::new() }];
    let transaction = Transaction { body: Some((NEW_ID, vec![body.clone()])), envelopes };
    let _ = block_on(spool.append(transaction)).unwrap();
    let gone = before.messages[0].id;
    block_on(spool.settle(vec![Change::Delete { id: gone, bytes: Bytes::new() }])).unwrap();
    spool.close().unwrap();

    let (spool, after) = fixture.open();
    let mut ids: Vec<Id> = before.messages.iter().map(|message| message.id).collect();
    ids.retain(|id| *id != gone);
    ids.push(NEW_ID);
    assert_eq!(after.messages.iter().map(|message| message.id).collect::<Vec<_>>(), ids);
    assert_eq!(spool.read_body(NEW_ID).unwrap(), body);
}

#[test]
fn a_sound_log_is_read() {
    check("clean");
}

#[test]
fn a_torn_tail_is_dropped() {
    check("torn");
}

#[test]
fn a_flipped_bit_costs_its_transaction_and_is_kept_for_the_operator() {
    check("flipped");
}

#[test]
fn segments_cut_short_give_what_is_left() {
    check("truncated");
}

#[test]
fn what_earlier_uses_left_behind_is_not_believed() {
    // There must be something not to believe: more records lie there than count.
    let folder = fixtures().join("recycled/spool");
    let remains = fs::read_dir(folder).unwrap().filter(|entry| {
        let bytes = fs::read(entry.as_ref().unwrap().path()).unwrap();
        let found = scan_segment_bytes(&bytes).unwrap();
        let lie_there =
            bytes[4096..].chunks_exact(8).filter(|chunk| chunk.starts_with(&RECORD_MAGIC)).count();
        found.records > 0 && lie_there as u64 > found.records + u64::from(found.sealed)
    });
    assert!(remains.count() > 0);
    check("recycled");
}

#[test]
fn files_of_others_are_left_alone() {
    check("foreign");
    let fixture = Fixture::copy("foreign");
    assert!(fixture.log().join("00000099.segment.preparing").exists());
    drop(fixture.open());
    assert!(!fixture.log().join("00000099.segment.preparing").exists(), "what was never finished goes");
    for name in ["README", "1.segment", "attic/00000001.segment"] {
        let original = fixtures().join("foreign/spool").join(name);
        assert_eq!(fs::read(fixture.log().join(name)).unwrap(), fs::read(original).unwrap());
    }
}

#[test]
fn every_fixture_has_its_test() {
    let mut found: Vec<String> = fs::read_dir(fixtures())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    found.sort();
    assert_eq!(found, NAMES);
}
