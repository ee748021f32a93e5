//! Batches written through io_uring, and the aligned memory they are written from.
//! The only place with `unsafe`: mapping memory, registering it, and handing its address to the kernel. The lane owns
//! every buffer while the kernel may read it; it is used by the one thread that made it. What a kernel refuses is
//! answered by doing without: registered buffers and files, then newer ring flags; only the ring itself is essential.
#![expect(unsafe_code, reason = "the ring reads memory by address; each block says why that memory stays")]

use std::io::{self, IoSlice};
use std::ops::{Deref, DerefMut};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::ptr::{self, NonNull};
use std::sync::Arc;

use io_uring::{IoUring, opcode, squeue, types};
use rustix::io::ReadWriteFlags;
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};

use super::ladder::build_ring;
use super::{Done, GATHER_BYTES_MIN, Lane, Next, Progress, Waker, Write, is_transient};
use crate::format::{BLOCK_BYTES, in_memory};

/// Entries of the submission queue: every batch in flight, the bell, and room to spare.
pub(crate) const RING_ENTRIES: u32 = 64;
/// Flag of io_uring_enter: post completions that are due.
const ENTER_GET_EVENTS: u32 = 1;
/// Files registered with the ring: the active segment, its successor, and some that finish.
const FIXED_FILES: usize = 8;
/// Place of the lock behind them.
const LOCK_SLOT: u32 = 8;
const _: () = assert!(LOCK_SLOT as usize == FIXED_FILES);
/// Most bytes in one write: a multiple of a block below 2 GiB.
const WRITE_BYTES_MAX: u32 = 1 << 30;
const HUGE_PAGE_BYTES: usize = 2 << 20;
/// Marks the completion of the bell's read. A write is marked with twice the number of its slot, the sync linked to it
/// with one more.
const BELL: u64 = u64::MAX;

/// Zeroed memory aligned for direct writes, on huge pages where it is large enough for them.
pub(crate) struct AlignedBuffer {
    start: NonNull<u8>,
    bytes: usize,
    map_start: NonNull<u8>,
    map_bytes: usize,
    /// Its number with the ring that it is registered with.
    registered: Option<u16>,
}

// SAFETY: the buffer is the only owner of its mapping, like a Vec<u8> is of its allocation.
unsafe impl Send for AlignedBuffer {}

impl AlignedBuffer {
    pub(crate) fn new(bytes: usize) -> io::Result<Self> {
        let bytes = bytes.next_multiple_of(BLOCK_BYTES).max(BLOCK_BYTES);
        let huge = bytes >= HUGE_PAGE_BYTES;
        let alignment = if huge { HUGE_PAGE_BYTES } else { BLOCK_BYTES };
        // Mapped memory is aligned to pages; room for one more alignment lets the buffer begin at a huge page.
        let map_bytes = if huge { bytes + HUGE_PAGE_BYTES } else { bytes };
        // SAFETY: a new private anonymous mapping at an address of the kernel's choice touches no existing memory.
        let mapped = unsafe {
            mmap_anonymous(ptr::null_mut(), map_bytes, ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE)?
        };
        let map_start = NonNull::new(mapped.cast::<u8>()).ok_or(io::ErrorKind::OutOfMemory)?;
        let skipped = map_start.as_ptr().align_offset(alignment);
        // SAFETY: `skipped` is below one alignment, and the mapping is that much longer than the buffer.
        let start = unsafe { map_start.add(skipped) };
        if huge {
            // SAFETY: the range lies within the mapping made above; the advice changes no contents. Refusal costs
            // only speed, so the result is not looked at.
            let _ = unsafe { madvise(start.as_ptr().cast(), bytes, Advice::LinuxHugepage) };
        }
        Ok(Self { start, bytes, map_start, map_bytes, registered: None })
    }
}

impl Deref for AlignedBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: `start` and `bytes` describe memory mapped until drop, zeroed by the kernel, owned by `self`.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.bytes) }
    }
}

