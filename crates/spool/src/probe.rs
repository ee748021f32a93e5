//! What this host allows: io_uring, O_DIRECT, registered buffers, and on which file system.
//! Each step that is refused is explained in words an operator can act on. Tries for real, in the directory that will be
//! used: sets up a ring, asks which operations it knows, and makes one write durable. Leaves nothing behind.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

use crate::disk::ladder::build_ring;
use crate::disk::uring::register_buffers;
use crate::disk::{AlignedBuffer, Barrier, Disk, HostDisk, Lane, Load, UringLane, Waker, Write};
use crate::file_system;
use crate::format::BLOCK_BYTES;

const PROBE_ENTRIES: u32 = 8;
const PROBE_NAME: &str = "probe.preparing";
/// Size of the buffer whose registration is tried: one batch of the default size.
const PROBE_BUFFER_BYTES: usize = 4 << 20;

/// What was found. A reason is `None` where the thing works.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Probe {
    /// Why io_uring cannot be used here.
    pub uring_refused: Option<String>,
    /// Why O_DIRECT cannot be used here.
    pub direct_refused: Option<String>,
    /// Why batch buffers are not registered with the ring; the ring works without.
    pub buffers_refused: Option<String>,
    /// The set-up flags that the kernel took, and the version that has them.
    pub ring_flags: &'static str,
    /// "ext4", "xfs", "tmpfs", "overlayfs", "btrfs", or the magic number.
    pub file_system: String,
}

impl Probe {
    /// "uring" or "threads": what [`crate::Backend::Auto`] takes.
    pub fn backend(&self) -> &'static str {
        if self.uring_refused.is_none() { "uring" } else { "threads" }
    }
}

/// Tries everything in `dir`, which must exist and be writable. Takes milliseconds.
pub fn probe(dir: &Path) -> Probe {
    let direct_refused = direct_refusal(dir);
    let (ring_flags, uring_refused, buffers_refused) = match try_ring() {
        Ok((flags, buffers)) => (flags, try_write(dir, direct_refused.is_none()).err(), buffers),
        Err(reason) => ("", Some(reason), None),
    };
    Probe { uring_refused, direct_refused, buffers_refused, ring_flags, file_system: file_system::name(dir) }
}

fn direct_refusal(dir: &Path) -> Option<String> {
    let path = dir.join(PROBE_NAME);
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::DIRECT;
    let tried =
        rustix::fs::open(&path, flags, Mode::RUSR | Mode::WUSR).map_err(io::Error::from).and_then(|file| {
            let block = AlignedBuffer::new(BLOCK_BYTES)?;
            Ok(rustix::io::pwrite(&file, &block, 0)?)
        });
    // If it cannot be removed now, the next opening of the spool removes it.
    let _ = fs::remove_file(&path);
    match tried {
        Ok(_) => None,
        Err(error) if error.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => {
            Some("the file system does not take O_DIRECT".to_owned())
        }
        Err(error) => Some(format!("a write with O_DIRECT failed: {error}")),
    }
}

/// Flags of the ring, and why its buffers are not registered.
fn try_ring() -> Result<(&'static str, Option<String>), String> {
    let (ring, flags) = build_ring(PROBE_ENTRIES).map_err(|error| setup_refusal(&error))?;
    let mut operations = io_uring::Probe::new();
    if ring.submitter().register_probe(&mut operations).is_ok() {
        let needed = [
            ("read", io_uring::opcode::Read::CODE),
            ("write", io_uring::opcode::Write::CODE),
            ("write_fixed", io_uring::opcode::WriteFixed::CODE),
            ("writev", io_uring::opcode::Writev::CODE),
            ("fsync", io_uring::opcode::Fsync::CODE),
        ];
        if let Some((name, _)) = needed.iter().find(|(_, code)| !operations.is_supported(*code)) {
            return Err(format!("the kernel's io_uring has no operation {name} (it came with 5.6)"));
        }
    }
    let buffer = AlignedBuffer::new(PROBE_BUFFER_BYTES).map_err(|error| format!("no memory: {error}"))?;
    let refused = register_buffers(&ring, &mut [buffer]).map(|error| {
        let limit = getrlimit(Resource::Memlock).current;
        let limit = limit.map_or_else(|| "unlimited".to_owned(), |bytes| format!("{bytes} bytes"));
        format!("registering {PROBE_BUFFER_BYTES} bytes failed: {error} (RLIMIT_MEMLOCK is {limit})")
    });
    Ok((flags, refused))
}

/// Why io_uring_setup was refused, and what to do about it.
fn setup_refusal(error: &io::Error) -> String {
    let why = match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::NOSYS) => {
            "the kernel was built without it, or a seccomp profile hides it (Docker's default does)"
                .to_owned()
        }
        Some(Errno::PERM) => match fs::read_to_string("/proc/sys/kernel/io_uring_disabled") {
            Ok(value) if value.trim() != "0" => {
                format!("sysctl kernel.io_uring_disabled is {}; 0 allows it", value.trim())
            }
            _ => "a seccomp profile or security module forbids it".to_owned(),
        },
        Some(Errno::NOMEM) => "RLIMIT_MEMLOCK is too small for the ring; raise it".to_owned(),
        Some(Errno::MFILE | Errno::NFILE) => "there are no file descriptors left".to_owned(),
        _ => return format!("io_uring_setup failed: {error}"),
    };
    format!("io_uring_setup was refused ({error}): {why}")
}

/// One durable write by the ring, in the directory that matters.
fn try_write(dir: &Path, direct: bool) -> Result<(), String> {
    let explain = |error: io::Error| format!("a durable write by io_uring failed: {error}");
    let disk = HostDisk::new(dir, direct);
    let file = disk.create(PROBE_NAME, 2 * BLOCK_BYTES as u64, &[]).map_err(explain)?;
    let tried = || -> io::Result<()> {
        let waker = Arc::new(Waker::new()?);
        let barrier = if direct { Barrier::InWrite } else { Barrier::Linked };
        let mut lane = UringLane::new(waker, &mut [], barrier, None)?;
        let buffer = AlignedBuffer::new(BLOCK_BYTES)?;
        let load = Load { buffer, pieces: Vec::new(), bytes: BLOCK_BYTES };
        lane.submit(Write { token: 0, file, offset: 0, load, sync: true });
        let mut done = Vec::new();
        while done.is_empty() {
            lane.collect(true, &mut done);
        }
        done.into_iter().try_for_each(|done| done.result)
    };
    let result = tried().map_err(explain);
    // If it cannot be removed now, the next opening of the spool removes it.
    let _ = disk.remove(PROBE_NAME);
    result
}
