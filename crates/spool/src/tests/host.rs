//! Real files on the file system of the build directory: every back end and mode that the host allows.

use std::path::{Path, PathBuf};
use std::process::Command;

use bytes::Bytes;
use tempfile::TempDir;

use crate::{
    AppendError, Backend, Change, Durability, Envelope, Health, Id, OpenError, Options, ReadError, Spool,
    Transaction, WriteMode, probe,
};

/// Beside the test's own executable: a real disk, unlike a temporary directory may be.
fn directory() -> TempDir {
    let executable = std::env::current_exe().unwrap();
    tempfile::tempdir_in(executable.parent().unwrap()).unwrap()
}

fn options(directory: &TempDir) -> Options {
    options_in(&directory.path().join("spool"))
}

fn options_in(directory: &Path) -> Options {
    let mut options = Options::new(directory);
    options.segment_bytes = 1 << 20;
    options.segments_spare = 3;
    options.batch_bytes_max = 128 << 10;
    options.free_bytes_min = 0;
    options
}

fn id(number: u64) -> Id {
    Id(u128::from(number).to_be_bytes())
}

fn body(number: u64) -> Bytes {
    let bytes = 100 + (number as usize * 7919) % 9000;
    format!("this is body {number}; ").bytes().cycle().take(bytes).collect()
}

fn transaction(number: u64) -> Transaction {
    let contents = body(number);
    let parts = vec![contents.slice(..50), contents.slice(50..)];
    let envelope = |id| Envelope { id, body: self::id(number), bytes: Bytes::from_static(b"to somebody") };
    Transaction {
        body: Some((id(number), parts)),
        envelopes: vec![envelope(id(number)), envelope(id(number + 1))],
    }
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap().block_on(future)
}