impl DerefMut for AlignedBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and the exclusive borrow of `self` makes the slice exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.bytes) }
    }
}

impl Drop for AlignedBuffer {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `new`, and nothing borrows from it once its owner is dropped. A ring that has
        // it registered holds its own reference to the pages.
        let _ = unsafe { munmap(self.map_start.as_ptr().cast(), self.map_bytes) };
    }
}

// SAFETY: the address is that of the mapping, which stays where it is while the value moves, until the value is dropped; all
// of it is initialized, by the kernel when it was mapped.
#[cfg(feature = "tokio-uring")]
unsafe impl tokio_uring::buf::IoBuf for AlignedBuffer {
    fn stable_ptr(&self) -> *const u8 {
        self.start.as_ptr()
    }

    fn bytes_init(&self) -> usize {
        self.bytes
    }

    fn bytes_total(&self) -> usize {
        self.bytes
    }
}

/// A ring with its bell, ready for batches.
pub(crate) struct UringLane {
    /// Fields drop in order: the ring is gone before the memory that it may read from or write to.
    ring: IoUring,
    slots: Vec<Option<Flight>>,
    in_flight: usize,
    fixed: Option<FixedFiles>,
    bell_word: AlignedBuffer,
    bell_armed: bool,
    waker: Arc<Waker>,
    /// How a write becomes durable.
    barrier: Barrier,
}

/// What makes a write durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Barrier {
    /// The write itself, by RWF_DSYNC.
    InWrite,
    /// An fdatasync linked behind it: cheaper through the page cache, where RWF_DSYNC syncs page by page.
    Linked,
}

struct Flight {
    /// Memory that the entries in the ring point to; it goes before what it describes.
    slices: Vec<IoSlice<'static>>,
    write: Write,
    descriptor: Arc<OwnedFd>,
    fixed_file: Option<u32>,
    progress: Progress,
}

/// Which files the ring knows by number. Holding the descriptor keeps its identity from being used again.
struct FixedFiles {
    files: [Option<Arc<OwnedFd>>; FIXED_FILES],
    uses: [usize; FIXED_FILES],
    next: usize,
}

impl UringLane {
    /// Sets up the ring and registers what may be registered. `buffers` learn their numbers. `lock` is kept as long as the
    /// kernel has anything to do for the ring.
    pub(crate) fn new(
        waker: Arc<Waker>,
        buffers: &mut [AlignedBuffer],
        barrier: Barrier,
        lock: Option<BorrowedFd<'_>>,
    ) -> io::Result<Self> {
        let (ring, _) = build_ring(RING_ENTRIES)?;
        Self::over(ring, waker, buffers, barrier, lock)
    }

    pub(crate) fn over(
        ring: IoUring,
        waker: Arc<Waker>,
        buffers: &mut [AlignedBuffer],
        barrier: Barrier,
        lock: Option<BorrowedFd<'_>>,
    ) -> io::Result<Self> {
        register_buffers(&ring, buffers);
        let fixed = ring.submitter().register_files(&[-1; FIXED_FILES + 1]).is_ok().then(FixedFiles::new);
        if let (Some(_), Some(lock)) = (&fixed, lock) {
            // The kernel takes a ring apart only after its last write has landed, and lets go of its files then. So the next
            // process cannot have the spool while a write of this one is still on its way, however this one ends.
            ring.submitter().register_files_update(LOCK_SLOT, &[lock.as_raw_fd()])?;
        }
        let slots = (0..RING_ENTRIES / 2).map(|_| None).collect();
        let bell_word = AlignedBuffer::new(8)?;
        Ok(Self { ring, slots, in_flight: 0, fixed, bell_word, bell_armed: false, waker, barrier })
    }

