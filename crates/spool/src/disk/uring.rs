//! Batches written through io_uring, and the aligned memory they are written from.
//! The only place with `unsafe`: mapping memory, registering it, and handing its address to the kernel. The lane owns
//! every buffer while the kernel may read it; it is used by the one thread that made it. What a kernel refuses is
//! answered by doing without: registered buffers and files, then newer ring flags; only the ring itself is essential.
#![expect(unsafe_code, reason = "the ring reads memory by address; each block says why that memory stays")]

use std::io;
use std::ops::{Deref, DerefMut};
use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr::{self, NonNull};
use std::sync::Arc;

use io_uring::{IoUring, opcode, squeue, types};
use rustix::io::ReadWriteFlags;
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};

use super::{Done, Lane, WRITE_ATTEMPTS_MAX, Waker, Write, is_transient};
use crate::format::{BLOCK_BYTES, in_memory};

/// Entries of the submission queue: every batch in flight, the bell, and room to spare.
const RING_ENTRIES: u32 = 64;
/// Flag of io_uring_enter: post completions that are due.
const ENTER_GET_EVENTS: u32 = 1;
/// Files registered with the ring: the active segment, its successor, and some that finish.
const FIXED_FILES: usize = 8;
/// Most bytes in one write: a multiple of a block below 2 GiB.
const WRITE_BYTES_MAX: u32 = 1 << 30;
const HUGE_PAGE_BYTES: usize = 2 << 20;
/// Marks the completion of the bell's read; batches use the number of their slot.
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
}

struct Flight {
    write: Write,
    descriptor: Arc<OwnedFd>,
    fixed_file: Option<u32>,
    written: usize,
    attempts: u32,
}

/// Which files the ring knows by number. Holding the descriptor keeps its identity from being used again.
struct FixedFiles {
    files: [Option<Arc<OwnedFd>>; FIXED_FILES],
    uses: [usize; FIXED_FILES],
    next: usize,
}

impl UringLane {
    /// Sets up the ring and registers what may be registered. `buffers` learn their numbers.
    pub(crate) fn new(waker: Arc<Waker>, buffers: &mut [AlignedBuffer]) -> io::Result<Self> {
        let (ring, _) = build_ring()?;
        register_buffers(&ring, buffers);
        let fixed = ring.submitter().register_files(&[-1; FIXED_FILES]).is_ok().then(FixedFiles::new);
        let slots = (0..RING_ENTRIES / 2).map(|_| None).collect();
        let bell_word = AlignedBuffer::new(8)?;
        Ok(Self { ring, slots, in_flight: 0, fixed, bell_word, bell_armed: false, waker })
    }

    fn start(&mut self, slot: usize) {
        let Some(flight) = &self.slots[slot] else { return };
        let entry = flight.entry(slot as u64);
        self.push(&entry);
    }

    fn push(&mut self, entry: &squeue::Entry) {
        loop {
            // SAFETY: what the entry points to lives in `self.slots` or `self.bell_word`, which outlive the ring and
            // are only touched again after the kernel has answered for the entry.
            if unsafe { self.ring.submission().push(entry) }.is_ok() {
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
            self.push(&entry);
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

    fn landed(&mut self, slot: usize, result: i32, done: &mut Vec<Done>) {
        let Some(flight) = self.slots.get_mut(slot).and_then(Option::as_mut) else { return };
        match flight.advance(result) {
            None => self.start(slot),
            Some(result) => self.release(slot, result, done),
        }
    }

    fn release(&mut self, slot: usize, result: io::Result<()>, done: &mut Vec<Done>) {
        let Some(flight) = self.slots[slot].take() else { return };
        self.in_flight -= 1;
        if let (Some(fixed), Some(number)) = (&mut self.fixed, flight.fixed_file) {
            fixed.uses[number as usize] -= 1;
        }
        done.push(Done { token: flight.write.token, buffer: flight.write.buffer, result });
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
        self.slots[slot] = Some(Flight { write, descriptor, fixed_file, written: 0, attempts: 0 });
        self.in_flight += 1;
        self.start(slot);
        if let Err(error) = self.ring.submit() {
            // The entry stays in the queue and goes out with the next call, which also reports a lasting error.
            debug_assert!(is_busy(&error), "submitting: {error}");
        }
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
    fn entry(&self, user_data: u64) -> squeue::Entry {
        let bytes = &self.write.buffer[self.written..self.write.bytes];
        // What is longer than the kernel writes at once is a short write, continued like any other.
        let (start, length) = (bytes.as_ptr(), u32::try_from(bytes.len()).unwrap_or(WRITE_BYTES_MAX));
        let offset = self.write.offset + self.written as u64;
        let flags = if self.write.sync { ReadWriteFlags::DSYNC.bits() as i32 } else { 0 };
        let plain = types::Fd(self.descriptor.as_raw_fd());
        let fixed = self.fixed_file.map(types::Fixed);
        let entry = match (fixed, self.write.buffer.registered) {
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
        };
        entry.user_data(user_data)
    }

    /// Takes the kernel's answer; `None` means that the rest has to be written.
    fn advance(&mut self, result: i32) -> Option<io::Result<()>> {
        let Ok(count) = usize::try_from(result) else {
            let error = io::Error::from_raw_os_error(-result);
            self.attempts += 1;
            return if is_transient(&error) && self.attempts < WRITE_ATTEMPTS_MAX {
                None
            } else {
                Some(Err(error))
            };
        };
        if self.written + count >= self.write.bytes {
            return Some(Ok(()));
        }
        // A direct write must start at a block; what a short one left in a block is written again.
        let resume = self.written + count - (self.written + count) % BLOCK_BYTES;
        self.attempts = if resume > self.written { 0 } else { self.attempts + 1 };
        self.written = resume;
        (self.attempts >= WRITE_ATTEMPTS_MAX)
            .then(|| Err(io::Error::new(io::ErrorKind::WriteZero, "the write makes no progress")))
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

/// The newest set of flags that the kernel takes, with the names of those it took.
pub(crate) fn build_ring() -> io::Result<(IoUring, &'static str)> {
    let mut newest = IoUring::builder();
    newest.setup_single_issuer().setup_defer_taskrun().setup_submit_all();
    if let Some(ring) = unless_invalid(newest.build(RING_ENTRIES))? {
        return Ok((ring, "SINGLE_ISSUER|DEFER_TASKRUN|SUBMIT_ALL (6.1)"));
    }
    let mut newer = IoUring::builder();
    newer.setup_coop_taskrun().setup_submit_all();
    if let Some(ring) = unless_invalid(newer.build(RING_ENTRIES))? {
        return Ok((ring, "COOP_TASKRUN|SUBMIT_ALL (5.19)"));
    }
    Ok((IoUring::builder().build(RING_ENTRIES)?, "none (5.10)"))
}

fn unless_invalid(built: io::Result<IoUring>) -> io::Result<Option<IoUring>> {
    match built {
        Ok(ring) => Ok(Some(ring)),
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(None),
        Err(error) => Err(error),
    }
}

/// Tells the ring about the batch buffers, so that their pages are not looked up with every write. Registered memory
/// counts against RLIMIT_MEMLOCK; where that is too small the buffers are used as they are.
pub(crate) fn register_buffers(ring: &IoUring, buffers: &mut [AlignedBuffer]) -> Option<io::Error> {
    let slices: Vec<io::IoSlice<'_>> = buffers.iter().map(|buffer| io::IoSlice::new(buffer)).collect();
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
