//! Where the sink's ledger is read from: the sink itself, or a file with what it said.
//!
//! A sink that is asked is asked again until arrivals rest, where the operator wants that. Who is to blame for
//! a failure is said first: a file that cannot be read is the operator's, an answer that is none the sink's.

use std::path::PathBuf;
use std::str::FromStr;
use std::thread;
use std::time::{Duration, Instant};

use super::Ledger;

/// A busy sink may answer late, but not later than this.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(60);

/// The largest answer that is read, in bytes.
const ANSWER_BYTES_MAX: u64 = 1 << 30;

/// How long after the last question the sink is asked again, at least.
const POLL: Duration = Duration::from_millis(200);

/// Part of the time that questions may take: the sink puts its ledger together for each of them.
const POLL_SHARE: u32 = 10;

/// How long arrivals are waited for altogether.
const SETTLE_MAX: Duration = Duration::from_secs(3600);

/// Where the ledger is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// `http://HOST:PORT`, where a sink answers.
    Sink(String),
    /// A file with the answer to `GET /ledger/<run>`.
    File(PathBuf),
}

impl FromStr for Source {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_url = text.starts_with("http://");
        Ok(if is_url { Self::Sink(text.trim_end_matches('/').to_owned()) } else { Self::File(text.into()) })
    }
}

/// Why there is no ledger.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The operator named a file that is no ledger of that run.
    #[error("cannot use {path} as the ledger of run {run}: {problem}")]
    File {
        /// The file.
        path: String,
        /// The run.
        run: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The sink did not answer, or something else than a ledger.
    #[error("no ledger from {url}: {problem}; is it the HTTP address of a sink that is running?")]
    Sink {
        /// What was asked.
        url: String,
        /// What came of it.
        problem: String,
    },
}

impl Source {
    /// Reads the ledger of a run. A sink that has never heard of the run has an empty one. With `settle` the
    /// sink is asked until nothing has arrived for that long, an hour at most; the answer is whether it came
    /// to rest.
    ///
    /// # Errors
    /// [`SourceError`] where there is nothing to read.
    pub fn read(&self, run: &str, settle: Duration) -> Result<(Ledger, bool), SourceError> {
        match self {
            Self::File(path) => Ok((read_file(path, run)?, true)),
            Self::Sink(base) => settled(base, run, settle),
        }
    }
}

fn read_file(path: &std::path::Path, run: &str) -> Result<Ledger, SourceError> {
    let wrong = |problem: String| {
        let problem = format!("{problem}; write it with curl -o FILE http://SINK/ledger/{run}");
        SourceError::File { path: path.display().to_string(), run: run.to_owned(), problem }
    };
    let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    let ledger: Ledger = serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
    if ledger.run == run { Ok(ledger) } else { Err(wrong(format!("it is that of run {:?}", ledger.run))) }
}

fn settled(base: &str, run: &str, settle: Duration) -> Result<(Ledger, bool), SourceError> {
    let begun = Instant::now();
    let (mut accepted, mut since) = (None, begun);
    loop {
        let asked = Instant::now();
        let ledger = ask(base, run)?;
        if accepted != Some(ledger.accepted) {
            (accepted, since) = (Some(ledger.accepted), asked);
        }
        let rests = asked - since >= settle;
        if rests || begun.elapsed() > SETTLE_MAX {
            return Ok((ledger, rests));
        }
        pause(POLL.max(asked.elapsed() * POLL_SHARE).min(settle));
    }
}

#[expect(clippy::disallowed_methods, reason = "the command has nothing else to do meanwhile, and no runtime")]
fn pause(time: Duration) {
    thread::sleep(time);
}

fn ask(base: &str, run: &str) -> Result<Ledger, SourceError> {
    let url = format!("{base}/ledger/{run}");
    let failed = |url: &str, problem: String| SourceError::Sink { url: url.to_owned(), problem };
    let text = match fetch(&url) {
        Ok(text) => text,
        // Nothing of this run has arrived, if it is a sink that says so.
        Err(ureq::Error::StatusCode(404)) => {
            let stats = format!("{base}/stats");
            fetch(&stats).map_err(|error| failed(&stats, error.to_string()))?;
            return Ok(Ledger { run: run.to_owned(), ..Ledger::default() });
        }
        Err(error) => return Err(failed(&url, error.to_string())),
    };
    let mut ledger: Ledger =
        serde_json::from_str(&text).map_err(|error| failed(&url, format!("that is no ledger, {error}")))?;
    if ledger.cut {
        let url = format!("{url}?format=bitmap");
        let bitmap = fetch(&url).map_err(|error| failed(&url, error.to_string()))?;
        ledger.complete(&bitmap).map_err(|error| failed(&url, error.to_string()))?;
    }
    Ok(ledger)
}

fn fetch(url: &str) -> Result<String, ureq::Error> {
    let config = ureq::Agent::config_builder().timeout_global(Some(ANSWER_WAIT_MAX)).build();
    let mut answer = ureq::Agent::from(config).get(url).call()?;
    answer.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_string()
}
