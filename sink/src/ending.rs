//! When the sink is to end by itself: after so many messages or so many sessions (`--max-messages`,
//! `--max-sessions`).
//!
//! Counts only where one of them was asked for. What others were sending at the moment when the limit was
//! reached may be accepted, too, so the report may say a few more than were asked for, never fewer.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::watch;

/// Counts towards the end.
#[derive(Debug)]
pub(crate) struct Ending {
    messages_left: AtomicU64,
    sessions_left: AtomicU64,
    reached: watch::Sender<bool>,
}

impl Ending {
    /// `None` where the sink is to go on until it is stopped.
    pub(crate) fn new(messages_max: Option<u64>, sessions_max: Option<u64>) -> Option<Self> {
        if messages_max.is_none() && sessions_max.is_none() {
            return None;
        }
        Some(Self {
            messages_left: AtomicU64::new(messages_max.unwrap_or(u64::MAX)),
            sessions_left: AtomicU64::new(sessions_max.unwrap_or(u64::MAX)),
            reached: watch::Sender::new(messages_max == Some(0) || sessions_max == Some(0)),
        })
    }

    /// One more message has been accepted.
    pub(crate) fn message(&self) {
        self.count(&self.messages_left);
    }

    /// One more session has ended.
    pub(crate) fn session(&self) {
        self.count(&self.sessions_left);
    }

    /// Waits until a limit is reached.
    pub(crate) async fn reached(&self) {
        // The sender lives as long as this does.
        let _ = self.reached.subscribe().wait_for(|reached| *reached).await;
    }

    fn count(&self, left: &AtomicU64) {
        let before = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        if before == Ok(1) {
            self.reached.send_replace(true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_reached(ending: &Ending) -> bool {
        *ending.reached.borrow()
    }

    #[test]
    fn either_limit_ends_it_and_counting_goes_on_without_harm() {
        let ending = Ending::new(Some(2), Some(1)).unwrap();
        ending.message();
        assert!(!is_reached(&ending));
        ending.session();
        assert!(is_reached(&ending));
        (0..5).for_each(|_| ending.message());
        let ending = Ending::new(Some(2), None).unwrap();
        (0..9).for_each(|_| ending.session());
        ending.message();
        assert!(!is_reached(&ending));
        ending.message();
        assert!(is_reached(&ending));
        assert!(Ending::new(None, None).is_none());
    }
}