/// Appends from many tasks, deletes the first message of every third transaction, marks the second of each.
async fn fill(spool: &Spool, transactions: u64) {
    let tasks: Vec<_> = (0..transactions)
        .map(|number| {
            let spool = spool.clone();
            tokio::spawn(async move {
                let number = number * 2;
                assert_eq!(spool.append(transaction(number)).await.unwrap().durability, spool.durability());
                let mut changes =
                    vec![Change::Mark { id: id(number + 1), bytes: Bytes::from_static(b"tried") }];
                if number.is_multiple_of(3) {
                    changes.push(Change::Delete { id: id(number), bytes: Bytes::from_static(b"done") });
                }
                spool.settle(changes).await.unwrap();
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
}

fn check(spool: &Spool, recovered: &crate::Recovery, transactions: u64) {
    let deleted = (0..transactions).filter(|number| (number * 2).is_multiple_of(3)).count();
    assert_eq!(recovered.messages.len(), transactions as usize * 2 - deleted);
    assert_eq!((recovered.damaged, recovered.torn, recovered.orphans), (0, 0, 0));
    for message in &recovered.messages {
        let number = u128::from_be_bytes(message.body.0) as u64;
        let read = spool.read_body(message.body).unwrap();
        assert_eq!(read, body(number));
        assert_eq!(message.body_bytes, read.len() as u64);
        let marked = u128::from_be_bytes(message.id.0) % 2 == 1;
        assert_eq!(message.marks.len(), usize::from(marked));
    }
}

fn survives_closing(change: impl Fn(&mut Options)) -> Option<String> {
    let directory = directory();
    let mut options = options(&directory);
    change(&mut options);
    let (spool, recovery) = match Spool::open(options.clone()) {
        Ok(opened) => opened,
        Err(OpenError::Uring { reason, .. }) => return Some(reason),
        Err(error) => panic!("{error}"),
    };
    assert!(recovery.messages.is_empty());
    run(fill(&spool, 600));
    let stats = spool.stats();
    assert!(stats.appends == 600 && stats.segments > 1 && stats.segments_made > 0, "{stats:?}");
    assert!(stats.batches < stats.records, "group commit: {stats:?}");
    spool.close().unwrap();
    let (spool, recovery) = Spool::open(options).unwrap();
    check(&spool, &recovery, 600);
    None
}

#[test]
fn uring_direct() {
    if let Some(reason) = survives_closing(|options| options.backend = Backend::Uring) {
        eprintln!("skipped: {reason}");
    }
}

#[test]
fn uring_buffered() {
    let skipped = survives_closing(|options| {
        options.backend = Backend::Uring;
        options.mode = WriteMode::Buffered;
    });
    if let Some(reason) = skipped {
        eprintln!("skipped: {reason}");
    }
}

#[cfg(feature = "tokio-uring")]
#[test]
fn tokio_uring_direct() {
    if let Some(reason) = survives_closing(|options| options.backend = Backend::TokioUring) {
        eprintln!("skipped: {reason}");
    }
}

#[test]
fn threads_direct() {
    assert_eq!(survives_closing(|options| options.backend = Backend::Threads), None);
}

#[test]
fn threads_buffered() {
    let skipped = survives_closing(|options| {
        options.backend = Backend::Threads;
        options.mode = WriteMode::Buffered;
        options.durability = Durability::Written;
    });
    assert_eq!(skipped, None);
}

#[test]
fn a_second_process_is_refused_and_told_who_is_first() {
    let directory = directory();
    let (spool, _) = Spool::open(options(&directory)).unwrap();
    let refused = Spool::open(options(&directory)).unwrap_err();
    assert!(refused.to_string().contains(&format!("process {}", std::process::id())), "{refused}");
    drop(spool);
    Spool::open(options(&directory)).unwrap();
}

#[test]
fn large_transactions_pass_through_batches_and_segments_of_their_own() {
    let directory = directory();
    let (spool, _) = Spool::open(options(&directory)).unwrap();
    for (number, bytes) in [(10, 300 << 10), (20, 1 << 20), (30, 3 << 20)] {
        let contents: Bytes = (0..bytes).map(|at| (at % 251) as u8).collect();
        let envelopes = vec![Envelope { id: id(number), body: id(number), bytes: Bytes::new() }];
        let transaction = Transaction { body: Some((id(number), vec![contents.clone()])), envelopes };
        let _ = run(spool.append(transaction)).unwrap();
        assert_eq!(spool.read_body(id(number)).unwrap(), contents);
    }
    spool.close().unwrap();
    let (spool, recovery) = Spool::open(options(&directory)).unwrap();
    assert_eq!(recovery.messages.len(), 3);
    assert_eq!(spool.read_body(id(30)).unwrap().len(), 3 << 20);
}

#[test]
fn what_was_submitted_is_written_when_the_last_handle_goes() {
    let directory = directory();
    let (spool, _) = Spool::open(options(&directory)).unwrap();
    let _ = run(spool.append(transaction(2))).unwrap();
    drop(spool.submit(vec![Change::Delete { id: id(2), bytes: Bytes::new() }]).unwrap());
    drop(spool);
    let (_, recovery) = Spool::open(options(&directory)).unwrap();
    assert_eq!(recovery.messages.iter().map(|message| message.id).collect::<Vec<_>>(), [id(3)]);
}

#[test]
fn a_thorough_compaction_gives_back_what_the_dead_took() {
    let directory = directory();
    let (spool, _) = Spool::open(options(&directory)).unwrap();
    for number in 0..400 {
        let _ = run(spool.append(transaction(number * 2))).unwrap();
    }
    let doomed = (0..800).filter(|number| number % 20 != 0);
    let deletes = doomed.map(|number| Change::Delete { id: id(number), bytes: Bytes::new() });
    run(spool.settle(deletes.collect())).unwrap();
    // Some of it may have been done unasked already, but not down to this.
    let compacted = spool.compact().unwrap();
    let after = spool.stats();
    assert_eq!((after.messages, after.segments_spare), (40, 3), "{after:?}");
    assert!(after.segments <= 2 && compacted.segments_after <= 5, "{compacted:?} {after:?}");
    // One that was under way unasked may have left its copies among the deletes, to be moved once more. Then nothing is left to be gained.
    spool.compact().unwrap();
    assert_eq!(spool.compact().unwrap().bytes_copied, 0);
    spool.close().unwrap();
    let (spool, recovery) = Spool::open(options(&directory)).unwrap();
    assert_eq!(recovery.messages.len(), 40);
    for message in &recovery.messages {
        assert_eq!(spool.read_body(message.body).unwrap(), body(u128::from_be_bytes(message.body.0) as u64));
    }
}

#[test]
fn reading_says_what_is_wrong_and_where() {
    let directory = directory();
    let (spool, _) = Spool::open(options(&directory)).unwrap();
    assert!(matches!(spool.read_body(id(2)), Err(ReadError::NotFound(_))));
    let _ = run(spool.append(transaction(2))).unwrap();
    let segments = std::fs::read_dir(directory.path().join("spool")).unwrap();
    for path in
        segments.map(|entry| entry.unwrap().path()).filter(|p| p.extension().is_some_and(|e| e == "segment"))
    {
        flip(&path);
    }
    let error = spool.read_body(id(2)).unwrap_err();
    assert!(
        error.to_string().contains("segment 0000000") && error.to_string().contains("offset 4096"),
        "{error}"
    );
    assert_eq!(spool.stats().damaged, 1);
}

/// Damages the first record's payload.
fn flip(path: &PathBuf) {
    use std::os::unix::fs::FileExt;
    let file = std::fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    file.write_all_at(b"!", 4096 + 64 + 5).unwrap();
}

#[test]
fn a_floor_above_what_is_free_refuses_bodies_from_the_start() {
    let directory = directory();
    let mut options = options(&directory);
    options.free_bytes_min = u64::MAX;
    let (spool, _) = Spool::open(options).unwrap();
    assert!(matches!(spool.health(), Health::DiskFloor { .. }));
    let refused = run(spool.append(transaction(2))).unwrap_err();
    assert!(matches!(refused, AppendError::Full { .. }), "{refused}");
    run(spool.settle(vec![Change::Delete { id: id(2), bytes: Bytes::new() }])).unwrap();
}

/// Mounts an overlay with these options until it is dropped; the error says why that cannot be done here.
struct Overlay(TempDir);

impl Overlay {
    fn mount(options: &str) -> Result<Self, String> {
        let root = directory();
        let path = |name: &str| root.path().join(name).display().to_string();
        for name in ["lower", "upper", "work", "merged"] {
            std::fs::create_dir(path(name)).unwrap();
        }
        let options = format!(
            "lowerdir={},upperdir={},workdir={}{options}",
            path("lower"),
            path("upper"),
            path("work")
        );
        let mut mount = Command::new("mount");
        mount.args(["-t", "overlay", "overlay", "-o", &options, &path("merged")]);
        let output = mount.output().map_err(|error| error.to_string())?;
        if output.status.success() {
            Ok(Self(root))
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    }

    fn merged(&self) -> PathBuf {
        self.0.path().join("merged")
    }
}

impl Drop for Overlay {
    fn drop(&mut self) {
        // Lazily: the kernel takes a closed ring apart in its own time and holds the ring's files until then.
        let _ = Command::new("umount").arg("--lazy").arg(self.merged()).status();
    }
}

#[test]
fn an_overlay_that_ignores_syncs_is_refused() {
    for (options, volatile) in [("", false), (",volatile", true)] {
        let overlay = match Overlay::mount(options) {
            Ok(overlay) => overlay,
            Err(reason) => {
                eprintln!("skipped: an overlay{options} cannot be mounted: {reason}");
                continue;
            }
        };
        let directory = overlay.merged().join("spool");
        let mut options = options_in(&directory);
        options.backend = Backend::Threads;
        match Spool::open(options) {
            Err(refused) if volatile => {
                assert!(refused.to_string().contains("option volatile"), "{refused}");
            }
            Ok((spool, _)) if !volatile => {
                assert_eq!(spool.stats().file_system, "overlayfs");
                let _ = run(spool.append(transaction(2))).unwrap();
            }
            Ok(_) => panic!("a volatile overlay was taken"),
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn options_out_of_range_are_named() {
    let directory = directory();
    let mut options = options(&directory);
    options.segment_bytes = 4096;
    let error = Spool::open(options).unwrap_err().to_string();
    assert!(error.contains("segment_bytes is 4096"), "{error}");
}

#[test]
fn the_probe_explains_itself_and_leaves_nothing_behind() {
    let directory = directory();
    let found = probe(directory.path());
    assert!(found.uring_refused.is_none() == (found.backend() == "uring"), "{found:?}");
    assert!(!found.file_system.is_empty());
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
}
