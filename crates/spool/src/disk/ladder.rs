//! Rings for every kernel from 5.10 on: the newest set of flags that it takes.
//! Refuses a ring whose kernel may drop answers. Any error but "unknown flags" is handed on as it came.

use std::io;

use io_uring::IoUring;

/// Sets of flags for the ring, newest first, with the kernel that has them.
pub(crate) const RUNGS: [(Rung, &str); 3] = [
    (Rung::SingleIssuer, "SINGLE_ISSUER|DEFER_TASKRUN|SUBMIT_ALL (6.1)"),
    (Rung::Cooperative, "COOP_TASKRUN|SUBMIT_ALL (5.19)"),
    (Rung::Plain, "none (5.10)"),
];

/// One set of flags.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Rung {
    SingleIssuer,
    Cooperative,
    Plain,
}

/// A ring with the newest set of flags that the kernel takes, and their names.
pub(crate) fn build_ring(entries: u32) -> io::Result<(IoUring, &'static str)> {
    for (rung, name) in RUNGS {
        if let Some(ring) = unless_invalid(build_rung(rung, entries))? {
            return Ok((ring, name));
        }
    }
    Err(io::ErrorKind::InvalidInput.into())
}

/// `InvalidInput` where the kernel does not know the flags.
pub(crate) fn build_rung(rung: Rung, entries: u32) -> io::Result<IoUring> {
    let mut builder = IoUring::builder();
    match rung {
        Rung::SingleIssuer => drop(builder.setup_single_issuer().setup_defer_taskrun().setup_submit_all()),
        Rung::Cooperative => drop(builder.setup_coop_taskrun().setup_submit_all()),
        Rung::Plain => {}
    }
    let ring = builder.build(entries)?;
    // Answers that do not fit the queue must wait in the kernel; one that is lost would keep its batch for ever.
    if ring.params().is_feature_nodrop() { Ok(ring) } else { Err(io::ErrorKind::Unsupported.into()) }
}

fn unless_invalid(built: io::Result<IoUring>) -> io::Result<Option<IoUring>> {
    match built {
        Ok(ring) => Ok(Some(ring)),
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(None),
        Err(error) => Err(error),
    }
}