    fn start(&mut self, slot: usize) {
        let Some(flight) = &mut self.slots[slot] else { return };
        let (write, sync) = flight.entries(slot as u64);
        match (write, sync) {
            // A link holds only within one submission, so the two go into the queue together.
            (Some(write), Some(sync)) => self.push(&[write.flags(squeue::Flags::IO_LINK), sync]),
            (Some(only), None) | (None, Some(only)) => self.push(&[only]),
            (None, None) => {}
        }
    }

    fn push(&mut self, entries: &[squeue::Entry]) {
        loop {
            // SAFETY: what the entries point to lives in `self.slots` or `self.bell_word`, which outlive the ring and
            // are only touched again after the kernel has answered for the entry.
            if unsafe { self.ring.submission().push_multiple(entries) }.is_ok() {
                return;
            }
            // The queue has room for every slot and the bell, so it is full only while the kernel defers taking it.
            if let Err(error) = self.ring.submit() {
                debug_assert!(is_busy(&error), "submitting: {error}");
            }
        }
    }

    /// With deferred task work completions are posted only inside io_uring_enter, so looking for them enters as well.
    fn poll(&mut self) -> io::Result<usize> {
        self.ring.submit()?;
        // SAFETY: nothing is submitted and no argument is passed; the kernel touches only the rings it shares with us.
        unsafe { self.ring.submitter().enter::<()>(0, 0, ENTER_GET_EVENTS, None) }
    }

    fn arm_bell(&mut self) {
        if !self.bell_armed {
            let word = self.bell_word.as_mut_ptr();
            let entry = opcode::Read::new(types::Fd(self.waker.raw()), word, 8).build().user_data(BELL);
            self.push(&[entry]);
            self.bell_armed = true;
        }
    }

    fn reap(&mut self, done: &mut Vec<Done>) -> usize {
        let mut seen = 0;
        while let Some((user_data, result)) = self.next_completion() {
            seen += 1;
            if user_data == BELL {
                self.bell_armed = false;
            } else {
                self.landed(in_memory(user_data), result, done);
            }
        }
        seen
    }

    fn next_completion(&mut self) -> Option<(u64, i32)> {
        self.ring.completion().next().map(|entry| (entry.user_data(), entry.result()))
    }

    fn landed(&mut self, mark: usize, result: i32, done: &mut Vec<Done>) {
        let (slot, is_sync) = (mark / 2, mark % 2 == 1);
        let Some(flight) = self.slots.get_mut(slot).and_then(Option::as_mut) else { return };
        let answer = usize::try_from(result).map_err(|_| io::Error::from_raw_os_error(-result));
        let next = match is_sync {
            true => flight.progress.synced(answer.map(|_| ())),
            false => flight.progress.wrote(answer),
        };
        match next {
            Next::Wait => {}
            Next::Again => self.start(slot),
            Next::Over(result) => self.release(slot, result, done),
        }
    }

    fn release(&mut self, slot: usize, result: io::Result<()>, done: &mut Vec<Done>) {
        let Some(flight) = self.slots[slot].take() else { return };
        self.in_flight -= 1;
        if let (Some(fixed), Some(number)) = (&mut self.fixed, flight.fixed_file) {
            fixed.uses[number as usize] -= 1;
        }
        let Flight { slices, write, .. } = flight;
        drop(slices);
        done.push(Done { token: write.token, load: write.load, result });
    }

    /// The ring itself is broken: nothing will come back. The kernel only ever reads from a buffer and holds the pages
    /// that it reads, so handing the buffer back endangers no memory; the file it was meant for is given up.
    fn abandon(&mut self, error: &io::Error, done: &mut Vec<Done>) {
        for slot in 0..self.slots.len() {
            if self.slots[slot].is_some() {
                let error = io::Error::new(error.kind(), format!("io_uring_enter: {error}"));
                self.release(slot, Err(error), done);
            }
        }
    }

    /// `None`: the write goes by its plain descriptor.
    fn fixed_file(&mut self, descriptor: &Arc<OwnedFd>) -> Option<u32> {
        self.fixed.as_mut()?.place(&self.ring, descriptor)
    }
}

