//! What is left of the allowances of a day: the messages that a source which warms up may still send before midnight (UTC).
//!
//! The counts outlive the process. They are written ahead, a hundredth of an allowance at a time, so that a crash forfeits at most
//! that much and never lets a day exceed its allowance. A file that cannot be read counts as if today's allowances were used up:
//! a reputation is lost by sending too much, not by a day's pause.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use crate::clock::UnixMs;
use crate::config::Ceiling;

/// The file's name, beside the segments.
const FILE_NAME: &str = "warm-up.json";
/// Parts in which an allowance is written ahead: as many durable writes a day for each source.
const PARTS: u32 = 100;
/// Bytes of the file that are read; more than ten thousand sources do not fill them.
const FILE_BYTES_MAX: u64 = 4 << 20;
const DAY_MS: u64 = 86_400_000;

/// Why nothing can be taken.
#[derive(Debug)]
pub enum Untaken {
    /// The allowance of the day is used up.
    UsedUp,
    /// The count could not be written; a later attempt may.
    Unwritten(io::Error),
}

/// The counts of this node.
#[derive(Clone, Debug)]
pub struct Allowances {
    counts: Arc<Mutex<Counts>>,
    path: Arc<Path>,
}

#[derive(Debug, Default)]
struct Counts {
    sources: BTreeMap<String, Count>,
    /// The file could not be read on this day, so nobody knows what was sent on it.
    unknown_day: Option<u64>,
}

/// What one source has sent on one day.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Count {
    day: u64,
    sent: u32,
    /// As the file has it: no less than `sent`.
    written: u32,
}

/// The file.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Saved {
    version: u32,
    /// By name of the source.
    sources: BTreeMap<String, SavedCount>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SavedCount {
    /// Counted from 1970.
    day: u64,
    /// Messages that may have been sent on it.
    sent: u32,
}

const VERSION: u32 = 1;

impl Allowances {
    /// What the file in the folder of the spool says, if there is one.
    pub fn open(spool_dir: &Path, now: UnixMs) -> Self {
        let path: PathBuf = spool_dir.join(FILE_NAME);
        let counts = match read(&path) {
            Ok(sources) => Counts { sources, unknown_day: None },
            Err(error) => {
                let file = path.display();
                tracing::error!(
                    %error,
                    "{file} cannot be read: sources that warm up send nothing more today; remove it to begin the day's counts anew"
                );
                Counts { sources: BTreeMap::new(), unknown_day: Some(now.0 / DAY_MS) }
            }
        };
        Self { counts: Arc::new(Mutex::new(counts)), path: path.into() }
    }

    /// Takes one message of what `source` may send on the day of `ceiling`.
    ///
    /// # Errors
    /// There is none left, or the count could not be made durable.
    pub async fn take(&self, source: &str, ceiling: &Ceiling) -> Result<(), Untaken> {
        // Whoever waits here waits for a durable write that it would need itself.
        let mut counts = self.counts.lock().await;
        let known = counts.sources.get(source).copied().filter(|count| count.day == ceiling.day);
        let count = known.unwrap_or_else(|| Count { day: ceiling.day, ..Count::default() });
        if count.sent >= ceiling.messages || counts.unknown_day == Some(ceiling.day) {
            return Err(Untaken::UsedUp);
        }
        let mut taken = Count { sent: count.sent + 1, ..count };
        if taken.sent > taken.written {
            let ahead = count.sent.saturating_add((ceiling.messages / PARTS).max(1));
            taken.written = ahead.min(ceiling.messages);
            let mut sources = counts.sources.clone();
            sources.insert(source.to_owned(), taken);
            self.write(saved(&sources, |count| count.written, ceiling.day))
                .await
                .map_err(Untaken::Unwritten)?;
        }
        counts.sources.insert(source.to_owned(), taken);
        Ok(())
    }

    /// Writes the exact counts, when nothing more is sent: what was written ahead is not forfeited by an orderly stop.
    ///
    /// # Errors
    /// The file cannot be written; it stays as it was.
    pub async fn close(&self) -> io::Result<()> {
        let mut counts = self.counts.lock().await;
        let Some(day) = counts.sources.values().map(|count| count.day).max() else { return Ok(()) };
        if counts.sources.values().all(|count| count.sent == count.written) {
            return Ok(());
        }
        self.write(saved(&counts.sources, |count| count.sent, day)).await?;
        counts.sources.values_mut().for_each(|count| count.written = count.sent);
        Ok(())
    }

    async fn write(&self, saved: Saved) -> io::Result<()> {
        let path = Arc::clone(&self.path);
        let written = tokio::task::spawn_blocking(move || replace(&path, &saved)).await;
        written.map_err(io::Error::other)?
    }
}

