//! Idle connections: how many may be kept open in all, and which goes when there are too many.
//!
//! A connection enters when it has had nothing to do for a while, so that busy ones never come by here. Over the limit the one that has been
//! idle for longest is told to close; it is counted until it has. Nothing here fails.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use tokio::sync::oneshot;

use super::lock;

/// Idle connections of the whole process, unless it is told otherwise.
pub(super) const IDLE_CONNECTIONS_MAX: usize = 16_384;

/// Those that are idle.
#[derive(Debug)]
pub(super) struct IdleConnections {
    connections_max: usize,
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    /// Numbers in the order of entering.
    last: u64,
    /// Who is told to close.
    idle: BTreeMap<u64, oneshot::Sender<()>>,
}

/// The place of one idle connection; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    number: u64,
    told: oneshot::Receiver<()>,
    inner: Arc<Mutex<Inner>>,
}

impl IdleConnections {
    pub(super) fn new(connections_max: usize) -> Self {
        Self { connections_max, inner: Arc::default() }
    }

    /// One more connection is idle. Where that is one too many, the oldest is told.
    pub(super) fn enter(&self) -> Place {
        let (tell, told) = oneshot::channel();
        let mut inner = lock(&self.inner);
        inner.last += 1;
        let number = inner.last;
        inner.idle.insert(number, tell);
        if inner.idle.len() > self.connections_max
            && let Some((_, oldest)) = inner.idle.pop_first()
        {
            // It may have found work in the same moment, which is as good.
            let _ = oldest.send(());
        }
        Place { number, told, inner: Arc::clone(&self.inner) }
    }
}

impl Place {
    /// Ends when there are too many idle connections and this one is the oldest.
    pub(super) async fn is_lost(&mut self) {
        // The sender goes when the word is sent, or with this place.
        let _ = (&mut self.told).await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        lock(&self.inner).idle.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_goes_when_there_is_one_too_many() {
        let idle = IdleConnections::new(2);
        let (mut first, mut second) = (idle.enter(), idle.enter());
        assert!(first.told.try_recv().is_err() && second.told.try_recv().is_err());
        let mut third = idle.enter();
        assert!(first.told.try_recv().is_ok() && second.told.try_recv().is_err());
        // Who finds work makes room.
        drop(second);
        let _fourth = idle.enter();
        assert!(third.told.try_recv().is_err());
        let _fifth = idle.enter();
        assert!(third.told.try_recv().is_ok());
        drop((first, third));
        assert_eq!(lock(&idle.inner).idle.len(), 2);
    }
}
