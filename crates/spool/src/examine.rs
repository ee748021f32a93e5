//! A spool seen from outside: which segments there are, what lives in them, what is torn, damaged or without a body.
//! Runs the scan and the judgement of recovery, and changes nothing: opens no file for writing, makes none, syncs none, sets
//! nothing aside. A spool that a process has open moves while it is read: what is missing then may only have moved, so a
//! verdict needs [`Access::Quiet`]. Fails when the directory cannot be read or, with that, when a process has it.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use crate::disk::{DAMAGED_DIR, Disk, Entry, File, HostDisk, read_through};
use crate::error::{OpenError, ReadError};
use crate::format::{Kind, RECORD_HEADER_BYTES, SEGMENT_HEADER_BYTES, SegmentHeader};
use crate::index::Index;
use crate::inspect::ReadOnly;
use crate::lock::{Lock, holder};
use crate::options::Rules;
use crate::recover::{
    Contents, Folded, Judgement, OpenFailure, PROGRESS_INTERVAL, Progress, Region, Scan, ScanProgress,
    Scanned, SegmentFile, Unreadable, fold, judge, scan_all, segment_name,
};
use crate::spool::verify;
use crate::types::{Id, Recovered};

/// Whether a process may have the spool open meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It may: what is read is a moving picture, and no verdict.
    Moving,
    /// It may not, and none can open the spool until the examination is dropped.
    Quiet,
}

/// One segment file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SegmentReport {
    /// As in the name of the file.
    pub number: u32,
    /// Grows with each use of any segment.
    pub generation: u64,
    /// Length of the file.
    pub bytes: u64,
    /// Body records of complete transactions, dead ones included.
    pub bodies: u64,
    /// Envelope records likewise.
    pub envelopes: u64,
    /// Mark records likewise.
    pub marks: u64,
    /// Delete records likewise.
    pub deletes: u64,
    /// Bytes of records that are alive.
    pub live_bytes: u64,
    /// Bytes of records that nothing needs any more.
    pub dead_bytes: u64,
    /// It was closed in order.
    pub sealed: bool,
    /// Writes that were cut short: nobody was promised them.
    pub torn: u64,
    /// Regions that held something that was promised.
    pub damaged: u64,
    /// Nothing was ever written in its present use.
    pub spare: bool,
}

/// Something that was promised and cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DamageReport {
    /// Number of the segment file.
    pub segment: u32,
    /// Where it begins.
    pub offset: u64,
    /// How far it reaches.
    pub bytes: u64,
    /// What is wrong.
    pub what: String,
}

/// An envelope whose body is nowhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrphanReport {
    /// The message.
    pub id: Id,
    /// The body it names.
    pub body: Id,
    /// Number of the segment file that holds the envelope.
    pub segment: u32,
    /// Where in it.
    pub offset: u64,
    /// The envelope.
    pub envelope: Bytes,
}

/// A file in `damaged/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetAside {
    /// Its name.
    pub name: String,
    /// Its length.
    pub bytes: u64,
}

/// What was found.
pub struct Examination {
    /// By number.
    pub segments: Vec<SegmentReport>,
    /// Living messages in the order of their ids.
    pub messages: Vec<Recovered>,
    /// Regions and whole segments that are damaged.
    pub damages: Vec<DamageReport>,
    /// Messages without a body.
    pub orphans: Vec<OrphanReport>,
    /// Writes that were cut short.
    pub torn: u64,
    /// Records that verified.
    pub records: u64,
    /// What recovery and reads have set aside before.
    pub set_aside: Vec<SetAside>,
    /// Names in the directory that are not ours.
    pub foreign: Vec<String>,
    /// The process that has the spool open, as its lock file names it.
    pub holder: Option<String>,
    index: Index,
    _lock: Option<Lock>,
}