/// The counts of the day and what came after it; days that are over are forgotten.
fn saved(sources: &BTreeMap<String, Count>, sent: impl Fn(&Count) -> u32, day: u64) -> Saved {
    let of_today = sources.iter().filter(|(_, count)| count.day >= day);
    let sources = of_today
        .map(|(name, count)| (name.clone(), SavedCount { day: count.day, sent: sent(count) }))
        .collect();
    Saved { version: VERSION, sources }
}

fn read(path: &Path) -> io::Result<BTreeMap<String, Count>> {
    let bytes = match fs::metadata(path) {
        Ok(found) if found.len() > FILE_BYTES_MAX => {
            return Err(io::Error::other(format!("it is larger than {FILE_BYTES_MAX} bytes")));
        }
        Ok(_) => fs::read(path)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(error) => return Err(error),
    };
    let saved: Saved = serde_json::from_slice(&bytes)?;
    if saved.version != VERSION {
        let reason = format!("it has version {}, and only {VERSION} is known", saved.version);
        return Err(io::Error::other(reason));
    }
    let count = |saved: SavedCount| Count { day: saved.day, sent: saved.sent, written: saved.sent };
    Ok(saved.sources.into_iter().map(|(name, saved)| (name, count(saved))).collect())
}

/// Another file first, so that a power cut leaves either the old counts or the new ones.
fn replace(path: &Path, saved: &Saved) -> io::Result<()> {
    let whole = path.with_added_extension("new");
    let mut file = File::create(&whole)?;
    file.write_all(&serde_json::to_vec(saved)?)?;
    file.sync_all()?;
    fs::rename(&whole, path)?;
    let folder = path.parent().ok_or_else(|| io::Error::other("it lies in no folder"))?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const NOON: UnixMs = UnixMs(20_000 * DAY_MS + DAY_MS / 2);

    fn of_day(day: u64, messages: u32) -> Ceiling {
        Ceiling { messages, day, ends_ms: (day + 1) * DAY_MS }
    }

    /// Takes until there is no more.
    async fn take_all(allowances: &Allowances, source: &str, ceiling: &Ceiling) -> u32 {
        let mut taken = 0;
        while allowances.take(source, ceiling).await.is_ok() {
            taken += 1;
        }
        taken
    }

    #[tokio::test]
    async fn a_day_is_not_exceeded_however_often_the_process_dies() {
        let folder = tempfile::tempdir().unwrap();
        let ceiling = of_day(20_000, 500);
        let (mut sent, mut deaths) = (0, 0);
        loop {
            let allowances = Allowances::open(folder.path(), NOON);
            let before = sent;
            for _ in 0..7 {
                sent += u32::from(allowances.take("a", &ceiling).await.is_ok());
            }
            if sent == before {
                break;
            }
            deaths += 1;
        }
        assert!(sent <= 500, "{sent}");
        assert!(sent + deaths * 500 / PARTS >= 500, "{sent} sent; each of {deaths} deaths may forfeit five");
    }

    #[tokio::test]
    async fn an_orderly_stop_forfeits_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let ceiling = of_day(20_000, 1000);
        let first = Allowances::open(folder.path(), NOON);
        for _ in 0..3 {
            first.take("a", &ceiling).await.unwrap();
        }
        first.take("b", &ceiling).await.unwrap();
        first.close().await.unwrap();
        let second = Allowances::open(folder.path(), NOON);
        assert_eq!(take_all(&second, "a", &ceiling).await, 997);
        assert_eq!(take_all(&second, "b", &ceiling).await, 999);
        assert_eq!(take_all(&second, "a", &of_day(20_001, 40)).await, 40, "the next day is its own");
    }

    #[tokio::test]
    async fn a_file_that_cannot_be_read_ends_the_day() {
        for damage in ["", "{\"version\":1", "{\"version\":2,\"sources\":{}}", "[]"] {
            let folder = tempfile::tempdir().unwrap();
            fs::write(folder.path().join(FILE_NAME), damage).unwrap();
            let allowances = Allowances::open(folder.path(), NOON);
            assert_eq!(take_all(&allowances, "a", &of_day(20_000, 5)).await, 0, "{damage:?}");
            assert_eq!(take_all(&allowances, "a", &of_day(20_001, 5)).await, 5, "{damage:?}");
        }
    }

    #[tokio::test]
    async fn what_cannot_be_written_is_not_sent() {
        let folder = tempfile::tempdir().unwrap();
        let allowances = Allowances::open(&folder.path().join("gone"), NOON);
        let taken = allowances.take("a", &of_day(20_000, 5)).await;
        assert!(matches!(taken, Err(Untaken::Unwritten(_))), "{taken:?}");
    }
}
