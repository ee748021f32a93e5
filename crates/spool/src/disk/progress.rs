//! How far one write has come: what the kernel's answers mean and what is to be asked next.
//! Knows short writes, answers that only mean "again", and a write linked to a sync whose link broke. Gives up after a
//! bounded number of attempts without progress. Pure: no I/O, so every sequence of answers can be tried.

use std::io;

use rustix::io::Errno;

use super::is_transient;

/// Attempts at one write that make no progress before it counts as failed.
pub(crate) const WRITE_ATTEMPTS_MAX: u32 = 64;

/// One write, and the sync linked behind it if there is one.
#[derive(Debug)]
pub(crate) struct Progress {
    bytes: usize,
    /// A write goes on only at a multiple of this.
    align_bytes: usize,
    written: usize,
    attempts: u32,
    linked: bool,
    write_answer: Option<io::Result<usize>>,
    sync_answer: Option<io::Result<()>>,
}

/// What to do after an answer.
#[derive(Debug)]
pub(crate) enum Next {
    /// The other half of a linked pair has not answered.
    Wait,
    /// Submit what is left.
    Again,
    /// Tell whoever waits.
    Over(io::Result<()>),
}

impl Progress {
    /// `linked`: a sync follows each write, and both answer.
    pub(crate) fn new(bytes: usize, align_bytes: usize, linked: bool) -> Self {
        let (written, attempts, write_answer, sync_answer) = (0, 0, None, None);
        Self { bytes, align_bytes, written, attempts, linked, write_answer, sync_answer }
    }

    /// Bytes that need not be written again.
    pub(crate) fn written(&self) -> usize {
        self.written
    }

    /// A sync follows each write.
    pub(crate) fn is_linked(&self) -> bool {
        self.linked
    }

    /// Only the sync is left.
    pub(crate) fn is_written(&self) -> bool {
        self.written == self.bytes
    }

    /// The write has answered.
    pub(crate) fn wrote(&mut self, answer: io::Result<usize>) -> Next {
        if !self.linked {
            return self.judge_write(answer).unwrap_or(Next::Over(Ok(())));
        }
        self.write_answer = Some(answer);
        self.judge_pair()
    }

    /// The sync behind it has answered.
    pub(crate) fn synced(&mut self, answer: io::Result<()>) -> Next {
        self.sync_answer = Some(answer);
        self.judge_pair()
    }

    /// A sync that was cancelled says nothing: the write before it fell short or failed. One that failed is final, since
    /// the kernel may already have forgotten what it could not write.
    fn judge_pair(&mut self) -> Next {
        if self.write_answer.is_none() && !self.is_written() {
            return Next::Wait;
        }
        let Some(sync_answer) = self.sync_answer.take() else { return Next::Wait };
        if let Some(answer) = self.write_answer.take()
            && let Some(next) = self.judge_write(answer)
        {
            return next;
        }
        match sync_answer {
            Ok(()) => Next::Over(Ok(())),
            Err(error) if is_transient(&error) || is_cancelled(&error) => self.again(error),
            Err(error) => Next::Over(Err(error)),
        }
    }

    /// `None`: all of it is written.
    fn judge_write(&mut self, answer: io::Result<usize>) -> Option<Next> {
        match answer {
            Ok(more) if self.written + more >= self.bytes => {
                self.written = self.bytes;
                None
            }
            Ok(more) => {
                let end = self.written + more;
                let resume = end - end % self.align_bytes;
                if resume > self.written {
                    (self.written, self.attempts) = (resume, 0);
                    return Some(Next::Again);
                }
                Some(self.again(io::Error::new(io::ErrorKind::WriteZero, "the write makes no progress")))
            }
            Err(error) if is_transient(&error) || is_cancelled(&error) => Some(self.again(error)),
            Err(error) => Some(Next::Over(Err(error))),
        }
    }

    fn again(&mut self, error: io::Error) -> Next {
        self.attempts += 1;
        if self.attempts < WRITE_ATTEMPTS_MAX { Next::Again } else { Next::Over(Err(error)) }
    }
}

/// The answer of a linked operation whose predecessor did not do all of its work.
fn is_cancelled(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::CANCELED.raw_os_error())
}

#[cfg(test)]
mod tests {
    use super::*;

    const BYTES: usize = 10_000;

    fn kernel<T>(errno: Errno) -> io::Result<T> {
        Err(io::Error::from_raw_os_error(errno.raw_os_error()))
    }

