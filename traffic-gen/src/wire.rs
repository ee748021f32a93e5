//! Writing several pieces at once: envelope, header and body of a message leave in one call to the kernel where
//! it takes them.
//!
//! Nothing is copied. What the kernel does not take is offered again from where it stopped; an error is the
//! caller's to judge.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Poll, ready};

use tokio::io::AsyncWrite;

use crate::flight::Flight;
use crate::tls::Stream;
use crate::worker::Worker;

/// How a write went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Went {
    /// The kernel took everything at the first call.
    AtOnce,
    InParts,
}

/// Writes all parts, as many at once as the kernel takes.
pub(crate) async fn write_all(
    stream: &mut Stream,
    parts: [&[u8]; 4],
    flight: &Flight,
    worker: &Worker,
) -> io::Result<Went> {
    let total: usize = parts.iter().map(|part| part.len()).sum();
    let (mut written, mut went) = (0, Went::AtOnce);
    std::future::poll_fn(|context| {
        while written < total {
            let (slices, count) = rest(&parts, written);
            let bytes = ready!(Pin::new(&mut *stream).poll_write_vectored(context, &slices[..count]))?;
            if bytes == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            written += bytes;
            if written < total {
                went = Went::InParts;
            }
            flight.touch(worker.second());
        }
        Poll::Ready(Ok(went))
    })
    .await
}

/// What is left of the parts after so many bytes, and in how many pieces.
fn rest<'p>(parts: &[&'p [u8]; 4], mut written: usize) -> ([IoSlice<'p>; 4], usize) {
    let mut slices = [IoSlice::new(&[]); 4];
    let mut count = 0;
    for part in parts {
        let skip = written.min(part.len());
        written -= skip;
        if skip < part.len() {
            slices[count] = IoSlice::new(&part[skip..]);
            count += 1;
        }
    }
    (slices, count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_to_write_is_exact_at_every_byte() {
        let parts: [&[u8]; 4] = [b"ab", b"", b"cde", b"f"];
        let whole = parts.concat();
        for written in 0..=whole.len() {
            let (slices, count) = rest(&parts, written);
            let left: Vec<u8> = slices[..count].iter().flat_map(|slice| slice.iter().copied()).collect();
            assert_eq!(left, whole[written..]);
            assert!(slices[..count].iter().all(|slice| !slice.is_empty()));
        }
    }
}
