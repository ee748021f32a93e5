//! Memory for bodies: a pool of buffers that are used again, and the budget of bodies that are being received.
//!
//! Fresh memory costs a page fault every 4 KiB, which at high rates is dearer than all else that happens to a body; so a
//! buffer goes back to the pool when the last holder of the message lets go of it.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The smallest buffer, and so the unit of the pool: size class n holds buffers of 4 KiB times 2^n.
const CLASS_BYTES_MIN: usize = 4096;
const CLASSES: usize = 14;
/// Most that is reserved on the word of a client alone; a larger body is given room as it comes.
const RESERVATION_BYTES_FIRST: usize = 16 << 10;

/// Buffers that wait to be used again.
#[derive(Debug)]
pub struct BodyPool {
    classes: [Mutex<Vec<Vec<u8>>>; CLASSES],
    /// Bytes that one class may keep.
    class_bytes_max: usize,
}

impl BodyPool {
    /// A pool that keeps at most `class_bytes_max` bytes of each size.
    pub fn new(class_bytes_max: usize) -> Arc<Self> {
        Arc::new(Self { classes: Default::default(), class_bytes_max })
    }

    /// An empty buffer with room for `capacity` bytes.
    pub fn take(&self, capacity: usize) -> Vec<u8> {
        let class = class_of(capacity);
        let kept = self
            .classes
            .get(class)
            .and_then(|buffers| buffers.lock().unwrap_or_else(PoisonError::into_inner).pop());
        kept.unwrap_or_else(|| Vec::with_capacity(capacity.max(CLASS_BYTES_MIN << class.min(CLASSES - 1))))
    }

    /// Turns a buffer into shared bytes that come back to the pool by themselves.
    pub fn freeze(self: &Arc<Self>, buffer: Vec<u8>) -> Bytes {
        Bytes::from_owner(Pooled { buffer, pool: Arc::clone(self) })
    }

    /// Lets go of all buffers that wait.
    pub fn clear(&self) {
        for class in &self.classes {
            *class.lock().unwrap_or_else(PoisonError::into_inner) = Vec::new();
        }
    }

    /// Puts a buffer back, if there is room for it.
    pub fn give(&self, mut buffer: Vec<u8>) {
        // The class whose every request this buffer can serve.
        let capacity = buffer.capacity();
        let Some(class) = (0..CLASSES).rev().find(|class| CLASS_BYTES_MIN << class <= capacity) else {
            return;
        };
        buffer.clear();
        let mut buffers = self.classes[class].lock().unwrap_or_else(PoisonError::into_inner);
        if (buffers.len() + 1) * (CLASS_BYTES_MIN << class) <= self.class_bytes_max {
            buffers.push(buffer);
        }
    }
}

fn class_of(capacity: usize) -> usize {
    let units = capacity.div_ceil(CLASS_BYTES_MIN).max(1);
    units.next_power_of_two().trailing_zeros() as usize
}

struct Pooled {
    buffer: Vec<u8>,
    pool: Arc<BodyPool>,
}

impl AsRef<[u8]> for Pooled {
    fn as_ref(&self) -> &[u8] {
        &self.buffer
    }
}

impl Drop for Pooled {
    fn drop(&mut self) {
        self.pool.give(std::mem::take(&mut self.buffer));
    }
}

/// The budget of bodies in reception. Over it a connection is not read until another has finished.
#[derive(Debug)]
pub struct BodyBudget {
    room: Arc<Semaphore>,
    bytes_max: usize,
    /// Held by the one connection that may grow past its reservation while the budget is used up. One is enough: it finishes
    /// or meets its deadline, and then it is the next one's turn, so that growing bodies cannot wait for each other for ever.
    overflow: Arc<tokio::sync::Mutex<()>>,
}

/// A part of the budget, for the time of one body.
#[derive(Debug)]
pub struct Reservation {
    parts: Vec<OwnedSemaphorePermit>,
    bytes: usize,
    _overflow: Option<tokio::sync::OwnedMutexGuard<()>>,
}

impl BodyBudget {
    /// A budget of `bytes_max`.
    pub fn new(bytes_max: usize) -> Self {
        Self { room: Arc::new(Semaphore::new(bytes_max)), bytes_max, overflow: Arc::default() }
    }

    /// Room for a body of `expected` bytes, 0 if unknown, where there is some now.
    pub fn try_reserve(&self, expected: usize) -> Option<Reservation> {
        let (bytes, permits) = self.first_part(expected);
        let part = Arc::clone(&self.room).try_acquire_many_owned(permits).ok()?;
        Some(Reservation { parts: vec![part], bytes, _overflow: None })
    }

    /// Waits for room for a body of `expected` bytes, 0 if unknown.
    pub async fn reserve(&self, expected: usize) -> Reservation {
        let (bytes, permits) = self.first_part(expected);
        // The semaphore is never closed, so an error cannot come; without a permit the body is merely not counted.
        let part = Arc::clone(&self.room).acquire_many_owned(permits).await.ok();
        Reservation { parts: part.into_iter().collect(), bytes, _overflow: None }
    }

    fn first_part(&self, expected: usize) -> (usize, u32) {
        let wanted =
            if expected == 0 { RESERVATION_BYTES_FIRST } else { expected.min(RESERVATION_BYTES_FIRST) };
        let bytes = wanted.min(self.bytes_max / 2).max(1);
        (bytes, u32::try_from(bytes).unwrap_or(u32::MAX))
    }

    /// Waits until a body that has grown to `bytes` may go on growing.
    pub async fn grow(&self, reservation: &mut Reservation, bytes: usize) {
        if bytes <= reservation.bytes || reservation._overflow.is_some() {
            return;
        }
        let more = u32::try_from(reservation.bytes).unwrap_or(u32::MAX);
        if let Ok(part) = Arc::clone(&self.room).try_acquire_many_owned(more) {
            reservation.parts.push(part);
            reservation.bytes *= 2;
        } else {
            reservation._overflow = Some(Arc::clone(&self.overflow).lock_owned().await);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_buffer_comes_back_when_its_last_holder_lets_go() {
        let pool = BodyPool::new(1 << 20);
        let mut buffer = pool.take(100_000);
        assert!(buffer.capacity() >= 100_000);
        buffer.extend_from_slice(b"hello");
        let address = buffer.as_ptr();
        let bytes = pool.freeze(buffer);
        let other = bytes.slice(1..3);
        drop(bytes);
        assert_eq!(&other[..], b"el");
        drop(other);
        let again = pool.take(90_000);
        assert_eq!((again.as_ptr(), again.len()), (address, 0));
    }

    #[test]
    fn the_pool_keeps_no_more_than_its_limit() {
        let pool = BodyPool::new(8192);
        for _ in 0..10 {
            pool.give(Vec::with_capacity(4096));
        }
        pool.give(Vec::with_capacity(1 << 30));
        assert_eq!(pool.classes[0].lock().unwrap().len(), 2);
        assert!(pool.classes[CLASSES - 1].lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn over_the_budget_a_body_waits_and_one_may_overflow() {
        let budget = BodyBudget::new(1000);
        let first = budget.reserve(500).await;
        let mut second = budget.reserve(500).await;
        budget.grow(&mut second, 600).await;
        assert!(second._overflow.is_some());
        let mut third = Box::pin(budget.reserve(100));
        assert!(futures_poll(&mut third).is_none(), "no room: it must wait");
        drop(first);
        assert!(third.await.bytes == 100);
    }

    fn futures_poll<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        match std::pin::Pin::new(future).poll(&mut context) {
            std::task::Poll::Ready(output) => Some(output),
            std::task::Poll::Pending => None,
        }
    }
}