/// Reads the spool in `dir` without changing anything. `progress` hears about a long scan about once a second.
///
/// # Errors
/// [`OpenError::Locked`] names the process that has the spool, when [`Access::Quiet`] was asked for;
/// [`OpenError::Host`] when the directory or a file in it cannot be read.
pub fn examine(
    dir: &Path,
    access: Access,
    progress: &(dyn Fn(ScanProgress) + Sync),
) -> Result<Examination, OpenError> {
    let host = |action: &str| {
        let (dir, action) = (dir.to_owned(), action.to_owned());
        move |source: io::Error| OpenError::Host { dir, action, source }
    };
    let contents = Contents::of(HostDisk::new(dir, false).list().map_err(host("list it"))?);
    let (lock, holder) = match access {
        Access::Quiet => (Lock::share(dir)?, None),
        Access::Moving => (None, holder(dir).map_err(host("look at its lock"))?),
    };
    let progress = Progress::new(&contents.segments, PROGRESS_INTERVAL, progress);
    let open = |name: &str| open_to_read(&dir.join(name));
    let scan = scan_all(&contents.segments, &open, Rules::ALL, &progress).map_err(host("read the log"))?;
    let set_aside = set_aside(&dir.join(DAMAGED_DIR)).map_err(host("list damaged/"))?;
    let found = Examination::of(scan);
    Ok(Examination { set_aside, foreign: contents.foreign, holder, _lock: lock, ..found })
}

/// The same for segments that are in memory, by number: for fuzzing and tests.
pub fn examine_bytes(segments: &[(u32, Vec<u8>)]) -> Examination {
    let file = |(number, bytes): &(u32, Vec<u8>)| {
        let name = segment_name(*number);
        SegmentFile { number: *number, name, bytes: bytes.len() as u64 }
    };
    let mut files: Vec<SegmentFile> = segments.iter().map(file).collect();
    files.sort_by_key(|file| file.number);
    files.dedup_by_key(|file| file.number);
    let open = |name: &str| {
        let found = segments.iter().find(|(number, _)| segment_name(*number) == name);
        found.map(|(_, bytes)| Arc::new(ReadOnly(bytes.clone())) as Arc<dyn File>).ok_or(OpenFailure::Gone)
    };
    let progress = Progress::new(&files, PROGRESS_INTERVAL, &|_| {});
    let nothing = Scan { segments: Vec::new(), unreadable: Vec::new() };
    Examination::of(scan_all(&files, &open, Rules::ALL, &progress).unwrap_or(nothing))
}

