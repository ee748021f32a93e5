//! The log on a disk that works, on one that is full, and with many who write.

#![allow(clippy::unwrap_used)]
use super::*;
use crate::clock::UnixMs;
use crate::envelope::MessageId;
use crate::maillog::Kind;
use std::fs;
use std::os::unix::fs::PermissionsExt;

fn record(number: u8) -> Record<'static> {
    Record::new(Kind::Delivery, MessageId([number; 16]), UnixMs(1_700_000_000_000))
}

fn patient() -> LogLimits {
    LogLimits { flush_delay_max: Duration::from_secs(3600), ..LogLimits::default() }
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

fn lines(dir: &Path) -> Vec<String> {
    let text: String = files(dir).iter().map(|path| fs::read_to_string(path).unwrap()).collect();
    text.lines().map(str::to_owned).collect()
}

fn ids(dir: &Path) -> Vec<String> {
    let id = |line: String| {
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        value["id"].as_str().unwrap()[..2].to_owned()
    };
    lines(dir).into_iter().map(id).collect()
}

fn counter(log: &MailLog, name: &str) -> u64 {
    let metrics = crate::metrics::Metrics::new();
    let source = log.clone();
    metrics.register_source(Box::new(move || source.samples()));
    metrics.json(name)[name]["value"].as_u64().unwrap()
}

#[test]
fn what_was_noted_before_stands_before_what_is_written_through() {
    let dir = tempfile::tempdir().unwrap();
    let log = MailLog::open(dir.path(), patient()).unwrap();
    log.note(record(1));
    log.note(record(2));
    assert_eq!(lines(dir.path()).len(), 0);
    let mut line = Vec::new();
    record(3).render(&mut line);
    log.write_through(&line).unwrap();
    assert_eq!(ids(dir.path()), ["01", "02", "03"]);
    log.note(record(4));
    log.close();
    assert_eq!(ids(dir.path()), ["01", "02", "03", "04"]);
    let mode = fs::metadata(&files(dir.path())[0]).unwrap().permissions().mode();
    assert_eq!(mode & 0o222, 0, "a finished file is read-only");
}

#[test]
fn the_thread_brings_a_lone_record_to_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let limits = LogLimits { flush_delay_max: Duration::from_millis(1), ..LogLimits::default() };
    let log = MailLog::open(dir.path(), limits).unwrap();
    log.note(record(1));
    while lines(dir.path()).is_empty() {
        std::thread::yield_now();
    }
    log.close();
}

#[test]
fn a_full_buffer_is_written_by_whoever_fills_it() {
    let dir = tempfile::tempdir().unwrap();
    let limits = LogLimits { buffer_bytes_max: 1500, ..patient() };
    let log = MailLog::with_pen(Pen::new(dir.path(), Segment::create(dir.path()).unwrap()), limits);
    for number in 0..20 {
        log.note(record(number));
    }
    assert!(lines(dir.path()).len() >= 15);
    log.close();
    assert_eq!(lines(dir.path()).len(), 20);
    assert_eq!(counter(&log, "log_records_dropped_total"), 0);
}

#[test]
fn a_file_is_finished_when_the_next_lines_would_make_it_too_long() {
    let dir = tempfile::tempdir().unwrap();
    let log = MailLog::open(dir.path(), LogLimits { segment_bytes_max: 1000, ..patient() }).unwrap();
    for _ in 0..10 {
        log.write_through(&[&[b'x'; 399][..], b"\n"].concat()).unwrap();
    }
    log.close();
    let lengths: Vec<u64> = files(dir.path()).iter().map(|path| fs::metadata(path).unwrap().len()).collect();
    assert_eq!(lengths, [800; 5]);
}

#[test]
fn an_old_file_is_finished_with_the_next_write_and_an_unused_log_leaves_none() {
    let dir = tempfile::tempdir().unwrap();
    let limits = LogLimits { segment_age_max: Some(Duration::ZERO), ..patient() };
    let log = MailLog::with_pen(Pen::new(dir.path(), Segment::create(dir.path()).unwrap()), limits);
    log.write_through(b"1\n").unwrap();
    log.write_through(b"2\n").unwrap();
    log.close();
    assert_eq!(files(dir.path()).len(), 2);
    let empty = tempfile::tempdir().unwrap();
    MailLog::open(empty.path(), patient()).unwrap().close();
    assert_eq!(files(empty.path()).len(), 0);
}

#[test]
fn a_full_disk_loses_no_line_that_was_written_through_and_the_rest_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    let limits = LogLimits { buffer_bytes_max: 2000, ..patient() };
    let log = MailLog::with_pen(Pen::new(dir.path(), Segment::broken(Path::new("/dev/full"))), limits);
    let mut batch = Vec::new();
    record(1).render(&mut batch);
    record(2).render(&mut batch);
    let error = log.write_through(&batch).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    for _ in 0..100 {
        log.note(record(3));
    }
    let dropped = counter(&log, "log_records_dropped_total");
    assert!(dropped > 0 && dropped < 100, "{dropped}");
    assert!(counter(&log, "log_write_errors_total") > 1);
    lock(&log.shared.file).segment = None;
    log.write_through(&[]).unwrap();
    let mut wanted = vec!["01".to_owned(), "02".to_owned()];
    wanted.resize(2 + 100 - usize::try_from(dropped).unwrap(), "03".to_owned());
    assert_eq!(ids(dir.path()), wanted);
    log.close();
}

#[test]
fn many_threads_write_whole_lines() {
    let dir = tempfile::tempdir().unwrap();
    let limits = LogLimits { buffer_bytes_max: 10_000, segment_bytes_max: 100_000, ..patient() };
    let log = MailLog::open(dir.path(), limits).unwrap();
    std::thread::scope(|scope| {
        for number in 0..4 {
            let log = &log;
            scope.spawn(move || {
                let mut line = Vec::new();
                record(number).render(&mut line);
                for round in 0..250 {
                    log.note(record(number));
                    if round % 10 == 0 {
                        log.write_through(&line).unwrap();
                    }
                }
            });
        }
    });
    log.close();
    let ids = ids(dir.path());
    for number in ["00", "01", "02", "03"] {
        assert_eq!(ids.iter().filter(|id| *id == number).count(), 275);
    }
}

#[test]
fn a_folder_that_cannot_be_used_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    fs::write(&path, "").unwrap();
    let error = MailLog::open(&path.join("logs"), patient()).unwrap_err().to_string();
    assert!(error.contains("file/logs") && error.contains("name another"), "{error}");
}