impl Lane for UringLane {
    fn submit(&mut self, write: Write) {
        let Some(descriptor) = write.file.descriptor() else {
            debug_assert!(false, "a file without a descriptor cannot be written by a ring");
            return;
        };
        let slot = self.slots.iter().position(Option::is_none);
        let slot = slot.unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        let fixed_file = self.fixed_file(&descriptor);
        self.slots[slot] = Some(Flight::new(write, descriptor, fixed_file, self.barrier));
        self.in_flight += 1;
        self.start(slot);
        if let Err(error) = self.ring.submit() {
            // The entry stays in the queue and goes out with the next call, which also reports a lasting error.
            debug_assert!(is_busy(&error), "submitting: {error}");
        }
    }

    /// Direct writes need aligned memory, which a caller's body is not.
    fn gather_bytes_min(&self) -> Option<usize> {
        (self.barrier == Barrier::Linked).then_some(GATHER_BYTES_MIN)
    }

    fn collect(&mut self, block: bool, done: &mut Vec<Done>) {
        loop {
            self.arm_bell();
            let entered = if block { self.ring.submit_and_wait(1) } else { self.poll() };
            match entered {
                Ok(_) => {}
                Err(error) if is_busy(&error) => {}
                Err(error) => return self.abandon(&error, done),
            }
            let seen = self.reap(done);
            if !block || seen > 0 {
                return;
            }
        }
    }
}

impl Drop for UringLane {
    fn drop(&mut self) {
        // The kernel may read the buffers until it has answered, so they are not unmapped before.
        let mut done = Vec::new();
        while self.in_flight > 0 {
            self.collect(true, &mut done);
        }
        if self.bell_armed {
            self.waker.ring();
            while self.bell_armed && self.ring.submit_and_wait(1).is_ok() {
                self.reap(&mut done);
            }
        }
    }
}

impl Flight {
    fn new(write: Write, descriptor: Arc<OwnedFd>, fixed_file: Option<u32>, barrier: Barrier) -> Self {
        // A direct write goes on only at a block; one through the page cache may do so anywhere.
        let align_bytes = if write.load.pieces.is_empty() { BLOCK_BYTES } else { 1 };
        let linked = write.sync && barrier == Barrier::Linked;
        let progress = Progress::new(write.load.bytes, align_bytes, linked);
        Self { slices: Vec::new(), write, descriptor, fixed_file, progress }
    }

    /// What is left to be written, and the sync behind it where that is an operation of its own.
    fn entries(&mut self, slot: u64) -> (Option<squeue::Entry>, Option<squeue::Entry>) {
        let linked = self.progress.is_linked();
        let write = (!self.progress.is_written()).then(|| self.write_entry(linked).user_data(slot * 2));
        let flags = types::FsyncFlags::DATASYNC;
        let sync = linked.then(|| match self.fixed_file.map(types::Fixed) {
            Some(file) => opcode::Fsync::new(file).flags(flags).build().user_data(slot * 2 + 1),
            None => opcode::Fsync::new(self.plain()).flags(flags).build().user_data(slot * 2 + 1),
        });
        (write, sync)
    }

    fn plain(&self) -> types::Fd {
        types::Fd(self.descriptor.as_raw_fd())
    }