fn open_to_read(path: &Path) -> Result<Arc<dyn File>, OpenFailure> {
    match fs::File::open(path) {
        Ok(file) => Ok(Arc::new(ReadOnly(file))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(OpenFailure::Gone),
        Err(error) => Err(OpenFailure::of(error)),
    }
}

fn set_aside(damaged: &Path) -> io::Result<Vec<SetAside>> {
    if !damaged.is_dir() {
        return Ok(Vec::new());
    }
    let entries = HostDisk::new(damaged, false).list()?;
    let mut found: Vec<SetAside> =
        entries.into_iter().map(|Entry { name, bytes, .. }| SetAside { name, bytes }).collect();
    found.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(found)
}

impl Examination {
    fn of(mut scan: Scan) -> Self {
        let judgement = judge(&mut scan.segments);
        let mut segments: Vec<SegmentReport> =
            scan.segments.iter().map(|segment| report(segment, &judgement)).collect();
        let records = scan.segments.iter().map(|segment| segment.records).sum();
        let folded = fold(scan.segments, Rules::ALL);
        for segment in &mut segments {
            let live_bytes = folded.index.segment(segment.number).map_or(0, |found| found.live_bytes);
            segment.live_bytes = live_bytes;
            segment.dead_bytes = segment.dead_bytes.saturating_sub(live_bytes);
        }
        let damages = damages(&scan.unreadable, &judgement);
        let Folded { index, messages, orphans, .. } = folded;
        let orphans = orphans.into_iter().map(|orphan| OrphanReport {
            id: orphan.id,
            body: orphan.body,
            segment: orphan.segment,
            offset: u64::from(orphan.offset),
            envelope: orphan.envelope,
        });
        Self {
            segments,
            messages,
            damages,
            orphans: orphans.collect(),
            torn: judgement.torn.len() as u64,
            records,
            set_aside: Vec::new(),
            foreign: Vec::new(),
            holder: None,
            index,
            _lock: None,
        }
    }

    /// Reads a body of [`Self::messages`] and verifies it. Blocks on the disk.
    ///
    /// # Errors
    /// [`ReadError::NotFound`] when it is not there, or when the process that has the spool has used its segment again since;
    /// otherwise as [`crate::Spool::read_body`].
    pub fn read_body(&self, id: Id) -> Result<Bytes, ReadError> {
        let place = self.index.body_place(id).ok_or(ReadError::NotFound(id))?;
        let segment = self.index.segment(place.segment).ok_or(ReadError::NotFound(id))?;
        let offset = u64::from(place.offset);
        let mut record = vec![0; RECORD_HEADER_BYTES + place.payload_bytes as usize];
        let what = match read_through(&*segment.file, &mut record, offset) {
            Ok(filled) if filled < record.len() => "the file ends too early",
            Ok(_) => match verify(&record, Kind::Body, id, place, segment.seed) {
                Ok(()) => return Ok(Bytes::from(record).slice(RECORD_HEADER_BYTES..)),
                Err(what) => what,
            },
            Err(source) => return Err(ReadError::Host { id, segment: place.segment, offset, source }),
        };
        if has_moved_on(&*segment.file, &segment.header) {
            return Err(ReadError::NotFound(id));
        }
        Err(ReadError::Damaged { id, segment: place.segment, offset, what })
    }

    /// Whether anything is not as it was promised.
    pub fn is_sound(&self) -> bool {
        self.damages.is_empty() && self.orphans.is_empty()
    }
}

/// Whether the segment has begun another use since it was scanned.
fn has_moved_on(file: &dyn File, header: &SegmentHeader) -> bool {
    let mut head = [0; SEGMENT_HEADER_BYTES];
    let read = read_through(file, &mut head, 0);
    read.is_ok() && SegmentHeader::decode(&head).is_ok_and(|now| now != *header)
}

fn report(segment: &Scanned, judgement: &Judgement) -> SegmentReport {
    let number = segment.header.number;
    let count = |regions: &[Region]| regions.iter().filter(|region| region.segment == number).count() as u64;
    let [bodies, envelopes, marks, deletes] = segment.kept.each().map(|kept| kept.len() as u64);
    let (torn, damaged) = (count(&judgement.torn), count(&judgement.damaged));
    SegmentReport {
        number,
        generation: segment.header.generation,
        bytes: segment.bytes,
        bodies,
        envelopes,
        marks,
        deletes,
        live_bytes: 0,
        dead_bytes: segment.record_bytes,
        sealed: segment.sealed,
        torn,
        damaged,
        spare: segment.records == 0 && !segment.sealed && torn == 0 && damaged == 0,
    }
}

fn damages(unreadable: &[Unreadable], judgement: &Judgement) -> Vec<DamageReport> {
    let whole = unreadable.iter().map(|segment| DamageReport {
        segment: segment.number,
        offset: 0,
        bytes: 0,
        what: format!("the whole segment is unreadable: {}", segment.what),
    });
    let regions = judgement.damaged.iter().map(|region| DamageReport {
        segment: region.segment,
        offset: region.range.start,
        bytes: region.range.end - region.range.start,
        what: "records that were durable are no longer there".to_owned(),
    });
    let mut damages: Vec<DamageReport> = whole.chain(regions).collect();
    damages.sort_by_key(|damage| (damage.segment, damage.offset));
    damages
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::{Change, Envelope, Options, Spool, Transaction};
    use std::collections::BTreeMap;
    use std::os::unix::fs::FileExt;
    use std::time::SystemTime;
    use tempfile::TempDir;

    fn id(number: u8) -> Id {
        Id([number; 16])
    }

    fn run<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
    }

    /// Three messages, of which the second is marked and the third deleted.
    fn written(dir: &TempDir) -> Spool {
        let mut options = Options::new(dir.path());
        (options.segment_bytes, options.segments_spare, options.free_bytes_min) = (1 << 20, 2, 0);
        let (spool, _) = Spool::open(options).unwrap();
        for number in 1..=3 {
            let envelope =
                Envelope { id: id(number), body: id(number), bytes: Bytes::from(vec![number; 30]) };
            let body = Some((id(number), vec![Bytes::from(vec![number; 1000])]));
            let _ = run(spool.append(Transaction { body, envelopes: vec![envelope] })).unwrap();
        }
        let mark = Change::Mark { id: id(2), bytes: Bytes::from_static(b"tried") };
        run(spool.settle(vec![mark, Change::Delete { id: id(3), bytes: Bytes::new() }])).unwrap();
        spool
    }

    fn look(dir: &TempDir, access: Access) -> Result<Examination, OpenError> {
        examine(dir.path(), access, &|_| {})
    }

    /// Names, lengths and times of change of everything in the directory.
    fn picture(dir: &TempDir) -> BTreeMap<String, (u64, SystemTime)> {
        let entries = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap());
        let facts = |entry: fs::DirEntry| {
            let facts = entry.metadata().unwrap();
            (entry.file_name().into_string().unwrap(), (facts.len(), facts.modified().unwrap()))
        };
        entries.map(facts).collect()
    }

    #[test]
    fn a_spool_is_read_without_being_touched() {
        let dir = tempfile::tempdir().unwrap();
        written(&dir).close().unwrap();
        let before = picture(&dir);
        let found = look(&dir, Access::Quiet).unwrap();
        assert_eq!(found.messages.iter().map(|message| message.id).collect::<Vec<_>>(), [id(1), id(2)]);
        assert_eq!(found.messages[1].marks, [&b"tried"[..]]);
        assert_eq!(found.read_body(id(2)).unwrap(), vec![2; 1000]);
        assert!(matches!(found.read_body(id(3)), Err(ReadError::NotFound(_))));
        assert!(found.is_sound() && found.torn == 0 && found.holder.is_none());
        let (used, spare): (Vec<&SegmentReport>, Vec<&SegmentReport>) =
            found.segments.iter().partition(|segment| !segment.spare);
        assert_eq!((used.len(), spare.len()), (1, 2));
        let SegmentReport { bodies, envelopes, marks, deletes, live_bytes, dead_bytes, sealed, .. } =
            *used[0];
        assert_eq!((bodies, envelopes, marks, deletes, sealed), (3, 3, 1, 1, true));
        assert!(dead_bytes > 1000 && live_bytes > dead_bytes, "{live_bytes} and {dead_bytes}");
        assert_eq!(picture(&dir), before);
    }

    #[test]
    fn a_process_that_has_the_spool_is_named_and_bars_a_quiet_look() {
        let dir = tempfile::tempdir().unwrap();
        let spool = written(&dir);
        let own = std::process::id().to_string();
        assert!(look(&dir, Access::Quiet).err().unwrap().to_string().contains(&own));
        let found = look(&dir, Access::Moving).unwrap();
        assert_eq!((found.holder.as_deref(), found.messages.len()), (Some(&*own), 2));
        spool.close().unwrap();
        let quiet = look(&dir, Access::Quiet).unwrap();
        assert!(look(&dir, Access::Quiet).is_ok(), "readers share it");
        let refused = Lock::take(dir.path()).unwrap_err().to_string();
        assert!(refused.contains("spool verify"), "{refused}");
        drop(quiet);
        Lock::take(dir.path()).unwrap();
    }

    #[test]
    fn damage_is_named_with_its_place_and_nothing_is_set_aside() {
        let dir = tempfile::tempdir().unwrap();
        written(&dir).close().unwrap();
        let used = look(&dir, Access::Quiet).unwrap();
        let number = used.segments.iter().find(|segment| !segment.spare).unwrap().number;
        let path = dir.path().join(segment_name(number));
        let file = fs::OpenOptions::new().write(true).open(path).unwrap();
        file.write_all_at(b"!", 4096 + 100).unwrap();
        // What was found before it broke does not make it whole.
        assert!(matches!(used.read_body(id(1)), Err(ReadError::Damaged { offset: 4096, .. })));
        let found = look(&dir, Access::Quiet).unwrap();
        assert!(!found.is_sound());
        assert_eq!((found.damages[0].segment, found.damages[0].offset), (number, 4096));
        assert_eq!((found.orphans[0].id, found.messages.len()), (id(1), 1));
        assert!(!dir.path().join(DAMAGED_DIR).exists());
    }
}