    fn is_over(next: &Next) -> bool {
        matches!(next, Next::Over(Ok(())))
    }

    fn errno(next: Next) -> Option<i32> {
        let Next::Over(Err(error)) = next else { return None };
        error.raw_os_error()
    }

    #[test]
    fn a_short_write_goes_on_at_the_last_whole_block() {
        let mut direct = Progress::new(BYTES, 4096, false);
        assert!(matches!(direct.wrote(Ok(5000)), Next::Again));
        assert_eq!(direct.written(), 4096);
        assert!(is_over(&direct.wrote(Ok(BYTES - 4096))));
        let mut buffered = Progress::new(BYTES, 1, false);
        assert!(matches!(buffered.wrote(Ok(5000)), Next::Again));
        assert_eq!(buffered.written(), 5000);
        assert!(is_over(&buffered.wrote(Ok(5000))));
    }

    #[test]
    fn again_means_again_and_not_for_ever() {
        let mut progress = Progress::new(BYTES, 4096, false);
        let mut asked = 1;
        while matches!(progress.wrote(kernel(Errno::AGAIN)), Next::Again) {
            asked += 1;
        }
        assert_eq!(asked, WRITE_ATTEMPTS_MAX);
        // Falling short of a block each time is no progress either.
        let mut progress = Progress::new(BYTES, 4096, false);
        assert!((1..WRITE_ATTEMPTS_MAX).all(|_| matches!(progress.wrote(Ok(100)), Next::Again)));
        assert!(matches!(progress.wrote(Ok(100)), Next::Over(Err(_))));
        // Progress starts the count anew.
        let mut progress = Progress::new(BYTES, 1, false);
        assert!((0..BYTES - 1).all(|_| matches!(progress.wrote(Ok(1)), Next::Again)));
        assert!(is_over(&progress.wrote(Ok(1))));
    }

    #[test]
    fn a_pair_is_over_when_both_have_answered_in_either_order() {
        let mut pair = Progress::new(BYTES, 1, true);
        assert!(matches!(pair.wrote(Ok(BYTES)), Next::Wait));
        assert!(is_over(&pair.synced(Ok(()))));
        let mut pair = Progress::new(BYTES, 1, true);
        assert!(matches!(pair.synced(Ok(())), Next::Wait));
        assert!(is_over(&pair.wrote(Ok(BYTES))));
    }

    #[test]
    fn a_broken_link_is_submitted_again_with_what_is_left() {
        let mut pair = Progress::new(BYTES, 1, true);
        assert!(matches!(pair.wrote(Ok(3000)), Next::Wait));
        assert!(matches!(pair.synced(kernel(Errno::CANCELED)), Next::Again));
        assert_eq!(pair.written(), 3000);
        assert!(matches!(pair.wrote(kernel(Errno::AGAIN)), Next::Wait));
        assert!(matches!(pair.synced(kernel(Errno::CANCELED)), Next::Again));
        assert!(matches!(pair.wrote(Ok(7000)), Next::Wait));
        // Everything is written, and the sync was interrupted: only that is asked for again.
        assert!(matches!(pair.synced(kernel(Errno::INTR)), Next::Again));
        assert!(pair.is_written());
        assert!(is_over(&pair.synced(Ok(()))));
    }

    #[test]
    fn a_sync_that_succeeded_behind_a_short_write_proves_nothing() {
        let mut pair = Progress::new(BYTES, 1, true);
        assert!(matches!(pair.wrote(Ok(3000)), Next::Wait));
        assert!(matches!(pair.synced(Ok(())), Next::Again));
        assert!(matches!(pair.wrote(Ok(7000)), Next::Wait));
        assert!(is_over(&pair.synced(Ok(()))));
    }

    #[test]
    fn an_error_is_final_whichever_half_it_hits() {
        let mut pair = Progress::new(BYTES, 1, true);
        assert!(matches!(pair.wrote(kernel(Errno::NOSPC)), Next::Wait));
        assert_eq!(errno(pair.synced(kernel(Errno::CANCELED))), Some(Errno::NOSPC.raw_os_error()));
        let mut pair = Progress::new(BYTES, 1, true);
        assert!(matches!(pair.wrote(Ok(BYTES)), Next::Wait));
        assert_eq!(errno(pair.synced(kernel(Errno::IO))), Some(Errno::IO.raw_os_error()));
        let mut write = Progress::new(BYTES, 4096, false);
        assert_eq!(errno(write.wrote(kernel(Errno::IO))), Some(Errno::IO.raw_os_error()));
    }
}