    fn write_entry(&mut self, linked: bool) -> squeue::Entry {
        let flags = if self.write.sync && !linked { ReadWriteFlags::DSYNC.bits() as i32 } else { 0 };
        let offset = self.write.offset + self.progress.written() as u64;
        if !self.write.load.pieces.is_empty() {
            return self.vectored_entry(offset, flags);
        }
        let bytes = &self.write.load.buffer[self.progress.written()..self.write.load.bytes];
        // What is longer than the kernel writes at once is a short write, continued like any other.
        let (start, length) = (bytes.as_ptr(), u32::try_from(bytes.len()).unwrap_or(WRITE_BYTES_MAX));
        let (fixed, plain) = (self.fixed_file.map(types::Fixed), self.plain());
        match (fixed, self.write.load.buffer.registered) {
            (Some(file), Some(number)) => {
                opcode::WriteFixed::new(file, start, length, number).offset(offset).rw_flags(flags).build()
            }
            (None, Some(number)) => {
                opcode::WriteFixed::new(plain, start, length, number).offset(offset).rw_flags(flags).build()
            }
            (Some(file), None) => {
                opcode::Write::new(file, start, length).offset(offset).rw_flags(flags).build()
            }
            (None, None) => opcode::Write::new(plain, start, length).offset(offset).rw_flags(flags).build(),
        }
    }

    fn vectored_entry(&mut self, offset: u64, flags: i32) -> squeue::Entry {
        let lasting = |slice: &[u8]| {
            // SAFETY: the memory belongs to the load of the same flight: a mapped buffer, and bodies whose bytes stay where
            // they are as long as somebody holds them. The flight keeps both until the kernel has answered.
            IoSlice::new(unsafe { std::slice::from_raw_parts(slice.as_ptr(), slice.len()) })
        };
        self.slices.clear();
        self.slices.extend(self.write.load.slices(self.progress.written()).map(lasting));
        // IoSlice has the layout of iovec.
        let (start, count) = (self.slices.as_ptr().cast(), u32::try_from(self.slices.len()).unwrap_or(0));
        match self.fixed_file.map(types::Fixed) {
            Some(file) => opcode::Writev::new(file, start, count).offset(offset).rw_flags(flags).build(),
            None => opcode::Writev::new(self.plain(), start, count).offset(offset).rw_flags(flags).build(),
        }
    }
}

impl FixedFiles {
    fn new() -> Self {
        Self { files: Default::default(), uses: [0; FIXED_FILES], next: 0 }
    }

    /// Number of the file, which is registered in the place of one that no write uses.
    fn place(&mut self, ring: &IoUring, descriptor: &Arc<OwnedFd>) -> Option<u32> {
        let known =
            self.files.iter().position(|file| file.as_ref().is_some_and(|f| Arc::ptr_eq(f, descriptor)));
        if let Some(number) = known {
            self.uses[number] += 1;
            return u32::try_from(number).ok();
        }
        let number =
            (0..FIXED_FILES).map(|step| (self.next + step) % FIXED_FILES).find(|n| self.uses[*n] == 0)?;
        let at = u32::try_from(number).ok()?;
        ring.submitter().register_files_update(at, &[descriptor.as_raw_fd()]).ok()?;
        self.next = (number + 1) % FIXED_FILES;
        self.files[number] = Some(Arc::clone(descriptor));
        self.uses[number] = 1;
        Some(at)
    }
}

/// Tells the ring about the batch buffers, so that their pages are not looked up with every write. Registered memory
/// counts against RLIMIT_MEMLOCK; where that is too small the buffers are used as they are.
pub(crate) fn register_buffers(ring: &IoUring, buffers: &mut [AlignedBuffer]) -> Option<io::Error> {
    let slices: Vec<IoSlice<'_>> = buffers.iter().map(|buffer| IoSlice::new(buffer)).collect();
    // SAFETY: IoSlice has the layout of iovec. The memory is mapped now, which is when the kernel takes its reference
    // to the pages; unmapping later leaves the ring with pages of its own and a buffer number nobody uses.
    let result = unsafe {
        ring.submitter().register_buffers(std::slice::from_raw_parts(slices.as_ptr().cast(), slices.len()))
    };
    match result {
        Ok(()) => {
            for (number, buffer) in (0..).zip(buffers) {
                buffer.registered = Some(number);
            }
            None
        }
        Err(error) => Some(error),
    }
}

fn is_busy(error: &io::Error) -> bool {
    is_transient(error) || error.kind() == io::ErrorKind::ResourceBusy
}
